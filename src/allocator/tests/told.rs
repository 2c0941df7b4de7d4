//! What the allocator tells, each once, and how large a reservation is.

use super::*;
use crate::counter::Warning;

fn count(events: &[Event], is: impl Fn(&Event) -> bool) -> usize {
    events.iter().filter(|event| is(event)).count()
}

#[test]
fn a_row_that_closes_and_opens_is_told_once_each() {
    let mut world = World::serving(Duration::ZERO);
    world.events();
    world.row.owner = Owner::Nobody;
    world.live(3 * SECOND);
    let events = world.events();
    assert_eq!(count(&events, |event| matches!(event, Event::Closed(_))), 1);
    assert_eq!(count(&events, |event| *event == Event::Opened), 0);
    assert_eq!(
        count(&events, |event| matches!(event, Event::Dropped(_))),
        0
    );
    world.row = View {
        owner: Owner::Here,
        epoch: SECOND_EPOCH,
        ..world.row.clone()
    };
    world.live(3 * SECOND);
    let events = world.events();
    assert_eq!(count(&events, |event| matches!(event, Event::Closed(_))), 0);
    assert_eq!(count(&events, |event| *event == Event::Opened), 1);
}

#[test]
fn warnings_are_told_when_they_change() {
    let mut world = World::serving(Duration::ZERO);
    world.events();
    let warning = Warning::CommitNotFlushed {
        value: "2".to_owned(),
    };
    let mut told = Vec::new();
    for warnings in [vec![warning.clone()], vec![warning.clone()], Vec::new()] {
        world.pass(SECOND);
        let jobs = world.take_jobs();
        let read = jobs.iter().find(|job| job.task == Task::Read);
        let found = Found::Read {
            view: world.row.clone(),
            warnings: Some(warnings),
        };
        world.answer(read.expect("a heartbeat"), Ok(found));
        told.push(world.events());
    }
    assert_eq!(
        told,
        [
            vec![Event::Warnings(vec![warning])],
            vec![],
            vec![Event::Warnings(vec![])]
        ]
    );
}

#[test]
fn the_end_of_the_numbers_is_told_once() {
    let mut world = World::serving(Duration::ZERO);
    world.row.id = numbering().last_base() - 1;
    world.live(2 * SECOND);
    world.events();
    world.ask(1);
    world.run();
    world.completions();
    world.live(3 * SECOND);
    let events = world.events();
    assert_eq!(count(&events, |event| *event == Event::Exhausted), 1);
}

#[test]
fn a_second_reservation_is_for_those_that_the_first_does_not_cover() {
    let mut world = World::serving(Duration::ZERO);
    // Reservations that take this long may overlap.
    for _ in 0..100 {
        world.ask(1);
        let jobs = world.take_jobs();
        world.pass(6 * MILLISECOND);
        for job in &jobs {
            let found = world.perform(job);
            world.answer(job, found);
        }
        world.completions();
    }
    world.ask(100);
    assert_eq!(sizes(&world.take_jobs()), [100]);
    world.ask(50);
    assert!(sizes(&world.take_jobs()).is_empty(), "too soon");
    world.pass(2 * MILLISECOND);
    assert_eq!(sizes(&world.take_jobs()), [50]);
}

#[test]
fn a_refill_brings_the_reserve_to_the_same_size_again() {
    let mut world = World::serving(SECOND);
    for _ in 0..100 {
        world.pass(50 * MILLISECOND);
        world.ask(100);
        world.run();
        world.completions();
    }
    let reserve = |world: &World| world.allocator.status().reserve;
    // No time passes from here on, so that the estimate stays as it is.
    let mut sums = Vec::new();
    for _ in 0..3 {
        world.ask(reserve(&world) / 2 + 1);
        world.completions();
        let jobs = world.take_jobs();
        let [size] = sizes(&jobs)[..] else {
            panic!("{jobs:?}");
        };
        sums.push(reserve(&world) + size);
        for job in &jobs {
            let found = world.perform(job);
            world.answer(job, found);
        }
        world.completions();
    }
    assert_eq!(sums, [sums[0]; 3]);
    // The demand of a second, or nearly.
    assert!((1_800..=2_000).contains(&sums[0]), "{sums:?}");
}

