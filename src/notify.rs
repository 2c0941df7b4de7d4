//! What systemd is told (sd_notify(3)): that the server is ready, that it stops, and again and
//! again that its event loop turns. Without systemd, nobody is told anything.
//!
//! A service manager that is stopped or hangs reads nothing. The event loop does not wait for it,
//! as `sd_notify::notify` would once the manager's queue is full.

use std::env;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
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
        let _ = self.say(NotifyState::Stopping);
    }

    /// The event loop has come round, and has started once the database was tried.
    pub fn turned(&mut self, now: Moment, has_started: bool) {
        if has_started && !self.ready {
            // The start counts as failed without it, so a full queue is tried again.
            self.ready = self.say(NotifyState::Ready) != Err(ErrorKind::WouldBlock);
        }
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.due <= now
        {
            watchdog.due = now + watchdog.interval;
            let _ = self.say(NotifyState::Watchdog);
        }
    }

    /// When the service manager wants to hear from the event loop next.
    pub fn wake_at(&self) -> Option<Moment> {
        self.watchdog.as_ref().map(|watchdog| watchdog.due)
    }

    fn say(&mut self, state: NotifyState<'_>) -> Result<(), ErrorKind> {
        let said = send(&state);
        if let Err(error) = &said
            && !self.failed
        {
            log::warn!(
                "cannot notify systemd ({error}); it may consider the service hung and restart \
                 it. Check that NOTIFY_SOCKET can be reached"
            );
        }
        self.failed = said.is_err();
        said.map_err(|error| error.kind())
    }
}

fn send(state: &NotifyState<'_>) -> io::Result<()> {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let manager = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.to_string().as_bytes(), &manager)?;
    Ok(())
}
