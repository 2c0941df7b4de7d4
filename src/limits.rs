//! Every bound of the program, in one place: each buffer, queue and wait has one, and the
//! assertions below say how they hang together.

use std::time::Duration;

/// Longest request head (request line, headers, final empty line); past it 431, or 414 when it
/// is the target that is too long.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// A head past its bound is answered with 414 instead of 431 when its target is longer than this.
pub const LONG_TARGET_BYTES: usize = HEAD_BYTES_MAX / 2;
/// Most header lines in one request; past it 431.
pub const HEADERS_MAX: usize = 64;
/// Most empty lines skipped before a request line (RFC 9112, section 2.2); past it 400.
pub const LEADING_EMPTY_LINES_MAX: usize = 4;
/// Longest request body that is read and dropped; past it 413.
pub const BODY_BYTES_MAX: u64 = 64 * 1024;
/// Longest line that opens a chunk: its size in hexadecimal and its extensions, without CRLF.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Most bytes of trailer fields behind a chunked body, their line ends included.
pub const TRAILER_BYTES_MAX: usize = 4 * 1024;

/// Requests of one connection that may wait for their answers; past it reading stops.
pub const PIPELINED_REQUESTS_MAX: usize = 128;
/// Bytes taken from a socket by one read.
pub const READ_BYTES: usize = 16 * 1024;
/// Reads from one connection in one turn of the event loop, so that a fast sender is fair.
pub const READS_PER_TURN_MAX: usize = 4;
/// Unread input that one connection may hold: the start of a head, and one read behind it.
pub const INPUT_BYTES_MAX: usize = HEAD_BYTES_MAX + READ_BYTES;
/// Small answers are gathered up to this many bytes per write; it is also the most that a
/// connection keeps for a client that does not read.
pub const OUTPUT_BYTES_MAX: usize = 16 * 1024;
/// One piece of a large array. It is written again from its offset when the socket takes only a
/// part, so that a slow reader costs no memory.
pub const PIECE_BYTES: usize = 128 * 1024;
/// What the kernel may hold for one TCP client that does not read; it doubles this for its own
/// needs (socket(7)). By itself it would take megabytes, and memory for all clients is bounded
/// (`net.ipv4.tcp_mem`).
pub const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Arrays up to this length are gathered with other small answers.
pub const SMALL_BODY_BYTES_MAX: u64 = 4 * 1024;

/// Clients that may wait to be accepted; the kernel may allow fewer (`net.core.somaxconn`).
pub const LISTEN_BACKLOG: i32 = 4096;
/// How long binding a Unix socket waits for another process that binds the same one.
pub const SOCKET_LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// The lock of the socket is tried again after this pause.
pub const SOCKET_LOCK_PAUSE: Duration = Duration::from_millis(5);
/// How often files that others may change are looked at: those of sockets and passwords.
pub const FILES_INTERVAL: Duration = Duration::from_secs(1);
/// Connections accepted in one turn of the event loop.
pub const ACCEPTS_PER_TURN_MAX: usize = 64;
/// Connections beyond the configured number that may be open while they get their 503.
pub const CONNECTIONS_OVER_MAX: usize = 256;
/// To make room, one in this many idle connections is closed, and at least one.
pub const IDLE_CLOSED_SHARE: usize = 64;
/// How long accepting pauses after an error such as running out of file descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Waits for events are counted in this (epoll_wait(2)); a shorter one needs a timer of its own.
pub const POLL_RESOLUTION: Duration = Duration::from_millis(1);
/// How long the event loop polls without sleeping, when its last wait took no more than twice this:
/// on a virtual machine, to fall asleep and be woken takes longer.
pub const SPIN_MAX: Duration = Duration::from_micros(50);
/// Readiness events taken from the kernel in one turn of the event loop.
pub const EVENTS_PER_TURN_MAX: usize = 1024;

