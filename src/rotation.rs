//! A password file that is read again, so that a rotated one holds without a restart.
//!
//! A thread of its own reads it, as the event loop waits for no disk.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;

use crate::limits;
use crate::secret::{Secret, SecretSource};

/// Reads the HTTP password's file once a second until it is dropped.
#[derive(Debug)]
pub struct Rotation {
    changes: Receiver<Secret>,
    /// Its other end notices the drop.
    _running: Sender<()>,
}

impl Rotation {
    /// Starts the thread, which calls `wake` after each change.
    pub fn start(
        source: SecretSource,
        mut current: Secret,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> io::Result<Rotation> {
        let (sender, changes) = mpsc::channel();
        let (running, stopped) = mpsc::channel::<()>();
        let work = move || {
            let mut failed = false;
            while stopped.recv_timeout(limits::FILES_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let read = source.read_for_http();
                match &read {
                    Ok(secret) if *secret != current => {
                        current = secret.clone();
                        log::info!("the HTTP password was read again from its changed file");
                        let _ = sender.send(current.clone());
                        wake();
                    }
                    Err(error) if !failed => log::warn!(
                        "the file of the HTTP password {error}; the last password that was read \
                         still holds. Correct TICKR_HTTP_AUTH_PASSWORD_FILE's file"
                    ),
                    _ => {}
                }
                failed = read.is_err();
            }
        };
        thread::Builder::new()
            .name("tickr-password".to_owned())
            .spawn(work)?;
        Ok(Rotation {
            changes,
            _running: running,
        })
    }

    /// The newest password, if it has changed since the last call.
    pub fn changed(&self) -> Option<Secret> {
        self.changes.try_iter().last()
    }
}
