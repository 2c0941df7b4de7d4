//! HTTP framing over real sockets: however the bytes come, the answers are the same; and no byte
//! of one request is ever taken for another.

use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tickr::api::problems;
use tickr::http::connection::End;
use tickr::http::response::{HeadCache, Persistence};
use tickr::moment::Moment;

use crate::caller::{Caller, Split, answers};
use crate::harness::{Client, Database, Kind, Response, Tickr, for_both, get};

/// A request that would spend a ticket if it were ever found behind something malformed.
const SMUGGLED: &str = "GET /tickets/create/1000 HTTP/1.1\r\nHost: tickr\r\n\r\n";

/// One connection's worth of everything: each way to frame a request, and its status.
const CONVERSATION: [(&str, u16); 12] = [
    ("GET /tickets/create HTTP/1.1\r\nHost: tickr\r\n\r\n", 200),
    (
        "POST /tickets/create/3?format=range HTTP/1.1\r\nHost: tickr\r\n\
         Transfer-Encoding: chunked\r\n\r\n\
         5;a=\"b\"\r\nGET /\r\n01\r\n \r\n000\r\nX-Trailer: 1\r\n\r\n",
        200,
    ),
    (
        "\r\n\r\nGET /livez HTTP/1.1\r\nHost: tickr\r\nContent-Length: 9\r\n\r\nGET / HTT",
        200,
    ),
    (
        "HEAD /livez HTTP/1.1\r\nhost:tickr:80\r\nX-Empty:\r\n\r\n",
        200,
    ),
    ("GET /nowhere HTTP/1.1\r\nHOST:  tickr \t\r\n\r\n", 404),
    ("OPTIONS * HTTP/1.1\r\nHost: tickr\r\n\r\n", 200),
    (
        "GET http://tickr.example:8080/livez?x HTTP/1.1\r\nHost: tickr\r\n\r\n",
        200,
    ),
    (
        "DELETE /status HTTP/1.1\r\nHost: tickr\r\nContent-Length: 2\r\n\r\n\r\n",
        405,
    ),
    (
        "GET /%74ickets/create/%31?format=string HTTP/1.1\r\nHost: tickr\r\n\r\n",
        200,
    ),
    ("GET /tickets/create/x HTTP/1.1\r\nHost: tickr\r\n\r\n", 400),
    (
        "GET /livez HTTP/1.0\r\nConnection: foo, Keep-Alive\r\n\r\n",
        200,
    ),
    (
        "GET /tickets/create/2 HTTP/1.1\r\nHost: tickr\r\nConnection: CLOSE\r\n\r\n",
        200,
    ),
];

/// What an answer says, whatever its time and its tickets are.
fn gist(response: &Response) -> String {
    let headers = response.headers.iter().filter(|(name, _)| name != "date");
    let headers: Vec<_> = headers.collect();
    let mut body = response.text().to_owned();
    if response.status == 200 {
        body = body.replace(|c: char| c.is_ascii_digit(), "#");
    }
    format!("{} {headers:?} {body}", response.status)
}

/// Reads the answers to the conversation, to the end of the connection.
fn read_conversation(client: &mut Client) -> Vec<String> {
    let mut gists = Vec::new();
    for (request, status) in CONVERSATION {
        let response = match request.starts_with("HEAD") {
            true => client.read_head(),
            false => client.read_response(),
        };
        assert_eq!(response.status, status, "{request}: {response:?}");
        gists.push(gist(&response));
    }
    client.check_closed();
    gists
}

fn input() -> String {
    CONVERSATION
        .into_iter()
        .map(|(request, _)| request)
        .collect()
}

#[test]
fn every_split_of_the_input_gives_the_same_answers() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let input = input();
    for_both(|kind| {
        let whole = {
            let mut client = tickr.connect(kind);
            client.send(&input);
            read_conversation(&mut client)
        };
        let mut client = tickr.connect(kind);
        for byte in input.as_bytes() {
            client.send([*byte]);
        }
        assert_eq!(read_conversation(&mut client), whole, "byte by byte");
        for at in (1..input.len()).step_by(7) {
            let mut client = tickr.connect(kind);
            client.send(&input[..at]);
            thread::yield_now();
            client.send(&input[at..]);
            assert_eq!(read_conversation(&mut client), whole, "in halves, at {at}");
        }
    });
}

