//! What a server asks of its process: signals, and open files.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use tickr::limits;

/// Open files beside those of connections: the listeners, epoll, the log.
const OTHER_FILES: u64 = 64;

/// The end of a socket that becomes readable when the process is asked to stop. A second signal
/// ends the process at once.
pub(crate) fn stop_signals() -> io::Result<UnixStream> {
    let (stop, sender) = UnixStream::pair()?;
    let asked_before = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&asked_before))?;
        flag::register(signal, Arc::clone(&asked_before))?;
        low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    Ok(stop)
}

/// Whoever sends a signal that asks other servers to reload or to reopen their logs means no harm.
pub(crate) fn ignore(signals: &[i32]) -> io::Result<()> {
    for signal in signals {
        flag::register(*signal, Arc::default())?;
    }
    Ok(())
}

/// Many connections need many open files, and shells allow few.
pub(crate) fn raise_open_files_limit(connections: usize, pool_size: usize) {
    let wanted = (connections + limits::CONNECTIONS_OVER_MAX + pool_size) as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    let raised = limit.maximum.map_or(wanted, |most| most.min(wanted));
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let outcome = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(raised),
            ..limit
        },
    );
    if outcome.is_err() || raised < wanted {
        log::warn!(
            "the open file limit ({raised}) is too low for {connections} connections \
             (TICKR_MAX_CONNECTIONS); raise it to {wanted} (ulimit -n, LimitNOFILE)"
        );
    }
}
