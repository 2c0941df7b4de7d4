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

use clap_complete::Shell;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use tickr::client::{self, Client};
use tickr::cluster;
use tickr::config::{
    AdvanceConfig, ClientConfig, Config, DatabaseConfig, DevConfig, DropConfig, Mistakes,
};
use tickr::database::local::{LocalError, LocalOptions, LocalServer};
use tickr::database::{DatabaseError, Secret, Settings, schema};
use tickr::http::route::Rules;
use tickr::limits;
use tickr::logging::Format;
use tickr::server::{self, ServeError, Server};
use tickr::socket::{Address, BindError, Listener};

use crate::cli::Command;

mod cli;

/// Open files beside those of connections: the listeners, epoll, the log.
const OTHER_FILES: u64 = 64;

fn main() -> ExitCode {
    let matches = match cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(answer) => {
            // The help and the version are answers as well; a closed pipe is not our concern.
            let _ = answer.print();
            return u8::try_from(answer.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let mut for_collectors = false;
    let ended = Command::read(&matches)
        .map_err(Failure::from)
        .and_then(|command| {
            let logging = command.logging();
            for_collectors = logging.is_some_and(|logging| logging.format == Format::Json);
            run(command)
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

fn run(command: Command) -> Result<(), Failure> {
    if let Some(logging) = command.logging() {
        logging.start();
    }
    match command {
        Command::Serve(config) => serve(*config),
        Command::Dev(config) => dev(*config),
        Command::DbCreate(config) => db_create(config),
        Command::DbCheck(config) => db_check(config),
        Command::DbMigrate(config) => db_migrate(config),
        Command::DbAdvance(config) => db_advance(config),
        Command::DbDrop(config) => db_drop(config),
        Command::Get { config, count } => get(config, count),
        Command::ClusterCheck {
            config,
            watch,
            json,
        } => cluster_check(&config, watch, json),
        Command::Completions(shell) => completions(shell),
    }
}

/// Serves until a signal asks it to stop.
fn serve(config: Config) -> Result<(), Failure> {
    // Before anything else: it changes the environment.
    let inherited = Listener::inherited()?;
    let stop = stop_signals()?;
    // Settings are read at the start alone. Whoever sends this means no harm.
    flag::register(SIGHUP, Arc::default())?;
    raise_open_files_limit(config.max_connections, config.pool_size);
    let listeners = match inherited.is_empty() {
        true => listen(&config)?,
        false => {
            log::info!("systemd has passed sockets: they are served instead of TICKR_LISTEN");
            inherited
        }
    };
    serve_on(listeners, config, stop)
}

/// Serves from a private MySQL server, with its data in a folder.
fn dev(config: DevConfig) -> Result<(), Failure> {
    let stop = stop_signals()?;
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
    let created = schema::create(&config.database, &config.numbering)?;
    log::info!("database {}: {created}", config.database.name);
    let listeners = listen(&config)?;
    say("\nTickr is ready. In another terminal, type:\n")?;
    for listener in &listeners {
        match listener.local_address() {
            Address::Tcp(address) => say(format_args!("    curl http://{address}/tickets/create")),
            Address::Unix(path) => say(format_args!(
                "    curl --unix-socket {} http://localhost/tickets/create/5",
                path.display()
            )),
        }?;
    }
    say("\nCtrl-C stops it. The tickets go on from where they were the next time.\n")?;
    let served = serve_on(listeners, config, stop);
    let stopped = server.stop();
    served.and(stopped.map_err(Failure::from))
}

fn db_create(config: DatabaseConfig) -> Result<(), Failure> {
    let created = schema::create(&config.database, &config.numbering)?;
    say(format_args!("{}: {created}", config.database.name))
}

fn db_check(config: DatabaseConfig) -> Result<(), Failure> {
    let report = schema::check(&config.database, &config.numbering)?;
    say(report.to_string().trim_end())?;
    no_problems(report.problems.len())
}

fn db_migrate(config: DatabaseConfig) -> Result<(), Failure> {
    let migrated = schema::migrate(&config.database)?;
    say(format_args!("{}: {migrated}", config.database.name))
}

fn db_advance(config: AdvanceConfig) -> Result<(), Failure> {
    let AdvanceConfig { target, past } = config;
    let advanced = schema::advance(&target.database, &target.numbering, past)?;
    say(format_args!("{}: {advanced}", target.database.name))
}

fn db_drop(config: DropConfig) -> Result<(), Failure> {
    schema::drop_database(&config.database, &config.confirmed)?;
    say(format_args!("{}: dropped", config.database.name))
}

fn get(config: ClientConfig, count: u64) -> Result<(), Failure> {
    let options = client::Options {
        timeout: config.timeout,
        password: config.password.map(|password| password.expose().to_owned()),
        cache: 0,
        ..client::Options::default()
    };
    let run = Client::with_options(config.servers, options)?.batch(count)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let written = (0..run.count).try_for_each(|index| writeln!(out, "{}", run.ticket(index)));
    printed(written.and_then(|()| out.flush()))
}

fn cluster_check(config: &ClientConfig, watch: bool, json: bool) -> Result<(), Failure> {
    let password = config.password.as_ref().map(Secret::expose);
    let mut out = io::stdout().lock();
    let clear = match watch && !json && out.is_terminal() {
        true => "\x1b[2J\x1b[H",
        false => "",
    };
    loop {
        let report = cluster::check(&config.servers, config.timeout, password);
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
    clap_complete::generate(shell, &mut cli::command(), "tickr", &mut script);
    let mut out = io::stdout().lock();
    printed(out.write_all(&script).and_then(|()| out.flush()))
}

/// The exit code of a check whose problems have been printed.
fn no_problems(count: usize) -> Result<(), Failure> {
    match count {
        0 => Ok(()),
        1 => Err(Failure::Run("there is 1 problem, named above".into())),
        count => Err(Failure::Run(
            format!("there are {count} problems, named above").into(),
        )),
    }
}

/// Prints what a command found or did.
fn say(line: impl fmt::Display) -> Result<(), Failure> {
    printed(writeln!(io::stdout(), "{line}"))
}

/// What becomes of a command whose output could be written or not: a reader that has gone away has
/// seen enough, but on a full disk tickets would be lost without a word.
fn printed(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Run(
            format!("the output can't be written ({error}); what stands there is not complete")
                .into(),
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
            "the limit of open files ({raised}) is too low for {connections} connections \
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
    let options = server::Options {
        pool_size: config.pool_size,
        pool_timeout: config.pool_timeout,
        numbering: config.numbering,
        prefetch_seconds: config.prefetch_seconds,
        rules: Rules {
            max_batch: config.max_batch,
            batch_format: config.batch_format,
            password: password.map(|password| password.expose().as_bytes().into()),
        },
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

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Failure {
        Failure::Usage(mistakes.into())
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Failure {
        match error {
            DatabaseError::SettingsDiffer { .. }
            | DatabaseError::NotConfirmed { .. }
            | DatabaseError::NotOnlyOurs { .. } => Failure::Usage(error.into()),
            error => Failure::Run(error.into()),
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

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Run(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(error) | Failure::Run(error) => error.fmt(f),
        }
    }
}
