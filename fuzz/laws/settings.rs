//! What holds of the settings, whatever the environment and the command line say. The fuzz target
//! tries it on its inputs, the tests on the fuzzer's corpus.
//!
//! An input is text: the first line names a command, each other one a setting and its value, with
//! a space in between.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Debug;

use tickr::config::{self, Mistakes, Reader};
use tickr::limits;
use tickr::settings::Row;

/// Stands in every secret, and in the place of each `!` of another value.
const MARK: &str = "hunter2";

/// Holds every law on `input`.
pub(super) fn check(input: &str) {
    let mut lines = input.lines();
    let command = lines.next().unwrap_or_default();
    let values: HashMap<&str, &str> = lines.filter_map(|line| line.split_once(' ')).collect();
    let given = |row: &Row| given(row, &values);
    match command {
        "dev" => judge(config::read(&given, config::DevConfig::read), &values),
        "migrate" => judge(config::read(&given, config::DatabaseConfig::read), &values),
        "create" => judge(
            config::read(&given, config::LeaseConfig::read_create),
            &values,
        ),
        "lease" => judge(config::read(&given, config::LeaseConfig::read), &values),
        "check" => judge(config::read(&given, config::CheckConfig::read), &values),
        "advance" => judge(config::read(&given, config::AdvanceConfig::read), &values),
        "drop" => judge(config::read(&given, config::DropConfig::read), &values),
        "get" => judge(config::read(&given, config::GetConfig::read), &values),
        "cluster" => judge(config::read(&given, config::ClusterConfig::read), &values),
        "decode" => judge(config::read(&given, config::DecodeConfig::read), &values),
        "completions" => judge(config::read(&given, config::read_shell), &values),
        _ => {
            let read = config::read(&given, serve);
            if let Ok(config) = &read {
                what_serves_is_within_its_bounds(config);
            }
            judge(read, &values);
        }
    }
    let environment = values.iter().map(|(name, value)| {
        let name = format!("TICKR_{}", name.to_uppercase().replace('-', "_"));
        (name, value.replace('!', MARK))
    });
    for sentence in config::unknown_variables(environment, ["TICKR_MAX_NODES"]) {
        assert!(!sentence.contains(char::is_control), "{sentence:?}");
    }
}

fn serve(reader: &mut Reader<'_>) -> config::Config {
    config::Config::read(reader)
}

/// The value of a setting. Files are opened, and one that blocks or never ends must not be: of
/// those there is a choice.
fn given(row: &Row, values: &HashMap<&str, &str>) -> Option<OsString> {
    let value = values.get(row.flag)?;
    let value = match row.value_name {
        "PATH" => match value.bytes().next()? {
            b'/' => "/dev/null".to_owned(),
            b'.' => ".".to_owned(),
            _ => "no such file".to_owned(),
        },
        _ if row.secret => format!("{value}{MARK}"),
        _ => value.replace('!', MARK),
    };
    Some(value.into())
}

/// A secret appears nowhere, and neither does a wrong value that may hold one.
fn judge<T: Debug>(read: Result<T, Mistakes>, values: &HashMap<&str, &str>) {
    match read {
        Ok(config) => {
            let others = values.values().any(|value| value.contains('!'));
            let shown = format!("{config:?}");
            assert!(others || !shown.contains(MARK), "{shown}");
        }
        Err(mistakes) => {
            let shown = mistakes.to_string();
            let lines = shown.lines().count();
            assert!(lines > 1, "{shown}");
            let is_steering = |c: char| c.is_control() && c != '\n';
            assert!(!shown.contains(is_steering), "{shown:?}");
            let harmless = |value: &&&str| value.contains('!') && !value.contains('@');
            let harmless = values.values().any(|value| harmless(&value));
            assert!(harmless || !shown.contains(MARK), "{shown}");
        }
    }
}

fn what_serves_is_within_its_bounds(config: &config::Config) {
    assert!((1..=limits::POOL_SIZE_MAX).contains(&config.pool_size));
    assert!((limits::POOL_TIMEOUT_MIN..=limits::POOL_TIMEOUT_MAX).contains(&config.pool_timeout));
    assert!((1..=limits::LISTENERS_MAX).contains(&config.listen.len()));
    assert!((1..=limits::BATCH_MAX).contains(&config.max_batch));
    assert!((1..=limits::CONNECTIONS_MAX).contains(&config.max_connections));
    assert!((limits::IDLE_TIMEOUT_MIN..=limits::IDLE_TIMEOUT_MAX).contains(&config.idle_timeout));
    assert!(config.shutdown_timeout <= limits::SHUTDOWN_TIMEOUT_MAX);
    assert!((0.0..=limits::PREFETCH_MAX.as_secs_f64()).contains(&config.prefetch_seconds));
    assert!(config.socket_mode <= 0o777);
    let password = config.auth_password.as_ref();
    assert!(password.is_none_or(|password| !password.expose().contains(char::is_control)));
    assert!(password.is_none_or(|password| !password.expose().is_empty()));
}
