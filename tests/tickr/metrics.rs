//! What `/metrics` counts, and that the dashboard and the alert rules speak of nothing else.

use std::collections::{HashMap, HashSet};
use std::fs;

use crate::harness::{Database, Kind, METRICS, Tickr, wait_until};

/// Every sample of a scrape by its name and labels.
struct Scrape(HashMap<String, f64>);

impl Scrape {
    fn of(tickr: &Tickr) -> Scrape {
        let answer = tickr.connect(Kind::Unix).ask("GET /metrics HTTP/1.1");
        assert_eq!(answer.header("content-type"), Some(METRICS));
        let samples = answer.text().lines().filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        });
        Scrape(samples.collect())
    }

    #[track_caller]
    fn value(&self, sample: &str) -> f64 {
        let value = self.0.get(sample);
        *value.unwrap_or_else(|| panic!("no {sample} in {:#?}", self.0.keys()))
    }
}

#[test]
fn tickets_answers_connections_and_reservations_are_counted() {
    let database = Database::create();
    let tickr = Tickr::serve_with(&database, &[("TICKR_DATABASE_POOL_SIZE", "1")]);
    let before = Scrape::of(&tickr);
    let mut client = tickr.connect(Kind::Tcp);
    for (line, status) in [
        ("GET /tickets/create HTTP/1.1", 200),
        ("GET /tickets/create/1000 HTTP/1.1", 200),
        ("POST /tickets/create/7?format=range HTTP/1.1", 200),
        ("GET /tickets/create/0 HTTP/1.1", 400),
        ("HEAD /tickets/create HTTP/1.1", 405),
        ("GET /status HTTP/1.1", 200),
        ("HEAD /livez HTTP/1.1", 200),
        ("POST /livez HTTP/1.1", 405),
        ("GET /status?format=string&format=string HTTP/1.1", 400),
        ("DELETE /status HTTP/1.1", 405),
        ("GET /nowhere HTTP/1.1", 404),
    ] {
        assert_eq!(client.ask(line).status, status, "{line}");
    }
    let after = Scrape::of(&tickr);
    let grew = |sample: &str, by: f64| {
        let earlier = before.0.get(sample).copied().unwrap_or_default();
        assert_eq!(after.value(sample) - earlier, by, "{sample}");
    };
    grew("tickr_tickets_total", 1008.0);
    let answers = |route: &str, status| {
        format!("tickr_requests_total{{route=\"{route}\",status=\"{status}\"}}")
    };
    grew(&answers("/tickets/create", 200), 3.0);
    grew(&answers("/tickets/create", 400), 1.0);
    grew(&answers("/tickets/create", 405), 1.0);
    grew(&answers("/status", 200), 1.0);
    grew(&answers("/status", 400), 1.0);
    grew(&answers("/status", 405), 1.0);
    grew(&answers("/livez", 200), 1.0);
    grew(&answers("/livez", 405), 1.0);
    grew(&answers("/metrics", 200), 1.0);
    grew(&answers("other", 404), 1.0);
    let duration = "tickr_request_duration_seconds";
    grew(
        &format!("{duration}_count{{route=\"/tickets/create\"}}"),
        5.0,
    );
    let infinite = format!("{duration}_bucket{{le=\"+Inf\",route=\"/tickets/create\"}}");
    grew(&infinite, 5.0);
    assert!(after.value(&format!("{duration}_sum{{route=\"/tickets/create\"}}")) > 0.0);
    // One request at a time: each is a reservation of its own.
    grew("tickr_reservation_tickets_count", 3.0);
    grew("tickr_reservation_tickets_sum", 1008.0);
    grew("tickr_reservation_tickets_bucket{le=\"1.0\"}", 1.0);
    grew("tickr_reservation_tickets_bucket{le=\"10.0\"}", 2.0);
    grew("tickr_reservation_duration_seconds_count", 3.0);
    let tcp = format!("{{listener=\"{}\"}}", tickr.tcp());
    grew(&format!("tickr_connections_accepted_total{tcp}"), 1.0);
    assert_eq!(after.value(&format!("tickr_connections{tcp}")), 1.0);
    assert_eq!(after.value("tickr_last_ticket"), 54_317_029.0);
    grew("tickr_headroom_tickets{ceiling=\"2^53\"}", -1008.0);
    assert_eq!(after.value("tickr_ready"), 1.0);
    assert_eq!(after.value("tickr_closed"), 0.0);
    drop(client);
    wait_until("the connection is no longer counted", || {
        Scrape::of(&tickr).value(&format!("tickr_connections{tcp}")) == 0.0
    });
    tickr.stop();
}

