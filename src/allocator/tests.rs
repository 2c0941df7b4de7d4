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

mod moments;
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
fn requests_that_wait_together_cost_one_reservation() {
    let mut world = World::serving(Duration::ZERO);
    let ids: Vec<RequestId> = (0..200).map(|_| world.ask(1)).collect();
    let jobs = world.take_jobs();
    assert_eq!(sizes(&jobs), [200]);
    assert!(
        world.completions().is_empty(),
        "nothing leaves before its commit"
    );
    world.jobs = jobs;
    world.run();
    let completions = world.completions();
    assert_eq!(completions.len(), 200);
    for (index, (completion, id)) in completions.iter().zip(ids).enumerate() {
        assert_eq!(completion.id, id);
        assert_eq!(completion.answer, tickets(index as u64, 1));
    }
    assert_eq!(
        world.allocator.status().reserve,
        0,
        "strict mode holds nothing"
    );
}

#[test]
fn blocks_that_overtake_each_other_leave_in_order() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(5);
    let first = world.take_jobs();
    world.pass(300 * MILLISECOND);
    world.ask(7);
    let second = world.take_jobs();
    assert!(
        !sizes(&second).is_empty(),
        "the first is late, and not waited for"
    );
    for job in first.iter().chain(&second) {
        let found = world.perform(job);
        world.jobs.push(job.clone());
        if let Ok(Found::Reserved { last }) = found {
            assert!(last > 1);
        }
    }
    // Their answers come in the other order; the late one is a gap.
    world.row.id = 1;
    let jobs = std::mem::take(&mut world.jobs);
    let mut found: Vec<_> = jobs.iter().map(|job| world.perform(job)).collect();
    for (job, found) in jobs.iter().zip(found.drain(..)).rev() {
        world.answer(job, found);
    }
    let mut last = None;
    for answer in world.answers() {
        let Answer::Tickets(run) = answer else {
            panic!("{answer:?}");
        };
        assert!(last < Some(run.first), "{last:?} before {run:?}");
        last = Some(run.last());
    }
    assert!(last.is_some());
}

#[test]
fn a_request_waits_no_longer_than_the_time_out_and_costs_nothing_then() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(1);
    let jobs = world.take_jobs();
    world.pass(SECOND);
    assert_eq!(world.answers(), [Answer::Refused(Refusal::TimedOut)]);
    world.jobs = jobs;
    world.run();
    world.ask(1);
    world.run();
    assert_eq!(world.answers(), [tickets(0, 1)], "the next one gets it");
}

#[test]
fn a_connection_that_is_gone_uses_up_nothing() {
    let mut world = World::serving(Duration::ZERO);
    let gone = world.ask(1);
    world.ask(1);
    world.allocator.cancel(gone.connection, world.now);
    world.run();
    assert_eq!(world.answers(), [tickets(0, 1)]);
}

#[test]
fn steady_demand_is_reserved_ahead_and_an_idle_node_holds_nothing() {
    let mut world = World::serving(SECOND / 4);
    let mut waited = 0;
    for _ in 0..200 {
        for _ in 0..10 {
            world.ask(1);
        }
        waited += usize::from(world.completions().len() < 10);
        world.run();
        world.completions();
        world.pass(10 * MILLISECOND);
    }
    assert!(waited < 25, "{waited} of 200 waited for a commit");
    assert!(world.allocator.status().reserve > 0);
    world.live(2 * LEASE);
    assert_eq!(world.allocator.status().reserve, 0);
    assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
}

#[test]
fn one_huge_batch_does_not_swell_the_reserve() {
    let mut world = World::serving(SECOND / 4);
    world.ask(900_000);
    world.live(SECOND);
    world.completions();
    assert!(world.row.id < 902_000, "{}", world.row.id);
}

#[test]
fn a_batch_is_one_run_even_if_the_reserve_is_in_pieces() {
    let mut world = World::serving(SECOND / 4);
    for _ in 0..50 {
        for _ in 0..10 {
            world.ask(1);
        }
        world.run();
        world.completions();
        world.pass(10 * MILLISECOND);
        // Another process takes some in between.
        world.row.id += 3;
    }
    let reserve = world.allocator.status().reserve;
    world.ask(reserve + 5);
    world.run();
    let answers = world.answers();
    assert!(
        matches!(answers[..], [Answer::Tickets(run)] if run.count == reserve + 5),
        "{answers:?}"
    );
}

#[test]
fn a_row_that_went_back_is_closed_for_everybody_until_a_new_epoch() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(100);
    world.run();
    world.completions();
    world.row.id = 50;
    world.ask(1);
    world.run();
    assert_eq!(world.answers(), [Answer::Refused(Refusal::Unavailable)]);
    assert!(matches!(
        world.closing(),
        Some(Closing::Behind { id: 50, .. })
    ));
    assert_eq!(world.row.mark, 101, "whoever comes finds it closed");
    // That it grows past the memory does not open it.
    world.row.id = 90;
    world.live(SECOND);
    assert!(world.closing().is_some());
    world.row = View {
        id: 1_000,
        mark: 0,
        epoch: SECOND_EPOCH,
        ..world.row.clone()
    };
    world.live(SECOND);
    world.ask(1);
    world.run();
    assert_eq!(world.answers(), [tickets(999, 1)]);
}