/// Over sockets two writes may arrive as one; here they cannot.
#[test]
fn every_split_in_two_gives_the_same_answers_where_it_cannot_be_undone() {
    let input = input();
    let whole = answers_to(&[input.as_bytes()]);
    let texts = String::from_utf8(whole.clone()).expect("answers are ASCII");
    assert_eq!(texts.matches("HTTP/1.1 ").count(), CONVERSATION.len());
    for at in 0..=input.len() {
        let (before, after) = input.as_bytes().split_at(at);
        assert_eq!(answers_to(&[before, after]), whole, "split at {at}");
    }
    let bytes: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
    assert_eq!(answers_to(&bytes), whole, "byte by byte");
}

/// What one connection answers to these reads, with a database that answers at once.
fn answers_to(reads: &[&[u8]]) -> Vec<u8> {
    let now = Moment::default();
    let mut caller = Caller::new(now);
    for bytes in reads {
        caller.receive(bytes, now);
        caller.go_on(now);
    }
    assert_eq!(caller.connection.end(), End::Finish);
    caller.received
}

/// The fuzzer's corpus, as far as it is committed.
#[test]
fn every_split_that_the_fuzzer_knows_gives_the_same_answers() {
    let inputs = fs::read_dir("fuzz/corpus/connection").into_iter().flatten();
    for entry in inputs {
        let data = fs::read(entry.expect("a readable folder").path()).expect("a readable file");
        let Some((count, rest)) = data.split_first() else {
            continue;
        };
        let (splits, input) = rest.split_at(rest.len().min(4 * usize::from(*count)));
        let split = |split: &[u8]| Split {
            bytes: split[0].into(),
            complete: split[1].into(),
            taken: u16::from_be_bytes([split[2], split[3]]).into(),
        };
        let splits: Vec<Split> = splits.chunks_exact(4).map(split).collect();
        let [at_once, in_pieces] = [answers(input, &[]), answers(input, &splits)];
        assert!(at_once == in_pieces, "{}", input.escape_ascii());
    }
}

/// A head that is known is not read again.
#[test]
fn heads_that_recur_are_answered_like_new_ones() {
    let heads = [
        "GET /tickets/create HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET /tickets/create/2 HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET /tickets/create HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "HEAD /livez HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET /nowhere HTTP/1.1\r\nHost: t\r\n\r\n",
        "POST /tickets/create HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc",
        "\r\nGET /tickets/create HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET /tickets/create HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
    ];
    let split = |bytes| Split {
        bytes,
        complete: 3,
        taken: usize::MAX,
    };
    for first in heads {
        for second in heads {
            let input = [first, first, second, second, first].concat();
            let known = [split(0)];
            let in_pieces: Vec<Split> = input.bytes().map(|_| split(1)).collect();
            let new = answers(input.as_bytes(), &[]);
            assert!(new.len() > 100);
            for splits in [&known[..], &in_pieces] {
                assert_eq!(answers(input.as_bytes(), splits), new, "{input}");
            }
        }
    }
}

