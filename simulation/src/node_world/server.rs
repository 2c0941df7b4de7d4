//! What happens to the database server and its row.

use tickr::fault::FaultKind;

use super::{Due, SECOND, World};
use crate::checker::Lawful;
use crate::database::Owned;

impl World<'_> {
    pub(super) fn outage(&mut self) -> Lawful {
        self.net.record.counts.count("database: outage");
        self.server.up = !self.server.up;
        self.sessions.fill(true);
        self.note(|| "the database is down, or up again".to_string());
        match self.tape.chance(160) {
            true => {
                let time = self.tape.millis(&[1_100, 300, 30, 600]);
                self.come()?;
                self.pass(time)?;
                self.probe_one()
            }
            false => Ok(()),
        }
    }

    pub(super) fn toggle_read_only(&mut self) -> Lawful {
        self.net.record.counts.count("database: read-only");
        self.server.read_only = !self.server.read_only;
        self.note(|| "the database is read-only, or no longer".to_string());
        Ok(())
    }

    pub(super) fn close_the_row(&mut self) -> Lawful {
        if self.server.row.owner == Owned::By(0) && !self.server.read_only {
            self.server.close_by_hand(self.net.now);
            self.net.record.counts.count("operator: close");
            self.note(|| "an operator closes the row".to_string());
            self.plan(self.net.now + self.lease + SECOND, Due::Open);
        }
        Ok(())
    }

    pub(super) fn open_the_row(&mut self) {
        let row = self.server.row;
        let id = row.id.max(row.mark) + 10;
        self.next_tag += 1;
        let (tag, now) = (self.next_tag, self.net.now);
        if id < self.net.numbering.last_base() && self.server.open(row, id, tag, now) {
            self.net.record.counts.count("operator: open");
            self.note(|| format!("the row is open from {id}"));
        }
    }

    pub(super) fn misfit(&mut self) -> Lawful {
        self.net.record.counts.count("database: misfit");
        self.server.misfit = match self.server.misfit {
            Some(_) => None,
            None => Some(FaultKind::NoTable),
        };
        self.note(|| "what is stored is broken, or mended".to_string());
        Ok(())
    }
}
