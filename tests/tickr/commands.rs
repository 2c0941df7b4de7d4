//! Commands against real servers: what each one prints, its exit codes, and what signals do.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::fs::{CWD, Mode, OFlags, fcntl_setfl, mkfifoat};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Database, Kind, Tickr, run, wait_until};
use crate::support::{options, scratch, start};

/// Runs `tickr db` with four nodes and returns its exit code and everything that it printed.
fn db(socket: &Path, arguments: &[impl AsRef<OsStr>]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tickr"))
        .arg("db")
        .args(arguments)
        .env_clear()
        .env("TICKR_DATABASE_HOST", socket)
        .env("TICKR_DATABASE_USERNAME", "tickr")
        .env("TICKR_DATABASE_PASSWORD", "tickr")
        .env("TICKR_DATABASE_NAME", "tick-`ets")
        .env("TICKR_MAX_NODES", "4")
        .env("TICKR_STARTING_OFFSET", "54313001")
        .env("TICKR_NODE_NUMBER", "0")
        .output()
        .expect("the program starts");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// As on a full disk: what was to be printed is lost, and the caller must know.
#[test]
fn output_that_cannot_be_written_is_a_failure() {
    for arguments in [&["completions", "bash"][..], &["completions", "zsh"]] {
        let full = File::options().write(true).open("/dev/full");
        let output = Command::new(env!("CARGO_BIN_EXE_tickr"))
            .args(arguments)
            .stdout(full.expect("Linux has it"))
            .output()
            .expect("the program starts");
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("cannot write output"), "{said}");
    }
}

/// The system's own words for a shortage do not say what to do about it.
#[test]
fn a_shortage_at_the_start_says_what_to_raise() {
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 6; exec \"$0\" serve"])
        .arg(env!("CARGO_BIN_EXE_tickr"))
        .env_clear()
        .env("TICKR_DATABASE_HOST", "/nowhere")
        .env("TICKR_DATABASE_USERNAME", "tickr")
        .env("TICKR_DATABASE_NAME", "tickr")
        .env("TICKR_MAX_NODES", "1")
        .env("TICKR_STARTING_OFFSET", "1")
        .env("TICKR_NODE_NUMBER", "0")
        .env("TICKR_LISTEN", "127.0.0.1:0")
        .output()
        .expect("the shell starts");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Too many open files"), "{said}");
    assert!(said.contains("ulimit -n"), "{said}");
}

