//! The group-commit window of strict mode: clients that have just been served often ask again at
//! once, and one commit can serve them all.

use std::time::Duration;

use crate::moment::Moment;

/// The next reservation waits for them for at most this multiple of what a reservation takes, since
/// the last one landed.
const LATENCIES_MAX: u32 = 3;
/// One in this many of them is not waited for: the last ones come while the commit is under way.
const LEFT_BEHIND: usize = 8;
/// One such interval without a newcomer ends it.
const PAUSE_MAX: Duration = Duration::from_micros(100);

/// What tells whether more requests are about to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Window {
    /// Requests that waited when the last block landed: so many clients are at work.
    crowd: usize,
    landed: Option<Moment>,
    /// While a reservation is held back: until when, and how many requests waited then.
    held: Option<(Moment, usize)>,
}

impl Window {
    /// A block has arrived for this many requests.
    pub(super) fn landed(&mut self, crowd: usize, now: Moment) {
        *self = Window {
            crowd,
            landed: Some(now),
            held: None,
        };
    }

    /// A reservation goes out.
    pub(super) fn close(&mut self) {
        self.held = None;
    }

    /// Until when to hold a reservation back because it will serve more requests a little later.
    /// What this costs the first of them is bounded by what a reservation takes; what it saves is
    /// a commit for a few.
    pub(super) fn holds_until(
        &mut self,
        waiting: usize,
        latency: Duration,
        now: Moment,
    ) -> Option<Moment> {
        let enough = self.crowd - self.crowd / LEFT_BEHIND;
        let may = waiting < enough
            && self
                .landed
                .is_some_and(|landed| now < landed + latency * LATENCIES_MAX);
        let held = match self.held {
            Some((until, _)) if may && until > now => self.held,
            Some((_, before)) if waiting <= before => None,
            _ => may.then_some((now + PAUSE_MAX, waiting)),
        };
        self.held = held;
        held.map(|(until, _)| until)
    }
}
