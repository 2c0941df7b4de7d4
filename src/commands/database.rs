//! `tickr db`: creates, checks and repairs the counter.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::json;
use tickr::config::{AdvanceConfig, CheckConfig, DatabaseConfig, DropConfig, LeaseConfig};
use tickr::database::schema;
use tickr::limits;
use tickr::settings::ColumnName;
use tickr::ticket::Numbering;

use super::failure::Failure;
use super::output::{no_problems, say};

pub(crate) fn create(config: LeaseConfig) -> Result<(), Failure> {
    let target = config.target;
    let lease = Duration::from_secs(config.lease_seconds);
    let created = schema::create(&target.database, &target.numbering, lease)?;
    say(format_args!("{}: {created}", target.database.name))
}

pub(crate) fn check(config: CheckConfig) -> Result<(), Failure> {
    let target = config.target;
    let report = schema::check(&target.database, &target.numbering)?;
    // The text is of use even where the column cannot be read.
    if !config.json {
        say(report.to_string().trim_end())?;
    }
    let column = config.column.map(|name| {
        let ColumnName {
            database,
            table,
            column,
        } = name;
        let name = format!("{database}.{table}.{column}");
        schema::check_column(&target.database, &target.numbering, &name)
    });
    let column = column.transpose()?;
    match (config.json, &column) {
        (true, column) => say(report_json(&report, column.as_ref()))?,
        (false, Some(column)) => say(column.to_string().trim_end())?,
        (false, None) => {}
    }
    let problems = report.problems.len() + column.map_or(0, |column| column.problems.len());
    no_problems(problems)
}

/// The report of `tickr db check` for scripts.
fn report_json(
    report: &schema::Report,
    column: Option<&schema::ColumnReport>,
) -> serde_json::Value {
    let numbering = |numbering: &Numbering| {
        json!({
            "max_nodes": numbering.max_nodes(),
            "starting_offset": numbering.starting_offset(),
            "node_number": numbering.node_number(),
        })
    };
    fn texts(all: &[impl fmt::Display]) -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    }
    let column = column.map(|column| {
        json!({
            "name": column.name,
            "type": column.kind,
            "highest": column.highest,
            "left": column.left,
            "problems": texts(&column.problems),
        })
    });
    json!({
        "server_version": report.server_version,
        "engine": report.engine,
        "counter": report.counter(),
        "last_ticket": report.last_ticket(),
        "stored": report.stored.as_ref().map(numbering),
        "given": numbering(&report.given),
        "left_below_2_53": report.headroom(limits::SAFE_INTEGER_MAX),
        "left_below_2_64": report.headroom(u64::MAX),
        "warnings": texts(&report.warnings),
        "problems": texts(&report.problems),
        "column": column,
    })
}

pub(crate) fn migrate(config: DatabaseConfig) -> Result<(), Failure> {
    let migrated = schema::migrate(&config.database)?;
    say(format_args!("{}: {migrated}", config.database.name))
}

pub(crate) fn advance(config: AdvanceConfig) -> Result<(), Failure> {
    let AdvanceConfig {
        target,
        past,
        margin,
    } = config;
    let DatabaseConfig {
        database,
        numbering,
        ..
    } = &target;
    let mut progress = narrate(&database.name);
    let advanced = schema::advance(database, numbering, past, margin, &mut progress)?;
    say(format_args!("{}: {advanced}", target.database.name))
}

pub(crate) fn lease(config: LeaseConfig) -> Result<(), Failure> {
    let DatabaseConfig {
        database,
        numbering,
        ..
    } = &config.target;
    let lease = Duration::from_secs(config.lease_seconds);
    let mut progress = narrate(&database.name);
    let stored = schema::set_lease(database, numbering, lease, &mut progress)?;
    say(format_args!(
        "{}: the lease is {} s; {stored}",
        database.name, config.lease_seconds
    ))
}

/// Says on stderr what a command does while it waits.
fn narrate(database: &str) -> impl FnMut(String) {
    move |step| {
        let _ = writeln!(io::stderr(), "{database}: {step}");
    }
}

pub(crate) fn drop(config: DropConfig) -> Result<(), Failure> {
    schema::drop_database(&config.database, &config.confirmed)?;
    say(format_args!("{}: dropped", config.database.name))
}
