//! A cluster at a glance: every node's `/status` side by side, and what does not fit together.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::exchange;
use crate::client::{Failure, ServerUrl, basic};
use crate::foreign::printable;

/// What all nodes of a cluster answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// One for each URL, in the order in which they were given.
    pub nodes: Vec<Node>,
    /// What is wrong, in words; empty if all is well.
    pub problems: Vec<String>,
}

/// What one node answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The node's URL.
    pub url: String,
    /// What it says of itself, or why it says nothing.
    pub status: Result<Status, Failure>,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The node's number, counted from 0.
    pub node_number: u64,
    /// The most nodes of its cluster.
    pub max_nodes: u64,
    /// The first ticket of node 0.
    pub starting_offset: u64,
    /// The last ticket generated; `None` before the first.
    pub last_ticket: Option<u64>,
    /// Tickets reserved ahead.
    pub reserve: u64,
    /// Identifies the database server, the database and the counter row in it; `None` from servers
    /// that do not report it.
    pub database: Option<String>,
    /// The epoch of the counter row.
    pub epoch: Option<u64>,
    /// `serving`, or what keeps it from that.
    pub state: String,
    /// The reason for the state, and what an operator should do about it.
    pub detail: Option<String>,
    /// The version of Tickr.
    pub version: String,
}

/// Asks all nodes at once; takes no longer than the time-out of one.
pub fn check(urls: &[ServerUrl], timeout: Duration, password: Option<&str>) -> Report {
    let authorization = password.map(basic);
    let authorization = authorization.as_deref();
    let nodes: Vec<Node> = thread::scope(|scope| {
        let asking: Vec<_> = urls
            .iter()
            .map(|url| {
                let ask = move || status(url, timeout, authorization);
                (url, thread::Builder::new().spawn_scoped(scope, ask))
            })
            .collect();
        asking
            .into_iter()
            .map(|(url, thread)| {
                let status = match thread.map(thread::ScopedJoinHandle::join) {
                    Ok(Ok(status)) => status,
                    Ok(Err(_)) => Err(Failure::NotTickr {
                        reason: "the check failed".to_owned(),
                    }),
                    // Without a thread of its own it is asked here.
                    Err(_) => status(url, timeout, authorization),
                };
                Node {
                    url: url.to_string(),
                    status,
                }
            })
            .collect()
    });
    let problems = problems(&nodes);
    Report { nodes, problems }
}

impl Report {
    /// The report for scripts.
    pub fn to_json(&self) -> Value {
        let nodes: Vec<Value> = self.nodes.iter().map(Node::to_json).collect();
        json!({ "nodes": nodes, "problems": self.problems })
    }
}

impl Status {
    /// Whether the two may issue the same tickets; processes of one node share its database.
    fn clashes_with(&self, other: &Status) -> bool {
        let same_database = self.database.is_some() && self.database == other.database;
        self.node_number == other.node_number && !same_database
    }
}

impl Node {
    fn to_json(&self) -> Value {
        match &self.status {
            Err(failure) => json!({ "url": self.url, "error": failure.to_string() }),
            Ok(status) => json!({
                "url": self.url,
                "node_number": status.node_number,
                "max_nodes": status.max_nodes,
                "starting_offset": status.starting_offset,
                "last_ticket": status.last_ticket,
                "reserve": status.reserve,
                "database": status.database,
                "epoch": status.epoch,
                "state": status.state,
                "detail": status.detail,
                "version": status.version,
            }),
        }
    }

    fn cells(&self) -> [String; 7] {
        let Ok(status) = &self.status else {
            let none = || "-".to_owned();
            let state = "no answer".to_owned();
            return [
                none(),
                self.url.clone(),
                none(),
                state,
                none(),
                none(),
                none(),
            ];
        };
        let last = status.last_ticket.map(|last| last.to_string());
        [
            status.node_number.to_string(),
            self.url.clone(),
            last.unwrap_or_else(|| "none yet".to_owned()),
            status.state.clone(),
            status.version.clone(),
            status.max_nodes.to_string(),
            status.starting_offset.to_string(),
        ]
    }
}

/// A table, and below it the problems.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            "NODE",
            "URL",
            "LAST TICKET",
            "STATE",
            "VERSION",
            "MAX NODES",
            "OFFSET",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.nodes.iter().map(Node::cells));
        let mut widths = [0; 7];
        for (column, width) in widths.iter_mut().enumerate() {
            let lengths = rows.iter().map(|row| row[column].chars().count());
            *width = lengths.max().unwrap_or_default();
        }
        for row in &rows {
            let cells: Vec<String> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        for problem in &self.problems {
            write!(f, "\nproblem: {problem}")?;
        }
        match self.problems.len() {
            0 => write!(f, "\nall is well"),
            _ => Ok(()),
        }
    }
}

