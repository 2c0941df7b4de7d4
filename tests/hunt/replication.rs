//! The hunt on real replication: a MariaDB primary with a replica, and a few processes of one node
//! that fail over between them, fail back, and see old rows come back.
//!
//! After each loss the runbook of `docs/operating.md` is followed, at random speed and with random
//! accidents. What that page assumes stands here as code, each under the word "Assumed".

use std::error::Error;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::{FromRow, Queryable};
use mysql::{Conn, OptsBuilder};
use rustix::process::Signal;
use tickr::counter::Epoch;
use tickr::database::local::{LocalOptions, LocalServer};
use tickr::state;

use crate::client::Targets;
use crate::dialect::{self, REPLICATION};
use crate::process::{DATABASE, Login, Outcome, Process, Setup, command, tickr, wait_for};
use crate::random::Random;

const PROCESSES: u64 = 3;
/// After `tickr db advance`, and after a fault that loses nothing, every process must serve.
const SERVE_MAX: Duration = Duration::from_secs(15);
const REPLICA_MAX: Duration = Duration::from_secs(30);
/// Assumed: what a process can write in one turn of its loop, while it is stopped in it, is less
/// than the margin. Every client asks for at most 16 batches of 4,000 at once.
const TURN_MARGIN: u64 = 300_000;

/// The two servers, and the processes that reach whichever is the primary by one path.
pub(crate) struct Pair {
    folder: PathBuf,
    targets: Arc<Targets>,
    random: Random,
    servers: [LocalServer; 2],
    primary: usize,
    /// An old copy of the row, below what every process knows.
    backup: Row,
    processes: Vec<Process>,
}

/// Id, mark, epoch, its tag, and owner.
type Row = (u64, u64, u64, u64, String);

/// Who can't tell what it remembers while the counter is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    Nobody,
    /// Stopped (SIGSTOP) all the while.
    Stopped(usize),
    /// Everybody was killed, with or without the state files.
    Killed {
        files_too: bool,
    },
}

impl Pair {
    /// Starts the servers, the replication between them, and the processes.
    pub(crate) fn start(
        folder: &Path,
        targets: Arc<Targets>,
        random: Random,
    ) -> Result<Pair, Box<dyn Error>> {
        let folder = folder.join("pair");
        let start = |number: usize| {
            let server_id = format!("--server-id={}", 11 + number);
            // Assumed: the old primary stays fenced, also when it is started again.
            let arguments = ["--log-bin", "--read-only", &server_id];
            let arguments = arguments.iter().chain(&REPLICATION);
            LocalServer::start(LocalOptions {
                tcp: true,
                program: dialect::program(),
                extra_arguments: arguments.map(ToString::to_string).collect(),
                ..LocalOptions::new(folder.join(number.to_string()))
            })
        };
        let mut pair = Pair {
            servers: [start(0)?, start(1)?],
            folder,
            targets,
            random,
            primary: 0,
            backup: Row::default(),
            processes: Vec::new(),
        };
        // A copy may be taken from before what was remembered: it is expected that nodes say so.
        pair.targets.expect_fence(true);
        pair.switch()?;
        pair.promote(0)?;
        pair.open_for_writing()?;
        let lease = pair.random.within(1..=3).to_string();
        pair.tickr(&["db", "create", "--lease-seconds", &lease])?;
        pair.follow(1)?;
        wait_for(REPLICA_MAX, "the replica does not follow", || {
            Ok(pair.row(1).is_ok())
        })?;
        for number in 0..PROCESSES {
            let setup = Setup {
                name: number.to_string(),
                pool: pair.random.within(1..=5),
                prefetch_seconds: pair.random.one_of(&["0", "0.3", "1"]).unwrap_or(&"0"),
            };
            let process = pair.process(setup)?;
            pair.processes.push(process);
        }
        pair.announce();
        pair.all_serve()?;
        pair.back_up()?;
        Ok(pair)
    }

    /// One loss after another, with small faults between them, until the hunt is over.
    pub(crate) fn run(&mut self, deadline: Instant) -> Outcome {
        while Instant::now() < deadline && !self.targets.record.stopped() {
            match self.random.within(0..=9) {
                0..=3 => self.lose_nothing()?,
                4 => self.back_up()?,
                5 => self.lose(false)?,
                _ => self.lose(true)?,
            }
            self.all_serve()?;
        }
        Ok(())
    }

    /// Stops everything in good order.
    pub(crate) fn stop(mut self) -> Outcome {
        for process in self.processes.drain(..) {
            process.stop()?;
        }
        for server in &mut self.servers {
            server.stop()?;
        }
        Ok(())
    }

