//! The servers that are measured: Tickr, and the peers that it is held against. Each listens on
//! a free port of the loopback interface, with a configuration of its own in a temporary folder.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Params, Statement};
use rustix::process::geteuid;
use tickr::database::local::LocalServer;

use crate::Outcome;
use crate::load::Figures;
use crate::machine::{self, Server};

/// More than any row opens.
pub(crate) const CONNECTIONS_MAX: u64 = 12_000;

/// The program under test, as it is released.
pub(crate) const TICKR: &str = env!("CARGO_BIN_EXE_tickr");

/// Where a server listens, and its process.
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) socket: PathBuf,
    pub(crate) pid: u32,
    /// Each answer has a ticket above those of the answers before.
    pub(crate) increasing: bool,
}

impl Place {
    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// One `tickr serve`.
pub(crate) struct Tickr {
    _server: Server,
    pub(crate) place: Place,
}

impl Tickr {
    /// Creates the database that every Tickr of a run shares.
    pub(crate) fn create_database(database: &LocalServer) -> Outcome<()> {
        let output = tickr(database).args(["db", "create"]).output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "tickr db create failed: {}",
                String::from_utf8_lossy(&output.stderr)
            )
            .into()),
        }
    }

    /// Starts a server.
    pub(crate) fn start(
        folder: &Path,
        database: &LocalServer,
        prefetch: Prefetch,
    ) -> Outcome<Tickr> {
        let address = machine::free_address()?;
        let name = format!("tickr-{}", address.port());
        let socket = folder.join(format!("{name}.sock"));
        let log = File::create(folder.join(format!("{name}.log")))?;
        let mut command = tickr(database);
        command
            .arg("serve")
            .env(
                "TICKR_LISTEN",
                format!("{address},unix:{}", socket.display()),
            )
            .env("TICKR_MAX_CONNECTIONS", CONNECTIONS_MAX.to_string())
            .env("TICKR_SHUTDOWN_TIMEOUT", "1")
            .stderr(log);
        if prefetch == Prefetch::Off {
            command.env("TICKR_PREFETCH_SECONDS", "0");
        }
        let server = Server::start("tickr serve", &mut command, address)?;
        // The first ticket proves that the database is connected.
        machine::get(&mut TcpStream::connect(address)?, "/tickets/create")?;
        let place = Place {
            address,
            socket,
            pid: server.id(),
            increasing: true,
        };
        Ok(Tickr {
            _server: server,
            place,
        })
    }

    /// Where it listens on TCP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.place.address
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.place.pid
    }

    /// Reservations so far.
    pub(crate) fn commits(&self) -> Outcome<f64> {
        let answer = machine::get(&mut TcpStream::connect(self.place.address)?, "/metrics")?;
        let text = std::str::from_utf8(answer.body())?;
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("tickr_reservation_duration_seconds_count"))
            .ok_or("the metrics do not count reservations")?;
        Ok(count.trim().parse()?)
    }
}

/// Whether a Tickr reserves ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefetch {
    /// As it comes.
    Default,
    /// Strict mode: each request waits for a commit.
    Off,
}

/// The released program with the settings of this benchmark, and no other.
fn tickr(database: &LocalServer) -> Command {
    let mut command = Command::new(TICKR);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TICKR_") {
            command.env_remove(name);
        }
    }
    command
        .env("TICKR_DATABASE_HOST", database.socket())
        .env("TICKR_DATABASE_USERNAME", database.username())
        .env("TICKR_DATABASE_PASSWORD", database.password())
        .env("TICKR_DATABASE_NAME", "tickr")
        .env("TICKR_DATABASE_POOL_TIMEOUT", "10")
        .env("TICKR_MAX_NODES", "4")
        .env("TICKR_STARTING_OFFSET", "54313001")
        .env("TICKR_NODE_NUMBER", "0")
        .stdin(Stdio::null());
    command
}

/// nginx with a fixed answer at `/tickets/create` and files below it.
pub(crate) struct Nginx {
    _server: Server,
    pub(crate) place: Place,
    /// The `worker_processes` of its configuration.
    pub(crate) workers: &'static str,
    folder: PathBuf,
}

