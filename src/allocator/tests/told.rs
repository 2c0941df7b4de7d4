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
