//! What `/metrics` shows: counters and histograms that the node keeps as plain numbers, and their
//! text for Prometheus.
//!
//! The node owns them, so that counting needs no atomics, no locks, no look-ups and no
//! memory; only a scrape, which takes a copy, makes text of them.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::allocator;
use crate::api::routes::Endpoint;
use crate::http::response::{Page, Status};
use crate::limits;
use crate::ticket::Numbering;

/// The text format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Buckets of a histogram, without the one for everything above.
const BOUNDS: usize = 15;

/// Upper bounds of durations, in nanoseconds: 100 µs to 5 s.
const DURATIONS: [u64; BOUNDS] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
];

/// Upper bounds of the sizes of reservations, in tickets.
const SIZES: [u64; BOUNDS] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000, 10_000, 100_000, 1_000_000, 10_000_000,
];

/// Prometheus works in seconds.
const NANOSECONDS_PER_SECOND: f64 = 1e9;

/// What happened between clients and the server.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    tickets: u64,
    answers: [[u64; Status::ALL.len()]; Endpoint::ALL.len()],
    durations: [Histogram; Endpoint::ALL.len()],
}

impl Default for HttpMetrics {
    fn default() -> HttpMetrics {
        HttpMetrics {
            tickets: 0,
            answers: Default::default(),
            durations: [(); Endpoint::ALL.len()].map(|()| Histogram::new(&DURATIONS)),
        }
    }
}

impl HttpMetrics {
    /// Tickets were issued to a client that was still there.
    pub fn issued(&mut self, tickets: u64) {
        self.tickets += tickets;
    }

    /// An answer goes to its client now, so long after its request was read.
    pub fn answered(&mut self, endpoint: Endpoint, status: Status, took: Duration) {
        self.answers[endpoint as usize][status as usize] += 1;
        self.durations[endpoint as usize].observe_duration(took);
    }
}

/// What happened between the server and the database.
#[derive(Clone, Debug)]
pub struct DatabaseMetrics {
    durations: Histogram,
    sizes: Histogram,
    /// By class; there are few, and errors are rare.
    errors: Vec<(&'static str, u64)>,
    /// Which workers have had a session.
    connected: [bool; limits::POOL_SIZE_MAX],
    reconnects: u64,
}

impl Default for DatabaseMetrics {
    fn default() -> DatabaseMetrics {
        DatabaseMetrics {
            durations: Histogram::new(&DURATIONS),
            sizes: Histogram::new(&SIZES),
            errors: Vec::new(),
            connected: [false; limits::POOL_SIZE_MAX],
            reconnects: 0,
        }
    }
}

impl DatabaseMetrics {
    /// A block of this many tickets was reserved.
    pub fn reserved(&mut self, tickets: u64, took: Duration) {
        self.sizes.observe(tickets);
        self.durations.observe_duration(took);
    }

    /// A job failed with a fault of this label.
    pub fn failed(&mut self, class: &'static str) {
        match self.errors.iter_mut().find(|(known, _)| *known == class) {
            Some((_, count)) => *count += 1,
            None => self.errors.push((class, 1)),
        }
    }

    /// A worker opened a session: its first one, or another because that was lost.
    pub fn opened(&mut self, worker: usize) {
        if std::mem::replace(&mut self.connected[worker], true) {
            self.reconnects += 1;
        }
    }
}

/// A copy of every number, as it is at one moment.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// What happened between clients and the server.
    pub http: HttpMetrics,
    /// Each address that is listened on.
    pub listeners: Vec<ListenerScrape>,
    /// What happened between the server and the database.
    pub database: DatabaseMetrics,
    /// What the allocator holds.
    pub status: allocator::Status,
    /// The arithmetic of this node.
    pub numbering: Numbering,
    /// A ticket would be issued now.
    pub ready: bool,
    /// The counter is closed.
    pub closed: bool,
    /// What weakens the promise that no ticket is issued twice.
    pub warnings: u64,
}

/// One address that is listened on.
#[derive(Clone, Debug)]
pub struct ListenerScrape {
    /// The address.
    pub address: String,
    /// Connections that it has accepted.
    pub accepted: u64,
    /// Those that are still open.
    pub open: u64,
}

