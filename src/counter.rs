//! The counter row as the whole program speaks of it: what the row says, what can be asked of it,
//! and what comes back.
//!
//! The row of `tickets` holds, beside the base id that was reserved last, its *owner* (the server
//! that may move it, and in which *epoch*) and its *mark* (a base id up to which tickets may have
//! been issued by somebody, wherever the row came from). It is open on a server when the owner is
//! that server, the server is not read-only, and `mark <= id`; else it is closed, for everybody.

use std::fmt;
use std::time::Duration;

use crate::fault::Fault;

/// Names one opening of the row by an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// Grows with every opening; 0 before the first.
    pub number: u64,
    /// Random, to tell two openings of one number on two servers apart.
    pub tag: u64,
}

/// Which server may move the row, as seen from the server that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// This one.
    Here,
    /// Another one: the row came here by replication or from a backup.
    Elsewhere {
        /// The identity in the row.
        owner: String,
        /// The identity of the server that was asked.
        here: String,
    },
    /// None, since an operator has closed the row.
    Closed,
    /// None: the row was never opened, or an old program has replaced it.
    Nobody,
}

/// The row, as one statement found it on one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The base id that was reserved last.
    pub id: u64,
    /// A base id up to which tickets may have been issued.
    pub mark: u64,
    /// The opening that the row belongs to.
    pub epoch: Epoch,
    /// Who may move it.
    pub owner: Owner,
    /// The server calls itself read-only, whatever this user may do.
    pub read_only: bool,
    /// How long a block may be used after the row was last found open, from the stored settings.
    pub lease: Duration,
}

impl View {
    /// Whether blocks may be reserved.
    pub fn is_open(&self) -> bool {
        self.owner == Owner::Here && self.mark <= self.id && !self.read_only
    }
}

/// The highest that was ever seen of a row. It only grows, and outlives every connection; with a
/// state file it outlives the process as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    /// The newest epoch.
    pub epoch: Epoch,
    /// The highest base id, in whichever epoch.
    pub id: u64,
}

impl Memory {
    /// Whether a row of this epoch and id comes from before what is remembered here, or from
    /// another history altogether.
    pub fn is_ahead_of(&self, epoch: Epoch, id: u64) -> bool {
        epoch.number < self.epoch.number
            || (epoch.number == self.epoch.number && epoch.tag != self.epoch.tag)
            || id < self.id
    }

    /// Takes in what a row says that is not from before.
    pub fn raise(&mut self, epoch: Epoch, id: u64) {
        if epoch.number > self.epoch.number {
            self.epoch = epoch;
        }
        self.id = self.id.max(id);
    }
}

/// Names a job; never used again within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// One attempt at one thing, by one database thread. Whether to try again is decided by whoever
/// gave it out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    /// Names it in its [`Outcome`].
    pub id: JobId,
    /// The thread that does it, counted from 0. When that thread still hangs in an earlier job, it
    /// is left alone and another takes its place.
    pub worker: usize,
    /// What to do.
    pub task: Task,
}

/// What a [`Job`] is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// Close the session, if there is one, open another, verify what is stored, and read the row.
    Connect {
        /// A connection that was given up while it hung, by MySQL's number for it: it is ended
        /// first, so that no more connections are held than the pool has.
        replaces: Option<u64>,
    },
    /// Read the row.
    Read,
    /// Move the counter, if the row is open, of this epoch, and not below `floor`.
    Reserve {
        /// How many base ids; at least 1.
        count: u64,
        /// The epoch in which the block is wanted.
        epoch: Epoch,
        /// What was known of the counter when this was asked for.
        floor: u64,
    },
    /// Close the row if it is behind this memory: raise its mark to the remembered id, and above
    /// its own id in any case.
    Close {
        /// What is remembered.
        memory: Memory,
    },
}

/// What came of a [`Job`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The job.
    pub id: JobId,
    /// What was found. After a fault, the job may have been done all the same.
    pub found: Result<Found, Fault>,
}

/// What a [`Task`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A session was opened.
    Connected {
        /// The row, before anything was reserved over this session.
        view: View,
        /// The server.
        server: Server,
    },
    /// The row was read.
    Read {
        /// The row.
        view: View,
        /// What weakens the promise, if that was looked at as well.
        warnings: Option<Vec<Warning>>,
    },
    /// A block was reserved and is committed; its last base id is this.
    Reserved {
        /// Where the counter stood afterwards.
        last: u64,
    },
    /// Nothing was reserved, since the row did not allow it.
    Refused {
        /// The row, read right afterwards.
        view: View,
    },
    /// The row is closed now, if it was behind.
    Closed {
        /// The row, read right afterwards.
        view: View,
    },
}