    /// A fail-over to the replica, or a restore on the primary; then the runbook.
    fn lose(&mut self, fails_over: bool) -> Outcome {
        let restores = !fails_over || self.random.chance(25);
        let old = self.primary;
        if fails_over {
            self.lag()?;
        }
        let absent = self.make_absent()?;
        if fails_over {
            // 1. of the runbook.
            self.fence(old)?;
            // 2.
            self.apply_relay_log(1 - old)?;
            self.promote(1 - old)?;
        }
        if restores {
            self.fault("old copy of the row restored");
            self.write(self.primary, &self.backup)?;
        }
        let promoted = self.row(self.primary)?;
        if fails_over {
            self.open_for_writing()?;
            // 3.
            self.switch()?;
        }
        self.pause(0..=1_500);
        // Assumed: a row that calls itself open is taken at its word by who does not know better.
        let is_open = promoted.4 == dialect::owner(&mut self.connect(self.primary)?)?;
        let early = self.random.chance(75);
        if early && absent != Absent::Nobody && (!is_open || self.files_remember(&promoted)) {
            self.bring_back(absent)?;
        }
        // 4.
        self.advance(absent)?;
        self.bring_back(absent)?;
        if absent != Absent::Nobody && self.is_closed_again()? {
            self.fault("advance run again, for who was absent");
            self.advance(Absent::Nobody)?;
        }
        self.all_serve()?;
        self.nothing_is_ahead()?;
        if fails_over {
            self.rejoin(old, &promoted)?;
        }
        Ok(())
    }

    /// Makes the replica miss some of what the primary commits, or apply it late.
    fn lag(&mut self) -> Outcome {
        let stop = match self.random.within(0..=2) {
            0 => return Ok(()),
            1 => "STOP SLAVE IO_THREAD",
            _ => "STOP SLAVE SQL_THREAD",
        };
        self.fault("replica made to lag");
        self.run_on(1 - self.primary, &[stop])?;
        self.pause(0..=1_500);
        Ok(())
    }

    fn make_absent(&mut self) -> Result<Absent, Box<dyn Error>> {
        let chosen = self.random.within(0..=PROCESSES - 1) as usize;
        let absent = match self.random.within(0..=9) {
            0..=3 => Absent::Nobody,
            4..=5 => Absent::Stopped(chosen),
            _ => Absent::Killed {
                files_too: self.random.chance(70),
            },
        };
        match absent {
            Absent::Nobody => {}
            Absent::Stopped(chosen) => {
                self.fault("Tickr hung (SIGSTOP) during a loss");
                self.processes[chosen].signal(Signal::STOP)?;
            }
            Absent::Killed { files_too } => {
                self.fault("all of Tickr killed (SIGKILL) before a loss");
                for process in &mut self.processes {
                    process.kill()?;
                    if files_too {
                        let _ = fs::remove_file(&process.state_file);
                    }
                }
            }
        }
        Ok(absent)
    }

    fn bring_back(&mut self, absent: Absent) -> Outcome {
        match absent {
            Absent::Nobody => {}
            Absent::Stopped(chosen) => self.processes[chosen].signal(Signal::CONT)?,
            Absent::Killed { .. } => {
                for number in 0..self.processes.len() {
                    if self.processes[number].exited()?.is_some() {
                        let setup = self.processes[number].setup.clone();
                        self.processes[number] = self.process(setup)?;
                    }
                }
                self.announce();
            }
        }
        Ok(())
    }

    /// Assumed: the old primary takes no writes from now on. Each way to do that is tried.
    fn fence(&mut self, old: usize) -> Outcome {
        match self.random.within(0..=3) {
            0 | 1 => {
                self.fault("fail-over from a primary set read-only");
                self.run_on(old, &["SET GLOBAL read_only = 1"])?;
            }
            2 => {
                self.fault("fail-over from a primary that was stopped");
                self.servers[old].stop()?;
            }
            _ => {
                self.fault("fail-over from a primary that hung and was killed");
                self.servers[old].pause()?;
                self.pause(0..=1_500);
                self.servers[old].kill()?;
            }
        }
        Ok(())
    }

    /// What the replica has received must be in the row before anybody writes to it.
    fn apply_relay_log(&self, server: usize) -> Outcome {
        self.run_on(server, &["STOP SLAVE IO_THREAD", "START SLAVE SQL_THREAD"])?;
        wait_for(REPLICA_MAX, "the replica does not apply its log", || {
            let mut conn = self.connect(server).map_err(io::Error::other)?;
            let has_applied = dialect::has_applied_its_relay_log(&mut conn);
            has_applied.map_err(io::Error::other)
        })
    }

