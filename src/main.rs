//! The command line of Tickr: what was typed, the command it stands for, and the exit code.
//!
//! 0: all went well. 1: the command failed while it ran. 2: it was asked for in a way that cannot
//! work (usage, settings), and nothing was done.

use std::error::Error;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use clap_complete::Shell;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::{flag, low_level};
use tickr::api::routes::Rules;
use tickr::client::{self, Client};
use tickr::cluster;
use tickr::config::{
    AdvanceConfig, CheckConfig, ClusterConfig, Config, DatabaseConfig, DecodeConfig, DevConfig,
    DropConfig, GetConfig, LeaseConfig, read_shell,
};
use tickr::database::local::{LocalError, LocalOptions, LocalServer};
use tickr::database::{Secret, Settings, schema};
use tickr::fault::Fault;
use tickr::limits;
use tickr::logging::{Format, Logging};
use tickr::secret::SecretSource;

use tickr::server::{self, ServeError, Server};
use tickr::settings::ColumnName;
use tickr::socket::{Address, BindError, Listener};
use tickr::state::{self, StateFile};
use tickr::ticket::{Numbering, Origin};

use self::cli::Command;

mod cli;

/// Open files beside those of connections: the listeners, epoll, the log.
const OTHER_FILES: u64 = 64;

/// Every command. The help lists its settings as its configuration reads them.
const COMMANDS: &[Command<Job>] = &[
    Command {
        path: &["serve"],
        about: "Serve tickets until SIGTERM or SIGINT",
        read: |reader| Job::logged(Config::read(reader), |config| &config.logging, serve),
    },
    Command {
        path: &["dev"],
        about: "Run with a private MySQL server; no configuration needed",
        read: |reader| Job::logged(DevConfig::read(reader), DevConfig::logging, dev),
    },
    Command {
        path: &["db", "create"],
        about: "Create the database, the counter and the stored settings; keep what exists",
        read: |reader| {
            let config = LeaseConfig::read_create(reader);
            Job::logged(config, |config| &config.target.logging, db_create)
        },
    },
    Command {
        path: &["db", "check"],
        about: "Report the database's state; exit 1 if there is a problem",
        read: |reader| {
            let config = CheckConfig::read(reader);
            Job::logged(config, |config| &config.target.logging, db_check)
        },
    },
    Command {
        path: &["db", "migrate"],
        about: "Convert a MyISAM table to InnoDB, keeping the counter",
        read: |reader| {
            let config = DatabaseConfig::read(reader);
            Job::logged(config, |config| &config.logging, db_migrate)
        },
    },
    Command {
        path: &["db", "advance"],
        about: "Move the counter forward past every issued ticket, after a restore or a failover",
        read: |reader| {
            let config = AdvanceConfig::read(reader);
            Job::logged(config, |config| &config.target.logging, db_advance)
        },
    },
    Command {
        path: &["db", "lease"],
        about: "Change the lease that is stored beside the counter",
        read: |reader| {
            let config = LeaseConfig::read(reader);
            Job::logged(config, |config| &config.target.logging, db_lease)
        },
    },
    Command {
        path: &["db", "drop"],
        about: "Permanently delete the database",
        read: |reader| Job::logged(DropConfig::read(reader), |config| &config.logging, db_drop),
    },
    Command {
        path: &["get"],
        about: "Get tickets from a server, one per line",
        read: |reader| Job::quiet(GetConfig::read(reader), get),
    },
    Command {
        path: &["decode"],
        about: "Show which node issued a ticket, and its base id; exit 1 if no node can have",
        read: |reader| Job::quiet(DecodeConfig::read(reader), decode),
    },
    Command {
        path: &["cluster", "check"],
        about: "Ask every node for its status; exit 1 if one does not respond or they do not match",
        read: |reader| Job::quiet(ClusterConfig::read(reader), cluster_check),
    },
    Command {
        path: &["completions"],
        about: "Generate shell completions",
        read: |reader| Job::quiet(read_shell(reader), completions),
    },
];

/// Everything that can be typed.
pub(crate) fn command_line() -> clap::Command {
    cli::command_line(COMMANDS)
}

/// A command whose settings have been read.
struct Job {
    /// What it logs; `None` when it has nothing to log.
    logging: Option<Logging>,
    run: Box<dyn FnOnce() -> Result<(), Failure>>,
}

