//! What systemd is told (sd_notify(3)): that the server is ready, that it stops, and again and
//! again that its event loop turns. Without systemd, nobody is told anything.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Speaks to the service manager that started this process.
#[derive(Debug)]
pub struct Notifier {
    ready: bool,
    watchdog: Option<Watchdog>,
}

/// The service manager kills a process that it does not hear from.
#[derive(Debug)]
struct Watchdog {
    interval: Duration,
    due: Instant,
}

impl Notifier {
    /// Reads what the service manager asks for from the environment.
    pub fn from_environment(now: Instant) -> Notifier {
        let watchdog = sd_notify::watchdog_enabled().map(|timeout| Watchdog {
            // As sd_watchdog_enabled(3) recommends.
            interval: timeout / 2,
            due: now,
        });
        Notifier {
            ready: false,
            watchdog,
        }
    }

    /// Whether [`Notifier::ready`] has been said.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// The server serves.
    pub fn ready(&mut self) {
        self.ready = true;
        say(NotifyState::Ready);
    }

    /// The server has begun to stop.
    pub fn stopping(&self) {
        say(NotifyState::Stopping);
    }

    /// The event loop has come round.
    pub fn turned(&mut self, now: Instant) {
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.due <= now
        {
            watchdog.due = now + watchdog.interval;
            say(NotifyState::Watchdog);
        }
    }

    /// When the service manager wants to hear from the event loop next.
    pub fn wake_at(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.due)
    }
}

fn say(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::warn!(
            "systemd can't be told how the server is ({error}); it may take it for hung and \
             restart it. Check that NOTIFY_SOCKET can be reached"
        );
    }
}
