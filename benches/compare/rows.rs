//! The table: each row is the same work on Tickr and on a peer, in turn, so that a change in what
//! else the machine does hits both.

use std::fs;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tickr::database::local::{LocalOptions, LocalServer};

use crate::Outcome;
use crate::bench::Bench;
use crate::load::{self, By, Figures, Idle, Load, Slow};
use crate::machine;
use crate::peers::{self, Nginx, Prefetch, Reservations, TICKR, Tickr};
use crate::report::{Mark, Row, Unit, median};

/// As it comes, without a setting touched.
const SINGLES: [usize; 8] = [1, 2, 4, 8, 16, BUSY_CLIENTS, 256, 1024];
/// Tickets in a batch, clients, and whether they come over a Unix socket.
const BATCHES: [(usize, usize, bool); 7] = [
    (100, 8, false),
    (1_000, 8, false),
    (100_000, 8, false),
    (100_000, BUSY_CLIENTS, false),
    (1_000_000, 8, false),
    (1_000_000, BUSY_CLIENTS, false),
    (100_000, 8, true),
];
const STRICT: &str = "singles, 1 client, strict, median";
const PROCESSOR: &str = "processor time a single, 64 clients";
const SLOW_READER: &str = "memory for a slow reader of 1000000";
const BESIDE_IDLE: &str = "64 clients beside 10000 idle ones";
const BESIDE_SLOW: &str = "64 clients beside 10000 slow ones";
const IDLE_MEMORY: &str = "memory an idle connection";
const AT_REST: &str = "memory at rest";
const AFTER_BURST: &str = "memory kept after a burst of 1024 clients, and of large batches";
const START_UP: &str = "start-up to the first ticket";
const BINARY: &str = "binary";

const SINGLE: &str = "/tickets/create";
const IDLE_CONNECTIONS: usize = 10_000;
/// So many trickle a request, and as many never read their answer.
const SLOW_CONNECTIONS_EACH: usize = 5_000;
const BUSY_CLIENTS: usize = 64;
const PIPELINE_DEPTH: usize = 16;
const SLOW_READ: Duration = Duration::from_millis(1500);
const KIBIBYTE: f64 = 1024.0;
const MEBIBYTE: f64 = 1024.0 * 1024.0;
/// Tells how fast Redis is, so that it can be given work for as long as a run takes.
const REDIS_TRIAL_REQUESTS: u64 = 10_000;
/// Commits whose share of the binary log is measured.
const LOGGED_COMMITS: u64 = 1_000;

/// One side of a row.
type Contender<'a> = &'a mut dyn FnMut() -> Outcome<Figures>;
/// What measures some rows.
type Measure = Box<dyn Fn(&mut Bench) -> Outcome<Vec<Row>>>;

fn singles_work(clients: usize, kind: &str) -> String {
    let plural = if clients == 1 { "" } else { "s" };
    format!("singles, {clients} client{plural}{kind}")
}

fn batches_work(tickets: usize, clients: usize, unix: bool) -> String {
    format!("batches of {tickets}, {clients} clients{}", over(unix))
}

fn over(unix: bool) -> &'static str {
    if unix { ", Unix" } else { "" }
}

