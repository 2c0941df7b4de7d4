//! The table: each row is the same work on Tickr and on a peer, in turn, so that a change in what
//! else the machine does hits both.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use crate::Outcome;
use crate::bench::Bench;
use crate::load::{self, Figures, Idle, Load, Slow};
use crate::machine;
use crate::peers::{Nginx, Prefetch, TICKR, Tickr};
use crate::report::{Mark, Row, Unit};

/// As it comes, without a setting touched.
pub(crate) const SINGLES: [(&str, usize); 8] = [
    ("singles, 1 client", 1),
    ("singles, 2 clients", 2),
    ("singles, 4 clients", 4),
    ("singles, 8 clients", 8),
    ("singles, 16 clients", 16),
    ("singles, 64 clients", BUSY_CLIENTS),
    ("singles, 256 clients", 256),
    ("singles, 1024 clients", 1024),
];
pub(crate) const SINGLES_256: &str = "singles, 256 clients, strict";
pub(crate) const SINGLES_64: &str = "singles, 64 clients, strict";
pub(crate) const SINGLES_1: &str = "singles, 1 client, strict, median";
pub(crate) const PIPELINED: &str = "singles, 64 clients, 16 deep";
pub(crate) const BATCHES: &str = "batches of 100000, 8 clients";
pub(crate) const PROCESSOR: &str = "processor time a single, 64 clients";
const SLOW_READER: &str = "memory for a slow reader of 1000000";
const BESIDE_IDLE: &str = "64 clients beside 10000 idle ones";
const BESIDE_SLOW: &str = "64 clients beside 10000 slow ones";
const IDLE_MEMORY: &str = "memory an idle connection";
const AT_REST: &str = "memory at rest";
const BINARY: &str = "binary";

const SINGLE: &str = "/tickets/create";
const BATCH: &str = "/tickets/create/100000";
const IDLE_CONNECTIONS: usize = 10_000;
/// So many trickle a request, and as many never read their answer.
const SLOW_CONNECTIONS_EACH: usize = 5_000;
const BUSY_CLIENTS: usize = 64;
const PIPELINE_DEPTH: usize = 16;
const BATCH_CLIENTS: usize = 8;
const SLOW_READ: Duration = Duration::from_millis(1500);
const KIBIBYTE: f64 = 1024.0;
const MEBIBYTE: f64 = 1024.0 * 1024.0;
/// Tells how fast Redis is, so that it can be given work for as long as a run takes.
const REDIS_TRIAL_REQUESTS: u64 = 10_000;

/// One side of a row.
type Contender<'a> = &'a mut dyn FnMut() -> Outcome<Figures>;
/// What measures some rows.
type Measure = fn(&mut Bench) -> Outcome<Vec<Row>>;

/// Measures every row whose name holds the text.
pub(crate) fn measure(bench: &mut Bench, only: &str) -> Outcome<Vec<Row>> {
    let singles_names = SINGLES.map(|(work, _)| work);
    let singles_names = [&singles_names[..], &[PROCESSOR]].concat();
    let all: [(&[&str], Measure); 9] = [
        (&singles_names, singles),
        (&[SINGLES_256], |bench| {
            strict(bench, SINGLES_256, 256, (0.9, 1.4))
        }),
        (&[SINGLES_64], |bench| {
            strict(bench, SINGLES_64, BUSY_CLIENTS, (0.55, 1.0))
        }),
        (&[SINGLES_1], one_client),
        (&[PIPELINED], pipelined),
        (&[BATCHES], batches),
        (&[SLOW_READER, AT_REST, BINARY], memory),
        (&[BESIDE_IDLE, IDLE_MEMORY], idle),
        (&[BESIDE_SLOW], slow),
    ];
    let mut rows = Vec::new();
    for (names, measure) in all {
        if names.iter().any(|name| name.contains(only)) {
            eprintln!("measuring: {}", names.join("; "));
            rows.extend(measure(bench)?);
        }
    }
    Ok(rows)
}

