//! What systemd is told (sd_notify(3)): that the server is ready, that it stops, and again and
//! again that its event loop turns. Without systemd, nobody is told anything.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::limits;
use crate::moment::Moment;

/// Speaks to the service manager that started this process.
#[derive(Debug)]
pub struct Notifier {
    ready: bool,
    /// The last message did not arrive, and that has been logged.
    failed: bool,
    watchdog: Option<Watchdog>,
}

/// The service manager kills a process that it does not hear from.
#[derive(Debug)]
struct Watchdog {
    interval: Duration,
    due: Moment,
}

impl Notifier {
    /// Reads what the service manager asks for from the environment.
    pub fn from_environment(now: Moment) -> Notifier {
        let watchdog = sd_notify::watchdog_enabled().map(|timeout| Watchdog {
            // As sd_watchdog_enabled(3) recommends, but not in a busy loop.
            interval: (timeout / 2).max(limits::POLL_RESOLUTION),
            due: now,
        });
        Notifier {
            ready: false,
            failed: false,
            watchdog,
        }
    }

    /// The server has begun to stop.
    pub fn stopping(&mut self) {
        self.say(NotifyState::Stopping);
    }

    /// The event loop has come round, and has started once the database was tried.
    pub fn turned(&mut self, now: Moment, has_started: bool) {
        if has_started && !std::mem::replace(&mut self.ready, true) {
            self.say(NotifyState::Ready);
        }
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.due <= now
        {
            watchdog.due = now + watchdog.interval;
            self.say(NotifyState::Watchdog);
        }
    }

    /// When the service manager wants to hear from the event loop next.
    pub fn wake_at(&self) -> Option<Moment> {
        self.watchdog.as_ref().map(|watchdog| watchdog.due)
    }

    fn say(&mut self, state: NotifyState<'_>) {
        let said = sd_notify::notify(&[state]);
        if let Err(error) = &said
            && !self.failed
        {
            log::warn!(
                "cannot notify systemd ({error}); it may consider the service hung and restart \
                 it. Check that NOTIFY_SOCKET can be reached"
            );
        }
        self.failed = said.is_err();
    }
}
