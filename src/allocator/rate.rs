//! How many tickets are asked for in a second, estimated without a float, for the size of the
//! reserve.

use std::time::Duration;

use crate::limits;
use crate::moment::Moment;

/// Requests are counted over windows of this length.
const WINDOW: Duration = Duration::from_millis(100);
/// After this long without demand, some two thirds of the estimate are gone.
const FADING: Duration = Duration::from_secs(1);
/// From one window to the next the estimate may grow by this factor, and by [`GROWTH_MIN`]: a
/// single huge batch says nothing of the next second.
const GROWTH: u64 = 4;
/// Thousandths of tickets a second that the estimate may grow by in any case.
const GROWTH_MIN: u64 = 4_000_000;

/// The recent demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct RateEstimate {
    in_window: u64,
    window_began: Option<Moment>,
    /// Thousandths of tickets a second.
    millis: u64,
}

impl RateEstimate {
    /// This many tickets were asked for.
    pub(super) fn add(&mut self, tickets: u64) {
        self.in_window = self.in_window.saturating_add(tickets);
    }

    /// Takes the window into the estimate once it is over.
    pub(super) fn measure(&mut self, now: Moment) {
        let began = *self.window_began.get_or_insert(now);
        let elapsed = now.since(began);
        if elapsed < WINDOW {
            return;
        }
        let nanoseconds = elapsed.as_nanos();
        let rate = u128::from(self.in_window) * 1_000_000_000_000 / nanoseconds;
        let most = self
            .millis
            .saturating_mul(GROWTH)
            .saturating_add(GROWTH_MIN);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX).min(most);
        self.millis = if rate >= self.millis {
            // Up at once, by halves: who waits for a commit because of a low estimate is a client.
            self.millis + (rate - self.millis).div_ceil(2)
        } else {
            let fallen = u128::from(self.millis - rate) * nanoseconds;
            let fallen = fallen / (nanoseconds + FADING.as_nanos());
            self.millis - u64::try_from(fallen).unwrap_or(self.millis)
        };
        self.in_window = 0;
        self.window_began = Some(now);
    }

    /// The tickets that are asked for in this time, rounded down: who is asked rarely holds none.
    pub(super) fn within(&self, time: Duration) -> u64 {
        let tickets = u128::from(self.millis) * time.as_nanos() / 1_000_000_000_000;
        u64::try_from(tickets)
            .unwrap_or(u64::MAX)
            .min(limits::RESERVE_TICKETS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for `tickets` in each of so many windows.
    fn demand(rate: &mut RateEstimate, from: Moment, windows: u32, tickets: u64) -> Moment {
        let mut now = from;
        for _ in 0..windows {
            rate.measure(now);
            rate.add(tickets);
            now += WINDOW;
        }
        rate.measure(now);
        now
    }

    #[test]
    fn steady_demand_is_found_and_dies_down() {
        let mut rate = RateEstimate::default();
        let now = demand(&mut rate, Moment::from_nanos(1), 20, 1_000);
        let second = rate.within(Duration::from_secs(1));
        assert!((9_900..=10_000).contains(&second), "{second}");
        let now = demand(&mut rate, now, 10, 0);
        let second = rate.within(Duration::from_secs(1));
        assert!((2_000..6_000).contains(&second), "{second}");
        demand(&mut rate, now, 150, 0);
        assert_eq!(rate.within(Duration::from_secs(1)), 0);
    }

    #[test]
    fn the_estimate_rises_to_the_demand_and_not_above_it() {
        let mut rate = RateEstimate::default();
        let mut now = Moment::from_nanos(1);
        let mut before = 0;
        for _ in 0..20 {
            now = demand(&mut rate, now, 1, 1_000);
            let second = rate.within(Duration::from_secs(1));
            assert!((before..=10_000).contains(&second), "{second}");
            before = second;
        }
    }

    #[test]
    fn the_estimate_falls_to_the_demand_and_not_below_it() {
        let mut rate = RateEstimate::default();
        let mut now = demand(&mut rate, Moment::from_nanos(1), 30, 1_000);
        let mut before = rate.within(Duration::from_secs(1));
        for _ in 0..60 {
            now = demand(&mut rate, now, 1, 500);
            let second = rate.within(Duration::from_secs(1));
            assert!((5_000..=before).contains(&second), "{second}");
            before = second;
        }
        assert!(before < 5_100, "{before}");
    }

    #[test]
    fn a_window_ends_at_its_end() {
        let mut rate = RateEstimate::default();
        let now = Moment::from_nanos(1);
        rate.measure(now);
        rate.add(100);
        rate.measure(now + (WINDOW - Duration::from_nanos(1)));
        assert_eq!(rate.within(Duration::from_secs(1)), 0);
        rate.measure(now + WINDOW);
        assert!(rate.within(Duration::from_secs(1)) > 0);
    }

    #[test]
    fn one_huge_batch_is_not_taken_for_a_rate_and_many_are() {
        let mut rate = RateEstimate::default();
        let now = demand(&mut rate, Moment::from_nanos(1), 1, 900_000_000);
        assert!(rate.within(Duration::from_secs(1)) <= 2_000);
        demand(&mut rate, now, 30, 1_000_000);
        assert!(rate.within(Duration::from_secs(1)) > 9_000_000);
    }

    #[test]
    fn rare_requests_ask_for_no_reserve() {
        let mut rate = RateEstimate::default();
        let mut now = Moment::from_nanos(1);
        for _ in 0..50 {
            now = demand(&mut rate, now, 1, 1);
            now = demand(&mut rate, now, 19, 0);
            assert_eq!(rate.within(Duration::from_millis(100)), 0);
        }
    }
}
