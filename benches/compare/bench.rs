//! Everything that is started for one run, and how long the run may take.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Instant;

use socket2::SockAddr;
use tempfile::TempDir;
use tickr::database::local::{LocalOptions, LocalServer};

use crate::load::{By, Figures, Load, Wrk};
use crate::peers::{BareUpdate, Nginx, Place, Prefetch, Redis, Tickr};
use crate::{Outcome, client, machine, static_reply};

/// Files that one process opens at most: the idle connections, their busy neighbours, and some.
const OPEN_FILES: u64 = 12_000;
/// Seconds that decide between two configurations, and that warm a server up.
const TRIAL_SECONDS: u64 = 1;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Runs of each side of a row.
    pub(crate) pairs: usize,
    /// Seconds of one run.
    pub(crate) seconds: u64,
    /// Seconds of one point of the scaling plot.
    pub(crate) point_seconds: u64,
    /// The scaling plot has the peers' curves too.
    pub(crate) all_curves: bool,
}

impl Plan {
    /// Under twelve minutes.
    pub(crate) const FULL: Plan = Plan {
        pairs: 5,
        seconds: 1,
        point_seconds: 1,
        all_curves: true,
    };
    /// Under six minutes.
    pub(crate) const QUICK: Plan = Plan {
        pairs: 1,
        seconds: 1,
        point_seconds: 1,
        all_curves: false,
    };
}

/// The servers and clients of a run. Fields are dropped in order: the database stops last.
pub(crate) struct Bench {
    pub(crate) plan: Plan,
    pub(crate) wrk: Wrk,
    /// As it comes.
    pub(crate) tickr: Tickr,
    pub(crate) strict: Tickr,
    /// One with as many workers as cores, one with one worker.
    pub(crate) nginx: [Nginx; 2],
    pub(crate) redis: Redis,
    pub(crate) static_reply: SocketAddr,
    pub(crate) bare: RefCell<BareUpdate>,
    pub(crate) database: LocalServer,
    pub(crate) folder: TempDir,
}

impl Bench {
    /// Starts everything.
    pub(crate) fn start(plan: Plan) -> Outcome<Bench> {
        machine::raise_open_files(OPEN_FILES)?;
        let folder = temporary_folder()?;
        let path = folder.path();
        let wrk = Wrk::new(path)?;
        let redis = Redis::start(path)?;
        let database = start_database(path)?;
        let bare = BareUpdate::connect(&database)?;
        let tickr = Tickr::start(path, &database, Prefetch::Default)?;
        let strict = Tickr::start(path, &database, Prefetch::Off)?;
        let mut stream = TcpStream::connect(tickr.address())?;
        let answer = machine::get(&mut stream, "/tickets/create")?;
        let body = std::str::from_utf8(answer.body())?.to_owned();
        let nginx = [
            Nginx::start(path, "auto", &body)?,
            Nginx::start(path, "1", &body)?,
        ];
        let static_reply = static_reply::start(answer.bytes)?;
        Ok(Bench {
            plan,
            wrk,
            tickr,
            strict,
            nginx,
            redis,
            static_reply,
            bare: RefCell::new(bare),
            database,
            folder,
        })
    }

    /// Runs clients against Tickr.
    pub(crate) fn on_tickr(&self, tickr: &Tickr, path: &str, load: Load) -> Outcome<Figures> {
        self.on(&tickr.place, path, load)
    }

    /// Runs clients against nginx.
    pub(crate) fn on_nginx(&self, nginx: &Nginx, path: &str, load: Load) -> Outcome<Figures> {
        self.on(&nginx.place, path, load)
    }

    fn on(&self, place: &Place, path: &str, load: Load) -> Outcome<Figures> {
        let By::Ours { unix, rate } = load.by else {
            return self.wrk.run(&place.url(path), load, Some(place.pid));
        };
        let address = match unix {
            true => SockAddr::unix(&place.socket)?,
            false => place.address.into(),
        };
        let (before, began) = (machine::cpu_seconds(place.pid)?, Instant::now());
        let figures = client::run(&address, path, load, rate, place.increasing)?;
        let used = machine::cpu_seconds(place.pid)? - before;
        Ok(Figures {
            cpu_seconds: used / (figures.rate * began.elapsed().as_secs_f64()),
            ..figures
        })
    }

    /// A short run that does not count.
    pub(crate) fn warm_up(&self, tickr: &Tickr, path: &str, load: Load) -> Outcome<()> {
        let load = Load {
            seconds: TRIAL_SECONDS,
            ..load
        };
        self.on_tickr(tickr, path, load).map(|_| ())
    }

    /// The nginx that does more of this work, or is sooner done where the rate is fixed: a fair
    /// peer is one at its best.
    pub(crate) fn better_nginx(&self, path: &str, load: Load) -> Outcome<&Nginx> {
        let load = Load {
            seconds: TRIAL_SECONDS,
            ..load
        };
        let [many, one] = &self.nginx;
        let merit = |nginx| -> Outcome<f64> {
            let figures = self.on_nginx(nginx, path, load)?;
            Ok(match load.by {
                By::Ours { rate: Some(_), .. } => -figures.p999_seconds,
                _ => figures.rate,
            })
        };
        Ok(if merit(many)? > merit(one)? {
            many
        } else {
            one
        })
    }
}

/// A folder on the disk that the project is on: that of `/tmp` may be memory, where a flush
/// costs nothing.
pub(crate) fn temporary_folder() -> Outcome<TempDir> {
    Ok(TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?)
}

/// A private MySQL server with its default durability, and Tickr's tables in it.
pub(crate) fn start_database(folder: &Path) -> Outcome<LocalServer> {
    let database = LocalServer::start(LocalOptions::new(folder.join("mysql")))?;
    Tickr::create_database(&database)?;
    Ok(database)
}
