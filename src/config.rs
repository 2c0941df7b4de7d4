//! From settings as text to what a command works with. Each `read` is also the command's list of
//! settings: the help shows what it asks for, in that order.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client::ServerUrl;
use crate::database::{Host, Settings, Tls};
use crate::http::array;
use crate::logging::Logging;
use crate::secret::{Secret, SecretError, SecretSource};
use crate::settings::{self, ColumnName, Failover, Setting, TlsMode};
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
    /// The rest about the database.
    pub access: Access,
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

/// What of the database's settings [`Settings`] does not hold.
#[derive(Clone, Debug)]
pub struct Access {
    /// Where the user's password comes from; read again when a login is refused.
    pub password: SecretSource,
    /// The PEM file of the server's RSA key.
    pub public_key: Option<PathBuf>,
    /// What to do on another server than the one that owns the counter.
    pub failover: Failover,
}

/// No password, and the defaults.
impl Default for Access {
    fn default() -> Access {
        Access {
            password: SecretSource::default(),
            public_key: None,
            failover: Failover::Stop,
        }
    }
}

impl Config {
    /// Reads the settings of `tickr serve`.
    pub fn read(reader: &mut Reader<'_>) -> Option<Config> {
        let database = reader.database();
        let numbering = reader.numbering();
        reader.heading("HTTP");
        let listen = reader.get(&settings::LISTEN);
        let state_file = &settings::STATE_FILE;
        Config::server(reader, database, numbering, listen, state_file)
    }

    fn server(
        reader: &mut Reader<'_>,
        database: Option<(Settings, Access)>,
        numbering: Option<Numbering>,
        listen: Option<Vec<Address>>,
        state_file: &'static Setting<PathBuf>,
    ) -> Option<Config> {
        let socket_mode = reader.get(&settings::SOCKET_MODE);
        let auth = reader.http_password(
            &settings::HTTP_AUTH_PASSWORD,
            &settings::HTTP_AUTH_PASSWORD_FILE,
        );
        let max_batch = reader.get(&settings::MAX_BATCH);
        let batch_format = reader.get(&settings::BATCH_FORMAT);
        let max_connections = reader.get(&settings::MAX_CONNECTIONS);
        let idle_timeout = reader.get(&settings::IDLE_TIMEOUT);
        let shutdown_timeout = reader.get(&settings::SHUTDOWN_TIMEOUT);
        reader.heading("Reservations");
        let pool_size = reader.get(&settings::DATABASE_POOL_SIZE);
        let prefetch = reader.get(&settings::PREFETCH_SECONDS);
        let state_file = reader.get(state_file);
        let logging = reader.logging();
        let (database, access) = database?;
        let (auth_password, auth_source) = auth.unzip();
        Some(Config {
            pool_timeout: database.timeout,
            database,
            access,
            pool_size: pool_size?,
            numbering: numbering?,
            listen: listen?,
            socket_mode: socket_mode?,
            auth_password,
            auth_source,
            max_batch: max_batch?,
            batch_format: batch_format?,
            max_connections: max_connections?,
            idle_timeout: idle_timeout?,
            shutdown_timeout: shutdown_timeout?,
            prefetch_seconds: prefetch?.as_secs_f64(),
            state_file,
            logging: logging?,
        })
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
    pub fn read(reader: &mut Reader<'_>) -> Option<DevConfig> {
        reader.heading("Private MySQL server");
        let mysqld = reader.get(&settings::MYSQLD);
        let data_dir = reader.get(&settings::DATA_DIR);
        let timeout = reader.get(&settings::DATABASE_POOL_TIMEOUT);
        let database = timeout.map(|timeout| {
            let nowhere = Settings {
                host: Host::Socket(PathBuf::new()),
                username: String::new(),
                password: Secret::default(),
                name: "tickr".to_owned(),
                timeout,
                tls: Tls::Off,
            };
            (nowhere, Access::default())
        });
        reader.heading("Numbering (cannot be changed while the data directory is kept)");
        let numbering = reader.numbering_of([
            &settings::DEV_MAX_NODES,
            &settings::DEV_STARTING_OFFSET,
            &settings::DEV_NODE_NUMBER,
        ]);
        reader.heading("HTTP");
        let is_given = reader.is_given(&settings::DEV_LISTEN.row);
        let listen = reader.get(&settings::DEV_LISTEN);
        let folder = data_dir.clone().unwrap_or_default();
        let listen = listen.or_else(|| {
            let tcp = Address::Tcp("127.0.0.1:8080".to_owned());
            let unix = Address::Unix(folder.join("tickr.sock"));
            (!is_given).then(|| vec![tcp, unix])
        });
        let state_file = &settings::DEV_STATE_FILE;
        let mut serve = Config::server(reader, database, numbering, listen, state_file)?;
        let state_file = serve.state_file.take();
        serve.state_file = state_file.or_else(|| Some(folder.join("tickr.state")));
        Some(DevConfig {
            mysqld,
            data_dir: data_dir?,
            serve,
        })
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
        config.database.password = Secret::new(password);
        config.access.password = SecretSource::Value(Secret::new(password));
        config
    }
}

/// What every `tickr db` command works with, except `drop`.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// The database and who logs in to it.
    pub database: Settings,
    /// The rest about the database.
    pub access: Access,
    /// The three settings that can never change.
    pub numbering: Numbering,
    /// What is logged.
    pub logging: Logging,
}