#[test]
fn another_server_a_mark_an_operator_and_read_only_close_as_well() {
    for (change, expected) in [
        (
            (|row: &mut View| {
                row.owner = Owner::Elsewhere {
                    owner: "a".to_owned(),
                    here: "b".to_owned(),
                };
            }) as fn(&mut View),
            "OtherServer",
        ),
        (|row| row.mark = row.id + 1, "Marked"),
        (|row| row.owner = Owner::Closed, "ByOperator"),
        (|row| row.owner = Owner::Nobody, "Unowned"),
        (|row| row.read_only = true, "ReadOnly"),
    ] {
        let mut world = World::serving(SECOND / 4);
        world.ask(1);
        world.run();
        assert_eq!(world.answers(), [tickets(0, 1)]);
        let before = world.row.clone();
        change(&mut world.row);
        world.ask(5);
        world.run();
        assert_eq!(
            world.answers(),
            [Answer::Refused(Refusal::Unavailable)],
            "{expected}"
        );
        let why = format!("{:?}", world.closing());
        assert!(why.contains(expected), "{why}");
        world.row = before;
        world.live(SECOND);
        assert_eq!(
            world.allocator.verdict(world.now),
            Verdict::Serving,
            "{expected}"
        );
    }
}

#[test]
fn a_block_dies_with_its_epoch() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(10);
    let jobs = world.take_jobs();
    let found: Vec<_> = jobs.iter().map(|job| world.perform(job)).collect();
    // Committed; before its answer comes, the row is opened again.
    world.row.epoch = SECOND_EPOCH;
    world.row.id = 5;
    world.row.id = 1_000;
    world.pass(SECOND / 2);
    world.live(SECOND / 4);
    for (job, found) in jobs.iter().zip(found) {
        world.answer(job, found);
    }
    world.run();
    assert_eq!(
        world.answers(),
        [tickets(999, 10)],
        "only from the new epoch"
    );
}

#[test]
fn a_block_dies_with_its_lease() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(10);
    let jobs = world.take_jobs();
    world.pass(SECOND);
    assert_eq!(world.answers(), [Answer::Refused(Refusal::TimedOut)]);
    world.jobs = jobs;
    world.run();
    assert_eq!(world.allocator.status().reserve, 10);
    // The process is stopped for longer than the lease.
    world.pass(LEASE + SECOND);
    world.ask(1);
    assert!(
        world.completions().is_empty(),
        "nothing leaves after the lease"
    );
    world.run();
    assert_eq!(world.answers(), [tickets(10, 1)]);
}

#[test]
fn a_heartbeat_renews_the_lease() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(10);
    let jobs = world.take_jobs();
    world.pass(SECOND);
    world.completions();
    world.jobs = jobs;
    world.run();
    world.live(3 * LEASE);
    world.ask(1);
    assert_eq!(world.answers(), [tickets(0, 1)]);
}

#[test]
fn what_an_earlier_process_remembered_closes_the_row() {
    let remembered = Memory {
        epoch: FIRST,
        id: 500,
    };
    let mut world = World::with(Options {
        remembered,
        ..options(Duration::ZERO)
    });
    world.run();
    assert!(matches!(
        world.closing(),
        Some(Closing::Behind { id: 1, .. })
    ));
    assert_eq!(world.row.mark, 500);
}

#[test]
fn only_a_reservation_proves_that_reservations_work() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(1);
    let reserve = world.take_jobs();
    world.pass(2 * SECOND);
    assert_eq!(world.answers(), [Answer::Refused(Refusal::TimedOut)]);
    world.events();
    for job in &reserve {
        world.answer(job, Err(Fault::new(FaultKind::TimedOut, "")));
    }
    let mut probes = 0;
    for _ in 0..40 {
        world.pass(100 * MILLISECOND);
        for job in world.take_jobs() {
            if let Task::Reserve { count, .. } = job.task {
                assert_eq!(count, 1, "a probe risks one number");
                probes += 1;
                world.answer(&job, Err(Fault::new(FaultKind::TimedOut, "")));
            } else {
                let found = world.perform(&job);
                world.answer(&job, found);
            }
        }
        assert!(matches!(
            world.allocator.verdict(world.now),
            Verdict::Unavailable(_)
        ));
    }
    assert!((5..40).contains(&probes), "{probes} probes in 4 s");
    let events = world.events();
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Available(_)))
    );
    world.live(SECOND);
    assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
}

