//! What the parser takes and what it refuses, as tables, and each bound at its edge. Every row is
//! also tried with the input cut at each of its bytes, or at many of them when it is long.

use super::*;

/// Parses `input`, and holds the law of prefixes: each is undecided or gets the same verdict.
fn verdict(input: &[u8]) -> Result<Parsed<'_>, Reject> {
    let whole = parse(input);
    let edges =
        |length: &usize| *length < 256 || input.len() - length < 64 || length.is_multiple_of(509);
    for length in (0..input.len()).filter(edges) {
        let part = parse(&input[..length]);
        if part != Ok(Parsed::Partial) {
            assert_eq!(part, whole, "at {length} of {}", input.escape_ascii());
        }
    }
    whole
}

fn accepted(input: &[u8]) -> Request<'_> {
    match verdict(input) {
        Ok(Parsed::Complete { request, consumed }) if consumed == input.len() => request,
        other => panic!("{} came to {other:?}", input.escape_ascii()),
    }
}

fn rejected(input: &[u8]) -> Reject {
    match verdict(input) {
        Err(reject) => reject,
        other => panic!("{} came to {other:?}", input.escape_ascii()),
    }
}

/// A request of HTTP/1.1 with these header lines behind its `Host`.
fn with_fields(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n").into_bytes()
}

fn path(path: &'static str, query: Option<&'static str>) -> Target<'static> {
    Target::Path {
        path: path.as_bytes(),
        query: query.map(str::as_bytes),
    }
}

#[test]
fn plain_request() {
    let input = b"GET /tickets/create HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
    let expected = Request {
        method: Method::Get,
        target: path("/tickets/create", None),
        version: Version::Http11,
        keep_alive: true,
        body: BodyFraming::None,
        expect_continue: false,
        authorization: None,
    };
    assert_eq!(accepted(input), expected);
}

