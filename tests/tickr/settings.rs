//! The command line: exit code 2 with every mistake named, help that documents every setting, and
//! no secret in what is printed.

use std::net::TcpListener;
use std::process::{Command, Output};

use crate::support::scratch;

const DATABASE: [(&str, &str); 6] = [
    ("TICKR_DATABASE_HOST", "/nonexistent/mysql.sock"),
    ("TICKR_DATABASE_USERNAME", "tickr"),
    ("TICKR_DATABASE_NAME", "tickets"),
    ("TICKR_MAX_NODES", "4"),
    ("TICKR_STARTING_OFFSET", "54313001"),
    ("TICKR_NODE_NUMBER", "0"),
];

/// Every setting of `tickr serve`: its variable, its default, and a value that is wrong.
const SERVE: [(&str, Option<&str>, &str); 29] = [
    ("TICKR_DATABASE_HOST", None, "my db"),
    ("TICKR_DATABASE_PORT", Some("3306"), "0"),
    ("TICKR_DATABASE_USERNAME", None, "a\tb"),
    ("TICKR_DATABASE_PASSWORD", None, "hunter2"),
    ("TICKR_DATABASE_PASSWORD_FILE", None, "/nonexistent/hunter3"),
    ("TICKR_DATABASE_NAME", None, "tickets "),
    ("TICKR_DATABASE_POOL_SIZE", Some("5"), "65"),
    ("TICKR_DATABASE_POOL_TIMEOUT", Some("1"), "soon"),
    ("TICKR_DATABASE_TLS", Some("off"), "on"),
    ("TICKR_DATABASE_TLS_CA", None, "/nonexistent/ca.pem"),
    ("TICKR_DATABASE_PUBLIC_KEY", None, "/nonexistent/key.pem"),
    ("TICKR_FAILOVER", Some("stop"), "go on"),
    ("TICKR_MAX_NODES", None, "0"),
    ("TICKR_STARTING_OFFSET", None, "-5"),
    ("TICKR_NODE_NUMBER", None, "first"),
    ("TICKR_LISTEN", Some("127.0.0.1:8080"), "8080"),
    ("TICKR_SOCKET_MODE", Some("0660"), "0888"),
    ("TICKR_HTTP_AUTH_PASSWORD", None, "hunter4"),
    (
        "TICKR_HTTP_AUTH_PASSWORD_FILE",
        None,
        "/nonexistent/hunter5",
    ),
    ("TICKR_MAX_BATCH", Some("1000000"), "0"),
    ("TICKR_BATCH_FORMAT", Some("array"), "xml"),
    ("TICKR_MAX_CONNECTIONS", Some("10000"), "-1"),
    ("TICKR_IDLE_TIMEOUT", Some("75"), "0"),
    ("TICKR_SHUTDOWN_TIMEOUT", Some("30"), "1e1"),
    ("TICKR_PREFETCH_SECONDS", Some("0.25"), "inf"),
    ("TICKR_STATE_FILE", None, "any path will do"),
    ("TICKR_LOG", Some("info"), "loud"),
    ("TICKR_LOG_FORMAT", Some("text"), "xml"),
    ("TICKR_UNKNOWN", None, "hunter6"),
];

#[test]
fn a_start_with_nothing_names_what_is_required() {
    let output = tickr(&["serve"], &[]);
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    for (variable, _) in DATABASE {
        assert!(errors.contains(&format!("{variable} (--")), "{errors}");
    }
    assert_eq!(errors.matches("is missing").count(), DATABASE.len());
}

#[test]
fn every_bad_setting_is_named_at_once_by_variable_and_by_flag() {
    let variables: Vec<(&str, &str)> = SERVE
        .iter()
        .map(|(variable, _, wrong)| (*variable, *wrong))
        .collect();
    check_all_named(&tickr(&["serve"], &variables));

    let flags: Vec<String> = known()
        .flat_map(|(variable, _, wrong)| [flag(variable), wrong.to_owned()])
        .collect();
    let arguments: Vec<&str> = ["serve"]
        .into_iter()
        .chain(flags.iter().map(String::as_str))
        .collect();
    check_all_named(&tickr(&arguments, &[]));
}

