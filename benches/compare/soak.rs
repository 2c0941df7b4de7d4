//! Full speed for a long time, with an eye on the memory: it must be flat after a minute.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::bench;
use crate::load::{Figures, Load, Wrk};
use crate::machine;
use crate::peers::{Prefetch, Tickr};

const CLIENTS: usize = 64;
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const TELL_INTERVAL: Duration = Duration::from_secs(10);
const WARM_UP_SECONDS_MAX: u64 = 60;
/// What still counts as flat.
const GROWTH_BYTES_MAX: u64 = 256 * 1024;

/// The memory of one Tickr over time.
struct Watch {
    pid: u32,
    started: Instant,
    warm_up: Duration,
    told: Duration,
    /// The most that was resident while it warmed up.
    warm: u64,
    /// The most that was ever resident.
    highest: u64,
}

/// Runs singles and batches for so many seconds; says whether memory was flat.
pub(crate) fn run(seconds: u64) -> Outcome<bool> {
    let folder = bench::temporary_folder()?;
    let wrk = Wrk::new(folder.path())?;
    let database = bench::start_database(folder.path())?;
    let tickr = Tickr::start(folder.path(), &database, Prefetch::Default)?;
    let url = tickr.place.url("/tickets/create");
    let warm_up_seconds = WARM_UP_SECONDS_MAX.min(seconds / 4);
    let mut watch = Watch {
        pid: tickr.pid(),
        started: Instant::now(),
        warm_up: Duration::from_secs(warm_up_seconds),
        told: Duration::ZERO,
        warm: 0,
        highest: 0,
    };
    // The driver gives a session a buffer of 4 MiB and walks through it once, by some 60 bytes a
    // reservation. A lone client, every request of which is one, makes it get there soonest.
    let lone_seconds = (warm_up_seconds * 2 / 3).max(1);
    watch.run(&wrk, &url, Load::new(1, lone_seconds))?;
    let load = Load {
        mixed: true,
        ..Load::new(CLIENTS, seconds.saturating_sub(lone_seconds).max(1))
    };
    let figures = watch.run(&wrk, &url, load)?;
    let growth = watch.highest.saturating_sub(watch.warm);
    println!(
        "{} s at {:.0} requests/s, {CLIENTS} clients, one request in 20 for 1,000 tickets, after \
         {lone_seconds} s of a lone client\n\
         resident memory: {} KiB after {warm_up_seconds} s, at most {} KiB later: {} KiB more \
         (mark: {} KiB)",
        load.seconds,
        figures.rate,
        watch.warm / 1024,
        watch.highest / 1024,
        growth / 1024,
        GROWTH_BYTES_MAX / 1024,
    );
    Ok(watch.warm > 0 && growth <= GROWTH_BYTES_MAX)
}

impl Watch {
    /// Looks at the memory while wrk runs.
    fn run(&mut self, wrk: &Wrk, url: &str, load: Load) -> Outcome<Figures> {
        let figures = thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            scope.spawn(move || {
                let result = wrk.run(url, load, None).map_err(|error| error.to_string());
                // The receiver is gone only when the run has failed already.
                let _ = sender.send(result);
            });
            loop {
                match receiver.recv_timeout(LOOK_INTERVAL) {
                    Ok(result) => return result,
                    Err(RecvTimeoutError::Timeout) => {
                        self.look().map_err(|error| error.to_string())?
                    }
                    Err(RecvTimeoutError::Disconnected) => return Err("wrk is gone".to_owned()),
                }
            }
        })?;
        Ok(figures)
    }

    fn look(&mut self) -> Outcome<()> {
        let resident = machine::resident_bytes(self.pid)?;
        let elapsed = self.started.elapsed();
        if elapsed <= self.warm_up {
            self.warm = self.warm.max(resident);
        }
        self.highest = self.highest.max(resident);
        if elapsed >= self.told + TELL_INTERVAL {
            self.told = elapsed;
            eprintln!("{:4} s: {} KiB", elapsed.as_secs(), resident / 1024);
        }
        Ok(())
    }
}
