//! What happens to processes: requests, kills, starts, stops and continues.

use tickr::allocator::{Allocator, Ask, Options, RequestId};
use tickr::counter::{JobId, Memory};
use tickr::moment::Moment;

use super::{Due, World};
use crate::checker::{Lawful, Witness};
use crate::history::Cause;

pub(super) struct Process {
    pub(super) allocator: Allocator,
    pub(super) witness: Witness,
    pub(super) options: Options,
    pub(super) incarnation: u64,
    pub(super) alive: bool,
    pub(super) stopped: bool,
    pub(super) cut: bool,
    pub(super) wake: Option<Moment>,
    /// The session of each thread that holds one.
    pub(super) workers: Vec<Option<usize>>,
    /// The newest job of each.
    pub(super) doing: Vec<Option<JobId>>,
    /// Since when it had nothing but prompt answers from the primary.
    pub(super) clean: Option<Moment>,
    /// What came while it was stopped.
    pub(super) inbox: Vec<Due>,
    /// What its state file has held, newest last.
    pub(super) file: Vec<Memory>,
    pub(super) next_connection: u64,
    /// Wake-ups in a row that changed nothing.
    pub(super) idle_wakes: u32,
    /// The second that began then, and the jobs in it, since the newest request.
    pub(super) second: Moment,
    pub(super) second_jobs: usize,
    /// Jobs that go wrong, and are not answered yet.
    pub(super) troubled: Vec<JobId>,
}

impl World<'_> {
    pub(super) fn requests(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.alive && !process.stopped) else {
            return Ok(());
        };
        let times = self.tape.pick(&[1, 1, 2, 5, 20]);
        for _ in 0..times {
            let ask = match self.tape.byte() % 16 {
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
        let now = self.now;
        let own = &mut self.processes[process];
        own.next_connection += 1;
        own.second_jobs = 0;
        let id = RequestId {
            connection: own.next_connection / 2,
            sequence: own.next_connection,
        };
        own.witness.on_submit(id, ask, now + own.options.timeout);
        own.allocator.submit(id, ask, now);
        self.note(|| format!("process {process}: {id:?} {ask:?}"));
        id
    }

    pub(super) fn disconnect(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.alive && !process.stopped) else {
            return Ok(());
        };
        self.record.counts.count("client: disconnected");
        let own = &mut self.processes[process];
        let connection = own.next_connection / 2;
        // No request comes over it any more.
        own.next_connection += 2;
        own.witness.on_cancel(connection);
        own.allocator.cancel(connection, self.now);
        self.note(|| format!("process {process}: connection {connection} is gone"));
        self.turn(process, Cause::Stimulus)
    }

    pub(super) fn poke(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.alive && !process.stopped) else {
            return Ok(());
        };
        self.record.counts.count("process: woken early");
        self.turn(process, Cause::Poke)
    }

    pub(super) fn kill(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.alive) else {
            return Ok(());
        };
        self.record.counts.count("process: killed");
        let own = &mut self.processes[process];
        (own.alive, own.stopped, own.clean, own.wake) = (false, false, None, None);
        own.inbox.clear();
        for session in own.workers.drain(..).flatten() {
            // What it was doing is done all the same, by chance: the server may notice late.
            self.sessions[session].dead |= own.incarnation.is_multiple_of(2);
        }
        self.note(|| format!("process {process} is killed"));
        Ok(())
    }

    pub(super) fn restart(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| !process.alive) else {
            return Ok(());
        };
        let choice = self.tape.below(3);
        let back = 1 + self.tape.below(4);
        let own = &self.processes[process];
        let (name, memory) = match choice {
            0 => ("process: restarted with memory", own.file.last()),
            1 => (
                "process: restarted with stale memory",
                own.file.iter().rev().nth(back),
            ),
            _ => ("process: restarted without memory", None),
        };
        let memory = memory.copied().unwrap_or_default();
        self.record.counts.count(name);
        self.note(|| format!("process {process} restarts, remembering {memory:?}"));
        self.start(process, memory)
    }

    pub(super) fn start(&mut self, process: usize, memory: Memory) -> Lawful {
        let before = &self.processes[process];
        let covers = memory.id >= before.witness.issued_high;
        let high = before.witness.issued_high;
        let (incarnation, file) = (before.incarnation + 1, before.file.clone());
        let mut options = before.options.clone();
        options.remembered = memory;
        let mut next = Process::new(options, self.now);
        next.incarnation = incarnation;
        next.file = file;
        match covers {
            // It can raise the mark as its predecessor could.
            true => next.witness.issued_high = high,
            false => self.forgotten_high = self.forgotten_high.max(high),
        }
        self.processes[process] = next;
        for (server, stale) in self.servers.iter().zip(&mut self.stale) {
            stale.know[process] = stale.know[process] && covers && server.row.is_behind(&memory);
        }
        self.turn(process, Cause::Stimulus)
    }

    pub(super) fn stop_or_continue(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.alive) else {
            return Ok(());
        };
        let own = &mut self.processes[process];
        own.stopped = !own.stopped;
        own.clean = None;
        if own.stopped {
            self.record.counts.count("process: stopped");
            self.note(|| format!("process {process} is stopped"));
            return Ok(());
        }
        self.resume(process)
    }

    pub(super) fn resume(&mut self, process: usize) -> Lawful {
        self.record.counts.count("process: continued");
        self.note(|| format!("process {process} is continued"));
        let own = &mut self.processes[process];
        own.stopped = false;
        own.witness.on_continue(self.now);
        let inbox = std::mem::take(&mut own.inbox);
        // The loop looks at the clock before it looks at what has come, or after.
        if self.tape.chance(128) {
            self.turn(process, Cause::Stimulus)?;
        }
        for due in inbox {
            self.perform(due)?;
        }
        self.turn(process, Cause::Stimulus)
    }

    pub(super) fn cut(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.alive) else {
            return Ok(());
        };
        self.record.counts.count("process: cut off");
        let own = &mut self.processes[process];
        own.cut = !own.cut;
        own.clean = None;
        self.note(|| format!("process {process} is cut off, or no longer"));
        Ok(())
    }

    pub(super) fn pick_process(&mut self, fits: impl Fn(&Process) -> bool) -> Option<usize> {
        let from = self.tape.below(self.processes.len());
        let count = self.processes.len();
        (from..from + count)
            .map(|process| process % count)
            .find(|process| fits(&self.processes[*process]))
    }
}

impl Process {
    pub(super) fn new(options: Options, now: Moment) -> Process {
        Process {
            allocator: Allocator::new(options.clone(), now),
            witness: Witness::new(options.numbering, options.remembered),
            incarnation: 0,
            alive: true,
            stopped: false,
            cut: false,
            wake: None,
            workers: vec![None; options.pool_size],
            doing: vec![None; options.pool_size],
            clean: Some(now),
            inbox: Vec::new(),
            file: Vec::new(),
            next_connection: 0,
            idle_wakes: 0,
            second: now,
            second_jobs: 0,
            troubled: Vec::new(),
            options,
        }
    }
}
