//! What holds of the request parser and the body decoder, whatever bytes they are given. The fuzz
//! target tries them on its inputs, the tests on the fuzzer's corpus and on generated requests.

use tickr::http::body::Decoder;
use tickr::http::request::{BodyFraming, Method, Parsed, Reject, Request, Target, Version, parse};
use tickr::limits;

/// So many prefixes of a long input are tried; of a shorter one, all.
const PREFIXES: usize = 64;

/// Holds every law on `input`.
pub(super) fn check(input: &[u8]) {
    let verdict = parse(input);
    a_prefix_is_undecided_or_judged_alike(input, verdict);
    if let Ok(Parsed::Complete { request, consumed }) = verdict {
        let (head, rest) = input.split_at(consumed);
        bytes_behind_a_head_do_not_change_it(head, rest, verdict);
        a_head_is_as_strict_as_it_looks(head, &request);
        a_request_survives_its_canonical_form(&request);
        a_body_is_the_same_in_any_pieces(request.body, rest);
    }
}

fn a_prefix_is_undecided_or_judged_alike(input: &[u8], verdict: Result<Parsed<'_>, Reject>) {
    let step = 1 + input.len() / PREFIXES;
    for length in (input.len() % step..input.len()).step_by(step) {
        let part = parse(&input[..length]);
        if part != Ok(Parsed::Partial) {
            assert_eq!(part, verdict, "the first {length} bytes");
        }
    }
}

fn bytes_behind_a_head_do_not_change_it(
    head: &[u8],
    rest: &[u8],
    verdict: Result<Parsed<'_>, Reject>,
) {
    assert_eq!(parse(head), verdict);
    let others: Vec<u8> = rest.iter().rev().chain(b"\n\r\n\0").copied().collect();
    assert_eq!(parse(&[head, &others].concat()), verdict);
}

/// Reads the head once more in the plainest way, and refuses what must not have passed.
fn a_head_is_as_strict_as_it_looks(head: &[u8], request: &Request<'_>) {
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let text = text.trim_start_matches("\r\n");
    // Each byte has become one character; some take two bytes again.
    assert!(text.chars().count() <= limits::HEAD_BYTES_MAX);
    assert_eq!(
        text.find("\r\n\r\n"),
        Some(text.len() - 4),
        "it ends at its first empty line"
    );

    let lines: Vec<&str> = text[..text.len() - 4].split("\r\n").collect();
    assert!(lines.len() <= 1 + limits::HEADERS_MAX);
    assert!(
        lines[0].bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        "{:?}",
        lines[0]
    );
    assert_eq!(lines[0].split(' ').count(), 3, "{:?}", lines[0]);

    let mut hosts = 0;
    let mut framings = 0;
    for line in &lines[1..] {
        let (name, value) = line.split_once(':').expect("a field line has a colon");
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        assert!(!name.is_empty() && name.chars().all(is_token), "{line:?}");
        let is_text = |c: char| c == '\t' || c >= ' ' && c != '\x7f';
        assert!(value.chars().all(is_text), "{line:?}");
        match &name.to_ascii_lowercase()[..] {
            "host" => hosts += 1,
            "content-length" => {
                framings += 1;
                let length = value.trim_matches([' ', '\t']);
                assert!(length.chars().all(|c| c.is_ascii_digit()), "{line:?}");
                let expected = match length.parse().expect("a length that fits in a u64") {
                    0 => BodyFraming::None,
                    length => BodyFraming::Length(length),
                };
                assert_eq!(request.body, expected);
            }
            "transfer-encoding" => {
                framings += 1;
                let coding = value.trim_matches([' ', '\t']).to_ascii_lowercase();
                assert_eq!(coding, "chunked");
                assert_eq!(request.body, BodyFraming::Chunked);
            }
            _ => {}
        }
    }
    assert!(hosts == 1 || hosts == 0 && request.version == Version::Http10);
    assert!(framings == 1 || framings == 0 && request.body == BodyFraming::None);
}

fn a_request_survives_its_canonical_form(request: &Request<'_>) {
    let head = canonical(request);
    let expected = Parsed::Complete {
        request: *request,
        consumed: head.len(),
    };
    assert_eq!(parse(&head), Ok(expected), "{}", head.escape_ascii());
}

fn a_body_is_the_same_in_any_pieces(framing: BodyFraming, input: &[u8]) {
    let whole = decode(framing, input, input.len());
    assert_eq!(decode(framing, input, 1), whole);
    assert_eq!(decode(framing, input, 7), whole);
    let Ok((consumed, done)) = whole else { return };
    assert!(done || consumed == input.len());
    if done {
        let others = [&input[..consumed], b"\r\nx"].concat();
        assert_eq!(decode(framing, &others, others.len()), whole);
    }
    match framing {
        BodyFraming::None => assert_eq!((consumed, done), (0, true)),
        BodyFraming::Length(length) => {
            let length = usize::try_from(length).expect("a bounded length");
            assert_eq!(
                (consumed, done),
                (length.min(input.len()), length <= input.len())
            );
        }
        BodyFraming::Chunked if done => assert!(input[..consumed].ends_with(b"\r\n\r\n")),
        BodyFraming::Chunked => {}
    }
}

/// How many bytes belong to a body that is read in pieces, and whether it has ended.
fn decode(framing: BodyFraming, input: &[u8], piece: usize) -> Result<(usize, bool), Reject> {
    let mut decoder = Decoder::new(framing);
    let mut total = 0;
    let mut done = decoder.consume(b"")?.done;
    for piece in input.chunks(piece.max(1)) {
        if done {
            break;
        }
        let progress = decoder.consume(piece)?;
        assert!(progress.consumed <= piece.len());
        total += progress.consumed;
        done = progress.done;
    }
    Ok((total, done))
}

/// The shortest head that says the same.
pub(super) fn canonical(request: &Request<'_>) -> Vec<u8> {
    let method = match request.method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Patch => "PATCH",
        Method::Trace => "TRACE",
    };
    let mut head = Vec::from(method);
    head.push(b' ');
    match request.target {
        Target::Asterisk => head.push(b'*'),
        Target::Path { path, query } => {
            head.extend_from_slice(path);
            if let Some(query) = query {
                head.push(b'?');
                head.extend_from_slice(query);
            }
        }
    }
    head.extend_from_slice(match request.version {
        Version::Http10 => b" HTTP/1.0\r\n",
        Version::Http11 => b" HTTP/1.1\r\nHost:\r\n",
    });
    match (request.version, request.keep_alive) {
        (Version::Http10, true) => head.extend_from_slice(b"Connection:keep-alive\r\n"),
        (Version::Http11, false) => head.extend_from_slice(b"Connection:close\r\n"),
        (Version::Http10, false) | (Version::Http11, true) => {}
    }
    match request.body {
        BodyFraming::None => {}
        BodyFraming::Length(length) => {
            head.extend_from_slice(format!("Content-Length:{length}\r\n").as_bytes());
        }
        BodyFraming::Chunked => head.extend_from_slice(b"Transfer-Encoding:chunked\r\n"),
    }
    if request.expect_continue {
        head.extend_from_slice(b"Expect:100-continue\r\n");
    }
    if let Some(credentials) = request.authorization {
        head.extend_from_slice(b"Authorization:");
        head.extend_from_slice(credentials);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}
