//! What happens to the servers: fail-overs, restores, rejoins, outages, and old programs.

use std::time::Duration;

use tickr::fault::FaultKind;
use tickr::moment::Moment;

use super::{Due, World};
use crate::assumptions::{self, Stale};
use crate::checker::Lawful;
use crate::database::{Commit, Server};

impl World<'_> {
    pub(super) fn fail_over(&mut self) -> Lawful {
        let to = (self.primary + 1 + self.tape.below(self.servers.len() - 1)) % self.servers.len();
        let lag = self.tape.pick(&[0usize, 0, 1, 3, 8, 30]);
        let choice = self.tape.byte();
        self.promote(to, lag, choice);
        Ok(())
    }

    /// The replica takes over with a prefix of the log, or an old primary with what it had.
    pub(super) fn promote(&mut self, to: usize, lag: usize, choice: u8) {
        let from = self.primary;
        let clean = self.clean();
        let before = self.servers[from].clone();
        let is_old = !self.servers[to].read_only || self.servers[to].fenced;
        self.record.counts.count(match is_old {
            true => "database: fail-back",
            false => "database: fail-over",
        });
        if !is_old {
            let length = before.log.len().saturating_sub(lag).max(1);
            if length < before.log.len() {
                self.record.counts.count("database: fail-over with loss");
            }
            self.overwrite(to, before.log[..length].to_vec());
        }
        let new = &mut self.servers[to];
        (new.read_only, new.fenced, new.up) = (false, false, true);
        self.primary = to;
        match choice % 5 {
            0 | 1 => self.fence(from),
            2 | 3 => {
                self.record
                    .counts
                    .count("database: demoted with its sessions");
                self.servers[from].read_only = true;
            }
            _ => self.record.counts.count("database: split brain"),
        }
        let late = [0, 0, 0, 250, 1_100, 4_000, 12_000][usize::from(choice / 5) % 7];
        match late {
            0 => self.point_the_name(),
            _ => {
                self.record.counts.count("database: the name follows late");
                let at = self.now + Duration::from_millis(late);
                self.plan(at, Due::Name(to));
            }
        }
        self.note_stale(to, &before, clean);
        self.begin_anew();
        for process in &mut self.processes {
            process.clean = process.clean.map(|_| self.now);
        }
        let row = self.servers[to].row;
        self.note(|| format!("fail-over from {from} to {to}, choice {choice}: {row:?}"));
    }

    /// The name of the database leads to the primary.
    pub(super) fn point_the_name(&mut self) {
        if self.name != self.primary {
            self.name = self.primary;
            self.note(|| "the name leads to the primary".to_string());
            for process in 0..self.processes.len() {
                self.doubt(process);
            }
        }
    }

    pub(super) fn restore(&mut self) -> Lawful {
        let primary = self.primary;
        let clean = self.clean();
        let before = self.servers[primary].clone();
        let back = self.tape.pick(&[1usize, 2, 5, 20, 60, 250]);
        let length = before.log.len().saturating_sub(back).max(1);
        self.record.counts.count("database: restored");
        let sessions = self.sessions.clone();
        self.overwrite(primary, before.log[..length].to_vec());
        if self.tape.chance(128) {
            // The row alone, by hand.
            self.sessions = sessions;
        }
        self.note_stale(primary, &before, clean);
        self.begin_anew();
        for process in &mut self.processes {
            process.clean = process.clean.map(|_| self.now);
        }
        let row = self.servers[primary].row;
        self.note(|| format!("server {primary} is restored: {row:?}"));
        if self.tape.chance(128) {
            // Blocks are asked for before anybody has looked.
            for _ in 0..self.processes.len() {
                self.requests()?;
            }
            self.pass(Duration::from_millis(1))?;
        }
        Ok(())
    }

    /// An old primary becomes a replica of the new one: its row is overwritten.
    pub(super) fn rejoin(&mut self) -> Lawful {
        let primary = self.primary;
        let server = self.tape.below(self.servers.len());
        if server == primary {
            return Ok(());
        }
        self.record.counts.count("database: rejoined");
        let own = &self.servers[server];
        if !own.read_only && !own.fenced {
            // What it committed as an old primary is in no row from here on.
            self.forgotten_high = self.forgotten_high.max(own.row.id);
        }
        let log = self.servers[primary].log.clone();
        let lag = self.tape.pick(&[0usize, 1, 5]);
        let length = log.len().saturating_sub(lag).max(1);
        let sessions = self.sessions.clone();
        self.overwrite(server, log[..length].to_vec());
        if self.tape.chance(128) {
            // It was neither stopped nor copied.
            self.sessions = sessions;
        }
        self.servers[server].read_only = true;
        self.servers[server].fenced = false;
        self.note(|| format!("server {server} rejoins"));
        Ok(())
    }

    pub(super) fn overwrite(&mut self, server: usize, log: Vec<Commit>) {
        let own = &mut self.servers[server];
        own.row = log.last().expect("a log is never empty").row;
        own.log = log;
        // It takes the server down: what it was doing is lost.
        for session in &mut self.sessions {
            session.dead |= session.server == server;
        }
    }

    /// *An `advance` that a fail-over or a restore has overtaken is begun anew*: it has waited for
    /// the leases of another row.
    pub(super) fn begin_anew(&mut self) {
        if !self.operators.is_empty() {
            self.operators.clear();
            self.record
                .counts
                .count("assumption: an advance begins anew after a fail-over");
        }
    }

    pub(super) fn note_stale(
        &mut self,
        server: usize,
        before: &Server,
        clean: [Option<Moment>; 4],
    ) {
        let own = &self.servers[server];
        self.stale[server] = Stale {
            stands: assumptions::is_stale(own, self.reserved_high, self.newest),
            know: assumptions::who_knows(before, &own.row, clean, self.now),
        };
    }

    pub(super) fn fence(&mut self, server: usize) {
        self.servers[server].fenced = true;
        for session in &mut self.sessions {
            session.dead |= session.server == server;
        }
    }

    pub(super) fn outage(&mut self) -> Lawful {
        let primary = self.primary;
        self.record.counts.count("database: outage");
        let server = &mut self.servers[primary];
        server.up = !server.up;
        for session in &mut self.sessions {
            session.dead |= session.server == primary && self.tape.chance(128);
        }
        self.note(|| format!("server {primary} goes down, or comes up"));
        Ok(())
    }

    pub(super) fn misfit(&mut self) -> Lawful {
        self.record.counts.count("database: misfit");
        let kind = self.tape.pick(&[
            FaultKind::NoTable,
            FaultKind::SettingsDiffer,
            FaultKind::NoCounterRow,
        ]);
        let server = &mut self.servers[self.primary];
        server.misfit = match server.misfit {
            None => Some(kind),
            Some(_) => None,
        };
        self.note(|| "what is stored is spoilt, or mended".to_string());
        Ok(())
    }

    pub(super) fn toggle_read_only(&mut self) -> Lawful {
        self.record.counts.count("database: read-only");
        if self.tape.chance(96) {
            // What was committed before is answered after, perhaps when it is writable again.
            self.slow = true;
            self.requests()?;
            self.pass(Duration::from_millis(1))?;
            self.slow = false;
        }
        let server = &mut self.servers[self.primary];
        server.read_only = !server.read_only;
        self.note(|| "the primary is made read-only, or writable".to_string());
        if self.tape.chance(128) {
            let time = self.tape.millis(&[10, 250, 600, 1_100]);
            self.pass(time)?;
            let server = &mut self.servers[self.primary];
            server.read_only = !server.read_only;
            self.note(|| "and back".to_string());
        }
        Ok(())
    }

    /// `REPLACE INTO tickets (stub) VALUES ('a')`.
    pub(super) fn old_program(&mut self) -> Lawful {
        if !self.tape.chance(96) {
            return Ok(());
        }
        self.record.counts.count("database: old program");
        let counts_up = !self.tape.chance(64);
        let now = self.now;
        let server = &mut self.servers[self.primary];
        // In the original's table `id` counts up; else it is 0 where that is no error.
        let id = match counts_up {
            true => server.row.id + 1,
            false => 0,
        };
        server.replace(id, now);
        self.note(|| "an old program replaces the row".to_string());
        Ok(())
    }
}