#[test]
fn while_commits_hang_few_numbers_are_risked_and_a_session_is_left_to_read() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(1);
    let mut hanging: Vec<(Job, Moment)> = Vec::new();
    let (mut probes, mut reads) = (0, 0);
    for _ in 0..400 {
        world.pass(50 * MILLISECOND);
        for job in world.take_jobs() {
            match job.task {
                Task::Reserve { .. } => hanging.push((job, world.now)),
                _ => {
                    reads += usize::from(job.task == Task::Read);
                    let found = world.perform(&job);
                    world.answer(&job, found);
                }
            }
        }
        // As a session does, after twice the time-out.
        let over = |(_, asked): &(Job, Moment)| *asked + 2 * SECOND <= world.now;
        let (ended, hangs) = hanging.into_iter().partition(over);
        hanging = hangs;
        for (job, _) in ended as Vec<(Job, Moment)> {
            probes += 1;
            world.answer(&job, Err(Fault::new(FaultKind::TimedOut, "")));
        }
    }
    assert!((8..=12).contains(&probes), "{probes} in 20 s");
    assert!(reads >= 15, "{reads} in 20 s");
    assert!(matches!(
        world.allocator.verdict(world.now),
        Verdict::Unavailable(_)
    ));
    world.jobs = hanging.into_iter().map(|(job, _)| job).collect();
    world.live(SECOND);
    assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
}

#[test]
fn a_connection_that_cannot_be_ended_keeps_its_place_in_the_pool() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(1);
    let jobs = world.take_jobs();
    world.answer(&jobs[0], Err(Fault::new(FaultKind::TimedOut, "")));
    let mut stuck = Vec::new();
    for _ in 0..100 {
        world.pass(50 * MILLISECOND);
        for job in world.take_jobs() {
            if let Task::Connect { replaces } = job.task {
                assert_eq!(job.worker, jobs[0].worker);
                stuck.extend(replaces);
                assert!(replaces.is_some(), "the server would hold one more");
                world.answer(&job, Err(Fault::new(FaultKind::ConnectionStuck, "")));
            } else {
                let found = world.perform(&job);
                world.answer(&job, found);
            }
        }
    }
    assert!(stuck.len() > 1);
    assert!(stuck.iter().all(|connection| *connection == stuck[0]));
    assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
}

#[test]
fn a_session_that_was_given_up_is_ended_by_the_next_one() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(1);
    let jobs = world.take_jobs();
    let worker = jobs[0].worker;
    world.answer(&jobs[0], Err(Fault::new(FaultKind::TimedOut, "")));
    let mut replaced = None;
    for _ in 0..20 {
        world.pass(50 * MILLISECOND);
        for job in world.take_jobs() {
            if let Task::Connect { replaces } = job.task {
                assert_eq!(job.worker, worker);
                replaced = replaced.or(replaces);
            }
            let found = world.perform(&job);
            world.answer(&job, found);
        }
    }
    assert!(replaced.is_some());
}

#[test]
fn a_thread_that_hangs_is_replaced_within_a_bound() {
    let mut world = World::serving(Duration::ZERO);
    let mut hanging = Vec::new();
    for _ in 0..60 {
        world.ask(1);
        hanging.extend(world.take_jobs());
        world.pass(SECOND);
        world.completions();
    }
    assert!(
        hanging.len() <= 6,
        "{} jobs hang, for 3 threads",
        hanging.len()
    );
    assert!((3..=6).contains(&world.allocator.status().hung));
    for job in hanging {
        let found = world.perform(&job);
        world.answer(&job, found);
    }
    world.live(5 * SECOND);
    assert_eq!(world.allocator.status().hung, 0);
    assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
}

#[test]
fn sessions_that_broke_while_they_rested_are_no_outage() {
    let mut world = World::serving(Duration::ZERO);
    world.live(5 * SECOND);
    world.events();
    world.ask(1);
    for job in world.take_jobs() {
        world.answer(&job, Err(Fault::new(FaultKind::Lost, "")));
    }
    assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
    world.run();
    assert_eq!(world.answers(), [tickets(0, 1)]);
    let events = world.events();
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Unavailable(_)))
    );
}

/// In a large pool, a server's `wait_timeout` can pass before a session has its first job.
#[test]
fn sessions_that_broke_before_their_first_job_are_no_outage() {
    let mut world = World::serving(Duration::ZERO);
    world.pass(SECOND);
    world.events();
    let jobs = world.take_jobs();
    assert!(!jobs.is_empty(), "the row is read");
    for job in jobs {
        world.answer(&job, Err(Fault::new(FaultKind::Lost, "")));
    }
    assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
    world.run();
    assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
    let is_outage = |event: &Event| matches!(event, Event::Unavailable(_));
    assert!(!world.events().iter().any(is_outage));
}

