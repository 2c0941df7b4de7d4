//! The request parser beside the grammar of the RFCs: what it accepts the grammar accepts and
//! means the same, what it refuses the grammar refuses, at the same byte. Each difference that is
//! meant has a name here.

use tickr::api::routes::{Route, Rules, route};
use tickr::http::array::Format;
use tickr::http::request::{BodyFraming, Method, Parsed, Reject, Request, Target, Version, parse};
use tickr::limits;

#[path = "grammar.rs"]
mod grammar;

use grammar::{End, Form, Head, elements, form, host_port, is_path, is_query, lex, values};

/// The methods that the parser knows; of others the RFC asks for a 501 (RFC 9110, section 9.1), and
/// so it does of a CONNECT to a server that implements none.
const METHODS: [(&[u8], Method); 8] = [
    (b"GET", Method::Get),
    (b"HEAD", Method::Head),
    (b"POST", Method::Post),
    (b"PUT", Method::Put),
    (b"DELETE", Method::Delete),
    (b"OPTIONS", Method::Options),
    (b"PATCH", Method::Patch),
    (b"TRACE", Method::Trace),
];

/// Compares the two on `input`.
pub(crate) fn check(input: &[u8]) {
    let (head, end) = lex(input);
    match (parse(input), end) {
        (Ok(Parsed::Complete { request, consumed }), End::Whole(length)) => {
            assert_eq!(consumed, length);
            accepted(&head, length, &request);
        }
        (Ok(Parsed::Partial), End::Open) => {}
        (Err(reject), End::Whole(_)) => {
            assert!(
                is_refused_by_meaning(&head, reject, input),
                "{reject:?} for {head:?}"
            );
        }
        (Err(reject), End::Open) => {
            assert!(
                is_refused_early(&head, reject, input),
                "{reject:?} for {head:?}"
            );
        }
        (Err(reject), End::Wrong(at)) => {
            if !is_refused_early(&head, reject, input) {
                assert!(parse(&input[..=at]).is_err(), "refused behind {at} only");
                assert_eq!(parse(&input[..at]), Ok(Parsed::Partial), "before {at}");
                assert_eq!(reject.status().code(), 400, "{reject:?}");
            }
        }
        (parsed, end) => panic!("{parsed:?}, but by the grammar {end:?} of {head:?}"),
    }
}

/// Whether this may be refused before the grammar finds anything wrong: a bound is passed, the
/// version is another one, or the target is no text.
fn is_refused_early(head: &Head<'_>, reject: Reject, input: &[u8]) -> bool {
    let too_long = input.len() - 2 * head.empty_lines >= limits::HEAD_BYTES_MAX;
    match reject {
        Reject::EmptyLines => head.empty_lines > limits::LEADING_EMPTY_LINES_MAX,
        Reject::TooManyHeaders => head.fields.len() >= limits::HEADERS_MAX,
        Reject::HeadTooLarge | Reject::TargetTooLong => too_long,
        Reject::MethodUnknown => too_long && head.target.is_empty(),
        Reject::VersionNotServed => !matches!(head.version, Some([1, 0 | 1]) | None),
        // Bytes that are no UTF-8 are refused where they stand, or where the target ends.
        Reject::RequestLine => std::str::from_utf8(head.target).is_err(),
        _ => false,
    }
}

