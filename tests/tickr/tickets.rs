//! The API: every request that a client can make, and every answer that it can get.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tickr::limits;
use tickr::ticket::Numbering;

use crate::harness::{Client, Database, Kind, NODE, Tickr, for_both, get, wait_until};

/// Requests that must be refused with 400.
const BAD_BATCHES: [&str; 23] = [
    "0",
    "00",
    "-1",
    "-5",
    "+5",
    "abc",
    "5x",
    "0x10",
    "1e3",
    "1.5",
    "%205",
    "5%20",
    "5%00",
    "%D9%A3",
    "1000001",
    "18446744073709551615",
    "18446744073709551616",
    "18446744073709551617",
    "340282366920938463463374607431768211457",
    "5?format=xml",
    "5?format=",
    "5?format=range_string",
    "5?format=array&format=range",
];

fn ask(tickr: &Tickr, kind: Kind, line: &str) -> Value {
    let response = tickr.connect(kind).ask(line);
    assert_eq!(response.status, 200, "{line}: {}", response.text());
    response.json()
}

#[test]
fn the_example_of_the_readme_comes_out_to_the_digit() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let mut client = tickr.connect(Kind::Tcp);
    let mut body = |line: &str| client.ask(line).text().to_owned();
    assert_eq!(body("GET /tickets/create HTTP/1.1"), "[54313001]");
    assert_eq!(
        body("GET /tickets/create/5 HTTP/1.1"),
        "[54313005,54313009,54313013,54313017,54313021]"
    );
    let status = body("GET /status HTTP/1.1");
    assert!(status.contains(r#""last_ticket":54313021"#), "{status}");
    tickr.stop();
}

#[test]
fn node_1_begins_one_higher_on_a_database_of_its_own() {
    let mut node = NODE;
    node[2].1 = "1";
    let database = Database::absent().created_for(&node);
    let tickr = Tickr::serve_with(&database, &node);
    for_both(|kind| {
        let first = ask(&tickr, kind, "GET /tickets/create HTTP/1.1");
        let expected = 54_313_002 + 4 * u64::from(kind == Kind::Unix);
        assert_eq!(first, json!([expected]));
    });
}

#[test]
fn the_example_of_the_original_comes_out_to_the_digit() {
    let node = [
        ("TICKR_MAX_NODES", "10"),
        ("TICKR_STARTING_OFFSET", "326"),
        ("TICKR_NODE_NUMBER", "3"),
    ];
    let database = Database::absent().created_for(&node);
    let tickr = Tickr::serve_with(&database, &node);
    let mut client = tickr.connect(Kind::Unix);
    for expected in [329, 339, 349] {
        let tickets = client.ask("GET /tickets/create HTTP/1.1").tickets();
        assert_eq!(tickets, [expected]);
    }
}

#[test]
fn a_batch_is_one_contiguous_run_in_every_format() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let mut next = 54_313_001;
    for_both(|kind| {
        for (path, form) in [
            ("/tickets/create/3", "[A,B,C]"),
            ("/tickets/create/3?format=array", "[A,B,C]"),
            ("/tickets/create/3?format=string", r#"["A","B","C"]"#),
            (
                "/tickets/create/3?format=range",
                r#"{"first":A,"increment":4,"count":3}"#,
            ),
            (
                "/tickets/create/3?format=range-string",
                r#"{"first":"A","increment":"4","count":"3"}"#,
            ),
            (
                "/tickets/create/3?&format=range&",
                r#"{"first":A,"increment":4,"count":3}"#,
            ),
        ] {
            let body = tickr.connect(kind).ask(&format!("GET {path} HTTP/1.1"));
            let expected = form
                .replace('A', &next.to_string())
                .replace('B', &(next + 4).to_string())
                .replace('C', &(next + 8).to_string());
            assert_eq!(body.text(), expected, "{path}");
            next += 12;
        }
        for (path, form) in [
            ("/tickets/create?format=string", r#"["A"]"#),
            ("/tickets/create/1", "[A]"),
            (
                "/tickets/create?format=range",
                r#"{"first":A,"increment":4,"count":1}"#,
            ),
        ] {
            let body = tickr.connect(kind).ask(&format!("GET {path} HTTP/1.1"));
            assert_eq!(body.text(), form.replace('A', &next.to_string()), "{path}");
            next += 4;
        }
    });
}

#[test]
fn the_default_format_is_a_setting_that_a_request_overrides() {
    let database = Database::create();
    let tickr = Tickr::serve_with(&database, &[("TICKR_BATCH_FORMAT", "range")]);
    for_both(|kind| {
        let range = ask(&tickr, kind, "GET /tickets/create/2 HTTP/1.1");
        assert_eq!(
            (&range["increment"], &range["count"]),
            (&json!(4), &json!(2))
        );
        assert!(ask(&tickr, kind, "GET /tickets/create/2?format=array HTTP/1.1").is_array());
        // A single ticket is an array, as ever.
        assert!(ask(&tickr, kind, "GET /tickets/create HTTP/1.1").is_array());
    });
}

#[test]
fn post_is_the_same_as_get() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        let before = client.ask("POST /tickets/create HTTP/1.1").tickets();
        client.send(
            "POST /tickets/create/2 HTTP/1.1\r\nHost: t\r\nContent-Length: 7\r\n\r\n{\"n\":2}",
        );
        let batch = client.read_response().tickets();
        assert_eq!(batch, [before[0] + 4, before[0] + 8]);
    });
}

