//! When the allocator does something by itself, to the nanosecond, and that it asks to be woken for
//! nothing else: a moment that has passed would keep the node awake for ever.

use super::*;

/// Tickets that were reserved in strict mode for requests that have given up by now.
fn left_over(world: &mut World, count: u64) {
    world.ask(count);
    let jobs = world.take_jobs();
    world.pass(SECOND);
    assert_eq!(world.answers(), [Answer::Refused(Refusal::TimedOut)]);
    world.jobs = jobs;
    world.run();
    assert_eq!(world.allocator.status().reserve, count);
}

/// That nothing is due, and when something is.
fn wakes_later(world: &mut World) -> Moment {
    let at = wakes(world).expect("there is always a heartbeat");
    assert!(at > world.now, "woken for what has passed");
    at
}

#[test]
fn a_reservation_in_flight_wakes_when_it_is_late() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(5);
    let asked = world.now;
    let jobs = world.take_jobs();
    assert_eq!(wakes_later(&mut world), asked + SECOND / 4);
    world.jobs = jobs;
    world.run();
    assert_eq!(wakes_later(&mut world), asked + SECOND, "the heartbeat");
}

#[test]
fn a_reserve_wakes_when_nobody_has_asked_for_ten_seconds() {
    let mut world = World::serving(SECOND / 4);
    // Half a second after a heartbeat.
    for _ in 0..150 {
        world.ask(10);
        world.run();
        world.completions();
        world.pass(10 * MILLISECOND);
    }
    let asked = world.now;
    world.ask(1);
    world.run();
    world.completions();
    world.live(9_600 * MILLISECOND);
    assert!(world.allocator.status().reserve > 0);
    let idle = asked + 10 * SECOND;
    assert_eq!(wakes_later(&mut world), idle);
    world.now = idle;
    world.run();
    assert_eq!(world.allocator.status().reserve, 0);
    for _ in 0..30 {
        wakes_later(&mut world);
        world.pass(100 * MILLISECOND);
        world.run();
    }
}

#[test]
fn what_is_left_over_in_strict_mode_lasts_as_long_as_its_lease() {
    let mut world = World::serving(Duration::ZERO);
    left_over(&mut world, 10);
    for _ in 0..200 {
        wakes_later(&mut world);
        world.live(100 * MILLISECOND);
    }
    assert_eq!(world.allocator.status().reserve, 10);
}

#[test]
fn an_outage_that_outlives_the_lease_wakes_for_the_next_attempt_only() {
    let mut world = World::serving(Duration::ZERO);
    for _ in 0..150 {
        world.pass(100 * MILLISECOND);
        world.fail(FaultKind::Unreachable);
        world.fail(FaultKind::Unreachable);
        wakes_later(&mut world);
    }
    assert!(is_unavailable(&world));
}

#[test]
fn nothing_is_issued_at_the_end_of_the_lease() {
    let mut world = World::serving(Duration::ZERO);
    left_over(&mut world, 10);
    let end = world.allocator.permit.lease_end().expect("it is open");
    world.now = end;
    let mut before = World {
        allocator: world.allocator.clone(),
        row: world.row.clone(),
        now: Moment::from_nanos(end.as_nanos() - 1),
        jobs: Vec::new(),
        requests: world.requests,
    };
    before.ask(1);
    assert_eq!(before.answers(), [tickets(0, 1)]);
    world.ask(1);
    assert_eq!(world.answers(), []);
}

#[test]
fn the_last_numbers_are_for_who_asks_for_exactly_so_many() {
    let mut world = World::serving(Duration::ZERO);
    world.row.id = numbering().last_base() - 10;
    world.live(2 * SECOND);
    world.ask(10);
    assert_eq!(world.answers(), [], "it waits for them");
    world.run();
    assert!(matches!(world.answers()[..], [Answer::Tickets(run)] if run.count == 10));
}

/// Lives for this long from one wake-up to the next: each must bring a job, at its very moment.
fn live_by_wakes(
    world: &mut World,
    time: Duration,
    find: impl Fn(&mut World, &Job) -> Result<Found, Fault>,
) {
    let end = world.now + time;
    while world.now < end {
        let mut jobs = world.take_jobs();
        let mut rounds = 0;
        while !jobs.is_empty() {
            rounds += 1;
            assert!(rounds < 100, "the allocator never rests");
            for job in std::mem::take(&mut jobs) {
                let found = find(world, &job);
                world.answer(&job, found);
            }
            jobs = world.take_jobs();
        }
        world.now = wakes_later(world);
        let before = world.allocator.clone();
        jobs = world.take_jobs();
        assert!(!jobs.is_empty(), "woken in vain");
        world.allocator = before;
    }
}

fn is_reservation(job: &Job) -> bool {
    matches!(job.task, Task::Reserve { .. })
}

fn is_connect(job: &Job) -> bool {
    matches!(job.task, Task::Connect { .. })
}

