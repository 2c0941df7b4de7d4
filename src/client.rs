//! A blocking client for Rust programs: tickets from several servers in order of preference, with
//! a cache.
//!
//! It needs nothing of the server: `default-features = false, features = ["client"]`.
//!
//! Tickets are fetched as a range, so that a million of them cost one response of some 60 bytes.
//!
//! # Failover
//!
//! Anything but tickets moves a call on to the next server: no connection, a reset, a time-out,
//! a redirect, a 401, 404 or 5xx, HTML, JSON of another shape. That is always safe: what a lost
//! response held becomes a gap, and is never issued again. A server that failed is the last choice
//! for a second, and for twice as long each time it fails again, up to half a minute. A call tries
//! each server once, for at most [`Options::timeout`]; the error at the end names every server and
//! what came of it. Only a 400 is raised at once: the request itself is wrong.
//!
//! # Order
//!
//! Tickets that go backwards are the sign of a counter that was set back, by a restored backup for
//! instance. One process issues its tickets in increasing order, so a client refuses a run that is
//! not above what the same node had issued to it, at the same address, when the request was sent.
//! Nothing is compared between addresses: nodes, and the processes of one node, each have their
//! own reserve. Several *nodes* may also share an address, behind a load balancer; their tickets
//! differ by the remainder. Where several *processes of one node* share an address, set
//! [`Options::check_order`] to `false`, and only repeated tickets are refused. A process that takes
//! over the address of another during an upgrade needs nothing: on a kept connection that falls
//! behind, the client asks once more over a new one.
//!
//! # Forks
//!
//! A client that goes through `fork` starts anew in the child: with an empty cache and connections
//! of its own. This rests on `pthread_atfork`, since asking the kernel for the process ID would
//! cost more than a ticket does; a process made by calling `clone` past the C library is not
//! noticed, and has to make its own client.
//!
//! A child starts no thread for its cache, which is refilled by whoever finds it empty: the
//! standard library can't be relied on to start threads after a fork, as another thread of the
//! parent may have held one of its locks. For the same reason, name servers by address there: a
//! name is looked up in a thread, and where that does not start, the server counts as timed out.

pub(crate) mod exchange;

// For the fuzzer.
#[doc(hidden)]
pub mod answer;

mod cache;
mod error;
mod servers;
mod url;

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use self::cache::{Pool, Refill, Shards};
pub use self::error::{Attempt, Error, Failure};
use self::servers::Servers;
pub use self::url::{InvalidUrl, ServerUrl};
use crate::limits;
use crate::ticket::Run;

/// Tickets from one or more servers; share it between threads by reference or in an [`Arc`].
///
/// ```
/// use tickr::Client;
///
/// # use std::io::{BufRead, BufReader, Write};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let second = format!("http://{}", listener.local_addr()?);
/// # std::thread::spawn(move || {
/// #     let mut first = 54_313_001;
/// #     for mut stream in listener.incoming().flatten() {
/// #         let Ok(reading) = stream.try_clone() else { return };
/// #         for line in BufReader::new(reading).lines().map_while(Result::ok) {
/// #             let Some(target) = line.strip_prefix("GET /tickets/create/") else { continue };
/// #             let count: u64 = target.split('?').next().unwrap().parse().unwrap();
/// #             let body = format!(r#"{{"first":{first},"increment":4,"count":{count}}}"#);
/// #             first += 4 * count;
/// #             let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
/// #             stream.write_all((head + &body).as_bytes()).unwrap();
/// #         }
/// #     }
/// # });
/// // The preferred server first; while it is away, the next one is asked.
/// let client = Client::new(["unix:/run/tickr/tickr.sock", &second])?;
/// let ticket = client.next()?;
/// let batch = client.batch(5)?;
/// println!("{ticket}, and {} to {}", batch.first, batch.last());
/// # assert_eq!(ticket, 54_313_001);
/// # assert_eq!((batch.increment, batch.count), (4, 5));
/// # Ok(())
/// # }
/// ```
///
/// [`next`](Client::next) takes tickets from a cache that is refilled in the background before it
/// runs dry, and so rarely waits; it also works for a while when every server is down. The cache
/// follows demand: it doubles when a refill comes too late, and halves after a lull. What is left
/// when the client is dropped is never issued.
pub struct Client {
    shared: Arc<Shared>,
}

