//! The dispenser's laws, held against any interleaving of requests, time-outs, blocks and faults.
//!
//! A model database, which is one counter, executes each reservation at any moment between question
//! and answer. One or two dispensers and a stranger share it. It forgets, goes backwards and is
//! advanced again, and answers get lost.

use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::Index;
use tickr::dispenser::{Dispenser, Options, Refusal, Reservation};
use tickr::ticket::{Block, COUNTER_SEED, Numbering};

const PATIENCE: Duration = Duration::from_secs(1);
const CASES: u32 = 1_000;
const STEPS: RangeInclusive<usize> = 1..=120;
/// Rounds in which a dispenser must have settled every request once all faults are over.
const ROUNDS_TO_SETTLE: usize = 40;

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(CASES)
    })]

    #[test]
    fn the_laws_hold_under_any_interleaving(
        setup in setup(),
        steps in prop::collection::vec(step(), STEPS),
    ) {
        let mut world = World::new(setup);
        for step in steps {
            world.take(&step);
        }
        world.settle(setup.hangs);
    }

    #[test]
    fn strict_mode_on_a_lone_process_wastes_nothing(
        pool in 1_usize..=5,
        steps in prop::collection::vec(harmless_step(), STEPS),
    ) {
        let mut world = World::new(Setup {
            processes: 1,
            pool,
            prefetch: 0.0,
            late_after: Duration::from_secs(3_600),
            numbers: 1 << 40,
            hangs: false,
        });
        for step in steps {
            world.take(&step);
        }
        world.settle(false);
        world.hand_out_the_reserve();
        prop_assert!(world.processes[0].granted.iter().copied().eq(2..=world.database.counter));
    }
}

/// The last numbers: what was seen committed may be what is on its way to those who wait.
#[test]
fn a_read_between_commit_and_answer_refuses_nobody() {
    let numbering = Numbering::new(1, 1, 0).expect("the settings are good");
    let mut dispenser = Dispenser::new(Options {
        numbering,
        reservations_max: 5,
        late_after: PATIENCE,
        prefetch_seconds: 0.0,
    });
    let now = Instant::now();
    let last = numbering.last_base();
    dispenser.observed(last - 2, 0);
    let admitted = dispenser.request(7, 2, now + PATIENCE);
    admitted.expect("there is room for two");
    let reservation = dispenser.next_reservation(now).expect("two are missing");
    dispenser.observed(last, dispenser.floor());
    assert_eq!(dispenser.next_refused(), None);
    let block = Block::ending_at(last, 2).expect("a block");
    assert_eq!(dispenser.landed(reservation.id, block, now), None);
    let grant = dispenser.next_grant(|_| true).expect("the last two");
    assert_eq!(numbering.ticket(last), Some(grant.run.last()));
}

/// A fail-over: the old primary commits a block whose answer is delayed, and the new one never got
/// it. Once an operator has brought that one up to what was seen, it gives others the same numbers.
#[test]
fn a_block_that_was_asked_for_before_a_fence_is_dropped() {
    for block in [Block::ending_at(110, 10), Block::ending_at(60, 10)] {
        let block = block.expect("a block");
        let mut dispenser = Dispenser::new(Options {
            numbering: Numbering::new(1, 1, 0).expect("the settings are good"),
            reservations_max: 5,
            late_after: PATIENCE,
            prefetch_seconds: 0.0,
        });
        let now = Instant::now();
        dispenser.observed(100, 0);
        let admitted = dispenser.request(1, 10, now + PATIENCE);
        admitted.expect("there is room");
        let delayed = dispenser.next_reservation(now).expect("ten are missing");
        assert!(dispenser.observed(50, dispenser.floor()).is_some());
        assert_eq!(dispenser.next_refused(), Some((1, Refusal::Fenced)));
        dispenser.observed(100, dispenser.floor());
        assert_eq!(dispenser.fence(), None);

        assert_eq!(dispenser.floor_of(delayed.id), None);
        assert_eq!(dispenser.landed(delayed.id, block, now), None);
        let admitted = dispenser.request(2, 10, now + PATIENCE);
        admitted.expect("there is room");
        assert_eq!(dispenser.next_grant(|_| true), None, "{block:?}");
        let asked_again = dispenser.next_reservation(now).expect("ten are missing");
        assert_eq!(asked_again.count, 10);
    }
}

