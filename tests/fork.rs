//! A client that goes through `fork`: no ticket twice between a parent, its children and their
//! children. It is a program of its own, as a test harness has threads that a fork would lose.
//! Threads start and end all the while, so that some children inherit a lock of the standard
//! library that nobody will ever release; they must not wait for it.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use std::{fs, iter};

use fork::{Fork, fork, waitpid};
use signal_hook::low_level::exit;
use tickr::Client;
use tickr::client::{Options, ServerUrl};

const CHILDREN: usize = 20;
const TICKETS: usize = 1_000;
const CHURNERS: usize = 4;

/// After this, a child hangs.
const DEADLINE: Duration = Duration::from_secs(120);

fn main() {
    thread::spawn(|| {
        thread::sleep(DEADLINE);
        eprintln!("a child has hung for {DEADLINE:?}");
        process::abort();
    });
    for _ in 0..CHURNERS {
        thread::spawn(|| {
            loop {
                thread::spawn(|| {}).join().expect("a thread ends");
            }
        });
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    for cache in [0, 10_000, 10_000, 10_000] {
        let options = Options {
            timeout: Duration::from_secs(30),
            cache,
            ..Options::default()
        };
        let client = Client::with_options([server()], options).expect("a client");
        // There are a connection, a cache and its thread to inherit.
        let mut all = take(&client);
        let mut children = Vec::new();
        for index in 0..CHILDREN {
            match fork().expect("a child") {
                Fork::Parent(child) => children.push(child),
                Fork::Child => child(client, folder.path(), index),
            }
        }
        all.extend(take(&client));
        for child in children {
            assert_eq!(
                waitpid(child).expect("a child ends"),
                0,
                "it has its tickets"
            );
        }
        for index in 0..2 * CHILDREN {
            let tickets = fs::read_to_string(folder.path().join(index.to_string()));
            let tickets = tickets.expect("a child leaves its tickets");
            all.extend(
                tickets
                    .lines()
                    .map(|line| line.parse::<u64>().expect("a ticket")),
            );
        }
        assert_eq!(all.len(), (2 + 3 * CHILDREN) * TICKETS);
        let different: HashSet<u64> = all.iter().copied().collect();
        assert_eq!(different.len(), all.len(), "no ticket twice");
    }
    println!("no ticket twice among {CHILDREN} children and their children");
}

/// Takes some, and has a child of its own in the middle of it.
fn child(client: Client, folder: &Path, index: usize) -> ! {
    let mut tickets = take(&client);
    let (path, then) = match fork().expect("a grandchild") {
        Fork::Parent(grandchild) => (index, Some(grandchild)),
        Fork::Child => (CHILDREN + index, None),
    };
    match then {
        Some(_) => tickets.extend(take(&client)),
        None => tickets = take(&client),
    }
    // It must not wait for what only the parent can unlock.
    drop(client);
    let lines: String = tickets.iter().map(|ticket| format!("{ticket}\n")).collect();
    fs::write(folder.join(path.to_string()), lines).expect("room for a file");
    let ended = then.map(|grandchild| waitpid(grandchild).expect("a grandchild ends"));
    // Not the standard library's exit, which waits for such a lock too.
    exit(ended.map_or(0, |status| i32::from(status != 0)))
}

fn take(client: &Client) -> Vec<u64> {
    let next = || client.next().expect("the server is there");
    iter::repeat_with(next).take(TICKETS).collect()
}

/// A server of which this process has the threads.
fn server() -> ServerUrl {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has an address");
    let issued = Arc::new(AtomicU64::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let issued = Arc::clone(&issued);
            thread::spawn(move || serve(stream, &issued));
        }
    });
    format!("http://{address}").parse().expect("a URL")
}

fn serve(mut stream: TcpStream, issued: &AtomicU64) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let request = String::from_utf8_lossy(&buffer[..length]);
        let count = request.split(['/', '?']).nth(3).expect("a count");
        let count: u64 = count.parse().expect("a number");
        let first = issued.fetch_add(count, Ordering::SeqCst);
        let body = format!(r#"{{"first":{first},"increment":1,"count":{count}}}"#);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}