#[test]
fn a_database_that_is_gone_is_noticed_by_one_heartbeat_whatever_the_size_of_the_pool() {
    let mut world = World::with(Options {
        pool_size: 8,
        ..options(Duration::ZERO)
    });
    // Long enough for each session to have been read over.
    world.live(20 * SECOND);
    assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
    world.pass(SECOND);
    for _ in 0..100 {
        for job in world.take_jobs() {
            let kind = match job.task {
                Task::Connect { .. } => FaultKind::Unreachable,
                _ => FaultKind::Lost,
            };
            world.answer(&job, Err(Fault::new(kind, "")));
        }
    }
    assert!(is_unavailable(&world));
}

#[test]
fn a_session_that_broke_while_it_rested_is_followed_by_one_read_over_another() {
    let mut world = World::serving(Duration::ZERO);
    world.live(5 * SECOND);
    world.pass(SECOND);
    let broken = world.take_jobs();
    assert!(
        matches!(
            broken[..],
            [Job {
                task: Task::Read,
                ..
            }]
        ),
        "{broken:?}"
    );
    world.answer(&broken[0], Err(Fault::new(FaultKind::Lost, "")));
    let mut reads = 0;
    for _ in 0..10 {
        for job in world.take_jobs() {
            reads += u32::from(job.task == Task::Read);
            let found = world.perform(&job);
            world.answer(&job, found);
        }
    }
    assert_eq!(reads, 1);
    assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
}

#[test]
fn a_reservation_that_breaks_again_on_a_new_session_is_an_outage_with_pauses() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(1);
    let mut attempts = 0;
    for _ in 0..100 {
        for job in world.take_jobs() {
            if let Task::Reserve { .. } = job.task {
                attempts += 1;
                world.answer(&job, Err(Fault::new(FaultKind::Lost, "")));
            } else {
                let found = world.perform(&job);
                world.answer(&job, found);
            }
        }
        world.pass(10 * MILLISECOND);
    }
    assert!(attempts < 12, "{attempts} attempts in a second");
    assert!(matches!(
        world.allocator.verdict(world.now),
        Verdict::Unavailable(_)
    ));
}

#[test]
fn the_reserve_bridges_an_outage_and_every_surface_says_so() {
    let mut world = World::serving(SECOND);
    for _ in 0..100 {
        for _ in 0..10 {
            world.ask(1);
        }
        world.run();
        world.completions();
        world.pass(10 * MILLISECOND);
    }
    let reserve = world.allocator.status().reserve;
    assert!(reserve > 100, "{reserve}");
    for _ in 0..20 {
        world.pass(100 * MILLISECOND);
        world.fail(FaultKind::Unreachable);
    }
    assert!(matches!(
        world.allocator.verdict(world.now),
        Verdict::Degraded(_)
    ));
    world.ask(1);
    assert!(matches!(world.answers()[..], [Answer::Tickets(_)]));
    world.ask(reserve + 1);
    assert_eq!(world.answers(), [Answer::Refused(Refusal::Unavailable)]);
    for _ in 0..100 {
        world.pass(100 * MILLISECOND);
        world.fail(FaultKind::Unreachable);
    }
    world.ask(1);
    assert_eq!(
        world.answers(),
        [Answer::Refused(Refusal::Unavailable)],
        "the lease is over"
    );
}

#[test]
fn what_must_be_mended_is_not_forgotten_by_an_older_session() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(1);
    for job in world.take_jobs() {
        world.answer(&job, Err(Fault::new(FaultKind::NoCounterRow, "")));
    }
    assert!(matches!(
        world.allocator.verdict(world.now),
        Verdict::Misfit(_)
    ));
    for _ in 0..20 {
        world.pass(100 * MILLISECOND);
        for job in world.take_jobs() {
            assert!(matches!(job.task, Task::Connect { .. }), "{job:?}");
            world.answer(&job, Err(Fault::new(FaultKind::SettingsDiffer, "")));
        }
    }
    assert!(
        matches!(world.allocator.verdict(world.now), Verdict::Misfit(fault)
        if fault.kind == FaultKind::SettingsDiffer)
    );
    world.live(2 * SECOND);
    assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
}

#[test]
fn what_must_be_mended_is_not_opened_by_a_session_that_verified_before() {
    let mut world = World::with(options(Duration::ZERO));
    let [first] = &world.take_jobs()[..] else {
        panic!("one job");
    };
    let found = world.perform(first);
    world.answer(first, found);
    world.events();
    let [second, third] = &world.take_jobs()[..] else {
        panic!("two jobs");
    };
    let found = world.perform(second);
    world.pass(MILLISECOND);
    world.answer(third, Err(Fault::new(FaultKind::Trigger, "")));
    world.pass(MILLISECOND);
    world.answer(second, found);
    assert!(
        matches!(world.allocator.verdict(world.now), Verdict::Misfit(fault)
        if fault.kind == FaultKind::Trigger)
    );
    assert!(!world.events().contains(&Event::Opened));
    // Nothing is asked over its session, while others are opened.
    let mut connecting = Vec::new();
    for _ in 0..10 {
        world.pass(100 * MILLISECOND);
        connecting.extend(world.take_jobs());
    }
    let connects = |job: &Job| matches!(job.task, Task::Connect { .. });
    assert!(connecting.iter().all(connects), "{connecting:?}");
    world.jobs = connecting;
    world.live(2 * SECOND);
    assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
}