/// A request head must be complete this long after its first byte; past it 408.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A request body must be complete this long after its head; past it 408.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a request is closed after this long, unless told otherwise.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Shortest idle time-out that can be set.
pub const IDLE_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// Longest idle time-out that can be set.
pub const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(86_400);
/// A client that takes no byte of its answer for this long is cut off.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// After the last answer of a connection is written, input is dropped for at most this long, so
/// that a reset does not destroy the answer on its way (RFC 9112, section 9.6).
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// A stopping server closes a connection that has been idle for this long; before that, a
/// request that is on its way is still answered.
pub const LEAVING_GRACE: Duration = Duration::from_millis(250);
/// Connection deadlines are looked at this often.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// Requests for tickets that may wait for the database; past it 503.
pub const WAITING_REQUESTS_MAX: usize = 64 * 1024;
/// Tickets that prefetching may hold in reserve.
pub const RESERVE_TICKETS_MAX: u64 = 100_000_000;
/// Most connections to the database, each with a thread of its own.
pub const POOL_SIZE_MAX: usize = 64;
/// Connecting to the database takes at most the pool time-out, held between these two.
pub const DATABASE_CONNECT_TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// See [`DATABASE_CONNECT_TIMEOUT_MIN`].
pub const DATABASE_CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(1);
/// Addresses of one database host that are tried, one after the other.
pub const DATABASE_ADDRESSES_MAX: usize = 8;
/// A session reads and writes for at most twice the pool time-out, and no less than this.
pub const DATABASE_IO_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// A database thread that takes so much longer than its session may is given up.
pub const DATABASE_HANG_GRACE: Duration = Duration::from_millis(500);
/// How long the commands that change the tables wait for MySQL.
pub const DATABASE_COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// An idle connection to the database is probed after this long, so that one that a firewall
/// has forgotten is noticed before it is needed.
pub const DATABASE_KEEPALIVE: Duration = Duration::from_secs(60);
/// Longest packet taken from the database; ours are far shorter.
pub const DATABASE_PACKET_BYTES_MAX: usize = 64 * 1024;
/// How long a block may be used after its row was last found open, unless the settings beside the
/// counter say otherwise.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(10);
/// Longest lease; an `advance` waits for it.
pub const LEASE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// `tickr db advance` waits so much longer than the lease: clocks need not tick alike.
pub const LEASE_GRACE: Duration = Duration::from_secs(1);
/// Base ids that `tickr db advance` leaves out above all that it found.
pub const ADVANCE_MARGIN: u64 = 1_000_000;
/// How often `tickr db advance` begins again because others change the row.
pub const ADVANCE_ATTEMPTS_MAX: u32 = 8;
/// While it waits, `tickr db advance` reads the row after each such pause.
pub const ADVANCE_PAUSE: Duration = Duration::from_millis(250);
/// How long a command may take to connect to the database.
pub const DATABASE_COMMAND_CONNECT: Duration = Duration::from_secs(10);
/// Variables of the server that are asked for at once, and more.
pub const DATABASE_VARIABLES_MAX: usize = 64;
/// Columns, triggers or tables that are looked at.
pub const DATABASE_NAMES_MAX: usize = 4096;
/// Connections of the server among which one that was given up is looked for.
pub const DATABASE_PROCESSES_MAX: usize = 100_000;
/// How often it is looked for after it was killed.
pub const DATABASE_KILL_PAUSE: Duration = Duration::from_millis(20);
/// A session looks again at what weakens the promise once in this many reads of the row.
pub const DATABASE_WARNINGS_EVERY: u32 = 10;
/// A process that has no client left waits no longer than this for threads that still wait for the
/// database.
pub const DATABASE_STOP_GRACE: Duration = Duration::from_millis(250);
/// Times that a reservation which lost a deadlock is asked for at once.
pub const DEADLOCK_RETRIES_MAX: u32 = 3;
/// Jobs that wait at one worker: it is given one only when it is idle.
pub const WORKER_QUEUE_JOBS: usize = 1;
/// Shortest time that a request may be told to wait for the database.
pub const POOL_TIMEOUT_MIN: Duration = Duration::from_millis(10);
/// Longest time that a request may be told to wait for the database.
pub const POOL_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Largest value of the largest batch.
pub const BATCH_MAX: u64 = 1_000_000_000;
/// Largest number of client connections that can be set.
pub const CONNECTIONS_MAX: usize = 1_000_000;
/// Most addresses that are listened on.
pub const LISTENERS_MAX: usize = 64;
/// Longest time that a stop may be told to wait for clients.
pub const SHUTDOWN_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Longest demand that prefetching may be told to hold, within [`RESERVE_TICKETS_MAX`].
pub const PREFETCH_MAX: Duration = Duration::from_secs(3600);
/// Shortest lease of a block that can be stored beside the counter, in seconds.
pub const LEASE_SECONDS_MIN: u64 = 1;
/// Longest lease of a block that can be stored beside the counter, in seconds.
pub const LEASE_SECONDS_MAX: u64 = 3600;
/// Longest file that a secret is read from.
pub const SECRET_FILE_BYTES_MAX: u64 = 4 * 1024;
/// Longest file of CA certificates or of a public key; all public CAs take a quarter of a megabyte.
pub const PEM_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Longest part of a state file that is read; its few numbers are far shorter.
pub const STATE_FILE_BYTES_MAX: u64 = 4 * 1024;
/// How long a process that stops waits for its state file.
pub const STATE_FILE_STOP_GRACE: Duration = Duration::from_secs(1);
/// Longest name of a database, in characters (MySQL manual, "Identifier Length Limits").
pub const DATABASE_NAME_CHARS_MAX: usize = 64;
/// Lines of the log that wait to be written; past it they are lost, and counted.
pub const LOG_LINES_WAITING_MAX: usize = 1024;
/// How long a process that stops waits for the last lines of its log to be written.
pub const LOG_STOP_GRACE: Duration = Duration::from_secs(1);
/// A non-blocking output without room is tried again after this pause.
pub const OUTPUT_PAUSE: Duration = Duration::from_millis(5);
/// Characters of a wrong value that an error repeats.
pub const SHOWN_VALUE_CHARS_MAX: usize = 80;
/// Characters of a text from elsewhere (a server's error, a version) that are shown.
pub const FOREIGN_TEXT_CHARS_MAX: usize = 200;

