//! The event loop: what the kernel and the database say goes into the node, which does the rest.
//!
//! One thread serves every socket, and none of its calls waits but the poll.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use mio::event::Event;
use mio::{Events, Poll, Registry, Token, Waker};

use crate::allocator::{self, Allocator};
use crate::api::routes::Rules;
use crate::counter::{Job, Memory};
use crate::database::{self, workers::Workers};
use crate::fault::Fault;
use crate::limits;
use crate::moment::{Moment, Next};
use crate::node::{self, Change, ConnectionId, Interest, Io, ListenerOptions, Node, Ready};
use crate::notify::Notifier;
use crate::rotation::Rotation;
use crate::secret::{Secret, SecretSource};
use crate::socket::{Listener, Stream};
use crate::state::StateFile;
use crate::ticket::Numbering;
use crate::timer::Timer;

const WAKER: Token = Token(usize::MAX - 1);
const STOP: Token = Token(usize::MAX - 2);
const TIMER: Token = Token(usize::MAX - 3);

/// How a [`Server`] is set up.
#[derive(Debug)]
pub struct Options {
    /// Where the counter is.
    pub database: database::Settings,
    /// Blocking connections to the database, one thread each.
    pub pool_size: usize,
    /// How long a request waits for the database before it gets a 503.
    pub pool_timeout: Duration,
    /// The arithmetic of this node.
    pub numbering: Numbering,
    /// The time whose demand is reserved ahead; zero for none.
    pub prefetch: Duration,
    /// What an earlier process of this node remembered of the counter.
    pub remembered: Memory,
    /// Where the next one finds it.
    pub state_file: Option<StateFile>,
    /// What routing depends on.
    pub rules: Rules,
    /// The file that the password of `rules` was read from, and is read from again when it changes.
    pub password_file: Option<(SecretSource, Secret)>,
    /// Most clients at once.
    pub connections_max: usize,
    /// How long a connection may stay without a request.
    pub idle_timeout: Duration,
    /// How long a stop may take.
    pub shutdown_timeout: Duration,
}

/// Why a server ended, other than by being asked to.
#[derive(Debug)]
pub enum ServeError {
    /// The operating system refused something that the event loop can't do without.
    Io(io::Error),
    /// The first contact with the database found something that only an operator can mend.
    Database(Fault),
}

/// The event loop and all that it owns.
pub struct Server {
    poll: Poll,
    timer: Timer,
    node: Node,
    kernel: Kernel,
    state_file: Option<StateFile>,
    rotation: Option<Rotation>,
    notifier: Notifier,
    /// There is a processor for somebody else while this thread spins.
    has_processors: bool,
    /// The last wait was so short that the next is begun without sleeping.
    spins: bool,
}

impl Server {
    /// Sets the event loop up and starts the database threads; connects to nothing yet.
    pub fn new(mut listeners: Vec<Listener>, options: Options) -> Result<Server, ServeError> {
        let now = Moment::now();
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        let wake = Arc::new(move || {
            // The loop wakes by its own deadlines should this ever fail.
            let _ = waker.wake();
        });
        for (index, listener) in listeners.iter_mut().enumerate() {
            register(poll.registry(), listener, index)?;
        }
        let rotate = |(source, password)| Rotation::start(source, password, wake.clone());
        let rotation = options.password_file.map(rotate).transpose()?;
        let allocator = Allocator::new(
            allocator::Options {
                numbering: options.numbering,
                pool_size: options.pool_size,
                timeout: options.pool_timeout,
                prefetch: options.prefetch,
                seed: RandomState::new().hash_one(0),
                remembered: options.remembered,
            },
            now,
        );
        let listening = listeners.iter().map(|listener| ListenerOptions {
            address: listener.local_address().to_string(),
            outlives: listener.is_inherited(),
        });
        let node_options = node::Options {
            rules: options.rules,
            connections_max: options.connections_max,
            idle_timeout: options.idle_timeout,
            shutdown_timeout: options.shutdown_timeout,
            listeners: listening.collect(),
        };
        Ok(Server {
            node: Node::new(allocator, options.numbering, node_options, now),
            kernel: Kernel {
                registry: poll.registry().try_clone()?,
                listeners,
                files_due: now + limits::FILES_INTERVAL,
                files_failed: false,
                streams: Vec::new(),
                workers: Workers::start(
                    Arc::new(options.database),
                    options.numbering,
                    options.pool_size,
                    wake,
                )?,
            },
            poll,
            timer,
            state_file: options.state_file,
            rotation,
            notifier: Notifier::from_environment(now),
            has_processors: thread::available_parallelism().is_ok_and(|number| number.get() > 1),
            spins: false,
        })
    }

