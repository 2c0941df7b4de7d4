//! What both worlds share of a history: its outcome, its stage, its record, and why a process takes
//! a turn.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tickr::moment::Moment;
use tickr::ticket::Numbering;

use crate::agenda::Agenda;
use crate::backend::{Answer, Flight};
use crate::checker::{Lawful, broken};
use crate::counts::Counts;
use crate::tape::Tape;

/// When histories begin.
pub const START: Moment = Moment::from_nanos(1_000_000_000_000);

/// How tickets are numbered: rarely so that they come to an end.
pub fn numbering(tape: &mut Tape<'_>) -> Numbering {
    let numbering = match tape.chance(24) {
        true => Numbering::new(u64::MAX / 700, 5, 3),
        false => Numbering::new(tape.pick(&[1, 10, 1000]), tape.pick(&[0, 7]), 0),
    };
    numbering.expect("made up well")
}

/// What became of a history.
pub struct History {
    pub verdict: Lawful,
    pub record: Record,
    /// How often an operator had to advance before everybody served.
    pub advances: usize,
}

/// What a history is played on: its tape, its clock, what is to come and what has been.
pub struct Stage<'a> {
    pub tape: Tape<'a>,
    pub now: Moment,
    pub agenda: Agenda<Due>,
    /// Faults have ended.
    pub calm: bool,
    pub record: Record,
}

/// What is to happen.
#[derive(Clone, Debug)]
pub enum Due {
    /// A process asks to be woken, in an incarnation.
    Wake(usize, u64),
    Execute(Flight),
    ReadBack(Flight, Option<u64>),
    Answer(Answer),
    /// An operator goes on.
    Operate(u64),
    /// The name is pointed to this server, if it is still the primary.
    Name(usize),
    /// Bytes of a client arrive.
    Arrive(usize, Vec<u8>),
    Fin(usize),
    Reset(usize),
}

impl<'a> Stage<'a> {
    pub fn new(tape: Tape<'a>, traced: bool) -> Stage<'a> {
        Stage {
            tape,
            now: START,
            agenda: Agenda::default(),
            calm: false,
            record: Record::new(traced),
        }
    }

    pub fn plan(&mut self, at: Moment, due: Due) {
        self.agenda.plan(at, due);
    }

    pub fn count(&mut self, name: &'static str) {
        self.record.counts.count(name);
    }

    /// Notes what happens, for whoever reads the history, and in the digest.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        self.record.note(self.now, self.agenda.planned(), text);
    }
}

/// What happened.
pub struct Record {
    pub steps: u64,
    pub counts: Counts,
    /// Of all that happened, in its order.
    pub digest: u64,
    /// For whoever reads the history.
    pub trace: Option<Vec<String>>,
}

impl Record {
    pub fn new(traced: bool) -> Record {
        Record {
            steps: 0,
            counts: Counts::default(),
            digest: 0,
            trace: traced.then(Vec::new),
        }
    }

    pub fn mix(&mut self, value: u64) {
        let mixed = self.digest ^ value;
        self.digest = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
    }

    /// Something happens, after so many plans.
    pub fn note(&mut self, now: Moment, planned: u64, text: impl FnOnce() -> String) {
        self.mix(now.as_nanos() ^ planned.rotate_left(32));
        if let Some(trace) = &mut self.trace {
            let nanos = now.as_nanos() - START.as_nanos();
            let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000 / 1_000);
            trace.push(format!("{seconds:>4}.{rest:06} {}", text()));
        }
    }
}

/// Why a process takes a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Something has come.
    Stimulus,
    /// It has asked to be woken.
    Wake,
    /// Nothing: the loop was woken for something else.
    Poke,
}

/// An assertion that fails breaks this law.
pub fn caught(law: &'static str, run: impl FnOnce() -> Lawful) -> Lawful {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| said.to_string()));
        broken(law, said.unwrap_or_default())
    })
}
