//! What a client gets, and the laws about it.

use tickr::limits;
use tickr::moment::Moment;

use super::desk::Desk;
use super::socket::{Pending, Socket};
use super::{Net, Reaction};
use crate::answers::{Answer, tickets};
use crate::checker::{Lawful, Violation, broken};
use crate::clients::Kind;
use crate::history::Stage;

impl Net {
    /// The socket took these bytes.
    pub(super) fn deliver(
        &mut self,
        at: usize,
        bytes: &[u8],
        desk: &mut Desk,
        stage: &mut Stage<'_>,
    ) -> Lawful {
        stage.record.mix(at as u64 + ((bytes.len() as u64) << 32));
        let (eights, rest) = bytes.as_chunks();
        for eight in eights {
            stage.record.mix(u64::from_be_bytes(*eight));
        }
        if !rest.is_empty() {
            let rest = rest.iter();
            stage
                .record
                .mix(rest.fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        }
        self.sockets[at].reader.push(bytes);
        loop {
            let socket = &mut self.sockets[at];
            if socket.ended {
                return match socket.reader.is_between() {
                    true => Ok(()),
                    false => broken("nothing follows the last answer", format!("client {at}")),
                };
            }
            let front = socket.pending.front();
            let head_only = front.is_some_and(|front| {
                // Before so much was read, nobody can know.
                front.request.head_only && socket.was_read >= front.start + 5
            });
            match socket.reader.next(head_only) {
                Err(said) => return broken("answers are HTTP", said),
                Ok(None) => return Ok(()),
                Ok(Some(answer)) => self.on_answer(at, answer, desk, stage)?,
            }
        }
    }

    fn on_answer(
        &mut self,
        at: usize,
        answer: Answer,
        desk: &mut Desk,
        stage: &mut Stage<'_>,
    ) -> Lawful {
        let now = stage.now;
        let socket = &mut self.sockets[at];
        if answer.status == 100 {
            return self.on_continue(at, stage);
        }
        let status = answer.status;
        let Some(pending) = socket.pending.pop_front() else {
            let detail = format!("client {at} gets {status} to nothing");
            return broken("one final answer", detail);
        };
        let kind = pending.request.kind;
        let told = || format!("client {at} gets {status} for {kind:?}");
        if let Some(trace) = &mut stage.record.trace {
            trace.push(format!("            {}", told()));
        }
        if !says_its_status(&answer, pending.request.head_only) {
            return broken("a problem says its status", told());
        }
        // Whoever waits behind a full pipeline is looked at now at the earliest.
        let mut places = 0;
        for next in &mut socket.pending {
            places += 1 + usize::from(next.request.expects && !next.continued);
            if places >= limits::PIPELINED_REQUESTS_MAX {
                next.read = next.read.map(|_| now);
            }
        }
        socket.answered_at = now;
        socket.active_at = now;
        socket.ended = answer.closes;
        let is_spare = socket.spare;
        if pending.begun.is_none() {
            return broken("no answer before its request", told());
        }
        if !fits(socket, &pending, &answer, now) {
            return broken("the answer to its request", told());
        }
        if let (Kind::Tickets { count, format }, 200) = (kind, status) {
            let increment = self.numbering.max_nodes();
            match tickets(&answer.body, format, increment) {
                Ok((first, distance, length)) if (distance, length) == (increment, count) => {
                    self.on_tickets(at, first, count, pending.floor, desk)?;
                }
                Ok(run) => return broken("a batch is one run", format!("{run:?} for {count}")),
                Err(said) => return broken("a batch is one run", said),
            }
        }
        let socket = &self.sockets[at];
        ends_rightly(socket, &pending, &answer, desk.draining, told)?;
        if answer.closes {
            self.reactions.push(Reaction::Ended(at));
        }
        if socket.gone || socket.fin {
            stage.count(match socket.gone {
                true => "client: gone before the answer",
                false => "client: half closed before the answer",
            });
        }
        stage.count(name_of(kind, status, is_spare));
        let is_stopping = self.on_verdict(at, &pending, &answer, desk, stage)?;
        if pending.late && !is_stopping {
            return broken("the verdict is one", format!("{} while it stops", told()));
        }
        if self.sockets[at].steady {
            desk.probed.push((kind, answer));
        }
        Ok(())
    }

    /// A `100 Continue` comes once, to whoever asked for it.
    fn on_continue(&mut self, at: usize, stage: &mut Stage<'_>) -> Lawful {
        let socket = &mut self.sockets[at];
        stage.count("http: 100");
        socket.has_continued = true;
        if socket.waits_for_continue {
            self.reactions.push(Reaction::SendBody(at));
        }
        let front = socket.pending.front_mut();
        let fits = front.is_some_and(|front| {
            let is_first = !std::mem::replace(&mut front.continued, true);
            is_first && front.request.expects && front.begun.is_some()
        });
        match fits {
            true => Ok(()),
            false => broken("one final answer", format!("client {at} gets a stray 100")),
        }
    }

    /// What the answer says of the node; whether it allows for one that stops.
    fn on_verdict(
        &mut self,
        at: usize,
        pending: &Pending,
        answer: &Answer,
        desk: &mut Desk,
        stage: &mut Stage<'_>,
    ) -> Result<bool, Violation> {
        match (pending.request.kind, answer.status) {
            (Kind::Ready, 200) => Ok(false),
            (Kind::Metrics, 200) => Ok(answer.gauges(["tickr_ready"]) == [Some("0")]),
            (Kind::Status, 200) if !pending.request.head_only => {
                let text = |name| answer.field(name, &['"']).map(str::to_owned);
                let state = text("\"state\":\"").unwrap_or_default();
                stage.count(match state.as_str() {
                    "serving" => "status: serving",
                    "degraded" => "status: degraded",
                    "starting" => "status: starting",
                    "unavailable" => "status: unavailable",
                    "closed" => "status: closed",
                    "misfit" => "status: misfit",
                    "exhausted" => "status: exhausted",
                    "draining" => "status: draining",
                    _ => {
                        let detail = format!("/status says {state}");
                        return broken("the verdict is one", detail).map(|()| false);
                    }
                });
                let is_stopping = state == "draining";
                if self.sockets[at].steady {
                    desk.said = Some((desk.turns, state, text("\"detail\":\"")));
                } else if stage.calm {
                    desk.told = Some((state, text("\"detail\":\"")));
                }
                Ok(is_stopping)
            }
            _ => Ok(true),
        }
    }

    fn on_tickets(
        &mut self,
        at: usize,
        first: u64,
        count: u64,
        floor: u64,
        desk: &mut Desk,
    ) -> Lawful {
        let nodes = self.numbering.max_nodes();
        let offset = self.numbering.starting_offset() + self.numbering.node_number();
        let distance = first
            .checked_sub(offset)
            .filter(|distance| distance % nodes == 0);
        let Some(distance) = distance else {
            return broken("tickets of this node", format!("client {at} gets {first}"));
        };
        let first = distance / nodes + 2;
        let last = first + (count - 1);
        self.issued.add(first, last)?;
        if first <= floor {
            return broken(
                "tickets increase",
                format!("client {at}: {first} after {floor}"),
            );
        }
        let mut from = first;
        while from <= last {
            // What a fail-over has lost may lie across what was committed later.
            let mut blocks = desk.committed.range(..=from).rev();
            let Some((_, to)) = blocks.find(|(_, to)| **to >= from) else {
                return broken("committed before issued", format!("client {at}: {from}"));
            };
            from = to + 1;
        }
        desk.high = desk.high.max(last);
        desk.gave = Some(desk.turns);
        // What follows in a pipeline comes later, whenever that was read.
        for pending in &mut self.sockets[at].pending {
            pending.floor = pending.floor.max(last);
        }
        Ok(())
    }
}

/// A problem is one in its type and its body, and 503 says when to come again.
fn says_its_status(answer: &Answer, head_only: bool) -> bool {
    let status = answer.status;
    let said = || answer.field("\"status\":", &[',', '}'])?.parse().ok();
    let has_body = answer.is_problem && status != 200 && !head_only;
    (status == 503) == answer.retry_after
        && (status != 200) == answer.is_problem
        && (!has_body || said() == Some(status))
}

/// Whether a request of this kind may get this answer now.
fn fits(socket: &Socket, pending: &Pending, answer: &Answer, now: Moment) -> bool {
    let is_spare = socket.spare;
    match (pending.request.kind, answer.status) {
        (Kind::Rejected(expected), status) if expected == status => answer.closes,
        (kind, status) if pending.read.is_none() => {
            let begun = pending.begun.unwrap_or_default();
            let waited = begun + limits::HEAD_TIMEOUT.min(limits::BODY_TIMEOUT) <= now;
            let head_end = pending.start + pending.request.head as u64;
            let is_early = pending.request.expects && !pending.continued;
            let is_early = is_early && socket.was_read >= head_end;
            let fits = match (status, kind) {
                (408, _) => waited,
                (400, _) if socket.fin_read => true,
                (status, Kind::Refused(expected)) if status == expected => is_early,
                (503, _) => is_early && is_spare,
                _ => false,
            };
            fits && answer.closes
        }
        (Kind::Refused(expected), status) => status == expected,
        (Kind::Live | Kind::Options, 200) => true,
        (Kind::Options | Kind::Metrics, 503) => is_spare,
        (Kind::Metrics, 200) => true,
        (Kind::Status | Kind::Ready | Kind::Tickets { .. }, 200 | 503) => true,
        _ => false,
    }
}

/// Whether a connection ends with this answer if it should, and only then.
fn ends_rightly(
    socket: &Socket,
    pending: &Pending,
    answer: &Answer,
    is_draining: bool,
    told: impl Fn() -> String,
) -> Lawful {
    let asked = pending.request.closes;
    // Whoever waits for a `100 Continue` may never send its body.
    let refused = pending.request.expects && !pending.continued;
    let is_rejected = matches!(pending.request.kind, Kind::Rejected(_));
    let early = is_rejected || pending.read.is_none() || refused;
    let may = socket.spare || early;
    match (answer.closes, asked) {
        (false, true) => return broken("close is answered with close", told()),
        (true, false) if !(is_draining || may) => return broken("a connection is kept", told()),
        _ => {}
    }
    // What had arrived before the node was asked to stop is not cut off.
    let owed = socket.owed.unwrap_or_default();
    let next = socket.pending.front().filter(|next| next.end <= owed);
    match next.filter(|_| answer.closes && !asked && !may) {
        None => Ok(()),
        Some(next) => broken(
            "a drain answers what it got",
            format!("{}, then {:?}", told(), next.request.kind),
        ),
    }
}

fn name_of(kind: Kind, status: u16, is_spare: bool) -> &'static str {
    match (kind, status) {
        (_, 503) if is_spare => "http: 503 one connection too many",
        (Kind::Tickets { count: 1, .. }, 200) => "http: 200 ticket",
        (Kind::Tickets { .. }, 200) => "http: 200 batch",
        (Kind::Tickets { .. }, 503) => "http: 503 no ticket",
        (Kind::Status, 200) => "http: 200 status",
        (Kind::Status, 503) => "http: 503 status",
        (Kind::Ready, 200) => "http: 200 ready",
        (Kind::Ready, 503) => "http: 503 not ready",
        (Kind::Metrics, _) => "http: 200 metrics",
        (Kind::Live, _) => "http: 200 live",
        (Kind::Options, _) => "http: 200 options",
        (_, 400) => "http: 400",
        (_, 401) => "http: 401",
        (_, 404) => "http: 404",
        (_, 405) => "http: 405",
        (_, 408) => "http: 408",
        (_, 413) => "http: 413",
        (_, 414) => "http: 414",
        (_, 417) => "http: 417",
        (_, 431) => "http: 431",
        (_, 501) => "http: 501",
        (_, 505) => "http: 505",
        _ => "http: another status",
    }
}