/// Measures every row whose name holds the text.
pub(crate) fn measure(bench: &mut Bench, only: &str) -> Outcome<Vec<Row>> {
    let mut all: Vec<(Vec<String>, Measure)> = Vec::new();
    let mut add = |works: &[&str], measure: Measure| {
        let works = works.iter().map(|&work| work.to_owned());
        all.push((works.collect(), measure));
    };
    for unix in [false, true] {
        for clients in SINGLES {
            let work = singles_work(clients, over(unix));
            let also = (clients == BUSY_CLIENTS && !unix).then_some(PROCESSOR);
            let works: Vec<&str> = [work.as_str()].into_iter().chain(also).collect();
            add(&works, Box::new(move |bench| singles(bench, clients, unix)));
        }
    }
    for unix in [false, true] {
        let work = singles_work(BUSY_CLIENTS, &format!(", 16 deep{}", over(unix)));
        add(
            &[&work.clone()],
            Box::new(move |bench| pipelined(bench, &work, unix)),
        );
    }
    for (tickets, clients, unix) in BATCHES {
        let work = batches_work(tickets, clients, unix);
        add(
            &[&work],
            Box::new(move |bench| batches(bench, tickets, clients, unix)),
        );
    }
    for percent in [50, 80] {
        let works = open_works(percent);
        let works: Vec<&str> = works.iter().map(String::as_str).collect();
        add(&works, Box::new(move |bench| open(bench, percent)));
    }
    for (clients, marks) in [(256, (0.9, 1.4)), (BUSY_CLIENTS, (0.55, 1.0))] {
        let work = singles_work(clients, ", strict");
        add(
            &[&work.clone()],
            Box::new(move |bench| strict(bench, &work, clients, marks)),
        );
    }
    add(&[STRICT], Box::new(one_client));
    for clients in [1, 8, BUSY_CLIENTS] {
        let work = format!("reservations with conditions, {clients} at once");
        add(
            &[&work.clone()],
            Box::new(move |bench| conditions(bench, &work, clients)),
        );
    }
    for format in ["MIXED", "ROW", "STATEMENT"] {
        let work = format!("binary log a commit, format {format}");
        add(
            &[&work.clone()],
            Box::new(move |bench| binary_log(bench, &work, format)),
        );
    }
    add(
        &[SLOW_READER, AT_REST, AFTER_BURST, START_UP, BINARY],
        Box::new(memory),
    );
    add(&[BESIDE_IDLE, IDLE_MEMORY], Box::new(idle));
    add(&[BESIDE_SLOW], Box::new(slow));
    let mut rows = Vec::new();
    for (works, measure) in all {
        if works.iter().any(|work| work.contains(only)) {
            eprintln!("measuring: {}", works.join("; "));
            rows.extend(measure(bench)?);
        }
    }
    Ok(rows)
}