impl Nginx {
    /// Starts nginx; `workers` is its `worker_processes`.
    pub(crate) fn start(folder: &Path, workers: &'static str, body: &str) -> Outcome<Nginx> {
        let folder = folder.join(format!("nginx-{workers}"));
        fs::create_dir(&folder)?;
        let socket = folder.join("sock");
        let address = machine::free_address()?;
        let path = folder.display();
        // Workers of a master that runs as root could not read the folder.
        let user = if geteuid().is_root() {
            "user root root;"
        } else {
            ""
        };
        let configuration = format!(
            "daemon off;
             {user}
             worker_processes {workers};
             pid {path}/pid;
             error_log {path}/error.log;
             worker_rlimit_nofile {CONNECTIONS_MAX};
             events {{ worker_connections {CONNECTIONS_MAX}; }}
             http {{
                 access_log off;
                 sendfile on;
                 tcp_nopush on;
                 tcp_nodelay on;
                 keepalive_requests 1000000000;
                 keepalive_timeout 75s;
                 open_file_cache max=16;
                 default_type application/json;
                 client_body_temp_path {path}/body;
                 proxy_temp_path {path}/proxy;
                 fastcgi_temp_path {path}/fastcgi;
                 uwsgi_temp_path {path}/uwsgi;
                 scgi_temp_path {path}/scgi;
                 server {{
                     listen {address} backlog=4096;
                     listen unix:{} backlog=4096;
                     root {path};
                     location = /tickets/create {{ return 200 \"{body}\"; }}
                 }}
             }}",
            socket.display()
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration)?;
        let mut command = Command::new(machine::program("nginx")?);
        command
            .arg("-e")
            .arg(folder.join("error.log"))
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null());
        let server = Server::start("nginx", &mut command, address)?;
        let place = Place {
            address,
            socket,
            pid: server.id(),
            increasing: false,
        };
        Ok(Nginx {
            _server: server,
            place,
            workers,
            folder,
        })
    }

    /// Puts the bytes in place that are served at a path, which is one of Tickr's. Once: nginx
    /// remembers the size of a file.
    pub(crate) fn set_batch(&self, path: &str, body: &[u8]) -> Outcome<()> {
        let file = self.folder.join(path.trim_start_matches('/'));
        if file.exists() {
            return Ok(());
        }
        let folder = file.parent().ok_or("a file is in a folder")?;
        fs::create_dir_all(folder)?;
        Ok(fs::write(&file, body)?)
    }
}

/// Redis that flushes every write to disk before it answers, as Tickr's database does.
pub(crate) struct Redis {
    _server: Server,
    pub(crate) address: SocketAddr,
}

impl Redis {
    /// Starts Redis.
    pub(crate) fn start(folder: &Path) -> Outcome<Redis> {
        let folder = folder.join("redis");
        fs::create_dir(&folder)?;
        let address = machine::free_address()?;
        let configuration = format!(
            "bind 127.0.0.1\nport {}\ndir {}\nappendonly yes\nappendfsync always\nsave \"\"\n\
             daemonize no\nlogfile {}\nmaxclients {CONNECTIONS_MAX}\n",
            address.port(),
            folder.display(),
            folder.join("redis.log").display(),
        );
        let file = folder.join("redis.conf");
        fs::write(&file, configuration)?;
        let mut command = Command::new(machine::program("redis-server")?);
        command.arg(&file).stdin(Stdio::null());
        Ok(Redis {
            _server: Server::start("redis-server", &mut command, address)?,
            address,
        })
    }
}

/// A client that does nothing but the reservation, one after the other, on a table of its own.
/// It stands in for a client in C, which the packages in use here do not bring.
pub(crate) struct BareUpdate {
    connection: Conn,
}

impl BareUpdate {
    /// Creates the table.
    pub(crate) fn connect(database: &LocalServer) -> Outcome<BareUpdate> {
        let mut connection = connect(database, None)?;
        for statement in [
            "CREATE DATABASE bare",
            "CREATE TABLE bare.tickets (id BIGINT UNSIGNED NOT NULL, \
             stub CHAR(1) NOT NULL PRIMARY KEY) ENGINE=InnoDB",
            "INSERT INTO bare.tickets VALUES (1, 'a')",
        ] {
            connection.query_drop(statement)?;
        }
        Ok(BareUpdate { connection })
    }

    /// The version of the database server.
    pub(crate) fn server_version(&mut self) -> Outcome<String> {
        let version = self.connection.query_first("SELECT VERSION()")?;
        Ok(version.unwrap_or_default())
    }