const COMMIT: Duration = Duration::from_micros(300);

/// A dispenser that has just served so many clients, and the moment of that.
fn having_served(clients: usize) -> (Dispenser, Instant) {
    let mut dispenser = Dispenser::new(Options {
        numbering: Numbering::new(1, 1, 0).expect("the settings are good"),
        reservations_max: 5,
        late_after: PATIENCE,
        prefetch_seconds: 0.0,
    });
    let mut now = Instant::now();
    let mut counter = COUNTER_SEED;
    // What a commit takes is learnt little by little.
    for _ in 0..40 {
        (0..clients).for_each(|client| ask(&mut dispenser, client, now));
        let reservation = dispenser.next_reservation(now).expect("all are here");
        assert_eq!(reservation.count, clients as u64);
        now += COMMIT;
        counter += reservation.count;
        let block = Block::ending_at(counter, reservation.count).expect("a block");
        assert_eq!(dispenser.landed(reservation.id, block, now), None);
        (0..clients).for_each(|_| assert!(dispenser.next_grant(|_| true).is_some()));
    }
    (dispenser, now)
}

fn ask(dispenser: &mut Dispenser, client: usize, now: Instant) {
    let admitted = dispenser.request(client, 1, now + PATIENCE);
    admitted.expect("there is room");
}

#[test]
fn clients_that_come_back_at_once_share_one_reservation() {
    let (mut dispenser, now) = having_served(4);
    for client in 0..3 {
        ask(&mut dispenser, client, now);
        assert_eq!(dispenser.next_reservation(now), None, "{client}");
        let look = dispenser.look_at().expect("it is to be looked at again");
        assert!(look > now && look < now + COMMIT);
    }
    ask(&mut dispenser, 3, now);
    let all = dispenser.next_reservation(now).expect("all are here");
    assert_eq!((all.count, dispenser.look_at()), (4, None));
}

#[test]
fn nobody_waits_for_clients_that_do_not_come() {
    let (mut dispenser, now) = having_served(4);
    ask(&mut dispenser, 0, now);
    assert_eq!(dispenser.next_reservation(now), None);
    let look = dispenser.look_at().expect("it is to be looked at again");
    let one = dispenser.next_reservation(look).expect("no newcomer");
    assert_eq!(one.count, 1);
}

/// Else the event loop would turn without a pause until the probe is late.
#[test]
fn a_probe_ends_the_gathering() {
    let (mut dispenser, now) = having_served(4);
    ask(&mut dispenser, 0, now);
    assert_eq!(dispenser.next_reservation(now), None);
    assert!(dispenser.look_at().is_some());
    assert!(dispenser.next_probe(now).is_some());
    assert_eq!(dispenser.look_at(), None);
}

#[test]
fn gathering_takes_no_longer_than_a_few_commits() {
    let (mut dispenser, landed) = having_served(100);
    let mut now = landed;
    let mut client = 0;
    let reservation = loop {
        ask(&mut dispenser, client, now);
        if let Some(reservation) = dispenser.next_reservation(now) {
            break reservation;
        }
        client += 1;
        now += COMMIT / 10;
    };
    assert_eq!(reservation.count, client as u64 + 1);
    assert!(now - landed <= COMMIT * 3, "{:?}", now - landed);
}

#[test]
fn neither_a_lone_client_nor_a_late_one_waits_for_others() {
    let (mut dispenser, now) = having_served(1);
    ask(&mut dispenser, 0, now);
    assert!(dispenser.next_reservation(now).is_some());

    let (mut dispenser, landed) = having_served(4);
    let later = landed + COMMIT * 4;
    ask(&mut dispenser, 0, later);
    assert!(dispenser.next_reservation(later).is_some());
}

/// What a scenario starts with.
#[derive(Clone, Copy, Debug)]
struct Setup {
    processes: usize,
    pool: usize,
    prefetch: f64,
    late_after: Duration,
    numbers: u64,
    /// At the end, one question of each process is never answered.
    hangs: bool,
}

