//! What the allocator says of itself.

use super::*;

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
