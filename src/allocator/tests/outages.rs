//! Faults, outages, sessions and threads.

use super::*;

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
        assert_eq!(super::super::spread(second, 1_234_567, salt), expected);
    }
}
