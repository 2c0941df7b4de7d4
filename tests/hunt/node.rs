//! One node of the hunt: its MySQL server, its processes of Tickr, and the faults that befall them.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use rustix::process::Signal;
use tickr::database::local::{LocalOptions, LocalServer};

use crate::client::Targets;
use crate::dialect;
use crate::process::{DATABASE, Login, Outcome, Process, Setup, tickr, wait_for};
use crate::proxy::{Direction, Proxy};
use crate::random::Random;

/// After the database is back, a ticket must come in this time. The report tells how long it took.
const RECOVERY_MAX: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
const PROCESSES_MAX: usize = 3;
/// Within this time, what was asked of the database before the clients were held back is done.
const QUIET: Duration = Duration::from_millis(300);
const QUIET_ATTEMPTS: usize = 20;

/// A node, with everything that is its own.
pub(crate) struct Node {
    folder: PathBuf,
    targets: Arc<Targets>,
    random: Random,
    server: LocalServer,
    running: Vec<Running>,
    started: u64,
}

/// A process and the proxy between it and MySQL.
struct Running {
    process: Process,
    proxy: Proxy,
}

/// What can go wrong, with how often it does.
const FAULTS: [(Fault, u64); 12] = [
    (Fault::KillTickr, 22),
    (Fault::StopTickr, 6),
    (Fault::PauseTickr, 6),
    (Fault::AddTickr, 6),
    (Fault::RetireTickr, 6),
    (Fault::KillMysql, 18),
    (Fault::RestartMysql, 3),
    (Fault::PauseMysql, 5),
    (Fault::KillBoth, 4),
    (Fault::Cut, 40),
    (Fault::HoldUp, 5),
    (Fault::Restore, 5),
];

#[derive(Clone, Copy, Debug)]
enum Fault {
    KillTickr,
    StopTickr,
    PauseTickr,
    AddTickr,
    RetireTickr,
    KillMysql,
    RestartMysql,
    PauseMysql,
    KillBoth,
    Cut,
    HoldUp,
    Restore,
}

impl Node {
    /// Starts the MySQL server and the first process.
    pub(crate) fn start(
        folder: &Path,
        targets: Arc<Targets>,
        random: Random,
    ) -> Result<Node, Box<dyn Error>> {
        let number = targets.node.numbering.node_number();
        let folder = folder.join(number.to_string());
        let server = LocalServer::start(LocalOptions {
            tcp: true,
            program: dialect::program(),
            ..LocalOptions::new(&folder)
        })?;
        let mut node = Node {
            folder,
            targets,
            random,
            server,
            running: Vec::new(),
            started: 0,
        };
        node.tickr(&["db", "create", "--lease-seconds", "1"])?;
        node.add_process()?;
        Ok(node)
    }

    /// One fault after another, until the hunt is over; then all must work as if nothing had been.
    pub(crate) fn run(&mut self, deadline: Instant) -> Outcome {
        while Instant::now() < deadline && !self.targets.record.stopped() {
            thread::sleep(Duration::from_millis(self.random.within(20..=250)));
            let fault = self.choose();
            self.inflict(fault)
                .map_err(|error| format!("{fault:?}: {error}"))?;
            self.look_after()?;
        }
        if !self.targets.record.stopped() {
            self.wait_until_served()?;
        }
        Ok(())
    }

    /// Stops everything in good order.
    pub(crate) fn stop(mut self) -> Outcome {
        for running in self.running.drain(..) {
            running.process.stop()?;
        }
        Ok(self.server.stop()?)
    }