#[test]
fn a_thousand_pipelined_requests_are_answered_in_order() {
    const DEPTH: u64 = 1_000;
    let request = |n: u64| match n % 8 {
        0 => get("/tickets/create"),
        1 => get(&format!("/tickets/create/{}?format=range", n + 1)),
        2 => get("/livez"),
        3 => get(&format!("/nowhere/{n}")),
        4 => "HEAD /status HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(),
        5 => format!(
            "POST /tickets/create/{} HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nGET",
            n + 1
        ),
        6 => get("/status"),
        _ => "PUT /status HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n\
              3\r\nGET\r\n0\r\n\r\n"
            .to_owned(),
    };
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let mut last_ticket = 0;
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        let mut writer = client.writer();
        thread::scope(|scope| {
            scope.spawn(move || writer.send((0..DEPTH).map(request).collect::<String>()));
            for n in 0..DEPTH {
                let response = match n % 8 {
                    4 => client.read_head(),
                    _ => client.read_response(),
                };
                let expected = [200, 200, 200, 404, 200, 200, 200, 405][(n % 8) as usize];
                assert_eq!(response.status, expected, "{n}: {response:?}");
                let tickets = match n % 8 {
                    0 | 1 | 5 => response.tickets(),
                    _ => continue,
                };
                let count = if n % 8 == 0 { 1 } else { n + 1 };
                assert_eq!(tickets.len() as u64, count, "{n}");
                for ticket in tickets {
                    assert!(ticket > last_ticket, "{ticket} comes after {last_ticket}");
                    last_ticket = ticket;
                }
            }
        });
        client.finish();
        client.check_closed();
    });
}

