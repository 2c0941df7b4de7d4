//! A blocking client for Rust programs: tickets from several servers in order of preference, some
//! of them kept at hand.
//!
//! It needs nothing of the server: `default-features = false, features = ["client"]`.
//!
//! Tickets are fetched as a range, so that a million of them cost one answer of some 60 bytes. A
//! request that fails is sent again, to the same server or to the next one. That is always safe:
//! what a lost answer held becomes a gap, and is never handed out again.

pub(crate) mod exchange;

mod error;
mod url;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use self::error::{Attempt, Error, Failure};
use self::exchange::{Answer, Connection};
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
/// [`next`](Client::next) takes from tickets that are kept at hand and fetched in the background
/// before they run out, so that it seldom waits, and goes on for a while when every server is away.
/// What is left when the client is dropped is never handed out. A process that forks must make its
/// clients after the fork, or both halves hold the same tickets.
pub struct Client {
    shared: Arc<Shared>,
}

/// How a [`Client`] behaves.
#[derive(Clone)]
pub struct Options {
    /// How long one server may take for one answer, connecting included (looking a host name up
    /// is not). With every server hanging, [`Client::batch`] takes this long for each of them, and
    /// [`Client::next`] at most twice that.
    pub timeout: Duration,
    /// The servers' `TICKR_HTTP_AUTH_PASSWORD`.
    pub password: Option<String>,
    /// How many tickets to keep at hand, at most the servers' `TICKR_MAX_BATCH`. They are fetched
    /// again when half of them are gone. 0 asks a server for each ticket.
    pub cache: u64,
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
        let servers: Vec<Server> = servers.into_iter().map(Server::new).collect();
        if servers.is_empty() || servers.len() > limits::CLIENT_SERVERS_MAX {
            return Err(Error::ServerCount);
        }
        if options.timeout.is_zero() {
            return Err(Error::NoTimeout);
        }
        Ok(Client {
            shared: Arc::new(Shared {
                servers: Mutex::new(servers),
                timeout: options.timeout,
                authorization: options.password.as_deref().map(basic),
                cache_size: options.cache,
                cache: Mutex::new(Cache::default()),
                changed: Condvar::new(),
            }),
        })
    }

    /// A ticket that nobody else gets.
    ///
    /// Waits only when none is at hand, and fails only after every server was tried since.
    pub fn next(&self) -> Result<u64, Error> {
        let shared = &self.shared;
        if shared.cache_size == 0 {
            return Ok(shared.fetch(1)?.first);
        }
        let mut cache = lock(&shared.cache);
        if !cache.refilled {
            // Without a thread to refill the cache there is no cache.
            cache.refilled = shared.start_refilling();
            if !cache.refilled {
                drop(cache);
                return Ok(shared.fetch(1)?.first);
            }
        }
        let begun = cache.attempts;
        loop {
            if let Some(ticket) = cache.take() {
                if cache.is_low(shared.cache_size) {
                    shared.changed.notify_all();
                }
                return Ok(ticket);
            }
            match &cache.failure {
                Some((attempt, error)) if *attempt > begun => return Err(error.clone()),
                _ => {}
            }
            cache.wanted = true;
            shared.changed.notify_all();
            cache = wait(&shared.changed, cache, None);
        }
    }

    /// So many tickets as one contiguous run, straight from a server; at most its
    /// `TICKR_MAX_BATCH`.
    pub fn batch(&self, count: u64) -> Result<Run, Error> {
        match count {
            0 => Err(Error::EmptyBatch),
            count => self.shared.fetch(count),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        lock(&self.shared.cache).stopped = true;
        self.shared.changed.notify_all();
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
            cache: limits::CLIENT_CACHE_TICKETS,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("timeout", &self.timeout)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("cache", &self.cache)
            .finish()
    }
}

/// What the client and the thread that refills its cache work with.
struct Shared {
    servers: Mutex<Vec<Server>>,
    timeout: Duration,
    authorization: Option<String>,
    cache_size: u64,
    cache: Mutex<Cache>,
    /// The cache has changed, or somebody waits for it to change.
    changed: Condvar,
}

/// The tickets at hand.
#[derive(Default)]
struct Cache {
    runs: VecDeque<Run>,
    /// Tickets in `runs`.
    left: u64,
    /// Somebody has begun to wait for a ticket since the last refill ended.
    wanted: bool,
    /// Refills begun so far.
    attempts: u64,
    /// The last refill that failed, and why.
    failure: Option<(u64, Error)>,
    /// There is a thread that refills.
    refilled: bool,
    /// The client is gone.
    stopped: bool,
}

/// A server, and how it has been doing.
struct Server {
    url: ServerUrl,
    idle: Vec<Connection>,
    /// It is the last choice until then.
    paused_until: Option<Instant>,
    pause: Duration,
}

impl Shared {
    fn start_refilling(self: &Arc<Shared>) -> bool {
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name("tickr-client".to_owned())
            .spawn(move || shared.refill())
            .is_ok()
    }

