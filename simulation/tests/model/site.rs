//! Real servers for the model to be held against.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::{FromRow, Queryable};
use mysql::{Conn, OptsBuilder};
use tickr::counter::Epoch;
use tickr::database::local::{LocalOptions, LocalServer};
use tickr::database::{Failover, Host, Secret, Settings, Tls, schema};
use tickr::ticket::Numbering;
use tickr_simulation::database::{Owned, Row};

use crate::play::Checked;

const DEADLINE: Duration = Duration::from_secs(30);
/// The shortest: an `advance` waits for it, and a second more.
pub(crate) const LEASE: Duration = Duration::from_secs(1);
/// The database with this version's table, and the one with the original's.
pub(crate) const OURS: &str = "tickr";
pub(crate) const ORIGINAL: &str = "original";

/// The servers; the identity of each is its place.
pub(crate) struct Site {
    servers: Vec<LocalServer>,
    admins: Vec<Conn>,
    _folder: Folder,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Site {
    pub(crate) fn start(count: usize) -> Site {
        let name = format!("tickr-model-{}-{count}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        let servers: Vec<LocalServer> = (0..count)
            .map(|index| {
                let mut arguments = vec![
                    format!("--server-id=1{index}"),
                    // Nothing here crashes.
                    "--innodb-flush-log-at-trx-commit=0".to_owned(),
                ];
                if count > 1 {
                    arguments.push("--log-bin".to_owned());
                }
                let options = LocalOptions {
                    tcp: count > 1,
                    extra_arguments: arguments,
                    ..LocalOptions::new(folder.0.join(index.to_string()))
                };
                LocalServer::start(options).unwrap_or_else(|error| panic!("{error}"))
            })
            .collect();
        let mut site = Site {
            admins: Vec::new(),
            servers,
            _folder: folder,
        };
        for server in 0..count {
            site.admins.push(site.connect(server));
            site.run(
                server,
                &[
                    &format!("CREATE DATABASE {ORIGINAL}"),
                    &format!(
                        "CREATE TABLE {ORIGINAL}.tickets (id BIGINT UNSIGNED NOT NULL \
                         AUTO_INCREMENT PRIMARY KEY, stub CHAR(1) NOT NULL UNIQUE DEFAULT '')"
                    ),
                    &format!("INSERT INTO {ORIGINAL}.tickets VALUES (1, 'a')"),
                    "CREATE USER plain IDENTIFIED BY 'tickr'",
                    "GRANT SELECT, UPDATE ON *.* TO plain",
                ],
            );
            for name in [OURS, ORIGINAL] {
                let settings = site.settings(server, name, true);
                schema::create(&settings, &numbering(), LEASE).expect("it is created");
            }
        }
        site
    }

    pub(crate) fn count(&self) -> usize {
        self.servers.len()
    }

    pub(crate) fn settings(&self, server: usize, name: &str, privileged: bool) -> Settings {
        let server = &self.servers[server];
        let username = match privileged {
            true => server.username(),
            false => "plain",
        };
        Settings {
            host: Host::Socket(server.socket().to_owned()),
            username: username.to_owned(),
            password: Secret::new(server.password()).into(),
            name: name.to_owned(),
            timeout: DEADLINE,
            tls: Tls::Off,
            public_key: None,
            failover: Failover::Stop,
        }
    }

    /// Another connection of the administrator.
    pub(crate) fn connect(&self, server: usize) -> Conn {
        let server = &self.servers[server];
        let options = OptsBuilder::new()
            .socket(server.socket().to_str())
            .user(Some(server.username()))
            .pass(Some(server.password()));
        Conn::new(options).expect("the server lets its administrator in")
    }

    pub(crate) fn run(&mut self, server: usize, statements: &[&str]) {
        for statement in statements {
            let done = self.admins[server].query_drop(statement);
            done.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }

    /// Changes rows over a session that is as strict as it says; how many, or the error's number.
    pub(crate) fn change(&mut self, server: usize, mode: &str, sql: &str) -> Result<u64, u16> {
        let mut conn = self.connect(server);
        let mode = format!("SET SESSION sql_mode = '{mode}'");
        conn.query_drop(mode).expect("it is a mode");
        match conn.query_drop(sql) {
            Ok(()) => Ok(conn.affected_rows()),
            Err(mysql::Error::MySqlError(error)) => Err(error.code),
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    pub(crate) fn ask<T: FromRow>(&mut self, server: usize, sql: &str) -> Option<T> {
        let asked = self.admins[server].query_first(sql);
        asked.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) fn row(&mut self, server: usize, name: &str) -> Row {
        let sql = format!("SELECT id, mark, owner, epoch, epoch_tag FROM {name}.tickets");
        let (id, mark, owner, number, tag): (u64, u64, String, u64, u64) =
            self.ask(server, &sql).expect("there is a row");
        Row {
            id,
            mark,
            owner: match owner.as_str() {
                "" => Owned::Nobody,
                "closed" => Owned::Closed,
                other => Owned::By(place(other).parse().expect("it is one of ours")),
            },
            epoch: Epoch { number, tag },
        }
    }

    pub(crate) fn kill(&mut self, server: usize, connection: u64) {
        self.run(server, &[&format!("KILL CONNECTION {connection}")]);
        let left = format!("SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {connection}");
        self.wait(|site| Ok(site.ask::<u64>(server, &left).is_none()))
            .expect("it ends");
    }

    /// Makes a server the replica of another one, from where that one was promoted.
    pub(crate) fn follow(&mut self, replica: usize, primary: usize) {
        let own = &self.servers[primary];
        let source = format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = '{}', \
             MASTER_PASSWORD = '{}', MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos",
            own.port().expect("it has one"),
            own.username(),
            own.password()
        );
        self.run(
            replica,
            &[
                "RESET MASTER",
                "SET GLOBAL gtid_slave_pos = ''",
                &source,
                "SET GLOBAL read_only = 1",
                "START SLAVE",
            ],
        );
    }

    /// Takes in what a replica has received, and no more.
    pub(crate) fn apply_relay_log(&mut self, replica: usize) -> Checked {
        self.run(replica, &["STOP SLAVE IO_THREAD", "START SLAVE SQL_THREAD"]);
        let sql = "SELECT STATE FROM information_schema.PROCESSLIST WHERE COMMAND = 'Slave_SQL'";
        self.wait(|site| {
            let state: Option<String> = site.ask(replica, sql);
            Ok(state.is_some_and(|state| state.starts_with("Slave has read all relay log")))
        })
    }

    pub(crate) fn wait(&mut self, mut until: impl FnMut(&mut Site) -> Checked<bool>) -> Checked {
        let began = Instant::now();
        while !until(self)? {
            if began.elapsed() > DEADLINE {
                return Err("it takes too long".to_owned());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

pub(crate) fn numbering() -> Numbering {
    Numbering::new(4, 1, 0).expect("it is good")
}

/// What the model calls a server of this identity.
pub(crate) fn place(identity: &str) -> &str {
    identity.trim_start_matches("mariadb:1")
}