#[test]
fn nothing_can_be_smuggled() {
    let post = "POST /livez HTTP/1.1\r\nHost: tickr\r\n";
    let get = "GET /livez HTTP/1.1\r\nHost: tickr\r\n";
    let cases = [
        (
            post,
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            post,
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        ),
        (
            post,
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (post, "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
        (post, "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        (post, "Content-Length: 3, 3\r\n\r\nabc"),
        (post, "Content-Length: +3\r\n\r\nabc"),
        (post, "Content-Length: -3\r\n\r\nabc"),
        (post, "Content-Length: 0x3\r\n\r\nabc"),
        (post, "Content-Length: 3 \x0b\r\n\r\nabc"),
        (post, "Content-Length: 1 2\r\n\r\nabc"),
        (post, "Content-Length: 3.0\r\n\r\nabc"),
        (post, "Content-Length: \r\n\r\nabc"),
        (post, "Content-Length: 18446744073709551616\r\n\r\nabc"),
        (post, "Content-Length: 18446744073709551619\r\n\r\nabc"),
        (post, "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        (post, "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        (
            post,
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (post, "Transfer-Encoding: identity\r\n\r\n"),
        (post, "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        (post, "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
        (post, "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
        (post, "Transfer-Encoding:\r\n\r\n0\r\n\r\n"),
        (post, "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
        (post, "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        (post, "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
        (post, "Content-Length : 3\r\n\r\nabc"),
        (get, " X: y\r\n\r\n"),
        (get, "X : y\r\n\r\n"),
        (get, "X: y\r\n folded\r\n\r\n"),
        (get, "X: y\r\n\tfolded\r\n\r\n"),
        (get, "X: y\r\n \r\n\r\n"),
        (get, "X: y\rZ: w\r\n\r\n"),
        (get, "X: y\r\r\n\r\n"),
        (get, "X: y\n\r\n"),
        (get, "X: y\r\n\n"),
        (get, "\n"),
        (get, "X: y\0\r\n\r\n"),
        (get, "X: \x01y\r\n\r\n"),
        (get, "X: y\x7f\r\n\r\n"),
        (get, "X\0: y\r\n\r\n"),
        (get, "X\x01: y\r\n\r\n"),
        (get, "X y: z\r\n\r\n"),
        (get, "X(y): z\r\n\r\n"),
        (get, "X\u{e9}: z\r\n\r\n"),
        (get, ": y\r\n\r\n"),
        (get, "no colon\r\n\r\n"),
        ("GET  /livez HTTP/1.1\r\n", "Host: tickr\r\n\r\n"),
        ("GET /livez  HTTP/1.1\r\n", "Host: tickr\r\n\r\n"),
        ("GET\t/livez\tHTTP/1.1\r\n", "Host: tickr\r\n\r\n"),
        (" GET /livez HTTP/1.1\r\n", "Host: tickr\r\n\r\n"),
        ("GET /livez HTTP/1.1 \r\n", "Host: tickr\r\n\r\n"),
        ("GET /livez HTTP/1.1\n", "Host: tickr\r\n\r\n"),
        ("GET /livez HTTP/1.1\r", "Host: tickr\r\n\r\n"),
        ("GET /livez\0 HTTP/1.1\r\n", "Host: tickr\r\n\r\n"),
        ("GET /li\x7fvez HTTP/1.1\r\n", "Host: tickr\r\n\r\n"),
        ("GET /li\u{e9}vez HTTP/1.1\r\n", "Host: tickr\r\n\r\n"),
        ("G\0T /livez HTTP/1.1\r\n", "Host: tickr\r\n\r\n"),
        ("\rGET /livez HTTP/1.1\r\n", "Host: tickr\r\n\r\n"),
        ("\nGET /livez HTTP/1.1\r\n", "Host: tickr\r\n\r\n"),
    ];
    let cases = cases.map(|(start, rest)| format!("{start}{rest}"));
    all_end_with(400, &cases);
}

/// Each gets one answer, with this status, behind which nothing is read as a request.
fn all_end_with(status: u16, requests: &[impl AsRef<str>]) {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        for request in requests.iter().map(AsRef::as_ref) {
            let mut client = tickr.connect(kind);
            client.send(format!("{request}{SMUGGLED}"));
            let answer = client.read_last_response();
            assert_eq!(answer.status, status, "{request:?}: {}", answer.text());
        }
    });
    assert_eq!(database.counter(), 1, "no ticket was spent");
}

/// Each is answered with this status, and so is a request behind it.
fn all_are_answered_with(status: u16, requests: &[impl AsRef<str>]) {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        for request in requests.iter().map(AsRef::as_ref) {
            let mut client = tickr.connect(kind);
            client.send(format!("{request}{}", get("/livez")));
            let answer = client.read_response();
            assert_eq!(answer.status, status, "{request:?}: {}", answer.text());
            assert_eq!(answer.header("connection"), None, "{request:?}");
            let next = client.read_response();
            assert_eq!(next.text(), r#"{"live":true}"#, "behind {request:?}");
        }
    });
}

/// The end of such a body could be found, but what it means is not known (RFC 9112, section 6.1).
#[test]
fn transfer_codings_other_than_chunked_are_501() {
    let request = |codings: &str| {
        format!(
            "POST /livez HTTP/1.1\r\nHost: tickr\r\nTransfer-Encoding: {codings}\r\n\r\n0\r\n\r\n"
        )
    };
    let unknown = ["gzip, chunked", "identity,chunked", "x-own, br, chunked"];
    all_end_with(501, &unknown.map(request));
}

#[test]
fn a_body_is_dropped_whatever_the_method_and_never_taken_for_a_request() {
    let length = SMUGGLED.len();
    for (path, status, methods) in [
        ("/livez", 200, &["GET"][..]),
        (
            "/livez",
            405,
            &["POST", "PUT", "DELETE", "PATCH", "OPTIONS"],
        ),
        ("/nowhere", 404, &["GET", "POST", "PUT"]),
    ] {
        let head = |method: &str| format!("{method} {path} HTTP/1.1\r\nHost: t\r\n");
        let requests: Vec<String> = methods
            .iter()
            .flat_map(|method| {
                let head = head(method);
                [
                    format!("{head}Content-Length: {length}\r\n\r\n{SMUGGLED}"),
                    format!("{head}Content-Length: 0\r\n\r\n"),
                    format!(
                        "{head}Transfer-Encoding: chunked\r\n\r\n\
                         {length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"
                    ),
                ]
            })
            .collect();
        all_are_answered_with(status, &requests);
    }
}

#[test]
fn chunked_bodies_are_read() {
    let head = "GET /livez HTTP/1.1\r\nHost: tickr\r\nTransfer-Encoding: chunked\r\n\r\n";
    let good = [
        "0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
        "3\r\n\r\n\n\r\n0\r\n\r\n",
        "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
        "0003\r\nabc\r\n00\r\n\r\n",
        "3;name\r\nabc\r\n0;last\r\n\r\n",
        "3;name=value;other=\"quoted; text\"\r\nabc\r\n0\r\n\r\n",
        "3 ; name = value\r\nabc\r\n0\r\n\r\n",
        "0\r\nTrailer: value\r\nOther:\r\n\r\n",
        "0\r\nContent-Length: 100\r\n\r\n",
        "0\r\nTransfer-Encoding: gzip\r\n\r\n",
    ];
    let mut requests = good.map(|body| format!("{head}{body}")).to_vec();
    requests.push(format!("{}0\r\n\r\n", head.replace("chunked", "Chunked")));
    requests.push(format!(
        "{}0\r\n\r\n",
        head.replace("chunked", " \tCHUNKED\t ")
    ));
    all_are_answered_with(200, &requests);
}

#[test]
fn malformed_chunks_are_refused() {
    let head = "POST /tickets/create HTTP/1.1\r\nHost: tickr\r\nTransfer-Encoding: chunked\r\n\r\n";
    let bad = [
        "\r\n",
        ";name\r\n",
        "x\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "-1\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "3 3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nab\r\n0\r\n\r\n",
        "3\r\rabc\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3;\0\r\nabc\r\n0\r\n\r\n",
        "0\r\n\n",
        "0\r\n folded\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
    ];
    all_end_with(400, &bad.map(|body| format!("{head}{body}")));
}

#[test]
fn host_is_there_exactly_once_and_valid() {
    let get = "GET /livez HTTP/1.1\r\n";
    let bad = [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nhost: b\r\n",
        "Host: a b\r\n",
        "Host: a, b\r\nHost: c\r\n",
        "Host: a/b\r\n",
        "Host: http://a\r\n",
        "Host: user@a\r\n",
        "Host: a:b\r\n",
        "Host: a:80:80\r\n",
        "Host: a:-1\r\n",
        "Host: a:100000\r\n",
        "Host: [::1\r\n",
        "Host: ::1\r\n",
        "Host: [::1]x\r\n",
        "Host: [x]\r\n",
        "Host: []\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: a\\b\r\n",
        "Host: <a>\r\n",
    ];
    all_end_with(400, &bad.map(|host| format!("{get}{host}\r\n")));
    let also_with_an_absolute_target = "GET http://tickr/livez HTTP/1.1\r\n\r\n";
    all_end_with(400, &[also_with_an_absolute_target]);
    let repeated_in_1_0 = "GET /livez HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n";
    all_end_with(400, &[repeated_in_1_0]);
    let good = [
        "Host: a\r\n",
        "Host:a.example:8080\r\n",
        "hOST: 127.0.0.1:80\r\n",
        "Host: [::1]:8080\r\n",
        "Host: [::1]\r\n",
        "Host: a:\r\n",
        "Host:\r\n",
        "Host: xn--bcher-kva.example\r\n",
        "Host: a_b~c.example\r\n",
    ];
    all_are_answered_with(200, &good.map(|host| format!("{get}{host}\r\n")));
}

#[test]
fn targets_in_origin_and_absolute_form_are_served() {
    let request =
        |method: &str, target: &str| format!("{method} {target} HTTP/1.1\r\nHost: tickr\r\n\r\n");
    let good = [
        "/livez",
        "/livez?",
        "/livez?a=b&c?d/e",
        "/%6civez",
        "/%6C%69vez",
        "http://tickr/livez",
        "HTTP://tickr.example:8080/livez?x",
        "http://[::1]:80/livez",
        "https://tickr/livez",
    ];
    all_are_answered_with(200, &good.map(|target| request("GET", target)));
    let elsewhere = [
        "http://tickr",
        "http://tickr?livez",
        "http://tickr/",
        "/tickets%2fcreate",
        "/%2flivez",
        "/livez%3f",
        "/livez%20",
    ];
    all_are_answered_with(404, &elsewhere.map(|target| request("GET", target)));
    let bad_escapes = [
        "/livez%",
        "/livez%6",
        "/livez%zz",
        "/%6xlivez",
        "/%%36%63ivez",
    ];
    all_are_answered_with(400, &bad_escapes.map(|target| request("GET", target)));
    let bad = [
        "*",
        "livez",
        "tickr:80",
        "http:///livez",
        "http://",
        "http://a b/livez",
        "http://user@tickr/livez",
        "ftp://tickr/livez",
        "/livez#fragment",
        "?livez",
        "\\livez",
    ];
    all_end_with(400, &bad.map(|target| request("GET", target)));
    all_end_with(501, &["tickr:80", "/livez"].map(|t| request("CONNECT", t)));
    all_end_with(400, &["*x", "**"].map(|t| request("OPTIONS", t)));
}

#[test]
fn a_head_request_gets_no_content_even_when_it_is_refused() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let fields = "X: y\r\n".repeat(100);
    for (request, status) in [
        ("HEAD /status HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("\r\nHEAD /status HTTP/2.0\r\n\r\n".to_owned(), 505),
        (format!("HEAD /status HTTP/1.1\r\n{fields}\r\n"), 431),
        ("HEAD /status HTTP/1.1\r\nHost: t".to_owned(), 400),
    ] {
        for_both(|kind| {
            for cut in [0, 3, 8, request.len() - 1] {
                let mut client = tickr.connect(kind);
                client.send(&request[..cut]);
                client.send(&request[cut..]);
                client.finish();
                assert_eq!(client.read_head().status, status, "{request}");
                client.check_closed();
            }
        });
    }
}

#[test]
fn options_asterisk_tells_what_is_allowed() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let answer = tickr.connect(kind).ask("OPTIONS * HTTP/1.1");
        let allow = answer.header("allow").unwrap_or_default();
        let allow: HashSet<&str> = allow.split(", ").collect();
        assert_eq!(answer.status, 200);
        assert_eq!(allow, HashSet::from(["GET", "HEAD", "POST", "OPTIONS"]));
        assert_eq!(answer.header("content-type"), None, "there is no content");
    });
}

#[test]
fn versions_other_than_1_0_and_1_1_are_refused() {
    let request = |version: &str| format!("GET /livez {version}\r\nHost: tickr\r\n\r\n");
    let misspelt = [
        "HTTP/1.10",
        "HTTP/1.",
        "HTTP/1",
        "HTTP/1.1x",
        "HTTP/01.1",
        "HTTP/1.01",
        "HTTP/11",
        "HTTP/ 1.1",
        "http/1.1",
        "Http/1.1",
        "HTTPS/1.1",
        "HTTP-1.1",
        "1.1",
        "ICY/1.0",
    ];
    all_end_with(400, &misspelt.map(request));
    let others = ["HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/3.0", "HTTP/0.9"];
    all_end_with(505, &others.map(request));
    all_end_with(505, &["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]);
    let of_0_9 = ["GET /livez\r\n", "GET /livez\r\n\r\n", "GET\r\n\r\n"];
    all_end_with(400, &of_0_9);
    let hello = "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03";
    all_end_with(400, &[hello, "SSH-2.0-OpenSSH_9.9\r\n", "\0\0\0\0"]);
}

#[test]
fn http_1_0_closes_unless_both_sides_keep_alive() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let ask = |fields: &str| {
            let mut client = tickr.connect(kind);
            client.send(format!("GET /livez HTTP/1.0\r\n{fields}\r\n"));
            (client.read_response(), client)
        };
        for fields in [
            "",
            "Host: tickr\r\n",
            "Connection: close\r\n",
            "Connection: close, keep-alive\r\n",
            "Connection: keep-alive\r\nConnection: close\r\n",
            "Connection: keep-alives\r\n",
            "Keep-Alive: timeout=5\r\n",
        ] {
            let (answer, mut client) = ask(fields);
            assert_eq!(
                (answer.status, answer.header("connection")),
                (200, Some("close"))
            );
            client.check_closed();
        }
        for fields in [
            "Connection: keep-alive\r\n",
            "Connection: Keep-Alive\r\n",
            "connection:x , KEEP-ALIVE\r\n",
            "Connection: x\r\nConnection: ,keep-alive,\r\n",
        ] {
            let (answer, mut client) = ask(fields);
            let got = (answer.status, answer.header("connection"));
            assert_eq!(got, (200, Some("keep-alive")), "{fields:?}");
            assert_eq!(client.ask("GET /livez HTTP/1.1").status, 200);
        }
        // What a chunked body in HTTP/1.0 meant to those in between cannot be known.
        let mut client = tickr.connect(kind);
        let fields = "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n";
        client.send(format!(
            "GET /livez HTTP/1.0\r\n{fields}\r\n0\r\n\r\n{SMUGGLED}"
        ));
        assert_eq!(client.read_last_response().status, 200);
    });
    assert_eq!(database.counter(), 1);
}

#[test]
fn http_1_1_goes_on_until_a_side_closes() {
    let get = "GET /livez HTTP/1.1\r\nHost: tickr\r\n";
    let going = [
        "Connection: keep-alive\r\n",
        "Connection: x-close\r\n",
        "Connection: closed\r\n",
        "Connection: \"close\"\r\n",
        "Connection:\r\n",
        "Close: yes\r\n",
    ];
    all_are_answered_with(200, &going.map(|field| format!("{get}{field}\r\n")));
    let closing = [
        "Connection: close\r\n",
        "connection:CLOSE\r\n",
        "Connection: keep-alive, Close\r\n",
        "Connection: upgrade ,\tclose\t,x\r\n",
        "Connection: x\r\nConnection: close\r\n",
    ];
    all_end_with(200, &closing.map(|field| format!("{get}{field}\r\n")));
}

#[test]
fn an_expectation_is_met_or_refused() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let head = |target: &str, expect: &str, rest: &str| {
        format!("POST {target} HTTP/1.1\r\nHost: t\r\nExpect: {expect}\r\n{rest}\r\n")
    };
    let mut spent = 0;
    for_both(|kind| {
        for (expect, framing, body) in [
            ("100-continue", "Content-Length: 3\r\n", "abc"),
            (
                "100-Continue",
                "Transfer-Encoding: chunked\r\n",
                "3\r\nabc\r\n0\r\n\r\n",
            ),
        ] {
            let mut client = tickr.connect(kind);
            client.send(head("/tickets/create", expect, framing));
            client.read_continue();
            client.send(body);
            assert_eq!(client.read_response().tickets().len(), 1);
            spent += 1;
            assert_eq!(client.ask("GET /livez HTTP/1.1").status, 200);
        }
        // Nothing to wait for: no body.
        let mut client = tickr.connect(kind);
        client.send(head("/tickets/create", "100-continue", ""));
        assert_eq!(client.read_response().tickets().len(), 1);
        client.send(head(
            "/tickets/create",
            "100-continue",
            "Content-Length: 0\r\n",
        ));
        assert_eq!(client.read_response().tickets().len(), 1);
        spent += 2;
        // HTTP/1.0 knows no interim response.
        let of_1_0 = head("/tickets/create", "100-continue", "Content-Length: 3\r\n");
        client.send(of_1_0.replace("HTTP/1.1", "HTTP/1.0") + "abc");
        assert_eq!(client.read_last_response().tickets().len(), 1);
        spent += 1;
        // The final answer takes the place of the interim one.
        for (target, status) in [
            ("/nowhere", 404),
            ("/status", 405),
            ("/tickets/create/0", 400),
        ] {
            let mut client = tickr.connect(kind);
            client.send(head(target, "100-continue", "Content-Length: 3\r\n"));
            assert_eq!(client.read_last_response().status, status, "{target}");
        }
        for (expect, length, status) in [
            ("200-ok", "3", 417),
            ("100-continue, x", "3", 417),
            ("100-continued", "3", 417),
            ("100-continue", "65537", 413),
        ] {
            let mut client = tickr.connect(kind);
            let framing = format!("Content-Length: {length}\r\n");
            client.send(head("/tickets/create", expect, &framing));
            assert_eq!(client.read_last_response().status, status, "{expect}");
        }
    });
    assert_eq!(database.counter(), 1 + spent);
}

#[test]
fn unknown_methods_are_501() {
    let request = |method: &str| format!("{method} /livez HTTP/1.1\r\nHost: tickr\r\n\r\n");
    let unknown = [
        "BREW", "get", "Get", "GETS", "PROPFIND", "QUERY", "M-SEARCH", "!#$%&'*+",
    ];
    all_end_with(501, &unknown.map(request));
}

#[test]
fn empty_lines_between_requests_are_skipped() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        for lines in ["\r\n", "\r\n\r\n", ""] {
            client.send(lines);
            assert_eq!(client.ask("GET /livez HTTP/1.1").status, 200);
        }
        client.send("\r\n");
        client.finish();
        client.check_closed();
    });
}

