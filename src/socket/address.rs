//! Where to listen, as it is written in a setting.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where to listen: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT` as it was given; resolved when it is bound. Port 0 lets the kernel choose.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(AddressError::NoPath),
                // Elsewhere an abstract socket, which has no file and so no mode.
                path if path.starts_with('@') => Err(AddressError::Abstract),
                path => Ok(Address::Unix(PathBuf::from(path))),
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
        let is_name = |host: &str| {
            let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            !host.is_empty() && host.bytes().all(is_of_name)
        };
        if host.starts_with('[') {
            if is_port && text.parse::<SocketAddr>().is_err() {
                return Err(AddressError::Host);
            }
        } else if !is_name(host) {
            return Err(AddressError::Host);
        }
        if !is_port {
            return Err(AddressError::Port);
        }
        Ok(Address::Tcp(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => f.write_str(address),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a text is not an [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// No host, one that can't be, or an IPv6 address without brackets.
    Host,
    /// No port.
    NoPort,
    /// The port is not a number from 0 to 65535.
    Port,
    /// `unix:` without a path.
    NoPath,
    /// `unix:@name`, which means an abstract socket to other programs.
    Abstract,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressError::Host => {
                "its host should be a name, an IPv4 address, or an IPv6 address in brackets \
                 (0.0.0.0 or [::] for every interface)"
            }
            AddressError::NoPort => "it names no port (nor is it unix:PATH)",
            AddressError::Port => "its port should be a number from 0 to 65535",
            AddressError::NoPath => "it names no path after unix:",
            AddressError::Abstract => {
                "abstract sockets are not supported; write unix:./@NAME for a file of that name"
            }
        })
    }
}

impl std::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_as_they_are_written() {
        for text in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::]:0",
            "localhost:65535",
            "a-b_c.d:1",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address, Address::Tcp(text.to_owned()));
            assert_eq!(address.to_string(), text);
        }
        for path in ["/run/tickr.sock", "tickr.sock", "/with:colon", "./@a"] {
            let text = format!("unix:{path}");
            let address: Address = text.parse().unwrap();
            assert_eq!(address, Address::Unix(path.into()));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for (text, error) in [
            ("", AddressError::NoPort),
            ("localhost", AddressError::NoPort),
            ("/run/tickr.sock", AddressError::NoPort),
            (":8080", AddressError::Host),
            ("::1:8080", AddressError::Host),
            ("[::1:8080", AddressError::Host),
            ("[localhost]:8080", AddressError::Host),
            ("http://localhost:8080", AddressError::Host),
            ("local host:8080", AddressError::Host),
            ("localhost:", AddressError::Port),
            ("localhost:+80", AddressError::Port),
            ("localhost:65536", AddressError::Port),
            ("[::1]:http", AddressError::Port),
            ("unix:", AddressError::NoPath),
            ("unix:@tickr", AddressError::Abstract),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text:?}");
        }
    }
}