/// One thing that happens. Indices choose a process, and one of what it has under way.
#[derive(Clone, Debug)]
enum Step {
    Request {
        process: Index,
        count: u64,
    },
    Leave {
        process: Index,
        request: Index,
    },
    Pass {
        time: Duration,
    },
    Execute {
        process: Index,
        job: Index,
    },
    Answer {
        process: Index,
        job: Index,
    },
    Fail {
        process: Index,
        job: Index,
        executed: bool,
    },
    AskCounter {
        process: Index,
    },
    Stranger {
        count: u64,
    },
    Restore {
        back: u64,
    },
    Advance,
}

fn setup() -> impl Strategy<Value = Setup> {
    let prefetch = prop_oneof![Just(0.0), Just(0.5), Just(4.0)];
    let numbers = prop_oneof![3 => Just(1_u64 << 40), 1 => 0_u64..400];
    (1_usize..=2, 1_usize..=5, prefetch, numbers, any::<bool>()).prop_map(
        |(processes, pool, prefetch, numbers, hangs)| Setup {
            processes,
            pool,
            prefetch,
            late_after: PATIENCE,
            numbers,
            hangs: hangs && pool > 1,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => harmless_step(),
        2 => (any::<Index>(), any::<Index>(), any::<bool>())
            .prop_map(|(process, job, executed)| Step::Fail { process, job, executed }),
        1 => (900_u64..2_500).prop_map(|ms| Step::Pass { time: Duration::from_millis(ms) }),
        1 => (1_u64..50).prop_map(|count| Step::Stranger { count }),
        1 => (0_u64..200).prop_map(|back| Step::Restore { back }),
        1 => Just(Step::Advance),
    ]
}

/// Steps in which no outcome is unknown and no reservation is late.
fn harmless_step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        5 => (index(), prop_oneof![3 => Just(1_u64), 1 => 2_u64..60])
            .prop_map(|(process, count)| Step::Request { process, count }),
        1 => (index(), index()).prop_map(|(process, request)| Step::Leave { process, request }),
        3 => (0_u64..60).prop_map(|ms| Step::Pass { time: Duration::from_millis(ms) }),
        4 => (index(), index()).prop_map(|(process, job)| Step::Execute { process, job }),
        4 => (index(), index()).prop_map(|(process, job)| Step::Answer { process, job }),
        1 => (index(), index())
            .prop_map(|(process, job)| Step::Fail { process, job, executed: false }),
        1 => index().prop_map(|process| Step::AskCounter { process }),
    ]
}

/// The processes, the database and the clock.
struct World {
    database: Database,
    processes: Vec<Process>,
    granted: BTreeSet<u64>,
    now: Instant,
}

/// The counter, and what it has ever been.
struct Database {
    counter: u64,
    last_base: u64,
    /// The highest base id that was ever reserved: `tickr db advance` goes there.
    highest: u64,
}

/// One dispenser, and what must be true of it.
#[derive(Debug)]
struct Process {
    dispenser: Dispenser,
    numbering: Numbering,
    strict: bool,
    next_client: usize,
    /// Who waits, for how many, until when; the present ones.
    waiting: VecDeque<Request>,
    jobs: Vec<Job>,
    /// Sessions that the next jobs have to open first.
    to_open: usize,
    pool: usize,
    late_after: Duration,
    went_backwards: bool,
    committed: Vec<Block>,
    granted: BTreeSet<u64>,
    /// Granted in this turn.
    fresh: Vec<u64>,
    /// Nothing at or below this may be granted any more.
    barred: u64,
    /// The highest base id that was reserved for someone else.
    foreign: u64,
}

/// A request in the FIFO.
#[derive(Clone, Copy, Debug)]
struct Request {
    client: usize,
    count: u64,
    deadline: Instant,
    present: bool,
}

/// A question to the database.
#[derive(Clone, Copy, Debug)]
struct Job {
    id: u64,
    kind: Kind,
    floor: u64,
    /// From here on it is not waited for.
    late_at: Option<Instant>,
    opening: Opening,
    found: Option<Found>,
}

