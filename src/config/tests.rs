//! Each setting with good and bad values, all mistakes at once, and no secret anywhere.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::process;

use proptest::prelude::*;

use super::*;
use crate::limits;
use crate::logging;
use crate::settings::{Absent, Row};

fn serve_rows() -> Vec<&'static Row> {
    let rows = rows(Config::read);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// What is required and nothing else.
const LEAST: [(&str, &str); 6] = [
    ("database-host", "db.example"),
    ("database-username", "tickr"),
    ("database-name", "tickets"),
    ("max-nodes", "4"),
    ("starting-offset", "54313001"),
    ("node-number", "3"),
];

fn lookup(values: &[(&str, &str)]) -> impl Fn(&Row) -> Option<OsString> + use<> {
    let values: HashMap<String, OsString> = LEAST
        .iter()
        .chain(values)
        .map(|(flag, value)| (flag.to_string(), OsString::from(value)))
        .collect();
    move |row| values.get(row.flag).cloned()
}

fn read(values: &[(&str, &str)]) -> Result<Config, Mistakes> {
    super::read(&lookup(values), Config::read)
}

/// The flags that the mistakes name, in order.
fn wrong_flags(mistakes: &Mistakes) -> Vec<&'static str> {
    let wrong = mistakes.mistakes.iter();
    wrong.map(|mistake| mistake.row.flag).collect()
}

