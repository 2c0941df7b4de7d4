//! What `Client::next` costs beside an atomic addition and a mutex, in the same run: `make
//! bench-client`. A server of the benchmark's own issues the tickets, on the same processors.

use std::env;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tickr::Client;
use tickr::client::ServerUrl;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(400);
/// Between two looks at the clock.
const BATCH: u32 = 1_000;
/// Rows of the table.
const THREADS: [usize; 3] = [1, 2, 8];
/// The goal: at one thread, so many times what an atomic addition takes.
const RATIO_MAX: f64 = 3.0;

fn main() -> ExitCode {
    // `cargo test --benches` only wants to know whether it works.
    let is_test = !env::args().any(|argument| argument == "--bench");
    let (rounds, round) = match is_test {
        true => (1, Duration::from_millis(10)),
        false => (ROUNDS, ROUND),
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tickr.sock");
    serve(&path);
    let client = Client::with_options([ServerUrl::unix(&path)], Default::default());
    let client = client.expect("a client");
    let (atomic, mutex) = (AtomicU64::new(0), Mutex::new(0_u64));
    let by_atomic = || atomic.fetch_add(1, Ordering::Relaxed);
    let by_mutex = || {
        let mut next = mutex.lock().expect("nobody panics");
        *next += 1;
        *next
    };
    let by_client = || client.next().expect("the server is there");
    // What asking the kernel in every call, for forks, would cost by itself.
    let process_id = || u64::from(process::id());

    println!("million a second, median of {rounds}; ns for each at one thread below");
    println!("threads   atomic    mutex   client  process::id");
    let mut table = Vec::new();
    for threads in THREADS {
        let mut rates: [Vec<f64>; 4] = Default::default();
        for _ in 0..rounds {
            rates[0].push(measure(threads, round, by_atomic));
            rates[1].push(measure(threads, round, by_mutex));
            rates[2].push(measure(threads, round, by_client));
            rates[3].push(measure(threads, round, process_id));
        }
        let row = rates.map(median);
        let [atomic, mutex, client, id] = row.map(|rate| rate / 1e6);
        println!("{threads:7} {atomic:8.1} {mutex:8.1} {client:8.1} {id:12.1}");
        table.push(row);
    }
    let [atomic, mutex, client, id] = table[0].map(|rate| 1e9 / rate);
    println!("     ns {atomic:8.1} {mutex:8.1} {client:8.1} {id:12.1}");
    let ratio = client / atomic;
    let slowest = table[1..].iter().map(|row| row[2] / table[0][2]);
    let slowest = slowest.fold(f64::INFINITY, f64::min);
    println!("one thread: {ratio:.2} x an atomic addition (goal: at most {RATIO_MAX})");
    println!("more threads: at least {slowest:.2} x the rate of one (goal: at least 1)");
    match is_test || (ratio <= RATIO_MAX && slowest >= 1.0) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// How many a second, all threads together.
fn measure(threads: usize, round: Duration, work: impl Fn() -> u64 + Sync) -> f64 {
    let (start, over) = (Barrier::new(threads + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let mut done = 0_u64;
                    while !over.load(Ordering::Relaxed) {
                        for _ in 0..BATCH {
                            black_box(work());
                        }
                        done += u64::from(BATCH);
                    }
                    done
                })
            })
            .collect();
        start.wait();
        let begun = Instant::now();
        thread::sleep(round);
        over.store(true, Ordering::Relaxed);
        let done = workers
            .into_iter()
            .map(|worker| worker.join().expect("it works"));
        let done: u64 = done.sum();
        done as f64 / begun.elapsed().as_secs_f64()
    })
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn serve(path: &Path) {
    let listener = UnixListener::bind(path).expect("a free path");
    let issued = Arc::new(AtomicU64::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let issued = Arc::clone(&issued);
            thread::spawn(move || answer(stream, &issued));
        }
    });
}

fn answer(mut stream: UnixStream, issued: &AtomicU64) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let request = String::from_utf8_lossy(&buffer[..length]);
        let count = request.split(['/', '?']).nth(3).expect("a count");
        let count: u64 = count.parse().expect("a number");
        let first = issued.fetch_add(count, Ordering::Relaxed);
        let body = format!(r#"{{"first":{first},"increment":1,"count":{count}}}"#);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}