fn check_all_named(output: &Output) {
    let errors = errors(output);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    for (variable, _, _) in known() {
        // Passwords and the state file cannot be wrong here, only the files beside them.
        if !variable.ends_with("PASSWORD") && variable != "TICKR_STATE_FILE" {
            let named = format!("{variable} (--");
            assert!(errors.contains(&named), "{variable} in {errors}");
        }
    }
    assert!(!errors.contains("hunter"), "{errors}");
    assert!(output.stdout.is_empty());
}

#[test]
fn the_flag_wins_over_the_variable_and_empty_counts_as_none() {
    let mut variables = DATABASE.to_vec();
    variables.extend([("TICKR_LOG", ""), ("TICKR_DATABASE_PORT", "0")]);
    let output = tickr(&["db", "check", "--max-nodes", "x"], &variables);
    let errors = errors(&output);
    assert!(
        errors.contains("2 invalid settings; nothing was changed:"),
        "{errors}"
    );
    assert!(
        errors.contains("TICKR_MAX_NODES (--max-nodes) is \"x\""),
        "{errors}"
    );
    let output = tickr(&["db", "check", "--database-port", "1"], &variables);
    assert_eq!(output.status.code(), Some(1), "good settings, no database");
}

#[test]
fn database_commands_require_their_own_settings() {
    let lacking = |arguments: &[&str], variables: &[(&str, &str)], named: &[&str]| {
        let output = tickr(arguments, variables);
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert_eq!(
            errors.matches("; expected ").count(),
            named.len(),
            "{errors}"
        );
        for name in named {
            assert!(errors.contains(name), "{errors}");
        }
    };
    let all = DATABASE.map(|(variable, _)| variable);
    for command in ["create", "check", "migrate"] {
        lacking(&["db", command], &[], &all);
    }
    lacking(
        &["db", "advance", "--past", "-1"],
        &DATABASE,
        &["--past is \"-1\""],
    );
    lacking(
        &["db", "advance", "--margin", "some"],
        &DATABASE,
        &["--margin is \"some\""],
    );
    lacking(
        &["db", "lease"],
        &DATABASE,
        &["--lease-seconds is missing; expected integer, 1 to 3600"],
    );
    lacking(
        &["db", "check", "--table", "orders.id"],
        &DATABASE,
        &["--table is \"orders.id\"; expected DATABASE.TABLE.COLUMN"],
    );
    lacking(&["db", "drop"], &DATABASE[..3], &["--confirm is missing"]);
    let another = ["db", "drop", "--confirm", "tickr"];
    lacking(&another, &DATABASE[..3], &["--confirm is \"tickr\""]);
}

