//! `make simulate`: histories from seeds, as many as fit into the time, on every processor. An even
//! seed is a history of allocators, an odd one of whole nodes.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tickr_simulation::checker::broken;
use tickr_simulation::counts::{Counts, EXPECTED, EXPECTED_OF_NODES};
use tickr_simulation::history::History;
use tickr_simulation::tape::{expand, shrink};
use tickr_simulation::{node_world, world};

/// Of so many histories, one of each world is run twice.
const ONCE_IN: u64 = 1_000;

/// Runs a tape in the world that the seed names by its lowest bit.
fn history(seed: u64, tape: &[u8], traced: bool) -> History {
    let run = match seed % 2 {
        0 => world::history,
        _ => node_world::history,
    };
    let mut one = run(tape, traced);
    if seed % ONCE_IN < 2 && one.verdict.is_ok() {
        let (was, is) = (one.record.digest, run(tape, false).record.digest);
        if was != is {
            let digests = format!("{was:016x}, then {is:016x}");
            one.verdict = broken("the same history again", digests);
        }
    }
    one
}

#[derive(Default)]
struct Sum {
    /// Among allocators, and among nodes.
    histories: [u64; 2],
    steps: u64,
    advances: [[u64; 16]; 2],
    counts: [Counts; 2],
    /// Of all histories: the same for the same seeds, in whatever order they were run.
    digests: [u64; 2],
    failed: Option<u64>,
}

fn main() -> ExitCode {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    // A panic of the allocator is a finding, not a message.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(seed) = number("SIMULATE_SEED") {
        return replay(seed);
    }
    // To compare the same histories before and after a change.
    let histories = number("SIMULATE_HISTORIES");
    let seconds =
        number("SIMULATE_SECONDS").unwrap_or(if histories.is_some() { 3_600 } else { 60 });
    let base = number("SIMULATE_FROM").unwrap_or_else(|| {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH);
        clock.map_or(1, |time| time.as_secs()) << 24
    });
    let (next, stop) = (AtomicU64::new(base), AtomicBool::new(false));
    let end = histories.map_or(u64::MAX, |histories| base + histories);
    let until = Instant::now() + Duration::from_secs(seconds);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut sum = Sum::default();
    std::thread::scope(|scope| {
        let work = || search(&next, &stop, end, until);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            let part = thread.join().expect("a search ends");
            sum.steps += part.steps;
            for world in 0..2 {
                sum.digests[world] = sum.digests[world].wrapping_add(part.digests[world]);
                sum.histories[world] += part.histories[world];
                sum.counts[world].add(&part.counts[world]);
            }
            sum.failed = sum.failed.or(part.failed);
            let all = sum.advances.as_flattened_mut().iter_mut();
            for (all, own) in all.zip(part.advances.as_flattened()) {
                *all += own;
            }
        }
    });
    for (world, name) in ["allocators", "nodes"].iter().enumerate() {
        println!("{name}:");
        for (name, count) in sum.counts[world].clone().sorted() {
            println!("{count:>12} {name}");
        }
        let advances = sum.advances[world];
        println!("advances until everybody served: {advances:?}");
    }
    let ([allocators, nodes], [first, second]) = (sum.histories, sum.digests);
    println!(
        "{} histories ({allocators} of allocators, {nodes} of nodes), {} steps, \
         digests {first:016x} and {second:016x}",
        allocators + nodes,
        sum.steps,
    );
    if let Some(seed) = sum.failed {
        return replay(seed);
    }
    let [allocators, nodes] = &sum.counts;
    let mut missing = allocators.missing(EXPECTED);
    missing.extend(nodes.missing(EXPECTED_OF_NODES));
    if !missing.is_empty() {
        println!("never entered: {missing:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn search(next: &AtomicU64, stop: &AtomicBool, end: u64, until: Instant) -> Sum {
    let mut sum = Sum::default();
    while !stop.load(Ordering::Relaxed) && Instant::now() < until {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            break;
        }
        let one = history(seed, &expand(seed), false);
        let world = (seed % 2) as usize;
        sum.histories[world] += 1;
        sum.steps += one.record.steps;
        sum.digests[world] = sum.digests[world].wrapping_add(one.record.digest);
        sum.advances[world][one.advances.min(15)] += 1;
        sum.counts[world].add(&one.record.counts);
        if one.verdict.is_err() {
            sum.failed = Some(seed);
            stop.store(true, Ordering::Relaxed);
        }
    }
    sum
}

/// Runs the history of one seed, and shows the smallest that breaks the same law.
fn replay(seed: u64) -> ExitCode {
    let tape = expand(seed);
    let whole = history(seed, &tape, false);
    let Err(violation) = whole.verdict else {
        println!("seed {seed}: lawful, digest {:016x}", whole.record.digest);
        return ExitCode::SUCCESS;
    };
    let breaks_it = |tape: &[u8]| {
        let other = history(seed, tape, false).verdict;
        other.is_err_and(|other| other.law == violation.law)
    };
    let small = history(seed, &shrink(tape, breaks_it), true);
    for line in small.record.trace.iter().flatten() {
        println!("{line}");
    }
    let found = small.verdict.expect_err("it still breaks the law");
    println!("VIOLATION {}: {}", found.law, found.detail);
    println!("SIMULATE_SEED={seed} repeats it");
    ExitCode::FAILURE
}
