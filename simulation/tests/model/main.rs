//! The modelled MySQL of the simulator, held against real servers: the same random statements, by
//! the shipped code of `tickr::database` and by other programs, must get the same answers and leave
//! the same row. `MODEL_SEED` repeats a run; `MODEL_HISTORIES` (50) says how long it is.
//!
//! What the simulator proves, it proves for `simulation/src/database.rs`; here that is tested.

mod play;
mod site;

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use tickr_simulation::tape::{expand, shrink};

use self::play::Play;
use self::site::Site;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds(per_hundred: u64) -> std::ops::Range<u64> {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH);
    let first = number("MODEL_SEED").unwrap_or_else(|| clock().map_or(1, |time| time.as_secs()));
    let histories = number("MODEL_HISTORIES").unwrap_or(50);
    first..first + (histories * per_hundred).div_ceil(100)
}

/// Two connections to one server, with and without the privilege to write to a read-only one, and
/// everybody else who touches the row.
#[test]
fn one_server_says_and_does_what_the_model_does() {
    let mut site = Site::start(1);
    let mut steps = 0;
    for seed in seeds(100) {
        let tape = expand(seed);
        let mut play = Play::new(&tape, &mut site);
        let found = play.run();
        steps += play.trace.len();
        if found.is_err() {
            let shared = RefCell::new(&mut site);
            let fails = |tape: &[u8]| Play::new(tape, &mut shared.borrow_mut()).run().is_err();
            let small = shrink(tape, fails);
            let mut play = Play::new(&small, &mut site);
            let found = play.run();
            panic!(
                "MODEL_SEED={seed} repeats it: {found:?}\n{}",
                play.trace.join("\n")
            );
        }
    }
    println!("{steps} steps on one server");
}

/// A primary and a replica, which is promoted with all or with a part of what was committed, again
/// and again, in each format of the binary log.
#[test]
fn a_promoted_replica_has_a_row_that_the_model_has() {
    let mut site = Site::start(2);
    let mut steps = 0;
    for seed in seeds(10) {
        let tape = expand(seed);
        let mut play = Play::new(&tape, &mut site);
        let found = play.run();
        steps += play.trace.len();
        if let Err(found) = found {
            panic!(
                "MODEL_SEED={seed} repeats it: {found}\n{}",
                play.trace.join("\n")
            );
        }
    }
    println!("{steps} steps on a primary and a replica");
}
