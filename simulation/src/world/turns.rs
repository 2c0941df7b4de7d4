//! What the event loop of a process does in a turn, and what must hold after it.

use tickr::allocator::{self, Closing, Event, Refusal, Verdict};
use tickr::counter::Task;
use tickr::moment::Next;

use super::{STEPS_PER_TURN_MAX, World};
use crate::checker::{Lawful, broken};
use crate::history::{Cause, Due};

impl World<'_> {
    /// What the event loop does: completions out, jobs out, and when to come again.
    pub(super) fn turn(&mut self, process: usize, cause: Cause) -> Lawful {
        let now = self.stage.now;
        let own = &self.processes[process];
        let planned = own.wake;
        let before = (cause == Cause::Wake).then(|| own.allocator.clone());
        let (mut completions, mut jobs) = (0, 0);
        let wake = loop {
            if completions + jobs > STEPS_PER_TURN_MAX {
                return broken("no busy loop", "it never comes to rest");
            }
            let own = &mut self.processes[process];
            let verdict = label(&own.allocator.verdict(now));
            let completion = own.allocator.next_completion(now);
            if let Next::Ready(completion) = completion {
                completions += 1;
                let after = label(&own.allocator.verdict(now));
                self.stage.count(name_of(&completion.answer));
                let (issued, lease) = (&mut self.issued, self.backend.lease);
                own.witness
                    .on_completion(&completion, [verdict, after], issued, lease, now)?;
                let party = &mut self.backend.parties[process];
                party.issued_high = party.issued_high.max(own.witness.issued_high);
                self.stage
                    .note(|| format!("process {process}: {completion:?}"));
                continue;
            }
            let job = own.allocator.next_job(now);
            if let Next::Ready(job) = job {
                jobs += 1;
                let is_early = cause == Cause::Poke && planned.is_none_or(|at| at > now);
                let reserves = matches!(job.task, Task::Reserve { .. });
                // With prefetch, looking at the demand more often changes what is wanted.
                if is_early && (!reserves || own.options.prefetch.is_zero()) {
                    return broken("no lost wake", format!("{job:?} would have come later"));
                }
                self.issue(process, job)?;
                continue;
            }
            break job.wake(completion.wake(None));
        };
        if cause == Cause::Poke && completions > 0 && planned.is_none_or(|at| at > now) {
            return broken("no lost wake", "a completion would have come later");
        }
        if wake.is_some_and(|at| at <= now) {
            return broken("no busy loop", format!("at {now:?} it asks for {wake:?}"));
        }
        let own = &mut self.processes[process];
        // A few may be in vain, when what they were for can no longer be done; more are a loop.
        own.idle_wakes = match before {
            Some(before) if completions + jobs == 0 && before == own.allocator => {
                own.idle_wakes + 1
            }
            _ => 0,
        };
        if own.idle_wakes > 4 {
            return broken("a wake-up changes something", format!("not at {now:?}"));
        }
        let memory = own.allocator.memory();
        own.witness.on_step(memory)?;
        self.backend.parties[process].remember(memory);
        let verdict = own.allocator.verdict(now);
        let name = label(&verdict);
        if let Verdict::Closed(closed) = verdict {
            self.stage.count(reason(&closed.why));
        }
        self.stage.count(verdict_name(name));
        if name == "serving" && !own.witness.has_seen_it_open() {
            return broken(
                "the verdict is true",
                "serving, and the row was not seen open",
            );
        }
        if name == "serving" && !own.allocator.status().database_up {
            return broken("the verdict is true", "serving, and the database is down");
        }
        while let Some(event) = own.allocator.next_event() {
            if let Some(name) = event_name(&event) {
                self.stage.count(name);
            }
        }
        if own.wake != wake {
            own.wake = wake;
            let incarnation = self.backend.parties[process].incarnation;
            if let Some(at) = wake {
                self.stage.plan(at, Due::Wake(process, incarnation));
            }
        }
        Ok(())
    }
}

pub(super) fn label(verdict: &Verdict<'_>) -> &'static str {
    match verdict {
        Verdict::Serving => "serving",
        Verdict::Degraded(_) => "degraded",
        Verdict::Starting => "starting",
        Verdict::Unavailable(_) => "unavailable",
        Verdict::Closed(_) => "closed",
        Verdict::Misfit(_) => "misfit",
        Verdict::Exhausted => "exhausted",
    }
}

pub(super) fn verdict_name(label: &str) -> &'static str {
    match label {
        "serving" => "verdict: serving",
        "degraded" => "verdict: degraded",
        "starting" => "verdict: starting",
        "unavailable" => "verdict: unavailable",
        "closed" => "verdict: closed",
        "misfit" => "verdict: misfit",
        _ => "verdict: exhausted",
    }
}

pub(super) fn name_of(answer: &allocator::Answer) -> &'static str {
    use allocator::Answer::{Refused, Status, Tickets};
    match answer {
        Tickets(_) => "answer: tickets",
        Status => "answer: status",
        Refused(Refusal::TimedOut) => "answer: timed out",
        Refused(Refusal::QueueFull) => "answer: queue full",
        Refused(Refusal::NumbersExhausted) => "answer: exhausted",
        Refused(Refusal::Unavailable) => "answer: unavailable",
    }
}

pub(super) fn reason(why: &Closing) -> &'static str {
    match why {
        Closing::Behind { .. } => "closing: behind",
        Closing::Marked { .. } => "closing: marked",
        Closing::OtherServer { .. } => "closing: other server",
        Closing::ByOperator => "closing: by operator",
        Closing::Unowned => "closing: unowned",
        Closing::ReadOnly => "closing: read-only",
    }
}

pub(super) fn event_name(event: &Event) -> Option<&'static str> {
    match event {
        Event::Available(_) => Some("event: available"),
        Event::Unavailable(_) => Some("event: unavailable"),
        Event::Closed(_) => Some("event: closed"),
        Event::Opened => Some("event: opened"),
        Event::Misfit(_) => Some("event: misfit"),
        Event::Dropped(_) => Some("event: dropped"),
        Event::Exhausted => Some("event: exhausted"),
        _ => None,
    }
}