impl DatabaseConfig {
    /// Reads the settings of `tickr db migrate`.
    pub fn read(reader: &mut Reader<'_>) -> Option<DatabaseConfig> {
        let database = reader.database();
        let numbering = reader.numbering();
        let logging = reader.logging();
        let (database, access) = database?;
        Some(DatabaseConfig {
            database,
            access,
            numbering: numbering?,
            logging: logging?,
        })
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
    pub fn read_create(reader: &mut Reader<'_>) -> Option<LeaseConfig> {
        LeaseConfig::read_with(reader, &settings::CREATE_LEASE_SECONDS)
    }

    /// Reads the settings of `tickr db lease`, where it is required.
    pub fn read(reader: &mut Reader<'_>) -> Option<LeaseConfig> {
        LeaseConfig::read_with(reader, &settings::LEASE_SECONDS)
    }

    fn read_with(reader: &mut Reader<'_>, setting: &'static Setting<u64>) -> Option<LeaseConfig> {
        let lease_seconds = reader.get(setting);
        let target = DatabaseConfig::read(reader)?;
        Some(LeaseConfig {
            target,
            lease_seconds: lease_seconds?,
        })
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
    pub fn read(reader: &mut Reader<'_>) -> Option<CheckConfig> {
        let column = reader.get(&settings::TABLE);
        let json = reader.get(&settings::JSON);
        Some(CheckConfig {
            target: DatabaseConfig::read(reader)?,
            column,
            json: json.is_some(),
        })
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
    pub fn read(reader: &mut Reader<'_>) -> Option<AdvanceConfig> {
        let past = reader.get(&settings::PAST);
        let margin = reader.get(&settings::MARGIN);
        Some(AdvanceConfig {
            target: DatabaseConfig::read(reader)?,
            past,
            margin: margin?,
        })
    }
}

/// What `tickr db drop` works with; made only when the confirmation is the database's name.
#[derive(Clone, Debug)]
pub struct DropConfig {
    /// The database and who logs in to it.
    pub database: Settings,
    /// The rest about the database.
    pub access: Access,
    /// The database's name, as the operator repeated it.
    pub confirmed: String,
    /// What is logged.
    pub logging: Logging,
}

impl DropConfig {
    /// Reads the settings of `tickr db drop`.
    pub fn read(reader: &mut Reader<'_>) -> Option<DropConfig> {
        let confirmed = reader.get(&settings::CONFIRM);
        let database = reader.database();
        let logging = reader.logging();
        let (database, access) = database?;
        let confirmed = confirmed?;
        if confirmed != database.name {
            let problem = format!("is {}", settings::shown(&confirmed));
            reader.mistake(&settings::CONFIRM.row, problem);
        }
        Some(DropConfig {
            database,
            access,
            confirmed,
            logging: logging?,
        })
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
    fn read(
        reader: &mut Reader<'_>,
        servers: &'static Setting<Vec<ServerUrl>>,
    ) -> Option<ClientConfig> {
        let servers = reader.get(servers);
        reader.heading("Client");
        let password =
            reader.http_password(&settings::CLIENT_PASSWORD, &settings::CLIENT_PASSWORD_FILE);
        let timeout = reader.get(&settings::CLIENT_TIMEOUT);
        Some(ClientConfig {
            servers: servers?,
            password: password.map(|(password, _)| password),
            timeout: timeout?,
        })
    }
}

/// What `tickr get` works with.
#[derive(Clone, Debug)]
pub struct GetConfig {
    /// Whom to ask.
    pub client: ClientConfig,
    /// How many tickets to get.
    pub count: u64,
}

impl GetConfig {
    /// Reads the settings of `tickr get`.
    pub fn read(reader: &mut Reader<'_>) -> Option<GetConfig> {
        let count = reader.get(&settings::COUNT);
        let client = ClientConfig::read(reader, &settings::SERVER)?;
        let count = count?;
        Some(GetConfig { client, count })
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
    pub fn read(reader: &mut Reader<'_>) -> Option<ClusterConfig> {
        let watch = reader.get(&settings::WATCH).is_some();
        let json = reader.get(&settings::JSON).is_some();
        let client = ClientConfig::read(reader, &settings::NODES)?;
        Some(ClusterConfig {
            client,
            watch,
            json,
        })
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
    pub fn read(reader: &mut Reader<'_>) -> Option<DecodeConfig> {
        let ticket = reader.get(&settings::TICKET);
        let json = reader.get(&settings::JSON).is_some();
        reader.heading(NUMBERING);
        let max_nodes = reader.get(&settings::MAX_NODES);
        let starting_offset = reader.get(&settings::STARTING_OFFSET);
        Some(DecodeConfig {
            ticket: ticket?,
            max_nodes: max_nodes?,
            starting_offset: starting_offset?,
            json,
        })
    }
}

const NUMBERING: &str = "Numbering (cannot be changed once live)";

/// Settings that only make sense together.
impl Reader<'_> {
    fn database(&mut self) -> Option<(Settings, Access)> {
        self.heading("Database");
        let host = self.get(&settings::DATABASE_HOST);
        let port = self.get(&settings::DATABASE_PORT);
        let username = self.get(&settings::DATABASE_USERNAME);
        let password = self.password(
            &settings::DATABASE_PASSWORD,
            &settings::DATABASE_PASSWORD_FILE,
            SecretSource::read,
        );
        let name = self.get(&settings::DATABASE_NAME);
        let timeout = self.get(&settings::DATABASE_POOL_TIMEOUT);
        let tls = self.tls(host.as_deref());
        let public_key = self.get(&settings::DATABASE_PUBLIC_KEY);
        let failover = self.get(&settings::FAILOVER);
        let (password, source) = password.unzip();
        let settings = Settings {
            host: match host? {
                path if path.starts_with('/') => Host::Socket(path.into()),
                host => Host::Tcp {
                    host: settings::without_brackets(&host).to_owned(),
                    port: port?,
                },
            },
            username: username?,
            password: password.unwrap_or_default(),
            name: name?,
            timeout: timeout?,
            tls: tls?,
        };
        let access = Access {
            password: source.unwrap_or_default(),
            public_key,
            failover: failover?,
        };
        Some((settings, access))
    }

    fn tls(&mut self, host: Option<&str>) -> Option<Tls> {
        let mode = self.get(&settings::DATABASE_TLS);
        let ca = self.get(&settings::DATABASE_TLS_CA);
        let mode = mode?;
        if mode != TlsMode::Off && host.is_some_and(|host| host.starts_with('/')) {
            let problem = "asks for encryption, which a Unix socket does not have";
            self.mistake(&settings::DATABASE_TLS.row, problem);
        }
        if mode != TlsMode::Verify && ca.is_some() {
            let problem = "has no effect, because the TLS mode is not verify";
            self.mistake(&settings::DATABASE_TLS_CA.row, problem);
        }
        Some(match mode {
            TlsMode::Off => Tls::Off,
            TlsMode::Required => Tls::Required,
            TlsMode::Verify => Tls::Verify { ca },
        })
    }

    fn numbering(&mut self) -> Option<Numbering> {
        self.heading(NUMBERING);
        self.numbering_of([
            &settings::MAX_NODES,
            &settings::STARTING_OFFSET,
            &settings::NODE_NUMBER,
        ])
    }

    /// Checked against each other as far as they are known.
    fn numbering_of(&mut self, settings: [&'static Setting<u64>; 3]) -> Option<Numbering> {
        let [max_nodes, offset, node] = settings.map(|setting| self.get(setting));
        let checked = Numbering::new(
            max_nodes.unwrap_or(u64::MAX),
            offset.unwrap_or(0),
            node.unwrap_or(0),
        );
        if let Err(error) = checked {
            let wrong = match error {
                NumberingError::NoNodes => 0,
                NumberingError::StartingOffset { .. } => 1,
                NumberingError::NodeNumber { .. } => 2,
            };
            let problem = format!("does not fit the other settings ({error})");
            self.mistake(&settings[wrong].row, problem);
        }
        max_nodes.and(offset).and(node)?;
        checked.ok()
    }

    fn http_password(
        &mut self,
        value: &'static Setting<Secret>,
        file: &'static Setting<PathBuf>,
    ) -> Option<(Secret, SecretSource)> {
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
        let value = self.get(value).map(SecretSource::Value);
        let path = self.get(file).map(SecretSource::File);
        let source = value.or(path)?;
        let secret = read(&source).map_err(|error| self.mistake(&file.row, error.to_string()));
        Some((secret.ok()?, source))
    }

    fn logging(&mut self) -> Option<Logging> {
        self.heading("Logging");
        let filter = self.get(&settings::LOG);
        let format = self.get(&settings::LOG_FORMAT);
        Some(Logging {
            filter: filter?,
            format: format?,
        })
    }
}