impl Job {
    fn logged<C: 'static>(
        config: C,
        logging: fn(&C) -> &Logging,
        run: fn(C) -> Result<(), Failure>,
    ) -> Job {
        let logging = Some(logging(&config).clone());
        let run = Box::new(move || run(config));
        Job { logging, run }
    }

    fn quiet<C: 'static>(config: C, run: fn(C) -> Result<(), Failure>) -> Job {
        let run = Box::new(move || run(config));
        Job { logging: None, run }
    }

    fn run(self) -> Result<(), Failure> {
        if let Some(logging) = self.logging {
            logging.start();
            for unknown in cli::unknown_variables(COMMANDS) {
                log::warn!("{unknown}");
            }
        }
        (self.run)()
    }
}

fn main() -> ExitCode {
    let matches = match command_line().try_get_matches() {
        Ok(matches) => matches,
        Err(answer) => {
            // The help and the version are answers as well; a closed pipe is not our concern.
            let _ = answer.print();
            return u8::try_from(answer.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let mut for_collectors = false;
    let ended = cli::read(COMMANDS, &matches)
        .map_err(|mut mistakes| {
            mistakes.notes = cli::unknown_variables(COMMANDS);
            Failure::Usage(mistakes.into())
        })
        .and_then(|job| {
            let logging = job.logging.as_ref();
            for_collectors = logging.is_some_and(|logging| logging.format == Format::Json);
            job.run()
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if for_collectors {
                log::error!("{failure}");
            } else {
                let _ = writeln!(io::stderr(), "tickr: {failure}");
            }
            failure.exit_code()
        }
    }
}

/// Serves until a signal asks it to stop.
fn serve(config: Config) -> Result<(), Failure> {
    // Before anything else: it changes the environment.
    let inherited = Listener::inherited()?;
    let stop = stop_signals()?;
    ignore(&[SIGHUP, SIGUSR1, SIGUSR2])?;
    raise_open_files_limit(config.max_connections, config.pool_size);
    let listeners = match inherited.is_empty() {
        true => listen(&config)?,
        false => {
            log::info!("using sockets passed by systemd; TICKR_LISTEN is ignored");
            inherited
        }
    };
    serve_on(listeners, config, stop)
}

/// Serves from a private MySQL server, with its data in a folder.
fn dev(config: DevConfig) -> Result<(), Failure> {
    let stop = stop_signals()?;
    ignore(&[SIGUSR1, SIGUSR2])?;
    let options = LocalOptions {
        program: config.mysqld.clone(),
        ..LocalOptions::new(config.data_dir.join("mysql"))
    };
    log::info!(
        "starting a private MySQL server in {}",
        options.data_dir.display()
    );
    let mut server = LocalServer::start(options)?;
    let config = config.serve(server.socket(), server.username(), server.password());
    let lease = limits::LEASE_DEFAULT;
    let created = schema::create(&config.database, &config.numbering, lease)?;
    log::info!("database {}: {created}", config.database.name);
    let listeners = listen(&config)?;
    say("\nTickr is ready. In another terminal, run:\n")?;
    for listener in &listeners {
        match listener.local_address() {
            Address::Tcp(address) => say(format_args!("    curl http://{address}/tickets/create")),
            Address::Unix(path) => say(format_args!(
                "    curl --unix-socket {} http://localhost/tickets/create/5",
                path.display()
            )),
        }?;
    }
    say("\nPress Ctrl-C to stop. The next run continues where this one ended.\n")?;
    let served = serve_on(listeners, config, stop);
    let stopped = server.stop();
    served.and(stopped.map_err(Failure::from))
}

fn db_create(config: LeaseConfig) -> Result<(), Failure> {
    let target = config.target;
    let lease = Duration::from_secs(config.lease_seconds);
    let created = schema::create(&target.database, &target.numbering, lease)?;
    say(format_args!("{}: {created}", target.database.name))
}

fn db_check(config: CheckConfig) -> Result<(), Failure> {
    let target = config.target;
    let report = schema::check(&target.database, &target.numbering)?;
    // The text is of use even where the column cannot be read.
    if !config.json {
        say(report.to_string().trim_end())?;
    }
    let column = config.column.map(|name| {
        let ColumnName {
            database,
            table,
            column,
        } = name;
        let name = format!("{database}.{table}.{column}");
        schema::check_column(&target.database, &target.numbering, &name)
    });
    let column = column.transpose()?;
    match (config.json, &column) {
        (true, column) => say(report_json(&report, column.as_ref()))?,
        (false, Some(column)) => say(column.to_string().trim_end())?,
        (false, None) => {}
    }
    let problems = report.problems.len() + column.map_or(0, |column| column.problems.len());
    no_problems(problems)
}

/// The report of `tickr db check` for scripts.
fn report_json(
    report: &schema::Report,
    column: Option<&schema::ColumnReport>,
) -> serde_json::Value {
    let numbering = |numbering: &Numbering| {
        json!({
            "max_nodes": numbering.max_nodes(),
            "starting_offset": numbering.starting_offset(),
            "node_number": numbering.node_number(),
        })
    };
    fn texts(all: &[impl fmt::Display]) -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    }
    let column = column.map(|column| {
        json!({
            "name": column.name,
            "type": column.kind,
            "highest": column.highest,
            "left": column.left,
            "problems": texts(&column.problems),
        })
    });
    json!({
        "server_version": report.server_version,
        "engine": report.engine,
        "counter": report.counter(),
        "last_ticket": report.last_ticket(),
        "stored": report.stored.as_ref().map(numbering),
        "given": numbering(&report.given),
        "left_below_2_53": report.headroom(limits::SAFE_INTEGER_MAX),
        "left_below_2_64": report.headroom(u64::MAX),
        "warnings": texts(&report.warnings),
        "problems": texts(&report.problems),
        "column": column,
    })
}

fn db_migrate(config: DatabaseConfig) -> Result<(), Failure> {
    let migrated = schema::migrate(&config.database)?;
    say(format_args!("{}: {migrated}", config.database.name))
}

fn db_advance(config: AdvanceConfig) -> Result<(), Failure> {
    let AdvanceConfig {
        target,
        past,
        margin,
    } = config;
    let DatabaseConfig {
        database,
        numbering,
        ..
    } = &target;
    let mut progress = narrate(&database.name);
    let advanced = schema::advance(database, numbering, past, margin, &mut progress)?;
    say(format_args!("{}: {advanced}", target.database.name))
}

fn db_lease(config: LeaseConfig) -> Result<(), Failure> {
    let DatabaseConfig {
        database,
        numbering,
        ..
    } = &config.target;
    let lease = Duration::from_secs(config.lease_seconds);
    let mut progress = narrate(&database.name);
    let stored = schema::set_lease(database, numbering, lease, &mut progress)?;
    say(format_args!(
        "{}: the lease is {} s; {stored}",
        database.name, config.lease_seconds
    ))
}

/// Says on stderr what a command does while it waits.
fn narrate(database: &str) -> impl FnMut(String) {
    move |step| {
        let _ = writeln!(io::stderr(), "{database}: {step}");
    }
}

fn db_drop(config: DropConfig) -> Result<(), Failure> {
    schema::drop_database(&config.database, &config.confirmed)?;
    say(format_args!("{}: dropped", config.database.name))
}

fn get(config: GetConfig) -> Result<(), Failure> {
    let GetConfig {
        client,
        count,
        watch,
        interval,
    } = config;
    let options = client::Options {
        timeout: client.timeout,
        password: client.password.map(|password| password.expose().to_owned()),
        cache: 0,
        ..client::Options::default()
    };
    let client = Client::with_options(client.servers, options)?;
    let mut out = BufWriter::new(io::stdout().lock());
    loop {
        match print_tickets(&client, count, &mut out) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            // Whoever watches wants to see the end of an outage.
            Err(GetError::Client(error @ client::Error::Unavailable { .. })) if watch => {
                let _ = writeln!(io::stderr(), "tickr: {error}");
            }
            Err(error) => return Err(error.into()),
        }
        if !watch {
            return Ok(());
        }
        thread::sleep(interval);
    }
}

/// Gets the tickets and prints each on a line; false once nobody reads any more. What was printed
/// before an error is complete.
fn print_tickets(client: &Client, count: u64, out: &mut impl Write) -> Result<bool, GetError> {
    let is_watched = io::stderr().is_terminal() && !io::stdout().is_terminal();
    let mut progress = Progress::of(count, is_watched);
    let mut done = 0;
    while done < count {
        progress.reach(done);
        let run = client.batch((count - done).min(limits::GET_BATCH_MAX))?;
        let written = (0..run.count).try_for_each(|index| {
            progress.reach(done + index);
            writeln!(out, "{}", run.ticket(index))
        });
        let written = written.and_then(|()| out.flush());
        let is_read = written.is_ok();
        printed(written)?;
        if !is_read {
            return Ok(false);
        }
        done += run.count;
    }
    progress.reach(count);
    Ok(true)
}

/// Why tickets were not printed.
enum GetError {
    Client(client::Error),
    Output(Failure),
}

impl From<client::Error> for GetError {
    fn from(error: client::Error) -> GetError {
        GetError::Client(error)
    }
}

impl From<Failure> for GetError {
    fn from(failure: Failure) -> GetError {
        GetError::Output(failure)
    }
}

impl From<GetError> for Failure {
    fn from(error: GetError) -> Failure {
        match error {
            GetError::Client(error) => error.into(),
            GetError::Output(failure) => failure,
        }
    }
}

/// A percentage on a terminal, for long work; it ends with a line of its own.
struct Progress {
    total: u64,
    /// The next count that is worth a word; `None` for silence.
    next: Option<u64>,
}

impl Progress {
    fn of(total: u64, is_watched: bool) -> Progress {
        let is_shown = is_watched && total >= limits::PROGRESS_TICKETS_MIN;
        let next = is_shown.then_some(0);
        Progress { total, next }
    }

    fn reach(&mut self, count: u64) {
        if self.next.is_some_and(|next| count >= next) {
            let end = if count == self.total { "\n" } else { "" };
            let percent = count * 100 / self.total;
            // A terminal that has gone is no reason to stop.
            let _ = write!(io::stderr(), "\r{percent} % of {} tickets{end}", self.total);
            self.next = Some((count + self.total / 100).min(self.total));
        }
    }
}

fn decode(config: DecodeConfig) -> Result<(), Failure> {
    let DecodeConfig {
        ticket,
        max_nodes,
        starting_offset,
        json,
    } = config;
    let origin = Origin::of(ticket, max_nodes, starting_offset);
    if json {
        say(json!({
            "ticket": ticket,
            "possible": origin.is_some(),
            "node_number": origin.map(|origin| origin.node_number),
            "base_id": origin.map(|origin| origin.base),
        }))?;
    } else if let Some(Origin { node_number, base }) = origin {
        say(format_args!("ticket    {ticket}"))?;
        say(format_args!("node      {node_number} of {max_nodes}"))?;
        say(format_args!("base id   {base}"))?;
    }
    match origin {
        Some(_) => Ok(()),
        None => Err(Failure::Run(
            format!(
                "no node of this cluster can have issued {ticket}: its tickets begin at \
                 {starting_offset}"
            )
            .into(),
        )),
    }
}

fn cluster_check(config: ClusterConfig) -> Result<(), Failure> {
    let ClusterConfig {
        client,
        watch,
        json,
    } = config;
    let password = client.password.as_ref().map(Secret::expose);
    let mut out = io::stdout().lock();
    let clear = match watch && !json && out.is_terminal() {
        true => "\x1b[2J\x1b[H",
        false => "",
    };
    loop {
        let report = cluster::check(&client.servers, client.timeout, password);
        let written = match json {
            true => writeln!(out, "{}", report.to_json()),
            false => writeln!(out, "{clear}{report}"),
        };
        let written = written.and_then(|()| out.flush());
        let is_read = written.is_ok();
        printed(written)?;
        if watch && is_read {
            thread::sleep(limits::CLUSTER_WATCH_INTERVAL);
            continue;
        }
        return no_problems(report.problems.len());
    }
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    let mut command_line = command_line();
    clap_complete::generate(shell, &mut command_line, "tickr", &mut script);
    let mut out = io::stdout().lock();
    printed(out.write_all(&script).and_then(|()| out.flush()))
}

/// The exit code of a check whose problems have been printed.
fn no_problems(count: usize) -> Result<(), Failure> {
    match count {
        0 => Ok(()),
        1 => Err(Failure::Run("1 problem found".into())),
        count => Err(Failure::Run(format!("{count} problems found").into())),
    }
}

/// Prints what a command found or did.
fn say(line: impl fmt::Display) -> Result<(), Failure> {
    printed(writeln!(io::stdout(), "{line}"))
}

/// A reader that has closed the pipe has seen enough, but on a full disk tickets would be lost
/// silently.
fn printed(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Run(
            format!("cannot write output ({error}); the output is incomplete").into(),
        )),
        _ => Ok(()),
    }
}

