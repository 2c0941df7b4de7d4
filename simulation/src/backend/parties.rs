//! What happens to processes, as far as the servers and the operator have to do with it.

use std::time::Duration;

use tickr::counter::Memory;
use tickr::moment::Moment;

use super::{Answer, Backend, Party};
use crate::history::Stage;

impl Party {
    pub fn new(pool_size: usize, timeout: Duration, now: Moment) -> Party {
        Party {
            incarnation: 0,
            alive: true,
            stopped: false,
            cut: false,
            workers: vec![None; pool_size],
            doing: vec![None; pool_size],
            timeout,
            clean: Some(now),
            troubled: Vec::new(),
            inbox: Vec::new(),
            file: Vec::new(),
            issued_high: 0,
            second: now,
            second_jobs: 0,
        }
    }

    pub fn runs(&self) -> bool {
        self.alive && !self.stopped
    }

    /// It has work of its own: what it asks the database for is no idle loop.
    pub fn is_asked(&mut self) {
        self.second_jobs = 0;
    }

    /// The state file is written once a second, and may be older than what was issued.
    pub fn remember(&mut self, memory: Memory) {
        if self.file.last() != Some(&memory) {
            self.file.push(memory);
        }
    }

    pub fn remembered(&self) -> Memory {
        self.file.last().copied().unwrap_or_default()
    }
}

impl Backend {
    pub fn kill(&mut self, process: usize) {
        let own = &mut self.parties[process];
        (own.alive, own.stopped, own.clean) = (false, false, None);
        own.inbox.clear();
        for session in own.workers.drain(..).flatten() {
            // What it was doing is done all the same, by chance: the server may notice late.
            self.sessions[session].dead |= own.incarnation.is_multiple_of(2);
        }
    }

    /// What a process that starts finds in its state file.
    pub fn choose_memory(&self, stage: &mut Stage<'_>, process: usize) -> Memory {
        let choice = stage.tape.below(3);
        let back = 1 + stage.tape.below(4);
        let own = &self.parties[process];
        let (name, memory) = match choice {
            0 => ("process: restarted with memory", own.file.last()),
            1 => (
                "process: restarted with stale memory",
                own.file.iter().rev().nth(back),
            ),
            _ => ("process: restarted without memory", None),
        };
        let memory = memory.copied().unwrap_or_default();
        stage.count(name);
        stage.note(|| format!("process {process} restarts, remembering {memory:?}"));
        memory
    }

    /// The next incarnation of a dead process begins, which remembers so much.
    pub fn restart(&mut self, process: usize, memory: Memory, now: Moment) {
        let before = &mut self.parties[process];
        let high = before.issued_high;
        let covers = memory.id >= high;
        let mut next = Party::new(before.doing.len(), before.timeout, now);
        next.incarnation = before.incarnation + 1;
        next.file = std::mem::take(&mut before.file);
        match covers {
            // It can raise the mark as its predecessor could.
            true => next.issued_high = high,
            false => self.forgotten_high = self.forgotten_high.max(high),
        }
        *before = next;
        for (server, stale) in self.servers.iter().zip(&mut self.stale) {
            stale.know[process] = stale.know[process] && covers && server.row.is_behind(&memory);
        }
    }

    pub fn stop(&mut self, stage: &mut Stage<'_>, process: usize) {
        let own = &mut self.parties[process];
        (own.stopped, own.clean) = (true, None);
        stage.count("process: stopped");
        stage.note(|| format!("process {process} is stopped"));
    }

    /// It goes on; returns what has come meanwhile.
    pub fn resume(&mut self, stage: &mut Stage<'_>, process: usize) -> Vec<Answer> {
        let own = &mut self.parties[process];
        (own.stopped, own.clean) = (false, None);
        stage.count("process: continued");
        stage.note(|| format!("process {process} is continued"));
        std::mem::take(&mut own.inbox)
    }

    pub fn cut(&mut self, stage: &mut Stage<'_>, process: usize) {
        stage.count("process: cut off");
        let own = &mut self.parties[process];
        own.cut = !own.cut;
        own.clean = None;
        stage.note(|| format!("process {process} is cut off, or no longer"));
    }

    pub fn pick_process(
        &self,
        stage: &mut Stage<'_>,
        fits: impl Fn(usize, &Party) -> bool,
    ) -> Option<usize> {
        let count = self.parties.len();
        let from = stage.tape.below(count);
        (from..from + count)
            .map(|process| process % count)
            .find(|process| fits(*process, &self.parties[*process]))
    }
}
