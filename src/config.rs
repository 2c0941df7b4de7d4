//! From settings as text to what a command works with. Each `read` is also the command's list of
//! settings: the help shows what it asks for, in that order.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap_complete::Shell;

use crate::client::ServerUrl;
use crate::database::{Failover, Host, Password, Settings, Tls};
use crate::http::array;
use crate::logging::Logging;
use crate::secret::{Secret, SecretError, SecretSource};
use crate::settings::{self, ColumnName, Setting, TlsMode};
use crate::socket::Address;
use crate::ticket::{Numbering, NumberingError};

mod reader;
#[cfg(test)]
mod tests;
mod unknown;

pub use reader::{Given, Mistakes, Reader, read, rows};
pub use unknown::unknown_variables;

/// What `tickr serve` works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database and who logs in to it.
    pub database: Settings,
    /// Connections to the database; 1 to [`crate::limits::POOL_SIZE_MAX`].
    pub pool_size: usize,
    /// How long a request waits for the database; the same as the time-out in `database`.
    pub pool_timeout: Duration,
    /// The three settings that can never change.
    pub numbering: Numbering,
    /// Where to listen; at least one.
    pub listen: Vec<Address>,
    /// File mode of the Unix sockets.
    pub socket_mode: u32,
    /// The password of HTTP Basic auth (RFC 7617) as it was at the start; `None` for no auth.
    pub auth_password: Option<Secret>,
    /// Where that password comes from.
    pub auth_source: Option<SecretSource>,
    /// The largest batch, in tickets.
    pub max_batch: u64,
    /// What a batch is written as when the request names no format.
    pub batch_format: array::Format,
    /// The most client connections at once.
    pub max_connections: usize,
    /// A connection without a request is closed after this long.
    pub idle_timeout: Duration,
    /// How long shutdown waits for in-flight responses.
    pub shutdown_timeout: Duration,
    /// Seconds of recent demand that are reserved ahead; 0 for strict mode.
    pub prefetch_seconds: f64,
    /// Where the highest base id seen outlives a restart.
    pub state_file: Option<PathBuf>,
    /// What is logged.
    pub logging: Logging,
}

impl Config {
    /// Reads the settings of `tickr serve`.
    pub fn read(reader: &mut Reader<'_>) -> Config {
        let database = reader.database();
        let numbering = reader.numbering();
        let listen = reader.under("HTTP").get(&settings::LISTEN);
        let mut config = Config::server(reader, database, numbering, listen);
        config.state_file = reader.under("Reservations").find(&settings::STATE_FILE);
        config
    }

    /// All but the state file.
    fn server(
        reader: &mut Reader<'_>,
        database: Settings,
        numbering: Numbering,
        listen: Vec<Address>,
    ) -> Config {
        let (auth_password, auth_source) = reader.http_password().unzip();
        Config {
            pool_timeout: database.timeout,
            database,
            numbering,
            listen,
            auth_password,
            auth_source,
            socket_mode: reader.get(&settings::SOCKET_MODE),
            max_batch: reader.get(&settings::MAX_BATCH),
            batch_format: reader.get(&settings::BATCH_FORMAT),
            max_connections: reader.get(&settings::MAX_CONNECTIONS),
            idle_timeout: reader.get(&settings::IDLE_TIMEOUT),
            shutdown_timeout: reader.get(&settings::SHUTDOWN_TIMEOUT),
            pool_size: reader.under("Database").get(&settings::DATABASE_POOL_SIZE),
            prefetch_seconds: reader
                .under("Reservations")
                .get(&settings::PREFETCH_SECONDS)
                .as_secs_f64(),
            state_file: None,
            logging: reader.logging(),
        }
    }
}

/// What `tickr dev` works with.
#[derive(Clone, Debug)]
pub struct DevConfig {
    /// The MySQL server program; looked for when `None`.
    pub mysqld: Option<PathBuf>,
    /// Where the private server keeps its data.
    pub data_dir: PathBuf,
    /// All but the login at the database, which is only known once the private server runs.
    serve: Config,
}