    /// Makes a server the primary, which tells replicas by rows or by statements.
    fn promote(&mut self, server: usize) -> Outcome {
        let (kind, format) = match self.random.chance(50) {
            true => (
                "promotion with row format",
                "SET GLOBAL binlog_format = ROW",
            ),
            false => (
                "promotion with statement format",
                "SET GLOBAL binlog_format = STATEMENT",
            ),
        };
        self.fault(kind);
        self.primary = server;
        self.run_on(
            server,
            &["STOP SLAVE", "RESET SLAVE ALL", "RESET MASTER", format],
        )
    }

    fn open_for_writing(&self) -> Outcome {
        self.run_on(self.primary, &["SET GLOBAL read_only = 0"])
    }

    /// `tickr db advance`, told what only the absent may know; now and then killed and run again,
    /// or run twice at once.
    fn advance(&mut self, absent: Absent) -> Outcome {
        // What every process knows need not be told, and no margin must cover it.
        let margin = match absent {
            Absent::Nobody => self.random.within(0..=1_000),
            _ => TURN_MARGIN,
        };
        // Assumed: `--past` covers what those have issued who can't tell.
        let last = self.targets.node.last_ticket().unwrap_or_default();
        let (margin, past) = (format!("--margin={margin}"), format!("--past={last}"));
        let mut arguments = vec!["db", "advance", &margin, &past];
        if absent == Absent::Nobody {
            arguments.pop();
        }
        let accident = self.random.within(0..=3);
        if accident > 1 {
            return self.tickr(&arguments);
        }
        let mut first = command(&self.login(), self.targets.node.numbering);
        let mut first = first.args(&arguments).stderr(Stdio::null()).spawn()?;
        if accident == 1 {
            self.fault("advance killed (SIGKILL)");
            self.pause(0..=4_000);
            first.kill()?;
        } else {
            self.fault("advance run twice at once");
            self.pause(0..=1_000);
        }
        let second = self.tickr(&arguments);
        let first = first.wait()?;
        second?;
        match first.success() || accident == 1 {
            true => Ok(()),
            false => Err(format!("of two at once, the first `advance` ended with {first}").into()),
        }
    }

    /// Who was absent may remember an epoch, or a reserve above the margin, that nobody told
    /// `advance` of: it closes the counter again, and says what to run.
    fn is_closed_again(&self) -> Result<bool, Box<dyn Error>> {
        let mut closed = false;
        for process in &self.processes {
            wait_for(SERVE_MAX, "a process does not come back", || {
                let (status, body) = process.get("/status").unwrap_or_default();
                closed |= body.contains("\"closed\"");
                Ok(closed || status == 200)
            })?;
        }
        Ok(closed)
    }

    /// The old primary becomes the replica: as it is, or rebuilt from the row that was promoted.
    fn rejoin(&mut self, old: usize, promoted: &Row) -> Outcome {
        let is_up = self.query::<u64>(old, "SELECT 1").is_ok();
        if !is_up {
            self.servers[old].restart()?;
        }
        if self.random.chance(60) {
            self.write(old, promoted)?;
        }
        self.follow(old)
    }

    /// What loses nothing must not need an operator.
    fn lose_nothing(&mut self) -> Outcome {
        match self.random.within(0..=3) {
            0 => {
                self.fault("MySQL hung (SIGSTOP)");
                let chosen = self.random.within(0..=1) as usize;
                self.servers[chosen].pause()?;
                self.pause(50..=2_500);
                self.servers[chosen].resume()?;
            }
            1 => {
                self.fault("Tickr hung (SIGSTOP)");
                let chosen = self.random.within(0..=PROCESSES - 1) as usize;
                self.processes[chosen].signal(Signal::STOP)?;
                self.pause(50..=2_500);
                self.processes[chosen].signal(Signal::CONT)?;
            }
            2 => {
                self.fault("primary read-only for a while");
                self.run_on(self.primary, &["SET GLOBAL read_only = 1"])?;
                self.pause(0..=1_500);
                self.open_for_writing()?;
            }
            _ => {
                self.fault("primary killed (SIGKILL) and started");
                self.servers[self.primary].kill()?;
                self.servers[self.primary].restart()?;
                self.open_for_writing()?;
            }
        }
        Ok(())
    }

    /// Copies the row. Assumed: a restore loses more than the last second, so that every process
    /// has read the row since; a page of its status reads it.
    fn back_up(&mut self) -> Outcome {
        self.backup = self.row(self.primary)?;
        for process in &self.processes {
            wait_for(SERVE_MAX, &process.describe("has no status"), || {
                Ok(process
                    .get("/status")
                    .is_ok_and(|(status, _)| status == 200))
            })?;
        }
        Ok(())
    }

