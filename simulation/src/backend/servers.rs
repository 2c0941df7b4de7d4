//! What happens to the servers: fail-overs, restores, rejoins, outages, and old programs.

use std::time::Duration;

use tickr::fault::FaultKind;
use tickr::moment::Moment;

use super::Backend;
use crate::assumptions::{self, Stale};
use crate::database::{Commit, Server};
use crate::history::{Due, Stage};

impl Backend {
    pub fn fail_over(&mut self, stage: &mut Stage<'_>) {
        let to = (self.primary + 1 + stage.tape.below(self.servers.len() - 1)) % self.servers.len();
        let lag = stage.tape.pick(&[0usize, 0, 1, 3, 8, 30]);
        let choice = stage.tape.byte();
        self.promote(stage, to, lag, choice);
    }

    /// The replica takes over with a prefix of the log, or an old primary with what it had.
    fn promote(&mut self, stage: &mut Stage<'_>, to: usize, lag: usize, choice: u8) {
        let from = self.primary;
        let clean = self.clean();
        let before = self.servers[from].clone();
        let is_old = !self.servers[to].read_only || self.servers[to].fenced;
        stage.count(match is_old {
            true => "database: fail-back",
            false => "database: fail-over",
        });
        if !is_old {
            let length = before.log.len().saturating_sub(lag).max(1);
            if length < before.log.len() {
                stage.count("database: fail-over with loss");
            }
            self.overwrite(to, before.log[..length].to_vec());
        }
        let new = &mut self.servers[to];
        (new.read_only, new.fenced, new.up) = (false, false, true);
        self.primary = to;
        match choice % 5 {
            0 | 1 => self.fence(from),
            2 | 3 => {
                stage.count("database: demoted with its sessions");
                self.servers[from].read_only = true;
            }
            _ => stage.count("database: split brain"),
        }
        let late = [0, 0, 0, 250, 1_100, 4_000, 12_000][usize::from(choice / 5) % 7];
        match late {
            0 => self.point_the_name(stage),
            _ => {
                stage.count("database: the name follows late");
                let at = stage.now + Duration::from_millis(late);
                stage.plan(at, Due::Name(to));
            }
        }
        self.note_stale(stage.now, to, &before, clean);
        self.begin_anew(stage);
        for process in &mut self.parties {
            process.clean = process.clean.map(|_| stage.now);
        }
        let row = self.servers[to].row;
        stage.note(|| format!("fail-over from {from} to {to}, choice {choice}: {row:?}"));
    }

    /// The name of the database leads to the primary.
    pub(super) fn point_the_name(&mut self, stage: &mut Stage<'_>) {
        if self.name != self.primary {
            self.name = self.primary;
            stage.note(|| "the name leads to the primary".to_string());
            for process in 0..self.parties.len() {
                self.doubt(process, stage.now);
            }
        }
    }

    pub fn restore(&mut self, stage: &mut Stage<'_>) {
        let primary = self.primary;
        let clean = self.clean();
        let before = self.servers[primary].clone();
        let back = stage.tape.pick(&[1usize, 2, 5, 20, 60, 250]);
        let length = before.log.len().saturating_sub(back).max(1);
        stage.count("database: restored");
        let sessions = self.sessions.clone();
        self.overwrite(primary, before.log[..length].to_vec());
        if stage.tape.chance(128) {
            // The row alone, by hand.
            self.sessions = sessions;
        }
        self.note_stale(stage.now, primary, &before, clean);
        self.begin_anew(stage);
        for process in &mut self.parties {
            process.clean = process.clean.map(|_| stage.now);
        }
        let row = self.servers[primary].row;
        stage.note(|| format!("server {primary} is restored: {row:?}"));
    }

    /// An old primary becomes a replica of the new one: its row is overwritten.
    pub fn rejoin(&mut self, stage: &mut Stage<'_>) {
        let primary = self.primary;
        let server = stage.tape.below(self.servers.len());
        if server == primary {
            return;
        }
        stage.count("database: rejoined");
        let own = &self.servers[server];
        if !own.read_only && !own.fenced {
            // What it committed as an old primary is in no row from here on.
            self.forgotten_high = self.forgotten_high.max(own.row.id);
        }
        let log = self.servers[primary].log.clone();
        let lag = stage.tape.pick(&[0usize, 1, 5]);
        let length = log.len().saturating_sub(lag).max(1);
        let sessions = self.sessions.clone();
        self.overwrite(server, log[..length].to_vec());
        if stage.tape.chance(128) {
            // It was neither stopped nor copied.
            self.sessions = sessions;
        }
        self.servers[server].read_only = true;
        self.servers[server].fenced = false;
        stage.note(|| format!("server {server} rejoins"));
    }

    fn overwrite(&mut self, server: usize, log: Vec<Commit>) {
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
    fn begin_anew(&mut self, stage: &mut Stage<'_>) {
        if !self.operators.is_empty() {
            self.operators.clear();
            stage.count("assumption: an advance begins anew after a fail-over");
        }
    }

    fn note_stale(
        &mut self,
        now: Moment,
        server: usize,
        before: &Server,
        clean: [Option<Moment>; 4],
    ) {
        let own = &self.servers[server];
        self.stale[server] = Stale {
            stands: assumptions::is_stale(own, self.reserved_high, self.newest),
            know: assumptions::who_knows(before, &own.row, clean, now),
        };
    }

    pub(super) fn fence(&mut self, server: usize) {
        self.servers[server].fenced = true;
        for session in &mut self.sessions {
            session.dead |= session.server == server;
        }
    }

    pub fn outage(&mut self, stage: &mut Stage<'_>) {
        let primary = self.primary;
        stage.count("database: outage");
        let server = &mut self.servers[primary];
        server.up = !server.up;
        for session in &mut self.sessions {
            session.dead |= session.server == primary && stage.tape.chance(128);
        }
        stage.note(|| format!("server {primary} goes down, or comes up"));
    }

    pub fn misfit(&mut self, stage: &mut Stage<'_>) {
        stage.count("database: misfit");
        let kind = stage.tape.pick(&[
            FaultKind::NoTable,
            FaultKind::SettingsDiffer,
            FaultKind::NoCounterRow,
        ]);
        let server = &mut self.servers[self.primary];
        server.misfit = match server.misfit {
            None => Some(kind),
            Some(_) => None,
        };
        stage.note(|| "what is stored is spoilt, or mended".to_string());
    }

    pub fn toggle_read_only(&mut self, stage: &mut Stage<'_>, said: &str) {
        let server = &mut self.servers[self.primary];
        server.read_only = !server.read_only;
        stage.note(|| said.to_string());
    }

    /// `REPLACE INTO tickets (stub) VALUES ('a')`.
    pub fn old_program(&mut self, stage: &mut Stage<'_>) {
        if !stage.tape.chance(96) {
            return;
        }
        stage.count("database: old program");
        let counts_up = !stage.tape.chance(64);
        let now = stage.now;
        let server = &mut self.servers[self.primary];
        // In the original's table `id` counts up; else it is 0 where that is no error.
        let id = match counts_up {
            true => server.row.id + 1,
            false => 0,
        };
        server.replace(id, now);
        stage.note(|| "an old program replaces the row".to_string());
    }
}