/// How a [`Client`] behaves.
#[derive(Clone)]
pub struct Options {
    /// How long one server may take to respond, including name resolution and connecting. With
    /// every server hanging, [`Client::batch`] takes this long for each of them, and
    /// [`Client::next`] at most twice that.
    pub timeout: Duration,
    /// The servers' `TICKR_HTTP_AUTH_PASSWORD`.
    pub password: Option<String>,
    /// Maximum number of cached tickets. How many there are depends on demand; a server whose
    /// `TICKR_MAX_BATCH` is lower is asked for less. 0 asks a server for each ticket.
    pub cache: u64,
    /// Refuse tickets that go backwards. Set it to `false` if several processes of one node share
    /// an address; see [the module](self).
    pub check_order: bool,
}

impl Client {
    /// A client of these servers, the preferred one first. Connects to nothing yet.
    pub fn new<S: AsRef<str>>(servers: impl IntoIterator<Item = S>) -> Result<Client, Error> {
        let urls: Result<Vec<ServerUrl>, InvalidUrl> = servers
            .into_iter()
            .map(|server| server.as_ref().parse())
            .collect();
        Client::with_options(urls?, Options::default())
    }

    /// A client of these servers, the preferred one first, that behaves as told.
    pub fn with_options(
        servers: impl IntoIterator<Item = ServerUrl>,
        options: Options,
    ) -> Result<Client, Error> {
        let servers: Vec<ServerUrl> = servers.into_iter().collect();
        if servers.is_empty() || servers.len() > limits::CLIENT_SERVERS_MAX {
            return Err(Error::ServerCount);
        }
        if options.timeout.is_zero() {
            return Err(Error::NoTimeout);
        }
        let shared = Shared::new(Arc::new(Config { servers, options }), Refill::Nobody);
        Ok(Client { shared })
    }

    /// A ticket that nobody else gets.
    ///
    /// Waits only when none is cached, and fails only after every server was tried since.
    #[inline]
    pub fn next(&self) -> Result<u64, Error> {
        if !self.shared.is_inherited()
            && let Some(ticket) = self.shared.shards.take()
        {
            return Ok(ticket);
        }
        self.shared.own().next()
    }

