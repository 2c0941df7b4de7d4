//! The allocator on a clock and a counter row that the test makes up: what is asked of the database
//! and when, who is served with what, and that nothing is issued that must not be.

use std::time::Duration;

use super::{
    Allocator, Answer, Ask, Closing, Completion, Event, Options, Refusal, RequestId, Verdict,
};
use crate::counter::{Epoch, Found, Job, Memory, Outcome, Owner, Server, Task, View};
use crate::fault::{Fault, FaultKind};
use crate::moment::{Moment, Next};
use crate::ticket::{Numbering, Run};

mod counter;
mod moments;
mod outages;
mod requests;
mod status;
mod told;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const LEASE: Duration = Duration::from_secs(10);
const FIRST: Epoch = Epoch { number: 1, tag: 7 };
const SECOND_EPOCH: Epoch = Epoch { number: 2, tag: 9 };

/// An allocator, a row that its jobs are done on, and the time.
struct World {
    allocator: Allocator,
    row: View,
    now: Moment,
    jobs: Vec<Job>,
    requests: u64,
}

fn numbering() -> Numbering {
    Numbering::new(1, 0, 0).expect("a numbering")
}

fn options(prefetch: Duration) -> Options {
    Options {
        numbering: numbering(),
        pool_size: 3,
        timeout: SECOND,
        prefetch,
        seed: 5,
        remembered: Memory::default(),
    }
}

impl World {
    fn with(options: Options) -> World {
        let now = Moment::from_nanos(1_000_000_000_000);
        World {
            allocator: Allocator::new(options, now),
            row: View {
                id: 1,
                mark: 0,
                epoch: FIRST,
                owner: Owner::Here,
                read_only: false,
                lease: LEASE,
            },
            now,
            jobs: Vec::new(),
            requests: 0,
        }
    }

    /// One that has all its sessions.
    fn serving(prefetch: Duration) -> World {
        let mut world = World::with(options(prefetch));
        world.run();
        assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
        world
    }

    fn ask(&mut self, count: u64) -> RequestId {
        let id = RequestId {
            connection: self.requests,
            sequence: 0,
        };
        self.requests += 1;
        self.allocator.submit(id, Ask::Tickets(count), self.now);
        id
    }

    /// Takes the jobs that are due now.
    fn take_jobs(&mut self) -> Vec<Job> {
        let mut jobs = Vec::new();
        while let Next::Ready(job) = self.allocator.next_job(self.now) {
            jobs.push(job);
            assert!(jobs.len() < 100, "the allocator never has enough");
        }
        jobs
    }

    /// What the database makes of a job.
    fn perform(&mut self, job: &Job) -> Result<Found, Fault> {
        let row = &mut self.row;
        Ok(match job.task {
            Task::Connect { .. } => Found::Connected {
                view: row.clone(),
                server: Server {
                    version: "1".to_owned(),
                    connection: job.id.0,
                    identity: "here".to_owned(),
                    warnings: Vec::new(),
                },
            },
            Task::Read => Found::Read {
                view: row.clone(),
                warnings: None,
            },
            Task::Reserve {
                count,
                epoch,
                floor,
            } => {
                if !row.is_open() || row.epoch != epoch || row.id < floor {
                    return Ok(Found::Refused { view: row.clone() });
                }
                row.id += count;
                Found::Reserved { last: row.id }
            }
            Task::Close { memory } => {
                if memory.is_ahead_of(row.epoch, row.id) {
                    row.mark = row.mark.max(memory.id).max(row.id + 1);
                }
                Found::Closed { view: row.clone() }
            }
        })
    }

    fn answer(&mut self, job: &Job, found: Result<Found, Fault>) {
        let outcome = Outcome { id: job.id, found };
        self.allocator.on_outcome(outcome, self.now);
    }

    /// Does every job that is due, until nothing is.
    fn run(&mut self) {
        for _ in 0..100 {
            let jobs = [std::mem::take(&mut self.jobs), self.take_jobs()].concat();
            if jobs.is_empty() {
                return;
            }
            for job in &jobs {
                let found = self.perform(job);
                self.answer(job, found);
            }
        }
        panic!("the allocator never rests");
    }

    /// Every job that is due fails so.
    fn fail(&mut self, kind: FaultKind) {
        for job in self.take_jobs() {
            self.answer(&job, Err(Fault::new(kind, "")));
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Lets time pass in small steps, doing what is due.
    fn live(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.pass(50 * MILLISECOND);
            self.run();
        }
    }

    fn completions(&mut self) -> Vec<Completion> {
        let mut completions = Vec::new();
        while let Next::Ready(completion) = self.allocator.next_completion(self.now) {
            completions.push(completion);
        }
        completions
    }

    fn answers(&mut self) -> Vec<Answer> {
        let completions = self.completions();
        completions.into_iter().map(|one| one.answer).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.allocator.next_event()).collect()
    }

    fn closing(&self) -> Option<&Closing> {
        match self.allocator.verdict(self.now) {
            Verdict::Closed(closed) => Some(&closed.why),
            _ => None,
        }
    }
}

fn tickets(first: u64, count: u64) -> Answer {
    Answer::Tickets(Run {
        first,
        increment: 1,
        count,
    })
}

/// The reservations among some jobs.
fn sizes(jobs: &[Job]) -> Vec<u64> {
    let size = |job: &Job| match job.task {
        Task::Reserve { count, .. } => Some(count),
        _ => None,
    };
    jobs.iter().filter_map(size).collect()
}

/// When something is due that is not due now.
fn wakes(world: &mut World) -> Option<Moment> {
    match world.allocator.next_job(world.now) {
        Next::Ready(job) => panic!("{job:?} is due"),
        Next::At(at) => Some(at),
        Next::Idle => None,
    }
}

fn is_unavailable(world: &World) -> bool {
    let verdict = world.allocator.verdict(world.now);
    matches!(verdict, Verdict::Unavailable(_))
}

#[test]
fn connects_once_and_then_the_rest_of_the_pool() {
    let mut world = World::with(options(Duration::ZERO));
    assert_eq!(world.allocator.verdict(world.now), Verdict::Starting);
    let first = world.take_jobs();
    assert_eq!(first.len(), 1);
    assert!(matches!(first[0].task, Task::Connect { replaces: None }));
    let found = world.perform(&first[0]);
    world.answer(&first[0], found);
    let rest = world.take_jobs();
    assert_eq!(rest.len(), 2);
    assert!(
        rest.iter()
            .all(|job| matches!(job.task, Task::Connect { .. }))
    );
}

#[test]
fn an_unknown_or_doubled_outcome_changes_nothing() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(1);
    let jobs = world.take_jobs();
    let found: Vec<_> = jobs.iter().map(|job| world.perform(job)).collect();
    for (job, found) in jobs.iter().zip(&found) {
        world.answer(job, found.clone());
        let before = world.allocator.clone();
        world.answer(job, found.clone());
        assert_eq!(world.allocator, before);
    }
    assert_eq!(world.answers(), [tickets(0, 1)]);
}
