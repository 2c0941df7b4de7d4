//! What is said of the node's events: log lines, each change of state once, and numbers for the
//! metrics.

use std::io;
use std::time::Duration;

use crate::allocator::Event;
use crate::api::problems;
use crate::counter::Warning;
use crate::fault::{Fault, FaultKind};
use crate::limits;
use crate::metrics::DatabaseMetrics;
use crate::moment::Moment;
use crate::ticket::Numbering;

/// A kind of fault is logged once in this time, however often it takes turns with others.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// Keeps what must be known to say each thing once.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) metrics: DatabaseMetrics,
    /// How many things weaken the promise.
    pub(super) warnings: u64,
    /// The first contact with the database has shown that the node can't start.
    pub(super) cannot_start: Option<Fault>,
    is_connected: bool,
    /// The kinds of fault that have been logged in this outage.
    told: Vec<FaultKind>,
    /// The kinds that were logged a short while ago, in whichever outage.
    recent: Vec<(FaultKind, Moment)>,
    /// The counter is closed, or must be mended, and that has been logged.
    is_closed: bool,
    /// The last attempt to accept has failed, and that has been logged.
    accept_failed: bool,
}

impl Journal {
    pub(super) fn on_event(&mut self, event: Event, numbering: &Numbering, now: Moment) {
        match event {
            Event::Connected {
                worker,
                version,
                identity,
            } => {
                self.metrics.opened(worker);
                if !std::mem::replace(&mut self.is_connected, true) {
                    log::info!("connected to the database ({version}, {identity})");
                }
            }
            Event::Warnings(warnings) => {
                self.warnings = warnings.len() as u64;
                for warning in warnings {
                    log::warn!("{}", warned(&warning));
                }
            }
            Event::Reserved { count, took } => self.metrics.reserved(count, took),
            Event::Failed(fault) => self.metrics.failed(fault.kind.row().label),
            Event::Unavailable(fault) => self.on_unavailable(&fault, now),
            Event::Available(away) => {
                if !self.told.is_empty() {
                    let away = away.as_secs_f64();
                    log::info!("database available again after {away:.1} s");
                }
                self.told.clear();
            }
            Event::Closed(why) => {
                self.is_closed = true;
                log::error!("{}", problems::closed(&why, numbering));
            }
            Event::Misfit(fault) => {
                self.is_closed = true;
                self.told.push(fault.kind);
                log::error!("tickets are no longer issued: {fault}");
            }
            Event::Opened => {
                if std::mem::take(&mut self.is_closed) {
                    log::info!("the counter is open again: tickets are issued");
                }
            }
            Event::Dropped(tickets) => log::debug!("{tickets} reserved tickets were dropped"),
            Event::Exhausted => log::error!("{}", problems::EXHAUSTED),
            Event::CannotStart(fault) => self.cannot_start = Some(fault),
        }
    }

    fn on_unavailable(&mut self, fault: &Fault, now: Moment) {
        self.recent.retain(|(_, at)| now.since(*at) < LOG_PAUSE);
        let is_known = self.recent.iter().any(|(kind, _)| *kind == fault.kind);
        if self.told.contains(&fault.kind) || is_known || self.cannot_start.is_some() {
            return;
        }
        self.told.push(fault.kind);
        self.recent.push((fault.kind, now));
        log::error!("database unavailable: {fault}");
    }

    /// Nobody waits to be accepted any more: only now is a shortage over.
    pub(super) fn on_accepted_all(&mut self) {
        self.accept_failed = false;
    }

    pub(super) fn on_accept_failed(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.accept_failed, true) {
            log::error!(
                "a connection could not be accepted: {error}. Clients wait, and it is tried again \
                 every {} ms. If this is about open files, raise their limit or lower \
                 TICKR_MAX_CONNECTIONS",
                limits::ACCEPT_PAUSE.as_millis()
            );
        }
    }
}

/// What a warning means, and what to do.
fn warned(warning: &Warning) -> String {
    match warning {
        Warning::NotTransactional { engine } => format!(
            "the table `tickets` uses the engine {engine}, which does not survive a crash of \
             MySQL: tickets can repeat after one. Run `tickr db migrate`"
        ),
        Warning::CommitNotFlushed { value } => format!(
            "innodb_flush_log_at_trx_commit is {value}, so MySQL loses commits when it or its \
             machine crashes: tickets can repeat after that. Set it to 1"
        ),
        Warning::BinaryLogNotSynced { value } => format!(
            "sync_binlog is {value}, so the binary log can lack commits after a crash of the \
             machine: tickets can repeat after a failover to a replica. Set it to 1"
        ),
        Warning::IdentityNotDistinct { identity } => format!(
            "the identity of the MySQL server ({identity}) is the default that many servers have, \
             so a failover or a restored copy is not noticed. Give each server its own server_id, \
             then run `tickr db advance`"
        ),
    }
}