#[test]
fn the_status_tells_the_last_ticket_and_the_settings() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let mut last = Value::Null;
    for_both(|kind| {
        let status = ask(&tickr, kind, "GET /status HTTP/1.1");
        for (key, value) in [
            ("last_ticket", last.clone()),
            ("node_number", json!(0)),
            ("max_nodes", json!(4)),
            ("starting_offset", json!(54_313_001)),
            ("version", json!(env!("CARGO_PKG_VERSION"))),
        ] {
            assert_eq!(status.get(key), Some(&value), "{key} in {status}");
        }
        let batch = tickr.connect(kind).ask("GET /tickets/create/7 HTTP/1.1");
        last = json!(batch.tickets()[6]);
    });
    assert_eq!(
        ask(&tickr, Kind::Tcp, "GET /status HTTP/1.1")["last_ticket"],
        last
    );
}

#[test]
fn head_looks_like_get_without_a_body_and_never_spends_a_ticket() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        for path in ["/status", "/livez", "/readyz"] {
            let whole = client.ask(&format!("GET {path} HTTP/1.1"));
            let head = client.ask(&format!("HEAD {path} HTTP/1.1"));
            assert_eq!((head.status, &head.body), (200, &Vec::new()));
            let length = whole.body.len().to_string();
            assert_eq!(head.header("content-length"), Some(length.as_str()));
        }
        for path in ["/tickets/create", "/tickets/create/5"] {
            let head = client.ask(&format!("HEAD {path} HTTP/1.1"));
            assert_eq!(
                (head.status, head.header("allow")),
                (405, Some("GET, POST"))
            );
        }
        let head = client.ask("HEAD /nowhere HTTP/1.1");
        assert_eq!(head.status, 404);
        // Nothing is left over: the next answer is in its place.
        assert_eq!(client.ask("GET /livez HTTP/1.1").status, 200);
    });
    assert_eq!(database.counter(), 1);
}

#[test]
fn a_bad_batch_is_400_and_spends_no_ticket() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        for batch in BAD_BATCHES {
            for method in ["GET", "POST"] {
                let answer = client.ask(&format!("{method} /tickets/create/{batch} HTTP/1.1"));
                assert_eq!(answer.status, 400, "{batch}: {}", answer.text());
            }
        }
        for query in [
            "format=xml",
            "format",
            "format=Array",
            "format=array&format=array",
            "fromat=array",
            "=array",
        ] {
            let answer = client.ask(&format!("GET /tickets/create?{query} HTTP/1.1"));
            assert_eq!(answer.status, 400, "{query}: {}", answer.text());
        }
    });
    assert_eq!(database.counter(), 1);
    let first = ask(&tickr, Kind::Tcp, "GET /tickets/create HTTP/1.1");
    assert_eq!(first, json!([54_313_001]));
}