impl DevConfig {
    /// Reads the settings of `tickr dev`: those of `tickr serve`, but the database is its own.
    pub fn read(reader: &mut Reader<'_>) -> DevConfig {
        reader.under("Private MySQL server");
        let mysqld = reader.find(&settings::MYSQLD);
        let data_dir = reader.get(&settings::DATA_DIR);
        let nowhere = Settings {
            host: Host::Socket(PathBuf::new()),
            username: String::new(),
            password: Secret::default().into(),
            name: "tickr".to_owned(),
            timeout: reader
                .under("Database")
                .get(&settings::DATABASE_POOL_TIMEOUT),
            tls: Tls::Off,
            public_key: None,
            failover: Failover::Stop,
        };
        reader.under("Numbering (cannot be changed while the data directory is kept)");
        let numbering = reader.numbering_of([
            &settings::DEV_MAX_NODES,
            &settings::DEV_STARTING_OFFSET,
            &settings::DEV_NODE_NUMBER,
        ]);
        let listen = reader.under("HTTP").find(&settings::DEV_LISTEN);
        let listen = listen.unwrap_or_else(|| {
            let tcp = Address::Tcp("127.0.0.1:8080".to_owned());
            vec![tcp, Address::Unix(data_dir.join("tickr.sock"))]
        });
        let mut serve = Config::server(reader, nowhere, numbering, listen);
        let state_file = reader.under("Reservations").find(&settings::DEV_STATE_FILE);
        serve.state_file = state_file.or_else(|| Some(data_dir.join("tickr.state")));
        DevConfig {
            mysqld,
            data_dir,
            serve,
        }
    }

    /// What is logged.
    pub fn logging(&self) -> &Logging {
        &self.serve.logging
    }

    /// The configuration of the server, with the login at the private MySQL server.
    pub fn serve(self, socket: &Path, username: &str, password: &str) -> Config {
        let mut config = self.serve;
        config.database.host = Host::Socket(socket.to_owned());
        config.database.username = username.to_owned();
        config.database.password = Secret::new(password).into();
        config
    }
}

/// What every `tickr db` command works with, except `drop`.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// The database and who logs in to it.
    pub database: Settings,
    /// The three settings that can never change.
    pub numbering: Numbering,
    /// What is logged.
    pub logging: Logging,
}

impl DatabaseConfig {
    /// Reads the settings of `tickr db migrate`.
    pub fn read(reader: &mut Reader<'_>) -> DatabaseConfig {
        let database = reader.database();
        DatabaseConfig {
            database,
            numbering: reader.numbering(),
            logging: reader.logging(),
        }
    }
}

/// What `tickr db create` and `tickr db lease` work with.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// The database and its numbering.
    pub target: DatabaseConfig,
    /// The lease to store beside the counter.
    pub lease_seconds: u64,
}

impl LeaseConfig {
    /// Reads the settings of `tickr db create`, where the lease has a default.
    pub fn read_create(reader: &mut Reader<'_>) -> LeaseConfig {
        LeaseConfig {
            lease_seconds: reader.get(&settings::CREATE_LEASE_SECONDS),
            target: DatabaseConfig::read(reader),
        }
    }

    /// Reads the settings of `tickr db lease`, where it is required.
    pub fn read(reader: &mut Reader<'_>) -> LeaseConfig {
        LeaseConfig {
            lease_seconds: reader.get(&settings::LEASE_SECONDS),
            target: DatabaseConfig::read(reader),
        }
    }
}

/// What `tickr db check` works with.
#[derive(Clone, Debug)]
pub struct CheckConfig {
    /// The database and its numbering.
    pub target: DatabaseConfig,
    /// A column of an application, to compare with the counter.
    pub column: Option<ColumnName>,
    /// Whether the report is for scripts.
    pub json: bool,
}

impl CheckConfig {
    /// Reads the settings of `tickr db check`.
    pub fn read(reader: &mut Reader<'_>) -> CheckConfig {
        CheckConfig {
            column: reader.find(&settings::TABLE),
            json: reader.find(&settings::JSON).is_some(),
            target: DatabaseConfig::read(reader),
        }
    }
}

/// What `tickr db advance` works with.
#[derive(Clone, Debug)]
pub struct AdvanceConfig {
    /// The database and its numbering.
    pub target: DatabaseConfig,
    /// Every later ticket must be above this one; `None` for what the database has recorded.
    pub past: Option<u64>,
    /// Base ids to skip beyond that.
    pub margin: u64,
}

impl AdvanceConfig {
    /// Reads the settings of `tickr db advance`.
    pub fn read(reader: &mut Reader<'_>) -> AdvanceConfig {
        AdvanceConfig {
            past: reader.find(&settings::PAST),
            margin: reader.get(&settings::MARGIN),
            target: DatabaseConfig::read(reader),
        }
    }
}