/// The program of a private MySQL server must tell its version in this time.
pub const LOCAL_VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// What it may say, warnings included.
pub const LOCAL_VERSION_BYTES_MAX: u64 = 16 * 1024;
/// A private MySQL server must have created its system tables in this time.
pub const LOCAL_INITIALISE_TIMEOUT: Duration = Duration::from_secs(120);
/// A private MySQL server must answer this long after it was started, crash recovery included.
pub const LOCAL_START_TIMEOUT: Duration = Duration::from_secs(60);
/// A private MySQL server that is told to stop is killed after this long.
pub const LOCAL_STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// The server of an earlier run is given this long to come to its end.
pub const LOCAL_LEFTOVER_TIMEOUT: Duration = Duration::from_secs(15);
/// One answer from a private MySQL server while it starts.
pub const LOCAL_LOGIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the state of a private MySQL server is looked at while it is waited for.
pub const LOCAL_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How often it is looked at whether the private MySQL server of `tickr dev` still runs.
pub const LOCAL_REVIVE_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes from the end of a private MySQL server's log that an error shows.
pub const LOCAL_LOG_TAIL_BYTES: u64 = 2 * 1024;
/// Ports that are tried for a private MySQL server before giving up.
pub const LOCAL_PORT_ATTEMPTS_MAX: usize = 5;
/// Longest path of a Unix socket: `sun_path` of unix(7) without its final NUL.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// How long a client gives one server, from connecting to the last byte, unless told otherwise.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// Tickets that a client caches at most, unless told otherwise; how many it is depends on demand.
pub const CLIENT_CACHE_TICKETS_MAX: u64 = 100_000;
/// Tickets that a client caches before it knows the demand, and the least that a lull leaves.
pub const CLIENT_CACHE_TICKETS_MIN: u64 = 16;
/// Half of a client's cache should not last longer than this; if it does, the cache is halved.
pub const CLIENT_LULL: Duration = Duration::from_secs(10);
/// Threads that take from a client's cache without getting in each other's way.
pub const CLIENT_SHARDS: usize = 16;
/// Tickets that such a thread takes from the cache at once.
pub const CLIENT_SHARD_TICKETS_MAX: u64 = 256;
/// Nodes behind one address whose tickets a client checks for their order.
pub const CLIENT_NODES_MAX: usize = 64;
/// The latest answers of each node that a client checks for repeated tickets.
pub const CLIENT_RUNS_REMEMBERED: usize = 32;
/// Servers that a client can be given, and nodes that one cluster check asks.
pub const CLIENT_SERVERS_MAX: usize = 256;
/// Open connections that a client keeps for its next requests.
pub const CLIENT_IDLE_CONNECTIONS_MAX: usize = 8;
/// Longest head of an answer that a client takes.
pub const CLIENT_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Most header lines of an answer that a client takes.
pub const CLIENT_HEADERS_MAX: usize = 64;
/// Interim answers (1xx) that a client passes over before the final one.
pub const CLIENT_INTERIM_ANSWERS_MAX: usize = 8;
/// Longest body of an answer that a client takes; a batch comes as a range of some 60 bytes.
pub const CLIENT_BODY_BYTES_MAX: usize = 64 * 1024;
/// Addresses of one host name that a client tries, one after the other.
pub const CLIENT_ADDRESSES_MAX: usize = 8;
/// A server that has failed is a client's last choice for this long; twice as long each time that
/// it fails again.
pub const CLIENT_PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest time that a server is a client's last choice without being tried.
pub const CLIENT_PAUSE_MAX: Duration = Duration::from_secs(30);
/// `tickr get` asks for more than this in several batches: the default of `TICKR_MAX_BATCH`.
pub const GET_BATCH_MAX: u64 = 1_000_000;
/// Pause of `tickr get --watch`.
pub const GET_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest pause that can be set.
pub const GET_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Longest pause that can be set.
pub const GET_INTERVAL_MAX: Duration = Duration::from_secs(86_400);
/// `tickr get` shows its progress on a terminal from this many tickets on.
pub const PROGRESS_TICKETS_MIN: u64 = 1_000_000;
/// How often `tickr cluster check --watch` asks again.
pub const CLUSTER_WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Largest integer that JavaScript and other users of IEEE 754 doubles can count up to without
/// loss: 2^53 - 1.
pub const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

const _: () =
    assert!(DATABASE_CONNECT_TIMEOUT_MAX.as_millis() <= DATABASE_IO_TIMEOUT_MIN.as_millis());
const _: () = assert!(CLIENT_CACHE_TICKETS_MIN <= CLIENT_CACHE_TICKETS_MAX);
const _: () = assert!(HEAD_BYTES_MAX < INPUT_BYTES_MAX);
const _: () = assert!(SMALL_BODY_BYTES_MAX < OUTPUT_BYTES_MAX as u64);
const _: () = assert!(OUTPUT_BYTES_MAX <= PIECE_BYTES);
const _: () = assert!(CHUNK_LINE_BYTES_MAX < READ_BYTES && TRAILER_BYTES_MAX < READ_BYTES);
const _: () = assert!(SWEEP_INTERVAL.as_millis() < LINGER_TIMEOUT.as_millis());
const _: () = assert!(LINGER_TIMEOUT.as_millis() < IDLE_TIMEOUT.as_millis());