#[test]
fn methods() {
    for (name, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("PATCH", Method::Patch),
        ("TRACE", Method::Trace),
    ] {
        let input = format!("{name} / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(accepted(input.as_bytes()).method, method);
    }
    for name in [
        "get",
        "Get",
        "GETS",
        "GE",
        "POSTED",
        "BREW",
        "CONNECT",
        "!#$%&'*+-.^_`|~",
    ] {
        let input = format!("{name} / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(rejected(input.as_bytes()), Reject::MethodUnknown, "{name}");
    }
}

#[test]
fn targets() {
    for (method, target, expected) in [
        ("GET", "/", path("/", None)),
        ("GET", "//", path("//", None)),
        ("GET", "/a%2Fb?c=%20&d", path("/a%2Fb", Some("c=%20&d"))),
        ("GET", "/?", path("/", Some(""))),
        ("GET", "/a?b?c", path("/a", Some("b?c"))),
        ("GET", "/a?b/c", path("/a", Some("b/c"))),
        ("GET", "http://h/status", path("/status", None)),
        ("GET", "HTTP://h:80/a?b", path("/a", Some("b"))),
        ("GET", "https://[::1]:8080/a", path("/a", None)),
        ("GET", "http://other//a", path("//a", None)),
        ("GET", "http://h", path("/", None)),
        ("GET", "http://h?a=/b", path("/", Some("a=/b"))),
        ("OPTIONS", "*", Target::Asterisk),
        ("OPTIONS", "http://h:80", Target::Asterisk),
        ("OPTIONS", "http://h/", path("/", None)),
        ("OPTIONS", "http://h?", path("/", Some(""))),
        ("OPTIONS", "/", path("/", None)),
    ] {
        let input = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(accepted(input.as_bytes()).target, expected, "{target}");
    }
    for (method, target, expected) in [
        ("GET", "*", Reject::Target),
        ("OPTIONS", "**", Reject::Target),
        ("OPTIONS", "*?a", Reject::Target),
        ("GET", "tickets/create", Reject::Target),
        ("GET", "?a", Reject::Target),
        ("GET", "h:80", Reject::Target),
        ("CONNECT", "h:443", Reject::MethodUnknown),
        ("CONNECT", "/", Reject::MethodUnknown),
        ("GET", "ftp://h/", Reject::Target),
        ("GET", "http:/a", Reject::Target),
        ("GET", "http:", Reject::Target),
        ("GET", "//h/a#b", Reject::Target),
        ("GET", "/#", Reject::Target),
        ("GET", "http://h/#", Reject::Target),
        ("GET", "/caf\u{e9}", Reject::Target),
        ("GET", "/\u{20ac}", Reject::Target),
        ("GET", "http://", Reject::HostInvalid),
        ("GET", "http:///a", Reject::HostInvalid),
        ("GET", "http://:80/a", Reject::HostInvalid),
        ("GET", "http://user@h/a", Reject::HostInvalid),
        ("GET", "http://user:password@h/a", Reject::HostInvalid),
        ("GET", "http://h:a/", Reject::HostInvalid),
        ("GET", "http://h\\@g/", Reject::HostInvalid),
        ("GET", "http://[::1/", Reject::HostInvalid),
    ] {
        let input = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(rejected(input.as_bytes()), expected, "{target}");
    }
}

#[test]
fn request_lines() {
    for (line, expected) in [
        ("GET /", Reject::RequestLine),
        ("GET", Reject::RequestLine),
        ("GET ", Reject::RequestLine),
        (" GET / HTTP/1.1", Reject::RequestLine),
        ("\tGET / HTTP/1.1", Reject::RequestLine),
        ("\rGET / HTTP/1.1", Reject::RequestLine),
        ("GET\t/ HTTP/1.1", Reject::RequestLine),
        ("GET  / HTTP/1.1", Reject::RequestLine),
        ("GET /\tHTTP/1.1", Reject::RequestLine),
        ("GET /\0 HTTP/1.1", Reject::RequestLine),
        ("GET /\x7f HTTP/1.1", Reject::RequestLine),
        ("GET /\r HTTP/1.1", Reject::RequestLine),
        ("G(T / HTTP/1.1", Reject::RequestLine),
        ("G\u{c9}T / HTTP/1.1", Reject::RequestLine),
        (": / HTTP/1.1", Reject::RequestLine),
        ("GET /  HTTP/1.1", Reject::VersionSpelling),
        ("GET /a b HTTP/1.1", Reject::VersionSpelling),
        ("GET / ", Reject::VersionSpelling),
        ("GET / HTTP", Reject::VersionSpelling),
        ("GET / HTTP/", Reject::VersionSpelling),
        ("GET / HTTP/1", Reject::VersionSpelling),
        ("GET / HTTP/1.", Reject::VersionSpelling),
        ("GET / HTTP/.1", Reject::VersionSpelling),
        ("GET / HTTP/1.10", Reject::VersionSpelling),
        ("GET / HTTP/1.01", Reject::VersionSpelling),
        ("GET / HTTP/01.1", Reject::VersionSpelling),
        ("GET / HTTP/11.1", Reject::VersionSpelling),
        ("GET / HTTP/2.00", Reject::VersionSpelling),
        ("GET / HTTP/2", Reject::VersionSpelling),
        ("GET / HTTP/1,1", Reject::VersionSpelling),
        ("GET / HTTP-1.1", Reject::VersionSpelling),
        ("GET / http/1.1", Reject::VersionSpelling),
        ("GET / Http/1.1", Reject::VersionSpelling),
        ("GET / HTTPS/1.1", Reject::VersionSpelling),
        ("GET / ICAP/1.0", Reject::VersionSpelling),
        ("GET / HTTP/1.1 ", Reject::VersionSpelling),
        ("GET / HTTP/1.1\t", Reject::VersionSpelling),
        ("GET / HTTP/+.1", Reject::VersionSpelling),
        ("GET / HTTP/1.1\r", Reject::LineEnd),
        ("GET / HTTP/0.9", Reject::VersionNotServed),
        ("GET / HTTP/1.2", Reject::VersionNotServed),
        ("GET / HTTP/1.9", Reject::VersionNotServed),
        ("GET / HTTP/2.0", Reject::VersionNotServed),
        ("GET / HTTP/9.9", Reject::VersionNotServed),
    ] {
        let input = format!("{line}\r\nHost: h\r\n\r\n");
        assert_eq!(rejected(input.as_bytes()), expected, "{line:?}");
    }
}

#[test]
fn other_protocols_are_refused_at_once() {
    for (input, expected) in [
        // A TLS ClientHello.
        (&b"\x16\x03\x01\x02\x00\x01\x00"[..], Reject::RequestLine),
        (b"\0\0\0", Reject::RequestLine),
        (b"\x80", Reject::RequestLine),
        (b"{\"id\":1}", Reject::RequestLine),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            Reject::VersionNotServed,
        ),
        (b"PRI * HTTP/2.0\r", Reject::VersionNotServed),
        (b"SSH-2.0-client\r\n", Reject::RequestLine),
        (b"*1\r\n$4\r\nPING\r\n", Reject::RequestLine),
        (
            b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
            Reject::VersionSpelling,
        ),
    ] {
        assert_eq!(rejected(input), expected, "{}", input.escape_ascii());
    }
}

#[test]
fn line_ends() {
    for (input, expected) in [
        (
            &b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"[..],
            Reject::BareLineFeed,
        ),
        (
            b"\r\n\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            Reject::BareLineFeed,
        ),
        (b"GET\n / HTTP/1.1\r\nHost: h\r\n\r\n", Reject::BareLineFeed),
        (b"GET /\nHost: h\r\n\r\n", Reject::BareLineFeed),
        (b"GET / \nHost: h\r\n\r\n", Reject::BareLineFeed),
        (b"GET / HTTP/1\nHost: h\r\n\r\n", Reject::BareLineFeed),
        (b"GET / HTTP/2.0\nHost: h\r\n\r\n", Reject::BareLineFeed),
        (b"GET / HTTP/1.1\nHost: h\r\n\r\n", Reject::BareLineFeed),
        (b"GET / HTTP/1.1\n\nHost: h\r\n\r\n", Reject::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: h\n\r\n", Reject::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\n", Reject::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHo\nst: h\r\n\r\n", Reject::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost:\nh\r\n\r\n", Reject::BareLineFeed),
        (b"GET / HTTP/1.1\nHo st: h\r\n\r\n", Reject::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHo st: h\n\r\n", Reject::FieldName),
        (b"GET / HTTP/1.1\r\rHost: h\r\n\r\n", Reject::LineEnd),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\rX", Reject::LineEnd),
        (b"GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", Reject::FieldValue),
        (
            b"GET / HTTP/1.1\r\nHost: h\rA: b\r\n\r\n",
            Reject::FieldValue,
        ),
        (b"GET / HTTP/1.1\r\nHost\r: h\r\n\r\n", Reject::FieldName),
    ] {
        assert_eq!(rejected(input), expected, "{}", input.escape_ascii());
    }
    // None waits for the rest of the head.
    for input in [
        &b"GET / HTTP/1.1\nHost"[..],
        b"GET / HTTP/1.1\r\nHost: h\nA",
        b"GET /\n",
    ] {
        assert_eq!(
            rejected(input),
            Reject::BareLineFeed,
            "{}",
            input.escape_ascii()
        );
    }
}

#[test]
fn fields_that_are_malformed() {
    for (line, expected) in [
        ("Content-Length : 5", Reject::FieldName),
        ("Content-Length\t: 5", Reject::FieldName),
        (" Folded: a", Reject::FieldName),
        ("A: b\r\n c", Reject::FieldName),
        ("A: b\r\n\tc", Reject::FieldName),
        ("A:\r\n b", Reject::FieldName),
        ("NoColon", Reject::FieldName),
        (": no name", Reject::FieldName),
        ("A B: c", Reject::FieldName),
        ("A\u{e9}: b", Reject::FieldName),
        ("A@: b", Reject::FieldName),
    ] {
        assert_eq!(
            rejected(&with_fields(&format!("{line}\r\n"))),
            expected,
            "{line:?}"
        );
    }
}

/// Every byte, at places that fall into different steps of a vectorised scan.
#[test]
fn every_byte_in_names_values_and_targets() {
    for byte in 0..=u8::MAX {
        for padding in [0, 1, 7, 15, 31, 40] {
            let padding = "x".repeat(padding);
            let place = |before: &str, after: &str| {
                [
                    before.as_bytes(),
                    padding.as_bytes(),
                    &[byte],
                    padding.as_bytes(),
                    after.as_bytes(),
                ]
                .concat()
            };
            let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            // A colon would end the name, and is fine there, but not as its first byte.
            if byte != b':' {
                let name = place("GET / HTTP/1.1\r\nHost: h\r\n", ": a\r\n\r\n");
                assert_eq!(parse(&name).is_ok(), is_token, "{}", name.escape_ascii());
            }
            let value = place("GET / HTTP/1.1\r\nHost: h\r\nA: x", "x\r\n\r\n");
            let is_text = byte == b'\t' || byte >= b' ' && byte != 0x7f;
            assert_eq!(parse(&value).is_ok(), is_text, "{}", value.escape_ascii());
            let target = place("GET /", " HTTP/1.1\r\nHost: h\r\n\r\n");
            let is_graphic = byte.is_ascii_graphic() && byte != b'#';
            assert_eq!(
                parse(&target).is_ok(),
                is_graphic,
                "{}",
                target.escape_ascii()
            );
        }
    }
}

#[test]
fn hosts() {
    let longest_name = "h".repeat(255);
    for host in [
        "h",
        "",
        "  h\t ",
        "example.com",
        "example.com:80",
        "example.com:",
        "example.com:00065535",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:8080",
        "[::ffff:127.0.0.1]:",
        "xn--caf-dma.example",
        "a_b-c~d.e",
        "a%20b",
        "a!$&'()*+,;=b",
        &longest_name,
    ] {
        let input = format!("GET / HTTP/1.1\r\nhOST:{host}\r\n\r\n");
        accepted(input.as_bytes());
    }
    for host in [
        ":80",
        "a b",
        "a, b",
        "a/b",
        "a?b",
        "a#b",
        "user@h",
        "http://h",
        "h:80:80",
        "h:65536",
        "h:-1",
        "h:+1",
        "h:8o",
        "h: 80",
        "::1",
        "[]",
        "[::1",
        "::1]",
        "[::1]80",
        "[1.2.3.4]",
        "[:::1]",
        "[fe80::1%25eth0]",
        "[v1.a]",
        "[h]",
        "a%2",
        "a%g0",
        "a%0g",
        "a%zz",
        "a%",
        "caf\u{e9}",
        "a\\b",
        "<h>",
        "\"h\"",
    ] {
        for version in ["1.0", "1.1"] {
            let input = format!("GET / HTTP/{version}\r\nHost: {host}\r\n\r\n");
            assert_eq!(rejected(input.as_bytes()), Reject::HostInvalid, "{host}");
        }
    }
    for (input, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", Reject::HostMissing),
        ("GET http://h/ HTTP/1.1\r\n\r\n", Reject::HostMissing),
        ("OPTIONS * HTTP/1.1\r\n\r\n", Reject::HostMissing),
        ("GET / HTTP/1.1\r\nHosts: h\r\n\r\n", Reject::HostMissing),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n",
            Reject::HostRepeated,
        ),
        (
            "GET / HTTP/1.0\r\nHost: h\r\nHost:\r\n\r\n",
            Reject::HostRepeated,
        ),
    ] {
        assert_eq!(rejected(input.as_bytes()), expected, "{input}");
    }
    accepted(b"GET http://h/ HTTP/1.1\r\nHost:\r\n\r\n");
    accepted(b"GET / HTTP/1.0\r\n\r\n");
    accepted(b"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n");
    accepted(b"GET http://one/ HTTP/1.1\r\nHost: another\r\n\r\n");
}

#[test]
fn body_framing() {
    let bound = limits::BODY_BYTES_MAX;
    let at_bound = format!("Content-Length: {bound}\r\n");
    for (lines, expected) in [
        ("", BodyFraming::None),
        ("Content-Length: 0\r\n", BodyFraming::None),
        ("Content-Length: 1\r\n", BodyFraming::Length(1)),
        ("content-LENGTH:\t 0042 \t\r\n", BodyFraming::Length(42)),
        (&at_bound, BodyFraming::Length(bound)),
        ("Transfer-Encoding: chunked\r\n", BodyFraming::Chunked),
        ("transfer-encoding:CHUNKED\r\n", BodyFraming::Chunked),
    ] {
        assert_eq!(accepted(&with_fields(lines)).body, expected, "{lines}");
    }
    for lines in [
        "Content-Length:\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5a\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length: 1_0\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,\r\n",
        "Content-Length: \"5\"\r\n",
        "Content-Length: \u{ff15}\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 0\r\ncontent-length: 0\r\n",
    ] {
        assert_eq!(
            rejected(&with_fields(lines)),
            Reject::ContentLength,
            "{lines}"
        );
    }
    for lines in [
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding: chunked, gzip, chunked\r\n",
        "Transfer-Encoding: \"gzip\", chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked;a=b\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunke\r\n",
        "Transfer-Encoding: chunked\u{a0}\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert_eq!(
            rejected(&with_fields(lines)),
            Reject::TransferEncoding,
            "{lines}"
        );
    }
    for lines in [
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity,CHUNKED\r\n",
        "transfer-encoding: br ,\tx-gzip , chunked\r\n",
    ] {
        assert_eq!(
            rejected(&with_fields(lines)),
            Reject::TransferCodingUnknown,
            "{lines}"
        );
    }
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ] {
        assert_eq!(
            rejected(&with_fields(lines)),
            Reject::TwoFramings,
            "{lines}"
        );
    }
    for length in [bound + 1, u64::MAX] {
        let lines = format!("Content-Length: {length}\r\n");
        assert_eq!(rejected(&with_fields(&lines)), Reject::BodyTooLarge);
    }
    // Names that only look like those of the framing are other fields.
    for lines in [
        "Content_Length: 5\r\n",
        "Transfer_Encoding: chunked\r\n",
        "X-Content-Length: 5\r\n",
        "Content-Lengths: 5\r\n",
    ] {
        assert_eq!(
            accepted(&with_fields(lines)).body,
            BodyFraming::None,
            "{lines}"
        );
    }
}

