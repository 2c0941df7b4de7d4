//! A cluster: three nodes with three MySQL servers, and no ticket twice.

use std::thread;

use crate::harness::{Database, Kind, NODE, Tickr, run};

const NODES: u64 = 3;
const CLIENTS_PER_NODE: usize = 10;
const TICKETS_PER_CLIENT: usize = 10_000;
const SINGLES_PER_CLIENT: usize = 500;

#[test]
fn three_nodes_hand_out_300_000_tickets_to_30_clients_and_none_twice() {
    let mut all: Vec<u64> = thread::scope(|scope| {
        let nodes: Vec<_> = (0..NODES)
            .map(|node| scope.spawn(move || of_node(node)))
            .collect();
        let tickets = nodes
            .into_iter()
            .map(|node| node.join().expect("a node works"));
        tickets.flatten().collect()
    });
    let total = all.len();
    assert_eq!(
        total,
        NODES as usize * CLIENTS_PER_NODE * TICKETS_PER_CLIENT
    );
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), total, "no ticket twice");
}

#[test]
fn processes_of_one_database_are_told_from_two_databases_of_one_node_number() {
    let databases = [Database::create(), Database::create()];
    let [first, second] = &databases;
    let servers = [first, first, second].map(Tickr::serve);
    let check = |servers: &[&Tickr]| {
        let urls = servers
            .iter()
            .map(|server| format!("unix:{}", server.unix().display()));
        let urls: Vec<String> = urls.collect();
        let mut arguments = vec!["cluster", "check"];
        arguments.extend(urls.iter().map(String::as_str));
        let output = run(&arguments, &[]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    let [a, b, c] = &servers;
    let (code, text) = check(&[a, b, a]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = check(&[a, c]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("but use different databases"), "{text}");
}

/// All tickets that the clients of one node get.
fn of_node(node: u64) -> Vec<u64> {
    let number = node.to_string();
    let mut settings = NODE;
    settings[2].1 = &number;
    let database = Database::alone_for(&settings);
    let tickr = Tickr::serve_with(&database, &settings);
    let tickets: Vec<u64> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS_PER_NODE)
            .map(|client| {
                let tickr = &tickr;
                scope.spawn(move || of_client(tickr, client))
            })
            .collect();
        let tickets = clients
            .into_iter()
            .map(|client| client.join().expect("a client works"));
        tickets.flatten().collect()
    });
    assert!(
        tickets
            .iter()
            .all(|ticket| (ticket - 54_313_001) % 4 == node),
        "its own numbers"
    );
    // Two reservations that commit in the other order may leave a few numbers unused.
    let spent = database.counter() - 1;
    let count = tickets.len() as u64;
    assert!(
        (count..=count + count / 100).contains(&spent),
        "{spent} for {count} tickets"
    );
    tickr.stop();
    tickets
}

/// Singles, and batches in all formats, until it has enough.
fn of_client(tickr: &Tickr, number: usize) -> Vec<u64> {
    let kind = if number.is_multiple_of(2) {
        Kind::Tcp
    } else {
        Kind::Unix
    };
    let mut client = tickr.connect(kind);
    let mut tickets = Vec::with_capacity(TICKETS_PER_CLIENT);
    for _ in 0..SINGLES_PER_CLIENT {
        tickets.extend(client.ask("GET /tickets/create HTTP/1.1").tickets());
    }
    for format in ["array", "string", "range"].into_iter().cycle() {
        let count = (TICKETS_PER_CLIENT - tickets.len()).min(97 + number);
        if count == 0 {
            break;
        }
        let line = format!("GET /tickets/create/{count}?format={format} HTTP/1.1");
        let batch = client.ask(&line).tickets();
        assert_eq!(batch.len(), count);
        assert!(batch.windows(2).all(|pair| pair[1] == pair[0] + 4));
        tickets.extend(batch);
    }
    assert!(
        tickets.windows(2).all(|pair| pair[0] < pair[1]),
        "they only increase"
    );
    tickets
}