/// As from <(COMMAND) in a shell: there is nothing behind it when it is read again.
#[test]
fn a_password_can_come_from_a_pipe() {
    let folder = scratch();
    let server = start(options(folder.path()));
    let output = Command::new("sh")
        .args(["-c", "echo tickr | \"$0\" db create"])
        .arg(env!("CARGO_BIN_EXE_tickr"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TICKR_DATABASE_HOST", server.socket())
        .env("TICKR_DATABASE_USERNAME", "tickr")
        .env("TICKR_DATABASE_PASSWORD_FILE", "/dev/stdin")
        .env("TICKR_DATABASE_NAME", "tickr")
        .env("TICKR_MAX_NODES", "1")
        .env("TICKR_STARTING_OFFSET", "1")
        .env("TICKR_NODE_NUMBER", "0")
        .output()
        .expect("the shell starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// What is read again for every connection is a regular file: a pipe would be waited for, and
/// `/dev/zero` would fill the memory.
#[test]
fn a_pem_file_that_is_none_is_refused_at_once() {
    let folder = scratch();
    let pipe = folder.path().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("the folder is ours");
    for flag in ["--database-tls-ca", "--database-public-key"] {
        for path in [&pipe, folder.path(), Path::new("/dev/zero")] {
            let arguments = [OsStr::new("check"), flag.as_ref(), path.as_ref()];
            let (exit, text) = db(Path::new("/nowhere"), &arguments);
            assert_eq!(exit, Some(2), "{text}");
            assert!(text.contains("cannot be opened"), "{text}");
        }
    }
}

#[test]
fn an_operator_creates_checks_advances_and_drops() {
    let folder = scratch();
    let server = start(options(folder.path()));
    let db = |arguments: &[&str], code, words: &str| {
        let (exit, text) = db(server.socket(), arguments);
        assert_eq!(exit, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{text:?}");
    };
    db(&["check"], 1, "tickr db create");
    db(&["create"], 0, ": created the database");
    db(&["create"], 0, "nothing to do");
    db(&["check"], 0, "ready to serve");
    db(&["migrate"], 0, "InnoDB");
    // The ticket of base id 102: the next one is above it.
    db(
        &["advance", "--past", "54313401", "--margin", "0"],
        0,
        "open at base id 102",
    );
    db(&["check"], 0, "last ticket       54313401");
    db(&["check", "--json"], 0, "\"last_ticket\":54313401");
    let column = ["check", "--json", "--table", "tick-`ets.tickets.id"];
    db(&column, 0, "\"name\":\"tick-`ets.tickets.id\"");
    let (_, line) = self::db(server.socket(), &column);
    let report: serde_json::Value = serde_json::from_str(&line).expect("one object");
    assert_eq!(report["column"]["highest"], 102, "{line}");
    db(&["lease", "--lease-seconds", "1"], 0, "the lease is 1 s");
    // A margin of a million base ids.
    db(&["advance"], 0, "open at base id 1000102");
    db(
        &["check", "--json", "--max-nodes", "5"],
        1,
        "\"problems\":[\"",
    );
    db(&["check", "--max-nodes", "5"], 1, "max_nodes=5");
    db(&["create", "--max-nodes", "5"], 2, "max_nodes=4");
    db(&["drop", "--confirm", "tickets"], 2, "--confirm is");
    db(&["check"], 0, "ready to serve");
    db(&["drop", "--confirm", "tick-`ets"], 0, ": dropped");
    db(&["check"], 1, "tickr db create");
}

/// Runs `tickr decode` for a cluster of four.
fn decode(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tickr"))
        .arg("decode")
        .args(arguments)
        .env_clear()
        .env("TICKR_MAX_NODES", "4")
        .env("TICKR_STARTING_OFFSET", "54313001")
        .output()
        .expect("the program starts")
}

#[test]
fn a_ticket_is_decoded() {
    let text = decode(&["54313403"]);
    assert_eq!(text.status.code(), Some(0));
    let text = String::from_utf8_lossy(&text.stdout);
    assert_eq!(
        text,
        "ticket    54313403\nnode      2 of 4\nbase id   102\n"
    );
    for (ticket, code, expected) in [
        (
            "54313403",
            0,
            r#""base_id":102,"node_number":2,"possible":true"#,
        ),
        (
            "54313000",
            1,
            r#""base_id":null,"node_number":null,"possible":false"#,
        ),
    ] {
        let output = decode(&["--json", ticket]);
        let line = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{line}");
        assert!(line.contains(expected), "{line}");
        serde_json::from_str::<serde_json::Value>(&line).expect("JSON");
    }
    for bad in [&[][..], &["x"], &["18446744073709551616"], &["-1"]] {
        let output = decode(bad);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("TICKET is "), "{errors}");
    }
    let above = decode(&["18446744073709551616"]);
    let errors = String::from_utf8_lossy(&above.stderr);
    assert!(errors.contains("which is too large"), "{errors}");
}

#[test]
fn signals_of_log_rotation_and_of_reload_do_no_harm() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for signal in [Signal::USR1, Signal::USR2, Signal::HUP] {
        tickr.signal(signal);
        let answer = tickr.connect(Kind::Tcp).ask("GET /livez HTTP/1.1");
        assert_eq!(answer.status, 200);
    }
    tickr.stop();
}

/// The same of `tickr dev`, whose MySQL server must outlive them as well.
#[test]
fn signals_do_no_harm_to_a_private_server() {
    let folder = scratch();
    let mut dev = Command::new(env!("CARGO_BIN_EXE_tickr"))
        .args(["dev", "--listen", "unix:tickr.sock"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let stdout = dev.stdout.take().expect("its standard output is a pipe");
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("Tickr is ready")));
    let pid = Pid::from_child(&dev);
    for signal in [Signal::USR1, Signal::USR2, Signal::TERM] {
        kill_process(pid, signal).expect("the process is ours");
    }
    // The end of its output: nobody is left who holds it.
    lines.for_each(drop);
    let status = dev.wait().expect("the process is ours");
    assert_eq!(status.code(), Some(0), "{status}");
}

#[test]
fn whoever_watches_gets_tickets_through_a_failover_and_an_outage_until_ctrl_c() {
    let database = Database::create();
    let (first, second) = (Tickr::serve(&database), Tickr::serve(&database));
    let servers =
        [&first, &second].map(|tickr| format!("--server=unix:{}", tickr.unix().display()));
    let mut watch = Command::new(env!("CARGO_BIN_EXE_tickr"))
        .args([
            "get",
            "2",
            "--watch",
            "--interval",
            "0.05",
            "--timeout",
            "60",
        ])
        .args(servers)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let stdout = watch.stdout.take().expect("its standard output is a pipe");
    let mut tickets = BufReader::new(stdout).lines().map_while(Result::ok);
    let mut all: Vec<String> = tickets.by_ref().take(6).collect();
    first.stop();
    all.extend(tickets.by_ref().take(6));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 12, "{all:?}");
    second.stop();
    let stderr = watch.stderr.take().expect("its standard error is a pipe");
    let mut errors = BufReader::new(stderr).lines().map_while(Result::ok);
    for _ in 0..2 {
        assert!(errors.any(|line| line.contains("no server issued tickets")));
    }
    kill_process(Pid::from_child(&watch), Signal::INT).expect("the process is ours");
    let status = watch.wait().expect("the process is ours");
    assert_eq!(status.signal(), Some(Signal::INT.as_raw()), "{status}");
}

/// As a terminal that ssh or Node.js shares with the program.
#[test]
fn output_that_does_not_block_is_waited_for() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let (mut reader, writer) = std::io::pipe().expect("ours");
    fcntl_setfl(&writer, OFlags::NONBLOCK).expect("ours");
    let mut get = Command::new(env!("CARGO_BIN_EXE_tickr"))
        .args(["get", "100000", "--timeout", "60", "--server"])
        .arg(format!("unix:{}", tickr.unix().display()))
        .stdout(writer)
        .spawn()
        .expect("the program starts");
    // A pipe takes 64 KiB.
    wait_until("the pipe is full", || {
        ioctl_fionread(&reader).is_ok_and(|count| count > 60_000)
    });
    let mut tickets = String::new();
    reader.read_to_string(&mut tickets).expect("it is UTF-8");
    let status = get.wait().expect("the process is ours");
    assert_eq!((status.code(), tickets.lines().count()), (Some(0), 100_000));
}

/// `head` has seen enough.
#[test]
fn a_watch_without_a_reader_ends() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let server = format!("unix:{}", tickr.unix().display());
    let get = ["get", "--watch", "--interval", "0.01", "--server", &server];
    let mut watch = Command::new(env!("CARGO_BIN_EXE_tickr"))
        .args(get)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(watch.stdout.take());
    let status = watch.wait().expect("the process is ours");
    assert_eq!(status.code(), Some(0), "{status}");
    // A pause that nothing waits for is a mistake.
    let output = run(&["get", "--interval", "1", "--server", &server], &[]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("--interval has no effect without --watch"),
        "{said}"
    );
}

#[test]
fn much_work_shows_its_progress_on_a_terminal_alone() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let folder = scratch();
    let file = folder.path().join("tickets");
    let program = env!("CARGO_BIN_EXE_tickr");
    let get = |count: u64| {
        let server = format!("--timeout 60 --server unix:{}", tickr.unix().display());
        let line = format!("{program} get {count} {server} > {}", file.display());
        let output = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .output()
            .expect("Debian has script(1)");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{shown}");
        shown
    };
    // More than the server issues at once.
    let shown = get(1_000_001);
    assert!(shown.contains("\r50 % of 1000001 tickets"), "{shown}");
    assert!(
        shown.trim_end().ends_with("\r100 % of 1000001 tickets"),
        "{shown}"
    );
    let tickets = std::fs::read_to_string(&file).expect("a file of tickets");
    let mut tickets: Vec<&str> = tickets.lines().collect();
    tickets.dedup();
    assert_eq!(tickets.len(), 1_000_001);
    assert_eq!(get(10), "");
    tickr.stop();
}
