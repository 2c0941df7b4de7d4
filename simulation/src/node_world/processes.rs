//! What happens to processes: starts, stops, kills and failing accepts.

use std::time::Duration;

use tickr::allocator::{self, Allocator};
use tickr::api::routes::Rules;
use tickr::counter::{Memory, Outcome};
use tickr::moment::Moment;
use tickr::node::{ListenerOptions, Node, Options};

use super::World;
use crate::checker::Lawful;
use crate::clients::{Kind, Manner};
use crate::history::Cause;
use crate::sockets::Desk;

pub(super) struct Process {
    pub(super) node: Option<Node>,
    pub(super) desk: Desk,
    pub(super) settings: Settings,
    pub(super) incarnation: u64,
    pub(super) stopped: bool,
    pub(super) wake: Option<Moment>,
    /// Until when a stop may take.
    pub(super) drains_until: Option<Moment>,
    /// Nothing keeps it from answering everybody before that.
    pub(super) must_end_well: bool,
    /// The session of each thread that holds one.
    pub(super) workers: Vec<Option<usize>>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) memory: Memory,
    /// The second that began then, and the wake-ups in it that changed nothing.
    pub(super) second: Moment,
    pub(super) vain: u32,
    pub(super) clients: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) allocator: allocator::Options,
    pub(super) connections_max: usize,
    pub(super) idle_timeout: Duration,
    pub(super) shutdown_timeout: Duration,
    pub(super) outlives: Vec<bool>,
}

impl Process {
    pub(super) fn new(settings: Settings, manner: &Manner, now: Moment) -> Process {
        let Settings {
            allocator,
            connections_max,
            idle_timeout,
            shutdown_timeout,
            outlives,
        } = settings.clone();
        let listening = outlives.iter().map(|outlives| ListenerOptions {
            address: "here".to_string(),
            outlives: *outlives,
        });
        let options = Options {
            rules: Rules {
                max_batch: manner.max_batch,
                batch_format: manner.batch_format,
                password: manner.password.then(|| b"secret"[..].into()),
            },
            connections_max,
            idle_timeout,
            shutdown_timeout,
            listeners: listening.collect(),
        };
        let (timeout, pool_size) = (allocator.timeout, allocator.pool_size);
        let numbering = allocator.numbering;
        let allocator = Allocator::new(allocator, now);
        Process {
            node: Some(Node::new(allocator, numbering, options, now)),
            desk: Desk::new(connections_max, timeout, idle_timeout, &outlives),
            settings,
            incarnation: 0,
            stopped: false,
            wake: None,
            drains_until: None,
            must_end_well: false,
            workers: vec![None; pool_size],
            outcomes: Vec::new(),
            memory: Memory::default(),
            second: now,
            vain: 0,
            clients: Vec::new(),
        }
    }
}

impl World<'_> {
    pub(super) fn pick_process(&mut self, fits: impl Fn(&Process) -> bool) -> Option<usize> {
        let count = self.processes.len();
        let from = if count > 1 { self.tape.below(count) } else { 0 };
        let mut order = (from..from + count).map(|process| process % count);
        order.find(|process| fits(&self.processes[*process]))
    }

    pub(super) fn poke(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.node.is_some()) else {
            return Ok(());
        };
        self.net.record.counts.count("process: woken early");
        self.settle(process, Cause::Poke)
    }

    pub(super) fn break_accept(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.desk.listening) else {
            return Ok(());
        };
        let errors = self.tape.pick(&[&[24][..], &[24, 24, 24], &[4], &[103, 4]]);
        self.processes[process].desk.accept_errors.extend(errors);
        self.note(|| format!("accept fails with {errors:?} at process {process}"));
        self.come()
    }

    pub(super) fn drain(&mut self) -> Lawful {
        let fits = |process: &Process| process.node.is_some() && !process.stopped;
        let Some(process) = self.pick_process(fits) else {
            return Ok(());
        };
        if self.processes[process].desk.listening && self.tape.chance(128) {
            let surfaces = [
                ("GET /status", Kind::Status),
                ("GET /readyz", Kind::Ready),
                ("GET /metrics", Kind::Metrics),
            ];
            self.wait_at_the_door(process, &surfaces);
        }
        self.begin_drain(process)
    }

    pub(super) fn begin_drain(&mut self, process: usize) -> Lawful {
        self.net.record.counts.count("process: told to stop");
        self.note(|| format!("process {process} is told to stop"));
        let own = &mut self.processes[process];
        if let Some(node) = &mut own.node
            && !own.desk.draining
        {
            node.drain(self.net.now);
            own.drains_until = node.drains_until();
            self.net.on_drain(&mut own.desk);
        }
        self.settle(process, Cause::Stimulus)
    }

    pub(super) fn kill(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.node.is_some()) else {
            return Ok(());
        };
        self.net.record.counts.count("process: killed");
        self.note(|| format!("process {process} is killed"));
        self.end_process(process);
        Ok(())
    }

    pub(super) fn end_process(&mut self, process: usize) {
        let own = &mut self.processes[process];
        self.net.abandon(&mut own.desk);
        own.node = None;
        own.desk.listening = false;
        own.wake = None;
        for session in own.workers.iter_mut().filter_map(Option::take) {
            self.sessions[session] |= own.incarnation.is_multiple_of(2);
        }
    }

    pub(super) fn restart(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.node.is_none()) else {
            return Ok(());
        };
        self.net
            .record
            .counts
            .count("process: restarted with memory");
        self.start(process)
    }

    pub(super) fn start(&mut self, process: usize) -> Lawful {
        self.note(|| format!("process {process} starts"));
        let before = &self.processes[process];
        let mut settings = before.settings.clone();
        settings.allocator.remembered = before.memory;
        let mut next = Process::new(settings, &self.manner, self.net.now);
        next.incarnation = before.incarnation + 1;
        next.memory = before.memory;
        self.processes[process] = next;
        self.settle(process, Cause::Stimulus)
    }

    pub(super) fn stop_or_continue(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process| process.node.is_some()) else {
            return Ok(());
        };
        if self.processes[process].stopped {
            return self.resume(process);
        }
        self.net.record.counts.count("process: stopped");
        self.note(|| format!("process {process} is stopped"));
        self.processes[process].stopped = true;
        Ok(())
    }

    pub(super) fn resume(&mut self, process: usize) -> Lawful {
        self.net.record.counts.count("process: continued");
        self.note(|| format!("process {process} is continued"));
        let own = &mut self.processes[process];
        own.stopped = false;
        own.desk.late_until = self.net.now;
        self.settle(process, Cause::Stimulus)
    }
}
