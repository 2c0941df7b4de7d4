//! What holds of the addresses that people type: a server's URL in a client, and where a server
//! listens. The fuzz target tries it on its inputs, the tests on the fuzzer's corpus.

use tickr::client::ServerUrl;
use tickr::http::request::{Parsed, parse};
use tickr::socket::Address;

/// Holds every law on `text`.
pub(super) fn check(text: &str) {
    if let Ok(url) = text.parse::<ServerUrl>() {
        let shown = url.to_string();
        assert_eq!(shown.parse(), Ok(url), "{text:?} is shown as {shown:?}");
        match text.strip_prefix("http://") {
            Some(rest) => {
                a_host_is_as_strict_as_it_looks(rest);
                its_host_is_one_to_our_server(&shown);
            }
            None => assert_eq!(shown, text),
        }
    }
    if let Ok(address) = text.parse::<Address>() {
        let shown = address.to_string();
        assert_eq!(shown, text);
        assert_eq!(shown.parse(), Ok(address));
        if let Address::Tcp(address) = shown.parse().expect("as above") {
            let (host, port) = address.rsplit_once(':').expect("a port");
            assert!(port.parse::<u16>().is_ok() && !port.starts_with('+'));
            assert!(is_host(&without_zone(host)), "{host:?}");
        }
    }
}

/// A link-local address may name its interface by number (RFC 4007, section 11).
fn without_zone(host: &str) -> String {
    match host.split_once('%') {
        Some((address, zone)) => {
            let number = zone
                .strip_suffix(']')
                .and_then(|zone| zone.parse::<u32>().ok());
            assert!(number.is_some(), "{host:?}");
            format!("{address}]")
        }
        None => host.to_owned(),
    }
}

fn a_host_is_as_strict_as_it_looks(rest: &str) {
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let is_port = |port: &str| {
        let number = port.parse::<u16>().unwrap_or(0);
        number != 0 && port.bytes().all(|byte| byte.is_ascii_digit())
    };
    let end = authority.rfind(']').unwrap_or(0);
    let (host, port) = match authority[end..].find(':') {
        Some(colon) => authority.split_at(end + colon),
        None => (authority, ":80"),
    };
    assert!(is_host(host), "{host:?}");
    assert!(is_port(&port[1..]), "{port:?}");
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| {
            let is_of_address = |c: char| c.is_ascii_hexdigit() || ":.".contains(c);
            address.matches(':').count() >= 2 && address.chars().all(is_of_address)
        }),
        None => {
            let is_of_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            !host.is_empty() && host.chars().all(is_of_name)
        }
    }
}

/// What the client sends as `Host`, the request parser takes.
fn its_host_is_one_to_our_server(shown: &str) {
    let host = shown.strip_prefix("http://").expect("a scheme");
    let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let parsed = parse(head.as_bytes());
    let length = head.len();
    assert!(
        matches!(parsed, Ok(Parsed::Complete { consumed, .. }) if consumed == length),
        "{host:?}: {parsed:?}"
    );
}
