//! Every setting by name: its flag, its environment variable, its default and what it should be.
//! The command line is built from this table and the mistakes are worded from it, so that the
//! help, the parser and the errors cannot tell different stories.

/// One setting. Its flag and its environment variable are two names for one thing.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The long flag, without its dashes.
    pub flag: &'static str,
    /// The environment variable; `None` for what only makes sense as a flag.
    pub variable: Option<&'static str>,
    /// What stands for the value in the help.
    pub value_name: &'static str,
    /// What holds when neither is given, or when it is empty.
    pub absent: Absent,
    /// What it is for.
    pub about: &'static str,
    /// What the value should be, with its unit and range.
    pub expects: &'static str,
    /// Whether the value must never be shown.
    pub secret: bool,
}

impl Setting {
    /// The same setting with a default of its own.
    pub const fn or(self, default: &'static str) -> Setting {
        Setting {
            absent: Absent::Default(default),
            ..self
        }
    }

    /// The value that holds when none is given.
    pub fn default(&self) -> Option<&'static str> {
        match self.absent {
            Absent::Default(value) => Some(value),
            Absent::Mistake | Absent::Unset => None,
        }
    }

    const fn variable(self, variable: &'static str) -> Setting {
        Setting {
            variable: Some(variable),
            ..self
        }
    }

    const fn optional(self) -> Setting {
        Setting {
            absent: Absent::Unset,
            ..self
        }
    }

    const fn secret(self) -> Setting {
        Setting {
            secret: true,
            ..self
        }
    }
}

/// What the absence of a setting means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It is insisted on.
    Mistake,
    /// This value holds.
    Default(&'static str),
    /// The program does without.
    Unset,
}

/// Settings that stand together under one heading of the help.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The heading.
    pub heading: &'static str,
    /// The settings, in the order of the help.
    pub settings: &'static [Setting],
}

/// What every command that talks to the database needs.
pub const DATABASE: Group = Group {
    heading: "Database",
    settings: &[
        DATABASE_HOST,
        DATABASE_PORT,
        DATABASE_USERNAME,
        DATABASE_PASSWORD,
        DATABASE_PASSWORD_FILE,
        DATABASE_NAME,
        DATABASE_TLS,
        DATABASE_TLS_CA,
    ],
};

/// How many connections a server keeps to the database, and how long a request waits for them.
pub const POOL: Group = Group {
    heading: "Database pool",
    settings: &[DATABASE_POOL_SIZE, DATABASE_POOL_TIMEOUT],
};

/// How long a command waits for the database.
pub const WAIT: Group = Group {
    heading: "Database pool",
    settings: &[DATABASE_POOL_TIMEOUT],
};

/// The three settings that are stored beside the counter.
pub const NUMBERING: Group = Group {
    heading: "Numbering (can't be changed once live)",
    settings: &[MAX_NODES, STARTING_OFFSET, NODE_NUMBER],
};

/// Where a server listens and how it answers.
pub const HTTP: Group = Group {
    heading: "HTTP",
    settings: &[
        LISTEN,
        SOCKET_MODE,
        HTTP_AUTH_PASSWORD,
        HTTP_AUTH_PASSWORD_FILE,
        MAX_BATCH,
        BATCH_FORMAT,
        MAX_CONNECTIONS,
        SHUTDOWN_TIMEOUT,
        PREFETCH_SECONDS,
    ],
};

/// What is logged, for every command.
pub const LOGGING: Group = Group {
    heading: "Logging",
    settings: &[LOG, LOG_FORMAT],
};

/// What `tickr dev` asks for beyond a server.
pub const DEV: Group = Group {
    heading: "Private MySQL server",
    settings: &[MYSQLD, DATA_DIR],
};

/// [`NUMBERING`] as `tickr dev` has it: nothing is insisted on.
pub const DEV_NUMBERING: Group = Group {
    heading: "Numbering (can't be changed while the data directory is kept)",
    settings: &[DEV_MAX_NODES, DEV_STARTING_OFFSET, DEV_NODE_NUMBER],
};

