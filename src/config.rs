//! From settings as text to what a command works with. Every mistake is gathered, so that a
//! person who corrects what one start complained about is not sent back for the next one; and
//! nothing but secret files is read before all of them are right.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client::ServerUrl;
use crate::database::{Failover, Host, Password, Secret, Settings, Tls};
use crate::http::array;
use crate::limits;
use crate::logging::{self, Logging};
use crate::settings::{self, Absent, Setting};
use crate::socket::Address;
use crate::ticket::{Numbering, NumberingError};

#[cfg(test)]
mod tests;

/// What `tickr serve` works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database and who logs in to it.
    pub database: Settings,
    /// Connections to the database; 1 to [`limits::POOL_SIZE_MAX`].
    pub pool_size: usize,
    /// How long a request waits for the database; the same as the time-out in `database`.
    pub pool_timeout: Duration,
    /// The three settings that can never change.
    pub numbering: Numbering,
    /// Where to listen; at least one.
    pub listen: Vec<Address>,
    /// File mode of the Unix sockets.
    pub socket_mode: u32,
    /// The password of HTTP Basic auth (RFC 7617); `None` for no auth.
    pub auth_password: Option<Secret>,
    /// The largest batch, in tickets.
    pub max_batch: u64,
    /// What a batch is written as when the request names no format.
    pub batch_format: array::Format,
    /// The most client connections at once.
    pub max_connections: usize,
    /// How long a stop waits for answers that are on their way.
    pub shutdown_timeout: Duration,
    /// Seconds of recent demand that are reserved ahead; 0 for none.
    pub prefetch_seconds: f64,
    /// What is logged.
    pub logging: Logging,
}

impl Config {
    /// Reads the settings of `tickr serve`.
    pub fn read(given: &Given<'_>) -> Result<Config, Mistakes> {
        let mut reader = Reader::new(given);
        let database = reader.database();
        let numbering = reader.numbering(SERVE_NUMBERING);
        let listen = reader.listen(&settings::LISTEN);
        let config = reader.server(database, numbering, listen);
        reader.finish(config)
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
    pub fn read(given: &Given<'_>) -> Result<DevConfig, Mistakes> {
        let mut reader = Reader::new(given);
        let mysqld = reader.path(&settings::MYSQLD);
        let data_dir = reader.path(&settings::DATA_DIR);
        let timeout = reader.pool_timeout();
        let database = data_dir
            .as_ref()
            .zip(timeout)
            .map(|(folder, timeout)| Settings {
                host: Host::Socket(folder.clone()),
                username: String::new(),
                password: Secret::default().into(),
                name: "tickr".to_owned(),
                timeout,
                tls: Tls::Off,
                public_key: None,
                failover: Failover::Stop,
            });
        let numbering = reader.numbering(DEV_NUMBERING);
        let listen = if reader.is_given(&settings::DEV_LISTEN) {
            reader.listen(&settings::DEV_LISTEN)
        } else {
            data_dir.as_ref().map(|folder| {
                vec![
                    Address::Tcp("127.0.0.1:8080".to_owned()),
                    Address::Unix(folder.join("tickr.sock")),
                ]
            })
        };
        let serve = reader.server(database, numbering, listen);
        let config = data_dir.zip(serve).map(|(data_dir, serve)| DevConfig {
            mysqld,
            data_dir,
            serve,
        });
        reader.finish(config)
    }

    /// What is logged.
    pub fn logging(&self) -> &Logging {
        &self.serve.logging
    }

    /// The configuration of the server, with the login at the private MySQL server.
    pub fn serve(self, socket: &Path, username: &str, password: &str) -> Config {
        let database = Settings {
            host: Host::Socket(socket.to_owned()),
            username: username.to_owned(),
            password: Secret::new(password).into(),
            ..self.serve.database
        };
        Config {
            database,
            ..self.serve
        }
    }
}

/// What `tickr db create`, `check` and `migrate` work with.
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
    /// Reads the settings of `tickr db create`, `check` and `migrate`.
    pub fn read(given: &Given<'_>) -> Result<DatabaseConfig, Mistakes> {
        let mut reader = Reader::new(given);
        let config = reader.database_config();
        reader.finish(config)
    }
}

/// What `tickr db advance` works with.
#[derive(Clone, Debug)]
pub struct AdvanceConfig {
    /// The database and its numbering.
    pub target: DatabaseConfig,
    /// Every later ticket is to be above this one.
    pub past: u64,
}