    /// Updates for so many seconds; the median is of one update.
    pub(crate) fn run(&mut self, seconds: u64) -> Outcome<Figures> {
        let started = Instant::now();
        let mut latencies = Vec::new();
        while started.elapsed() < Duration::from_secs(seconds) {
            let sent = Instant::now();
            self.connection.query_drop(
                "UPDATE bare.tickets SET id = LAST_INSERT_ID(id + 1) WHERE stub = 'a'",
            )?;
            latencies.push(sent.elapsed().as_secs_f64());
            if self.connection.affected_rows() != 1 {
                return Err("the bare UPDATE did not find its row".into());
            }
        }
        let elapsed = started.elapsed().as_secs_f64();
        latencies.sort_by(f64::total_cmp);
        Ok(Figures {
            rate: latencies.len() as f64 / elapsed,
            median_seconds: latencies[latencies.len() / 2],
            ..Figures::default()
        })
    }
}

/// Connections that do nothing but move Tickr's counter, each one after the other.
pub(crate) struct Reservations {
    connections: Vec<(Conn, Statement)>,
    values: Params,
}

impl Reservations {
    /// With the statement that the program prepares, taken from the server's log.
    pub(crate) fn with_conditions(database: &LocalServer, connections: usize) -> Outcome<Self> {
        let mut connection = connect(database, Some("tickr"))?;
        connection.query_drop("SET GLOBAL log_output = 'TABLE'")?;
        connection.query_drop("SET GLOBAL general_log = 1")?;
        let folder = tempfile::tempdir()?;
        let started = Tickr::start(folder.path(), database, Prefetch::Off).map(drop);
        connection.query_drop("SET GLOBAL general_log = 0")?;
        started?;
        let text: Option<String> = connection.query_first(
            "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log \
             WHERE command_type = 'Prepare' AND argument LIKE 'UPDATE tickets SET id = LAST%'",
        )?;
        let text = text.ok_or("the log of the server shows no reservation")?;
        let epoch = connection.query_first("SELECT epoch, epoch_tag FROM tickets")?;
        let (number, tag): (u64, u64) = epoch.ok_or("the counter is gone")?;
        // How many, up to where, from where, and in which epoch.
        let values = (1, u64::MAX / 8, 1, number, tag);
        Reservations::new(database, connections, &text, values.into())
    }

    /// With none of them.
    pub(crate) fn without(database: &LocalServer, connections: usize) -> Outcome<Self> {
        let text = "UPDATE tickets SET id = LAST_INSERT_ID(id + ?) WHERE stub = 'a'";
        Reservations::new(database, connections, text, (1,).into())
    }

    fn new(database: &LocalServer, count: usize, text: &str, values: Params) -> Outcome<Self> {
        let connections = (0..count).map(|_| {
            let mut connection = connect(database, Some("tickr"))?;
            let statement = connection.prep(text)?;
            Ok((connection, statement))
        });
        Ok(Reservations {
            connections: connections.collect::<Outcome<_>>()?,
            values,
        })
    }

    /// All of them for so many seconds.
    pub(crate) fn run(&mut self, seconds: u64) -> Outcome<Figures> {
        let started = Instant::now();
        let values = &self.values;
        let reserve = |(connection, statement): &mut (Conn, Statement)| -> mysql::Result<u64> {
            let mut done = 0;
            while started.elapsed() < Duration::from_secs(seconds) {
                connection.exec_drop(&*statement, values)?;
                done += connection.affected_rows();
            }
            Ok(done)
        };
        let done = thread::scope(|scope| {
            let each = self.connections.iter_mut();
            let threads: Vec<_> = each.map(|one| scope.spawn(move || reserve(one))).collect();
            let done = threads.into_iter().map(|thread| match thread.join() {
                Ok(done) => Ok(done?),
                Err(_) => Err("a thread that reserves has panicked".into()),
            });
            done.collect::<Outcome<Vec<u64>>>()
        })?;
        match done.contains(&0) {
            true => Err("a reservation does not find the counter open".into()),
            false => Ok(Figures {
                rate: done.iter().sum::<u64>() as f64 / started.elapsed().as_secs_f64(),
                ..Figures::default()
            }),
        }
    }
}

/// The size of the binary log.
pub(crate) fn binary_log_bytes(database: &LocalServer) -> Outcome<u64> {
    let mut rows: Vec<mysql::Row> = connect(database, Some("tickr"))?.query("SHOW BINARY LOGS")?;
    let sizes = rows.iter_mut().filter_map(|row| row.take::<u64, _>(1));
    Ok(sizes.sum())
}

fn connect(database: &LocalServer, name: Option<&str>) -> Outcome<Conn> {
    let options = OptsBuilder::new()
        .socket(database.socket().to_str())
        .user(Some(database.username()))
        .pass(Some(database.password()))
        .db_name(name);
    Ok(Conn::new(options)?)
}