#[test]
fn an_outage_and_a_closed_counter_show() {
    let database = Database::alone();
    let settings = [
        ("TICKR_DATABASE_POOL_SIZE", "1"),
        ("TICKR_DATABASE_POOL_TIMEOUT", "1"),
    ];
    let tickr = Tickr::serve_with(&database, &settings);
    assert_eq!(Scrape::of(&tickr).value("tickr_database_up"), 1.0);
    database.server().kill().expect("the server is ours");
    let answer = tickr.connect(Kind::Tcp).ask("GET /tickets/create HTTP/1.1");
    assert_eq!(answer.status, 503);
    let away = Scrape::of(&tickr);
    assert_eq!(away.value("tickr_database_up"), 0.0);
    assert_eq!(away.value("tickr_ready"), 0.0);
    let refused = "tickr_requests_total{route=\"/tickets/create\",status=\"503\"}";
    assert_eq!(away.value(refused), 1.0);
    assert!(away.value("tickr_database_errors_total{class=\"unreachable\"}") > 0.0);
    database
        .server()
        .restart()
        .expect("the server starts again");
    wait_until("the database is back", || {
        Scrape::of(&tickr).value("tickr_ready") == 1.0
    });
    assert!(Scrape::of(&tickr).value("tickr_database_reconnects_total") > 0.0);
    let answer = tickr
        .connect(Kind::Tcp)
        .ask("GET /tickets/create/100 HTTP/1.1");
    assert_eq!(answer.status, 200);
    database.execute("UPDATE tickets SET id = 50");
    // More than the one number with which the end of the outage was noticed.
    let answer = tickr
        .connect(Kind::Tcp)
        .ask("GET /tickets/create/5 HTTP/1.1");
    assert_eq!(answer.status, 503);
    let closed = Scrape::of(&tickr);
    assert_eq!(closed.value("tickr_closed"), 1.0);
    assert_eq!(closed.value("tickr_ready"), 0.0);
    let answer = tickr.connect(Kind::Tcp).ask("GET /readyz HTTP/1.1");
    assert!(
        answer.text().contains("went backwards"),
        "{}",
        answer.text()
    );
}

#[test]
fn the_dashboard_and_the_alerts_speak_of_metrics_that_exist() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let mut client = tickr.connect(Kind::Tcp);
    assert_eq!(client.ask("GET /tickets/create HTTP/1.1").status, 200);
    let answer = client.ask("GET /metrics HTTP/1.1");
    let families: HashSet<&str> = answer
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    for file in ["deploy/grafana.json", "deploy/alerts.yml"] {
        let text = fs::read_to_string(file).expect("the file is there");
        let mut names = 0;
        for name in text.split("tickr_").skip(1) {
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let name = format!("tickr_{}", &name[..end.unwrap_or(name.len())]);
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(&name);
            assert!(families.contains(family), "{file} speaks of {name}");
            names += 1;
        }
        assert!(names > 10, "{file} speaks of {names} metrics only");
    }
    serde_json::from_slice::<serde_json::Value>(&fs::read("deploy/grafana.json").expect("there"))
        .expect("the dashboard is JSON");
}
