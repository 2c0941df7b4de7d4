//! The laws of the request parser, held on the fuzzer's seeds, on everything that ever broke one
//! of them, and on generated requests.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tickr::http::request::{BodyFraming, Method, Parsed, Request, Target, Version, parse};
use tickr::limits;

use crate::fuzz_laws::differential;

#[path = "../../fuzz/laws/request.rs"]
mod laws;

/// The files of a folder of the fuzzer, with their names; none when there is no such folder.
fn inputs(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(folder);
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().expect("a name in ASCII");
        (name, fs::read(entry.path()).expect("a readable file"))
    };
    entries
        .map(|entry| read(entry.expect("a readable folder")))
        .collect()
}

/// A seed's name begins with what comes of it.
#[test]
fn seeds_and_regressions_keep_the_laws() {
    let seeds = inputs("corpus/request");
    assert!(seeds.len() > 50);
    for (name, input) in seeds {
        let verdict = match parse(&input) {
            Ok(Parsed::Complete { .. }) => "accepted".to_owned(),
            Ok(Parsed::Partial) => "partial".to_owned(),
            Err(reject) => format!("rejected-{}", reject.status().code()),
        };
        assert!(name.starts_with(&verdict), "{name} is {verdict}");
        laws::check(&input);
    }
    for (name, input) in inputs("regressions/request") {
        println!("{name}");
        laws::check(&input);
    }
}

/// Parts of requests, good and bad, that stand in any order.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "GET ",
        "POST ",
        "OPTIONS ",
        "BREW ",
        "/",
        "/tickets/create",
        "?a=b",
        "*",
        "http://h",
        "http://h:80/a",
        "#",
        " HTTP/1.1\r\n",
        " HTTP/1.0\r\n",
        " HTTP/2.0\r\n",
        "HTTP/1.",
        "Host:",
        "Host: h\r\n",
        "Content-Length: ",
        "5\r\n",
        "0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
        "Authorization: a\r\n",
        "a: b\r\n",
        "\r\n",
        "\r\n\r\n",
        "\r",
        "\n",
        "\0",
        " ",
        "\t",
        ":",
        ";",
        ",",
        "hello",
        "\u{e9}",
    ]);
    let part = prop_oneof![
        9 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

/// A whole request, most of the time, with fragments in between and behind.
fn almost_requests() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec![
        "",
        "GET / HTTP/1.1\r\nHost: h\r\n",
        "POST / HTTP/1.0\r\n",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
    ]);
    (start, fragments(), fragments())
        .prop_map(|(start, middle, end)| [start.as_bytes(), &middle, b"\r\n\r\n", &end].concat())
}

/// A request in memory that owns its bytes.
#[derive(Debug)]
struct Sample {
    method: Method,
    path: Option<String>,
    query: Option<String>,
    version: Version,
    keep_alive: bool,
    body: BodyFraming,
    expects: bool,
    authorization: Option<String>,
}

impl Sample {
    fn request(&self) -> Request<'_> {
        let http11 = self.version == Version::Http11;
        let (method, target) = match &self.path {
            None => (Method::Options, Target::Asterisk),
            Some(path) => {
                let path = path.as_bytes();
                let query = self.query.as_deref().map(str::as_bytes);
                (self.method, Target::Path { path, query })
            }
        };
        Request {
            method,
            target,
            version: self.version,
            keep_alive: self.keep_alive && (http11 || self.body != BodyFraming::Chunked),
            body: self.body,
            expect_continue: self.expects && http11 && self.body != BodyFraming::None,
            authorization: self.authorization.as_deref().map(str::as_bytes),
        }
    }
}

fn samples() -> impl Strategy<Value = Sample> {
    let method = prop::sample::select(vec![
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Options,
        Method::Patch,
        Method::Trace,
    ]);
    let version = prop::sample::select(vec![Version::Http10, Version::Http11]);
    let body = prop_oneof![
        Just(BodyFraming::None),
        (1..=limits::BODY_BYTES_MAX).prop_map(BodyFraming::Length),
        Just(BodyFraming::Chunked),
    ];
    let path = prop::option::weighted(0.9, "/[!-\"$->@-~]{0,40}");
    let query = prop::option::of("[!-\"$-~]{0,40}");
    // White space around a value is no part of it.
    let authorization = prop::option::of("([!-~]([ -~]{0,40}[!-~])?)?");
    (
        method,
        path,
        query,
        version,
        any::<bool>(),
        body,
        any::<bool>(),
        authorization,
    )
        .prop_map(
            |(method, path, query, version, keep_alive, body, expects, authorization)| Sample {
                method,
                path,
                query,
                version,
                keep_alive,
                body,
                expects,
                authorization,
            },
        )
}

/// Says the same in a roundabout way: names in another case, white space, fields of no meaning,
/// empty lines before it, and an absolute target where there is a path.
fn roundabout(head: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(head).expect("a sample in ASCII");
    let (request_line, fields) = text.split_once("\r\n").expect("a request line");
    let mut long = format!(
        "\r\n\r\n{}\r\nX-Before:\r\n",
        request_line.replacen(" /", " hTTp://h/", 1)
    );
    for field in fields
        .trim_end()
        .split("\r\n")
        .filter(|field| !field.is_empty())
    {
        let (name, value) = field.split_once(':').expect("a colon");
        match name {
            "Host" => long.push_str("HOST: \t[::1]:80\r\n"),
            "Connection" => {
                long.push_str(&format!("connection: te,\t{} ,\r\n", value.to_uppercase()))
            }
            _ => long.push_str(&format!("{}:\t {value} \t\r\n", name.to_uppercase())),
        }
    }
    long.push_str("Cookie: content-length: 5\r\n\r\n");
    long.into_bytes()
}

proptest! {
    #[test]
    fn anything_keeps_the_laws(input in prop_oneof![fragments(), almost_requests()]) {
        laws::check(&input);
        differential::check(&input);
    }

    #[test]
    fn a_request_reads_as_it_was_written(sample in samples()) {
        let request = sample.request();
        let short = laws::canonical(&request);
        let consumed = short.len();
        prop_assert_eq!(parse(&short), Ok(Parsed::Complete { request, consumed }));
        let long = roundabout(&short);
        let consumed = long.len();
        prop_assert_eq!(parse(&long), Ok(Parsed::Complete { request, consumed }));
        laws::check(&long);
        differential::check(&long);
    }
}
