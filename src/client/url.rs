//! Where a server is, as people type it: `http://HOST:PORT` or `unix:PATH`.

use std::error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::limits;

const HTTP_PORT: u16 = 80;

/// Where a server is: `http://HOST`, `http://HOST:PORT`, `http://[::1]:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    place: Place,
}

/// What a URL leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// A host name or IP address, without brackets, and a port.
    Tcp { host: String, port: u16 },
    /// A Unix socket.
    Unix(PathBuf),
}

impl ServerUrl {
    /// The server at a Unix socket.
    pub fn unix(path: impl AsRef<Path>) -> ServerUrl {
        ServerUrl {
            place: Place::Unix(path.as_ref().to_owned()),
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The value of the `Host` field (RFC 9110, section 7.2).
    pub(super) fn host(&self) -> String {
        match &self.place {
            Place::Unix(_) => "localhost".to_owned(),
            Place::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Place::Tcp { host, port } => format!("{host}:{port}"),
        }
    }
}

impl FromStr for ServerUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<ServerUrl, InvalidUrl> {
        let place = if let Some(path) = text.strip_prefix("unix:") {
            match path.len() {
                0 => return Err(InvalidUrl::NoPath),
                _ if path.contains('\0') => return Err(InvalidUrl::PathWithNul),
                1..=limits::SOCKET_PATH_BYTES_MAX => Place::Unix(path.into()),
                _ => return Err(InvalidUrl::PathTooLong),
            }
        } else if let Some(rest) = text.strip_prefix("http://") {
            tcp(rest)?
        } else if text.starts_with("https://") {
            return Err(InvalidUrl::Tls);
        } else {
            return Err(InvalidUrl::NoScheme);
        };
        Ok(ServerUrl { place })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
            Place::Tcp { .. } => write!(f, "http://{}", self.host()),
        }
    }
}

/// Why a text is not a [`ServerUrl`]. The text itself is not repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidUrl {
    /// It begins with neither `http://` nor `unix:`.
    NoScheme,
    /// It asks for TLS, which Tickr does not speak.
    Tls,
    /// It has a user name or a password in it.
    Credentials,
    /// Nothing stands behind `unix:`.
    NoPath,
    /// The path has a NUL, which no file name can have.
    PathWithNul,
    /// The path does not fit into the address of a Unix socket.
    PathTooLong,
    /// It has a path, a query or a fragment; the routes are always the same.
    Path,
    /// The host is missing, or is no host name and no IP address.
    Host,
    /// The port is not a whole number from 1 to 65535.
    Port,
}

impl fmt::Display for InvalidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self {
            InvalidUrl::NoScheme => "starts with neither http:// nor unix:",
            InvalidUrl::Tls => "asks for TLS, which Tickr leaves to a proxy in front of it",
            InvalidUrl::Credentials => "contains a user name or password, which others could see",
            InvalidUrl::NoPath => "has no path after unix:",
            InvalidUrl::PathWithNul => "has a NUL in the path of its Unix socket",
            InvalidUrl::PathTooLong => "is too long for the path of a Unix socket",
            InvalidUrl::Path => "has a path, query or fragment after the port",
            InvalidUrl::Host => "has no valid host",
            InvalidUrl::Port => "has no valid port",
        };
        write!(f, "it {problem}")
    }
}

impl error::Error for InvalidUrl {}

fn tcp(rest: &str) -> Result<Place, InvalidUrl> {
    if rest.contains('@') {
        return Err(InvalidUrl::Credentials);
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(InvalidUrl::Path);
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(InvalidUrl::Host)?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(InvalidUrl::Host);
            }
            match port {
                "" => (host, None),
                port => (host, Some(port.strip_prefix(':').ok_or(InvalidUrl::Host)?)),
            }
        }
        None => match authority.split_once(':') {
            None => (authority, None),
            Some((host, port)) => (host, Some(port)),
        },
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || !host.chars().all(is_host) {
        return Err(InvalidUrl::Host);
    }
    let port = match port {
        None => HTTP_PORT,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or(InvalidUrl::Port)?,
        Some(_) => return Err(InvalidUrl::Port),
    };
    Ok(Place::Tcp {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown() {
        for (text, shown) in [
            ("http://tickr", "http://tickr:80"),
            ("http://tickr:8080/", "http://tickr:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://[::1]", "http://[::1]:80"),
            ("unix:/run/tickr.sock", "unix:/run/tickr.sock"),
            ("unix:tickr.sock", "unix:tickr.sock"),
        ] {
            let url: ServerUrl = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(url.to_string(), shown);
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        let long = format!("unix:/{}", "a".repeat(limits::SOCKET_PATH_BYTES_MAX));
        for (text, error) in [
            ("tickr:8080", InvalidUrl::NoScheme),
            ("https://tickr", InvalidUrl::Tls),
            ("http://me:secret@tickr", InvalidUrl::Credentials),
            ("unix:", InvalidUrl::NoPath),
            ("unix:/a\0b", InvalidUrl::PathWithNul),
            (long.as_str(), InvalidUrl::PathTooLong),
            ("http://tickr/status", InvalidUrl::Path),
            ("http://:8080", InvalidUrl::Host),
            ("http://[tickr]:1", InvalidUrl::Host),
            ("http://ti ckr", InvalidUrl::Host),
            ("http://tickr:", InvalidUrl::Port),
            ("http://tickr:0", InvalidUrl::Port),
            ("http://tickr:+80", InvalidUrl::Port),
            ("http://tickr:65536", InvalidUrl::Port),
        ] {
            assert_eq!(text.parse::<ServerUrl>(), Err(error), "{text}");
        }
    }
}
