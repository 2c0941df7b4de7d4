//! The database threads, `tickr-mysql-0` and on: one blocking session each, fed by the event loop.
//!
//! They exist so that the event loop never waits for MySQL. A worker is given a job only when it is
//! idle, so no queue can grow; what it found comes back through one channel, and wakes the loop.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{DatabaseError, Opened, Session};
use crate::database::Settings;
use crate::limits;
use crate::ticket::{Block, Numbering};

/// Something to ask the database; the id is the caller's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Reserve a block.
    Reserve {
        /// Names the job in its [`Outcome`].
        id: u64,
        /// How many base ids; at least 1.
        count: u64,
    },
    /// Read the counter.
    ReadCounter {
        /// Names the job in its [`Outcome`].
        id: u64,
    },
}

/// How a [`Job`] ended.
#[derive(Debug)]
pub struct Outcome {
    /// The worker that did it, counted from 0.
    pub worker: usize,
    /// What was asked.
    pub job: Job,
    /// How long it took, reconnecting included.
    pub took: Duration,
    /// What the database answered. After an error a reservation may still have been committed.
    pub result: Result<Reply, DatabaseError>,
    /// What was found, if the session was opened for this job. It was found before the answer.
    pub opened: Option<Opened>,
}

/// The answer to a [`Job`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A block was reserved, and is committed.
    Block(Block),
    /// The counter was read.
    Counter(u64),
}

/// The threads, seen from the event loop.
pub struct Workers {
    workers: Vec<Worker>,
    /// The worker that was last of use is on top: one session stays hot, and the others rest.
    idle: Vec<usize>,
    outcomes: Receiver<Outcome>,
}

struct Worker {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
}

impl Workers {
    /// Starts `pool_size` threads. Each connects when it is given its first job. `wake` is called
    /// after every outcome, on the thread of the worker.
    pub fn start(
        settings: Arc<Settings>,
        numbering: Numbering,
        pool_size: usize,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> io::Result<Workers> {
        // Each worker has one outcome at most on its way, so a worker never waits here.
        let (sender, outcomes) = mpsc::sync_channel(pool_size);
        let workers = (0..pool_size)
            .map(|number| {
                let (jobs, receiver) = mpsc::sync_channel(limits::WORKER_QUEUE_JOBS);
                let mut task = Task {
                    settings: Arc::clone(&settings),
                    numbering,
                    session: None,
                };
                let (outcomes, wake) = (sender.clone(), Arc::clone(&wake));
                let thread = thread::Builder::new()
                    .name(format!("tickr-mysql-{number}"))
                    .spawn(move || task.run(number, &receiver, &outcomes, &*wake))?;
                Ok(Worker { jobs, thread })
            })
            .collect::<io::Result<Vec<Worker>>>()?;
        Ok(Workers {
            idle: (0..workers.len()).rev().collect(),
            workers,
            outcomes,
        })
    }

    /// Gives a job to an idle worker; false when there is none.
    pub fn submit(&mut self, job: Job) -> bool {
        while let Some(worker) = self.idle.pop() {
            if self.workers[worker].jobs.try_send(job).is_ok() {
                return true;
            }
        }
        false
    }

    /// How many workers are idle.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// How many workers there are.
    pub fn size(&self) -> usize {
        self.workers.len()
    }

    /// The next outcome, if there is one by now.
    pub fn next_outcome(&mut self) -> Option<Outcome> {
        let outcome = self.outcomes.try_recv().ok()?;
        match outcome.result {
            Ok(_) => self.idle.push(outcome.worker),
            // The others first: their sessions may be good.
            Err(_) => self.idle.insert(0, outcome.worker),
        }
        Some(outcome)
    }

    /// Ends the threads. Those that are still busy with the database after `within` are left to
    /// the end of the process.
    pub fn stop(self, within: Duration) {
        let deadline = Instant::now() + within;
        let (senders, threads): (Vec<_>, Vec<_>) = self
            .workers
            .into_iter()
            .map(|worker| (worker.jobs, worker.thread))
            .unzip();
        drop(senders);
        // The channel closes when the last worker has let go of it.
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.outcomes.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for thread in threads {
            // A worker's panic has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// What one thread works with.
struct Task {
    settings: Arc<Settings>,
    numbering: Numbering,
    session: Option<Session>,
}

impl Task {
    fn run(
        &mut self,
        worker: usize,
        jobs: &Receiver<Job>,
        outcomes: &SyncSender<Outcome>,
        wake: &(dyn Fn() + Send + Sync),
    ) {
        while let Ok(job) = jobs.recv() {
            let began = Instant::now();
            let mut opened = None;
            let done = panic::catch_unwind(AssertUnwindSafe(|| self.perform(job, &mut opened)));
            // The driver panics on some malformed packets, and the event loop waits for an outcome.
            let result = done.unwrap_or_else(|_| {
                self.session = None;
                Err(DatabaseError::protocol("a malformed packet"))
            });
            let outcome = Outcome {
                worker,
                job,
                took: began.elapsed(),
                result,
                opened,
            };
            if outcomes.send(outcome).is_err() {
                return;
            }
            wake();
        }
    }

    /// Does a job. A session that turns out to be stale is opened again once, a deadlock is tried
    /// again a few times; how to go on after anything else is for the event loop to say.
    fn perform(&mut self, job: Job, opened: &mut Option<Opened>) -> Result<Reply, DatabaseError> {
        let mut fresh = false;
        let mut deadlocks = 0;
        loop {
            let session = match &mut self.session {
                Some(session) => session,
                None => {
                    let (session, found) = Session::open(&self.settings, &self.numbering)?;
                    *opened = Some(found);
                    fresh = true;
                    self.session.insert(session)
                }
            };
            let error = match answer(session, job) {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let spared = error.spares_session();
            if !spared {
                self.session = None;
            }
            let again = match error {
                DatabaseError::Deadlock => {
                    deadlocks += 1;
                    deadlocks <= limits::DEADLOCK_RETRIES_MAX
                }
                // The request has waited its time already.
                DatabaseError::TimedOut => false,
                // The counter may have moved, and would again.
                DatabaseError::NotOneRow { .. } | DatabaseError::CounterAltered { .. } => false,
                _ => !spared && !fresh,
            };
            if !again {
                return Err(error);
            }
        }
    }
}

fn answer(session: &mut Session, job: Job) -> Result<Reply, DatabaseError> {
    match job {
        Job::Reserve { count, .. } => session.reserve(count).map(Reply::Block),
        Job::ReadCounter { .. } => session.counter().map(Reply::Counter),
    }
}