#[test]
fn the_largest_batch_is_a_setting() {
    let database = Database::create();
    let tickr = Tickr::serve_with(&database, &[("TICKR_MAX_BATCH", "10")]);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        assert_eq!(
            client
                .ask("GET /tickets/create/10 HTTP/1.1")
                .tickets()
                .len(),
            10
        );
        assert_eq!(client.ask("GET /tickets/create/11 HTTP/1.1").status, 400);
    });
    assert_eq!(database.counter(), 21);
}

#[test]
fn the_largest_batch_arrives_whole() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let batch = tickr
            .connect(kind)
            .ask("GET /tickets/create/1000000 HTTP/1.1");
        let tickets = batch.tickets();
        assert_eq!(tickets.len(), 1_000_000);
        assert!(tickets.windows(2).all(|pair| pair[1] == pair[0] + 4));
        assert!(!batch.body.contains(&b' '), "success bodies are compact");
    });
    assert_eq!(database.counter(), 2_000_001);
}

#[test]
fn another_path_is_404() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        for path in [
            "/",
            "/tickets",
            "/tickets/",
            "/tickets/create/",
            "/tickets/create/5/",
            "/tickets//create",
            "//tickets/create",
            "/Tickets/create",
            "/tickets/CREATE",
            "/tickets/create/5/6",
            "/tickets/created",
            "/status/",
            "/STATUS",
            "/livez/",
            "//livez",
            "/./livez",
            "/x/../livez",
            "/tickets%2Fcreate",
            "/tickets/create%2f5",
            "/%2Flivez",
            "/livez%00",
            "/livez;x",
        ] {
            let answer = client.ask(&format!("GET {path} HTTP/1.1"));
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        }
    });
    assert_eq!(database.counter(), 1);
}

#[test]
fn another_method_on_a_known_path_is_405_with_what_is_allowed() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        let spend = ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];
        let look = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];
        for (paths, methods, allow) in [
            (
                &["/tickets/create", "/tickets/create/5"][..],
                &spend[..],
                "GET, POST",
            ),
            (&["/status", "/livez", "/readyz"], &look, "GET, HEAD"),
        ] {
            for (path, method) in paths
                .iter()
                .flat_map(|p| methods.iter().map(move |m| (p, m)))
            {
                let answer = client.ask(&format!("{method} {path} HTTP/1.1"));
                let got = (answer.status, answer.header("allow"));
                assert_eq!(got, (405, Some(allow)), "{method} {path}");
            }
        }
        assert_eq!(client.ask("PUT /nowhere HTTP/1.1").status, 404);
    });
    assert_eq!(database.counter(), 1);
}

#[test]
fn when_the_numbers_have_run_out_nothing_moves_and_nothing_wraps() {
    let node = [
        ("TICKR_MAX_NODES", "4"),
        ("TICKR_STARTING_OFFSET", "54313001"),
        ("TICKR_NODE_NUMBER", "3"),
    ];
    let numbering = Numbering::new(4, 54_313_001, 3).expect("the settings are good");
    let database = Database::absent().created_for(&node);
    let counter = numbering.last_base() - 3;
    database.execute(&format!("UPDATE tickets SET id = {counter}"));
    let tickr = Tickr::serve_with(&database, &node);
    let run_out = |line: &str| {
        for_both(|kind| {
            let answer = tickr.connect(kind).ask(line);
            assert_eq!(answer.status, 503, "{}", answer.text());
            assert!(answer.text().contains("tickets left"), "{}", answer.text());
        });
    };
    run_out("GET /tickets/create/4 HTTP/1.1");
    assert_eq!(database.counter(), counter);
    let tickets = tickr
        .connect(Kind::Tcp)
        .ask("GET /tickets/create/2 HTTP/1.1");
    let last = tickr
        .connect(Kind::Unix)
        .ask("GET /tickets/create HTTP/1.1");
    let (tickets, last) = (tickets.tickets(), last.tickets()[0]);
    assert_eq!(tickets, [last - 8, last - 4]);
    assert!(
        last.checked_add(4).is_none(),
        "{last} is the last one of 64 bits"
    );
    for line in [
        "GET /tickets/create HTTP/1.1",
        "GET /tickets/create/1000000 HTTP/1.1",
    ] {
        run_out(line);
    }
    assert_eq!(database.counter(), numbering.last_base());
    let status = ask(&tickr, Kind::Tcp, "GET /status HTTP/1.1");
    assert_eq!(status["last_ticket"], json!(last));
}