impl AdvanceConfig {
    /// Reads the settings of `tickr db advance`.
    pub fn read(given: &Given<'_>) -> Result<AdvanceConfig, Mistakes> {
        let mut reader = Reader::new(given);
        let target = reader.database_config();
        let past = reader.number(&settings::PAST, 0..=u64::MAX);
        let config = target
            .zip(past)
            .map(|(target, past)| AdvanceConfig { target, past });
        reader.finish(config)
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
    pub fn read(given: &Given<'_>) -> Result<DropConfig, Mistakes> {
        let mut reader = Reader::new(given);
        let database = reader.database();
        let confirmed = reader.text(&settings::CONFIRM);
        let logging = reader.logging();
        if let (Some(database), Some(confirmed)) = (&database, &confirmed)
            && *confirmed != database.name
        {
            let problem = format!("is {}", shown(confirmed));
            reader.mistake(&settings::CONFIRM, problem);
        }
        let config = database.zip(confirmed).zip(logging);
        reader.finish(config.map(|((database, confirmed), logging)| DropConfig {
            database,
            confirmed,
            logging,
        }))
    }
}

/// What `tickr get` and `tickr cluster check` work with.
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
    /// Reads the settings of `tickr get` and `tickr cluster check`.
    pub fn read(given: &Given<'_>) -> Result<ClientConfig, Mistakes> {
        let mut reader = Reader::new(given);
        let servers = reader.servers();
        let password = reader.auth_password();
        let timeout = reader.duration(
            &settings::CLIENT_TIMEOUT,
            limits::POOL_TIMEOUT_MIN..=limits::POOL_TIMEOUT_MAX,
        );
        let config = servers.zip(timeout).map(|(servers, timeout)| ClientConfig {
            servers,
            password,
            timeout,
        });
        reader.finish(config)
    }
}

/// Looks a setting up as it was given, by flag or by variable; an empty value counts as none.
pub type Given<'a> = dyn Fn(&Setting) -> Option<OsString> + 'a;

/// Everything that is wrong with the settings of one command; at least one mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = match self.0.len() {
            1 => "mistake",
            _ => "mistakes",
        };
        write!(
            f,
            "{} {noun} in the settings, nothing was done:",
            self.0.len()
        )?;
        for mistake in &self.0 {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// What is wrong with one setting, in words that never hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mistake {
    flag: &'static str,
    variable: Option<&'static str>,
    problem: String,
    expects: &'static str,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake {
            flag,
            variable,
            problem,
            expects,
        } = self;
        match variable {
            Some(variable) => write!(f, "{variable} (--{flag}) ")?,
            None => write!(f, "--{flag} ")?,
        }
        write!(f, "{problem}; it should be: {expects}")
    }
}