    fn choose(&mut self) -> Fault {
        let total = FAULTS.iter().map(|(_, weight)| weight).sum::<u64>();
        let mut left = self.random.within(0..=total - 1);
        for (fault, weight) in FAULTS {
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => return fault,
            }
        }
        unreachable!("the weights add up to their total")
    }

    fn inflict(&mut self, fault: Fault) -> Outcome {
        match fault {
            Fault::KillTickr => {
                let chosen = self.choose_process();
                self.kill_process(chosen)?;
                self.add_process()?;
            }
            Fault::StopTickr => {
                self.retire()?;
                self.add_process()?;
                self.targets.record.fault("Tickr stopped and started");
            }
            Fault::PauseTickr => self.pause_tickr()?,
            Fault::AddTickr if self.running.len() < PROCESSES_MAX => {
                self.add_process()?;
                self.targets.record.fault("one more process");
            }
            Fault::RetireTickr if self.running.len() > 1 => {
                self.retire()?;
                self.targets.record.fault("one process less");
            }
            Fault::AddTickr | Fault::RetireTickr => {}
            Fault::KillMysql => self.kill_mysql(false)?,
            Fault::KillBoth => self.kill_mysql(true)?,
            Fault::RestartMysql => {
                self.targets.record.fault("MySQL stopped and started");
                self.server.restart()?;
                self.wait_until_served()?;
            }
            Fault::PauseMysql => {
                self.targets.record.fault("MySQL hung (SIGSTOP)");
                self.server.pause()?;
                thread::sleep(Duration::from_millis(self.random.within(50..=2_500)));
                self.server.resume()?;
                self.wait_until_served()?;
            }
            Fault::Cut => {
                let direction = match self.random.chance(50) {
                    true => Direction::ToDatabase,
                    false => Direction::FromDatabase,
                };
                let bytes = self.random.within(0..=160) as usize;
                let chosen = self.choose_process();
                self.running[chosen].proxy.cut_after(direction, bytes);
                self.targets.record.fault("connection to MySQL cut");
            }
            Fault::HoldUp => {
                let duration = Duration::from_millis(self.random.within(20..=1_500));
                let chosen = self.choose_process();
                self.running[chosen].proxy.hold_up(duration);
                thread::sleep(duration);
                self.targets.record.fault("connections to MySQL held up");
            }
            Fault::Restore => self.restore()?,
        }
        Ok(())
    }

    fn kill_mysql(&mut self, both: bool) -> Outcome {
        let record = Arc::clone(&self.targets.record);
        record.fault("MySQL killed (SIGKILL)");
        if both {
            let chosen = self.choose_process();
            self.server.kill()?;
            self.kill_process(chosen)?;
            self.add_process()?;
        } else {
            self.server.kill()?;
        }
        self.server.restart()?;
        self.wait_until_served()
    }

    fn kill_process(&mut self, chosen: usize) -> Outcome {
        self.targets.record.fault("Tickr killed (SIGKILL)");
        let mut running = self.running.remove(chosen);
        self.announce();
        Ok(running.process.kill()?)
    }

    fn retire(&mut self) -> Outcome {
        let chosen = self.choose_process();
        let running = self.running.remove(chosen);
        self.announce();
        Ok(running.process.stop()?)
    }

    fn pause_tickr(&mut self) -> Outcome {
        self.targets.record.fault("Tickr hung (SIGSTOP)");
        let chosen = self.choose_process();
        let duration = Duration::from_millis(self.random.within(20..=1_500));
        let process = &mut self.running[chosen].process;
        process.signal(Signal::STOP)?;
        thread::sleep(duration);
        Ok(process.signal(Signal::CONT)?)
    }

    /// An old copy of the counter comes back, when every process has seen a higher one. None may
    /// hand out anything from then on until `tickr db advance` was run as they say.
    fn restore(&mut self) -> Outcome {
        self.wait_until_served()?;
        // What a lone process had not seen nobody had, so its clients need not be held back.
        let lone = self.running.len() == 1 && self.random.chance(50);
        if !lone {
            self.targets.close();
        }
        let restored = self.go_backwards(lone);
        self.targets.open();
        if !restored? {
            return Ok(());
        }
        self.all_are_fenced()?;
        self.all_refuse()?;
        self.tickr(&["db", "advance"])?;
        self.wait_until_served()?;
        for running in &self.running {
            wait_for(
                RECOVERY_MAX,
                &format!("{} does not serve again", running.process.setup.name),
                || Ok(running.process.get("/tickets/create")?.0 == 200),
            )?;
        }
        // Answers from behind the fence may still be on their way.
        self.targets.close();
        self.targets.expect_fence(false);
        self.targets.open();
        Ok(())
    }

    /// Sets the counter back; false when it does not stand high enough for that.
    fn go_backwards(&mut self, lone: bool) -> Result<bool, Box<dyn Error>> {
        let seen = self.everyone_has_seen(lone)?;
        // At full speed, less would be made up for before anybody has looked.
        let back = match lone {
            true => self.random.within(1_000_000..=2_000_000),
            false => self.random.within(1..=3_000),
        };
        if seen <= back + 1 {
            return Ok(false);
        }
        self.targets
            .record
            .fault("database restored from an old copy");
        self.targets.expect_fence(true);
        self.query(&format!("UPDATE tickets SET id = id - {back}"))?;
        if !lone {
            self.all_are_fenced()?;
        }
        Ok(true)
    }

    /// Makes every process look at the counter; returns what it is.
    fn everyone_has_seen(&mut self, lone: bool) -> Result<u64, Box<dyn Error>> {
        for _ in 0..QUIET_ATTEMPTS {
            if !lone {
                thread::sleep(QUIET);
            }
            let before = self.counter()?;
            let mut all = true;
            for running in &self.running {
                all &= running.process.get("/status")?.0 == 200;
            }
            if all && (lone || self.counter()? == before) {
                return Ok(before);
            }
        }
        Err("the counter does not come to rest".into())
    }

    /// Every process must notice that the database went backwards.
    fn all_are_fenced(&self) -> Outcome {
        for Running { process, .. } in &self.running {
            let name = &process.setup.name;
            wait_for(
                RECOVERY_MAX,
                &format!("{name} does not notice that the database went backwards"),
                || Ok(process.get("/status")?.1.contains("\"closed\"")),
            )?;
        }
        Ok(())
    }

    /// Every process must refuse, and name the one command to run.
    fn all_refuse(&self) -> Outcome {
        for Running { process, .. } in &self.running {
            for _ in 0..3 {
                let (status, body) = process.get("/tickets/create")?;
                if status != 503 || !body.contains("tickr db advance") {
                    let what = format!("answers while the counter is closed: {body}");
                    return Err(process.describe(&what).into());
                }
            }
        }
        Ok(())
    }

    /// The database answers: tickets must come soon, and what was handed out must be committed.
    fn wait_until_served(&mut self) -> Outcome {
        let node = &self.targets.node;
        node.database_is_back();
        while let Some(waited) = node.recovering_for() {
            if waited > RECOVERY_MAX {
                let name = "no ticket, although the database answers";
                let log = self
                    .running
                    .first()
                    .map(|running| running.process.describe(name));
                return Err(log.unwrap_or_default().into());
            }
            thread::sleep(POLL_INTERVAL);
        }
        let last = node.last_ticket();
        let counter = self.counter()?;
        if self.targets.node.numbering.ticket(counter) < last {
            return Err(format!(
                "ticket {last:?} was handed out, and the counter, {counter}, is below it"
            )
            .into());
        }
        Ok(())
    }

    /// None may end by itself.
    fn look_after(&mut self) -> Outcome {
        for Running { process, .. } in &mut self.running {
            if let Some(status) = process.exited()? {
                return Err(process
                    .describe(&format!("ended by itself with {status}"))
                    .into());
            }
        }
        Ok(())
    }

    fn add_process(&mut self) -> Outcome {
        let numbering = self.targets.node.numbering;
        self.started += 1;
        let setup = Setup {
            name: format!("{}-{}", numbering.node_number(), self.started),
            pool: self.random.within(1..=5),
            prefetch_seconds: self.random.one_of(&["0", "0", "0.3", "2"]).unwrap_or(&"0"),
        };
        let proxy = Proxy::start(self.server.socket())?;
        let login = Login {
            port: proxy.port(),
            ..self.login()
        };
        let process = Process::start(&self.folder, &login, numbering, setup)?;
        self.running.push(Running { process, proxy });
        self.announce();
        Ok(())
    }

    fn announce(&self) {
        let endpoints = self
            .running
            .iter()
            .flat_map(|running| running.process.endpoints.clone());
        self.targets.set_endpoints(endpoints.collect());
    }

    fn choose_process(&mut self) -> usize {
        self.random.within(0..=self.running.len() as u64 - 1) as usize
    }

    fn login(&self) -> Login {
        Login {
            host: "127.0.0.1".to_owned(),
            port: self.server.port().unwrap_or_default(),
            username: self.server.username().to_owned(),
            password: self.server.password().to_owned(),
        }
    }

    fn tickr(&self, arguments: &[&str]) -> Outcome {
        tickr(&self.login(), self.targets.node.numbering, arguments)
    }

    fn counter(&self) -> Result<u64, Box<dyn Error>> {
        let counter = self.query("SELECT id FROM tickets")?;
        Ok(counter.ok_or("the counter row is gone")?)
    }

    fn query(&self, sql: &str) -> Result<Option<u64>, Box<dyn Error>> {
        let options = OptsBuilder::new()
            .socket(Some(self.server.socket().to_string_lossy()))
            .user(Some(self.server.username()))
            .pass(Some(self.server.password()))
            .db_name(Some(DATABASE));
        Ok(Conn::new(options)?.query_first(sql)?)
    }
}