fn status(
    url: &ServerUrl,
    timeout: Duration,
    authorization: Option<&str>,
) -> Result<Status, Failure> {
    let (answer, _) = exchange::get(
        url,
        "/status",
        authorization,
        Instant::now() + timeout,
        None,
    )?;
    let body = answer.json()?;
    let number = |key: &str| {
        let number = body.get(key).and_then(Value::as_u64);
        number.ok_or_else(|| Failure::NotTickr {
            reason: format!("its status has no number {key}"),
        })
    };
    let text = |key: &str| body.get(key).and_then(Value::as_str).map(printable);
    Ok(Status {
        node_number: number("node_number")?,
        max_nodes: number("max_nodes")?,
        starting_offset: number("starting_offset")?,
        last_ticket: body.get("last_ticket").and_then(Value::as_u64),
        reserve: body.get("reserve").and_then(Value::as_u64).unwrap_or(0),
        database: text("database"),
        epoch: body.get("epoch").and_then(Value::as_u64),
        state: text("state").unwrap_or_else(|| "serving".to_owned()),
        detail: text("detail"),
        version: text("version").unwrap_or_else(|| "unknown".to_owned()),
    })
}

fn problems(nodes: &[Node]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut answered: Vec<(&str, &Status)> = Vec::new();
    for node in nodes {
        match &node.status {
            Err(failure) => problems.push(format!("{} {failure}", node.url)),
            Ok(status) => answered.push((&node.url, status)),
        }
    }
    for (index, (url, status)) in answered.iter().enumerate() {
        if status.state != "serving" {
            let detail = status.detail.as_deref().unwrap_or("see its log");
            problems.push(format!("{url} is {}: {detail}", status.state));
        }
        let clashes = |(_, other): &&(&str, &Status)| status.clashes_with(other);
        if let Some((other_url, other)) = answered[..index].iter().find(clashes) {
            let number = status.node_number;
            let both_known = status.database.is_some() && other.database.is_some();
            problems.push(match both_known {
                true => format!(
                    "{other_url} and {url} are both node {number} but use different databases, so \
                     they issue the same tickets; stop one of them and give it a node number of \
                     its own"
                ),
                false => format!(
                    "{other_url} and {url} share the node number {number}; unless they also share \
                     one database, they issue the same tickets"
                ),
            });
        }
        let (first_url, first) = answered[0];
        for (name, value, expected) in [
            ("max_nodes", status.max_nodes, first.max_nodes),
            (
                "starting_offset",
                status.starting_offset,
                first.starting_offset,
            ),
        ] {
            if value != expected {
                problems.push(format!(
                    "{url} has {name} {value}, but {first_url} has {expected}; nodes of one \
                     cluster must agree on it, or they issue the same tickets"
                ));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(url: &str, node_number: u64, max_nodes: u64, starting_offset: u64) -> Node {
        Node {
            url: url.to_owned(),
            status: Ok(Status {
                node_number,
                max_nodes,
                starting_offset,
                last_ticket: None,
                reserve: 0,
                database: None,
                epoch: None,
                state: "serving".to_owned(),
                detail: None,
                version: "1".to_owned(),
            }),
        }
    }

    #[test]
    fn nodes_that_fit_together_are_no_problem() {
        let nodes = [node("a", 0, 4, 1), node("b", 1, 4, 1), node("c", 3, 4, 1)];
        assert_eq!(problems(&nodes), Vec::<String>::new());
    }

    #[test]
    fn processes_of_one_node_share_a_database_and_other_nodes_do_not() {
        let on = |url: &str, database: Option<&str>| {
            let mut node = node(url, 1, 4, 1);
            if let Ok(status) = &mut node.status {
                status.database = database.map(str::to_owned);
            }
            node
        };
        for (databases, expected) in [
            ([Some("x"), Some("x"), Some("x")], vec![]),
            (
                [Some("x"), Some("y"), Some("x")],
                vec!["a and b are", "b and c are"],
            ),
            (
                [Some("x"), None, Some("x")],
                vec!["a and b share", "b and c share"],
            ),
            (
                [None, None, Some("x")],
                vec!["a and b share", "a and c share"],
            ),
        ] {
            let [a, b, c] = databases;
            let problems = problems(&[on("a", a), on("b", b), on("c", c)]);
            let words: Vec<String> = problems
                .iter()
                .map(|problem| problem.split(' ').take(4).collect::<Vec<_>>().join(" "))
                .collect();
            assert_eq!(words, expected, "{databases:?}");
        }
    }

    #[test]
    fn whatever_does_not_fit_is_named() {
        let mut fenced = node("e", 3, 4, 1);
        if let Ok(status) = &mut fenced.status {
            status.state = "fenced".to_owned();
            status.detail = Some("go forward".to_owned());
        }
        let nodes = [
            node("a", 0, 4, 1),
            node("b", 0, 4, 1),
            node("c", 1, 5, 1),
            node("d", 2, 4, 7),
            fenced,
            Node {
                url: "f".to_owned(),
                status: Err(Failure::TimedOut),
            },
        ];
        let problems = problems(&nodes);
        let expected = [
            "f did not answer in time",
            "a and b share the node number 0",
            "c has max_nodes 5, but a has 4",
            "d has starting_offset 7, but a has 1",
            "e is fenced: go forward",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, words) in problems.iter().zip(expected) {
            assert!(problem.starts_with(words), "{problem}");
        }
    }
}
