//! What the row allows, and what closes it.

use super::*;

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