/// Whether a session is opened for a job, which reads the counter first.
#[derive(Clone, Copy, Debug)]
enum Opening {
    No,
    Due,
    Found(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Reserve(u64),
    Read,
}

/// What the database did when it executed the question.
#[derive(Clone, Copy, Debug)]
enum Found {
    Block(Block),
    Counter(u64),
}

impl Database {
    fn execute(&mut self, kind: Kind) -> Found {
        match kind {
            Kind::Reserve(count) if self.counter <= self.last_base.saturating_sub(count) => {
                self.counter += count;
                self.highest = self.highest.max(self.counter);
                Found::Block(Block::ending_at(self.counter, count).unwrap())
            }
            _ => Found::Counter(self.counter),
        }
    }
}

impl World {
    fn new(setup: Setup) -> World {
        let numbering = Numbering::new(1, u64::MAX - setup.numbers, 0).unwrap();
        let options = Options {
            numbering,
            reservations_max: setup.pool,
            late_after: setup.late_after,
            prefetch_seconds: setup.prefetch,
        };
        World {
            database: Database {
                counter: COUNTER_SEED,
                last_base: numbering.last_base(),
                highest: COUNTER_SEED,
            },
            processes: (0..setup.processes)
                .map(|_| Process::new(options))
                .collect(),
            granted: BTreeSet::new(),
            now: Instant::now(),
        }
    }

    fn take(&mut self, step: &Step) {
        let count = self.processes.len();
        match *step {
            Step::Request {
                process,
                count: tickets,
            } => {
                self.processes[process.index(count)].request(tickets, self.now);
            }
            Step::Leave { process, request } => {
                let waiting = &mut self.processes[process.index(count)].waiting;
                if !waiting.is_empty() {
                    let request = request.index(waiting.len());
                    waiting[request].present = false;
                }
            }
            Step::Pass { time } => self.now += time,
            Step::Execute { process, job } => {
                if let Some(job) = self.choose(process, job) {
                    self.advance(process.index(count), job);
                }
            }
            Step::Answer { process, job } => {
                if let Some(job) = self.choose(process, job) {
                    self.answer(process.index(count), job);
                }
            }
            Step::Fail {
                process,
                job,
                executed,
            } => {
                if let Some(job) = self.choose(process, job) {
                    self.fail(process.index(count), job, executed);
                }
            }
            Step::AskCounter { process } => {
                self.processes[process.index(count)].ask_counter();
            }
            Step::Stranger { count } => self.stranger(count),
            Step::Restore { back } => self.restore(back),
            Step::Advance => self.database.counter = self.database.highest,
        }
        for process in 0..count {
            self.turn(process);
        }
    }

    fn choose(&self, process: Index, job: Index) -> Option<usize> {
        let jobs = &self.processes[process.index(self.processes.len())].jobs;
        (!jobs.is_empty()).then(|| job.index(jobs.len()))
    }

    /// Lets the database come one step further with a job: open a session, or do what was asked.
    fn advance(&mut self, process: usize, job: usize) {
        let job_of_process = &mut self.processes[process].jobs[job];
        match job_of_process.opening {
            Opening::Due => job_of_process.opening = Opening::Found(self.database.counter),
            Opening::No | Opening::Found(_) => {
                self.execute(process, job);
            }
        }
    }

    fn execute(&mut self, process: usize, job: usize) -> Found {
        let asked = &mut self.processes[process].jobs[job];
        if let Opening::Due = asked.opening {
            asked.opening = Opening::Found(self.database.counter);
        }
        let known = asked.found;
        let found = known.unwrap_or_else(|| self.database.execute(asked.kind));
        asked.found = Some(found);
        if let (None, Found::Block(block)) = (known, found) {
            for (number, other) in self.processes.iter_mut().enumerate() {
                if number != process {
                    other.foreign = other.foreign.max(block.last);
                }
            }
        }
        found
    }

    fn answer(&mut self, process: usize, job: usize) {
        let found = self.execute(process, job);
        self.processes[process].answered(job, found, self.now);
    }