#[test]
fn the_first_contact_says_what_only_an_operator_can_mend() {
    let mut world = World::with(options(Duration::ZERO));
    world.fail(FaultKind::NoSettings);
    let cannot = |event: &Event| matches!(event, Event::CannotStart(_));
    assert!(world.events().iter().any(cannot));
    let mut world = World::with(options(Duration::ZERO));
    world.fail(FaultKind::Unreachable);
    assert!(!world.events().iter().any(cannot));
    assert!(matches!(
        world.allocator.verdict(world.now),
        Verdict::Unavailable(_)
    ));
}

#[test]
fn the_numbers_end_at_the_last_base_id() {
    let mut world = World::serving(Duration::ZERO);
    let last = numbering().last_base();
    world.row.id = last - 10;
    world.live(2 * SECOND);
    world.ask(11);
    world.ask(10);
    world.run();
    let answers = world.answers();
    assert_eq!(answers[0], Answer::Refused(Refusal::NumbersExhausted));
    assert!(matches!(answers[1], Answer::Tickets(run) if run.count == 10));
    assert_eq!(world.allocator.verdict(world.now), Verdict::Exhausted);
    world.ask(1);
    assert_eq!(
        world.answers(),
        [Answer::Refused(Refusal::NumbersExhausted)]
    );
}

/// A reservation of an epoch that is over brings nothing.
#[test]
fn the_numbers_have_ended_though_a_reservation_hangs() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(1);
    let hangs = world.take_jobs();
    assert!(matches!(hangs[0].task, Task::Reserve { .. }));
    world.row = View {
        epoch: SECOND_EPOCH,
        id: numbering().last_base(),
        ..world.row.clone()
    };
    world.pass(SECOND);
    world.run();
    world.answers();
    assert_eq!(world.allocator.verdict(world.now), Verdict::Exhausted);
    world.ask(1);
    assert_eq!(
        world.answers(),
        [Answer::Refused(Refusal::NumbersExhausted)]
    );
}

