//! A timer for waits that are shorter than the milliseconds in which the kernel counts while it
//! waits for events (epoll_wait(2)).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::moment::Moment;

/// Makes an event at the moment that it is set to (timerfd_create(2)).
#[derive(Debug)]
pub struct Timer {
    descriptor: OwnedFd,
    due: Option<Moment>,
}

impl Timer {
    /// A timer that is not set; its events carry this token.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Timer> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        SourceFd(&descriptor.as_raw_fd()).register(registry, token, Interest::READABLE)?;
        Ok(Timer {
            descriptor,
            due: None,
        })
    }

    /// Sets it to `due` instead of what it was set to; costs nothing when that is the same.
    pub fn set(&mut self, due: Moment, now: Moment) -> io::Result<()> {
        if self.due == Some(due) {
            return Ok(());
        }
        // A timer set to zero is off.
        let left = due.since(now).max(Duration::from_nanos(1));
        let value = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(left).map_err(io::Error::other)?,
        };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &value)?;
        self.due = Some(due);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll};

    use super::*;

    #[test]
    fn wakes_each_time_that_it_is_set_and_not_before() {
        let mut poll = Poll::new().unwrap();
        let mut timer = Timer::new(poll.registry(), Token(7)).unwrap();
        let mut events = Events::with_capacity(4);
        for _ in 0..3 {
            let now = Moment::now();
            let due = now + Duration::from_micros(300);
            timer.set(due, now).unwrap();
            timer.set(due, now).unwrap();
            let patience = Some(Duration::from_secs(10));
            poll.poll(&mut events, patience).unwrap();
            assert!(Moment::now() >= due);
            let tokens: Vec<Token> = events.iter().map(|event| event.token()).collect();
            assert_eq!(tokens, [Token(7)]);
        }
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
    }
}
