//! What operators and old programs do to the row.

use tickr::counter::{Owner, View};
use tickr::database::schema;
use tickr::fault::FaultKind;
use tickr::ticket::COUNTER_SEED;
use tickr_simulation::database::{Owned, Row, is_still_closed};

use super::{Checked, NOW, Play, set};
use crate::site::{LEASE, ORIGINAL, numbering};

/// What an old program sends.
const REPLACE: &str = "REPLACE INTO {table} (stub) VALUES ('a')";
/// `ER_NO_DEFAULT_FOR_FIELD` of the MySQL Server Error Message Reference.
const NO_DEFAULT: u16 = 1364;

impl Play<'_> {
    pub(super) fn earlier(&mut self) -> Row {
        let log = &self.models[self.primary].log;
        let back = self.tape.pick(&[1usize, 2, 3, 8]);
        log[log.len().saturating_sub(1 + back)].row
    }

    pub(super) fn restore(&mut self) -> Checked {
        let row = self.earlier();
        self.note(format!("set back to {row:?}"));
        let set = set(&format!("{}.tickets", self.name), &row);
        self.site.run(self.primary, &[&set]);
        self.models[self.primary].set(row, NOW);
        self.same_rows()
    }

    pub(super) fn old_program(&mut self) -> Checked {
        let strict = self.tape.chance(128);
        self.note(format!("an old program, strict: {strict}"));
        let mode = if strict { "STRICT_TRANS_TABLES" } else { "" };
        let table = format!("{}.tickets", self.name);
        let replace = REPLACE.replace("{table}", &table);
        let done = self.site.change(0, mode, &replace);
        let expected = match (self.name == ORIGINAL, strict) {
            (true, _) => {
                // What it counts is its own matter.
                let id = self.site.row(0, self.name).id;
                self.models[0].replace(id, NOW);
                None
            }
            (false, true) => Some(NO_DEFAULT),
            (false, false) => {
                self.models[0].replace(0, NOW);
                None
            }
        };
        match done.err() == expected {
            true => self.same_rows(),
            false => Err(format!("it got {done:?}, not {expected:?}")),
        }
    }

    pub(super) fn set_read_only(&mut self) -> Checked {
        let own = &mut self.models[self.primary];
        own.read_only = !own.read_only;
        let set = format!("SET GLOBAL read_only = {}", u8::from(own.read_only));
        self.note(set.clone());
        self.site.run(self.primary, &[&set]);
        self.same_rows()
    }

    // What an operator does.

    pub(super) fn close_by_hand(&mut self) -> Checked {
        self.note("closed by hand".to_owned());
        self.site.run(
            self.primary,
            &[&self.statement(include_str!("../../../../sql/close_by_hand.sql"))],
        );
        self.models[self.primary].close_by_hand(NOW);
        self.same_rows()
    }

    /// The last statement of an `advance`, for a row that was read at some time.
    pub(super) fn open(&mut self) -> Checked {
        if self.tape.chance(160) {
            self.read = self.models[0].row;
        }
        self.tags += 1;
        let (read, tag) = (self.read, self.tags);
        // As an `advance` checks, there is room above it.
        let id = read.id.max(read.mark).saturating_add(3);
        let id = id.min(numbering().last_base() - 1);
        let number = read.epoch.number + 1;
        self.note(format!("opened at {id} if it is {read:?}"));
        let mut statement = self.statement(include_str!("../../../../sql/open.sql"));
        for value in [
            id.to_string(),
            "'mariadb:10'".to_owned(),
            number.to_string(),
            tag.to_string(),
            read.id.to_string(),
            read.mark.to_string(),
            read.epoch.number.to_string(),
            read.epoch.tag.to_string(),
            "'mariadb:10'".to_owned(),
        ] {
            statement = statement.replacen('?', &value, 1);
        }
        let done = self.site.change(0, "", &statement);
        let opened = self.models[0].open(read, id, tag, NOW);
        match done == Ok(u64::from(opened)) {
            true => self.same_rows(),
            false => Err(format!("it got {done:?}; the model opens it: {opened}")),
        }
    }

    pub(super) fn create(&mut self) -> Checked {
        self.note("created".to_owned());
        let settings = self.site.settings(0, self.name, true);
        let created = schema::create(&settings, &numbering(), LEASE);
        let tag = self.site.row(0, self.name).epoch.tag;
        let opened = self.models[0].open_new(tag, NOW);
        match created {
            Ok(created) if created.opened == opened => self.same_rows(),
            other => Err(format!("{other:?}; the model opens it: {opened}")),
        }
    }

    /// A whole `tickr db advance`, as it ships, with others at work before it closes the row and
    /// while it waits.
    pub(super) fn advance(&mut self) -> Checked {
        let server = self.primary;
        let margin = self.tape.pick(&[0, 1, 50]);
        let past = self.tape.chance(64).then(|| {
            let id = self.models[server].row.id.saturating_add(20);
            numbering().ticket(id).unwrap_or(1)
        });
        let least = past.and_then(|past| numbering().counter_past(past));
        self.note(format!("advance, past {past:?}, margin {margin}"));
        let privileged = self.tape.chance(128) && self.site.count() == 1;
        let settings = self.site.settings(server, self.name, privileged);
        let mut told = 0;
        let mut found = View::clone(&self.models[server].view());
        let mut closed = self.models[server].row;
        let mut differs = Ok(());
        let advanced = schema::advance(&settings, &numbering(), past, margin, &mut |text| {
            if differs.is_err() {
                return;
            }
            told += 1;
            self.note(format!("  {text}"));
            if text.starts_with("found") {
                found = self.models[server].view();
            } else if text.starts_with("closed; waiting") {
                if found.owner != Owner::Closed {
                    self.models[server].close_by_hand(NOW);
                }
                closed = self.models[server].row;
            } else if text.contains("starting over") {
                if self.is_kept(closed) {
                    differs = Err("the model would not start over".to_owned());
                }
                return;
            } else {
                return;
            }
            let steps = match told > 6 {
                true => 0,
                false => self.tape.below(4),
            };
            differs = (0..steps).try_for_each(|_| self.simple_step());
        });
        differs?;
        let model = &self.models[server];
        let row = model.row;
        let target = row.id.max(row.mark).max(least.unwrap_or(COUNTER_SEED));
        let target = target.checked_add(margin);
        let target = target.filter(|target| *target < numbering().last_base());
        let is_right = match &advanced {
            Ok(advanced) if advanced.by_another => {
                model.is_open() && (advanced.counter, advanced.epoch) == (row.id, row.epoch.number)
            }
            Ok(advanced) => {
                let tag = self.site.row(server, self.name).epoch.tag;
                let kept = self.is_kept(closed);
                let number = row.epoch.number + 1;
                let model = &mut self.models[server];
                let target = target.unwrap_or(0);
                kept && model.open(row, target, tag, NOW)
                    && (advanced.counter, advanced.epoch) == (target, number)
            }
            Err(fault) => match fault.kind {
                FaultKind::NumbersExhausted => target.is_none(),
                FaultKind::ReadOnly => found.read_only || model.read_only,
                _ => false,
            },
        };
        self.note(format!("  {advanced:?}"));
        match is_right {
            true => self.same_rows(),
            false => Err(format!(
                "{advanced:?}; the model: {row:?}, target {target:?}"
            )),
        }
    }

    /// Whether an `advance` that has closed this row may open the one of now.
    fn is_kept(&self, closed: Row) -> bool {
        let row = self.models[self.primary].row;
        row.owner == Owned::Closed && is_still_closed(closed.epoch, row.epoch)
    }
}
