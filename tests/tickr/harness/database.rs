//! Databases for tests: each test has one of its own, most of them on one shared server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use mysql::prelude::{FromValue, Queryable};
use mysql::{Conn, OptsBuilder};
use tempfile::TempDir;
use tickr::database::local::{LocalOptions, LocalServer};

use super::program::{NODE, run};
use crate::dialect;
use crate::support::{options, scratch, start};

/// A private server and its folder, which goes after it.
struct Server {
    local: Mutex<LocalServer>,
    _folder: TempDir,
}

impl Server {
    fn start(tcp: bool, extra_arguments: &[&str]) -> Server {
        let folder = scratch();
        let local = start(LocalOptions {
            tcp,
            extra_arguments: extra_arguments.iter().map(ToString::to_string).collect(),
            ..options(folder.path())
        });
        Server {
            local: Mutex::new(local),
            _folder: folder,
        }
    }
}

/// The name of a database that no other test uses, and the server that it is on.
pub(crate) struct Database {
    server: Arc<Server>,
    name: String,
}

impl Database {
    /// A database as `tickr db create` makes it for [`NODE`].
    pub(crate) fn create() -> Database {
        Database::absent().created_for(&NODE)
    }

    /// A name for a database that is not there yet, on the server that the tests share. The last
    /// test to let go of the server stops it.
    pub(crate) fn absent() -> Database {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|poison| poison.into_inner());
        let server = shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Server::start(true, &[]));
            *shared = Arc::downgrade(&server);
            server
        });
        Database::on(server)
    }

    /// A database on a server of its own, which the test may kill, stop or pause.
    pub(crate) fn alone() -> Database {
        Database::alone_for(&NODE)
    }

    /// The same, made for a node with these application settings.
    pub(crate) fn alone_for(node: &[(&str, &str)]) -> Database {
        Database::on(Arc::new(Server::start(false, &[]))).created_for(node)
    }

    /// The same with further options of the server.
    pub(crate) fn alone_with(extra_arguments: &[&str]) -> Database {
        Database::on(Arc::new(Server::start(false, extra_arguments))).created_for(&NODE)
    }

    /// Runs `tickr db create` with these application settings.
    pub(crate) fn created_for(self, node: &[(&str, &str)]) -> Database {
        let output = run(&["db", "create"], &[&self.settings(), node].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{errors}");
        self
    }

    fn on(server: Arc<Server>) -> Database {
        static NAMES: AtomicUsize = AtomicUsize::new(0);
        let number = NAMES.fetch_add(1, Ordering::Relaxed);
        let name = format!("black-box-{number}");
        Database { server, name }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The server that it is on.
    pub(crate) fn server(&self) -> MutexGuard<'_, LocalServer> {
        let local = &self.server.local;
        local.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// The port of the shared server.
    pub(crate) fn port(&self) -> u16 {
        self.server().port().expect("the shared server has a port")
    }

    /// The settings `TICKR_DATABASE_*`, over the Unix socket. They live as long as the tests.
    pub(crate) fn settings(&self) -> Vec<(&'static str, &'static str)> {
        let server = self.server();
        let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        vec![
            (
                "TICKR_DATABASE_HOST",
                leak(&server.socket().to_string_lossy()),
            ),
            ("TICKR_DATABASE_USERNAME", leak(server.username())),
            ("TICKR_DATABASE_PASSWORD", leak(server.password())),
            ("TICKR_DATABASE_NAME", leak(&self.name)),
            // A busy machine is no reason to fail.
            ("TICKR_DATABASE_POOL_TIMEOUT", "20"),
        ]
    }

    /// The counter, read past the program.
    pub(crate) fn counter(&self) -> u64 {
        self.value("SELECT id FROM tickets WHERE stub = 'a'")
    }

    /// The only value of a query's only row.
    pub(crate) fn value<T: FromValue>(&self, query: &str) -> T {
        let row = self.admin().query_first(query);
        row.expect("the query runs").expect("it has a row")
    }

    /// Runs a statement in the database.
    pub(crate) fn execute(&self, statement: &str) {
        let done = dialect::run(&mut self.admin(), statement);
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Whether its server is MySQL, and not MariaDB.
    pub(crate) fn is_mysql(&self) -> bool {
        dialect::is_mysql(&mut self.admin()).expect("it has a version")
    }

    /// Makes semi-synchronous replication available.
    pub(crate) fn load_semi_sync(&self) {
        dialect::load_semi_sync(&mut self.admin()).expect("the server has it");
    }

    fn admin(&self) -> Conn {
        let server = self.server();
        let options = OptsBuilder::new()
            .socket(server.socket().to_str())
            .user(Some(server.username()))
            .pass(Some(server.password()))
            .db_name(Some(&self.name));
        Conn::new(options).expect("the server lets its administrator in")
    }
}