/// Whether a head that follows the grammar is refused for a reason that it has.
fn is_refused_by_meaning(head: &Head<'_>, reject: Reject, input: &[u8]) -> bool {
    if is_refused_early(head, reject, input) {
        return true;
    }
    let hosts = values(head, "host");
    let codings = values(head, "transfer-encoding");
    let lengths = values(head, "content-length");
    match reject {
        Reject::MethodUnknown => METHODS.iter().all(|(name, _)| *name != head.method),
        Reject::Target => !has_served_form(head),
        Reject::HostMissing => head.version == Some([1, 1]) && hosts.is_empty(),
        Reject::HostRepeated => hosts.len() > 1,
        Reject::HostInvalid => {
            authority(head).is_some_and(|authority| !is_served(authority))
                || hosts
                    .iter()
                    .any(|host| !host.is_empty() && !is_served(host))
        }
        // The RFC has no word on it (RFC 9110, section 5.3): it is no list.
        Reject::AuthorizationRepeated => values(head, "authorization").len() > 1,
        // Lists of the same number may be refused (RFC 9112, section 6.3), and so is what does
        // not fit in 64 bits.
        Reject::ContentLength => {
            let is_number = |value: &&[u8]| {
                let text = std::str::from_utf8(value).unwrap_or_default();
                value.iter().all(u8::is_ascii_digit) && text.parse::<u64>().is_ok()
            };
            lengths.len() > 1 || !lengths.iter().all(is_number)
        }
        // Some empty elements of the list must be borne with (RFC 9110, section 5.6.1.2). It is a
        // 400 for all: `, chunked` and its like are how a request is smuggled past a proxy that
        // reads them otherwise, and no client sends them.
        Reject::TransferEncoding => !matches!(&codings[..],
            [only] if only.eq_ignore_ascii_case(b"chunked")),
        // RFC 9112, section 6.1; without `chunked` at its end it is malformed (section 6.3).
        Reject::TransferCodingUnknown => {
            let listed = elements(head, "transfer-encoding");
            let chunked = listed.iter().filter(|coding| *coding == b"chunked");
            listed.len() > 1
                && listed.last().is_some_and(|last| last == b"chunked")
                && chunked.count() == 1
        }
        Reject::TwoFramings => !codings.is_empty() && !lengths.is_empty(),
        Reject::BodyTooLarge => lengths.iter().any(|value| {
            let length = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok());
            length > Some(limits::BODY_BYTES_MAX)
        }),
        Reject::Expectation => elements(head, "expect")
            .iter()
            .any(|expectation| expectation != b"100-continue"),
        // A later minor version of HTTP/1 should be taken for 1.1 (RFC 9110, section 2.5), or may
        // get a 505 (section 15.6.6). There is none and will be none, so who sends one probes how
        // servers differ.
        Reject::VersionNotServed => !matches!(head.version, Some([1, 0 | 1])),
        Reject::HeadTooLarge | Reject::TargetTooLong | Reject::TooManyHeaders => false,
        Reject::EmptyLines
        | Reject::RequestLine
        | Reject::BareLineFeed
        | Reject::FieldName
        | Reject::FieldValue
        | Reject::LineEnd
        | Reject::VersionSpelling => false,
        Reject::Chunk
        | Reject::ChunkLineTooLong
        | Reject::Trailers
        | Reject::Truncated
        | Reject::HeadTimeout
        | Reject::BodyTimeout => false,
    }
}

/// The characters of a URI, in a form that has a meaning to a server that is no tunnel.
fn has_served_form(head: &Head<'_>) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#';
    if !head.target.iter().all(is_plain) {
        return false;
    }
    match form(head.target) {
        Form::Origin { .. } => true,
        Form::Asterisk => head.method == b"OPTIONS",
        Form::Absolute {
            scheme, authority, ..
        } => authority.is_some() && is_http(scheme),
        Form::Other => false,
    }
}

fn is_http(scheme: &[u8]) -> bool {
    scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https")
}

fn authority<'a>(head: &Head<'a>) -> Option<&'a [u8]> {
    match form(head.target) {
        Form::Absolute { authority, .. } => authority,
        Form::Origin { .. } | Form::Asterisk | Form::Other => None,
    }
}

/// A host that is there and a port that TCP has. The grammar is wider; the RFC has an empty host
/// refused (RFC 9110, section 4.2.1), and so is an address of a future version.
fn is_served(host: &[u8]) -> bool {
    host_port(host).is_some_and(|host| {
        let digits = std::str::from_utf8(host.port).expect("digits");
        let fits = digits.is_empty()
            || digits.trim_start_matches('0').len() <= 5 && {
                let number: u32 = digits.parse().unwrap_or(u32::MAX);
                number <= u16::MAX.into()
            };
        !host.name_is_empty && !host.is_future && fits
    })
}