    /// Serves until `stop` becomes readable or its other end is closed; then stops accepting,
    /// answers what has been received, and returns.
    pub fn run(mut self, stop: UnixStream) -> Result<(), ServeError> {
        stop.set_nonblocking(true)?;
        let mut stop = mio::net::UnixStream::from_std(stop);
        let interest = mio::Interest::READABLE;
        self.kernel.registry.register(&mut stop, STOP, interest)?;
        let mut events = Events::with_capacity(limits::EVENTS_PER_TURN_MAX);
        let mut ready = Vec::new();
        let mut next = Next::Ready(());
        loop {
            self.wait(&mut events, next)?;
            let now = Moment::now();
            self.node.set_date(SystemTime::now());
            for event in &events {
                match event.token() {
                    WAKER | TIMER => {
                        let changed = self.rotation.as_ref().and_then(Rotation::changed);
                        if let Some(password) = changed {
                            self.node.set_password(password.expose().as_bytes());
                        }
                    }
                    STOP => {
                        self.notifier.stopping();
                        self.node.drain(now);
                    }
                    Token(index) if index < self.kernel.listeners.len() => {
                        ready.push(Ready::Listener(index));
                    }
                    Token(id) => ready.push(changed(id, event)),
                }
            }
            while let Some(outcome) = self.kernel.workers.next_outcome() {
                self.node.on_outcome(outcome, now);
            }
            next = self.node.turn(&mut self.kernel, &ready, now);
            ready.clear();
            let now = Moment::now();
            self.node.measure(now);
            if let Some(file) = &mut self.state_file {
                file.remember(self.node.memory(), now);
            }
            self.kernel.keep_files(now);
            self.notifier.turned(now, self.node.has_started(now));
            if let Some(end) = self.node.end(now) {
                // Nobody waits for what the database may still answer.
                let left = self.node.drains_until().map(|until| until.since(now));
                let within = left.unwrap_or_default().min(limits::DATABASE_STOP_GRACE);
                self.kernel.workers.stop(within);
                if let Some(file) = self.state_file {
                    file.finish(self.node.memory());
                }
                return end.map_err(ServeError::Database);
            }
        }
    }

    /// Waits for events, or until the node wants to turn again.
    fn wait(&mut self, events: &mut Events, next: Next<()>) -> io::Result<()> {
        let began = Moment::now();
        let wake = match next {
            Next::Ready(()) => Some(began),
            waiting => {
                let files = self.kernel.files_due_at();
                let wakes = [waiting.wake(self.notifier.wake_at()), files];
                wakes.into_iter().flatten().min()
            }
        };
        if self.spins && self.spin(events, began, wake)? {
            return Ok(());
        }
        let now = Moment::now();
        let timeout = wake.map(|at| at.since(now));
        let is_short = |wait: &Duration| !wait.is_zero() && *wait < limits::POLL_RESOLUTION;
        if let Some(short) = timeout.filter(is_short) {
            // The poll ends by itself, a little later, should this ever fail.
            let _ = self.timer.set(now + short, now);
        }
        self.poll(events, timeout)?;
        let was_short = Moment::now().since(began) < 2 * limits::SPIN_MAX;
        self.spins = self.has_processors && was_short;
        Ok(())
    }

    /// Polls without sleeping for a moment; says whether that brought events.
    fn spin(
        &mut self,
        events: &mut Events,
        began: Moment,
        wake: Option<Moment>,
    ) -> io::Result<bool> {
        let end = began + limits::SPIN_MAX;
        let end = wake.map_or(end, |wake| wake.min(end));
        while Moment::now() < end {
            self.poll(events, Some(Duration::ZERO))?;
            if !events.is_empty() {
                return Ok(true);
            }
            // Whoever else has work on this processor comes first.
            thread::yield_now();
        }
        Ok(false)
    }

    fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

fn changed(id: usize, event: &Event) -> Ready {
    let change = Change {
        readable: event.is_readable(),
        writable: event.is_writable(),
        read_closed: event.is_read_closed(),
        write_closed: event.is_write_closed(),
        error: event.is_error(),
    };
    Ready::Connection(ConnectionId::from_number(id as u64), change)
}

/// The world as it is.
struct Kernel {
    registry: Registry,
    listeners: Vec<Listener>,
    /// When to see whether the files of the Unix sockets are still there.
    files_due: Moment,
    /// One could not be made again, and that has been logged.
    files_failed: bool,
    /// By the slots of their ids.
    streams: Vec<Option<Socket>>,
    workers: Workers,
}

struct Socket {
    stream: Stream,
    is_registered: bool,
}

fn register(registry: &Registry, listener: &mut Listener, index: usize) -> io::Result<()> {
    registry.register(listener, Token(index), mio::Interest::READABLE)
}

impl Kernel {
    /// Makes the Unix sockets again whose files somebody has removed: nobody can reach them.
    fn keep_files(&mut self, now: Moment) {
        if self.files_due > now {
            return;
        }
        self.files_due = now + limits::FILES_INTERVAL;
        let mut failed = false;
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            let address = listener.local_address();
            match listener.restore() {
                None => {}
                Some(Ok(())) => {
                    log::warn!("the socket {address} was removed; it has been made again");
                    if let Err(error) = register(&self.registry, listener, index) {
                        log::error!("cannot register {address} with epoll: {error}; restart Tickr");
                    }
                }
                Some(Err(error)) => {
                    failed = true;
                    if !self.files_failed {
                        log::error!("the socket {address} was removed: {error}");
                    }
                }
            }
        }
        self.files_failed = failed;
    }

    fn files_due_at(&self) -> Option<Moment> {
        let has_files = self.listeners.iter().any(Listener::has_file);
        has_files.then_some(self.files_due)
    }

    fn stream(&mut self, id: ConnectionId) -> io::Result<&mut Stream> {
        let socket = self.streams.get_mut(id.slot()).and_then(Option::as_mut);
        Ok(&mut socket.ok_or(io::ErrorKind::NotConnected)?.stream)
    }
}

impl Io for Kernel {
    fn accept(&mut self, listener: usize, id: ConnectionId) -> io::Result<()> {
        let listener = self.listeners.get(listener);
        let stream = listener.ok_or(io::ErrorKind::WouldBlock)?.accept()?;
        let slot = id.slot();
        if self.streams.len() <= slot {
            self.streams.resize_with(slot + 1, || None);
        }
        self.streams[slot] = Some(Socket {
            stream,
            is_registered: false,
        });
        Ok(())
    }

    fn read(&mut self, id: ConnectionId, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream(id)?.read(buffer)
    }

    fn write(&mut self, id: ConnectionId, bytes: &[u8]) -> io::Result<usize> {
        self.stream(id)?.write(bytes)
    }

    fn watch(&mut self, id: ConnectionId, interest: Interest) -> io::Result<()> {
        let socket = self.streams.get_mut(id.slot()).and_then(Option::as_mut);
        let Socket {
            stream,
            is_registered,
        } = socket.ok_or(io::ErrorKind::NotConnected)?;
        let token = Token(id.number() as usize);
        let interest = match interest {
            Interest::Read => mio::Interest::READABLE,
            Interest::ReadWrite => mio::Interest::READABLE | mio::Interest::WRITABLE,
        };
        match std::mem::replace(is_registered, true) {
            true => self.registry.reregister(stream, token, interest),
            false => self.registry.register(stream, token, interest),
        }
    }

    fn finish(&mut self, id: ConnectionId) -> io::Result<()> {
        self.stream(id)?.shutdown_write()
    }

    fn close(&mut self, id: ConnectionId) {
        if let Some(socket) = self.streams.get_mut(id.slot()) {
            *socket = None;
        }
    }

    fn stop_listening(&mut self) {
        for listener in &mut self.listeners {
            // One that stays open elsewhere would go on telling us of its clients.
            let _ = self.registry.deregister(listener);
        }
        self.listeners.clear();
    }

    fn submit(&mut self, job: Job) {
        self.workers.submit(job);
    }
}

impl From<io::Error> for ServeError {
    fn from(error: io::Error) -> ServeError {
        ServeError::Io(error)
    }
}
