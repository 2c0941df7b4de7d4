//! `make explore`: every history of two servers, two processes and an operator, to a depth.

use std::process::ExitCode;
use std::time::Instant;

use tickr_simulation::explorer::explore;

/// Holds a fail-over, an `advance`, a fail-back, and what comes after, in under two minutes.
const DEPTH: usize = 10;

fn main() -> ExitCode {
    let depth = std::env::var("EXPLORE_DEPTH").ok();
    let depth = depth.and_then(|depth| depth.parse().ok()).unwrap_or(DEPTH);
    let began = Instant::now();
    let report = explore(depth);
    println!("new states at each depth: {:?}", report.levels);
    println!(
        "{} states, {} steps, depth {}, at most {} runs of tickets, {:.1} s",
        report.states,
        report.steps,
        report.depth,
        report.tickets,
        began.elapsed().as_secs_f32(),
    );
    if let Some((violation, path)) = report.violation {
        println!("VIOLATION {violation}, by: {}", path.join(", "));
        return ExitCode::FAILURE;
    }
    match report.held_at {
        Some(depth) => {
            println!("fail-over, advance and fail-back with a block in flight: depth {depth}");
            ExitCode::SUCCESS
        }
        None => {
            println!("never reached: fail-over, advance and fail-back with a block in flight");
            ExitCode::FAILURE
        }
    }
}