    /// The question fails. Whether it was executed before that is not known to who asked, unless
    /// the steps are harmless.
    fn fail(&mut self, process: usize, job: usize, executed: bool) {
        if executed {
            self.execute(process, job);
        } else if self.processes[process].jobs[job].found.is_some() {
            return self.answer(process, job);
        }
        let Job { id, kind, .. } = self.processes[process].jobs.remove(job);
        self.processes[process].to_open += 1;
        if kind != Kind::Read {
            self.processes[process].dispenser.failed(id);
        }
    }

    fn stranger(&mut self, count: u64) {
        // It would have seen that the database went backwards.
        if self.database.counter < self.database.highest {
            return;
        }
        if let Found::Block(block) = self.database.execute(Kind::Reserve(count)) {
            for process in &mut self.processes {
                process.foreign = block.last;
            }
        }
    }

    /// An old copy of the counter comes back. Nobody can notice the loss of what it had not seen,
    /// so this happens only when everyone has seen what others were given.
    fn restore(&mut self, back: u64) {
        let noticeable = self.processes.iter().all(|process| {
            let foreign = process.foreign;
            let asked = process.jobs.iter().filter(|job| job.found.is_none());
            let floors = asked.map(|job| job.floor);
            foreign == 0
                || floors
                    .chain([process.dispenser.floor()])
                    .all(|floor| floor >= foreign)
        });
        if noticeable {
            self.database.counter = self.database.counter.saturating_sub(back).max(COUNTER_SEED);
            for process in &mut self.processes {
                process.went_backwards = true;
            }
        }
    }

    /// One turn of the event loop.
    fn turn(&mut self, process: usize) {
        let now = self.now;
        self.processes[process].serve(now);
        self.processes[process].order(now);
        for base in self.processes[process].fresh.drain(..) {
            let first = self.granted.insert(base);
            assert!(first, "base id {base} was granted by two processes");
        }
    }

    /// All faults end: each request must be served or refused, without outside help.
    fn settle(&mut self, hangs: bool) {
        self.database.counter = self.database.highest;
        for process in 0..self.processes.len() {
            let hung = usize::from(hangs && !self.processes[process].jobs.is_empty());
            let requests = [1, 20, 1];
            for count in requests {
                self.processes[process].request(count, self.now);
            }
            for _ in 0..ROUNDS_TO_SETTLE {
                self.turn(process);
                self.answer_all(process, hung);
                let state = &mut self.processes[process];
                if state.dispenser.fence().is_some() {
                    state.ask_counter();
                } else if state.waiting.is_empty() {
                    break;
                } else if let Some(wake_at) = state.dispenser.wake_at(self.now) {
                    self.now = self.now.max(wake_at);
                }
            }
            let state = &mut self.processes[process];
            assert!(
                state.dispenser.fence().is_none(),
                "still fenced: {:?}",
                state.dispenser
            );
            assert_eq!(
                state.dispenser.waiting_requests(),
                0,
                "{:?}",
                state.dispenser
            );
            let before = state.granted.len();
            // What hangs has hung too long by now.
            self.now += PATIENCE;
            state.request(1, self.now);
            self.turn(process);
            self.answer_all(process, hung);
            let state = &self.processes[process];
            let room = self.database.counter < self.database.last_base;
            assert!(
                !room || state.granted.len() == before + 1,
                "not served: {state:?}"
            );
        }
    }

    fn answer_all(&mut self, process: usize, hung: usize) {
        for _ in 0..ROUNDS_TO_SETTLE {
            if self.processes[process].jobs.len() <= hung {
                return;
            }
            self.answer(process, hung);
            self.turn(process);
        }
        panic!("asks without end: {:?}", self.processes[process]);
    }