#[test]
fn persistence() {
    for (version, lines, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "cOnNeCtIoN:CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        (
            "1.1",
            "Connection: close\r\nConnection: keep-alive\r\n",
            false,
        ),
        ("1.1", "Connection: upgrade\t,\tClose ,\r\n", false),
        ("1.1", "Connection: closed, \"close\", clos\r\n", true),
        ("1.1", "Proxy-Connection: close\r\n", true),
        ("1.1", "Transfer-Encoding: chunked\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: a,,keep-alive\r\n", true),
        ("1.0", "Connection: a\r\nConnection: keep-alive\r\n", true),
        (
            "1.0",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("1.0", "Connection: close, keep-alive\r\n", false),
        ("1.0", "Keep-Alive: timeout=5\r\n", false),
        // RFC 9112, section 6.1.
        (
            "1.0",
            "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
            false,
        ),
    ] {
        let input = format!("GET / HTTP/{version}\r\nHost: h\r\n{lines}\r\n");
        assert_eq!(accepted(input.as_bytes()).keep_alive, expected, "{input}");
    }
    let chunked = accepted(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(chunked.body, BodyFraming::Chunked);
}

#[test]
fn expectations() {
    for (version, lines, expected) in [
        ("1.1", "Expect: 100-continue\r\nContent-Length: 5\r\n", true),
        (
            "1.1",
            "Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n",
            true,
        ),
        (
            "1.1",
            "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n",
            true,
        ),
        (
            "1.1",
            "Expect: , 100-continue ,,100-continue\r\nContent-Length: 5\r\n",
            true,
        ),
        ("1.1", "Expect:\r\nContent-Length: 5\r\n", false),
        ("1.1", "Expect: ,\r\nContent-Length: 5\r\n", false),
        // There is nothing to wait for.
        ("1.1", "Expect: 100-continue\r\n", false),
        ("1.1", "Content-Length: 5\r\n", false),
        // RFC 9110, section 10.1.1.
        (
            "1.0",
            "Expect: 100-continue\r\nContent-Length: 5\r\n",
            false,
        ),
    ] {
        let input = format!("POST / HTTP/{version}\r\nHost: h\r\n{lines}\r\n");
        assert_eq!(
            accepted(input.as_bytes()).expect_continue,
            expected,
            "{input}"
        );
    }
    for value in [
        "100",
        "200-ok",
        "100-continue 100-continue",
        "100-continue, other",
        "100-continue;a=b",
        "a",
    ] {
        for version in ["1.0", "1.1"] {
            let input = format!("POST / HTTP/{version}\r\nHost: h\r\nExpect: {value}\r\n\r\n");
            assert_eq!(rejected(input.as_bytes()), Reject::Expectation, "{value}");
        }
    }
}

#[test]
fn authorization() {
    let request = with_fields("aUTHORIZATION:  Basic dTpw \r\n");
    assert_eq!(accepted(&request).authorization, Some(&b"Basic dTpw"[..]));
    assert_eq!(
        accepted(&with_fields("Authorization:\r\n")).authorization,
        Some(&b""[..])
    );
    let twice = with_fields("Authorization: Basic dTpw\r\nAuthorization: Basic dTpw\r\n");
    assert_eq!(rejected(&twice), Reject::AuthorizationRepeated);
}

#[test]
fn other_fields_of_the_same_length_mean_nothing() {
    let plain = accepted(b"POST / HTTP/1.1\r\nHost: h\r\n\r\n");
    for name in [
        "From",
        "Cookie",
        "User-Agent",
        "If-None-Match",
        "Accept-Charset",
        "If-Modified-Since",
    ] {
        let input = format!(
            "POST / HTTP/1.1\r\nHost: h\r\n{name}: close\r\n{name}: 5\r\n{name}: chunked\r\n\r\n"
        );
        assert_eq!(accepted(input.as_bytes()), plain, "{name}");
    }
}

#[test]
fn what_is_wrong_before_a_bare_line_feed_is_told_first() {
    for (lines, expected) in [
        ("Host: h\nx", Reject::BareLineFeed),
        ("Host: h\x01\nx", Reject::FieldValue),
        ("Host: h\n\x01", Reject::BareLineFeed),
        ("Host: h\nBad Name: x", Reject::BareLineFeed),
    ] {
        let input = format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n");
        assert_eq!(rejected(input.as_bytes()), expected, "{lines:?}");
    }
}

#[test]
fn a_head_request_is_known_before_it_is_understood() {
    for (input, expected) in [
        (&b"HEAD "[..], true),
        (b"\r\nHEAD /\0", true),
        (b"HEAD", false),
        (b"HEADER /", false),
        (b"GET / HTTP/1.1\r\n", false),
        (b"\nHEAD /", false),
    ] {
        assert_eq!(
            asks_for_the_head(input),
            expected,
            "{}",
            input.escape_ascii()
        );
    }
}

#[test]
fn leading_empty_lines() {
    let request = b"GET / HTTP/1.0\r\n\r\n";
    for lines in 0..=limits::LEADING_EMPTY_LINES_MAX {
        accepted(&[b"\r\n".repeat(lines), request.to_vec()].concat());
    }
    let too_many = b"\r\n".repeat(limits::LEADING_EMPTY_LINES_MAX + 1);
    assert_eq!(
        rejected(&[too_many, request.to_vec()].concat()),
        Reject::EmptyLines
    );
}

#[test]
fn bytes_behind_a_head_are_left_alone() {
    let head = b"\r\nGET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n";
    let alone = parse(head);
    let behind: [&[u8]; 4] = [b"GET /x HTTP/1.1\r\n", b"\n\r\0\xff", b"\r\n\r\n", head];
    for behind in behind {
        assert_eq!(parse(&[head, behind].concat()), alone);
    }
    assert!(matches!(alone, Ok(Parsed::Complete { consumed, .. }) if consumed == head.len()));
}

/// Fills `{}` in a request up to a length of the whole.
fn filled(before: &str, after: &str, length: usize) -> Vec<u8> {
    let filling = "x".repeat(length - before.len() - after.len());
    [before, &filling, after].concat().into_bytes()
}

#[test]
fn bound_of_the_head() {
    let bound = limits::HEAD_BYTES_MAX;
    let shapes = [
        (
            "GET / HTTP/1.1\r\nHost: h\r\nA: ",
            "\r\n\r\n",
            Reject::HeadTooLarge,
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nA",
            ": a\r\n\r\n",
            Reject::HeadTooLarge,
        ),
        (
            "GET /",
            " HTTP/1.1\r\nHost: h\r\n\r\n",
            Reject::TargetTooLong,
        ),
        (
            "GET /?",
            " HTTP/1.1\r\nHost: h\r\n\r\n",
            Reject::TargetTooLong,
        ),
        (
            "GET http://h/",
            " HTTP/1.1\r\nHost: h\r\n\r\n",
            Reject::TargetTooLong,
        ),
    ];
    for (before, after, expected) in shapes {
        accepted(&filled(before, after, bound));
        assert_eq!(
            rejected(&filled(before, after, bound + 1)),
            expected,
            "{before}"
        );
        // Without an end in sight.
        assert_eq!(rejected(&filled(before, "", bound)), expected, "{before}");
        assert_eq!(parse(&filled(before, "", bound - 1)), Ok(Parsed::Partial));
        // Empty lines before it do not count.
        accepted(&[b"\r\n".to_vec(), filled(before, after, bound)].concat());
    }
    assert_eq!(rejected(&filled("", "", bound)), Reject::MethodUnknown);

    let long_target = |bytes: usize| {
        let start = format!("GET /{} HTTP/1.1\r\nHost: h\r\nA: ", "x".repeat(bytes - 1));
        rejected(&filled(&start, "\r\n\r\n", bound + 1))
    };
    assert_eq!(long_target(limits::LONG_TARGET_BYTES), Reject::HeadTooLarge);
    assert_eq!(
        long_target(limits::LONG_TARGET_BYTES + 1),
        Reject::TargetTooLong
    );
}

#[test]
fn bound_of_the_header_lines() {
    let others = |count: usize| with_fields(&"A: b\r\n".repeat(count));
    accepted(&others(limits::HEADERS_MAX - 1));
    assert_eq!(
        rejected(&others(limits::HEADERS_MAX)),
        Reject::TooManyHeaders
    );
}

#[test]
fn every_reject_has_its_status_and_words() {
    for (reject, status) in [
        (Reject::RequestLine, 400),
        (Reject::EmptyLines, 400),
        (Reject::BareLineFeed, 400),
        (Reject::FieldName, 400),
        (Reject::FieldValue, 400),
        (Reject::LineEnd, 400),
        (Reject::VersionSpelling, 400),
        (Reject::Target, 400),
        (Reject::HostMissing, 400),
        (Reject::HostRepeated, 400),
        (Reject::HostInvalid, 400),
        (Reject::AuthorizationRepeated, 400),
        (Reject::ContentLength, 400),
        (Reject::TransferEncoding, 400),
        (Reject::TwoFramings, 400),
        (Reject::Chunk, 400),
        (Reject::ChunkLineTooLong, 400),
        (Reject::Trailers, 400),
        (Reject::BodyTooLarge, 413),
        (Reject::TargetTooLong, 414),
        (Reject::Expectation, 417),
        (Reject::HeadTooLarge, 431),
        (Reject::TooManyHeaders, 431),
        (Reject::MethodUnknown, 501),
        (Reject::TransferCodingUnknown, 501),
        (Reject::VersionNotServed, 505),
    ] {
        assert_eq!(reject.status().code(), status, "{reject:?}");
    }
}
