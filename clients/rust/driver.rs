//! The driver of `tickr::Client` for ../conformance: it plays the same cases as the packages.

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use fork::{Fork, fork, waitpid};
use serde_json::{Value, json};
use signal_hook::low_level::exit;
use tickr::Client;
use tickr::client::{Error, Options, ServerUrl};

fn main() {
    let mut client = None;
    for line in io::stdin().lock().lines() {
        let line = line.expect("the suite is there");
        let command: Value = serde_json::from_str(&line).expect("a command");
        let mut taken = Vec::new();
        let error = match run(&command, &mut client, &mut taken) {
            Ok(()) => Value::Null,
            Err(error) => error,
        };
        let tickets: Vec<String> = taken.iter().map(u64::to_string).collect();
        println!("{}", json!({ "tickets": tickets, "error": error }));
        io::stdout().flush().expect("the suite is there");
    }
}

fn run(command: &Value, client: &mut Option<Client>, taken: &mut Vec<u64>) -> Result<(), Value> {
    let number = |key: &str| command[key].as_u64().unwrap_or_default();
    let count = number("count");
    match command["do"].as_str() {
        Some("open") => *client = Some(open(command).map_err(|error| tell(&error))?),
        Some("close") => *client = None,
        action => {
            let Some(client) = client else {
                return Err(json!({ "kind": "closed", "message": "" }));
            };
            let done = match action {
                Some("take") => client.batch(count).map(|run| {
                    taken.extend((0..run.count).map(|index| run.first + index * run.increment));
                }),
                Some("threads") => threads(client, command, taken),
                Some("fork") => forks(client, number("fork"), count, taken),
                _ => take(client, count, None, taken),
            };
            done.map_err(|error| tell(&error))?;
        }
    }
    Ok(())
}

fn open(command: &Value) -> Result<Client, Error> {
    let servers = command["servers"].as_array().into_iter().flatten();
    let servers: Result<Vec<ServerUrl>, _> = servers
        .map(|server| server.as_str().unwrap_or_default().parse())
        .collect();
    let defaults = Options::default();
    let timeout = command["timeout"].as_u64().map(Duration::from_millis);
    let options = Options {
        timeout: timeout.unwrap_or(defaults.timeout),
        cache: command["cache"].as_u64().unwrap_or_default(),
        password: command["password"].as_str().map(str::to_owned),
        check_order: command["check_order"].as_bool() != Some(false),
    };
    Client::with_options(servers?, options)
}

fn take(
    client: &Client,
    count: u64,
    until: Option<&Path>,
    taken: &mut Vec<u64>,
) -> Result<(), Error> {
    let end = taken.len() as u64 + count;
    while (taken.len() as u64) < end || until.is_some_and(|path| !path.exists()) {
        taken.push(client.next()?);
        if until.is_some() {
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

fn threads(client: &Client, command: &Value, taken: &mut Vec<u64>) -> Result<(), Error> {
    let count = command["count"].as_u64().unwrap_or_default();
    let until = command["until"].as_str().map(Path::new);
    let threads = command["threads"].as_u64().unwrap_or_default();
    thread::scope(|scope| {
        let run = || {
            let mut mine = Vec::new();
            take(client, count, until, &mut mine).map(|()| mine)
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        for thread in running {
            taken.extend(thread.join().expect("a thread ends")?);
        }
        Ok(())
    })
}

/// What a child takes comes back in a file.
fn forks(client: &Client, number: u64, count: u64, taken: &mut Vec<u64>) -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut children: Vec<(i32, PathBuf)> = Vec::new();
    for index in 0..number {
        let path = folder.path().join(index.to_string());
        match fork().expect("a child") {
            Fork::Parent(child) => children.push((child, path)),
            Fork::Child => {
                let mut mine = Vec::new();
                let status = i32::from(take(client, count, None, &mut mine).is_err());
                fs::write(path, json!(mine).to_string()).expect("room for a file");
                exit(status)
            }
        }
    }
    for (child, path) in children {
        waitpid(child).expect("a child ends");
        let text = fs::read_to_string(path).expect("what the child took");
        let mine: Vec<u64> = serde_json::from_str(&text).expect("tickets");
        taken.extend(mine);
    }
    Ok(())
}

fn tell(error: &Error) -> Value {
    let message = error.to_string();
    match error {
        Error::Unavailable { attempts } => {
            let attempts: Vec<_> = attempts
                .iter()
                .map(|attempt| (&attempt.server, attempt.failure.to_string()))
                .collect();
            json!({ "kind": "unavailable", "message": message, "attempts": attempts })
        }
        Error::Refused { server, detail, .. } => {
            json!({ "kind": "refused", "message": message, "server": server, "detail": detail })
        }
        _ => json!({ "kind": "invalid", "message": message }),
    }
}