    /// What is left over from requests that gave up serves others, down to the last one.
    fn hand_out_the_reserve(&mut self) {
        for _ in 0..self.processes[0].dispenser.reserve_tickets() {
            self.processes[0].request(1, self.now);
            self.turn(0);
        }
        let process = &self.processes[0];
        assert_eq!((process.jobs.len(), process.waiting.len()), (0, 0));
    }
}

impl Process {
    fn new(options: Options) -> Process {
        Process {
            dispenser: Dispenser::new(options),
            numbering: options.numbering,
            strict: options.prefetch_seconds == 0.0,
            next_client: 0,
            waiting: VecDeque::new(),
            jobs: Vec::new(),
            to_open: options.reservations_max,
            pool: options.reservations_max,
            late_after: options.late_after,
            went_backwards: false,
            committed: Vec::new(),
            granted: BTreeSet::new(),
            fresh: Vec::new(),
            barred: 0,
            foreign: 0,
        }
    }

    fn request(&mut self, count: u64, now: Instant) {
        let client = self.next_client;
        self.next_client += 1;
        let deadline = now + PATIENCE;
        let fenced = self.dispenser.fence().is_some();
        match self.dispenser.request(client, count, deadline) {
            Ok(()) => self.waiting.push_back(Request {
                client,
                count,
                deadline,
                present: true,
            }),
            Err(refusal) => assert_eq!(refusal, Refusal::Fenced),
        }
        let queued = self
            .waiting
            .back()
            .is_some_and(|back| back.client == client);
        assert_eq!(queued, !fenced);
    }

    fn ask_counter(&mut self) {
        let floor = self.dispenser.floor();
        self.ask(Job {
            id: u64::MAX,
            kind: Kind::Read,
            floor,
            late_at: None,
            opening: Opening::No,
            found: None,
        });
    }

    fn ask(&mut self, mut job: Job) {
        if self.to_open > 0 {
            self.to_open -= 1;
            job.opening = Opening::Due;
        }
        self.jobs.push(job);
    }

    fn answered(&mut self, job: usize, found: Found, now: Instant) {
        let Job {
            id,
            kind,
            floor,
            opening,
            ..
        } = self.jobs.remove(job);
        let void = kind != Kind::Read && self.dispenser.floor_of(id).is_none();
        if let Opening::Found(counter) = opening
            && !void
        {
            self.observe(counter, floor);
        }
        // What its session found may have put up the fence.
        let void = void || kind != Kind::Read && self.dispenser.floor_of(id).is_none();
        match (kind, found) {
            (Kind::Reserve(_), Found::Block(block)) => {
                assert!(void || self.dispenser.floor_of(id) == Some(floor));
                self.committed.push(block);
                self.dispenser.landed(id, block, now);
                assert!(void || block.first > floor || self.dispenser.fence().is_some());
            }
            (Kind::Reserve(_), Found::Counter(counter)) => {
                if !void {
                    self.observe(counter, floor);
                }
                self.dispenser.failed(id);
            }
            (Kind::Read, Found::Counter(counter)) => self.observe(counter, floor),
            (Kind::Read, Found::Block(_)) => unreachable!("a read reserves nothing"),
        }
        if let Some(fence) = self.dispenser.fence() {
            assert!(self.went_backwards, "fenced for nothing: {fence:?}");
            self.barred = self.barred.max(fence.seen);
        }
    }

    fn observe(&mut self, counter: u64, floor: u64) {
        let fence = self.dispenser.fence();
        self.dispenser.observed(counter, floor);
        let ahead = fence.is_none_or(|fence| counter >= fence.seen);
        assert!(
            ahead || self.dispenser.fence().is_some(),
            "the fence came down at {counter}"
        );
        assert!(counter >= floor || self.dispenser.fence().is_some());
    }

