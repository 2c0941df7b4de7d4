//! Requests and reservations: who is served with what, in which order, and how much is asked for.

use super::*;

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
fn the_latency_follows_shorter_samples_at_once_and_longer_ones_slowly() {
    let of = |known: u32, sample: u32| {
        super::super::base_latency(known * MILLISECOND, sample * MILLISECOND)
    };
    assert_eq!(of(16, 2), 2 * MILLISECOND);
    assert_eq!(of(16, 50), 17 * MILLISECOND + Duration::from_micros(10));
    assert_eq!(of(0, 5), Duration::from_micros(10));
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