/// [`HTTP`] as `tickr dev` has it: it listens inside its data directory as well.
pub const DEV_HTTP: Group = Group {
    heading: "HTTP",
    settings: &[
        DEV_LISTEN,
        SOCKET_MODE,
        HTTP_AUTH_PASSWORD,
        HTTP_AUTH_PASSWORD_FILE,
        MAX_BATCH,
        BATCH_FORMAT,
        MAX_CONNECTIONS,
        SHUTDOWN_TIMEOUT,
        PREFETCH_SECONDS,
    ],
};

/// What `tickr db advance` asks for.
pub const ADVANCE: Group = Group {
    heading: "Counter",
    settings: &[PAST],
};

/// What `tickr db drop` asks for.
pub const DROP: Group = Group {
    heading: "Safety",
    settings: &[CONFIRM],
};

/// What the commands that ask servers need beside the servers.
pub const CLIENT: Group = Group {
    heading: "Client",
    settings: &[CLIENT_PASSWORD, CLIENT_PASSWORD_FILE, CLIENT_TIMEOUT],
};

/// The server to connect to.
pub const DATABASE_HOST: Setting = setting(
    "database-host",
    "HOST",
    "Where MySQL is",
    "a host name, an IP address, or the absolute path of MySQL's Unix socket \
     (the port is a setting of its own)",
)
.variable("TICKR_DATABASE_HOST");

/// The TCP port of the server.
pub const DATABASE_PORT: Setting = setting(
    "database-port",
    "PORT",
    "MySQL's TCP port; a Unix socket has none",
    "a whole number from 1 to 65535",
)
.variable("TICKR_DATABASE_PORT")
.or("3306");

/// The user that logs in.
pub const DATABASE_USERNAME: Setting = setting(
    "database-username",
    "NAME",
    "The MySQL user",
    "a user name without control characters",
)
.variable("TICKR_DATABASE_USERNAME");

/// The user's password.
pub const DATABASE_PASSWORD: Setting = setting(
    "database-password",
    "PASSWORD",
    "The MySQL user's password, none when unset; as a flag, other users of the machine can see it",
    "text in UTF-8",
)
.variable("TICKR_DATABASE_PASSWORD")
.optional()
.secret();

/// The file that holds the user's password.
pub const DATABASE_PASSWORD_FILE: Setting = setting(
    "database-password-file",
    "PATH",
    "Read the MySQL user's password from a file instead; one trailing newline is dropped",
    "the path of a readable file of at most 4096 bytes of UTF-8",
)
.variable("TICKR_DATABASE_PASSWORD_FILE")
.optional()
.secret();

/// The database that holds the tables.
pub const DATABASE_NAME: Setting = setting(
    "database-name",
    "NAME",
    "The name of the database",
    "1 to 64 characters, no control characters and no space at the end",
)
.variable("TICKR_DATABASE_NAME");

/// Whether connections to the database are encrypted.
pub const DATABASE_TLS: Setting = setting(
    "database-tls",
    "MODE",
    "Whether connections to MySQL are encrypted",
    "off, required (encrypted, the certificate is not checked) or verify (certificate and host \
     name are checked); over a Unix socket only off",
)
.variable("TICKR_DATABASE_TLS")
.or("off");

/// The certificate authorities that are trusted.
pub const DATABASE_TLS_CA: Setting = setting(
    "database-tls-ca",
    "PATH",
    "Certificate authorities to trust beside those of the Web, for the TLS mode verify",
    "the path of a readable PEM file, together with the TLS mode verify",
)
.variable("TICKR_DATABASE_TLS_CA")
.optional();

/// Connections to the database.
pub const DATABASE_POOL_SIZE: Setting = setting(
    "database-pool-size",
    "COUNT",
    "Connections to the database, one thread each",
    "a whole number from 1 to 64",
)
.variable("TICKR_DATABASE_POOL_SIZE")
.or("5");