#[test]
fn a_pipelined_request_that_fits_is_not_refused_for_one_behind_it() {
    let node = [
        ("TICKR_MAX_NODES", "4"),
        ("TICKR_STARTING_OFFSET", "54313001"),
        ("TICKR_NODE_NUMBER", "3"),
    ];
    let numbering = Numbering::new(4, 54_313_001, 3).expect("the settings are good");
    let database = Database::absent().created_for(&node);
    let counter = numbering.last_base() - 10;
    database.execute(&format!("UPDATE tickets SET id = {counter}"));
    let tickr = Tickr::serve_with(&database, &node);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        client.send(&(get("/tickets/create/5") + &get("/tickets/create/100")));
        assert_eq!(client.read_response().tickets().len(), 5);
        assert_eq!(client.read_response().status, 503);
    });
    let ready = tickr.connect(Kind::Tcp).ask("GET /readyz HTTP/1.1");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("no tickets left"), "{}", ready.text());
}

#[test]
fn a_node_without_numbers_says_so_everywhere() {
    let numbering = Numbering::new(4, 54_313_001, 0).expect("the settings are good");
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let mut client = tickr.connect(Kind::Tcp);
    // As if other processes had taken them.
    let last = numbering.last_base();
    database.execute(&format!("UPDATE tickets SET id = {last}"));
    assert_eq!(client.ask("GET /tickets/create HTTP/1.1").status, 503);
    // Fewer than one can't be asked for.
    let again = client.ask("GET /tickets/create HTTP/1.1");
    assert!(again.text().contains("no tickets left"), "{}", again.text());
    let status = client.ask("GET /status HTTP/1.1");
    assert_eq!(status.status, 200);
    assert!(
        status.text().contains(r#""state":"exhausted""#),
        "{}",
        status.text()
    );
    assert_eq!(client.ask("GET /readyz HTTP/1.1").status, 503);
    tickr.wait_for_log("no tickets left");
    assert_eq!(tickr.log().matches("no tickets left").count(), 1);
}

#[test]
fn while_the_database_is_away_there_is_503_and_the_process_lives() {
    let database = Database::alone();
    let tickr = Tickr::serve_with(&database, &[("TICKR_DATABASE_POOL_TIMEOUT", "0.5")]);
    let mut last = tickr
        .connect(Kind::Tcp)
        .ask("GET /tickets/create HTTP/1.1")
        .tickets();
    database.server().kill().expect("the server is killed");
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        for path in ["/tickets/create", "/tickets/create/5", "/status", "/readyz"] {
            let began = Instant::now();
            let answer = client.ask(&format!("GET {path} HTTP/1.1"));
            assert_eq!(answer.status, 503, "{path}: {}", answer.text());
            assert!(began.elapsed() < Duration::from_secs(5));
        }
        assert_eq!(client.ask("GET /livez HTTP/1.1").status, 200);
    });
    database
        .server()
        .restart()
        .expect("the server starts again");
    let tickets = |kind| {
        let answer = tickr.connect(kind).ask("GET /tickets/create HTTP/1.1");
        (answer.status == 200).then(|| answer.tickets())
    };
    for_both(|kind| {
        let mut next = None;
        wait_until("there are tickets again", || {
            next = tickets(kind);
            next.is_some()
        });
        let next = next.unwrap_or_default();
        assert!(next > last, "{next:?} comes after {last:?}");
        last = next;
    });
}

