//! What clients do: they come, send, read and leave.

use std::time::Duration;

use tickr::http::array::Format;

use super::processes::Process;
use super::{CLIENTS_MAX, SINGLE, World};
use crate::backend::Party;
use crate::backend::play::Play;
use crate::checker::Lawful;
use crate::clients::{Kind, Request};
use crate::history::{Cause, Due};

/// So often a request is sent at once, rarely more often than a pipeline may be long.
const TIMES: [usize; 20] = [
    1, 1, 1, 2, 3, 8, 1, 2, 20, 1, 1, 1, 2, 3, 8, 1, 2, 1, 3, 140,
];

impl World<'_> {
    /// A client of a process that can still send and be sent to.
    pub(super) fn pick_client(&mut self, process: usize) -> Option<usize> {
        let sockets = &self.net.sockets;
        let clients = &mut self.processes[process].clients;
        clients.retain(|at| !sockets[*at].closed);
        match clients.len() {
            0 => None,
            count => Some(clients[self.stage.tape.below(count.min(256))]),
        }
    }

    pub(super) fn come(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process, _| process.desk.listening) else {
            return Ok(());
        };
        let room = self
            .stage
            .tape
            .pick(&[None, None, None, Some(200), Some(3_000), Some(70_000)]);
        let listener = self.stage.tape.below(4) / 3;
        if self.processes[process].clients.len() > CLIENTS_MAX {
            return Ok(());
        }
        let at = self.connect(process, listener, room, false);
        self.send_to(at)?;
        self.pass(Duration::ZERO)
    }

    pub(super) fn connect(
        &mut self,
        process: usize,
        listener: usize,
        room: Option<usize>,
        steady: bool,
    ) -> usize {
        let at = self.net.connect(process, room, steady, self.stage.now);
        let own = &mut self.processes[process];
        let listener = listener.min(own.desk.backlogs.len() - 1);
        own.clients.push(at);
        own.desk.backlogs[listener].push_back(at);
        own.desk.listeners_changed[listener] = true;
        self.stage
            .note(|| format!("client {at} comes to process {process}, room {room:?}"));
        // Who connects is there before what it sends.
        self.stage.plan(self.stage.now, Due::Arrive(at, Vec::new()));
        at
    }

    /// A client that is to be accepted, and has sent all of this.
    pub(super) fn wait_at_the_door(&mut self, process: usize, lines: &[(&str, Kind)]) -> usize {
        self.come_with(process, lines, true)
    }

    pub(super) fn come_with(
        &mut self,
        process: usize,
        lines: &[(&str, Kind)],
        steady: bool,
    ) -> usize {
        let at = self.connect(process, 0, None, steady);
        let mut bytes = Vec::new();
        for (line, kind) in lines {
            let request = Request::plain(line, *kind, &self.manner);
            bytes.extend_from_slice(&request.bytes);
            self.net.expect(at, request);
        }
        let desk = &mut self.processes[process].desk;
        self.net.arrive(at, &bytes, desk);
        at
    }

    pub(super) fn single(&mut self, process: usize) -> Lawful {
        let at = self.connect(process, 0, None, true);
        let request = Request::single(&self.manner);
        let bytes = request.bytes.clone();
        self.net.expect(at, request);
        self.deliver_later(at, bytes, Duration::ZERO);
        self.pass(Duration::ZERO)
    }

    pub(super) fn send(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|_, party| party.alive) else {
            return Ok(());
        };
        if let Some(at) = self.pick_client(process) {
            self.send_to(at)?;
        }
        self.pass(Duration::ZERO)
    }

    /// Some requests in one piece or several, now or later.
    pub(super) fn send_to(&mut self, at: usize) -> Lawful {
        let socket = &self.net.sockets[at];
        if socket.fin_sent || socket.waits_for_continue || !socket.withheld.is_empty() {
            return Ok(());
        }
        let times = self.stage.tape.pick(&TIMES);
        let mut bytes = Vec::new();
        let same = (times > 8).then(|| Request::choose(&mut self.stage.tape, &self.manner));
        if let Some(request) = &same {
            self.stage
                .note(|| format!("client {at} sends {times} times {:?}", request.kind));
        }
        for _ in 0..times {
            let request = match &same {
                Some(request) => request.clone(),
                None => Request::choose(&mut self.stage.tape, &self.manner),
            };
            let big = match request.kind {
                Kind::Tickets { count, format } => {
                    count > 500 && matches!(format, Format::Array | Format::String)
                }
                _ => false,
            };
            let fragile = request.expects || (big && times > 8);
            if fragile && times > 8 {
                break;
            }
            bytes.extend_from_slice(&request.bytes[..request.head]);
            let body = request.bytes[request.head..].to_vec();
            if same.is_none() {
                self.stage
                    .note(|| format!("client {at} sends {:?}", request.kind));
            }
            self.net.expect(at, request);
            if fragile && self.stage.tape.chance(160) {
                self.net.sockets[at].withheld = body;
                self.net.sockets[at].waits_for_continue = true;
                break;
            }
            bytes.extend_from_slice(&body);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let delays = [0, 1, 5, 600, 9_000, 11_000];
        match self.stage.tape.byte() % 8 {
            0..5 => self.deliver_later(at, bytes, Duration::ZERO),
            5 => {
                let cut = usize::from(self.stage.tape.byte()) * bytes.len() / 256;
                let behind = bytes.split_off(cut);
                let delay = self.stage.tape.millis(&delays);
                self.deliver_later(at, bytes, Duration::ZERO);
                self.deliver_later(at, behind, delay);
            }
            6 => {
                let delay = self.stage.tape.millis(&delays);
                self.deliver_later(at, bytes, delay);
            }
            _ if !self.net.sockets[at].waits_for_continue => {
                self.stage.count("client: half a request");
                let cut = usize::from(self.stage.tape.byte()) * bytes.len() / 256;
                self.net.sockets[at].withheld = bytes.split_off(cut);
                self.deliver_later(at, bytes, Duration::ZERO);
            }
            _ => self.deliver_later(at, bytes, Duration::ZERO),
        }
        Ok(())
    }

    pub(super) fn deliver_later(&mut self, at: usize, bytes: Vec<u8>, delay: Duration) {
        let socket = &mut self.net.sockets[at];
        socket.last_arrival = socket.last_arrival.max(self.stage.now + delay);
        let when = socket.last_arrival;
        self.stage.plan(when, Due::Arrive(at, bytes));
    }

    /// Sends what was held back, unless that waits for a `100 Continue`.
    pub(super) fn resume_sending(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|_, party| party.alive) else {
            return Ok(());
        };
        let clients = self.processes[process].clients.clone();
        for at in clients {
            self.send_the_rest(at);
        }
        self.pass(Duration::ZERO)
    }

    pub(super) fn send_the_rest(&mut self, at: usize) {
        let socket = &mut self.net.sockets[at];
        let waits = std::mem::take(&mut socket.waits_for_continue);
        let bytes = std::mem::take(&mut socket.withheld);
        if socket.fin_sent || (bytes.is_empty() && !waits) {
            return;
        }
        self.stage.note(|| format!("client {at} sends the rest"));
        self.deliver_later(at, bytes, Duration::ZERO);
    }

    /// A slow reader reads.
    pub(super) fn read(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|_, party| party.alive) else {
            return Ok(());
        };
        let Some(at) = self.pick_client(process) else {
            return Ok(());
        };
        let room = self
            .stage
            .tape
            .pick(&[Some(1_000), None, Some(1), Some(50_000)]);
        if self.net.sockets[at].room.is_some() {
            self.stage.count("client: slow reader");
            self.stage
                .note(|| format!("client {at} reads, room {room:?}"));
            self.net
                .make_room(at, room, &mut self.processes[process].desk);
        }
        self.settle(process, Cause::Stimulus)
    }

    pub(super) fn leave(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|_, party| party.alive) else {
            return Ok(());
        };
        let Some(at) = self.pick_client(process) else {
            return Ok(());
        };
        let choice = self.stage.tape.below(4);
        let desk = &mut self.processes[process].desk;
        let socket = &mut self.net.sockets[at];
        if socket.fin_sent {
            return Ok(());
        }
        let name = match choice {
            0 => "client: half-closed",
            1 => "client: gone",
            2 => "client: reset",
            _ => "client: hung up",
        };
        (socket.fin_sent, socket.gone) = (true, choice == 1);
        self.stage.count(name);
        match choice {
            0 | 1 => {
                let when = socket.last_arrival.max(self.stage.now);
                self.stage.plan(when, Due::Fin(at));
            }
            choice => self.net.break_off(at, choice == 2, desk),
        }
        self.stage.note(|| format!("{name} {at}"));
        self.pass(Duration::ZERO)?;
        self.settle(process, Cause::Stimulus)
    }

    /// Some clients of one process want tickets, and nothing keeps them from it.
    pub(super) fn ask_for_some(&mut self) -> Lawful {
        let fits = |process: &Process, party: &Party| process.desk.listening && party.runs();
        let Some(process) = self.pick_process(fits) else {
            return Ok(());
        };
        let times = self.stage.tape.pick(&[1, 1, 2, 5]);
        self.come_with(process, &[SINGLE; 5][..times], false);
        self.settle(process, Cause::Stimulus)
    }

    /// More clients than may be.
    pub(super) fn crowd(&mut self) -> Lawful {
        let few = |process: &Process, _: &Party| {
            process.desk.listening && process.settings.connections_max < 10
        };
        let Some(process) = self.pick_process(few) else {
            return Ok(());
        };
        self.stage.count("client: crowd");
        for _ in 0..self.processes[process].settings.connections_max + 1 {
            let at = self.connect(process, 0, None, false);
            if self.stage.tape.chance(128) {
                self.send_to(at)?;
            }
        }
        self.pass(Duration::ZERO)
    }
}
