//! What stands behind the processes of a history, in either world: servers behind one name, the
//! sessions to them, jobs on their way, and an operator; and what each process is to them.

use std::time::Duration;

use tickr::counter::{Epoch, JobId, Memory};
use tickr::moment::Moment;
use tickr::ticket::Numbering;

pub use self::execution::Committed;
use self::jobs::Session;
pub use self::jobs::{Answer, Flight};
use self::operator::Operator;
pub use self::operator::Past;
use crate::assumptions::Stale;
use crate::database::{Owned, Row, Server};
use crate::history::{Due, Stage};

mod execution;
mod jobs;
mod operator;
mod parties;
pub mod play;
mod servers;

pub const SECOND: Duration = Duration::from_secs(1);

/// The servers, and all that is known from outside of who speaks to them.
pub struct Backend {
    pub numbering: Numbering,
    pub lease: Duration,
    margin: u64,
    /// The user of the processes may write to a read-only server.
    privileged: bool,
    /// Of 256 jobs, so many go wrong.
    weather: u16,
    /// The answers to reservations that go out now take a while.
    slow: bool,
    servers: Vec<Server>,
    stale: Vec<Stale>,
    /// What was opened elsewhere begins there.
    limits: Vec<Option<u64>>,
    primary: usize,
    /// Where new connections are led.
    name: usize,
    reserved_high: u64,
    newest: Epoch,
    sessions: Vec<Session>,
    pub parties: Vec<Party>,
    /// Issued by incarnations that are dead and whose memory is lost.
    forgotten_high: u64,
    operators: Vec<Operator>,
    next_tag: u64,
    /// How often the operator had to advance before everybody served.
    pub advances: usize,
}

/// A process, as the backend sees it.
pub struct Party {
    pub incarnation: u64,
    pub alive: bool,
    pub stopped: bool,
    cut: bool,
    /// The session of each thread that holds one.
    workers: Vec<Option<usize>>,
    /// The newest job of each.
    doing: Vec<Option<JobId>>,
    timeout: Duration,
    /// Since when it had nothing but prompt answers from the primary.
    clean: Option<Moment>,
    /// Jobs that go wrong, and are not answered yet.
    troubled: Vec<JobId>,
    /// What came while it was stopped.
    inbox: Vec<Answer>,
    /// What its state file has held, newest last.
    file: Vec<Memory>,
    /// The highest base id that it has issued.
    pub issued_high: u64,
    /// The second that began then, and the jobs in it, since the newest request.
    second: Moment,
    second_jobs: usize,
}

impl Backend {
    pub fn new(stage: &mut Stage<'_>, numbering: Numbering, lease: Duration) -> Backend {
        let epoch = Epoch { number: 1, tag: 1 };
        let row = Row {
            id: 1,
            mark: 0,
            owner: Owned::By(0),
            epoch,
        };
        let count = 2 + stage.tape.below(2);
        let server = |index| Server::new(index, row, lease, stage.now);
        let servers = (0..count).map(server).collect();
        Backend {
            numbering,
            lease,
            margin: stage.tape.pick(&[10, 100, 1]),
            privileged: !stage.tape.chance(128),
            weather: stage.tape.pick(&[0, 4, 16, 48, 96]),
            slow: false,
            servers,
            stale: vec![Stale::default(); count],
            limits: vec![None; count],
            primary: 0,
            name: 0,
            reserved_high: 1,
            newest: epoch,
            sessions: Vec::new(),
            parties: Vec::new(),
            forgotten_high: 0,
            operators: Vec::new(),
            next_tag: 2,
            advances: 0,
        }
    }

    /// Faults end: there is one primary, which the name leads to, and what hangs comes back.
    pub fn heal(&mut self, stage: &mut Stage<'_>) {
        stage.calm = true;
        stage.note(|| "faults end".to_string());
        self.operators.clear();
        for server in 0..self.servers.len() {
            // Whoever still is on a read-only one must leave by himself.
            if server != self.primary && !self.servers[server].read_only {
                self.fence(server);
            }
            self.servers[server].up = true;
            self.servers[server].misfit = None;
        }
        self.servers[self.primary].read_only = false;
        self.point_the_name(stage);
        let soon = stage.now + SECOND;
        stage
            .agenda
            .hasten(soon, |due| !matches!(due, Due::Wake(..)));
        for party in &mut self.parties {
            party.cut = false;
        }
    }

    /// What happens to the servers by itself.
    pub fn perform(&mut self, stage: &mut Stage<'_>, due: Due) {
        match due {
            Due::ReadBack(flight, last) => self.on_read_back(stage, flight, last),
            Due::Operate(id) => self.on_operate(stage, id),
            Due::Name(server) if server == self.primary => self.point_the_name(stage),
            _ => {}
        }
    }

    /// What the primary's row says.
    pub fn row(&self) -> Row {
        self.servers[self.primary].row
    }

    /// The primary could repeat what was reserved before.
    pub fn is_stale(&self) -> bool {
        self.stale[self.primary].stands
    }

    pub fn is_out_of_numbers(&self) -> bool {
        let row = self.row();
        let high = row.id.max(row.mark).max(self.issued_by_all());
        high + 2 * self.margin > self.numbering.last_base()
    }
}
