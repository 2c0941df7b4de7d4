//! A child process that never outlives us.
//!
//! It runs in a process group of its own, so that Ctrl-C in a terminal reaches only Tickr, which
//! then decides when its server stops. A small shell watches over it: the shell waits for the
//! end of a pipe that only we hold open, and kills the child when we are gone, even by SIGKILL.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::limits;

/// Waits for the end of its input, then kills process `$1`. Not by SIGTERM: a MariaDB that is
/// still starting hangs on it, and a database survives SIGKILL by its nature.
const WATCH: &str = r#"read -r _; kill -KILL "$1""#;

/// A running child and the shell that watches over it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    watcher: Child,
}

impl Process {
    /// Spawns the command in a process group of its own.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Process> {
        let mut child = command.process_group(0).spawn()?;
        let watcher = Command::new("/bin/sh")
            .args(["-c", WATCH, "sh", &child.id().to_string()])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match watcher {
            Ok(watcher) => Ok(Process { child, watcher }),
            Err(error) => {
                end(&mut child)?;
                Err(error)
            }
        }
    }

    /// The child's process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child's exit status, when it has ended. Nothing watches over its id from then on.
    pub(super) fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            end(&mut self.watcher)?;
        }
        Ok(status)
    }

    /// Waits at most `within` for the child to end.
    pub(super) fn wait(&mut self, within: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + within;
        loop {
            let status = self.exited()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            thread::sleep(limits::LOCAL_POLL_INTERVAL);
        }
    }

    /// Sends a signal, unless the child has ended: its id may be another process's by then.
    pub(super) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.exited()?.is_none() {
            kill_process(Pid::from_child(&self.child), signal)?;
        }
        Ok(())
    }

    /// Stops the child (SIGSTOP) and waits at most `within` for its last thread to stand still.
    pub(super) fn pause(&mut self, within: Duration) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        let deadline = Instant::now() + within;
        let child = WaitId::Pid(Pid::from_child(&self.child));
        while waitid(
            child.clone(),
            WaitIdOptions::STOPPED | WaitIdOptions::NOHANG,
        )?
        .is_none()
        {
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(limits::LOCAL_POLL_INTERVAL);
        }
        Ok(())
    }

    /// Ends the child at once (SIGKILL).
    pub(super) fn kill(&mut self) -> io::Result<()> {
        end(&mut self.child)?;
        end(&mut self.watcher)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            log::warn!("cannot end process {}: {error}", self.id());
        }
    }
}

fn end(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Process {
        Process::spawn(Command::new("sleep").arg("600")).expect("sleep starts")
    }

    #[test]
    fn a_child_ends_with_the_pipe_that_only_we_hold() {
        let mut process = sleeper();
        assert_eq!(process.wait(Duration::from_millis(50)).unwrap(), None);
        drop(process.watcher.stdin.take());
        assert!(process.wait(Duration::from_secs(10)).unwrap().is_some());
    }

    #[test]
    fn a_stopped_child_ends_with_the_pipe_too() {
        let mut process = sleeper();
        process.pause(Duration::from_secs(10)).unwrap();
        drop(process.watcher.stdin.take());
        assert!(process.wait(Duration::from_secs(10)).unwrap().is_some());
    }

    #[test]
    fn nothing_is_left_behind() {
        let process = sleeper();
        let pids = [process.child.id(), process.watcher.id()];
        drop(process);
        for pid in pids {
            let pid = Pid::from_raw(pid as i32).unwrap();
            assert!(rustix::process::test_kill_process(pid).is_err());
        }
    }
}
