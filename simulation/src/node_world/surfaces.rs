//! What a node says of itself, asked on all its surfaces at one instant.

use super::processes::Process;
use super::{SINGLE, World};
use crate::backend::Party;
use crate::checker::{Lawful, Violation, broken};
use crate::clients::Kind;
use crate::history::Cause;

impl World<'_> {
    pub(super) fn probe_one(&mut self) -> Lawful {
        let fits = |process: &Process, party: &Party| process.desk.listening && party.runs();
        let Some(process) = self.pick_process(fits) else {
            return Ok(());
        };
        match self.stage.tape.chance(128) {
            true => self.ask_steadily(process, &[("GET /status", Kind::Status)]),
            false => self.probe(process).map(|_| ()),
        }
    }

    pub(super) fn ask_steadily(&mut self, process: usize, lines: &[(&str, Kind)]) -> Lawful {
        let at = self.wait_at_the_door(process, lines);
        self.net.sockets[at].fin_sent = true;
        let desk = &mut self.processes[process].desk;
        self.net.finish_input(at, desk);
        self.settle(process, Cause::Stimulus)
    }

    /// Asks for everything that shows the verdict, at one instant; returns whether it was said,
    /// and that it is ready.
    pub(super) fn probe(
        &mut self,
        process: usize,
    ) -> Result<Option<(bool, String, bool)>, Violation> {
        self.processes[process].desk.probed.clear();
        self.ask_steadily(
            process,
            &[
                ("GET /readyz", Kind::Ready),
                ("GET /metrics", Kind::Metrics),
                SINGLE,
            ],
        )?;
        let said = std::mem::take(&mut self.processes[process].desk.probed);
        let find = |kind| {
            said.iter()
                .find(|(of, _)| *of == kind)
                .map(|(_, answer)| answer)
        };
        let (Some(ready), Some(metrics)) = (find(Kind::Ready), find(Kind::Metrics)) else {
            return Ok(None);
        };
        if metrics.status != 200 {
            // One connection too many.
            return Ok(None);
        }
        self.stage.count("verdict: compared");
        let is_ready = ready.status == 200;
        let names = ["tickr_ready", "tickr_closed", "tickr_database_up"];
        let [shown, closed, up] = metrics.gauges(names);
        let closed = closed == Some("1");
        if shown != Some(if is_ready { "1" } else { "0" }) || (is_ready && closed) {
            let text = format!(
                "/readyz {}, /metrics ready {shown:?} closed {closed}",
                ready.status
            );
            return broken("the verdict is one", text).map(|()| None);
        }
        if is_ready && up == Some("0") {
            self.stage.count("verdict: ready without a database");
        }
        if let Some(create) = find(SINGLE.1)
            && (create.status == 200) != is_ready
        {
            let text = format!("/readyz {}, create {}", ready.status, create.status);
            return broken("the verdict is one", text).map(|()| None);
        }
        let detail = ready.field("Not ready: ", &['"']).unwrap_or_default();
        // But for the first letter, which begins a sentence.
        let told = detail.get(1..).unwrap_or_default();
        if let Some(create) = find(SINGLE.1)
            && !std::str::from_utf8(&create.body).is_ok_and(|body| body.contains(told))
        {
            let text = format!("/readyz {detail:?}, and a request is told something else");
            return broken("the verdict is one", text).map(|()| None);
        }
        Ok(Some((is_ready, detail.to_owned(), closed)))
    }

    /// When `/status` has just been answered, the others are asked at the same instant.
    pub(super) fn compare(&mut self, process: usize) -> Lawful {
        let own = &mut self.processes[process];
        let Some((turn, state, detail)) = own.desk.said.take() else {
            return Ok(());
        };
        if turn != own.desk.turns || !own.desk.listening {
            return Ok(());
        }
        let gave = own.desk.gave == Some(turn);
        let Some((is_ready, said, closed)) = self.probe(process)? else {
            return Ok(());
        };
        let fits = is_ready == matches!(state.as_str(), "serving" | "degraded")
            && closed == (state == "closed")
            && (is_ready || Some(said.trim_end_matches('.')) == detail.as_deref());
        // The last ticket of all may have been given after the state was told.
        let is_spent = gave && state == "serving" && said.contains("no tickets left");
        match fits || is_spent {
            true => Ok(()),
            false => broken(
                "the verdict is one",
                format!("/status {state} {detail:?}, ready {is_ready} {said:?}, closed {closed}"),
            ),
        }
    }
}
