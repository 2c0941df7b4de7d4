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
        let end = self.landed.map(|landed| landed + latency * LATENCIES_MAX);
        let end = end.filter(|end| waiting < enough && now < *end);
        let held = match self.held {
            Some((until, _)) if end.is_some() && until > now => self.held,
            Some((_, before)) if waiting <= before => None,
            _ => end.map(|end| (end.min(now + PAUSE_MAX), waiting)),
        };
        self.held = held;
        held.map(|(until, _)| until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Duration = Duration::from_millis(1);

    fn at(microseconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(60) + Duration::from_micros(microseconds)
    }

    /// A block has just landed for 20 clients.
    fn landed() -> Window {
        let mut window = Window::default();
        window.landed(20, at(0));
        window
    }

    #[test]
    fn a_crowd_that_was_just_served_is_waited_for_but_for_the_last_of_it() {
        assert_eq!(landed().holds_until(17, LATENCY, at(0)), Some(at(100)));
        assert_eq!(landed().holds_until(18, LATENCY, at(0)), None);
        assert_eq!(landed().holds_until(1, LATENCY, at(2999)), Some(at(3000)));
        assert_eq!(landed().holds_until(1, LATENCY, at(3000)), None);
        assert_eq!(Window::default().holds_until(0, LATENCY, at(0)), None);
    }

    #[test]
    fn it_goes_on_as_long_as_somebody_comes() {
        let mut window = landed();
        window.holds_until(5, LATENCY, at(0));
        // The interval stays where it is, whoever comes in it.
        assert_eq!(window.holds_until(5, LATENCY, at(50)), Some(at(100)));
        assert_eq!(window.holds_until(7, LATENCY, at(99)), Some(at(100)));
        assert_eq!(window.holds_until(7, LATENCY, at(100)), Some(at(200)));
        assert_eq!(window.holds_until(7, LATENCY, at(200)), None);
        // Enough of them are here, in the middle of an interval.
        let mut window = landed();
        window.holds_until(5, LATENCY, at(0));
        assert_eq!(window.holds_until(18, LATENCY, at(50)), None);
    }

    #[test]
    fn it_ends_with_its_bound_in_the_middle_of_an_interval() {
        let latency = Duration::from_micros(10);
        let mut window = landed();
        assert_eq!(window.holds_until(5, latency, at(0)), Some(at(30)));
        assert_eq!(window.holds_until(5, latency, at(40)), None);
    }

    #[test]
    fn a_reservation_or_another_block_begins_it_anew() {
        let mut window = landed();
        window.holds_until(5, LATENCY, at(0));
        window.close();
        assert_eq!(window.holds_until(5, LATENCY, at(50)), Some(at(150)));
        window.landed(2, at(60));
        assert_eq!(window.holds_until(5, LATENCY, at(60)), None);
        assert_eq!(window.holds_until(1, LATENCY, at(70)), Some(at(170)));
    }
}