/// What `tickr db drop` works with; made only when the confirmation is the database's name.
#[derive(Clone, Debug)]
pub struct DropConfig {
    /// The database and who logs in to it.
    pub database: Settings,
    /// The database's name, as the operator repeated it.
    pub confirmed: String,
    /// What is logged.
    pub logging: Logging,
}

impl DropConfig {
    /// Reads the settings of `tickr db drop`.
    pub fn read(reader: &mut Reader<'_>) -> DropConfig {
        let confirmed = reader.find(&settings::CONFIRM);
        let database = reader.database();
        if let Some(name) = confirmed.as_ref().filter(|name| **name != database.name) {
            let problem = format!("is {}", settings::shown(name));
            reader.mistake(&settings::CONFIRM.row, problem);
        }
        DropConfig {
            database,
            confirmed: confirmed.unwrap_or_default(),
            logging: reader.logging(),
        }
    }
}

/// What the commands that ask servers work with.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Whom to ask; at least one.
    pub servers: Vec<ServerUrl>,
    /// The servers' HTTP password.
    pub password: Option<Secret>,
    /// How long one server may take.
    pub timeout: Duration,
}

impl ClientConfig {
    fn read(reader: &mut Reader<'_>, servers: &'static Setting<Vec<ServerUrl>>) -> ClientConfig {
        let (value, file) = (&settings::CLIENT_PASSWORD, &settings::CLIENT_PASSWORD_FILE);
        let servers = reader.get(servers);
        reader.under("Client");
        let password = reader.password(value, file, SecretSource::read_for_http);
        ClientConfig {
            servers,
            password: password.map(|(password, _)| password),
            timeout: reader.get(&settings::CLIENT_TIMEOUT),
        }
    }
}

/// What `tickr get` works with.
#[derive(Clone, Debug)]
pub struct GetConfig {
    /// Whom to ask.
    pub client: ClientConfig,
    /// How many tickets to get.
    pub count: u64,
    /// Whether to go on until Ctrl-C.
    pub watch: bool,
    /// The pause before the next ones.
    pub interval: Duration,
}

impl GetConfig {
    /// Reads the settings of `tickr get`.
    pub fn read(reader: &mut Reader<'_>) -> GetConfig {
        let count = reader.get(&settings::COUNT);
        let watch = reader.find(&settings::GET_WATCH).is_some();
        let interval = reader.find(&settings::INTERVAL);
        if interval.is_some() && !watch {
            let problem = "has no effect without --watch";
            reader.mistake(&settings::INTERVAL.row, problem);
        }
        GetConfig {
            count,
            watch,
            interval: interval.unwrap_or(crate::limits::GET_INTERVAL),
            client: ClientConfig::read(reader, &settings::SERVER),
        }
    }
}

/// What `tickr cluster check` works with.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Whom to ask.
    pub client: ClientConfig,
    /// Whether the check is repeated.
    pub watch: bool,
    /// Whether the report is for scripts.
    pub json: bool,
}

impl ClusterConfig {
    /// Reads the settings of `tickr cluster check`.
    pub fn read(reader: &mut Reader<'_>) -> ClusterConfig {
        ClusterConfig {
            watch: reader.find(&settings::WATCH).is_some(),
            json: reader.find(&settings::JSON).is_some(),
            client: ClientConfig::read(reader, &settings::NODES),
        }
    }
}

/// What `tickr decode` works with.
#[derive(Clone, Copy, Debug)]
pub struct DecodeConfig {
    /// The ticket.
    pub ticket: u64,
    /// The nodes of the cluster.
    pub max_nodes: u64,
    /// The first ticket of node 0.
    pub starting_offset: u64,
    /// Whether the answer is for scripts.
    pub json: bool,
}

impl DecodeConfig {
    /// Reads the settings of `tickr decode`.
    pub fn read(reader: &mut Reader<'_>) -> DecodeConfig {
        DecodeConfig {
            ticket: reader.get(&settings::TICKET),
            json: reader.find(&settings::JSON).is_some(),
            max_nodes: reader.under(NUMBERING).get(&settings::MAX_NODES),
            starting_offset: reader.get(&settings::STARTING_OFFSET),
        }
    }
}

/// Reads the argument of `tickr completions`.
pub fn read_shell(reader: &mut Reader<'_>) -> Shell {
    reader.get(&settings::SHELL)
}

const NUMBERING: &str = "Numbering (cannot be changed once live)";

