//! The README, as a new user follows it: its commands are typed, and answer what it says.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::harness::wait_until;
use crate::support::scratch;

/// A private MySQL server makes its data first.
const PATIENCE: Duration = Duration::from_secs(120);

/// The released program where `make test` has built it, else the one that is tested.
fn program() -> PathBuf {
    let released = env::var_os("TICKR_RELEASED").map(PathBuf::from);
    released.unwrap_or_else(|| env!("CARGO_BIN_EXE_tickr").into())
}

/// `tickr dev` at work in a folder. Dropping it kills it, and its MySQL server with it.
struct Dev {
    child: Child,
    lines: Receiver<String>,
    /// The commands that it told its user to type.
    curl: Vec<String>,
}

impl Dev {
    /// Types it as the README says, but for the port, which may be taken.
    fn start(folder: &Path) -> Dev {
        let mut child = Command::new(program())
            .arg("dev")
            .current_dir(folder)
            .env("TICKR_LISTEN", "127.0.0.1:0,unix:.tickr/tickr.sock")
            .env("TICKR_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = child.stdout.take().expect("its standard output is a pipe");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines
                .map_while(|line| sender.send(line).ok())
                .for_each(drop);
        });
        let mut dev = Dev {
            child,
            lines,
            curl: Vec::new(),
        };
        while dev.curl.len() < 2 {
            let line = dev.lines.recv_timeout(PATIENCE).expect("it becomes ready");
            if line.trim_start().starts_with("curl ") {
                dev.curl.push(line.trim().to_owned());
            }
        }
        dev
    }

    /// Stops it by Ctrl-C.
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("the process is ours");
        let status = self.child.wait().expect("the process is ours");
        assert_eq!(status.code(), Some(0));
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a shell in the folder prints.
fn shell(folder: &Path, line: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", &format!("{line} --silent --show-error --fail")])
        .current_dir(folder)
        .output()
        .expect("there is a shell");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
    String::from_utf8(output.stdout).expect("the answer is UTF-8")
}

#[test]
fn the_first_commands_of_the_readme_answer_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("there is a README");
    let typed: Vec<&str> = readme
        .lines()
        .filter(|line| line.starts_with("curl "))
        .collect();
    let [tcp, unix] = typed[..] else {
        panic!("one curl line for each kind of socket, not {typed:?}");
    };
    let makefile = fs::read_to_string(root.join("Makefile")).expect("there is a Makefile");
    assert!(readme.contains("\nmake run\n") && makefile.contains("target/quick/tickr dev"));

    let folder = scratch();
    let dev = Dev::start(folder.path());
    let tcp_here = &dev.curl[0];
    let address = tcp_here.split('/').nth(2).expect("an address");
    assert_eq!(*tcp_here, tcp.replace("127.0.0.1:8080", address));
    let of_tcp = shell(folder.path(), tcp_here);
    let of_unix = shell(folder.path(), unix);
    for answer in [&of_tcp, &of_unix] {
        assert!(
            readme.contains(&format!("`{answer}`")),
            "{answer} is not in the README"
        );
    }
    // The line that the program prints works as well.
    let next = shell(folder.path(), &dev.curl[1]);
    assert_eq!(next, "[25,29,33,37,41]");

    assert!(folder.path().join(".tickr/mysql").is_dir());
    let server = child_of(dev.child.id());
    dev.stop();
    wait_until("its MySQL server has stopped", || {
        test_kill_process(server).is_err()
    });
    assert!(!folder.path().join(".tickr/tickr.sock").exists());

    let dev = Dev::start(folder.path());
    let next = shell(folder.path(), &dev.curl[0]);
    // A moment's demand may have been reserved ahead, so the next ticket need not be 45.
    let ticket: Option<u64> = next
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']')?.parse().ok());
    assert!(
        ticket.is_some_and(|ticket| ticket > 41),
        "a second run continues after the first: {next}"
    );
    dev.stop();
}

#[test]
fn a_private_server_that_is_killed_is_started_again() {
    let folder = scratch();
    let dev = Dev::start(folder.path());
    let server = child_of(dev.child.id());
    kill_process(server, Signal::KILL).expect("the process is our child's");
    wait_until("its end has been noticed", || {
        test_kill_process(server).is_err()
    });
    let line = format!("{} --silent --fail", dev.curl[0]);
    wait_until("tickets are issued again", || {
        let status = Command::new("sh").args(["-c", &line]).status();
        status.expect("there is a shell").success()
    });
    dev.stop();
}

/// The MySQL server that is a child of this process.
fn child_of(parent: u32) -> Pid {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(path).expect("the process runs");
    let server = children.split_ascii_whitespace().find(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.starts_with("mariadbd") || name.starts_with("mysqld")
    });
    let pid = server.and_then(|pid| pid.parse().ok());
    pid.and_then(Pid::from_raw)
        .expect("it has started a server")
}