/// Reads setting after setting and gathers the mistakes. What a method returns is `None` when the
/// setting is wrong, and for an optional one also when it is absent.
struct Reader<'a> {
    given: &'a Given<'a>,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    fn new(given: &'a Given<'a>) -> Reader<'a> {
        Reader {
            given,
            mistakes: Vec::new(),
        }
    }

    fn finish<T>(self, config: Option<T>) -> Result<T, Mistakes> {
        match config {
            Some(config) if self.mistakes.is_empty() => Ok(config),
            _ => {
                assert!(!self.mistakes.is_empty(), "a setting is lost for no reason");
                Err(Mistakes(self.mistakes))
            }
        }
    }

    fn server(
        &mut self,
        database: Option<Settings>,
        numbering: Option<Numbering>,
        listen: Option<Vec<Address>>,
    ) -> Option<Config> {
        let pool_size = self.count(&settings::DATABASE_POOL_SIZE, limits::POOL_SIZE_MAX);
        let socket_mode = self.socket_mode();
        let auth_password = self.auth_password();
        let max_batch = self.number(&settings::MAX_BATCH, 1..=limits::BATCH_MAX);
        let batch_format = self.choice(
            &settings::BATCH_FORMAT,
            &[
                ("array", array::Format::Array),
                ("range", array::Format::Range),
            ],
        );
        let max_connections = self.count(&settings::MAX_CONNECTIONS, limits::CONNECTIONS_MAX);
        let shutdown_timeout = self.duration(
            &settings::SHUTDOWN_TIMEOUT,
            Duration::ZERO..=limits::SHUTDOWN_TIMEOUT_MAX,
        );
        let prefetch = self.duration(
            &settings::PREFETCH_SECONDS,
            Duration::ZERO..=limits::PREFETCH_MAX,
        );
        let logging = self.logging();
        let database = database?;
        Some(Config {
            pool_size: pool_size?,
            pool_timeout: database.timeout,
            database,
            numbering: numbering?,
            listen: listen?,
            socket_mode: socket_mode?,
            auth_password,
            max_batch: max_batch?,
            batch_format: batch_format?,
            max_connections: max_connections?,
            shutdown_timeout: shutdown_timeout?,
            prefetch_seconds: prefetch?.as_secs_f64(),
            logging: logging?,
        })
    }

    fn database_config(&mut self) -> Option<DatabaseConfig> {
        let database = self.database();
        let numbering = self.numbering(SERVE_NUMBERING);
        let logging = self.logging();
        Some(DatabaseConfig {
            database: database?,
            numbering: numbering?,
            logging: logging?,
        })
    }

    fn database(&mut self) -> Option<Settings> {
        let port = self.number(&settings::DATABASE_PORT, 1..=u16::MAX.into());
        let host = self.host(port);
        let username = self.checked(&settings::DATABASE_USERNAME, |name| !has_control(name));
        let password = self.secret(
            &settings::DATABASE_PASSWORD,
            &settings::DATABASE_PASSWORD_FILE,
        );
        let name = self.checked(&settings::DATABASE_NAME, |name| {
            name.chars().count() <= limits::DATABASE_NAME_CHARS_MAX
                && !has_control(name)
                && !name.ends_with(' ')
        });
        let timeout = self.pool_timeout();
        let tls = self.tls(matches!(host, Some(Host::Socket(_))));
        Some(Settings {
            host: host?,
            username: username?,
            password: self.database_password(password),
            name: name?,
            timeout: timeout?,
            tls: tls?,
            public_key: None,
            failover: Failover::Stop,
        })
    }

    /// A password from a file is read again for every connection.
    fn database_password(&mut self, read: Option<Secret>) -> Password {
        let at_start = read.unwrap_or_default();
        match self.path(&settings::DATABASE_PASSWORD_FILE) {
            Some(path) => Password::File { path, at_start },
            None => Password::Fixed(at_start),
        }
    }

    fn host(&mut self, port: Option<u64>) -> Option<Host> {
        let host = self.checked(&settings::DATABASE_HOST, |host| {
            host.starts_with('/') || is_ip(host) || is_host_name(host)
        })?;
        if host.starts_with('/') {
            return Some(Host::Socket(PathBuf::from(host)));
        }
        Some(Host::Tcp {
            host: without_brackets(&host).to_owned(),
            port: u16::try_from(port?).ok()?,
        })
    }

    fn tls(&mut self, over_socket: bool) -> Option<Tls> {
        let ca = self.path(&settings::DATABASE_TLS_CA);
        if let Some(path) = &ca
            && let Err(error) = File::open(path)
        {
            let problem = format!("is {path:?}, which cannot be opened ({error})");
            self.mistake(&settings::DATABASE_TLS_CA, problem);
        }
        let off = Tls::Off;
        let mode = self.choice(
            &settings::DATABASE_TLS,
            &[
                ("off", off.clone()),
                ("required", Tls::Required),
                ("verify", Tls::Verify { ca: ca.clone() }),
            ],
        )?;
        if over_socket && mode != off {
            let problem = "asks for encryption, and a Unix socket has none".to_owned();
            self.mistake(&settings::DATABASE_TLS, problem);
        }
        if ca.is_some() && !matches!(mode, Tls::Verify { .. }) {
            let problem = "would not be looked at, as the mode is not verify".to_owned();
            self.mistake(&settings::DATABASE_TLS_CA, problem);
        }
        Some(mode)
    }

    fn pool_timeout(&mut self) -> Option<Duration> {
        self.duration(
            &settings::DATABASE_POOL_TIMEOUT,
            limits::POOL_TIMEOUT_MIN..=limits::POOL_TIMEOUT_MAX,
        )
    }

    /// The three that belong together: checked against each other as far as they are known.
    fn numbering(&mut self, [max_nodes, offset, node]: [&Setting; 3]) -> Option<Numbering> {
        let max_nodes_given = self.number(max_nodes, 1..=u64::MAX);
        let offset_given = self.number(offset, 0..=u64::MAX);
        let node_given = self.number(node, 0..=u64::MAX);
        let checked = Numbering::new(
            max_nodes_given.unwrap_or(u64::MAX),
            offset_given.unwrap_or(0),
            node_given.unwrap_or(0),
        );
        let numbering = match checked {
            Ok(numbering) => numbering,
            Err(error) => {
                let setting = match error {
                    NumberingError::NoNodes => max_nodes,
                    NumberingError::NodeNumber { .. } => node,
                    NumberingError::StartingOffset { .. } => offset,
                };
                self.mistake(setting, format!("does not fit the others ({error})"));
                return None;
            }
        };
        max_nodes_given.and(offset_given).and(node_given)?;
        Some(numbering)
    }

    fn listen(&mut self, setting: &Setting) -> Option<Vec<Address>> {
        let text = self.text(setting)?;
        let entries: Vec<&str> = text.split(',').map(str::trim).collect();
        if entries.len() > limits::LISTENERS_MAX {
            self.mistake(setting, format!("has {} entries", entries.len()));
            return None;
        }
        let mut addresses = Vec::new();
        for entry in entries {
            match entry.parse() {
                Ok(address) => addresses.push(address),
                Err(error) => self.mistake(setting, format!("has {} ({error})", shown(entry))),
            }
        }
        Some(addresses)
    }

    fn servers(&mut self) -> Option<Vec<ServerUrl>> {
        let setting = &settings::SERVER;
        let text = self.text(setting)?;
        let mut servers = Vec::new();
        for entry in text.split(',').map(str::trim) {
            match entry.parse() {
                Ok(server) => servers.push(server),
                Err(error) => self.mistake(setting, format!("has {} ({error})", shown(entry))),
            }
        }
        if servers.len() > limits::CLIENT_SERVERS_MAX {
            self.mistake(setting, format!("has {} entries", servers.len()));
        }
        Some(servers)
    }

    fn socket_mode(&mut self) -> Option<u32> {
        let setting = &settings::SOCKET_MODE;
        let text = self.checked(setting, |text| {
            matches!(text.len(), 3 | 4) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte))
        })?;
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o777 => Some(mode),
            _ => self.wrong(setting, &text),
        }
    }

    fn auth_password(&mut self) -> Option<Secret> {
        let from_file = &settings::HTTP_AUTH_PASSWORD_FILE;
        let password = self.secret(&settings::HTTP_AUTH_PASSWORD, from_file)?;
        if password.expose().is_empty() {
            let problem = "names an empty file, which would turn auth off".to_owned();
            self.mistake(from_file, problem);
        }
        if has_control(password.expose()) {
            let setting = match self.is_given(from_file) {
                true => from_file,
                false => &settings::HTTP_AUTH_PASSWORD,
            };
            let problem = "holds a control character, which no client can send".to_owned();
            self.mistake(setting, problem);
        }
        Some(password)
    }

    /// A secret, from its value or from the file that another setting names.
    fn secret(&mut self, value: &Setting, file: &Setting) -> Option<Secret> {
        if self.is_given(value) && self.is_given(file) {
            let problem = format!(
                "is set together with --{}, and only one can hold",
                value.flag
            );
            self.mistake(file, problem);
        }
        let from_value = self.text(value);
        let from_file = self.path(file).and_then(|path| {
            let read = File::open(path).and_then(read_secret);
            read.map_err(|error| {
                // A password set here by mistake must not be shown, so neither is a path.
                self.mistake(file, format!("names a file that cannot be used ({error})"));
            })
            .ok()
        });
        from_value.or(from_file).map(Secret::new)
    }

    fn logging(&mut self) -> Option<Logging> {
        let filter = self.text(&settings::LOG).and_then(|text| {
            text.parse()
                .map_err(|_| self.wrong::<()>(&settings::LOG, &text))
                .ok()
        });
        let format = self.choice(
            &settings::LOG_FORMAT,
            &[
                ("text", logging::Format::Text),
                ("json", logging::Format::Json),
            ],
        );
        Some(Logging {
            filter: filter?,
            format: format?,
        })
    }

    fn choice<T: Clone>(&mut self, setting: &Setting, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(setting)?;
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, choice)) => Some(choice.clone()),
            None => self.wrong(setting, &text),
        }
    }

    fn duration(&mut self, setting: &Setting, range: RangeInclusive<Duration>) -> Option<Duration> {
        let text = self.text(setting)?;
        match seconds(&text) {
            Some(duration) if range.contains(&duration) => Some(duration),
            _ => self.wrong(setting, &text),
        }
    }

    /// A number of things of which there is at least one.
    fn count(&mut self, setting: &Setting, max: usize) -> Option<usize> {
        let max = u64::try_from(max).unwrap_or(u64::MAX);
        usize::try_from(self.number(setting, 1..=max)?).ok()
    }

    fn number(&mut self, setting: &Setting, range: RangeInclusive<u64>) -> Option<u64> {
        let text = self.text(setting)?;
        match whole_number(&text) {
            Some(number) if range.contains(&number) => Some(number),
            _ => self.wrong(setting, &text),
        }
    }

    fn checked(&mut self, setting: &Setting, good: impl Fn(&str) -> bool) -> Option<String> {
        let text = self.text(setting)?;
        match good(&text) {
            true => Some(text),
            false => self.wrong(setting, &text),
        }
    }

    fn text(&mut self, setting: &Setting) -> Option<String> {
        let value = self.value(setting)?;
        match value.into_string() {
            Ok(text) => Some(text),
            Err(value) => self.wrong(setting, &value.to_string_lossy()),
        }
    }

    fn path(&mut self, setting: &Setting) -> Option<PathBuf> {
        self.value(setting).map(PathBuf::from)
    }

    fn value(&mut self, setting: &Setting) -> Option<OsString> {
        let given = (self.given)(setting).filter(|value| !value.is_empty());
        let value = given.or_else(|| setting.default().map(OsString::from));
        if value.is_none() && setting.absent == Absent::Mistake {
            self.mistake(setting, "is missing".to_owned());
        }
        value
    }

    fn is_given(&self, setting: &Setting) -> bool {
        (self.given)(setting).is_some_and(|value| !value.is_empty())
    }

    fn wrong<T>(&mut self, setting: &Setting, given: &str) -> Option<T> {
        let problem = match setting.secret {
            true => "is wrong".to_owned(),
            false => format!("is {}", shown(given)),
        };
        self.mistake(setting, problem);
        None
    }

    fn mistake(&mut self, setting: &Setting, problem: String) {
        self.mistakes.push(Mistake {
            flag: setting.flag,
            variable: setting.variable,
            problem,
            expects: setting.expects,
        });
    }
}