/// The end of a socket that becomes readable when the process is asked to stop. A second signal
/// ends the process at once.
fn stop_signals() -> io::Result<UnixStream> {
    let (stop, sender) = UnixStream::pair()?;
    let asked_before = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&asked_before))?;
        flag::register(signal, Arc::clone(&asked_before))?;
        low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    Ok(stop)
}

/// Whoever sends a signal that asks other servers to reload or to reopen their logs means no harm.
fn ignore(signals: &[i32]) -> io::Result<()> {
    for signal in signals {
        flag::register(*signal, Arc::default())?;
    }
    Ok(())
}

/// Many connections need many open files, and shells allow few.
fn raise_open_files_limit(connections: usize, pool_size: usize) {
    let wanted = (connections + limits::CONNECTIONS_OVER_MAX + pool_size) as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    let raised = limit.maximum.map_or(wanted, |most| most.min(wanted));
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let outcome = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(raised),
            ..limit
        },
    );
    if outcome.is_err() || raised < wanted {
        log::warn!(
            "the open file limit ({raised}) is too low for {connections} connections \
             (TICKR_MAX_CONNECTIONS); raise it to {wanted} (ulimit -n, LimitNOFILE)"
        );
    }
}

fn listen(config: &Config) -> Result<Vec<Listener>, Failure> {
    let mut listeners = Vec::new();
    for address in &config.listen {
        listeners.extend(Listener::bind(address, config.socket_mode)?);
    }
    Ok(listeners)
}