#[test]
fn the_status_waits_for_a_read_that_came_after_it() {
    let mut world = World::serving(Duration::ZERO);
    world.pass(SECOND / 2);
    let id = RequestId {
        connection: 99,
        sequence: 3,
    };
    world.allocator.submit(id, Ask::Status, world.now);
    assert!(world.completions().is_empty());
    world.row.id = 77;
    world.run();
    let completion = Completion {
        id,
        answer: Answer::Status,
    };
    assert_eq!(world.completions(), [completion]);
    assert_eq!(world.allocator.status().last_issued, Some(77));
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

#[test]
fn old_sessions_are_replaced_one_at_a_time() {
    let mut world = World::serving(Duration::ZERO);
    let mut renewed = 0;
    for _ in 0..4 * 3600 {
        world.pass(SECOND);
        let jobs = world.take_jobs();
        let connects = |job: &&Job| matches!(job.task, Task::Connect { .. });
        let connecting = jobs.iter().filter(connects).count();
        assert!(connecting <= 1);
        renewed += connecting;
        world.jobs = jobs;
        world.run();
    }
    assert!((15..=40).contains(&renewed), "{renewed} in four hours");
}

/// Its connections may last, while its name leads to the new primary.
#[test]
fn a_server_that_was_demoted_is_left_and_looked_for_again() {
    let mut world = World::serving(Duration::ZERO);
    let owner = world.row.owner.clone();
    is_left_while(&mut world, |row| row.read_only = true);
    world.row.read_only = false;
    world.live(2 * SECOND);
    assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
    let (other, here) = ("a".to_owned(), "b".to_owned());
    let elsewhere = Owner::Elsewhere { owner: other, here };
    is_left_while(&mut world, |row| row.owner = elsewhere);
    world.row.owner = owner;
    world.live(2 * SECOND);
    assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
}

fn is_left_while(world: &mut World, change: impl FnOnce(&mut View)) {
    world.live(2 * SECOND);
    world.events();
    let connects_in = |world: &mut World, time: Duration| {
        world.live(time);
        let is_one = |event: &Event| matches!(event, Event::Connected { .. });
        world.events().iter().filter(|event| is_one(event)).count()
    };
    change(&mut world.row);
    let connects = connects_in(world, 10 * SECOND);
    assert!((8..=12).contains(&connects), "{connects}, one a second");
    // The status does not make it more.
    for _ in 0..20 {
        let id = RequestId {
            connection: world.requests,
            sequence: 0,
        };
        world.requests += 1;
        world.allocator.submit(id, Ask::Status, world.now);
        world.run();
    }
    assert!(connects_in(world, SECOND) <= 2);
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
fn the_row_is_read_once_a_second_and_more_often_while_it_is_closed() {
    let mut world = World::serving(Duration::ZERO);
    for (closed, heartbeat) in [(false, SECOND), (true, SECOND / 5)] {
        if closed {
            world.row.owner = Owner::Closed;
            world.pass(SECOND);
            world.run();
        }
        assert_eq!(wakes(&mut world), Some(world.now + heartbeat));
        world.pass(heartbeat - Duration::from_nanos(1));
        assert!(world.take_jobs().is_empty());
        world.pass(Duration::from_nanos(1));
        let jobs = world.take_jobs();
        assert!(
            matches!(
                jobs[..],
                [Job {
                    task: Task::Read,
                    ..
                }]
            ),
            "{jobs:?}"
        );
        world.jobs = jobs;
        world.run();
    }
}

#[test]
fn a_late_reservation_is_asked_for_again_at_a_quarter_of_the_time_out() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(5);
    let first = world.take_jobs();
    world.ask(7);
    world.pass(SECOND / 4 - Duration::from_nanos(1));
    assert_eq!(sizes(&world.take_jobs()), [] as [u64; 0]);
    world.pass(Duration::from_nanos(1));
    let second = world.take_jobs();
    assert_eq!(sizes(&second), [12], "for all that wait");
    assert_ne!(first[0].worker, second[0].worker);
}

#[test]
fn a_job_hangs_after_twice_the_time_out_and_a_second_at_least() {
    for (timeout, after) in [(SECOND, 2_500), (SECOND / 10, 1_500)] {
        let mut world = World::with(Options {
            timeout,
            ..options(Duration::ZERO)
        });
        world.run();
        world.ask(1);
        let begun = world.now;
        assert_eq!(sizes(&world.take_jobs()), [1]);
        world.now = begun + (after * MILLISECOND - Duration::from_nanos(1));
        world.take_jobs();
        assert_eq!(world.allocator.status().hung, 0);
        world.now = begun + after * MILLISECOND;
        world.take_jobs();
        assert_eq!(world.allocator.status().hung, 1);
        assert!(is_unavailable(&world));
    }
}

#[test]
fn a_session_that_breaks_at_its_first_job_or_times_out_is_an_outage() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(1);
    world.fail(FaultKind::Lost);
    assert!(is_unavailable(&world), "nothing has proven it");
    let mut world = World::serving(Duration::ZERO);
    world.live(5 * SECOND);
    world.ask(1);
    world.fail(FaultKind::TimedOut);
    assert!(is_unavailable(&world), "it did not rest");
}

#[test]
fn a_thread_that_cannot_connect_beside_others_rests_and_is_no_outage() {
    let mut world = World::with(options(Duration::ZERO));
    let first = world.take_jobs();
    let found = world.perform(&first[0]);
    world.answer(&first[0], found);
    world.fail(FaultKind::TooManyConnections);
    assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
    let is_failed = |event: &Event| matches!(event, Event::Failed(_));
    assert_eq!(
        world
            .events()
            .iter()
            .filter(|event| is_failed(event))
            .count(),
        2
    );
    world.pass(400 * MILLISECOND - Duration::from_nanos(1));
    assert!(world.take_jobs().is_empty());
    world.pass(Duration::from_nanos(1));
    assert_eq!(world.take_jobs().len(), 2);
}

#[test]
fn a_short_outage_is_waited_through_and_a_long_one_is_not() {
    let mut world = World::serving(Duration::ZERO);
    world.pass(SECOND);
    let began = world.now;
    world.fail(FaultKind::Unreachable);
    world.pass(10 * MILLISECOND);
    world.fail(FaultKind::Unreachable);
    world.ask(1);
    let vain = began + SECOND;
    assert_eq!(world.allocator.next_completion(world.now), Next::At(vain));
    world.now = began + (SECOND - Duration::from_nanos(1));
    assert!(world.answers().is_empty());
    world.now = vain;
    assert_eq!(world.answers(), [Answer::Refused(Refusal::Unavailable)]);
    // What only an operator ends is not waited for.
    let mut world = World::serving(Duration::ZERO);
    world.pass(SECOND);
    world.fail(FaultKind::AccessDenied);
    world.ask(1);
    assert_eq!(world.answers(), [Answer::Refused(Refusal::Unavailable)]);
}

