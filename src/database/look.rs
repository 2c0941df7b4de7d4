//! One look at what is there: the tables, their columns, what is stored, and the row. Serving and
//! all commands decide by it what is missing and what is wrong, so that they agree.

use super::answers::{self, Engine, NO_ENGINE, Stored, column, view};
use super::driver::Link;
use super::identity::Identity;
use crate::counter::{View, Warning};
use crate::fault::{Fault, FaultKind};
use crate::limits;
use crate::ticket::Numbering;

/// The columns that both versions of the original have.
const ORIGINAL_COLUMNS: [&str; 2] = ["id", "stub"];
/// The columns that the table has since there is an owner, with their definitions.
pub(super) const ADDED_COLUMNS: [(&str, &str); 4] = [
    (
        "owner",
        "VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT ''",
    ),
    ("epoch", "BIGINT UNSIGNED NOT NULL DEFAULT 0"),
    ("epoch_tag", "BIGINT UNSIGNED NOT NULL DEFAULT 0"),
    ("mark", "BIGINT UNSIGNED NOT NULL DEFAULT 0"),
];
/// The columns that hold numbers of 64 bits.
const NUMBERS: [&str; 4] = ["id", "epoch", "epoch_tag", "mark"];
/// The column of the settings since there is a lease.
pub(super) const LEASE_COLUMN: &str = "lease_seconds";

/// What is there.
pub(super) struct Found {
    /// The columns of `tickets`; empty when there is no such table.
    columns: Vec<Column>,
    /// The columns of `tickr_settings`; empty when there is no such table.
    settings_columns: Vec<Column>,
    engine: Option<Engine>,
    triggers: Vec<String>,
    /// The settings beside the counter.
    pub(super) stored: Result<Option<Stored>, Fault>,
    /// The row; before there is an owner, nobody's.
    pub(super) row: Result<View, Fault>,
}

struct Column {
    name: String,
    kind: String,
    is_nullable: bool,
}

/// Looks at everything, and changes nothing. An error means that it could not look.
pub(super) fn look(link: &mut Link, identity: &Identity) -> Result<Found, Fault> {
    let mut spelt = Vec::new();
    let mut settings_columns = Vec::new();
    let rows = link.query(
        include_str!("../../sql/columns.sql"),
        limits::DATABASE_NAMES_MAX,
    )?;
    for mut row in rows {
        let table: String = column(&mut row, 0)?;
        let found = Column {
            name: column::<String>(&mut row, 1)?.to_ascii_lowercase(),
            kind: column::<String>(&mut row, 2)?.to_ascii_lowercase(),
            is_nullable: column::<String>(&mut row, 3)? == "YES",
        };
        match table.eq_ignore_ascii_case("tickets") {
            true => spelt.push((table, found)),
            false => settings_columns.push(found),
        }
    }
    // Some servers compare names here without regard to case, where another spelling is another
    // table.
    let is_exact = spelt.iter().any(|(table, _)| table == "tickets");
    spelt.retain(|(table, _)| !is_exact || table == "tickets");
    let columns = spelt.into_iter().map(|(_, column)| column).collect();
    let triggers = link.query(
        include_str!("../../sql/triggers.sql"),
        limits::DATABASE_NAMES_MAX,
    )?;
    let mut found = Found {
        engine: answers::engine(link.query(include_str!("../../sql/engine.sql"), 1)?)?,
        triggers: triggers
            .into_iter()
            .map(|mut row| column(&mut row, 0))
            .collect::<Result<_, _>>()?,
        columns,
        settings_columns,
        stored: Ok(None),
        row: Err(FaultKind::NoCounterRow.into()),
    };
    found.stored = lasting(stored(link, found.has_lease()))?;
    let statement = match found.is_old() || !found.has_lease() {
        true => include_str!("../../sql/counter.sql").to_owned(),
        false => identity.fill(include_str!("../../sql/read.sql")),
    };
    found.row = lasting(
        link.query(&statement, 2)
            .and_then(|rows| view(rows, identity)),
    )?;
    if matches!(&found.row, Err(fault) if fault.kind == FaultKind::NoTable) {
        found.columns.clear();
    }
    Ok(found)
}

/// Keeps what only an operator can change; anything else is an error of looking.
fn lasting<T>(result: Result<T, Fault>) -> Result<Result<T, Fault>, Fault> {
    use crate::fault::Act;
    match result {
        Err(fault) if fault.kind.row().act == Act::Retry => Err(fault),
        result => Ok(result),
    }
}

impl Found {
    /// Whether there is a table `tickets`.
    pub(super) fn has_table(&self) -> bool {
        !self.columns.is_empty()
    }

    /// The columns that the table of the counter lacks, of those that came with the owner.
    pub(super) fn missing_columns(&self) -> Vec<(&'static str, &'static str)> {
        let lacks = |name: &str| !self.columns.iter().any(|column| column.name == name);
        ADDED_COLUMNS
            .into_iter()
            .filter(|(name, _)| lacks(name))
            .collect()
    }

    /// Whether the settings have a lease.
    pub(super) fn has_lease(&self) -> bool {
        self.settings_columns
            .iter()
            .any(|column| column.name == LEASE_COLUMN)
    }

