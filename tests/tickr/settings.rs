//! The command line: exit code 2 with every mistake named, help that documents every setting, and
//! no secret in what is printed.

use std::process::{Command, Output};

const DATABASE: [(&str, &str); 6] = [
    ("TICKR_DATABASE_HOST", "/nonexistent/mysql.sock"),
    ("TICKR_DATABASE_USERNAME", "tickr"),
    ("TICKR_DATABASE_NAME", "tickets"),
    ("TICKR_MAX_NODES", "4"),
    ("TICKR_STARTING_OFFSET", "54313001"),
    ("TICKR_NODE_NUMBER", "0"),
];

/// Every setting of `tickr serve`: its variable, its default, and a value that is wrong.
const SERVE: [(&str, Option<&str>, &str); 25] = [
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
    ("TICKR_SHUTDOWN_TIMEOUT", Some("30"), "1e1"),
    ("TICKR_PREFETCH_SECONDS", Some("0"), "inf"),
    ("TICKR_LOG", Some("info"), "loud"),
    ("TICKR_LOG_FORMAT", Some("text"), "xml"),
    ("TICKR_UNKNOWN", None, "is not looked at"),
];

#[test]
fn a_start_with_nothing_names_what_is_insisted_on() {
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
        // The passwords themselves cannot be wrong here, only the files beside them.
        if !variable.ends_with("PASSWORD") {
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
    assert!(errors.contains("2 mistakes"), "{errors}");
    assert!(
        errors.contains("TICKR_MAX_NODES (--max-nodes) is \"x\""),
        "{errors}"
    );
    let output = tickr(&["db", "check", "--database-port", "1"], &variables);
    assert_eq!(output.status.code(), Some(1), "good settings, no database");
}

#[test]
fn database_commands_insist_on_their_own_settings() {
    let lacking = |arguments: &[&str], variables: &[(&str, &str)], named: &[&str]| {
        let output = tickr(arguments, variables);
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert_eq!(
            errors.matches("it should be").count(),
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
    lacking(&["db", "advance"], &DATABASE, &["--past is missing"]);
    lacking(
        &["db", "advance", "--past", "-1"],
        &DATABASE,
        &["--past is \"-1\""],
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
        let insisted_on = DATABASE.iter().any(|(insisted, _)| *insisted == variable);
        assert_eq!(entry.contains("[insisted on]"), insisted_on, "{entry}");
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
        "Getting started",
        "curl http://127.0.0.1:8080/",
    ] {
        assert!(help.contains(word), "{word} in {help}");
    }
    let help = text(&["db", "--help"]);
    for command in ["create", "check", "migrate", "advance", "drop"] {
        assert!(help.contains(command), "{command} in {help}");
    }
    let help = text(&["dev", "--help"]);
    for word in ["--mysqld", "[default: .tickr]", "--listen", "[default: 4]"] {
        assert!(help.contains(word), "{word} in {help}");
    }
    assert_eq!(
        text(&["--version"]),
        concat!("tickr ", env!("CARGO_PKG_VERSION"), "\n")
    );
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