/// How long a request waits for the database.
pub const DATABASE_POOL_TIMEOUT: Setting = setting(
    "database-pool-timeout",
    "SECONDS",
    "How long a request waits for the database before it gets a 503",
    "seconds from 0.01 to 300, decimals allowed",
)
.variable("TICKR_DATABASE_POOL_TIMEOUT")
.or("1");

/// How many nodes the cluster can have.
pub const MAX_NODES: Setting = setting(
    "max-nodes",
    "COUNT",
    "The most nodes that the cluster will ever have; the distance between two tickets of a node",
    "a whole number, at least 1",
)
.variable("TICKR_MAX_NODES");

/// The first ticket of node 0.
pub const STARTING_OFFSET: Setting = setting(
    "starting-offset",
    "ID",
    "The first ID to hand out",
    "a whole number that fits in 64 bits, also with the node number added",
)
.variable("TICKR_STARTING_OFFSET");

/// This node.
pub const NODE_NUMBER: Setting = setting(
    "node-number",
    "NUMBER",
    "This node, counted from 0",
    "a whole number below the maximum number of nodes",
)
.variable("TICKR_NODE_NUMBER");

/// [`MAX_NODES`] as `tickr dev` has it.
pub const DEV_MAX_NODES: Setting = MAX_NODES.or("4");
/// [`STARTING_OFFSET`] as `tickr dev` has it.
pub const DEV_STARTING_OFFSET: Setting = STARTING_OFFSET.or("1");
/// [`NODE_NUMBER`] as `tickr dev` has it.
pub const DEV_NODE_NUMBER: Setting = NODE_NUMBER.or("0");

/// The addresses to listen on.
pub const LISTEN: Setting = setting(
    "listen",
    "ADDRESSES",
    "Where to listen; all of them are served at once",
    "comma-separated, at most 64: HOST:PORT, [::1]:PORT or unix:PATH",
)
.variable("TICKR_LISTEN")
.or("127.0.0.1:8080");

/// [`LISTEN`] as `tickr dev` has it; its default depends on the data directory.
pub const DEV_LISTEN: Setting = Setting {
    about: "Where to listen; 127.0.0.1:8080 and tickr.sock in the data directory when unset",
    absent: Absent::Unset,
    ..LISTEN
};

/// The file mode of the Unix sockets.
pub const SOCKET_MODE: Setting = setting(
    "socket-mode",
    "MODE",
    "File mode of the Unix sockets that are listened on",
    "three or four octal digits, at most 0777",
)
.variable("TICKR_SOCKET_MODE")
.or("0660");

/// The password that clients must send.
pub const HTTP_AUTH_PASSWORD: Setting = setting(
    "http-auth-password",
    "PASSWORD",
    "Insist on HTTP Basic auth: any user name, this password; nothing is insisted on when unset",
    "text in UTF-8 without control characters",
)
.variable("TICKR_HTTP_AUTH_PASSWORD")
.optional()
.secret();

/// The file that holds the password that clients must send.
pub const HTTP_AUTH_PASSWORD_FILE: Setting = setting(
    "http-auth-password-file",
    "PATH",
    "Read the HTTP password from a file instead; one trailing newline is dropped",
    "the path of a readable file of 1 to 4096 bytes of UTF-8 without control characters",
)
.variable("TICKR_HTTP_AUTH_PASSWORD_FILE")
.optional()
.secret();

/// The largest batch.
pub const MAX_BATCH: Setting = setting(
    "max-batch",
    "COUNT",
    "The most tickets that one request may ask for",
    "a whole number from 1 to 1000000000",
)
.variable("TICKR_MAX_BATCH")
.or("1000000");

/// The body of a batch when the request names no format.
pub const BATCH_FORMAT: Setting = setting(
    "batch-format",
    "FORMAT",
    "What /tickets/create/N answers when the request names no format",
    "array or range",
)
.variable("TICKR_BATCH_FORMAT")
.or("array");

/// Connections of clients.
pub const MAX_CONNECTIONS: Setting = setting(
    "max-connections",
    "COUNT",
    "The most client connections at once; past it the oldest idle one goes, or the new one gets \
     a 503",
    "a whole number from 1 to 1000000",
)
.variable("TICKR_MAX_CONNECTIONS")
.or("10000");