#[test]
fn a_client_that_half_closes_still_gets_its_answers() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        let large = get("/tickets/create/200000");
        client.send([get("/tickets/create"), get("/nowhere"), large].concat());
        client.finish();
        assert_eq!(client.read_response().tickets().len(), 1);
        assert_eq!(client.read_response().status, 404);
        assert_eq!(client.read_response().tickets().len(), 200_000);
        client.check_closed();

        let mut silent = tickr.connect(kind);
        silent.finish();
        silent.check_closed();
    });
}

#[test]
fn an_end_inside_a_request_is_told_and_spends_nothing() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let head = "POST /tickets/create HTTP/1.1\r\nHost: t\r\n";
    for_both(|kind| {
        for start in [
            "G".to_owned(),
            "GET /tickets/create HTTP/1.1\r\n".to_owned(),
            head.to_owned(),
            format!("{head}Content-Length: 3\r\n\r\nab"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"),
        ] {
            let mut client = tickr.connect(kind);
            client.send(&start);
            client.finish();
            assert_eq!(client.read_last_response().status, 400, "{start:?}");
        }
    });
    assert_eq!(database.counter(), 1);
}

#[test]
fn a_close_after_an_error_does_not_destroy_the_answer() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let unread = vec![b'x'; 512 * 1024];
    for_both(|kind| {
        for (start, status) in [
            ("GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
            (
                "POST /livez HTTP/1.1\r\nHost: t\r\nContent-Length: 524288\r\n\r\n",
                413,
            ),
            (
                "GET /livez HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
                200,
            ),
        ] {
            let mut client = tickr.connect(kind);
            client.send(start);
            // All of it is on its way before the first byte of the answer is read.
            client.send(&unread);
            client.finish();
            assert_eq!(client.read_last_response().status, status, "{start:?}");
        }
    });
}