#[test]
fn nobody_waits_for_others_that_do_not_come() {
    const ROUNDS: u32 = 40;
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        let began = Instant::now();
        for _ in 0..ROUNDS {
            client.send(get("/tickets/create").repeat(8));
            (0..8).for_each(|_| assert_eq!(client.read_response().status, 200));
            // As if eight were to come back, and one does.
            assert_eq!(client.ask("GET /tickets/create HTTP/1.1").status, 200);
        }
        // Not until something else wakes the event loop.
        assert!(began.elapsed() < limits::SWEEP_INTERVAL * ROUNDS / 2);
    });
}

#[test]
fn a_request_that_waits_longer_than_the_pool_time_out_gets_503() {
    let database = Database::alone();
    let tickr = Tickr::serve_with(&database, &[("TICKR_DATABASE_POOL_TIMEOUT", "1.5")]);
    database.server().pause().expect("the server is paused");
    let mut began = Vec::new();
    let mut clients: Vec<Client> = Vec::new();
    for_both(|kind| {
        for path in ["/tickets/create", "/tickets/create/5?format=range"] {
            let mut client = tickr.connect(kind);
            began.push(Instant::now());
            client.send(get(path));
            clients.push(client);
        }
    });
    for (client, began) in clients.iter_mut().zip(&began) {
        let answer = client.read_response();
        let waited = began.elapsed();
        assert_eq!(answer.status, 503, "{}", answer.text());
        let expected = Duration::from_millis(1_400)..Duration::from_secs(5);
        assert!(expected.contains(&waited), "{waited:?}");
    }
    database.server().resume().expect("the server goes on");
    wait_until("the connections are good again", || {
        clients
            .iter_mut()
            .all(|c| c.ask("GET /tickets/create HTTP/1.1").status == 200)
    });
}

#[test]
fn with_a_password_everything_but_the_probes_asks_for_it() {
    let database = Database::create();
    let password = "s3:cr3t \u{fc}";
    let tickr = Tickr::serve_with(&database, &[("TICKR_HTTP_AUTH_PASSWORD", password)]);
    for_both(|kind| {
        let mut client = tickr.connect(kind);
        let mut ask = |path: &str, authorization: Option<&str>| {
            let field = authorization.map(|value| format!("Authorization: {value}\r\n"));
            let field = field.unwrap_or_default();
            client.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\n{field}\r\n"));
            client.read_response()
        };
        // Made with base64(1) from user:password.
        let wrong_ones = [
            "Basic YW55Om8zOmNyM3QgdQ==",
            "Basic",
            "Basic !",
            "Bearer czM6Y3IzdCDDvA==",
            "Basic YW55",
            "Basic YW55OnMzOmNyM3Qgw7w=YQ==",
        ];
        for path in [
            "/tickets/create",
            "/tickets/create/2",
            "/status",
            "/nowhere",
        ] {
            for wrong in [None].into_iter().chain(wrong_ones.map(Some)) {
                let answer = ask(path, wrong);
                assert_eq!(answer.status, 401, "{path} {wrong:?}");
                let challenge = answer.header("www-authenticate").unwrap_or_default();
                assert!(challenge.starts_with("Basic realm="), "{challenge}");
                assert!(!answer.text().contains("s3:cr3t"));
            }
        }
        for good in [
            "Basic YW55OnMzOmNyM3Qgw7w=",
            "basic YW55OnMzOmNyM3Qgw7w=",
            "BASIC OnMzOmNyM3Qgw7w=",
        ] {
            assert_eq!(ask("/status", Some(good)).status, 200, "{good}");
            assert_eq!(ask("/tickets/create", Some(good)).tickets().len(), 1);
        }
        for probe in ["/livez", "/readyz"] {
            assert_eq!(ask(probe, None).status, 200);
        }
    });
    assert_eq!(
        database.counter(),
        7,
        "only the right password spends tickets"
    );
}