#[test]
fn numbers_that_come_again_close_the_row_and_it_is_told_where_it_is() {
    let mut world = World::serving(Duration::ZERO);
    world.ask(100);
    world.run();
    world.completions();
    world.ask(5);
    let jobs = world.take_jobs();
    // A server that has lost its last commits, and moves on from there.
    world.answer(&jobs[0], Ok(Found::Reserved { last: 60 }));
    assert_eq!(world.answers(), [Answer::Refused(Refusal::Unavailable)]);
    let why = world.closing().cloned();
    let memory = Memory {
        epoch: FIRST,
        id: 101,
    };
    let expected = Closing::Behind {
        memory,
        epoch: FIRST,
        id: 55,
    };
    assert_eq!(why, Some(expected.clone()));
    assert!(world.events().contains(&Event::Closed(expected)));
}

#[test]
fn a_deadlock_costs_no_session() {
    for (kind, connects) in [(FaultKind::Deadlock, 0), (FaultKind::Lost, 1)] {
        let mut world = World::serving(Duration::ZERO);
        world.live(5 * SECOND);
        world.events();
        world.ask(1);
        for job in world.take_jobs() {
            world.answer(&job, Err(Fault::new(kind, "")));
        }
        world.run();
        assert_eq!(world.answers(), [tickets(0, 1)]);
        let is_one = |event: &Event| matches!(event, Event::Connected { .. });
        assert_eq!(count(&world.events(), is_one), connects, "{kind:?}");
    }
}

#[test]
fn a_misfit_is_told_even_if_an_old_session_or_a_spare_one_has_found_it() {
    let is_misfit = |event: &Event| matches!(event, Event::Misfit(_));
    let mut world = World::serving(Duration::ZERO);
    world.live(5 * SECOND);
    world.ask(1);
    world.fail(FaultKind::NoCounterRow);
    assert_eq!(count(&world.events(), is_misfit), 1);
    let mut world = World::with(options(Duration::ZERO));
    let jobs = world.take_jobs();
    let found = world.perform(&jobs[0]);
    world.answer(&jobs[0], found);
    world.fail(FaultKind::Trigger);
    assert_eq!(count(&world.events(), is_misfit), 1);
    assert!(matches!(
        world.allocator.verdict(world.now),
        Verdict::Misfit(_)
    ));
}

#[test]
fn with_no_number_left_nothing_is_risked_and_reading_ends_an_outage() {
    let mut world = World::serving(Duration::ZERO);
    let last = numbering().last_base();
    world.row.id = last - 1;
    world.live(2 * SECOND);
    world.pass(SECOND);
    let read = world.take_jobs();
    assert_eq!(read.len(), 1);
    world.pass(MILLISECOND);
    world.ask(1);
    let reservation = world.take_jobs();
    assert_eq!(sizes(&reservation), [1]);
    world.pass(MILLISECOND);
    world.answer(&reservation[0], Err(Fault::new(FaultKind::LockWait, "")));
    assert!(is_unavailable(&world));
    // Another process has got it.
    world.row.id = last;
    let found = world.perform(&read[0]);
    world.answer(&read[0], found);
    assert!(is_unavailable(&world), "it was asked before");
    let jobs = world.take_jobs();
    assert_eq!(sizes(&jobs), [] as [u64; 0]);
    world.jobs = jobs;
    world.live(2 * SECOND);
    assert_eq!(world.allocator.verdict(world.now), Verdict::Exhausted);
}

#[test]
fn what_is_on_its_way_for_those_who_wait_is_no_reserve() {
    let mut world = World::serving(SECOND);
    for _ in 0..100 {
        world.pass(50 * MILLISECOND);
        world.ask(100);
        world.run();
        world.completions();
    }
    world.ask(world.allocator.status().reserve);
    assert_eq!(world.completions().len(), 1, "all of it");
    let [refill] = sizes(&world.take_jobs())[..] else {
        panic!("one refill");
    };
    // Most of the refill is theirs before it comes.
    let most = refill - refill / 4;
    world.ask(most);
    assert_eq!(sizes(&world.take_jobs()), [most]);
}
