//! What an answer of MySQL means: rows and counts go in, values or faults come out.
//!
//! There is no connection in here, so that any answer can be tried. A server may be old, damaged,
//! half-way through a change of its tables, or no MySQL at all: each column may be missing, NULL,
//! of another type, out of range, or not UTF-8.

use std::collections::HashMap;
use std::time::Duration;

use mysql::Value;
use mysql::prelude::FromValue;

use super::error::protocol;
use crate::counter::{Epoch, Owner, View};
use crate::fault::{Fault, FaultKind};
use crate::limits;
use crate::ticket::{Block, Numbering};

pub use super::identity::{Identity, Variables};

/// The values of one row.
pub type Row = Vec<Value>;

/// The settings beside the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The arithmetic from base ids to tickets.
    pub numbering: Numbering,
    /// How long a block may be used after the row was last found open.
    pub lease: Duration,
}

/// What a view has in the place of an engine.
pub const NO_ENGINE: &str = "none";

/// The engine of the table `tickets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Its name.
    pub name: String,
    /// Whether it survives a crash.
    pub transactional: bool,
    /// Whether the table keeps every row that it ever had.
    pub versioned: bool,
}

/// What a statement without rows did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// How many rows it changed.
    pub rows: u64,
    /// What it passed to `LAST_INSERT_ID`.
    pub last_insert_id: Option<u64>,
}

/// What a reservation of `count` base ids not below `floor` has brought: the last of them, or
/// nothing, since the row did not match.
pub fn reserved(
    done: Done,
    count: u64,
    floor: u64,
    numbering: &Numbering,
) -> Result<Option<u64>, Fault> {
    match done.rows {
        0 => return Ok(None),
        1 => {}
        rows => {
            let said = format!("a reservation changed {rows} rows");
            return Err(Fault::new(FaultKind::NotOneRow, said));
        }
    }
    // `LAST_INSERT_ID(expr)` comes back in the OK packet of the same round trip:
    // https://dev.mysql.com/doc/refman/8.4/en/information-functions.html
    // With a trigger on the table nothing comes back: it might have stored another value.
    let Some(last) = done.last_insert_id.filter(|&last| last > 0) else {
        return Err(FaultKind::CounterAltered.into());
    };
    if Block::ending_at(last, count).is_none() {
        let said = format!("it was {}", last.wrapping_sub(count));
        return Err(Fault::new(FaultKind::CounterUnusable, said));
    }
    let last_base = numbering.last_base();
    let least = floor.checked_add(count);
    if least.is_none_or(|least| last < least) || last > last_base {
        let said = format!("it ended at {last}: from {floor} by {count}, up to {last_base}");
        return Err(Fault::new(FaultKind::CounterAltered, said));
    }
    Ok(Some(last))
}

/// The row, from `read.sql` or, of an old table, from `counter.sql`.
pub fn view(mut rows: Vec<Row>, identity: &Identity) -> Result<View, Fault> {
    if rows.len() > 1 {
        return Err(Fault::new(FaultKind::NotOneRow, "there are several rows"));
    }
    let mut row = rows.pop().ok_or(FaultKind::NoCounterRow)?;
    let id = number(&mut row, 0, "id")?;
    if row.len() == 1 {
        return Ok(View {
            id,
            mark: 0,
            epoch: Epoch::default(),
            owner: Owner::Nobody,
            read_only: false,
            lease: limits::LEASE_DEFAULT,
        });
    }
    // Not made to fit when they are not UTF-8: two that differ must not become alike.
    let owner: Option<String> = column(&mut row, 4)?;
    let here: Option<String> = column(&mut row, 5)?;
    let seconds: Option<u64> = column(&mut row, 7)?;
    Ok(View {
        id,
        mark: number(&mut row, 1, "mark")?,
        epoch: Epoch {
            number: number(&mut row, 2, "epoch")?,
            tag: number(&mut row, 3, "epoch_tag")?,
        },
        owner: identity.owner(owner.unwrap_or_default(), here.unwrap_or_default()),
        read_only: column::<u64>(&mut row, 6)? == 0,
        lease: lease(seconds.ok_or(FaultKind::NoSettings)?)?,
    })
}

