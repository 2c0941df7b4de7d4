//! A replica that lags, catches up, and takes the place of its primary.

use tickr_simulation::database::Row;

use super::{Checked, Play};

impl Play<'_> {
    pub(super) fn lag_or_follow(&mut self) -> Checked {
        let other = 1 - self.primary;
        if self.replica.is_none() {
            self.follow(other);
        } else if !self.lags {
            let stop = self
                .tape
                .pick(&["STOP SLAVE IO_THREAD", "STOP SLAVE SQL_THREAD"]);
            if self.tape.chance(128) {
                self.catch_up()?;
            }
            self.note(stop.to_owned());
            self.site.run(other, &[stop]);
            self.lags = true;
        }
        Ok(())
    }

    /// Builds a replica from the row of the primary.
    pub(super) fn follow(&mut self, replica: usize) {
        self.note(format!("server {replica} becomes the replica"));
        let primary = self.primary;
        for link in self.links.iter_mut().flatten() {
            if link.server == replica && !link.killed {
                link.killed = true;
                self.site.kill(replica, link.session.connection());
            }
        }
        let row = self.models[primary].row;
        self.site.run(primary, &["RESET MASTER"]);
        self.write(replica, row);
        self.site.follow(replica, primary);
        self.followed = self.models[primary].log.len() - 1;
        (self.replica, self.lags) = (Some(replica), false);
    }

    /// All that was committed reaches the replica.
    pub(super) fn catch_up(&mut self) -> Checked {
        let (Some(replica), false) = (self.replica, self.lags) else {
            return Ok(());
        };
        let (name, row) = (self.name, self.models[self.primary].row);
        self.site
            .wait(|site| Ok(site.row(replica, name) == row))
            .map_err(|error| format!("the replica never gets to {row:?}: {error}"))?;
        self.followed = self.models[self.primary].log.len() - 1;
        Ok(())
    }

    pub(super) fn fail_over(&mut self) -> Checked {
        let (old, Some(new)) = (self.primary, self.replica) else {
            return Ok(());
        };
        if self.tape.chance(64) {
            self.catch_up()?;
        }
        let format = self.tape.pick(&["ROW", "STATEMENT", "MIXED"]);
        // The sessions on it last.
        self.site.run(old, &["SET GLOBAL read_only = 1"]);
        self.models[old].read_only = true;
        self.site.apply_relay_log(new)?;
        let row = self.site.row(new, self.name);
        let log = &self.models[old].log;
        let has = |at: &usize| log[*at].row == row;
        let Some(at) = (self.followed..log.len()).rev().find(has) else {
            let log: Vec<Row> = log.iter().map(|commit| commit.row).collect();
            let log = &log[self.followed..];
            return Err(format!("the replica has {row:?}, which never was: {log:?}"));
        };
        let lost = log.len() - 1 - at;
        let log = log[..=at].to_vec();
        self.note(format!(
            "server {new} is promoted, {format}, without {lost}: {row:?}"
        ));
        let format = format!("SET GLOBAL binlog_format = {format}");
        self.site.run(
            new,
            &[
                "STOP SLAVE",
                "RESET SLAVE ALL",
                "RESET MASTER",
                &format,
                "SET GLOBAL read_only = 0",
            ],
        );
        let own = &mut self.models[new];
        (own.row, own.log, own.read_only) = (row, log, false);
        (self.primary, self.replica, self.lags) = (new, None, false);
        self.same_rows()
    }

    // Both sides.
}