#[test]
fn a_clock_before_1970_does_no_harm() {
    let heads = HeadCache::new(SystemTime::UNIX_EPOCH - Duration::from_secs(1));
    let mut answer = Vec::new();
    let problem = problems::too_many_connections();
    heads.write(&problem, Persistence::Close, false, 0, &mut answer);
    let answer = String::from_utf8(answer).expect("text");
    let date = "\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
    assert!(answer.contains(date), "{answer}");
}

#[test]
fn the_date_moves_on() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        let mut dates = HashSet::new();
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2_100) {
            for line in ["GET /tickets/create HTTP/1.1", "GET /nowhere HTTP/1.1"] {
                let answer = client.ask(line);
                dates.extend(answer.header("date").map(str::to_owned));
            }
            thread::sleep(Duration::from_millis(50));
        }
        // Both ends count; on a busy machine it all takes longer.
        let most = began.elapsed().as_secs() as usize + 2;
        assert!((2..=most).contains(&dates.len()), "{dates:?}");
    });
}

#[test]
fn both_kinds_of_socket_give_the_same_answers() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let answers = [Kind::Tcp, Kind::Unix].map(|kind| {
        let mut client = tickr.connect(kind);
        client.send(input());
        read_conversation(&mut client)
    });
    assert_eq!(answers[0], answers[1]);
}