/// The stored settings, if there are any, from `settings.sql` or `settings_old.sql`.
pub fn stored(rows: Vec<Row>) -> Result<Option<Stored>, Fault> {
    if rows.len() > 1 {
        return Err(damaged("there are several rows"));
    }
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(None);
    };
    let has_lease = row.len() > 3;
    let mut number = |index| match column::<Option<u64>>(&mut row, index) {
        Ok(Some(number)) => Ok(number),
        _ => Err(damaged("a value is not a number")),
    };
    Ok(Some(Stored {
        numbering: Numbering::new(number(0)?, number(1)?, number(2)?)?,
        lease: match has_lease {
            true => lease(number(3)?)?,
            false => limits::LEASE_DEFAULT,
        },
    }))
}

/// The engine of the table, if there is a table.
pub fn engine(rows: Vec<Row>) -> Result<Option<Engine>, Fault> {
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(None);
    };
    let name: Option<String> = column(&mut row, 0)?;
    let transactions: Option<String> = column(&mut row, 1)?;
    let kind: Option<String> = column(&mut row, 2)?;
    Ok(Some(Engine {
        name: name.unwrap_or_else(|| NO_ENGINE.to_owned()),
        transactional: transactions.is_some_and(|answer| answer == "YES"),
        versioned: kind.is_some_and(|kind| kind == "SYSTEM VERSIONED"),
    }))
}

/// The variables of the server by name, from `variables.sql`.
pub fn variables(rows: Vec<Row>) -> Result<HashMap<String, String>, Fault> {
    let mut values = HashMap::new();
    for mut row in rows {
        let name: String = column(&mut row, 0)?;
        values.insert(name.to_ascii_lowercase(), column(&mut row, 1)?);
    }
    Ok(values)
}

/// Whether a connection is among those of the server, and is this user's in this database.
pub fn has_connection(
    rows: Vec<Row>,
    connection: u64,
    username: &str,
    database: &str,
) -> Result<bool, Fault> {
    for mut row in rows {
        if column::<u64>(&mut row, 0)? == connection {
            let user: Option<String> = column(&mut row, 1)?;
            let of: Option<String> = column(&mut row, 3)?;
            return Ok(user.as_deref() == Some(username) && of.as_deref() == Some(database));
        }
    }
    Ok(false)
}

/// Takes a value out of a row.
pub(super) fn column<T: FromValue>(row: &mut Row, index: usize) -> Result<T, Fault> {
    let Some(value) = row.get_mut(index) else {
        return Err(protocol(format!("column {index} of an answer is missing")));
    };
    mysql::from_value_opt(std::mem::replace(value, Value::NULL)).map_err(|_| {
        protocol(format!(
            "column {index} of an answer has an unexpected type"
        ))
    })
}

/// A number of the row that must be one, and not below 0.
fn number(row: &mut Row, index: usize, name: &str) -> Result<u64, Fault> {
    let value: Value = column(row, index)?;
    mysql::from_value_opt(value.clone()).map_err(|_| {
        let shown = match value {
            Value::NULL => "NULL".to_owned(),
            Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => other.as_sql(true),
        };
        Fault::new(FaultKind::CounterUnusable, format!("{name} is {shown}"))
    })
}

/// No command stores another one; an `advance` could not wait for it.
fn lease(seconds: u64) -> Result<Duration, Fault> {
    match (limits::LEASE_SECONDS_MIN..=limits::LEASE_SECONDS_MAX).contains(&seconds) {
        true => Ok(Duration::from_secs(seconds)),
        false => Err(damaged(&format!("lease_seconds is {seconds}"))),
    }
}

fn damaged(said: &str) -> Fault {
    Fault::new(FaultKind::SettingsDamaged, said)
}
