//! The database side: what is created, taken over and verified, and what each fault comes to.

mod faults;
mod protocol;
mod stored;
mod unfit;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::{FromRow, Queryable};
use mysql::{Conn, OptsBuilder};
use tempfile::TempDir;
use tickr::counter::{self, Epoch, Found, Job, JobId, Outcome, Owner, Task, View, Warning};
use tickr::database::local::{LocalOptions, LocalServer};
use tickr::database::schema::{self, Advanced, Created, Migrated};
use tickr::database::session::Session;
use tickr::database::workers::Workers;
use tickr::database::{Failover, Host, Secret, Settings, Tls};
use tickr::fault::{Fault, FaultKind};
use tickr::ticket::{Block, Numbering};

use crate::dialect;
use crate::harness::wait_until;
use crate::support::{options, scratch, start};

/// A short lease, so that opening waits no longer than it must.
const LEASE: Duration = Duration::from_secs(1);
const ORIGINAL: &str = "CREATE TABLE tickets (id BIGINT UNSIGNED NOT NULL, \
     stub CHAR(1) NOT NULL UNIQUE PRIMARY KEY) ENGINE = MyISAM";
const EARLIER_ORIGINAL: &str = "CREATE TABLE tickets (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT \
     PRIMARY KEY, stub CHAR(1) NOT NULL UNIQUE DEFAULT '') ENGINE = MyISAM";

/// A server and its folder, which goes after it.
struct Server {
    local: LocalServer,
    _folder: TempDir,
}

impl Server {
    fn start(extra_arguments: &[&str]) -> Server {
        let folder = scratch();
        let local = start(LocalOptions {
            extra_arguments: extra_arguments.iter().map(ToString::to_string).collect(),
            ..options(folder.path())
        });
        Server {
            local,
            _folder: folder,
        }
    }

    /// The server of all tests that leave no mark on it; the last of them stops it.
    fn shared() -> Arc<Server> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|poison| poison.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Server::start(&[]));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    fn admin(&self) -> Conn {
        let options = OptsBuilder::new()
            .socket(self.local.socket().to_str())
            .user(Some(self.local.username()))
            .pass(Some(self.local.password()));
        Conn::new(options).unwrap()
    }

    /// Settings for a database that is not there yet, and that no other test uses.
    fn settings(&self) -> Settings {
        static DATABASES: AtomicUsize = AtomicUsize::new(0);
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        Settings {
            host: Host::Socket(self.local.socket().to_owned()),
            username: self.local.username().to_owned(),
            password: Secret::new(self.local.password()).into(),
            name: format!("tickr-{number}"),
            timeout: Duration::from_secs(1),
            tls: Tls::Off,
            public_key: None,
            failover: Failover::Stop,
        }
    }

    /// A database as `tickr db create` makes it.
    fn created(&self) -> Settings {
        let settings = self.settings();
        create(&settings).unwrap();
        settings
    }

    /// The same database for a user of its own, with these privileges on it alone.
    fn plain_user(&self, settings: &Settings, privileges: &str) -> Settings {
        let user = format!("user-{}", settings.name);
        let mut admin = self.admin();
        admin
            .query_drop(format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'pass'"))
            .unwrap();
        admin
            .query_drop(format!(
                "GRANT {privileges} ON `{}`.* TO '{user}'@'%'",
                settings.name
            ))
            .unwrap();
        Settings {
            username: user,
            password: Secret::new("pass").into(),
            ..settings.clone()
        }
    }

    /// Runs statements in the database.
    fn run(&self, settings: &Settings, statements: &[&str]) {
        let mut admin = self.admin();
        admin.select_db(&settings.name).unwrap();
        for statement in statements {
            admin.query_drop(statement).unwrap();
        }
    }

    fn rows<T: FromRow>(&self, settings: &Settings, query: &str) -> Vec<T> {
        let mut admin = self.admin();
        admin.select_db(&settings.name).unwrap();
        admin.query(query).unwrap()
    }

    fn counter(&self, settings: &Settings) -> u64 {
        let rows = self.rows(settings, "SELECT id FROM tickets WHERE stub = 'a'");
        assert_eq!(rows.len(), 1);
        rows[0]
    }

    /// The connection of a user that waits for a row lock, as soon as there is one.
    fn lock_waiter(&self, settings: &Settings) -> u64 {
        let waiter = "SELECT p.ID FROM information_schema.PROCESSLIST AS p \
             JOIN information_schema.INNODB_TRX AS t ON t.trx_mysql_thread_id = p.ID \
             WHERE p.USER = ? AND t.trx_state = 'LOCK WAIT'";
        let mut admin = self.admin();
        for _ in 0..50 {
            if let Some(id) = admin.exec_first(waiter, (&settings.username,)).unwrap() {
                return id;
            }
            // INNODB_TRX is refreshed no faster than this.
            thread::sleep(Duration::from_millis(110));
        }
        panic!("nobody waits");
    }

    /// Ends the connections of a user, as an operator would.
    fn kill_connections(&self, settings: &Settings) {
        let mut admin = self.admin();
        let of_user = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = ?";
        let ids: Vec<u64> = admin.exec(of_user, (&settings.username,)).unwrap();
        assert!(!ids.is_empty());
        for id in ids {
            admin.query_drop(format!("KILL {id}")).unwrap();
        }
    }
}