    /// Whether there is a table of settings, with rows or without.
    pub(super) fn has_settings_table(&self) -> bool {
        !self.settings_columns.is_empty()
    }

    /// The engine of the table.
    pub(super) fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    fn is_old(&self) -> bool {
        !self.missing_columns().is_empty()
    }

    /// How the engine weakens the promise.
    pub(super) fn warning(&self) -> Option<Warning> {
        self.engine
            .as_ref()
            .filter(|engine| !engine.transactional && engine.name != NO_ENGINE)
            .map(|engine| Warning::NotTransactional {
                engine: engine.name.clone(),
            })
    }

    /// What keeps a node with these settings from serving, the gravest first; empty when nothing
    /// does. Whether the row is open is another matter.
    pub(super) fn problems(&self, given: &Numbering) -> Vec<Fault> {
        let mut problems = Vec::new();
        if !self.has_table() {
            let has_settings = matches!(self.stored, Ok(Some(_)) | Err(_));
            problems.push(match &self.row {
                _ if has_settings => FaultKind::TableGone.into(),
                Err(fault) => fault.clone(),
                Ok(_) => FaultKind::NoTable.into(),
            });
        } else if let Some(unusable) = self.unusable() {
            problems.push(unusable);
        } else {
            problems.extend(self.wrong_column());
            if let Some(trigger) = self.triggers.first() {
                problems.push(Fault::new(FaultKind::Trigger, trigger));
            }
            problems.extend(self.row.as_ref().err().cloned());
        }
        match &self.stored {
            Err(fault) => problems.push(fault.clone()),
            Ok(None) if self.has_table() && problems.is_empty() => {
                problems.push(FaultKind::NoSettings.into());
            }
            Ok(None) => {}
            Ok(Some(stored)) => problems.extend(differ(&stored.numbering, given).err()),
        }
        let lacks_lease = self.has_settings_table() && !self.has_lease();
        let is_old = self.has_table() && (self.is_old() || lacks_lease);
        if is_old
            && problems
                .iter()
                .all(|problem| problem.kind == FaultKind::NoSettings)
        {
            problems.insert(0, self.old());
        }
        problems
    }

    fn old(&self) -> Fault {
        let missing = self.missing_columns();
        let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
        let said = match names.is_empty() {
            true => format!("`tickr_settings` has no column {LEASE_COLUMN}"),
            false => format!("`tickets` has no column {}", names.join(", ")),
        };
        Fault::new(FaultKind::OldTable, said)
    }

    /// A table that no command changes: it is not Tickr's at all, or would grow without end.
    pub(super) fn unusable(&self) -> Option<Fault> {
        if self.engine().is_some_and(|engine| engine.name == NO_ENGINE) {
            let said = "it is a view, or its engine is missing";
            return Some(Fault::new(FaultKind::ForeignTable, said));
        }
        if self.engine().is_some_and(|engine| engine.versioned) {
            return Some(FaultKind::Versioned.into());
        }
        let has = |name: &str| self.columns.iter().any(|column| column.name == name);
        let missing = ORIGINAL_COLUMNS.into_iter().find(|name| !has(name))?;
        Some(Fault::new(
            FaultKind::ForeignTable,
            format!("it has no column {missing}"),
        ))
    }

    fn wrong_column(&self) -> Option<Fault> {
        let is_number = |kind: &str| {
            let kind = kind.trim_end_matches(" zerofill");
            kind.starts_with("bigint") && kind.ends_with(" unsigned")
        };
        let is_text = |kind: &str| {
            let kind = kind.split('(').next().unwrap_or_default();
            ["char", "text", "binary"]
                .iter()
                .any(|end| kind.ends_with(end))
        };
        let wrong = self.columns.iter().find(|column| match &column.name[..] {
            "owner" => !is_text(&column.kind),
            name => NUMBERS.contains(&name) && (!is_number(&column.kind) || column.is_nullable),
        })?;
        let null = if wrong.is_nullable { ", nullable" } else { "" };
        Some(Fault::new(
            FaultKind::ColumnType,
            format!("`tickets`.`{}` is {}{null}", wrong.name, wrong.kind),
        ))
    }
}

/// Refuses settings that are not the stored ones.
pub(super) fn differ(stored: &Numbering, given: &Numbering) -> Result<(), Fault> {
    match stored == given {
        true => Ok(()),
        false => Err(Fault::new(
            FaultKind::SettingsDiffer,
            format!("stored: {stored}; this node's: {given}"),
        )),
    }
}

fn stored(link: &mut Link, has_lease: bool) -> Result<Option<Stored>, Fault> {
    let statement = match has_lease {
        true => include_str!("../../sql/settings.sql"),
        false => include_str!("../../sql/settings_old.sql"),
    };
    let rows = match link.query(statement, 2) {
        Err(fault) if matches!(fault.kind, FaultKind::NoTable | FaultKind::NoSettings) => {
            return Ok(None);
        }
        Err(fault) if fault.kind == FaultKind::ForeignTable => {
            return Err(Fault::new(FaultKind::SettingsDamaged, fault.said));
        }
        rows => rows?,
    };
    answers::stored(rows)
}
