//! What the driver reports, as a [`Fault`]. Which kind an error of the server is, is decided by its
//! number, after the error references of MySQL 5.6 to 9 and MariaDB 10 and 11; by its text only
//! where one number means several things.

use std::error::Error;
use std::io::{self, ErrorKind};

use mysql::{DriverError, MySqlError};
use rustls::CertificateError;

use super::driver::NO_PUBLIC_KEY;
use crate::fault::{Fault, FaultKind};
use crate::ticket::NumberingError;

impl From<mysql::Error> for Fault {
    fn from(error: mysql::Error) -> Fault {
        match error {
            mysql::Error::MySqlError(error) => from_server(error),
            mysql::Error::IoError(error) => from_io(&error),
            mysql::Error::CodecError(error) => {
                match error.source().and_then(|source| source.downcast_ref()) {
                    Some(error) => from_io(error),
                    None => protocol(error.to_string()),
                }
            }
            mysql::Error::TlsError(error) => {
                Fault::new(FaultKind::TlsUnavailable, error.to_string())
            }
            mysql::Error::DriverError(error) => from_driver(error),
            // Their texts may hold a row or a value, which is no more than noise here.
            mysql::Error::FromValueError(_) | mysql::Error::FromRowError(_) => {
                protocol("unexpected column type")
            }
            other => protocol(other.to_string()),
        }
    }
}

impl From<NumberingError> for Fault {
    fn from(error: NumberingError) -> Fault {
        Fault::new(FaultKind::SettingsDamaged, error.to_string())
    }
}

pub(super) fn protocol(reason: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Protocol, reason)
}

fn from_driver(error: DriverError) -> Fault {
    let (kind, said) = match error {
        DriverError::CouldNotConnect(Some((at, what, _))) => {
            (FaultKind::Unreachable, format!("{at}: {what}"))
        }
        DriverError::ConnectTimeout => (
            FaultKind::Unreachable,
            "connection attempt timed out".into(),
        ),
        DriverError::TlsNotSupported => (
            FaultKind::TlsUnavailable,
            "the server does not offer TLS".into(),
        ),
        DriverError::UnknownAuthPlugin(plugin) => (FaultKind::LoginUnsupported, plugin),
        DriverError::CleartextPluginDisabled => {
            (FaultKind::LoginUnsupported, "mysql_clear_password".into())
        }
        DriverError::OldMysqlPasswordDisabled => {
            (FaultKind::LoginUnsupported, "mysql_old_password".into())
        }
        other => (FaultKind::Protocol, other.to_string()),
    };
    Fault::new(kind, said)
}

fn from_io(error: &io::Error) -> Fault {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return from_tls(error);
    }
    let kind = match error.kind() {
        // The driver could not open `NO_PUBLIC_KEY`.
        ErrorKind::NotADirectory => {
            debug_assert!(NO_PUBLIC_KEY.starts_with("/dev/null/"));
            return FaultKind::PublicKeyRequired.into();
        }
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => FaultKind::Unreachable,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => return FaultKind::TimedOut.into(),
        _ => FaultKind::Lost,
    };
    Fault::new(kind, error.to_string())
}

/// An error of the handshake, or of the encrypted stream behind it.
fn from_tls(error: &rustls::Error) -> Fault {
    let (kind, said) = match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => (
            FaultKind::CertificateRefused,
            "the issuing CA is not trusted".to_owned(),
        ),
        // Such as a certificate of an authority that is used as a server's own.
        rustls::Error::InvalidCertificate(CertificateError::Other(error)) => (
            FaultKind::CertificateRefused,
            format!("it is not a server certificate: {}", error.0),
        ),
        rustls::Error::InvalidCertificate(error) => {
            (FaultKind::CertificateRefused, error.to_string())
        }
        other => (FaultKind::TlsUnavailable, other.to_string()),
    };
    Fault::new(kind, said)
}