impl Scrape {
    /// The answer to a scrape.
    pub fn page(self) -> Page {
        let mut text = String::new();
        let mut registry = Registry::with_prefix("tickr");
        registry.register_collector(Box::new(self));
        encode_registry(&mut text, &registry).expect("writing to a String cannot fail");
        Page {
            content_type: TEXT,
            body: text.into_bytes(),
        }
    }

    fn encode_http(&self, text: &mut Text<'_>) -> fmt::Result {
        text.counter(
            "tickets_total",
            "Tickets issued by this process.",
            self.http.tickets,
        )?;
        let answers = Endpoint::ALL.iter().flat_map(|endpoint| {
            let counts = Status::ALL
                .into_iter()
                .zip(&self.http.answers[*endpoint as usize]);
            counts
                // What can be watched for is there from the start.
                .filter(|(status, count)| {
                    **count > 0 || matches!(status, Status::Ok | Status::ServiceUnavailable)
                })
                .map(|(status, count)| {
                    (
                        [("route", endpoint.path())],
                        [("status", status.code())],
                        count,
                    )
                })
        });
        text.counters(
            "requests_total",
            "Requests answered, by route and status.",
            answers.map(|(route, status, count)| ((route, status), *count)),
        )?;
        let mut durations = text.descriptor(
            "request_duration_seconds",
            "Time from reading a request to writing its response, by route.",
            MetricType::Histogram,
        )?;
        for endpoint in Endpoint::ALL {
            let histogram = &self.http.durations[endpoint as usize];
            // What comes under no route is not measured from a request that was read whole.
            if endpoint != Endpoint::Other {
                let labels = [("route", endpoint.path())];
                histogram.encode(durations.encode_family(&labels)?, NANOSECONDS_PER_SECOND)?;
            }
        }
        let listener = |listener: &ListenerScrape| [("listener", listener.address.clone())];
        text.counters(
            "connections_accepted_total",
            "Connections accepted, by listener.",
            self.listeners.iter().map(|of| (listener(of), of.accepted)),
        )?;
        text.gauges(
            "connections",
            "Open connections, by listener.",
            self.listeners.iter().map(|of| (listener(of), of.open)),
        )
    }

    fn encode_tickets(&self, text: &mut Text<'_>) -> fmt::Result {
        let Scrape {
            status, numbering, ..
        } = self;
        text.gauge(
            "ready",
            "Whether a ticket would be issued now (1) or not (0).",
            self.ready.into(),
        )?;
        text.gauge(
            "closed",
            "Whether the counter is closed, so that no ticket is issued (1).",
            self.closed.into(),
        )?;
        text.gauge(
            "epoch",
            "How many times the counter has been opened, including its creation.",
            status.memory.epoch.number,
        )?;
        text.gauge(
            "waiting_requests",
            "Requests waiting for tickets.",
            status.waiting as u64,
        )?;
        text.gauge(
            "reserve_tickets",
            "Tickets reserved but not yet issued.",
            status.reserve,
        )?;
        if let Some(last) = status.last_issued.and_then(|base| numbering.ticket(base)) {
            text.gauge(
                "last_ticket",
                "The last ticket issued, as far as this process knows; exact up to 2^53.",
                last,
            )?;
        }
        if let Some(counter) = status.counter {
            let ceilings = [
                ("2^53", limits::SAFE_INTEGER_MAX),
                ("2^63", i64::MAX as u64),
                ("2^64", u64::MAX),
            ];
            let headroom = |(name, ceiling)| {
                let left = numbering.headroom(counter, ceiling);
                ([("ceiling", name)], left)
            };
            text.gauges(
                "headroom_tickets",
                "Tickets that this node has left below each ceiling.",
                ceilings.map(headroom),
            )?;
        }
        text.gauges(
            "node_info",
            "The settings that can never change.",
            [(
                [
                    ("node_number", numbering.node_number()),
                    ("max_nodes", numbering.max_nodes()),
                    ("starting_offset", numbering.starting_offset()),
                ],
                1,
            )],
        )
    }

