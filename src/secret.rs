//! Passwords, which no log and no error ever shows, and where they are read from.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use crate::{file, limits};

/// A password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub fn new(secret: impl Into<String>) -> Secret {
        Secret(secret.into())
    }

    /// The password itself: for logging in, and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where a password comes from. A file can be read again after it has been rotated.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The password itself was given.
    Value(Secret),
    /// The file that holds it.
    File(PathBuf),
    /// A pipe, such as <(COMMAND) in a shell, which can be read only once.
    Pipe(PathBuf),
}

impl SecretSource {
    /// The file or pipe at `path`.
    pub fn at(path: PathBuf) -> SecretSource {
        match path.is_file() {
            true => SecretSource::File(path),
            false => SecretSource::Pipe(path),
        }
    }

    /// Whether it may change.
    pub fn is_file(&self) -> bool {
        matches!(self, SecretSource::File(_))
    }

    /// Reads the password as it is now; one trailing newline of a file is dropped. Only a pipe is
    /// waited for, and only where one was given, not where a file has become one.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let file = match self {
            SecretSource::Value(secret) => return Ok(secret.clone()),
            SecretSource::File(path) => file::open(path),
            SecretSource::Pipe(path) => File::open(path),
        };
        read_file(file.map_err(SecretError::Unreadable)?).map(Secret::new)
    }

    /// The same for HTTP Basic auth, where a client must be able to send it (RFC 7617) and an
    /// empty one would disable the check.
    pub fn read_for_http(&self) -> Result<Secret, SecretError> {
        let secret = self.read()?;
        if secret.0.is_empty() {
            return Err(SecretError::Empty);
        }
        if secret.0.contains(char::is_control) {
            return Err(SecretError::Control);
        }
        Ok(secret)
    }
}

/// No password.
impl Default for SecretSource {
    fn default() -> SecretSource {
        SecretSource::Value(Secret::default())
    }
}

/// A password given by mistake in the place of a path must not be shown either.
impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SecretSource::Value(_) => "[secret]",
            SecretSource::File(_) | SecretSource::Pipe(_) => "[secret file]",
        })
    }
}

/// Why a password cannot be read. The text follows the name of a setting or "the password file",
/// and holds neither password nor path.
#[derive(Debug)]
pub enum SecretError {
    /// The file cannot be opened or read, or is not UTF-8.
    Unreadable(io::Error),
    /// The file is longer than [`limits::SECRET_FILE_BYTES_MAX`].
    TooLong,
    /// There is nothing in the file.
    Empty,
    /// It contains a control character.
    Control,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretError::Unreadable(error) => write!(f, "cannot be read ({error})"),
            SecretError::TooLong => {
                let max = limits::SECRET_FILE_BYTES_MAX;
                write!(f, "is longer than {max} bytes")
            }
            SecretError::Empty => write!(f, "is empty, which would disable authentication"),
            SecretError::Control => {
                write!(f, "contains a control character, which clients cannot send")
            }
        }
    }
}

impl std::error::Error for SecretError {}

fn read_file(file: File) -> Result<String, SecretError> {
    let mut secret = String::new();
    file.take(limits::SECRET_FILE_BYTES_MAX + 1)
        .read_to_string(&mut secret)
        .map_err(SecretError::Unreadable)?;
    if secret.len() as u64 > limits::SECRET_FILE_BYTES_MAX {
        return Err(SecretError::TooLong);
    }
    if secret.ends_with('\n') {
        secret.pop();
        if secret.ends_with('\r') {
            secret.pop();
        }
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_rotated_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hunter2");
        let source = SecretSource::File(path.clone());
        assert!(matches!(source.read(), Err(SecretError::Unreadable(_))));
        for password in ["first", "second"] {
            fs::write(&path, format!("{password}\n")).unwrap();
            assert_eq!(source.read().unwrap().expose(), password);
            assert_eq!(source.read_for_http().unwrap().expose(), password);
        }
        fs::write(&path, "\n").unwrap();
        assert_eq!(source.read().unwrap().expose(), "");
        assert!(matches!(source.read_for_http(), Err(SecretError::Empty)));
    }

    #[test]
    fn neither_password_nor_path_is_shown() {
        let value = SecretSource::Value(Secret::new("hunter2"));
        let file = SecretSource::File("/run/hunter2".into());
        let error = file.read().unwrap_err();
        let shown = format!("{value:?} {file:?} {error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