#[test]
fn the_least_that_is_required() {
    let config = read(&[]).unwrap();
    let database = &config.database;
    assert_eq!(database.host, tcp("db.example", 3306));
    assert_eq!(
        (database.username.as_str(), database.name.as_str()),
        ("tickr", "tickets")
    );
    assert_eq!(database.password.read().expose(), "");
    assert_eq!(database.timeout, Duration::from_secs(1));
    assert_eq!(database.tls, Tls::Off);
    assert_eq!(config.pool_size, 5);
    assert_eq!(config.pool_timeout, Duration::from_secs(1));
    assert_eq!(
        config.numbering,
        Numbering::new(4, 54_313_001, 3).expect("good settings")
    );
    assert_eq!(config.listen, [Address::Tcp("127.0.0.1:8080".to_owned())]);
    assert_eq!(config.socket_mode, 0o660);
    assert_eq!(config.auth_password, None);
    assert_eq!(config.max_batch, 1_000_000);
    assert_eq!(config.batch_format, array::Format::Array);
    assert_eq!(config.max_connections, 10_000);
    assert_eq!(config.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(config.idle_timeout, limits::IDLE_TIMEOUT);
    assert_eq!(config.prefetch_seconds, 0.25);
    assert_eq!(config.state_file, None);
    assert_eq!(config.database.failover, Failover::Stop);
    assert_eq!(config.database.public_key, None);
    assert_eq!(config.logging.filter, "info".parse().unwrap());
    assert_eq!(config.logging.format, logging::Format::Text);
}

#[test]
fn an_empty_value_counts_as_none() {
    let empty: Vec<(&str, &str)> = serve_rows()
        .into_iter()
        .filter(|row| !matches!(row.absent, Absent::Required(_)))
        .map(|row| (row.flag, ""))
        .collect();
    assert_eq!(
        format!("{:?}", read(&empty).unwrap()),
        format!("{:?}", read(&[]).unwrap())
    );
    let missing = read(&LEAST.map(|(flag, _)| (flag, ""))).unwrap_err();
    assert_eq!(wrong_flags(&missing), LEAST.map(|(flag, _)| flag));
    assert!(
        missing
            .mistakes
            .iter()
            .all(|mistake| mistake.problem == "is missing")
    );
}

/// A setting, a good value, and whether the value arrived.
type Good = (&'static str, &'static str, fn(&Config) -> bool);

#[test]
fn good_values_arrive() {
    let good: &[Good] = &[
        ("database-host", "10.0.0.7", |c| {
            c.database.host == tcp("10.0.0.7", 3306)
        }),
        ("database-host", "::1", |c| {
            c.database.host == tcp("::1", 3306)
        }),
        ("database-host", "[::1]", |c| {
            c.database.host == tcp("::1", 3306)
        }),
        ("database-host", "my_db-1.internal.", |c| {
            c.database.host == tcp("my_db-1.internal.", 3306)
        }),
        ("database-host", "/run/my sql.sock", |c| {
            c.database.host == Host::Socket("/run/my sql.sock".into())
        }),
        ("database-port", "65535", |c| {
            c.database.host == tcp("db.example", 65535)
        }),
        ("database-username", "o'neil @ %", |c| {
            c.database.username == "o'neil @ %"
        }),
        ("database-password", " =pass\"word, ü\n", |c| {
            c.database.password.read().expose() == " =pass\"word, ü\n"
        }),
        ("database-name", "odd `name`-ü", |c| {
            c.database.name == "odd `name`-ü"
        }),
        ("database-tls", "required", |c| {
            c.database.tls == Tls::Required
        }),
        ("database-tls", "verify", |c| {
            c.database.tls == Tls::Verify { ca: None }
        }),
        ("database-pool-size", "64", |c| c.pool_size == 64),
        ("database-pool-timeout", "0.25", |c| {
            c.pool_timeout == Duration::from_millis(250)
                && c.database.timeout == Duration::from_millis(250)
        }),
        ("max-nodes", "18446744073709551615", |c| {
            c.numbering.max_nodes() == u64::MAX
        }),
        ("starting-offset", "0", |c| {
            c.numbering.starting_offset() == 0
        }),
        ("starting-offset", "18446744073709551612", |c| {
            c.numbering.starting_offset() == u64::MAX - 3
        }),
        ("node-number", "00", |c| c.numbering.node_number() == 0),
        ("listen", "0.0.0.0:0, [::1]:8080,unix:/run/t.sock", |c| {
            c.listen
                == [
                    Address::Tcp("0.0.0.0:0".to_owned()),
                    Address::Tcp("[::1]:8080".to_owned()),
                    Address::Unix("/run/t.sock".into()),
                ]
        }),
        ("socket-mode", "0777", |c| c.socket_mode == 0o777),
        ("socket-mode", "600", |c| c.socket_mode == 0o600),
        ("http-auth-password", "päss:word", |c| {
            c.auth_password.as_ref().unwrap().expose() == "päss:word"
        }),
        ("max-batch", "1", |c| c.max_batch == 1),
        ("batch-format", "range", |c| {
            c.batch_format == array::Format::Range
        }),
        ("batch-format", "string", |c| {
            c.batch_format == array::Format::String
        }),
        ("failover", "continue", |c| {
            c.database.failover == Failover::Continue
        }),
        ("idle-timeout", "86400", |c| {
            c.idle_timeout == Duration::from_secs(86_400)
        }),
        ("state-file", "/var/lib/tickr/state", |c| {
            c.state_file == Some("/var/lib/tickr/state".into())
        }),
        ("max-connections", "1000000", |c| {
            c.max_connections == 1_000_000
        }),
        ("shutdown-timeout", "0", |c| {
            c.shutdown_timeout == Duration::ZERO
        }),
        ("shutdown-timeout", "3600.0", |c| {
            c.shutdown_timeout == Duration::from_secs(3600)
        }),
        ("prefetch-seconds", "2.5", |c| c.prefetch_seconds == 2.5),
        ("log", "warn,tickr::server=debug", |c| {
            c.logging.filter == "warn,tickr::server=debug".parse().unwrap()
        }),
        ("log-format", "json", |c| {
            c.logging.format == logging::Format::Json
        }),
    ];
    for (flag, value, arrived) in good {
        let config = read(&[(flag, value)]).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert!(arrived(&config), "--{flag} {value:?}");
    }
}

/// Bad values of every setting that can be wrong by itself.
const BAD: &[(&str, &[&str])] = &[
    (
        "database-host",
        &[
            "db:3306",
            "[::1]:3306",
            "[::1",
            "[10.0.0.7]",
            "run/mysql.sock",
            "my db",
            "mysql://db",
            "-x",
            "db\n",
        ],
    ),
    (
        "database-port",
        &[
            "0", "65536", "-1", "+1", "0x10", " 3306", "3306 ", "3.0", "١",
        ],
    ),
    ("database-username", &["ti\u{0}ckr", "tickr\n"]),
    ("database-name", &["tickets ", "tick\tets"]),
    ("database-tls", &["on", "OFF", "true", "verify "]),
    (
        "database-pool-size",
        &["0", "65", "five", "5.0", "99999999999999999999999999"],
    ),
    (
        "database-pool-timeout",
        &[
            "0", "0.009", "300.1", "1s", "-1", "+1", "1e1", "inf", "nan", ".5", "1.", "1,5",
            "1.2.3",
        ],
    ),
    ("max-nodes", &["0", "-4", "18446744073709551616", "1_000"]),
    (
        "starting-offset",
        &["-1", "18446744073709551613", "18446744073709551616", "1e6"],
    ),
    ("node-number", &["4", "-1", "one"]),
    (
        "listen",
        &[
            "8080",
            "127.0.0.1",
            "::1:8080",
            "127.0.0.1:65536",
            "unix:",
            ":80",
            ",",
            "a:+1",
        ],
    ),
    (
        "socket-mode",
        &["0888", "1777", "66", "00660", "0o660", "rw-", "-660"],
    ),
    ("max-batch", &["0", "1000000001", "-5", "1k"]),
    ("batch-format", &["strings", "Array", "json"]),
    ("max-connections", &["0", "1000001", "many"]),
    ("failover", &["yes", "Stop", "continue,stop"]),
    ("idle-timeout", &["0.9", "86401", "-1", "1h"]),
    ("shutdown-timeout", &["3600.001", "-1", "1m", "infinity"]),
    ("prefetch-seconds", &["3601", "-0.5", "NaN", "off"]),
    ("log", &["inof", "info,", "tickr=loud"]),
    ("log-format", &["JSON", "logfmt"]),
];

#[test]
fn bad_values_are_named() {
    for (flag, values) in BAD {
        for value in *values {
            let mistakes = read(&[(flag, value)]).unwrap_err();
            let flags = wrong_flags(&mistakes);
            assert!(
                !flags.is_empty() && flags.iter().all(|wrong| wrong == flag),
                "{flag} {value:?}: {mistakes}"
            );
            let variable = format!("TICKR_{}", flag.to_uppercase().replace('-', "_"));
            let text = mistakes.to_string();
            assert!(text.contains(&format!("{variable} (--{flag}) ")), "{text}");
            assert!(text.contains("; expected "), "{text}");
        }
    }
}

#[test]
fn the_wrong_value_is_repeated_but_not_at_length_and_never_a_url() {
    let text = |value: &str| read(&[("max-nodes", value)]).unwrap_err().to_string();
    assert!(text("fo\nur").contains(r#" is "fo\nur"; "#));
    let long = text(&"9".repeat(1000));
    let shown = long.matches('9').count();
    assert!((80..100).contains(&shown), "{shown} digits shown");
    let url = "mysql://root:hunter2@db/tickets";
    let mistakes = read(&[("database-host", url)]).unwrap_err();
    assert!(!mistakes.to_string().contains("hunter2"), "{mistakes}");
}

#[test]
fn bytes_that_are_not_utf_8_are_a_mistake() {
    let flags = BAD.iter().map(|(flag, _)| *flag);
    for flag in flags.chain(["database-password", "http-auth-password"]) {
        let least = lookup(&[]);
        let given = |row: &Row| match row.flag == flag {
            true => Some(OsString::from_vec(b"hunter2\xff".to_vec())),
            false => least(row),
        };
        let mistakes = super::read(&given, Config::read).unwrap_err();
        assert_eq!(wrong_flags(&mistakes), [flag]);
        let shown = mistakes.to_string().contains("hunter2");
        assert_eq!(shown, !flag.ends_with("password"), "{mistakes}");
    }
}

#[test]
fn every_mistake_is_named_at_once() {
    let all_bad: Vec<(&str, &str)> = BAD
        .iter()
        .map(|(flag, values)| (*flag, values[values.len() - 1]))
        .chain([
            ("database-password-file", "/nonexistent/a"),
            ("database-tls-ca", "/nonexistent/b"),
            ("database-public-key", "/nonexistent/d"),
            ("http-auth-password-file", "/nonexistent/c"),
        ])
        .collect();
    let mut named = wrong_flags(&read(&all_bad).unwrap_err());
    let mut given: Vec<&str> = all_bad.iter().map(|(flag, _)| *flag).collect();
    named.dedup();
    named.sort_unstable();
    given.sort_unstable();
    assert_eq!(named, given);

    // Passwords and the path of a file to be made are valid whatever they are.
    let free = ["database-password", "http-auth-password", "state-file"];
    let mut all: Vec<&str> = serve_rows()
        .into_iter()
        .map(|row| row.flag)
        .filter(|flag| !free.contains(flag))
        .collect();
    all.sort_unstable();
    assert_eq!(
        named, all,
        "each setting that can be wrong has a bad value here"
    );
}

#[test]
fn ranges_are_as_the_help_states() {
    let ranges: [(Row, u64, u64); 6] = [
        (
            settings::DATABASE_POOL_SIZE.row,
            1,
            limits::POOL_SIZE_MAX as u64,
        ),
        (settings::MAX_BATCH.row, 1, limits::BATCH_MAX),
        (
            settings::MAX_CONNECTIONS.row,
            1,
            limits::CONNECTIONS_MAX as u64,
        ),
        (settings::IDLE_TIMEOUT.row, 1, 86_400),
        (settings::SHUTDOWN_TIMEOUT.row, 0, 3600),
        (settings::PREFETCH_SECONDS.row, 0, 3600),
    ];
    for (row, min, max) in ranges {
        let expects = row.expects();
        assert!(expects.contains(&format!(", {min} to {max}")), "{expects}");
        for good in [min, max] {
            assert!(read(&[(row.flag, &good.to_string())]).is_ok());
        }
        assert!(read(&[(row.flag, &(max + 1).to_string())]).is_err());
    }
    let timeout = settings::DATABASE_POOL_TIMEOUT.row;
    let (min, max) = (limits::POOL_TIMEOUT_MIN, limits::POOL_TIMEOUT_MAX);
    let stated = format!(", {} to {}", min.as_secs_f64(), max.as_secs_f64());
    assert!(timeout.expects().contains(&stated));
    for good in [min, max] {
        let value = good.as_secs_f64().to_string();
        assert_eq!(read(&[(timeout.flag, &value)]).unwrap().pool_timeout, good);
    }
    let name = settings::DATABASE_NAME.row;
    let longest = "ü".repeat(limits::DATABASE_NAME_CHARS_MAX);
    assert!(
        name.expects()
            .contains(&format!("1 to {}", longest.chars().count()))
    );
    assert!(read(&[(name.flag, &longest)]).is_ok());
    assert!(read(&[(name.flag, &format!("{longest}a"))]).is_err());
    let listen = settings::LISTEN.row;
    let most = vec!["a:1"; limits::LISTENERS_MAX].join(",");
    assert!(
        listen
            .expects()
            .contains(&limits::LISTENERS_MAX.to_string())
    );
    assert_eq!(
        read(&[(listen.flag, &most)]).unwrap().listen.len(),
        limits::LISTENERS_MAX
    );
    assert!(read(&[(listen.flag, &format!("{most},a:1"))]).is_err());
}

#[test]
fn flag_and_variable_are_two_spellings_of_one_name() {
    let mut seen = HashMap::new();
    for row in serve_rows() {
        let spelt = format!("TICKR_{}", row.flag.to_uppercase().replace('-', "_"));
        assert_eq!(row.variable(), Some(spelt));
        assert!(seen.insert(row.flag, ()).is_none(), "{}", row.flag);
    }
}

#[test]
fn numbering_is_checked_as_far_as_it_is_known() {
    let node_alone = read(&[("node-number", "4"), ("starting-offset", "x")]).unwrap_err();
    assert_eq!(wrong_flags(&node_alone), ["starting-offset", "node-number"]);
    let offset = u64::MAX.to_string();
    let no_nodes = read(&[("max-nodes", "0"), ("starting-offset", &offset)]).unwrap_err();
    assert_eq!(wrong_flags(&no_nodes), ["max-nodes", "starting-offset"]);
}

#[test]
fn several_bad_addresses_are_all_named() {
    let mistakes = read(&[("listen", "here,127.0.0.1:1,there")]).unwrap_err();
    let text = mistakes.to_string();
    assert!(
        text.contains("\"here\"") && text.contains("\"there\""),
        "{text}"
    );
    assert!(!text.contains("127.0.0.1:1\""), "{text}");
}

#[test]
fn a_secret_file_loses_one_newline() {
    for (content, secret) in [
        ("pass word", "pass word"),
        ("pass\n", "pass"),
        ("pass\r\n", "pass"),
        ("pass \n\n", "pass \n"),
        ("", ""),
        ("\n", ""),
    ] {
        let file = ScratchFile::new(content.as_bytes());
        let config = read(&[("database-password-file", file.path())]).unwrap();
        assert_eq!(
            config.database.password.read().expose(),
            secret,
            "{content:?}"
        );
    }
    let longest = "x".repeat(limits::SECRET_FILE_BYTES_MAX as usize);
    let file = ScratchFile::new(longest.as_bytes());
    assert!(read(&[("http-auth-password-file", file.path())]).is_ok());
}

#[test]
fn a_bad_secret_file_is_a_mistake() {
    let too_long = "x".repeat(limits::SECRET_FILE_BYTES_MAX as usize + 1);
    for (flag, content) in [
        ("database-password-file", too_long.as_bytes()),
        ("database-password-file", b"\xff"),
        ("http-auth-password-file", too_long.as_bytes()),
        ("http-auth-password-file", b""),
        ("http-auth-password-file", b"\n"),
        ("http-auth-password-file", b"two\n\n"),
    ] {
        let file = ScratchFile::new(content);
        let mistakes = read(&[(flag, file.path())]).unwrap_err();
        assert_eq!(wrong_flags(&mistakes), [flag]);
        assert!(!mistakes.to_string().contains("two"), "{mistakes}");
    }
    let mistakes = read(&[("http-auth-password", "a\u{7f}b")]).unwrap_err();
    assert_eq!(wrong_flags(&mistakes), ["http-auth-password"]);
    for flag in ["database-password", "http-auth-password"] {
        let file = ScratchFile::new(b"hunter2");
        let from_file = format!("{flag}-file");
        let both = read(&[(flag, "hunter3"), (&from_file, file.path())]).unwrap_err();
        assert_eq!(wrong_flags(&both), [from_file.as_str()]);
        assert!(!both.to_string().contains("hunter"), "{both}");
        // A password in the place of a path is not shown either.
        let misplaced = read(&[(&from_file, "hunter2")]).unwrap_err();
        assert_eq!(wrong_flags(&misplaced), [from_file.as_str()]);
        assert!(!misplaced.to_string().contains("hunter2"), "{misplaced}");
    }
}

#[test]
fn tls_settings_fit_together() {
    let ca = ScratchFile::new(b"-----BEGIN CERTIFICATE-----");
    let verify = read(&[("database-tls", "verify"), ("database-tls-ca", ca.path())]).unwrap();
    let path = Some(PathBuf::from(ca.path()));
    assert_eq!(verify.database.tls, Tls::Verify { ca: path });
    for mode in ["off", "required"] {
        let mistakes = read(&[("database-tls", mode), ("database-tls-ca", ca.path())]).unwrap_err();
        assert_eq!(wrong_flags(&mistakes), ["database-tls-ca"]);
    }
    let mistakes = read(&[("database-tls", "required"), ("database-host", "/a")]).unwrap_err();
    assert_eq!(wrong_flags(&mistakes), ["database-tls"]);
    assert!(read(&[("database-tls", "off"), ("database-host", "/a")]).is_ok());
}

#[test]
fn dev_requires_nothing() {
    let dev = super::read(&|_| None, DevConfig::read).unwrap();
    assert_eq!(dev.mysqld, None);
    assert_eq!(dev.data_dir, PathBuf::from(".tickr"));
    let socket = Path::new("/tmp/mysql.sock");
    let config = dev.serve(socket, "someone", "hunter2");
    assert_eq!(config.numbering, Numbering::new(4, 1, 0).unwrap());
    assert_eq!(config.database.host, Host::Socket(socket.to_owned()));
    assert_eq!(config.database.username, "someone");
    assert_eq!(config.database.password.read().expose(), "hunter2");
    assert_eq!(config.database.name, "tickr");
    assert_eq!(config.state_file, Some(".tickr/tickr.state".into()));
    assert_eq!(
        config.listen,
        [
            Address::Tcp("127.0.0.1:8080".to_owned()),
            Address::Unix(".tickr/tickr.sock".into()),
        ]
    );

    let honoured = lookup(&[
        ("data-dir", "/tmp/elsewhere"),
        ("mysqld", "/opt/mysqld"),
        ("database-host", "not looked at"),
        ("max-batch", "7"),
        ("listen", "127.0.0.1:0"),
        ("state-file", "/tmp/state"),
    ]);
    let dev = super::read(&honoured, DevConfig::read).unwrap();
    assert_eq!(dev.mysqld, Some("/opt/mysqld".into()));
    assert_eq!(dev.data_dir, PathBuf::from("/tmp/elsewhere"));
    assert_eq!(
        dev.serve.numbering,
        Numbering::new(4, 54_313_001, 3).unwrap()
    );
    assert_eq!(dev.serve.max_batch, 7);
    assert_eq!(dev.serve.state_file, Some("/tmp/state".into()));
    assert_eq!(dev.serve.listen, [Address::Tcp("127.0.0.1:0".to_owned())]);

    let bad = lookup(&[("max-nodes", "0"), ("listen", "x"), ("log", "loud")]);
    let mistakes = super::read(&bad, DevConfig::read).unwrap_err();
    assert_eq!(wrong_flags(&mistakes), ["max-nodes", "listen", "log"]);
}

#[test]
fn database_commands_check_what_they_use() {
    let irrelevant = [
        ("max-batch", "0"),
        ("listen", "x"),
        ("database-pool-size", "0"),
    ];
    assert!(super::read(&lookup(&irrelevant), DatabaseConfig::read).is_ok());
    let nothing = super::read(&|_| None, DatabaseConfig::read).unwrap_err();
    assert_eq!(wrong_flags(&nothing), LEAST.map(|(flag, _)| flag));

    let advance = |past| super::read(&lookup(&[("past", past)]), AdvanceConfig::read);
    assert_eq!(advance("0").unwrap().past, Some(0));
    assert_eq!(
        advance("18446744073709551615").unwrap().past,
        Some(u64::MAX)
    );
    assert_eq!(advance("").unwrap().past, None);
    assert_eq!(advance("").unwrap().margin, 1_000_000);
    let no_margin = super::read(&lookup(&[("margin", "0")]), AdvanceConfig::read);
    assert_eq!(no_margin.unwrap().margin, 0);
    for bad in ["-1", "18446744073709551616", "1.0"] {
        let mistakes = advance(bad).unwrap_err();
        assert_eq!(wrong_flags(&mistakes), ["past"]);
        assert!(mistakes.to_string().contains("--past is "), "{mistakes}");
    }
}

#[test]
fn a_lease_is_required_where_it_is_changed_and_has_a_default_where_it_is_created() {
    let given = |value| lookup(&[("lease-seconds", value)]);
    let create = |value| super::read(&given(value), LeaseConfig::read_create);
    assert_eq!(create("").unwrap().lease_seconds, 10);
    assert_eq!(create("3600").unwrap().lease_seconds, 3600);
    for bad in ["0", "3601", "1.5"] {
        assert_eq!(wrong_flags(&create(bad).unwrap_err()), ["lease-seconds"]);
    }
    let missing = super::read(&given(""), LeaseConfig::read).unwrap_err();
    assert_eq!(wrong_flags(&missing), ["lease-seconds"]);
    let all_bad = super::read(&|_| None, LeaseConfig::read).unwrap_err();
    assert_eq!(wrong_flags(&all_bad).len(), 1 + LEAST.len());
}

#[test]
fn a_check_may_name_a_column() {
    let check = |value| super::read(&lookup(&[("table", value)]), CheckConfig::read);
    assert_eq!(check("").unwrap().column, None);
    let column = check("app.orders.id").unwrap().column;
    assert_eq!(column.unwrap().table, "orders");
    assert_eq!(wrong_flags(&check("orders.id").unwrap_err()), ["table"]);
}

#[test]
fn a_drop_needs_the_name_once_more() {
    let drop = |values: &[(&str, &str)]| super::read(&lookup(values), DropConfig::read);
    let numbering_is_not_used = [("confirm", "tickets"), ("max-nodes", "0")];
    assert_eq!(
        drop(&numbering_is_not_used).unwrap().database.name,
        "tickets"
    );
    for bad in ["", "Tickets", "tickets ", "tickr"] {
        let mistakes = drop(&[("confirm", bad)]).unwrap_err();
        assert_eq!(wrong_flags(&mistakes), ["confirm"], "{bad:?}");
    }
}

proptest! {
    #[test]
    fn whatever_is_given_no_secret_is_shown(
        values in prop::collection::vec(prop::option::of(".{0,40}|[0-9]{1,3}"), 40),
        secrets: bool,
    ) {
        const MARK: &str = "hunter2";
        let random: Vec<(&str, &str)> = serve_rows()
            .into_iter()
            .zip(&values)
            .filter_map(|(row, value)| match row.secret {
                true => secrets.then_some((row.flag, MARK)),
                false => value.as_deref().map(|value| (row.flag, value)),
            })
            .collect();
        let outcome = read(&random);
        let debug = format!("{outcome:?}");
        prop_assert!(!debug.contains(MARK));
        if let Err(mistakes) = outcome {
            prop_assert!(!mistakes.to_string().contains(MARK));
        }
    }
}

#[test]
fn debug_output_hides_good_secrets() {
    let secrets = [
        ("database-password", "hunter2"),
        ("http-auth-password", "hunter3"),
    ];
    let shown = format!("{:?}", read(&secrets).unwrap());
    assert!(
        shown.contains("[secret]") && !shown.contains("hunter"),
        "{shown}"
    );
}

fn tcp(host: &str, port: u16) -> Host {
    Host::Tcp {
        host: host.to_owned(),
        port,
    }
}

/// A file of its own for each test, gone when the test ends.
struct ScratchFile(PathBuf);

impl ScratchFile {
    fn new(content: &[u8]) -> ScratchFile {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tickr-config-{}-{number}", process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, content).expect("the temporary folder can be written");
        ScratchFile(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("the path is UTF-8")
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
