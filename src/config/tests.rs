//! Each setting with good and bad values, all mistakes at once, and no secret anywhere.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::process;

use proptest::prelude::*;

use super::*;
use crate::settings::Group;

const SERVE: [Group; 5] = [
    settings::DATABASE,
    settings::POOL,
    settings::NUMBERING,
    settings::HTTP,
    settings::LOGGING,
];

/// What is insisted on and nothing else.
const LEAST: [(&str, &str); 6] = [
    ("database-host", "db.example"),
    ("database-username", "tickr"),
    ("database-name", "tickets"),
    ("max-nodes", "4"),
    ("starting-offset", "54313001"),
    ("node-number", "3"),
];

fn lookup(values: &[(&str, &str)]) -> impl Fn(&Setting) -> Option<OsString> {
    let values: HashMap<String, OsString> = LEAST
        .iter()
        .chain(values)
        .map(|(flag, value)| (flag.to_string(), OsString::from(value)))
        .collect();
    move |setting| values.get(setting.flag).cloned()
}

fn read(values: &[(&str, &str)]) -> Result<Config, Mistakes> {
    Config::read(&lookup(values))
}

/// The flags that the mistakes name, in order.
fn wrong_flags(mistakes: &Mistakes) -> Vec<&'static str> {
    mistakes.0.iter().map(|mistake| mistake.flag).collect()
}

#[test]
fn the_least_that_is_insisted_on() {
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
    assert_eq!(config.prefetch_seconds, 0.0);
    assert_eq!(config.logging.filter, "info".parse().unwrap());
    assert_eq!(config.logging.format, logging::Format::Text);
}

#[test]
fn an_empty_value_counts_as_none() {
    let empty: Vec<(&str, &str)> = SERVE
        .iter()
        .flat_map(|group| group.settings)
        .filter(|setting| setting.absent != Absent::Mistake)
        .map(|setting| (setting.flag, ""))
        .collect();
    assert_eq!(
        format!("{:?}", read(&empty).unwrap()),
        format!("{:?}", read(&[]).unwrap())
    );
    let missing = read(&LEAST.map(|(flag, _)| (flag, ""))).unwrap_err();
    assert_eq!(wrong_flags(&missing), LEAST.map(|(flag, _)| flag));
    assert!(
        missing
            .0
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
    ("batch-format", &["string", "Array", "json"]),
    ("max-connections", &["0", "1000001", "many"]),
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
            assert!(text.contains("it should be: "), "{text}");
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
        let given = |setting: &Setting| match setting.flag == flag {
            true => Some(OsString::from_vec(b"hunter2\xff".to_vec())),
            false => least(setting),
        };
        let mistakes = Config::read(&given).unwrap_err();
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
            ("http-auth-password-file", "/nonexistent/c"),
        ])
        .collect();
    let mut named = wrong_flags(&read(&all_bad).unwrap_err());
    let mut given: Vec<&str> = all_bad.iter().map(|(flag, _)| *flag).collect();
    named.dedup();
    named.sort_unstable();
    given.sort_unstable();
    assert_eq!(named, given);

    let mut all: Vec<&str> = SERVE
        .iter()
        .flat_map(|group| group.settings)
        .map(|setting| setting.flag)
        .filter(|flag| !matches!(*flag, "database-password" | "http-auth-password"))
        .collect();
    all.sort_unstable();
    assert_eq!(
        named, all,
        "each setting that can be wrong has a bad value here"
    );
}

#[test]
fn ranges_are_those_that_the_help_states() {
    let ranges = [
        (
            settings::DATABASE_POOL_SIZE,
            1,
            limits::POOL_SIZE_MAX as u64,
        ),
        (settings::MAX_BATCH, 1, limits::BATCH_MAX),
        (settings::MAX_CONNECTIONS, 1, limits::CONNECTIONS_MAX as u64),
        (
            settings::SHUTDOWN_TIMEOUT,
            0,
            limits::SHUTDOWN_TIMEOUT_MAX.as_secs(),
        ),
        (
            settings::PREFETCH_SECONDS,
            0,
            limits::PREFETCH_MAX.as_secs(),
        ),
    ];
    for (setting, min, max) in ranges {
        assert!(
            setting.expects.contains(&format!("from {min} to {max}")),
            "{}",
            setting.flag
        );
        for good in [min, max] {
            assert!(read(&[(setting.flag, &good.to_string())]).is_ok());
        }
        assert!(read(&[(setting.flag, &(max + 1).to_string())]).is_err());
    }
    let timeout = settings::DATABASE_POOL_TIMEOUT;
    let (min, max) = (limits::POOL_TIMEOUT_MIN, limits::POOL_TIMEOUT_MAX);
    let stated = format!("from {} to {}", min.as_secs_f64(), max.as_secs_f64());
    assert!(timeout.expects.contains(&stated));
    for good in [min, max] {
        let value = good.as_secs_f64().to_string();
        assert_eq!(read(&[(timeout.flag, &value)]).unwrap().pool_timeout, good);
    }
    let name = settings::DATABASE_NAME;
    let longest = "ü".repeat(limits::DATABASE_NAME_CHARS_MAX);
    assert!(
        name.expects
            .contains(&format!("1 to {}", longest.chars().count()))
    );
    assert!(read(&[(name.flag, &longest)]).is_ok());
    assert!(read(&[(name.flag, &format!("{longest}a"))]).is_err());
    let listen = settings::LISTEN;
    let most = vec!["a:1"; limits::LISTENERS_MAX].join(",");
    assert!(listen.expects.contains(&limits::LISTENERS_MAX.to_string()));
    assert_eq!(
        read(&[(listen.flag, &most)]).unwrap().listen.len(),
        limits::LISTENERS_MAX
    );
    assert!(read(&[(listen.flag, &format!("{most},a:1"))]).is_err());
}