    fn encode_database(&self, text: &mut Text<'_>) -> fmt::Result {
        let Scrape {
            database, status, ..
        } = self;
        text.gauge(
            "database_up",
            "Whether the database responds and can reserve tickets (1) or not (0).",
            status.database_up.into(),
        )?;
        text.gauge(
            "database_hung_threads",
            "Database threads that hang and were abandoned.",
            status.hung as u64,
        )?;
        text.gauge(
            "database_warnings",
            "Database settings that weaken a promise; the log names them.",
            self.warnings,
        )?;
        database.durations.encode(
            text.descriptor(
                "reservation_duration_seconds",
                "Time to reserve a block, including the hand-over to its worker.",
                MetricType::Histogram,
            )?,
            NANOSECONDS_PER_SECOND,
        )?;
        database.sizes.encode(
            text.descriptor(
                "reservation_tickets",
                "Tickets in each block that was reserved.",
                MetricType::Histogram,
            )?,
            1.0,
        )?;
        text.counters(
            "database_errors_total",
            "Failed database operations, by class of error.",
            database
                .errors
                .iter()
                .map(|(class, count)| ([("class", *class)], *count)),
        )?;
        text.counter(
            "database_reconnects_total",
            "Database connections opened to replace a lost one.",
            database.reconnects,
        )
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut text = Text(encoder);
        self.encode_http(&mut text)?;
        self.encode_tickets(&mut text)?;
        self.encode_database(&mut text)?;
        text.gauges(
            "build_info",
            "The version of the program.",
            [([("version", env!("CARGO_PKG_VERSION"))], 1)],
        )
    }
}

/// Numbers by size, in buckets.
#[derive(Clone, Debug)]
struct Histogram {
    bounds: &'static [u64; BOUNDS],
    counts: [u64; BOUNDS + 1],
    sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [u64; BOUNDS]) -> Histogram {
        Histogram {
            bounds,
            counts: [0; BOUNDS + 1],
            sum: 0.0,
        }
    }

    fn observe(&mut self, value: u64) {
        let within = self.bounds.iter().position(|bound| value <= *bound);
        self.counts[within.unwrap_or(BOUNDS)] += 1;
        self.sum += value as f64;
    }

    fn observe_duration(&mut self, duration: Duration) {
        self.observe(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    fn encode(&self, mut encoder: MetricEncoder<'_>, unit: f64) -> fmt::Result {
        let bounds = self.bounds.iter().map(|bound| *bound as f64 / unit);
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(self.counts).collect();
        let count = self.counts.iter().sum();
        encoder.encode_histogram::<NoLabelSet>(self.sum / unit, count, &buckets, None)
    }
}

/// Writes families of numbers.
///
/// The library speaks OpenMetrics, which adds `_total` to a counter only behind its family's
/// name; Prometheus's own format knows one name. So all numbers are written as gauges are, under
/// the type that they have.
struct Text<'a>(DescriptorEncoder<'a>);

impl Text<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.descriptor(name, help, MetricType::Counter)?
            .encode_gauge(&value)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.descriptor(name, help, MetricType::Gauge)?
            .encode_gauge(&value)
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        encode_each(self.descriptor(name, help, MetricType::Counter)?, values)
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        encode_each(self.descriptor(name, help, MetricType::Gauge)?, values)
    }

    fn descriptor<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }
}

fn encode_each<L: EncodeLabelSet>(
    mut encoder: MetricEncoder<'_>,
    values: impl IntoIterator<Item = (L, u64)>,
) -> fmt::Result {
    for (labels, value) in values {
        encoder.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_is_within_it() {
        let mut histogram = Histogram::new(&SIZES);
        for value in [1, 2, 3, 5, 10_000_000, 10_000_001] {
            histogram.observe(value);
        }
        let mut expected = [0; BOUNDS + 1];
        (expected[0], expected[1], expected[2]) = (1, 1, 2);
        (expected[BOUNDS - 1], expected[BOUNDS]) = (1, 1);
        assert_eq!(histogram.counts, expected);
        assert_eq!(histogram.sum, 20_000_012.0);
    }

    #[test]
    fn a_worker_reconnects_only_after_its_first_session() {
        let mut database = DatabaseMetrics::default();
        for worker in [0, 1, 0, 1, 1] {
            database.opened(worker);
        }
        assert_eq!(database.reconnects, 3);
    }
}