/// A server that a session was opened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its version, as it spells it.
    pub version: String,
    /// MySQL's number for this connection.
    pub connection: u64,
    /// What it is called as an owner, and the database. With the tag of the epoch, this tells the
    /// counter from every other.
    pub identity: String,
    /// What weakens the promise.
    pub warnings: Vec<Warning>,
}

/// Something about the server that weakens the promise that no ticket is issued twice, or that will
/// keep tickets from being reserved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Warning {
    /// The engine of the table does not survive a crash of the server.
    NotTransactional {
        /// Its name.
        engine: String,
    },
    /// `innodb_flush_log_at_trx_commit` lets a commit return before it is on disk.
    CommitNotFlushed {
        /// The value of the variable.
        value: String,
    },
    /// There is a binary log, and `sync_binlog` lets a commit return before it is in there.
    BinaryLogNotSynced {
        /// The value of the variable.
        value: String,
    },
    /// The identity of the server is the default that many servers have.
    IdentityNotDistinct {
        /// The identity.
        identity: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::NotTransactional { engine } => write!(
                f,
                "the table `tickets` uses the engine {engine}, which does not survive a crash of \
                 MySQL: tickets can repeat after one. Run `tickr db migrate`"
            ),
            Warning::CommitNotFlushed { value } => write!(
                f,
                "innodb_flush_log_at_trx_commit is {value}, so MySQL can lose commits in a crash, \
                 and tickets can repeat. Set it to 1"
            ),
            Warning::BinaryLogNotSynced { value } => write!(
                f,
                "sync_binlog is {value}, so the binary log can lack commits after a crash, and \
                 tickets can repeat after a failover. Set it to 1"
            ),
            Warning::IdentityNotDistinct { identity } => write!(
                f,
                "the server's identity is {identity}, the default of every MariaDB server, so a \
                 failover or a restored copy is not noticed. Give each server its own server_id, \
                 then run `tickr db advance`"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn epoch(number: u64, tag: u64) -> Epoch {
        Epoch { number, tag }
    }

    #[test]
    fn any_sign_of_an_earlier_or_another_history_counts() {
        let memory = Memory {
            epoch: epoch(2, 7),
            id: 100,
        };
        for (row, id, is_ahead) in [
            (epoch(2, 7), 100, false),
            (epoch(2, 7), 101, false),
            (epoch(2, 7), 99, true),
            (epoch(1, 7), 100, true),
            (epoch(1, 9), 500, true),
            (epoch(2, 8), 100, true),
            (epoch(2, 6), 500, true),
            (epoch(3, 8), 100, false),
            (epoch(3, 8), 99, true),
        ] {
            assert_eq!(memory.is_ahead_of(row, id), is_ahead, "{row:?} {id}");
        }
    }

    #[test]
    fn a_warning_names_what_it_found_and_what_to_do() {
        let (engine, value) = ("MyISAM".to_owned(), "2".to_owned());
        let identity = "mariadb:1".to_owned();
        let not_flushed = Warning::CommitNotFlushed {
            value: value.clone(),
        };
        for (warning, found, act) in [
            (
                Warning::NotTransactional { engine },
                "engine MyISAM",
                "Run `tickr db migrate`",
            ),
            (not_flushed, "trx_commit is 2", "Set it to 1"),
            (
                Warning::BinaryLogNotSynced { value },
                "sync_binlog is 2",
                "Set it to 1",
            ),
            (
                Warning::IdentityNotDistinct { identity },
                "identity is mariadb:1",
                "run `tickr db advance`",
            ),
        ] {
            let text = warning.to_string();
            assert!(text.contains(found) && text.ends_with(act), "{text}");
        }
    }

    #[test]
    fn a_memory_only_grows() {
        let mut memory = Memory::default();
        for (row, id, known) in [
            (epoch(2, 7), 100, (epoch(2, 7), 100)),
            (epoch(2, 8), 50, (epoch(2, 7), 100)),
            (epoch(1, 9), 101, (epoch(2, 7), 101)),
            (epoch(3, 1), 0, (epoch(3, 1), 101)),
        ] {
            memory.raise(row, id);
            assert_eq!((memory.epoch, memory.id), known);
        }
    }

    #[test]
    fn a_row_is_open_here_with_its_mark_reached_on_a_server_that_takes_writes() {
        let open = View {
            id: 5,
            mark: 5,
            epoch: epoch(1, 7),
            owner: Owner::Here,
            read_only: false,
            lease: Duration::from_secs(10),
        };
        assert!(open.is_open());
        assert!(
            !View {
                mark: 6,
                ..open.clone()
            }
            .is_open()
        );
        assert!(
            !View {
                read_only: true,
                ..open.clone()
            }
            .is_open()
        );
        for owner in [Owner::Nobody, Owner::Closed] {
            assert!(
                !View {
                    owner,
                    ..open.clone()
                }
                .is_open()
            );
        }
    }
}