    /// This number of tickets as one contiguous run, straight from a server; at most its
    /// `TICKR_MAX_BATCH`.
    pub fn batch(&self, count: u64) -> Result<Run, Error> {
        match count {
            0 => Err(Error::EmptyBatch),
            count => self.shared.own().servers.fetch(count),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // What a child inherited may be locked for ever, and has no thread to stop.
        let mut shared = Some(&self.shared);
        while let Some(inherited) = shared.filter(|shared| shared.is_inherited()) {
            shared = inherited.heir.get();
        }
        if let Some(own) = shared {
            lock(&own.pool).stopped = true;
            own.changed.notify_all();
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            timeout: limits::CLIENT_TIMEOUT,
            password: None,
            cache: limits::CLIENT_CACHE_TICKETS_MAX,
            check_order: true,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("timeout", &self.timeout)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("cache", &self.cache)
            .field("check_order", &self.check_order)
            .finish()
    }
}

/// What a client consists of in one process.
struct Shared {
    config: Arc<Config>,
    /// Knows whether this is a child of the process that it was made in.
    origin: forkguard::Guard,
    /// What the client consists of in such a child; a parent's tickets, connections and locks are
    /// not touched there.
    heir: OnceLock<Arc<Shared>>,
    shards: Shards,
    pool: Mutex<Pool>,
    /// The pool has changed, or somebody waits for it to change.
    changed: Condvar,
    servers: Servers,
}

/// What a client was made with.
struct Config {
    servers: Vec<ServerUrl>,
    options: Options,
}

impl Shared {
    fn new(config: Arc<Config>, refill: Refill) -> Arc<Shared> {
        let Config { servers, options } = &*config;
        let authorization = options.password.as_deref().map(basic);
        let servers = Servers::new(servers, options.timeout, authorization, options.check_order);
        Arc::new(Shared {
            // Before anything that a child must not touch is in it.
            origin: forkguard::new(),
            heir: OnceLock::new(),
            shards: Shards::default(),
            pool: Mutex::new(Pool::new(options.cache, refill)),
            changed: Condvar::new(),
            servers,
            config,
        })
    }

    #[inline]
    fn is_inherited(&self) -> bool {
        self.origin.clone().detected_fork()
    }

    /// The part of the client that was made in this process.
    #[cold]
    fn own(self: &Arc<Shared>) -> &Arc<Shared> {
        let mut shared = self;
        while shared.is_inherited() {
            shared = match shared.heir.get() {
                Some(heir) => heir,
                None => {
                    // Made before it is set: a child that another thread forks off while it is
                    // being set could never use the client.
                    let heir = Shared::new(Arc::clone(&shared.config), Refill::ByCallers);
                    shared.heir.get_or_init(|| heir)
                }
            };
        }
        shared
    }

    /// A ticket; waits for one if need be.
    fn next(self: &Arc<Shared>) -> Result<u64, Error> {
        if self.config.options.cache == 0 {
            return Ok(self.servers.fetch(1)?.first);
        }
        // In a child, this is the usual way.
        if let Some(ticket) = self.shards.take() {
            return Ok(ticket);
        }
        let mut pool = lock(&self.pool);
        if pool.refill == Refill::Nobody {
            pool.refill = match self.start_refilling() {
                true => Refill::ByThread,
                false => Refill::ByCallers,
            };
        }
        let begun = pool.attempts;
        loop {
            if let Some(ticket) = self.shards.take_from(&mut pool) {
                if pool.is_low() {
                    self.changed.notify_all();
                }
                return Ok(ticket);
            }
            match &pool.failure {
                Some((attempt, error)) if *attempt > begun => return Err(error.clone()),
                _ => {}
            }
            pool = match pool.refill {
                Refill::ByCallers => {
                    pool.refill = Refill::ByOneCaller;
                    let mut pool = self.refill_once(pool);
                    pool.refill = Refill::ByCallers;
                    pool
                }
                Refill::Nobody | Refill::ByThread | Refill::ByOneCaller => {
                    pool.wanted = true;
                    self.changed.notify_all();
                    wait(&self.changed, pool, None)
                }
            };
        }
    }

    fn start_refilling(self: &Arc<Shared>) -> bool {
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name("tickr-client".to_owned())
            .spawn(move || shared.refill())
            .is_ok()
    }

    /// Keeps the pool from running dry until the client is gone.
    fn refill(&self) {
        let mut pool = lock(&self.pool);
        while !pool.stopped {
            let pause = pool.pause(Instant::now());
            let hungry = pool.wanted && pool.is_empty();
            if hungry || (pool.is_low() && pause.is_none()) {
                pool = self.refill_once(pool);
            } else {
                let pause = pause.filter(|_| pool.is_low());
                pool = wait(&self.changed, pool, pause);
            }
        }
    }

    /// Fetches what is missing, without the lock, and wakes those who wait for it.
    fn refill_once<'a>(&'a self, mut pool: MutexGuard<'a, Pool>) -> MutexGuard<'a, Pool> {
        pool.attempts += 1;
        let attempt = pool.attempts;
        let count = pool.missing(Instant::now());
        drop(pool);
        let fetched = self.servers.fetch(count);
        let mut pool = lock(&self.pool);
        match fetched {
            Ok(run) => pool.land(run, Instant::now()),
            // Somebody still waits, and asks again.
            Err(Error::Refused { .. }) if pool.ask_for_less(count) => return pool,
            Err(error) => pool.fail(attempt, error, Instant::now()),
        }
        pool.wanted = false;
        self.changed.notify_all();
        pool
    }
}

/// The credentials of HTTP Basic auth (RFC 7617); any user name will do.
pub(crate) fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("tickr:{password}")))
}

/// No code of ours panics while it holds a lock, so that a poisoned one is still sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(
    condition: &Condvar,
    guard: MutexGuard<'a, T>,
    timeout: Option<Duration>,
) -> MutexGuard<'a, T> {
    match timeout {
        None => condition
            .wait(guard)
            .unwrap_or_else(PoisonError::into_inner),
        Some(timeout) => {
            let waited = condition.wait_timeout(guard, timeout);
            waited.unwrap_or_else(PoisonError::into_inner).0
        }
    }
}