fn accepted(head: &Head<'_>, length: usize, request: &Request<'_>) {
    assert!(head.empty_lines <= limits::LEADING_EMPTY_LINES_MAX);
    assert!(length - 2 * head.empty_lines <= limits::HEAD_BYTES_MAX);
    assert!(head.fields.len() <= limits::HEADERS_MAX);

    let method = METHODS.iter().find(|(name, _)| *name == head.method);
    assert_eq!(method.map(|(_, method)| *method), Some(request.method));
    let is_new = match (head.version, request.version) {
        (Some([1, 1]), Version::Http11) => true,
        (Some([1, 0]), Version::Http10) => false,
        (version, other) => panic!("{version:?} was taken for {other:?}"),
    };

    assert!(has_served_form(head), "{head:?}");
    let hosts = values(head, "host");
    assert!(hosts.len() == 1 || hosts.is_empty() && !is_new);
    let authority = authority(head);
    for host in hosts {
        assert!(is_served(host) || host.is_empty());
    }
    assert!(authority.is_none_or(is_served));
    means_the_target(head, request);

    let codings = elements(head, "transfer-encoding");
    let lengths = values(head, "content-length");
    let framing = match (&codings[..], &lengths[..]) {
        ([], []) => BodyFraming::None,
        ([], [length]) => {
            assert!(!length.is_empty() && length.iter().all(u8::is_ascii_digit));
            let length = std::str::from_utf8(length).expect("digits");
            match length.parse().expect("a number that fits") {
                0 => BodyFraming::None,
                length => BodyFraming::Length(length),
            }
        }
        ([coding], []) if coding == b"chunked" => BodyFraming::Chunked,
        (codings, lengths) => panic!("{codings:?} and {lengths:?} were accepted"),
    };
    assert_eq!(request.body, framing);

    let options = elements(head, "connection");
    let has = |option: &[u8]| options.iter().any(|other| other == option);
    // RFC 9112, section 9.3, and section 6.1 of a coding in HTTP/1.0.
    let keep_alive = match (has(b"close"), is_new) {
        (true, _) => false,
        (false, true) => true,
        (false, false) => has(b"keep-alive") && framing != BodyFraming::Chunked,
    };
    assert_eq!(request.keep_alive, keep_alive);

    let expectations = elements(head, "expect");
    assert!(
        expectations
            .iter()
            .all(|expectation| expectation == b"100-continue")
    );
    let waits = !expectations.is_empty() && is_new && framing != BodyFraming::None;
    assert_eq!(request.expect_continue, waits);

    let credentials = values(head, "authorization");
    assert!(credentials.len() <= 1);
    assert_eq!(request.authorization, credentials.first().copied());
}

fn means_the_target(head: &Head<'_>, request: &Request<'_>) {
    let (path, query) = match form(head.target) {
        Form::Asterisk => return assert_eq!(request.target, Target::Asterisk),
        Form::Absolute {
            path: b"",
            query: None,
            ..
        } if head.method == b"OPTIONS" => return assert_eq!(request.target, Target::Asterisk),
        Form::Absolute {
            path: b"", query, ..
        } => (&b"/"[..], query),
        Form::Origin { path, query } | Form::Absolute { path, query, .. } => (path, query),
        Form::Other => panic!("{head:?}"),
    };
    assert_eq!(request.target, Target::Path { path, query });
    // Some characters, and a `%` without two digits, stand in no URI; clients send them all the
    // same, and a server should refuse them (RFC 9112, section 3.2). They lead to no route, and so
    // to a 404 or a 400. The probes ignore their query, whatever it is: a load balancer that adds
    // one must not find a healthy server dead.
    let rules = Rules {
        max_batch: 1_000_000,
        batch_format: Format::Array,
        password: None,
    };
    let routed = route(request, &rules);
    assert!(routed.is_err() || is_path(path), "{head:?}");
    let is_probe = matches!(routed, Ok(Route::Livez | Route::Readyz));
    assert!(
        routed.is_err() || is_probe || query.is_none_or(is_query),
        "{head:?}"
    );
}
