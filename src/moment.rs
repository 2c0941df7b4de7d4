//! Time as the node counts it: a number that a test can make up, and that goes on while the machine
//! is suspended.
//!
//! `Instant` can do neither: it can't be made from a number, and on Linux it stands still during a
//! suspension, so that a lease would outlive it.

use std::ops::{Add, AddAssign};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment in nanoseconds of `CLOCK_BOOTTIME` (clock_gettime(2)); 0 is the boot of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// Reads the clock.
    pub fn now() -> Moment {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
        Moment(seconds * 1_000_000_000 + nanoseconds)
    }

    /// The moment this many nanoseconds after boot.
    pub const fn from_nanos(nanoseconds: u64) -> Moment {
        Moment(nanoseconds)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero when it is still to come.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Ends at the last moment there is instead of overflowing.
impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Moment(self.0.saturating_add(nanoseconds))
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

/// What a part of the node says when it is asked for its next step: one answer instead of several
/// that must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// This, now.
    Ready(T),
    /// Nothing before this moment, unless something happens.
    At(Moment),
    /// Nothing, until something happens.
    Idle,
}

impl<T> Next<T> {
    /// What is ready, if anything.
    pub fn ready(self) -> Option<T> {
        match self {
            Next::Ready(step) => Some(step),
            Next::At(_) | Next::Idle => None,
        }
    }

    /// The earlier of two answers that have nothing ready.
    pub fn wake(self, other: Option<Moment>) -> Option<Moment> {
        let own = match self {
            Next::Ready(_) => Some(Moment::default()),
            Next::At(at) => Some(at),
            Next::Idle => None,
        };
        own.into_iter().chain(other).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward_and_arithmetic_never_overflows() {
        let before = Moment::now();
        assert!(Moment::now() >= before && before > Moment::default());
        let second = Duration::from_secs(1);
        assert_eq!((before + second).since(before), second);
        assert_eq!(before.since(before + second), Duration::ZERO);
        assert_eq!(
            Moment::from_nanos(u64::MAX) + second,
            Moment::from_nanos(u64::MAX)
        );
    }
}
