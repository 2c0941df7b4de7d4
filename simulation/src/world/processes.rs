//! What happens to processes: requests, kills, starts, stops and continues.

use tickr::allocator::{Allocator, Ask, Options, RequestId};
use tickr::moment::Moment;

use super::{Party, World};
use crate::checker::{Lawful, Witness};
use crate::history::Cause;

pub(super) struct Process {
    pub(super) allocator: Allocator,
    pub(super) witness: Witness,
    pub(super) options: Options,
    pub(super) wake: Option<Moment>,
    pub(super) next_connection: u64,
    /// Wake-ups in a row that changed nothing.
    pub(super) idle_wakes: u32,
}

impl World<'_> {
    pub(super) fn ask_for_some(&mut self) -> Lawful {
        let Some(process) = self.pick_process(Party::runs) else {
            return Ok(());
        };
        let times = self.stage.tape.pick(&[1, 1, 2, 5, 20]);
        for _ in 0..times {
            let ask = match self.stage.tape.byte() % 16 {
                15 => Ask::Status,
                14 => Ask::Tickets(90),
                13 => Ask::Tickets(300),
                12 => Ask::Tickets(17),
                small => Ask::Tickets(1 + u64::from(small) / 4),
            };
            self.submit(process, ask);
        }
        self.turn(process, Cause::Stimulus)
    }

    pub(super) fn submit(&mut self, process: usize, ask: Ask) -> RequestId {
        let now = self.stage.now;
        let own = &mut self.processes[process];
        own.next_connection += 1;
        self.backend.parties[process].is_asked();
        let id = RequestId {
            connection: own.next_connection / 2,
            sequence: own.next_connection,
        };
        own.witness.on_submit(id, ask, now + own.options.timeout);
        own.allocator.submit(id, ask, now);
        self.stage
            .note(|| format!("process {process}: {id:?} {ask:?}"));
        id
    }

    pub(super) fn disconnect(&mut self) -> Lawful {
        let Some(process) = self.pick_process(Party::runs) else {
            return Ok(());
        };
        self.stage.count("client: disconnected");
        let own = &mut self.processes[process];
        let connection = own.next_connection / 2;
        // No request comes over it any more.
        own.next_connection += 2;
        own.witness.on_cancel(connection);
        own.allocator.cancel(connection, self.stage.now);
        self.stage
            .note(|| format!("process {process}: connection {connection} is gone"));
        self.turn(process, Cause::Stimulus)
    }

    pub(super) fn poke(&mut self) -> Lawful {
        let Some(process) = self.pick_process(Party::runs) else {
            return Ok(());
        };
        self.stage.count("process: woken early");
        self.turn(process, Cause::Poke)
    }

    fn pick_process(&mut self, fits: impl Fn(&Party) -> bool) -> Option<usize> {
        self.backend
            .pick_process(&mut self.stage, |_, party| fits(party))
    }
}

impl Process {
    pub(super) fn new(options: Options, now: Moment) -> Process {
        Process {
            allocator: Allocator::new(options.clone(), now),
            witness: Witness::new(options.numbering, options.remembered),
            wake: None,
            next_connection: 0,
            idle_wakes: 0,
            options,
        }
    }
}