#[test]
fn usage_errors_exit_2() {
    for arguments in [
        &[][..],
        &["db"],
        &["sevre"],
        &["serve", "now"],
        &["serve", "--max-node", "4"],
        &["serve", "--max-nodes"],
        &["db", "create", "--listen", "127.0.0.1:0"],
        &["serve", "--log", "info", "--log", "warn"],
    ] {
        let output = tickr(arguments, &DATABASE);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
    let misspelt = tickr(&["serve", "--database-pasword=hunter2"], &DATABASE);
    assert!(!errors(&misspelt).contains("hunter2"));
}

#[test]
fn help_documents_every_setting() {
    let secrets: Vec<(&str, &str)> = SERVE.map(|(variable, _, _)| (variable, "hunter2")).to_vec();
    let output = tickr(&["serve", "--help"], &secrets);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).expect("the help is UTF-8");
    assert!(!help.contains("hunter2"), "{help}");
    let entries: Vec<String> = help
        .split("\n      --")
        .map(|entry| entry.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for (variable, default, _) in known() {
        let name = flag(variable);
        let entry = entries
            .iter()
            .find(|entry| entry.starts_with(&format!("{} ", &name[2..])))
            .unwrap_or_else(|| panic!("{name} is documented in {help}"));
        assert!(entry.contains(&format!("[env: {variable}]")), "{entry}");
        match default {
            Some(default) => assert!(entry.contains(&format!("[default: {default}]")), "{entry}"),
            None => assert!(!entry.contains("[default"), "{entry}"),
        }
        let required = DATABASE.iter().any(|(required, _)| *required == variable);
        assert_eq!(entry.contains("[required]"), required, "{entry}");
    }
}

#[test]
fn help_lists_the_commands() {
    let text = |arguments: &[&str]| {
        let output = tickr(arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        String::from_utf8(output.stdout).expect("the help is UTF-8")
    };
    let help = text(&["--help"]);
    for word in [
        "serve",
        "db",
        "dev",
        "decode",
        "Getting started",
        "curl http://127.0.0.1:8080/",
    ] {
        assert!(help.contains(word), "{word} in {help}");
    }
    let help = text(&["db", "--help"]);
    for command in ["create", "check", "migrate", "advance", "lease", "drop"] {
        assert!(help.contains(command), "{command} in {help}");
    }
    let help = text(&["dev", "--help"]);
    for word in ["--mysqld", "[default: .tickr]", "--listen", "[default: 4]"] {
        assert!(help.contains(word), "{word} in {help}");
    }
    let version = text(&["--version"]);
    assert!(
        version.starts_with(concat!("tickr ", env!("CARGO_PKG_VERSION"), " ("))
            && version.contains(std::env::consts::ARCH),
        "{version}"
    );
}

#[test]
fn a_misspelt_variable_is_named_where_it_explains_an_error_and_where_it_does_not() {
    let misspelt = ("TICKR_MAX_NODE", "hunter2");
    let without_nodes: Vec<(&str, &str)> = DATABASE
        .into_iter()
        .filter(|(variable, _)| *variable != "TICKR_MAX_NODES")
        .chain([misspelt])
        .collect();
    let all: Vec<(&str, &str)> = DATABASE.into_iter().chain([misspelt]).collect();
    for (variables, code) in [(without_nodes, 2), (all, 1)] {
        let output = tickr(&["db", "check"], &variables);
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(code), "{errors}");
        let hint = "\"TICKR_MAX_NODE\"; did you mean TICKR_MAX_NODES?";
        assert_eq!(errors.matches(hint).count(), 1, "{errors}");
        assert!(!errors.contains("hunter2"), "{errors}");
    }
    let every = SERVE.iter().map(|(variable, ..)| (*variable, ""));
    let output = tickr(&["db", "check"], &every.collect::<Vec<_>>());
    let errors = errors(&output);
    assert_eq!(errors.matches("unknown environment").count(), 1, "{errors}");
    assert!(errors.contains("\"TICKR_UNKNOWN\"\n"), "{errors}");
}

/// No colours in a pipe, nor with `NO_COLOR` on a terminal.
#[test]
fn colours_are_for_terminals() {
    for arguments in [&["--help"][..], &["serve", "--help"], &["sevre"]] {
        let output = tickr(arguments, &[]);
        let text = [output.stdout, output.stderr].concat();
        assert!(!text.contains(&0x1b), "{arguments:?}");
    }
    let on_a_terminal = |variables: &[(&str, &str)]| {
        let output = Command::new("script")
            .args([
                "-qec",
                concat!(env!("CARGO_BIN_EXE_tickr"), " sevre"),
                "/dev/null",
            ])
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .envs(variables.iter().copied())
            .output()
            .expect("Debian has script(1)");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(on_a_terminal(&[]).contains("\x1b["));
    assert!(!on_a_terminal(&[("NO_COLOR", "1")]).contains("\x1b["));
}

/// The settings of [`SERVE`] that there are.
fn known() -> impl Iterator<Item = (&'static str, Option<&'static str>, &'static str)> {
    SERVE
        .into_iter()
        .filter(|(variable, _, _)| *variable != "TICKR_UNKNOWN")
}

fn flag(variable: &str) -> String {
    let name = variable.trim_start_matches("TICKR_");
    format!("--{}", name.to_lowercase().replace('_', "-"))
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs the program with these variables as its whole environment.
fn tickr(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tickr"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .expect("the program starts")
}

#[test]
fn addresses_that_exclude_each_other_are_told_from_another_program() {
    let folder = scratch();
    let path = folder.path().display();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("it is bound").port();
    let serve = |listen: &str| {
        let output = tickr(&["serve", "--listen", listen], &DATABASE);
        (output.status.code(), errors(&output))
    };
    let (code, errors) = serve(&format!("127.0.0.1:{port}"));
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("stop the program that uses it"), "{errors}");
    drop(free);
    for listen in [
        format!("127.0.0.1:{port},localhost:{port}"),
        format!("0.0.0.0:{port},127.0.0.1:{port}"),
        format!("unix:{path}/s,unix:{path}/./s"),
    ] {
        let (code, errors) = serve(&listen);
        assert_eq!(code, Some(2), "{listen}: {errors}");
        assert!(errors.contains("exclude each other"), "{listen}: {errors}");
        assert!(!errors.contains("stop the program"), "{listen}: {errors}");
    }
}