    fn files_remember(&self, (id, _, number, tag, _): &Row) -> bool {
        let epoch = Epoch {
            number: *number,
            tag: *tag,
        };
        let numbering = self.targets.node.numbering;
        self.processes.iter().all(|process| {
            let memory = state::read(&process.state_file, &numbering);
            memory.is_ahead_of(epoch, *id)
        })
    }

    /// Every process must hand out a ticket soon.
    fn all_serve(&self) -> Outcome {
        for process in &self.processes {
            wait_for(SERVE_MAX, "", || {
                Ok(process
                    .get("/tickets/create")
                    .is_ok_and(|(status, _)| status == 200))
            })
            .map_err(|_| process.describe("gives no ticket"))?;
        }
        Ok(())
    }

    /// No ticket is above the counter.
    fn nothing_is_ahead(&self) -> Outcome {
        let last = self.targets.node.last_ticket();
        let (counter, ..) = self.row(self.primary)?;
        match self.targets.node.numbering.ticket(counter) < last {
            true => Err(format!("{last:?} was handed out, and the counter is {counter}").into()),
            false => Ok(()),
        }
    }

    fn process(&self, setup: Setup) -> io::Result<Process> {
        Process::start(
            &self.folder,
            &self.login(),
            self.targets.node.numbering,
            setup,
        )
    }

    fn announce(&self) {
        let endpoints = self
            .processes
            .iter()
            .flat_map(|process| process.endpoints.clone());
        self.targets.set_endpoints(endpoints.collect());
    }

    fn login(&self) -> Login {
        let server = &self.servers[self.primary];
        Login {
            host: self.path().to_string_lossy().into_owned(),
            port: server.port().unwrap_or_default(),
            username: server.username().to_owned(),
            password: server.password().to_owned(),
        }
    }

    /// Where the processes look for the primary.
    fn path(&self) -> PathBuf {
        self.folder.join("primary.sock")
    }

    /// Points that path to the primary, at one stroke.
    fn switch(&self) -> io::Result<()> {
        let link = self.folder.join("new.sock");
        symlink(self.servers[self.primary].socket(), &link)?;
        fs::rename(link, self.path())
    }

    /// Makes a server the replica of the primary, from where that one was promoted.
    fn follow(&self, replica: usize) -> Outcome {
        let primary = &self.servers[self.primary];
        let source = format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = '{}', \
             MASTER_PASSWORD = '{}', MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos",
            primary.port().unwrap_or_default(),
            primary.username(),
            primary.password(),
        );
        let from = [
            "RESET MASTER",
            "SET GLOBAL gtid_slave_pos = ''",
            // In the format of statements, MySQL refuses to log rows that come from elsewhere.
            "SET GLOBAL binlog_format = MIXED",
            &source,
            "START SLAVE",
        ];
        self.run_on(replica, &from)
    }

    fn row(&self, server: usize) -> Result<Row, Box<dyn Error>> {
        let select = format!("SELECT id, mark, epoch, epoch_tag, owner FROM {DATABASE}.tickets");
        Ok(self
            .query(server, &select)?
            .ok_or("the counter row is gone")?)
    }

    /// Puts a row in place, behind the back of replication.
    fn write(&self, server: usize, row: &Row) -> Outcome {
        let (id, mark, epoch, tag, owner) = row;
        let update = format!(
            "UPDATE {DATABASE}.tickets SET id = {id}, mark = {mark}, epoch = {epoch}, \
             epoch_tag = {tag}, owner = '{owner}'"
        );
        self.run_on(server, &["SET SESSION sql_log_bin = 0", &update])
    }

    fn run_on(&self, server: usize, statements: &[&str]) -> Outcome {
        let mut conn = self.connect(server)?;
        for statement in statements {
            let done = dialect::run(&mut conn, statement);
            done.map_err(|error| format!("{statement}: {error}"))?;
        }
        Ok(())
    }

    fn query<T: FromRow>(&self, server: usize, sql: &str) -> io::Result<Option<T>> {
        let answer = self
            .connect(server)
            .and_then(|mut conn| conn.query_first(sql));
        answer.map_err(io::Error::other)
    }

    fn connect(&self, server: usize) -> mysql::Result<Conn> {
        let server = &self.servers[server];
        Conn::new(
            OptsBuilder::new()
                .socket(Some(server.socket().to_string_lossy()))
                .user(Some(server.username()))
                .pass(Some(server.password())),
        )
    }

    fn tickr(&self, arguments: &[&str]) -> Outcome {
        tickr(&self.login(), self.targets.node.numbering, arguments)
    }

    fn fault(&self, kind: &'static str) {
        self.targets.record.fault(kind);
    }

    fn pause(&mut self, milliseconds: RangeInclusive<u64>) {
        thread::sleep(Duration::from_millis(self.random.within(milliseconds)));
    }
}