/// Settings that only make sense together.
impl Reader<'_> {
    fn database(&mut self) -> Settings {
        let host = self.under("Database").get(&settings::DATABASE_HOST);
        let port = self.get(&settings::DATABASE_PORT);
        let is_socket = host.starts_with('/');
        let username = self.get(&settings::DATABASE_USERNAME);
        let (value, file) = (
            &settings::DATABASE_PASSWORD,
            &settings::DATABASE_PASSWORD_FILE,
        );
        let password = self.password(value, file, SecretSource::read);
        let password = match password.unwrap_or_default() {
            (at_start, SecretSource::File(path)) => Password::File { path, at_start },
            (secret, SecretSource::Value(_) | SecretSource::Pipe(_)) => Password::Fixed(secret),
        };
        Settings {
            username,
            password,
            name: self.get(&settings::DATABASE_NAME),
            timeout: self.get(&settings::DATABASE_POOL_TIMEOUT),
            tls: self.tls(is_socket),
            host: match is_socket {
                true => Host::Socket(host.into()),
                false => Host::Tcp {
                    host: settings::without_brackets(&host).to_owned(),
                    port,
                },
            },
            public_key: self.find(&settings::DATABASE_PUBLIC_KEY),
            failover: self.get(&settings::FAILOVER),
        }
    }

    fn tls(&mut self, is_socket: bool) -> Tls {
        let mode = self.find(&settings::DATABASE_TLS);
        let ca = self.find(&settings::DATABASE_TLS_CA);
        if is_socket && mode.is_some_and(|mode| mode != TlsMode::Off) {
            let problem = "asks for encryption, which a Unix socket does not have";
            self.mistake(&settings::DATABASE_TLS.row, problem);
        }
        if ca.is_some() && mode.is_some_and(|mode| mode != TlsMode::Verify) {
            let problem = "has no effect, because the TLS mode is not verify";
            self.mistake(&settings::DATABASE_TLS_CA.row, problem);
        }
        match mode.unwrap_or(TlsMode::Off) {
            TlsMode::Off => Tls::Off,
            TlsMode::Required => Tls::Required,
            TlsMode::Verify => Tls::Verify { ca },
        }
    }

    fn numbering(&mut self) -> Numbering {
        self.under(NUMBERING).numbering_of([
            &settings::MAX_NODES,
            &settings::STARTING_OFFSET,
            &settings::NODE_NUMBER,
        ])
    }

    /// Checked against each other as far as they are known.
    fn numbering_of(&mut self, settings: [&'static Setting<u64>; 3]) -> Numbering {
        let [max_nodes, offset, node] = settings.map(|setting| self.find(setting));
        let checked = Numbering::new(
            max_nodes.unwrap_or(u64::MAX),
            offset.unwrap_or(0),
            node.unwrap_or(0),
        );
        checked.unwrap_or_else(|error| {
            let wrong = match error {
                NumberingError::NoNodes => 0,
                NumberingError::StartingOffset { .. } => 1,
                NumberingError::NodeNumber { .. } => 2,
            };
            let problem = format!("does not fit the other settings ({error})");
            self.mistake(&settings[wrong].row, problem);
            Numbering::new(1, 0, 0).expect("the least there is")
        })
    }

    fn http_password(&mut self) -> Option<(Secret, SecretSource)> {
        let (value, file) = (
            &settings::HTTP_AUTH_PASSWORD,
            &settings::HTTP_AUTH_PASSWORD_FILE,
        );
        self.password(value, file, SecretSource::read_for_http)
    }

    /// A password, from its value or from the file that another setting names.
    fn password(
        &mut self,
        value: &'static Setting<Secret>,
        file: &'static Setting<PathBuf>,
        read: fn(&SecretSource) -> Result<Secret, SecretError>,
    ) -> Option<(Secret, SecretSource)> {
        if self.is_given(&value.row) && self.is_given(&file.row) {
            let problem = format!("conflicts with --{}; set only one of them", value.row.flag);
            self.mistake(&file.row, problem);
        }
        let value = self.find(value).map(SecretSource::Value);
        let path = self.find(file).map(SecretSource::at);
        let source = value.or(path)?;
        let secret = read(&source).map_err(|error| self.mistake(&file.row, error.to_string()));
        let secret = secret.ok()?;
        let source = match source {
            SecretSource::Pipe(_) => SecretSource::Value(secret.clone()),
            source => source,
        };
        Some((secret, source))
    }

    fn logging(&mut self) -> Logging {
        Logging {
            filter: self.under("Logging").get(&settings::LOG),
            format: self.get(&settings::LOG_FORMAT),
        }
    }
}
