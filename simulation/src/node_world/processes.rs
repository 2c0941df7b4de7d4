//! What happens to processes: starts, stops, kills and failing accepts.

use std::time::Duration;

use tickr::allocator::{self, Allocator};
use tickr::api::routes::Rules;
use tickr::counter::Outcome;
use tickr::moment::Moment;
use tickr::node::{ListenerOptions, Node, Options};

use super::World;
use crate::backend::{Answer, Party};
use crate::checker::Lawful;
use crate::clients::{Kind, Manner};
use crate::history::Cause;
use crate::sockets::Desk;

pub(super) struct Process {
    pub(super) node: Option<Node>,
    pub(super) desk: Desk,
    pub(super) settings: Settings,
    pub(super) wake: Option<Moment>,
    /// Until when a stop may take.
    pub(super) drains_until: Option<Moment>,
    /// Nothing keeps it from answering everybody before that.
    pub(super) must_end_well: bool,
    pub(super) outcomes: Vec<Outcome>,
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
        let timeout = allocator.timeout;
        let numbering = allocator.numbering;
        let allocator = Allocator::new(allocator, now);
        Process {
            node: Some(Node::new(allocator, numbering, options, now)),
            desk: Desk::new(connections_max, timeout, idle_timeout, &outlives),
            settings,
            wake: None,
            drains_until: None,
            must_end_well: false,
            outcomes: Vec::new(),
            second: now,
            vain: 0,
            clients: Vec::new(),
        }
    }
}

impl World<'_> {
    pub(super) fn pick_process(
        &mut self,
        fits: impl Fn(&Process, &Party) -> bool,
    ) -> Option<usize> {
        let processes = &self.processes;
        self.backend
            .pick_process(&mut self.stage, |at, party| fits(&processes[at], party))
    }

    pub(super) fn poke(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|_, party| party.alive) else {
            return Ok(());
        };
        self.stage.count("process: woken early");
        self.settle(process, Cause::Poke)
    }

    pub(super) fn break_accept(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|process, _| process.desk.listening) else {
            return Ok(());
        };
        let errors = self
            .stage
            .tape
            .pick(&[&[24][..], &[24, 24, 24], &[4], &[103, 4]]);
        self.processes[process].desk.accept_errors.extend(errors);
        self.stage
            .note(|| format!("accept fails with {errors:?} at process {process}"));
        self.come()
    }

    pub(super) fn drain(&mut self) -> Lawful {
        let Some(process) = self.pick_process(|_, party| party.runs()) else {
            return Ok(());
        };
        if self.processes[process].desk.listening && self.stage.tape.chance(128) {
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
        self.stage.count("process: told to stop");
        self.stage
            .note(|| format!("process {process} is told to stop"));
        let own = &mut self.processes[process];
        if let Some(node) = &mut own.node
            && !own.desk.draining
        {
            node.drain(self.stage.now);
            own.drains_until = node.drains_until();
            self.net.on_drain(&mut own.desk);
        }
        self.settle(process, Cause::Stimulus)
    }

    pub(super) fn learn(&mut self, answer: Answer) {
        let process = answer.process;
        self.backend.heard(&answer, self.stage.now);
        let outcome = answer.outcome;
        self.stage
            .note(|| format!("process {process} learns {outcome:?}"));
        self.processes[process].outcomes.push(outcome);
    }
}