#[test]
fn each_wake_up_finds_something_to_do() {
    let well = |world: &mut World, job: &Job| world.perform(job);
    let mut open = World::serving(Duration::ZERO);
    live_by_wakes(&mut open, 20 * SECOND, well);
    let mut closed = World::serving(Duration::ZERO);
    closed.row.owner = Owner::Closed;
    live_by_wakes(&mut closed, 20 * SECOND, well);
    let mut gone = World::serving(Duration::ZERO);
    live_by_wakes(&mut gone, 20 * SECOND, |_, job| {
        Err(Fault::new(
            match is_connect(job) {
                true => FaultKind::Unreachable,
                false => FaultKind::Lost,
            },
            "",
        ))
    });
    assert!(is_unavailable(&gone));
    live_by_wakes(&mut gone, 20 * SECOND, well);
    assert_eq!(gone.allocator.verdict(gone.now), Verdict::Serving);
    let mut stuck = World::serving(Duration::ZERO);
    stuck.ask(1);
    for _ in 0..2 {
        live_by_wakes(&mut stuck, 20 * SECOND, |world, job| {
            match is_reservation(job) {
                true => Err(Fault::new(FaultKind::LockWait, "")),
                false => world.perform(job),
            }
        });
        assert!(is_unavailable(&stuck));
        stuck.completions();
    }
    let mut full = World::with(options(Duration::ZERO));
    live_by_wakes(&mut full, 20 * SECOND, |world, job| {
        match is_connect(job) && job.worker > 0 {
            true => Err(Fault::new(FaultKind::TooManyConnections, "")),
            false => world.perform(job),
        }
    });
    assert_eq!(full.allocator.verdict(full.now), Verdict::Serving);
}

/// A world in strict mode in which reservations take so long, after one that served 20 clients.
fn crowd(prefetch: Duration, latency: Duration) -> World {
    let mut world = World::serving(prefetch);
    for _ in 0..400 {
        for _ in 0..20 {
            world.ask(1);
        }
        let jobs = world.take_jobs();
        world.pass(latency);
        world.jobs = jobs;
        world.run();
        world.completions();
    }
    // So that the row was read, and that the next block is the first after a pause.
    world.pass(SECOND);
    world.run();
    for _ in 0..20 {
        world.ask(1);
    }
    world.jobs = world.take_jobs();
    world.pass(latency);
    world.run();
    assert!(world.completions().len() >= 19);
    world
}

#[test]
fn while_commits_are_fast_a_crowd_that_was_just_served_is_waited_for() {
    let fast = 2 * MILLISECOND - Duration::from_nanos(1);
    let mut world = crowd(Duration::ZERO, fast);
    world.ask(1);
    assert_eq!(sizes(&world.take_jobs()), [] as [u64; 0]);
    let end = wakes_later(&mut world);
    assert_eq!(end, world.now + MILLISECOND / 10);
    world.ask(1);
    world.now = end;
    assert_eq!(
        sizes(&world.take_jobs()),
        [] as [u64; 0],
        "somebody has come"
    );
    world.now = wakes_later(&mut world);
    assert_eq!(sizes(&world.take_jobs()), [2], "nobody has");
    world.ask(1);
    world.pass(SECOND / 10);
    let beside = sizes(&world.take_jobs());
    assert_eq!(beside, [] as [u64; 0], "one at a time");

    let mut slow = crowd(Duration::ZERO, 2 * MILLISECOND);
    slow.ask(1);
    assert_eq!(sizes(&slow.take_jobs()), [1]);
    slow.ask(1);
    slow.pass(MILLISECOND);
    assert_eq!(sizes(&slow.take_jobs()), [1], "another beside it");

    let mut ahead = crowd(SECOND / 4, fast);
    let reserve = ahead.allocator.status().reserve;
    ahead.ask(reserve + 1);
    assert_eq!(sizes(&ahead.take_jobs()).len(), 1);
}

#[test]
fn old_sessions_are_not_replaced_during_an_outage_or_while_somebody_waits() {
    let of_five = || {
        let mut world = World::with(Options {
            pool_size: 5,
            ..options(Duration::ZERO)
        });
        world.run();
        // All of them are too old after that.
        world.pass(3600 * SECOND);
        world
    };
    let mut idle = of_five();
    assert!(idle.take_jobs().iter().any(is_connect));
    let mut waiting = of_five();
    waiting.ask(1);
    let jobs = waiting.take_jobs();
    assert!(!jobs.iter().any(is_connect), "{jobs:?}");

    let mut outage = of_five();
    outage.ask(1);
    for job in outage.take_jobs().iter().filter(|job| is_reservation(job)) {
        outage.answer(job, Err(Fault::new(FaultKind::LockWait, "")));
    }
    outage.pass(SECOND);
    outage.completions();
    assert!(is_unavailable(&outage));
    assert_eq!(outage.allocator.status().waiting, 0);
    let jobs = outage.take_jobs();
    assert!(!jobs.iter().any(is_connect), "{jobs:?}");
}

#[test]
fn a_session_that_is_opened_during_an_outage_is_tried_at_once() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(1);
    let connect = loop {
        let jobs = world.take_jobs();
        if let Some(connect) = jobs.iter().find(|job| is_connect(job)) {
            break connect.clone();
        }
        for job in &jobs {
            world.answer(job, Err(Fault::new(FaultKind::Lost, "")));
        }
        if jobs.is_empty() {
            world.now = wakes_later(&mut world);
        }
    };
    assert!(is_unavailable(&world));
    let found = world.perform(&connect);
    world.answer(&connect, found);
    assert_eq!(sizes(&world.take_jobs()), [1]);
}
