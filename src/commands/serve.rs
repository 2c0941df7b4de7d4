//! The commands that serve: `tickr serve`, and `tickr dev` with a MySQL server of its own.

use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};
use tickr::api::routes::Rules;
use tickr::config::{Config, DevConfig};
use tickr::database::local::{LocalError, LocalOptions, LocalServer};
use tickr::database::{Settings, schema};
use tickr::limits;
use tickr::secret::SecretSource;
use tickr::server::{self, Server};
use tickr::socket::{Address, BindError, Listener};
use tickr::state::{self, StateFile};

use super::failure::Failure;
use super::output::say;
use super::process::{ignore, raise_open_files_limit, stop_signals};

/// Serves until a signal asks it to stop.
pub(crate) fn serve(config: Config) -> Result<(), Failure> {
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
pub(crate) fn dev(config: DevConfig) -> Result<(), Failure> {
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
    let server = LocalServer::start(options)?;
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
    let (running, stopped) = mpsc::channel();
    let keeper = thread::Builder::new()
        .name("tickr-dev".to_owned())
        .spawn(move || keep(server, &stopped))?;
    let served = serve_on(listeners, config, stop);
    drop(running);
    // A panic has been reported by the panic hook, and has stopped the server.
    let stopped = keeper.join().unwrap_or(Ok(()));
    served.and(stopped.map_err(Failure::from))
}

/// Starts the private MySQL server again whenever it ends by itself, until `stopped` is closed.
fn keep(mut server: LocalServer, stopped: &Receiver<()>) -> Result<(), LocalError> {
    let mut failed = false;
    while stopped.recv_timeout(limits::LOCAL_REVIVE_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let revived = server.revive();
        match &revived {
            Ok(None) => continue,
            Ok(Some(status)) => {
                log::warn!("the private MySQL server has ended ({status}); it has been restarted");
            }
            Err(error) if !failed => {
                log::error!("cannot restart the private MySQL server, trying again: {error}");
            }
            Err(_) => {}
        }
        failed = revived.is_err();
    }
    server.stop()
}

fn listen(config: &Config) -> Result<Vec<Listener>, Failure> {
    let mut listeners = Vec::new();
    for address in &config.listen {
        let bound = Listener::bind(address, config.socket_mode);
        listeners.extend(bound.map_err(|error| taken(error, address, &listeners))?);
    }
    Ok(listeners)
}

/// Whoever is told that an address is in use looks for another program.
fn taken(error: BindError, address: &Address, ours: &[Listener]) -> Failure {
    match ours.iter().find(|listener| listener.has_taken(&error)) {
        Some(listener) => Failure::Usage(
            format!(
                "TICKR_LISTEN has two addresses that exclude each other: {} and {address}; remove \
                 one of them",
                listener.local_address()
            )
            .into(),
        ),
        None => error.into(),
    }
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
         encryption {tls}, timeout {:?}; {}; max_batch={} batch_format={} max_connections={} \
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