fn strict(
    bench: &mut Bench,
    work: &str,
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
        work: work.to_owned(),
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

fn singles(bench: &mut Bench, clients: usize, unix: bool) -> Outcome<Vec<Row>> {
    let load = Load::new(clients, bench.plan.seconds).over_unix(unix);
    let nginx = bench.better_nginx(SINGLE, load)?;
    bench.warm_up(&bench.tickr, SINGLE, load)?;
    let [tickr, peer] = alternate(
        bench.plan.pairs,
        [
            &mut || bench.on_tickr(&bench.tickr, SINGLE, load),
            &mut || bench.on_nginx(nginx, SINGLE, load),
        ],
    )?;
    let mut rows = vec![Row {
        work: singles_work(clients, over(unix)),
        unit: Unit::RequestsPerSecond,
        tickr: rates(&tickr),
        peer: Some((name(nginx), rates(&peer))),
        mark: Mark::RatioAtLeast(1.0),
    }];
    if clients == BUSY_CLIENTS && !unix {
        rows.push(Row {
            work: PROCESSOR.to_owned(),
            unit: Unit::Seconds,
            tickr: each(&tickr, |run| run.cpu_seconds),
            peer: Some((name(nginx), each(&peer, |run| run.cpu_seconds))),
            mark: Mark::RatioAtMost(1.0),
        });
    }
    Ok(rows)
}

/// How long requests take that come at a fixed rate: a share of what Tickr can do for the same
/// client.
fn open(bench: &mut Bench, percent: u32) -> Outcome<Vec<Row>> {
    let at = |rate| Load {
        by: By::Ours { unix: false, rate },
        // The longest of a thousand must be some dozens.
        ..Load::new(BUSY_CLIENTS, 2 * bench.plan.seconds)
    };
    bench.warm_up(&bench.tickr, SINGLE, at(None))?;
    let most = (0..3).map(|_| bench.on_tickr(&bench.tickr, SINGLE, at(None)));
    let most: Vec<Figures> = most.collect::<Outcome<_>>()?;
    let rate = median(rates(&most).into_iter()) * f64::from(percent) / 100.0;
    let load = at(Some(rate));
    let nginx = bench.better_nginx(SINGLE, load)?;
    let [tickr, peer] = alternate(
        bench.plan.pairs,
        [
            &mut || bench.on_tickr(&bench.tickr, SINGLE, load),
            &mut || bench.on_nginx(nginx, SINGLE, load),
        ],
    )?;
    let peer_name = format!("{} at {}", name(nginx), Unit::RequestsPerSecond.show(rate));
    let [p50, p99, p999, processor] = open_works(percent);
    let row = |work, mark, seconds: fn(&Figures) -> f64| Row {
        work,
        unit: Unit::Seconds,
        tickr: each(&tickr, seconds),
        peer: Some((peer_name.clone(), each(&peer, seconds))),
        mark,
    };
    let goal = match percent {
        50 => Mark::RatioAtMost(1.2),
        _ => Mark::None,
    };
    Ok(vec![
        row(p50, Mark::None, |run| run.median_seconds),
        row(p99, Mark::None, |run| run.p99_seconds),
        row(p999, goal, |run| run.p999_seconds),
        row(processor, Mark::None, |run| run.cpu_seconds),
    ])
}

fn open_works(percent: u32) -> [String; 4] {
    ["p50", "p99", "p99.9", "processor time a single"]
        .map(|which| format!("{which} at {percent} % of the highest rate"))
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
    Ok(vec![Row {
        work: STRICT.to_owned(),
        unit: Unit::Seconds,
        tickr: each(&tickr, |run| run.median_seconds),
        peer: Some((
            "bare UPDATE".to_owned(),
            each(&peer, |run| run.median_seconds),
        )),
        mark: Mark::RatioAtMost(1.15),
    }])
}

fn pipelined(bench: &mut Bench, work: &str, unix: bool) -> Outcome<Vec<Row>> {
    let load = Load {
        depth: PIPELINE_DEPTH,
        ..Load::new(BUSY_CLIENTS, bench.plan.seconds).over_unix(unix)
    };
    let nginx = bench.better_nginx(SINGLE, load)?;
    let static_reply = format!("http://{}/", bench.static_reply);
    bench.warm_up(&bench.tickr, SINGLE, load)?;
    let [tickr, peer, fastest] = alternate(
        bench.plan.pairs,
        [
            &mut || bench.on_tickr(&bench.tickr, SINGLE, load),
            &mut || bench.on_nginx(nginx, SINGLE, load),
            // It listens on TCP alone.
            &mut || match unix {
                true => Ok(Figures::default()),
                false => bench.wrk.run(&static_reply, load, None),
            },
        ],
    )?;
    let row = |peer: String, figures: &[Figures], mark| Row {
        work: work.to_owned(),
        unit: Unit::RequestsPerSecond,
        tickr: rates(&tickr),
        peer: Some((peer, rates(figures))),
        mark: Mark::RatioAtLeast(mark),
    };
    let mut rows = vec![row(name(nginx), &peer, 4.5)];
    if !unix {
        rows.insert(0, row("static reply".to_owned(), &fastest, 0.8));
    }
    Ok(rows)
}

fn batches(bench: &mut Bench, tickets: usize, clients: usize, unix: bool) -> Outcome<Vec<Row>> {
    // Many clients each wait long for the first large batch.
    let seconds = bench.plan.seconds * if clients == BUSY_CLIENTS { 2 } else { 1 };
    let load = Load::new(clients, seconds).over_unix(unix);
    let path = format!("{SINGLE}/{tickets}");
    bench.warm_up(&bench.tickr, &path, load)?;
    let mut stream = TcpStream::connect(bench.tickr.address())?;
    let answer = machine::get(&mut stream, &path)?;
    for nginx in &bench.nginx {
        nginx.set_batch(&path, answer.body())?;
    }
    let nginx = bench.better_nginx(&path, load)?;
    let [tickr, peer] = alternate(
        bench.plan.pairs,
        [
            &mut || bench.on_tickr(&bench.tickr, &path, load),
            &mut || bench.on_nginx(nginx, &path, load),
        ],
    )?;
    Ok(vec![Row {
        work: batches_work(tickets, clients, unix),
        unit: Unit::BytesPerSecond,
        tickr: each(&tickr, |run| run.bytes_rate),
        peer: Some((name(nginx), each(&peer, |run| run.bytes_rate))),
        mark: match tickets {
            100_000.. => Mark::RatioAtLeast(1.0),
            _ => Mark::None,
        },
    }])
}

/// The statement that moves the counter, as the program prepares it, beside one without a
/// condition, on the same row.
fn conditions(bench: &mut Bench, work: &str, connections: usize) -> Outcome<Vec<Row>> {
    let mut with = Reservations::with_conditions(&bench.database, connections)?;
    let mut without = Reservations::without(&bench.database, connections)?;
    let seconds = bench.plan.seconds;
    let [with, without] = alternate(
        bench.plan.pairs,
        [&mut || with.run(seconds), &mut || without.run(seconds)],
    )?;
    Ok(vec![Row {
        work: work.to_owned(),
        unit: Unit::RequestsPerSecond,
        tickr: rates(&with),
        peer: Some(("without".to_owned(), rates(&without))),
        mark: Mark::RatioAtLeast(0.97),
    }])
}

/// What a reservation adds to the binary log, whose format has a name.
fn binary_log(bench: &mut Bench, work: &str, format: &str) -> Outcome<Vec<Row>> {
    let folder = bench.folder.path();
    let mut options = LocalOptions::new(folder.join(format!("mysql-{format}")));
    let format = format!("--binlog-format={format}");
    options.extra_arguments = vec!["--log-bin".to_owned(), format];
    let database = LocalServer::start(options)?;
    Tickr::create_database(&database)?;
    // Nothing but commits moves the log, and one client of strict mode makes one a ticket.
    let tickr = Tickr::start(folder, &database, Prefetch::Off)?;
    let mut stream = TcpStream::connect(tickr.address())?;
    let before = peers::binary_log_bytes(&database)?;
    for _ in 0..LOGGED_COMMITS {
        machine::get(&mut stream, SINGLE)?;
    }
    let grown = peers::binary_log_bytes(&database)? - before;
    Ok(vec![Row {
        work: work.to_owned(),
        unit: Unit::Bytes,
        tickr: vec![grown as f64 / LOGGED_COMMITS as f64],
        peer: None,
        mark: Mark::None,
    }])
}

/// How soon new processes serve, what they hold, how much one grows while a client dawdles over a
/// large batch, and what it keeps once many clients are gone.
fn memory(bench: &mut Bench) -> Outcome<Vec<Row>> {
    let mut start_up = Vec::new();
    let mut at_rest = Vec::new();
    let mut growth = Vec::new();
    let mut kept = Vec::new();
    for _ in 0..bench.plan.pairs {
        let started = Instant::now();
        let tickr = Tickr::start(bench.folder.path(), &bench.database, Prefetch::Default)?;
        start_up.push(started.elapsed().as_secs_f64());
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
        for (path, clients) in [(SINGLE, 1024), ("/tickets/create/100000", BUSY_CLIENTS)] {
            let by = By::Ours {
                unix: false,
                rate: None,
            };
            let load = Load {
                by,
                ..Load::new(clients, 1)
            };
            bench.on_tickr(&tickr, path, load)?;
        }
        let after = machine::settled_private_bytes(tickr.pid())?;
        kept.push(after.saturating_sub(before) as f64);
    }
    let row = |work: &str, tickr, mark| Row {
        work: work.to_owned(),
        unit: Unit::Bytes,
        tickr,
        peer: None,
        mark,
    };
    let binary = fs::metadata(TICKR)?.len() as f64;
    Ok(vec![
        row(SLOW_READER, growth, Mark::AtMost(256.0 * KIBIBYTE)),
        row(AT_REST, at_rest, Mark::AtMost(8.0 * MEBIBYTE)),
        row(AFTER_BURST, kept, Mark::None),
        Row {
            unit: Unit::Seconds,
            ..row(START_UP, start_up, Mark::None)
        },
        row(BINARY, vec![binary], Mark::AtMost(6.0 * MEBIBYTE)),
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
            work: BESIDE_IDLE.to_owned(),
            unit: Unit::RequestsPerSecond,
            tickr: rates(&beside),
            peer: Some(("without them".to_owned(), rates(&alone))),
            mark: Mark::RatioAtLeast(0.95),
        },
        Row {
            work: IDLE_MEMORY.to_owned(),
            unit: Unit::Bytes,
            tickr: memory,
            peer: None,
            mark: Mark::AtMost(KIBIBYTE),
        },
    ])
}

fn slow(bench: &mut Bench) -> Outcome<Vec<Row>> {
    // The server is busy for a while with what thousands have just asked for.
    let load = Load::new(BUSY_CLIENTS, 2 * bench.plan.seconds);
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
        work: BESIDE_SLOW.to_owned(),
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
    each(figures, |run| run.rate)
}

fn each(figures: &[Figures], figure: impl Fn(&Figures) -> f64) -> Vec<f64> {
    figures.iter().map(figure).collect()
}

fn name(nginx: &Nginx) -> String {
    format!("nginx ({})", nginx.workers)
}