    /// Takes out of the FIFO what can leave it, in the order in which the event loop does it.
    fn serve(&mut self, now: Instant) {
        loop {
            self.serve_from_front();
            let Some((client, refusal)) = self.dispenser.next_refused() else {
                break;
            };
            let waiting: u64 = self.waiting.iter().map(|request| request.count).sum();
            let room = self.room();
            match refusal {
                Refusal::Fenced => assert!(self.dispenser.fence().is_some()),
                Refusal::NumbersExhausted => assert!(waiting > room, "{self:?}"),
                Refusal::QueueFull => panic!("only a new request is refused for that"),
            }
            let position = self
                .waiting
                .iter()
                .position(|request| request.client == client);
            self.waiting
                .remove(position.expect("a refused request has waited"));
        }
        while let Some(client) = self.dispenser.next_expired(now) {
            let request = self.leave_front(client);
            assert!(request.deadline <= now, "{request:?} expired early");
        }
        while self.waiting.len() > self.dispenser.waiting_requests() {
            let gone = self
                .waiting
                .pop_front()
                .expect("more wait than in the FIFO");
            assert!(!gone.present, "{gone:?} was forgotten");
        }
        let waiting: u64 = self.waiting.iter().map(|request| request.count).sum();
        let room = self.room();
        assert!(
            waiting <= room + self.dispenser.reserve_tickets(),
            "some wait in vain"
        );
        if let Some(front) = self.waiting.front() {
            assert!(front.deadline > now, "{front:?} waits for ever");
            let wake_at = self.dispenser.wake_at(now).expect("someone waits");
            assert!(wake_at <= front.deadline);
        }
    }

    /// Base ids that may be left: what is in flight may have been seen committed already.
    fn room(&self) -> u64 {
        let coming = self.jobs.iter().map(|job| match job.kind {
            Kind::Reserve(count) => count,
            Kind::Read => 0,
        });
        let last = self.numbering.last_base();
        let left = last.saturating_sub(self.dispenser.floor());
        left + coming.sum::<u64>()
    }

    fn serve_from_front(&mut self) {
        let present: Vec<usize> = self
            .waiting
            .iter()
            .filter(|request| request.present)
            .map(|request| request.client)
            .collect();
        while let Some(grant) = self
            .dispenser
            .next_grant(|client| present.contains(&client))
        {
            assert!(
                self.dispenser.fence().is_none(),
                "tickets from behind the fence"
            );
            let request = self.leave_front(grant.client);
            assert!(request.present, "tickets for {request:?}");
            assert_eq!((grant.run.increment, grant.run.count), (1, request.count));
            for index in 0..request.count {
                let base = grant.run.ticket(index) - self.numbering.starting_offset() + 2;
                self.grant(base);
            }
        }
    }

    fn grant(&mut self, base: u64) {
        let last = self.granted.last();
        assert!(
            last.is_none_or(|&last| last < base),
            "{base} follows on {last:?}"
        );
        assert!(
            base > self.barred,
            "{base} is not above what was seen before the fence"
        );
        let committed = |block: &Block| block.first <= base && base <= block.last;
        assert!(
            self.committed.iter().any(committed),
            "{base} was not committed"
        );
        self.granted.insert(base);
        self.fresh.push(base);
    }

    /// The front leaves; those in front of it that had gone away have left without a word.
    fn leave_front(&mut self, client: usize) -> Request {
        loop {
            let front = self.waiting.pop_front().expect("someone waits");
            if front.client == client {
                return front;
            }
            assert!(!front.present, "{client} overtook {front:?}");
        }
    }

    fn order(&mut self, now: Instant) {
        while let Some(Reservation { id, count }) = self.dispenser.next_reservation(now) {
            self.ask(Job {
                id,
                kind: Kind::Reserve(count),
                floor: self.dispenser.floor(),
                late_at: Some(now + self.late_after),
                opening: Opening::No,
                found: None,
            });
            let in_flight = self.jobs.iter().filter(|job| job.kind != Kind::Read);
            assert!(in_flight.count() <= self.pool);
            let counts = |job: &&Job| self.dispenser.floor_of(job.id).is_some();
            let jobs = self.jobs.iter().filter(counts);
            let coming: u64 = jobs.map(|job| job.coming(now)).sum();
            let waiting: u64 = self.waiting.iter().map(|request| request.count).sum();
            assert!(
                !self.strict || coming <= waiting,
                "{coming} asked for, {waiting} wait"
            );
        }
    }
}

impl Job {
    fn coming(&self, now: Instant) -> u64 {
        match self.kind {
            Kind::Reserve(count) if self.late_at.is_some_and(|late_at| now < late_at) => count,
            Kind::Reserve(_) | Kind::Read => 0,
        }
    }
}