/// How long a stop waits for clients.
pub const SHUTDOWN_TIMEOUT: Setting = setting(
    "shutdown-timeout",
    "SECONDS",
    "How long a stop waits for answers that are on their way",
    "seconds from 0 to 3600, decimals allowed",
)
.variable("TICKR_SHUTDOWN_TIMEOUT")
.or("30");

/// How much demand is reserved ahead.
pub const PREFETCH_SECONDS: Setting = setting(
    "prefetch-seconds",
    "SECONDS",
    "Reserve this much of the recent demand ahead, so that requests do not wait for a commit; a \
     restart skips what was left; 0 turns it off",
    "seconds from 0 to 3600, decimals allowed",
)
.variable("TICKR_PREFETCH_SECONDS")
.or("0");

/// What is logged.
pub const LOG: Setting = setting(
    "log",
    "FILTER",
    "What is logged to stderr",
    "off, error, warn, info, debug or trace, or comma-separated TARGET=LEVEL",
)
.variable("TICKR_LOG")
.or("info");

/// How a log line looks.
pub const LOG_FORMAT: Setting = setting(
    "log-format",
    "FORMAT",
    "How a log line looks",
    "text or json (one object per line)",
)
.variable("TICKR_LOG_FORMAT")
.or("text");

/// The MySQL server program that `tickr dev` starts.
pub const MYSQLD: Setting = setting(
    "mysqld",
    "PATH",
    "The server program; mariadbd or mysqld from PATH or the usual folders when unset",
    "the path of a program",
)
.optional();

/// Where `tickr dev` keeps its data.
pub const DATA_DIR: Setting = setting(
    "data-dir",
    "PATH",
    "Where the data stays from one run to the next",
    "the path of a folder; it is made when it is missing",
)
.or(".tickr");

/// The ticket that `tickr db advance` goes past.
pub const PAST: Setting = setting(
    "past",
    "TICKET",
    "Move the counter so that every later ticket is above this one; it only ever goes forward",
    "a whole number that fits in 64 bits",
);

/// The name that `tickr db drop` wants repeated.
pub const CONFIRM: Setting = setting(
    "confirm",
    "NAME",
    "Say that the database is to be dropped, with every ticket's record in it",
    "the database's name, once more",
);

/// The servers that `tickr get` and `tickr cluster check` ask.
pub const SERVER: Setting = setting(
    "server",
    "URL",
    "Whom to ask for tickets, the preferred server first; give it again for each further server",
    "http://HOST:PORT or unix:PATH, several of them separated by commas",
)
.variable("TICKR_SERVER");

/// [`SERVER`] as `tickr cluster check` has it.
pub const NODES: Setting = Setting {
    value_name: "NODE_URL",
    about: "The nodes to ask",
    ..SERVER
};

/// [`HTTP_AUTH_PASSWORD`] as those who send it have it.
pub const CLIENT_PASSWORD: Setting = Setting {
    about: "The servers' HTTP password",
    ..HTTP_AUTH_PASSWORD
};

/// [`HTTP_AUTH_PASSWORD_FILE`] as those who send it have it.
pub const CLIENT_PASSWORD_FILE: Setting = Setting {
    about: "Read the servers' HTTP password from a file instead; one trailing newline is dropped",
    ..HTTP_AUTH_PASSWORD_FILE
};

/// How long one server may take.
pub const CLIENT_TIMEOUT: Setting = setting(
    "timeout",
    "SECONDS",
    "How long one server may take to answer",
    "seconds from 0.01 to 300, decimals allowed",
)
.variable("TICKR_CLIENT_TIMEOUT")
.or("2");

const fn setting(
    flag: &'static str,
    value_name: &'static str,
    about: &'static str,
    expects: &'static str,
) -> Setting {
    Setting {
        flag,
        variable: None,
        value_name,
        absent: Absent::Mistake,
        about,
        expects,
        secret: false,
    }
}