    /// Keeps the cache from running dry until the client is gone.
    fn refill(&self) {
        let mut again_at = None;
        let mut cache = lock(&self.cache);
        while !cache.stopped {
            let pause = again_at
                .map(|at: Instant| at.saturating_duration_since(Instant::now()))
                .filter(|pause| !pause.is_zero());
            let hungry = cache.wanted && cache.left == 0;
            if !hungry && (!cache.is_low(self.cache_size) || pause.is_some()) {
                let pause = pause.filter(|_| cache.is_low(self.cache_size));
                cache = wait(&self.changed, cache, pause);
                continue;
            }
            cache.attempts += 1;
            let attempt = cache.attempts;
            let missing = self.cache_size - cache.left;
            drop(cache);
            let fetched = self.fetch(missing);
            cache = lock(&self.cache);
            cache.wanted = false;
            match fetched {
                Ok(run) => {
                    again_at = None;
                    cache.left += run.count;
                    cache.runs.push_back(run);
                }
                Err(error) => {
                    again_at = Some(Instant::now() + limits::CLIENT_PAUSE_MIN);
                    cache.failure = Some((attempt, error));
                }
            }
            self.changed.notify_all();
        }
    }

    /// Asks the servers, one after the other, for one run of tickets.
    fn fetch(&self, count: u64) -> Result<Run, Error> {
        let mut attempts = Vec::new();
        for index in self.order() {
            let (server, result) = self.fetch_from(index, count);
            let failure = match result {
                Ok(run) => return Ok(run),
                Err(failure) => failure,
            };
            let server = server.to_string();
            if let Some((status, detail)) = failure.refusal() {
                return Err(Error::Refused {
                    server,
                    status,
                    detail: detail.to_owned(),
                });
            }
            attempts.push(Attempt { server, failure });
        }
        Err(Error::Unavailable { attempts })
    }

    fn fetch_from(&self, index: usize, count: u64) -> (ServerUrl, Result<Run, Failure>) {
        let (url, idle) = {
            let server = &mut lock(&self.servers)[index];
            (server.url.clone(), server.idle.pop())
        };
        let target = format!("/tickets/create/{count}?format=range");
        let authorization = self.authorization.as_deref();
        let result = exchange::get(&url, &target, authorization, self.timeout, idle)
            .and_then(|(answer, connection)| Ok((run(&answer, count)?, connection)));
        let server = &mut lock(&self.servers)[index];
        let result = match result {
            Ok((run, connection)) => {
                server.praise(connection);
                Ok(run)
            }
            Err(failure) => {
                if failure.refusal().is_none() {
                    server.blame();
                }
                Err(failure)
            }
        };
        (url, result)
    }

    /// The servers in the order in which to try them: by preference, but those that have failed
    /// lately come last.
    fn order(&self) -> Vec<usize> {
        let now = Instant::now();
        let servers = lock(&self.servers);
        let mut order: Vec<usize> = (0..servers.len()).collect();
        order.sort_by_key(|index| {
            servers[*index]
                .paused_until
                .is_some_and(|until| until > now)
        });
        order
    }
}

impl Cache {
    fn take(&mut self) -> Option<u64> {
        let run = self.runs.front_mut()?;
        let ticket = run.first;
        self.left -= 1;
        if run.count == 1 {
            self.runs.pop_front();
        } else {
            run.first += run.increment;
            run.count -= 1;
        }
        Some(ticket)
    }

    fn is_low(&self, size: u64) -> bool {
        self.left <= size / 2
    }
}

impl Server {
    fn new(url: ServerUrl) -> Server {
        Server {
            url,
            idle: Vec::new(),
            paused_until: None,
            pause: limits::CLIENT_PAUSE_MIN,
        }
    }

    /// It has answered well.
    fn praise(&mut self, connection: Option<Connection>) {
        self.paused_until = None;
        self.pause = limits::CLIENT_PAUSE_MIN;
        if self.idle.len() < limits::CLIENT_IDLE_CONNECTIONS_MAX {
            self.idle.extend(connection);
        }
    }

    /// It has failed.
    fn blame(&mut self) {
        self.idle.clear();
        let now = Instant::now();
        if self.paused_until.is_none_or(|until| until <= now) {
            self.paused_until = Some(now + self.pause);
            self.pause = (self.pause * 2).min(limits::CLIENT_PAUSE_MAX);
        }
    }
}

/// The run in an answer; nothing is believed that could not be so.
fn run(answer: &Answer, count: u64) -> Result<Run, Failure> {
    let body = answer.json()?;
    let number = |key: &str| body.get(key).and_then(serde_json::Value::as_u64);
    let run = number("first")
        .zip(number("increment"))
        .zip(number("count"));
    let sound = run.filter(|((first, increment), counted)| {
        let last = (count - 1)
            .checked_mul(*increment)
            .and_then(|distance| first.checked_add(distance));
        *counted == count && *increment > 0 && last.is_some()
    });
    match sound {
        Some(((first, increment), count)) => Ok(Run {
            first,
            increment,
            count,
        }),
        None => Err(Failure::not_tickr("the tickets are not a run as asked for")),
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
