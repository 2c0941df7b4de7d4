//! Full speed for a long time, with an eye on the memory: it must be flat after a minute.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::bench;
use crate::load::{Load, Wrk};
use crate::machine;
use crate::peers::Tickr;

const CLIENTS: usize = 64;
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const TELL_INTERVAL: Duration = Duration::from_secs(10);
const WARM_UP_SECONDS_MAX: u64 = 60;
/// What still counts as flat.
const GROWTH_BYTES_MAX: u64 = 256 * 1024;

/// Runs singles and batches for so many seconds; says whether memory was flat.
pub(crate) fn run(seconds: u64) -> Outcome<bool> {
    let folder = bench::temporary_folder()?;
    let wrk = Wrk::new(folder.path())?;
    let database = bench::start_database(folder.path())?;
    let tickr = Tickr::start(folder.path(), &database, 0)?;
    let warm_up = Duration::from_secs(WARM_UP_SECONDS_MAX.min(seconds / 4));
    let load = Load {
        mixed: true,
        ..Load::new(CLIENTS, seconds)
    };
    let url = tickr.url("/tickets/create");
    let started = Instant::now();
    let mut warm = 0;
    let mut highest = 0;
    let mut told = Duration::ZERO;
    let figures = thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let (wrk, url) = (&wrk, &url);
        scope.spawn(move || {
            let result = wrk.run(url, load, None).map_err(|error| error.to_string());
            // The receiver is gone only when the run has failed already.
            let _ = sender.send(result);
        });
        loop {
            match receiver.recv_timeout(LOOK_INTERVAL) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("wrk is gone".to_owned()),
            }
            let resident = machine::resident_bytes(tickr.pid()).map_err(|e| e.to_string())?;
            if started.elapsed() <= warm_up {
                warm = warm.max(resident);
            }
            highest = highest.max(resident);
            if started.elapsed() >= told + TELL_INTERVAL {
                told = started.elapsed();
                eprintln!("{:4} s: {} KiB", told.as_secs(), resident / 1024);
            }
        }
    })?;
    let growth = highest.saturating_sub(warm);
    println!(
        "{seconds} s at {:.0} requests/s, {CLIENTS} clients, one request in 20 for 1,000 tickets\n\
         resident memory: {} KiB after {} s, at most {} KiB later: {} KiB more (mark: {} KiB)",
        figures.rate,
        warm / 1024,
        warm_up.as_secs(),
        highest / 1024,
        growth / 1024,
        GROWTH_BYTES_MAX / 1024,
    );
    Ok(warm > 0 && growth <= GROWTH_BYTES_MAX)
}