#[test]
fn the_status_waits_for_a_session_while_there_is_one() {
    let ask = |world: &mut World| {
        let id = RequestId {
            connection: 999,
            sequence: 0,
        };
        world.allocator.submit(id, Ask::Status, world.now);
    };
    let mut world = World::serving(Duration::ZERO);
    world.ask(1);
    let reserve = world.take_jobs();
    world.answer(&reserve[0], Err(Fault::new(FaultKind::TimedOut, "")));
    world.pass(MILLISECOND);
    ask(&mut world);
    world.pass(SECOND - MILLISECOND);
    world.completions();
    let expires = Next::At(world.now + MILLISECOND);
    assert_eq!(world.allocator.next_completion(world.now), expires);
    world.pass(SECOND);
    world.completions();
    ask(&mut world);
    let status = |world: &mut World| {
        let completions = world.completions().into_iter();
        let of_status = completions.filter(|one| one.id.connection == 999);
        of_status.map(|one| one.answer).collect::<Vec<_>>()
    };
    assert_eq!(status(&mut world), [], "the others can read");
    world.pass(SECOND);
    assert_eq!(status(&mut world), [Answer::Refused(Refusal::Unavailable)]);

    let mut world = World::with(options(Duration::ZERO));
    world.fail(FaultKind::Unreachable);
    world.pass(SECOND);
    ask(&mut world);
    assert_eq!(status(&mut world), [Answer::Refused(Refusal::Unavailable)]);

    let mut world = World::serving(Duration::ZERO);
    world.pass(MILLISECOND);
    ask(&mut world);
    world.take_jobs();
    world.pass(SECOND - Duration::from_nanos(1));
    assert_eq!(status(&mut world), []);
    world.pass(Duration::from_nanos(1));
    assert_eq!(status(&mut world), [Answer::Refused(Refusal::TimedOut)]);
}

#[test]
fn a_reservation_that_cannot_be_true_is_a_misfit() {
    let numbering = Numbering::new(4, 1, 0).expect("a numbering");
    let last_base = numbering.last_base();
    let view = World::with(options(Duration::ZERO)).row;
    for (found, kind) in [
        (Found::Reserved { last: 4 }, FaultKind::CounterAltered),
        (
            Found::Reserved {
                last: last_base + 1,
            },
            FaultKind::CounterAltered,
        ),
        // The row allows it, and nothing was moved.
        (Found::Refused { view }, FaultKind::NotOneRow),
    ] {
        let mut world = World::with(Options {
            numbering,
            ..options(Duration::ZERO)
        });
        world.run();
        world.ask(5);
        let jobs = world.take_jobs();
        world.answer(&jobs[0], Ok(found));
        let verdict = world.allocator.verdict(world.now);
        assert!(
            matches!(verdict, Verdict::Misfit(fault) if fault.kind == kind),
            "{verdict:?}"
        );
        assert_eq!(world.answers(), [Answer::Refused(Refusal::Unavailable)]);
        // The row can be read, and is open: it is a misfit until a reservation succeeds.
        for job in world.take_jobs() {
            let found = world.perform(&job);
            world.answer(&job, found);
        }
        assert!(world.allocator.permit.epoch().is_some());
        let verdict = world.allocator.verdict(world.now);
        assert!(
            matches!(verdict, Verdict::Misfit(fault) if fault.kind == kind),
            "{verdict:?}"
        );
        world.live(SECOND);
        assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
    }
}

#[test]
fn a_refusal_that_the_row_explains_is_no_misfit() {
    let last_base = numbering().last_base();
    for change in [
        (|row: &mut View, _| row.epoch = SECOND_EPOCH) as fn(&mut View, u64),
        |row, last_base| row.id = last_base - 4,
    ] {
        let mut world = World::serving(Duration::ZERO);
        world.ask(5);
        let jobs = world.take_jobs();
        change(&mut world.row, last_base);
        let view = world.row.clone();
        world.answer(&jobs[0], Ok(Found::Refused { view }));
        assert_eq!(world.allocator.verdict(world.now), Verdict::Serving);
    }
}

#[test]
fn the_counter_and_the_last_ticket_are_told_once_they_are_known() {
    let mut world = World::with(options(Duration::ZERO));
    let of = |world: &World| {
        let status = world.allocator.status();
        (status.counter, status.last_issued, status.database_up)
    };
    assert_eq!(of(&world), (None, None, false));
    world.run();
    assert_eq!(of(&world), (Some(1), None, true));
    world.ask(1);
    assert_eq!(world.allocator.status().waiting, 1);
    world.run();
    world.completions();
    assert_eq!(of(&world), (Some(2), Some(2), true));
    assert_eq!(world.allocator.memory().id, 2);
}

#[test]
fn the_counter_is_named_alike_by_all_who_see_the_same_epoch_of_it() {
    let fresh = World::with(options(Duration::ZERO));
    assert_eq!(fresh.allocator.database(), None);
    let mut world = World::serving(Duration::ZERO);
    let first = Some("here/0000000000000007".to_owned());
    assert_eq!(world.allocator.database(), first);
    // Its sessions are older than the epoch; those of a process that starts now are not.
    world.row.epoch = SECOND_EPOCH;
    world.live(2 * SECOND);
    let second = Some("here/0000000000000009".to_owned());
    assert_eq!(world.allocator.database(), second);
    let mut other = World::with(options(Duration::ZERO));
    other.row.epoch = SECOND_EPOCH;
    other.run();
    assert_eq!(other.allocator.database(), second);
}

