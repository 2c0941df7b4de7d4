//! `make explore`: every history of two servers, two processes and an operator, to a depth.

use std::process::ExitCode;
use std::time::Instant;

use tickr_simulation::explorer::{CHAPTERS, explore};

/// From each chapter; all of them together take less than two minutes on two processors.
const DEPTH: usize = 7;

fn main() -> ExitCode {
    let depth = std::env::var("EXPLORE_DEPTH").ok();
    let depth = depth.and_then(|depth| depth.parse().ok()).unwrap_or(DEPTH);
    let mut held = false;
    for chapter in CHAPTERS {
        let began = Instant::now();
        let report = explore(chapter, depth);
        println!("{chapter:?}: new states at each depth {:?}", report.levels);
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
        if let Some(depth) = report.held_at {
            println!("fail-over, advance and fail-back with a block in flight at depth {depth}");
            held |= depth < report.depth;
        }
    }
    if !held {
        println!("fail-over, advance and fail-back with a block in flight: not deep enough");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
