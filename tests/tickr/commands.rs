//! `tickr db …` against a real server: what each command prints, and the exit codes.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use crate::support::{options, scratch, start};

/// Runs `tickr db` with four nodes and returns its exit code and everything that it printed.
fn db(socket: &Path, arguments: &[&str]) -> (Option<i32>, String) {
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
        assert!(said.contains("can't be written"), "{said}");
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
    // The ticket of base id 102, and a margin of a million base ids.
    db(
        &["advance", "--past", "54313401"],
        0,
        "open at base id 1000102",
    );
    db(&["check"], 0, "last ticket       58313401");
    db(&["check", "--max-nodes", "5"], 1, "max_nodes=5");
    db(&["create", "--max-nodes", "5"], 2, "max_nodes=4");
    db(&["drop", "--confirm", "tickets"], 2, "--confirm is");
    db(&["check"], 0, "ready to serve");
    db(&["drop", "--confirm", "tick-`ets"], 0, ": dropped");
    db(&["check"], 1, "tickr db create");
}
