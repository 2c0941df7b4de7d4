//! The hunt: real processes on real databases under every fault that can be thought of, and each
//! ticket that anybody got is looked at. `HUNT_SECONDS` and `HUNT_SEED` say how long, and which;
//! `HUNT_GROUND` says where: on `nodes` or on `replication`, else first on one, then on the other.
//!
//! It runs for a short while within `cargo test`; `make hunt` makes it long, and `make galera`
//! holds it on a synchronous cluster. It ends with exit code 1 when a ticket was given twice, out
//! of order or off its node's arithmetic, when one was given that was not committed, or when
//! tickets do not come again after a fault.

use std::collections::hash_map::RandomState;
use std::env;
use std::error::Error;
use std::hash::BuildHasher;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tickr::ticket::Numbering;

use crate::client::Targets;
use crate::galera::Cluster;
use crate::node::Node;
use crate::process::Outcome;
use crate::random::Random;
use crate::record::{NodeRecord, Record};
use crate::replication::Pair;

mod client;
#[path = "../tickr/dialect.rs"]
mod dialect;
mod galera;
mod node;
mod process;
mod proxy;
mod random;
mod record;
mod replication;

const NODES: u64 = 2;
const CLIENTS_PER_NODE: usize = 4;
const STARTING_OFFSET: u64 = 54_313_001;
const SECONDS: u64 = 20;
/// Recovery should take less than this.
const RECOVERY_MARK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // `cargo test NAME` runs only tests of that name.
    let names: Vec<String> = env::args()
        .skip(1)
        .filter(|name| !name.starts_with('-'))
        .collect();
    let is_named = |name: &str| names.iter().any(|asked| asked == name);
    let grounds: &[Ground] = if is_named("galera") {
        &[Ground::Galera]
    } else if names.is_empty() || names.iter().any(|name| "hunt".contains(name.as_str())) {
        match env::var("HUNT_GROUND").unwrap_or_default().as_str() {
            "nodes" => &[Ground::Nodes],
            "replication" => &[Ground::Replication],
            "" => &[Ground::Nodes, Ground::Replication],
            other => panic!("HUNT_GROUND must be nodes or replication, and is {other:?}"),
        }
    } else {
        return ExitCode::SUCCESS;
    };
    let seconds = number("HUNT_SECONDS").unwrap_or(SECONDS) / grounds.len() as u64;
    let seed = number("HUNT_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    for &ground in grounds {
        println!("hunting on {ground:?} for {seconds} s with seed {seed}");
        match hunt(ground, Duration::from_secs(seconds), seed) {
            Ok(true) => {}
            Ok(false) => {
                let rule = ground.rule();
                println!("again: make {rule} HUNT_SECONDS={seconds} HUNT_SEED={seed}");
                return ExitCode::FAILURE;
            }
            Err(error) => {
                println!("the hunt could not be held: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Where the hunt is held.
#[derive(Clone, Copy, Debug)]
enum Ground {
    /// On independent nodes, each with a database of its own.
    Nodes,
    /// On one node number, with a primary that fails over to its replica and back.
    Replication,
    /// On one node number, with a database that is a cluster.
    Galera,
}

impl Ground {
    fn rule(self) -> &'static str {
        match self {
            Ground::Nodes => "hunt HUNT_GROUND=nodes",
            Ground::Replication => "hunt HUNT_GROUND=replication",
            Ground::Galera => "galera",
        }
    }

    fn nodes(self) -> u64 {
        match self {
            Ground::Nodes => NODES,
            Ground::Replication | Ground::Galera => 1,
        }
    }
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, and is {value:?}")),
    )
}

/// Hunts, and says what was found; false when that was a violation.
fn hunt(ground: Ground, duration: Duration, seed: u64) -> Result<bool, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut random = Random::new(seed);
    let record = Arc::new(Record::new());
    let mut all = Vec::new();
    for number in 0..ground.nodes() {
        let numbering =
            Numbering::new(NODES, STARTING_OFFSET, number).map_err(|e| e.to_string())?;
        let targets = Targets::new(NodeRecord::new(numbering), Arc::clone(&record));
        all.push((Arc::new(targets), random.fork()));
    }
    let began = Instant::now();
    thread::scope(|scope| {
        for (targets, random) in &mut all {
            for _ in 0..CLIENTS_PER_NODE {
                let (targets, random) = (Arc::clone(targets), random.fork());
                scope.spawn(move || targets.run_client(random));
            }
        }
        let nodes: Vec<_> = all
            .iter_mut()
            .map(|(targets, random)| {
                let (targets, random, folder) = (Arc::clone(targets), random.fork(), folder.path());
                scope.spawn(move || {
                    if let Err(error) = run(ground, folder, &targets, random, duration) {
                        let number = targets.node.numbering.node_number();
                        targets
                            .record
                            .violation(format_args!("node {number}: {error}"));
                    }
                })
            })
            .collect();
        for node in nodes {
            if node.join().is_err() {
                record.violation("a thread of the hunt panicked");
            }
        }
        record.stop();
    });
    report(
        &record,
        all.iter().map(|(targets, _)| &targets.node),
        began.elapsed(),
    );
    Ok(record.violations().is_empty())
}

fn run(
    ground: Ground,
    folder: &Path,
    targets: &Arc<Targets>,
    random: Random,
    duration: Duration,
) -> Outcome {
    let targets = Arc::clone(targets);
    match ground {
        Ground::Nodes => {
            let mut node = Node::start(folder, targets, random)?;
            node.run(Instant::now() + duration)?;
            node.stop()
        }
        Ground::Replication => {
            let mut pair = Pair::start(folder, targets, random)?;
            pair.run(Instant::now() + duration)?;
            pair.stop()
        }
        Ground::Galera => {
            let mut cluster = Cluster::start(folder, targets, random)?;
            cluster.run(Instant::now() + duration)?;
            cluster.stop()
        }
    }
}

fn report<'a>(record: &Record, nodes: impl Iterator<Item = &'a NodeRecord>, took: Duration) {
    println!("\n{:>12}  seconds", took.as_secs());
    let mut recoveries = Vec::new();
    let mut total = 0;
    for node in nodes {
        let (tickets, gaps) = node.count_and_gaps();
        total += tickets;
        println!(
            "{tickets:>12}  tickets of {}; {gaps} in gaps",
            node.numbering
        );
        for (count, what) in [
            (&node.answers, "answers with tickets"),
            (&node.refusals, "answers of 503"),
            (&node.lost, "connections lost with answers under way"),
        ] {
            println!("{:>12}  {what}", count.load(Ordering::Relaxed));
        }
        recoveries.extend(node.recoveries());
    }
    println!("{total:>12}  tickets in all");
    for (kind, count) in record.faults() {
        println!("{count:>12}  {kind}");
    }
    recoveries.sort_unstable();
    if let Some(slowest) = recoveries.last() {
        let late = recoveries.iter().filter(|&&took| took >= RECOVERY_MARK);
        println!(
            "{:>9} ms  slowest of {} recoveries, from \"MySQL answers\" to the first ticket; \
             {} took {} s or more",
            slowest.as_millis(),
            recoveries.len(),
            late.count(),
            RECOVERY_MARK.as_secs()
        );
    }
    let violations = record.violations();
    println!("{:>12}  violations", violations.len());
    for violation in violations {
        println!("\nVIOLATION: {violation}");
    }
}