const SERVE_NUMBERING: [&Setting; 3] = [
    &settings::MAX_NODES,
    &settings::STARTING_OFFSET,
    &settings::NODE_NUMBER,
];

const DEV_NUMBERING: [&Setting; 3] = [
    &settings::DEV_MAX_NODES,
    &settings::DEV_STARTING_OFFSET,
    &settings::DEV_NODE_NUMBER,
];

/// Reads a secret to its end and drops one trailing newline.
fn read_secret(file: File) -> io::Result<String> {
    let mut secret = String::new();
    file.take(limits::SECRET_FILE_BYTES_MAX + 1)
        .read_to_string(&mut secret)?;
    if secret.len() as u64 > limits::SECRET_FILE_BYTES_MAX {
        return Err(io::Error::other("it is too long"));
    }
    if secret.ends_with('\n') {
        secret.pop();
        if secret.ends_with('\r') {
            secret.pop();
        }
    }
    Ok(secret)
}

/// Plain decimal digits, as a number that fits in 64 bits.
fn whole_number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// Plain decimal digits, with digits behind a point or without, as seconds.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

fn is_ip(host: &str) -> bool {
    let bracketed = host.len() != without_brackets(host).len();
    match bracketed {
        true => without_brackets(host).parse::<Ipv6Addr>().is_ok(),
        false => host.parse::<IpAddr>().is_ok(),
    }
}

fn without_brackets(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host)
}

/// Letters, digits, `-`, `.` and `_` (which is common in container networks), at most 253 bytes
/// (RFC 1035, section 2.3.4, as text).
fn is_host_name(host: &str) -> bool {
    host.len() <= 253
        && !host.starts_with(['-', '.'])
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// A wrong value as an error may repeat it: quoted, escaped and cut. A value with an `@` is not
/// repeated, because it may be a URL with a password in it.
fn shown(value: &str) -> String {
    if value.contains('@') {
        return "a value that may hold a password".to_owned();
    }
    let mut characters = value.chars();
    let start: String = characters
        .by_ref()
        .take(limits::SHOWN_VALUE_CHARS_MAX)
        .collect();
    match characters.next() {
        Some(_) => format!("{start:?}…"),
        None => format!("{start:?}"),
    }
}