fn strict(
    bench: &mut Bench,
    work: &'static str,
    clients: usize,
    (nginx_mark, redis_mark): (f64, f64),
) -> Outcome<Vec<Row>> {
    let load = Load::new(clients, bench.plan.seconds);
    let nginx = bench.better_nginx(SINGLE, load)?;
    let redis = bench.redis.address;
    bench.warm_up(&bench.strict, SINGLE, load)?;
    let trial = load::redis_incr(redis, clients, REDIS_TRIAL_REQUESTS)?;
    let requests = (trial.rate * bench.plan.seconds as f64) as u64;
    let [tickr, peer, redis] = alternate(
        bench.plan.pairs,
        [
            &mut || bench.on_tickr(&bench.strict, SINGLE, load),
            &mut || bench.on_nginx(nginx, SINGLE, load),
            &mut || load::redis_incr(redis, clients, requests),
        ],
    )?;
    let row = |peer: String, figures: &[Figures], mark| Row {
        work,
        unit: Unit::RequestsPerSecond,
        tickr: rates(&tickr),
        peer: Some((peer, rates(figures))),
        mark: Mark::RatioAtLeast(mark),
    };
    Ok(vec![
        row(name(nginx), &peer, nginx_mark),
        row("Redis".to_owned(), &redis, redis_mark),
    ])
}

fn singles(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for (work, clients) in SINGLES {
        let load = Load::new(clients, bench.plan.seconds);
        let nginx = bench.better_nginx(SINGLE, load)?;
        bench.warm_up(&bench.tickr, SINGLE, load)?;
        let [tickr, peer] = alternate(
            bench.plan.pairs,
            [
                &mut || bench.on_tickr(&bench.tickr, SINGLE, load),
                &mut || bench.on_nginx(nginx, SINGLE, load),
            ],
        )?;
        rows.push(Row {
            work,
            unit: Unit::RequestsPerSecond,
            tickr: rates(&tickr),
            peer: Some((name(nginx), rates(&peer))),
            mark: Mark::RatioAtLeast(1.0),
        });
        if clients == BUSY_CLIENTS {
            let seconds = |figures: &[Figures]| figures.iter().map(|run| run.cpu_seconds).collect();
            rows.push(Row {
                work: PROCESSOR,
                unit: Unit::Seconds,
                tickr: seconds(&tickr),
                peer: Some((name(nginx), seconds(&peer))),
                mark: Mark::RatioAtMost(1.0),
            });
        }
    }
    Ok(rows)
}

fn one_client(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let load = Load::new(1, bench.plan.seconds);
    let (pairs, seconds) = (bench.plan.pairs, bench.plan.seconds);
    let mut bare = bench.bare.borrow_mut();
    let [tickr, peer] = alternate(
        pairs,
        [
            &mut || bench.on_tickr(&bench.strict, SINGLE, load),
            &mut || bare.run(seconds),
        ],
    )?;
    let medians = |figures: &[Figures]| figures.iter().map(|run| run.median_seconds).collect();
    Ok(vec![Row {
        work: SINGLES_1,
        unit: Unit::Seconds,
        tickr: medians(&tickr),
        peer: Some(("bare UPDATE".to_owned(), medians(&peer))),
        mark: Mark::RatioAtMost(1.15),
    }])
}

fn pipelined(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let load = Load {
        depth: PIPELINE_DEPTH,
        ..Load::new(BUSY_CLIENTS, bench.plan.seconds)
    };
    let nginx = bench.better_nginx(SINGLE, load)?;
    let static_reply = format!("http://{}/", bench.static_reply);
    bench.warm_up(&bench.tickr, SINGLE, load)?;
    let [tickr, peer, fastest] = alternate(
        bench.plan.pairs,
        [
            &mut || bench.on_tickr(&bench.tickr, SINGLE, load),
            &mut || bench.on_nginx(nginx, SINGLE, load),
            &mut || bench.wrk.run(&static_reply, load, None),
        ],
    )?;
    let row = |peer: String, figures: &[Figures], mark| Row {
        work: PIPELINED,
        unit: Unit::RequestsPerSecond,
        tickr: rates(&tickr),
        peer: Some((peer, rates(figures))),
        mark: Mark::RatioAtLeast(mark),
    };
    Ok(vec![
        row("static reply".to_owned(), &fastest, 0.8),
        row(name(nginx), &peer, 4.5),
    ])
}

fn batches(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let load = Load::new(BATCH_CLIENTS, bench.plan.seconds);
    bench.warm_up(&bench.tickr, BATCH, load)?;
    let mut stream = TcpStream::connect(bench.tickr.address())?;
    let answer = machine::get(&mut stream, BATCH)?;
    for nginx in &bench.nginx {
        nginx.set_batch(answer.body())?;
    }
    let nginx = bench.better_nginx("/batch", load)?;
    let [tickr, peer] = alternate(
        bench.plan.pairs,
        [
            &mut || bench.on_tickr(&bench.tickr, BATCH, load),
            &mut || bench.on_nginx(nginx, "/batch", load),
        ],
    )?;
    let bytes = |figures: &[Figures]| figures.iter().map(|run| run.bytes_rate).collect();
    Ok(vec![Row {
        work: BATCHES,
        unit: Unit::BytesPerSecond,
        tickr: bytes(&tickr),
        peer: Some((name(nginx), bytes(&peer))),
        mark: Mark::RatioAtLeast(1.0),
    }])
}

