//! The database threads, `tickr-mysql-0` and on: one blocking session each, fed by the event loop.
//!
//! They exist so that the event loop never waits for MySQL. A worker makes one attempt at one job;
//! whether to try again is for the allocator to say. A worker that is given a job while its thread
//! still hangs in another one leaves that thread behind and goes on with a new one. What was found
//! comes back through one channel, and wakes the loop.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Settings;
use super::session::Session;
use crate::counter::{Found, Job, JobId, Outcome, Task};
use crate::fault::{Fault, FaultKind};
use crate::limits;
use crate::ticket::Numbering;

/// The threads, seen from the event loop.
pub struct Workers {
    /// What every thread has.
    kit: Kit,
    slots: Vec<Slot>,
    /// Each thread has one outcome at most on its way.
    outcomes: Receiver<Outcome>,
}

/// What it takes to work, but for a session.
#[derive(Clone)]
struct Kit {
    settings: Arc<Settings>,
    numbering: Numbering,
    outcomes: Sender<Outcome>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

struct Slot {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
    /// What its thread is at.
    job: Option<JobId>,
}

impl Workers {
    /// Starts `pool_size` threads. `wake` is called after every outcome, on the thread of the
    /// worker.
    pub fn start(
        settings: Arc<Settings>,
        numbering: Numbering,
        pool_size: usize,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> io::Result<Workers> {
        let (sender, outcomes) = mpsc::channel();
        let kit = Kit {
            settings,
            numbering,
            outcomes: sender,
            wake,
        };
        let slots = (0..pool_size).map(|number| kit.slot(number));
        Ok(Workers {
            slots: slots.collect::<io::Result<Vec<Slot>>>()?,
            kit,
            outcomes,
        })
    }

    /// Gives a job to its worker. Every job has one outcome, unless its thread never ends.
    pub fn submit(&mut self, job: Job) {
        let (id, worker) = (job.id, job.worker);
        let failed = |error: io::Error| {
            let said = format!("cannot start a thread: {error}");
            let found = Err(Fault::new(FaultKind::Unreachable, said));
            // The receiver is ours.
            let _ = self.kit.outcomes.send(Outcome { id, found });
            (self.kit.wake)();
        };
        let slot = &mut self.slots[worker];
        if slot.job.is_some() || slot.thread.is_finished() {
            match self.kit.slot(worker) {
                Ok(fresh) => *slot = fresh,
                Err(error) => return failed(error),
            }
        }
        match slot.jobs.try_send(job) {
            Ok(()) => slot.job = Some(id),
            Err(_) => failed(io::Error::other("it ended at once")),
        }
    }

    /// The next outcome, if there is one by now.
    pub fn next_outcome(&mut self) -> Option<Outcome> {
        let outcome = self.outcomes.try_recv().ok()?;
        let done = Some(outcome.id);
        for slot in self.slots.iter_mut().filter(|slot| slot.job == done) {
            slot.job = None;
        }
        Some(outcome)
    }

    /// Ends the threads. Those that are still busy with the database after `within` are left to
    /// the end of the process.
    pub fn stop(self, within: Duration) {
        let deadline = Instant::now() + within;
        let Workers {
            kit,
            slots,
            outcomes,
        } = self;
        drop(kit);
        let (jobs, threads): (Vec<_>, Vec<_>) = slots
            .into_iter()
            .map(|slot| (slot.jobs, slot.thread))
            .unzip();
        drop(jobs);
        // The channel closes when the last thread has let go of it.
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match outcomes.recv_timeout(left) {
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

impl Kit {
    fn slot(&self, number: usize) -> io::Result<Slot> {
        let (jobs, receiver) = mpsc::sync_channel(limits::WORKER_QUEUE_JOBS);
        let kit = self.clone();
        let thread = thread::Builder::new()
            .name(format!("tickr-mysql-{number}"))
            .spawn(move || kit.work(&receiver))?;
        Ok(Slot {
            jobs,
            thread,
            job: None,
        })
    }

    fn work(self, jobs: &Receiver<Job>) {
        let mut session = None;
        while let Ok(job) = jobs.recv() {
            let found = self.perform(&job.task, &mut session);
            // Before its end is said to the server, which may take a while.
            let broken = found
                .as_ref()
                .is_err_and(|fault| !fault.kind.row().spares_session);
            let outcome = Outcome { id: job.id, found };
            if self.outcomes.send(outcome).is_err() {
                return;
            }
            (self.wake)();
            if broken {
                session = None;
            }
        }
    }

    fn perform(&self, task: &Task, session: &mut Option<Session>) -> Result<Found, Fault> {
        if let Task::Connect { replaces } = *task {
            *session = None;
            let (opened, found) = Session::open(&self.settings, &self.numbering, replaces)?;
            *session = Some(opened);
            return Ok(found);
        }
        let Some(session) = session else {
            return Err(Fault::new(FaultKind::Lost, "no session"));
        };
        match *task {
            Task::Connect { .. } | Task::Read => session.read(),
            Task::Reserve {
                count,
                epoch,
                floor,
            } => session.reserve(count, epoch, floor),
            Task::Close { memory } => session.close(memory),
        }
    }
}