/// The numbers below 1900 are common to MySQL and MariaDB, those above differ.
fn from_server(error: MySqlError) -> Fault {
    let MySqlError { code, message, .. } = error;
    let kind = match code {
        1040 | 1041 | 1135 | 1203 | 1226 => FaultKind::TooManyConnections,
        1461 => FaultKind::TooManyStatements,
        1129 => FaultKind::HostBlocked,
        1044
        | 1045
        | 1130
        | 1131..=1133
        | 1141..=1143
        | 1227
        | 1370
        | 1449
        | 1698
        | 1873
        | 3118
        | 3159
        | 3878
        | 3955
        | 4151 => FaultKind::AccessDenied,
        1820 | 1862 => FaultKind::PasswordExpired,
        1251 | 1275 | 1524 | 2059 | 2061 => FaultKind::LoginUnsupported,
        1290 if !is_read_only_option(&message) => FaultKind::Forbidden,
        1036 | 1015 | 1290 | 1792 | 1836 | 1874 => FaultKind::ReadOnly,
        1047 | 3100 => FaultKind::NotReady,
        1180 | 1213 | 1614 | 3101 | 3572 => FaultKind::Deadlock,
        1205 | 1099 => FaultKind::LockWait,
        1317 | 1969 | 3024 | 3019 => FaultKind::Interrupted,
        3 | 20 | 1021 | 1114 | 3679 => FaultKind::DiskFull,
        1023 | 1026 | 1030 if message.contains("28") => FaultKind::DiskFull,
        1016 | 1037 | 1038 | 1024 | 1030 if mentions_open_files(&message) => {
            FaultKind::OutOfResources
        }
        5 | 1037 | 1038 => FaultKind::OutOfResources,
        1053 | 1077..=1080 | 3168 => FaultKind::ShuttingDown,
        1152..=1161 | 1184 | 1927 | 2006 | 2013 | 3169 | 4031 => FaultKind::Lost,
        // Not 1064 and 1193: a proxy may lead to an older server for as long as an upgrade takes.
        1115 | 1273 => FaultKind::ServerUnsupported,
        // There can be none of that name.
        1049 | 1102 | 1300 => FaultKind::NoDatabase,
        1146 if message.contains(".tickr_settings'") => FaultKind::NoSettings,
        1109 | 1146 => FaultKind::NoTable,
        1054 | 1347 | 1288 => FaultKind::ForeignTable,
        // The counter is a number, so it is the owner that is not compared or does not fit.
        1292 | 1406 => FaultKind::ColumnType,
        1265 | 1366 if is_about_the_owner(&message) => FaultKind::ColumnType,
        1264 | 1265 | 1366 | 1690 => FaultKind::CounterUnusable,
        // MariaDB's, of tickr_settings.
        4119 | 4120 => FaultKind::Versioned,
        1034 | 1035 | 1194 | 1195 | 1712 | 1877 | 1932 => FaultKind::Damaged,
        _ => FaultKind::Unexpected,
    };
    match kind {
        FaultKind::Deadlock | FaultKind::LockWait | FaultKind::Interrupted => kind.into(),
        FaultKind::Unexpected => Fault::new(kind, format!("error {code}: {message}")),
        _ => Fault::new(kind, message),
    }
}

fn is_about_the_owner(message: &str) -> bool {
    message.contains("'owner'") || message.contains("`owner`")
}

/// 1290 names the option that is in the way, in whichever language: those that make a server
/// read-only, and others.
fn is_read_only_option(message: &str) -> bool {
    ["read-only", "read_only", "READ_ONLY", "READ ONLY"]
        .iter()
        .any(|option| message.contains(option))
}

/// "Too many open files", of the process or of the whole system.
fn mentions_open_files(message: &str) -> bool {
    ["errno: 23", "errno: 24"]
        .iter()
        .any(|errno| message.contains(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16, message: &str) -> Fault {
        Fault::from(mysql::Error::MySqlError(MySqlError {
            state: "HY000".to_owned(),
            message: message.to_owned(),
            code,
        }))
    }

    #[test]
    fn errors_of_the_server_are_classified_by_number() {
        let expected: &[(u16, &str)] = &[
            (1040, "too_many_connections"),
            (1045, "access_denied"),
            (1047, "not_ready"),
            (1049, "no_database"),
            (1053, "shutting_down"),
            (1064, "unexpected"),
            (1102, "no_database"),
            (1109, "no_table"),
            (1114, "disk_full"),
            (1129, "host_blocked"),
            (1146, "no_table"),
            (1158, "lost"),
            (1193, "unexpected"),
            (1205, "lock_wait"),
            (1213, "deadlock"),
            (1300, "no_database"),
            (1317, "interrupted"),
            (1461, "too_many_statements"),
            (1792, "read_only"),
            (1836, "read_only"),
            (1862, "password_expired"),
            (1927, "lost"),
            (1105, "unexpected"),
        ];
        for &(code, label) in expected {
            assert_eq!(server(code, "it said").kind.row().label, label, "{code}");
        }
    }

    #[test]
    fn numbers_with_several_meanings_are_told_apart_by_their_text() {
        let option = |option: &str| {
            let message = format!(
                "The MySQL server is running with the {option} option so it cannot execute this \
                 statement"
            );
            server(1290, &message).kind
        };
        for read_only in ["--read-only", "--super-read-only", "--innodb-read-only"] {
            assert_eq!(option(read_only), FaultKind::ReadOnly, "{read_only}");
        }
        for other in [
            "--skip-grant-tables",
            "--secure-file-priv",
            "LOCK_WRITE_GROWTH",
        ] {
            assert_eq!(option(other), FaultKind::Forbidden, "{other}");
        }
        let missing = |table: &str| server(1146, &format!("Table 't.{table}' doesn't exist")).kind;
        assert_eq!(missing("tickets"), FaultKind::NoTable);
        assert_eq!(missing("tickr_settings"), FaultKind::NoSettings);
        let full = "Got error 28 \"No space left on device\" from storage engine";
        assert_eq!(server(1030, full).kind, FaultKind::DiskFull);
        assert_eq!(server(1030, "Got error 1").kind, FaultKind::Unexpected);
        let files = "Can't open file: './t.ibd' (errno: 24 \"Too many open files\")";
        assert_eq!(server(1016, files).kind, FaultKind::OutOfResources);
    }

    #[test]
    fn errors_of_the_socket_are_classified_by_kind() {
        let kind = |kind: ErrorKind| Fault::from(mysql::Error::from(io::Error::from(kind))).kind;
        assert_eq!(kind(ErrorKind::ConnectionRefused), FaultKind::Unreachable);
        assert_eq!(kind(ErrorKind::WouldBlock), FaultKind::TimedOut);
        assert_eq!(kind(ErrorKind::BrokenPipe), FaultKind::Lost);
        assert_eq!(kind(ErrorKind::TimedOut), FaultKind::TimedOut);
    }
}