/// What new processes hold, and how much one grows while a client dawdles over a large batch.
fn memory(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let mut at_rest = Vec::new();
    let mut growth = Vec::new();
    for _ in 0..bench.plan.pairs {
        let tickr = Tickr::start(bench.folder.path(), &bench.database, Prefetch::Default)?;
        at_rest.push(machine::resident_bytes(tickr.pid())? as f64);
        // Pages of the program that are first used now are no memory that the answer takes.
        let before = machine::settled_private_bytes(tickr.pid())?;
        let mut highest = before;
        let path = "/tickets/create/1000000";
        load::read_slowly(tickr.address(), path, SLOW_READ, || {
            highest = highest.max(machine::private_bytes(tickr.pid())?);
            Ok(())
        })?;
        growth.push((highest - before) as f64);
    }
    let row = |work, tickr, most| Row {
        work,
        unit: Unit::Bytes,
        tickr,
        peer: None,
        mark: Mark::AtMost(most),
    };
    let binary = fs::metadata(TICKR)?.len() as f64;
    Ok(vec![
        row(SLOW_READER, growth, 256.0 * KIBIBYTE),
        row(AT_REST, at_rest, 8.0 * MEBIBYTE),
        row(BINARY, vec![binary], 6.0 * MEBIBYTE),
    ])
}

fn idle(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let load = Load::new(BUSY_CLIENTS, bench.plan.seconds);
    // A process of its own, so that no memory of earlier clients is used again.
    let tickr = Tickr::start(bench.folder.path(), &bench.database, Prefetch::Default)?;
    bench.warm_up(&tickr, SINGLE, load)?;
    let mut memory = Vec::new();
    let [beside, alone] = alternate(
        bench.plan.pairs,
        [
            &mut || {
                let before = machine::private_bytes(tickr.pid())?;
                let idle = Idle::open(tickr.address(), IDLE_CONNECTIONS)?;
                if memory.is_empty() {
                    let after = machine::private_bytes(tickr.pid())?;
                    memory.push(after.saturating_sub(before) as f64 / IDLE_CONNECTIONS as f64);
                }
                let figures = bench.on_tickr(&tickr, SINGLE, load);
                drop(idle);
                figures
            },
            &mut || bench.on_tickr(&tickr, SINGLE, load),
        ],
    )?;
    Ok(vec![
        Row {
            work: BESIDE_IDLE,
            unit: Unit::RequestsPerSecond,
            tickr: rates(&beside),
            peer: Some(("without them".to_owned(), rates(&alone))),
            mark: Mark::RatioAtLeast(0.95),
        },
        Row {
            work: IDLE_MEMORY,
            unit: Unit::Bytes,
            tickr: memory,
            peer: None,
            mark: Mark::AtMost(KIBIBYTE),
        },
    ])
}

fn slow(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let load = Load::new(BUSY_CLIENTS, bench.plan.seconds);
    let tickr = Tickr::start(bench.folder.path(), &bench.database, Prefetch::Default)?;
    bench.warm_up(&tickr, SINGLE, load)?;
    let [beside, alone] = alternate(
        bench.plan.pairs,
        [
            &mut || {
                let slow = Slow::open(tickr.address(), SLOW_CONNECTIONS_EACH)?;
                let figures = bench.on_tickr(&tickr, SINGLE, load);
                slow.close()?;
                figures
            },
            &mut || bench.on_tickr(&tickr, SINGLE, load),
        ],
    )?;
    Ok(vec![Row {
        work: BESIDE_SLOW,
        unit: Unit::RequestsPerSecond,
        tickr: rates(&beside),
        peer: Some(("without them".to_owned(), rates(&alone))),
        mark: Mark::RatioAtLeast(0.9),
    }])
}

/// Runs the contenders in turn, A B A B, and gives each one's figures.
fn alternate<const N: usize>(
    pairs: usize,
    mut contenders: [Contender<'_>; N],
) -> Outcome<[Vec<Figures>; N]> {
    let mut figures = [const { Vec::new() }; N];
    for _ in 0..pairs {
        for (run, figures) in contenders.iter_mut().zip(&mut figures) {
            figures.push(run()?);
        }
    }
    Ok(figures)
}

fn rates(figures: &[Figures]) -> Vec<f64> {
    figures.iter().map(|run| run.rate).collect()
}

fn name(nginx: &Nginx) -> String {
    format!("nginx ({})", nginx.workers)
}