fn serve_on(listeners: Vec<Listener>, config: Config, stop: UnixStream) -> Result<(), Failure> {
    let addresses: Vec<String> = listeners
        .iter()
        .map(|listener| listener.local_address().to_string())
        .collect();
    let Settings {
        host,
        username,
        name,
        tls,
        ..
    } = &config.database;
    log::info!(
        "tickr {} listens on {}; database {name} at {host} as {username}, {} connections, \
         encryption {tls}, time-out {:?}; {}; max_batch={} batch_format={} max_connections={} \
         shutdown_timeout={:?} prefetch_seconds={} http_auth={}",
        env!("CARGO_PKG_VERSION"),
        addresses.join(", "),
        config.pool_size,
        config.pool_timeout,
        config.numbering,
        config.max_batch,
        config.batch_format,
        config.max_connections,
        config.shutdown_timeout,
        config.prefetch_seconds,
        if config.auth_password.is_some() {
            "on"
        } else {
            "off"
        },
    );
    let password = config.auth_password.as_ref();
    let path = config.state_file.as_deref();
    let remembered = path.map(|path| state::read(path, &config.numbering));
    let remembered = remembered.unwrap_or_default();
    let start = |path| StateFile::start(path, config.numbering, remembered);
    let state_file = config.state_file.map(start).transpose()?;
    let options = server::Options {
        pool_size: config.pool_size,
        pool_timeout: config.pool_timeout,
        numbering: config.numbering,
        prefetch: Duration::from_secs_f64(config.prefetch_seconds),
        remembered,
        state_file,
        idle_timeout: config.idle_timeout,
        rules: Rules {
            max_batch: config.max_batch,
            batch_format: config.batch_format,
            password: password.map(|password| password.expose().as_bytes().into()),
        },
        password_file: config
            .auth_source
            .filter(SecretSource::is_file)
            .zip(config.auth_password),
        connections_max: config.max_connections,
        shutdown_timeout: config.shutdown_timeout,
        database: config.database,
    };
    Server::new(listeners, options)?.run(stop)?;
    log::info!("stopped");
    Ok(())
}

/// Why the program ends with an error.
#[derive(Debug)]
enum Failure {
    /// It cannot work as it was asked for: exit code 2.
    Usage(Box<dyn Error>),
    /// It failed while it ran: exit code 1.
    Run(Box<dyn Error>),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Run(_) => ExitCode::FAILURE,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        match fault.is_usage() {
            true => Failure::Usage(fault.into()),
            false => Failure::Run(fault.into()),
        }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Failure {
        match error {
            ServeError::Database(error) => error.into(),
            ServeError::Io(error) => error.into(),
        }
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Failure {
        Failure::Run(error.into())
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        Failure::Run(error.into())
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Failure {
        Failure::Run(error.into())
    }
}

/// Of what no command can do without: sockets, threads, signals. The system's own words do not say
/// what to do about them.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Run(match error.raw_os_error() {
            None => error.into(),
            Some(_) => format!(
                "the operating system refused what this command needs ({error}); raise the limits \
                 of open files (ulimit -n, LimitNOFILE), processes and memory, and start it again"
            )
            .into(),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(error) | Failure::Run(error) => error.fmt(f),
        }
    }
}