fn numbering() -> Numbering {
    Numbering::new(4, 54_313_001, 0).unwrap()
}

fn create(settings: &Settings) -> Result<Created, Fault> {
    schema::create(settings, &numbering(), LEASE)
}

fn advance(settings: &Settings, past: Option<u64>, margin: u64) -> Result<Advanced, Fault> {
    schema::advance(settings, &numbering(), past, margin, &mut |_| {})
}

/// A session, and what its process knows of the row.
struct Node {
    session: Session,
    view: View,
    server: counter::Server,
}

impl Node {
    fn open(settings: &Settings, numbering: &Numbering) -> Result<Node, Fault> {
        let (session, found) = Session::open(settings, numbering, None)?;
        let Found::Connected { view, server } = found else {
            panic!("{found:?}");
        };
        Ok(Node {
            session,
            view,
            server,
        })
    }

    fn ask(&mut self, count: u64) -> Result<Found, Fault> {
        let View { epoch, id, .. } = self.view;
        self.session.reserve(count, epoch, id)
    }

    fn reserve(&mut self, count: u64) -> Result<Block, Fault> {
        match self.ask(count)? {
            Found::Reserved { last } => Ok(Block::ending_at(last, count).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// The row, as it was when the reservation was refused.
    fn refused(&mut self) -> View {
        match self.ask(1) {
            Ok(Found::Refused { view }) => view,
            other => panic!("{other:?}"),
        }
    }

    fn read(&mut self) -> Result<View, Fault> {
        match self.session.read()? {
            Found::Read { view, .. } => Ok(view),
            other => panic!("{other:?}"),
        }
    }
}

fn open(settings: &Settings) -> Result<Node, Fault> {
    Node::open(settings, &numbering())
}

fn open_error(settings: &Settings) -> FaultKind {
    open(settings).map(|node| node.view).unwrap_err().kind
}

fn kind<T: std::fmt::Debug>(result: Result<T, Fault>) -> FaultKind {
    result.unwrap_err().kind
}

fn kinds(faults: &[Fault]) -> Vec<FaultKind> {
    faults.iter().map(|fault| fault.kind).collect()
}

fn block(first: u64, last: u64) -> Block {
    Block { first, last }
}

/// Workers, and the channel on which they wake us.
struct Pool {
    workers: Workers,
    woken: Receiver<()>,
    jobs: u64,
    epoch: Epoch,
}

impl Pool {
    fn start(settings: &Settings, size: usize) -> Pool {
        let (wake, woken) = mpsc::channel();
        let wake = Mutex::new(wake);
        let wake = Arc::new(move || wake.lock().unwrap().send(()).unwrap_or(()));
        let settings = Arc::new(settings.clone());
        let workers = Workers::start(settings, numbering(), size, wake).unwrap();
        Pool {
            workers,
            woken,
            jobs: 0,
            epoch: Epoch::default(),
        }
    }

    fn submit(&mut self, worker: usize, task: Task) -> JobId {
        self.jobs += 1;
        let id = JobId(self.jobs);
        self.workers.submit(Job { id, worker, task });
        id
    }

    fn outcome(&mut self) -> Outcome {
        self.woken.recv_timeout(Duration::from_secs(30)).unwrap();
        self.workers.next_outcome().unwrap()
    }

    fn ask(&mut self, task: Task) -> Result<Found, Fault> {
        let id = self.submit(0, task);
        let outcome = self.outcome();
        assert_eq!(outcome.id, id);
        outcome.found
    }

    fn connect(&mut self) -> Result<View, Fault> {
        self.replace(None).map(|(view, _)| view)
    }

    fn replace(&mut self, replaces: Option<u64>) -> Result<(View, counter::Server), Fault> {
        match self.ask(Task::Connect { replaces })? {
            Found::Connected { view, server } => {
                self.epoch = view.epoch;
                Ok((view, server))
            }
            other => panic!("{other:?}"),
        }
    }

    fn reservation(&self, count: u64) -> Task {
        Task::Reserve {
            count,
            epoch: self.epoch,
            floor: 0,
        }
    }

    fn reserve(&mut self, count: u64) -> Result<Block, Fault> {
        match self.ask(self.reservation(count))? {
            Found::Reserved { last } => Ok(Block::ending_at(last, count).unwrap()),
            other => panic!("{other:?}"),
        }
    }
}