#[test]
fn flag_and_variable_are_two_spellings_of_one_name() {
    let mut seen = HashMap::new();
    for setting in SERVE.iter().flat_map(|group| group.settings) {
        let spelt = format!("TICKR_{}", setting.flag.to_uppercase().replace('-', "_"));
        assert_eq!(setting.variable, Some(spelt.as_str()));
        assert!(seen.insert(setting.flag, ()).is_none(), "{}", setting.flag);
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
fn dev_insists_on_nothing() {
    let dev = DevConfig::read(&|_| None).unwrap();
    assert_eq!(dev.mysqld, None);
    assert_eq!(dev.data_dir, PathBuf::from(".tickr"));
    let socket = Path::new("/tmp/mysql.sock");
    let config = dev.serve(socket, "someone", "hunter2");
    assert_eq!(config.numbering, Numbering::new(4, 1, 0).unwrap());
    assert_eq!(config.database.host, Host::Socket(socket.to_owned()));
    assert_eq!(config.database.username, "someone");
    assert_eq!(config.database.password.read().expose(), "hunter2");
    assert_eq!(config.database.name, "tickr");
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
    ]);
    let dev = DevConfig::read(&honoured).unwrap();
    assert_eq!(dev.mysqld, Some("/opt/mysqld".into()));
    assert_eq!(dev.data_dir, PathBuf::from("/tmp/elsewhere"));
    assert_eq!(
        dev.serve.numbering,
        Numbering::new(4, 54_313_001, 3).unwrap()
    );
    assert_eq!(dev.serve.max_batch, 7);
    assert_eq!(dev.serve.listen, [Address::Tcp("127.0.0.1:0".to_owned())]);

    let bad = lookup(&[("max-nodes", "0"), ("listen", "x"), ("log", "loud")]);
    let mistakes = DevConfig::read(&bad).unwrap_err();
    assert_eq!(wrong_flags(&mistakes), ["max-nodes", "listen", "log"]);
}

#[test]
fn database_commands_look_at_what_they_use() {
    let irrelevant = [
        ("max-batch", "0"),
        ("listen", "x"),
        ("database-pool-size", "0"),
    ];
    assert!(DatabaseConfig::read(&lookup(&irrelevant)).is_ok());
    let nothing = DatabaseConfig::read(&|_| None).unwrap_err();
    assert_eq!(wrong_flags(&nothing), LEAST.map(|(flag, _)| flag));

    let advance = |past| AdvanceConfig::read(&lookup(&[("past", past)]));
    assert_eq!(advance("0").unwrap().past, 0);
    assert_eq!(advance("18446744073709551615").unwrap().past, u64::MAX);
    for bad in ["", "-1", "18446744073709551616", "1.0"] {
        let mistakes = advance(bad).unwrap_err();
        assert_eq!(wrong_flags(&mistakes), ["past"]);
        assert!(mistakes.to_string().contains("--past is "), "{mistakes}");
    }
}

#[test]
fn a_drop_needs_the_name_once_more() {
    let drop = |values: &[(&str, &str)]| DropConfig::read(&lookup(values));
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
    fn whole_numbers_are_digits_that_fit(number: u64, text in "[ +-]?[0-9]{0,21}[ .e_]?") {
        prop_assert_eq!(whole_number(&number.to_string()), Some(number));
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        prop_assert_eq!(whole_number(&text), text.parse().ok().filter(|_| plain));
    }

    #[test]
    fn seconds_are_exact_to_the_millisecond(millis in 0_u64..1_000_000_000) {
        let text = format!("{}.{:03}", millis / 1000, millis % 1000);
        prop_assert_eq!(seconds(&text), Some(Duration::from_millis(millis)));
        prop_assert_eq!(seconds(&format!("-{text}")), None);
        prop_assert_eq!(seconds(&format!("{text}s")), None);
    }

    #[test]
    fn whatever_is_given_no_secret_is_shown(
        values in prop::collection::vec(prop::option::of(".{0,40}|[0-9]{1,3}"), 40),
        secrets: bool,
    ) {
        const MARK: &str = "hunter2";
        let all: Vec<&Setting> = SERVE.iter().flat_map(|group| group.settings).collect();
        let random: Vec<(&str, &str)> = all
            .iter()
            .zip(&values)
            .filter_map(|(setting, value)| match setting.secret {
                true => secrets.then_some((setting.flag, MARK)),
                false => value.as_deref().map(|value| (setting.flag, value)),
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