#[test]
fn events_that_nobody_takes_are_bounded_and_nothing_dropped_is_no_event() {
    let mut world = World::with(options(Duration::ZERO));
    for _ in 0..3_000 {
        world.fail(FaultKind::Unreachable);
        world.pass(SECOND);
    }
    let events = world.events();
    assert_eq!(events.len(), 1024);
    let is_drop = |event: &Event| matches!(event, Event::Dropped(_));
    assert!(!events.iter().any(is_drop));
}

#[test]
fn what_is_dropped_is_told_with_its_size_when_nobody_asks_or_the_lease_ends() {
    for (prefetch, after) in [(SECOND / 4, LEASE), (Duration::ZERO, LEASE)] {
        let mut world = World::serving(prefetch);
        world.ask(10);
        let jobs = world.take_jobs();
        world.pass(SECOND);
        world.completions();
        world.jobs = jobs
            .into_iter()
            .filter(|job| job.task != Task::Read)
            .collect();
        let reserved: u64 = sizes(&world.jobs).iter().sum();
        let jobs = std::mem::take(&mut world.jobs);
        for job in &jobs {
            let found = world.perform(job);
            world.answer(job, found);
        }
        world.events();
        world.pass(after);
        world.allocator.next_completion(world.now);
        let events = world.events();
        assert!(events.contains(&Event::Dropped(reserved)), "{events:?}");
        assert_eq!(world.allocator.status().reserve, 0);
    }
}

/// The outputs of SplitMix64 from the seed 1234567, as its reference implementation has them.
#[test]
fn pauses_are_spread_by_a_quarter() {
    let second = Duration::from_secs(1024);
    for (salt, bits) in [
        (1, 6_457_827_717_110_365_317_u64),
        (2, 3_203_168_211_198_807_973),
        (3, 9_817_491_932_198_370_423),
        (4, 4_593_380_528_125_082_431),
    ] {
        let expected = Duration::from_secs(768 + bits % 512);
        assert_eq!(super::spread(second, 1_234_567, salt), expected);
    }
}

#[test]
fn the_latency_follows_shorter_samples_at_once_and_longer_ones_slowly() {
    let of =
        |known: u32, sample: u32| super::base_latency(known * MILLISECOND, sample * MILLISECOND);
    assert_eq!(of(16, 2), 2 * MILLISECOND);
    assert_eq!(of(16, 50), 17 * MILLISECOND + Duration::from_micros(10));
    assert_eq!(of(0, 5), Duration::from_micros(10));
}

/// It closes its sessions for that once a second, and others follow.
#[test]
fn the_status_is_told_while_it_is_looked_where_the_name_leads() {
    let mut world = World::serving(Duration::ZERO);
    // An outage that only a reservation would end, and none can be tried.
    world.ask(1);
    world.fail(FaultKind::NoTable);
    let (other, here) = ("a".to_owned(), "b".to_owned());
    world.row.owner = Owner::Elsewhere { owner: other, here };
    world.live(3 * SECOND);
    world.completions();
    assert!(world.closing().is_some());
    assert!(!world.allocator.status().database_up);
    let mut answers = Vec::new();
    for sequence in 0..100 {
        // A heartbeat is due, and answered when the status waits.
        world.pass(250 * MILLISECOND);
        let jobs = world.take_jobs();
        let id = RequestId {
            connection: 999,
            sequence,
        };
        world.pass(MILLISECOND);
        world.allocator.submit(id, Ask::Status, world.now);
        for job in [jobs, world.take_jobs()].concat() {
            let found = world.perform(&job);
            world.answer(&job, found);
            answers.extend(world.answers());
        }
        world.run();
        answers.extend(world.answers());
    }
    assert_eq!(answers, vec![Answer::Status; 100]);
}

/// The batch at the front waits for its own reservation, and what lands before is too short for it.
#[test]
fn requests_behind_a_large_batch_are_not_reserved_for_again_and_again() {
    let mut world = World::serving(2 * SECOND);
    world.ask(1);
    world.run();
    world.answers();
    world.ask(900);
    let large = world.take_jobs();
    assert_eq!(large.len(), 1, "{large:?}");
    world.ask(1);
    let mut jobs = 0;
    for _ in 0..50 {
        world.pass(MILLISECOND / 10);
        for job in world.take_jobs() {
            jobs += usize::from(matches!(job.task, Task::Reserve { .. }));
            let found = world.perform(&job);
            world.answer(&job, found);
        }
        assert_eq!(world.answers(), []);
    }
    assert!(jobs <= 1, "{jobs} reservations for one ticket");
    let found = world.perform(&large[0]);
    world.answer(&large[0], found);
    world.run();
    assert_eq!(world.answers().len(), 2);
}
