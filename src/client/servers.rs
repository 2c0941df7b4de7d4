//! The servers of a client: in which order they are asked, and what is believed of their answers.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::error::{Attempt, Error, Failure};
use super::exchange::{self, Connection};
use super::lock;
use super::url::ServerUrl;
use crate::limits;
use crate::ticket::Run;

pub(super) struct Servers {
    list: Mutex<Vec<Server>>,
    timeout: Duration,
    authorization: Option<String>,
    check_order: bool,
}

/// A server, and how it has been doing.
struct Server {
    url: ServerUrl,
    idle: Vec<Connection>,
    /// It is the last choice until then.
    paused_until: Option<Instant>,
    pause: Duration,
    nodes: Vec<Node>,
}

/// What a node has issued to this client. Several may answer at one address, behind a load
/// balancer; the increment and the remainder tell their tickets apart.
struct Node {
    increment: u64,
    remainder: u64,
    highest: u64,
    /// The latest ones.
    runs: VecDeque<Run>,
}

/// The highest ticket of each node when a request was sent.
type Marks = Vec<(u64, u64, u64)>;

impl Servers {
    pub(super) fn new(
        urls: &[ServerUrl],
        timeout: Duration,
        authorization: Option<String>,
        check_order: bool,
    ) -> Servers {
        let list = urls.iter().cloned().map(Server::new).collect();
        Servers {
            list: Mutex::new(list),
            timeout,
            authorization,
            check_order,
        }
    }

    /// Asks the servers, one after the other and each once, for one run of tickets.
    pub(super) fn fetch(&self, count: u64) -> Result<Run, Error> {
        let mut attempts = Vec::new();
        for index in self.order() {
            let (server, result) = self.fetch_from(index, count);
            let failure = match result {
                Ok(run) => return Ok(run),
                Err(failure) => failure,
            };
            let server = server.to_string();
            if let Failure::Answered {
                status: status @ 400,
                detail,
            } = failure
            {
                return Err(Error::Refused {
                    server,
                    status,
                    detail,
                });
            }
            attempts.push(Attempt { server, failure });
        }
        Err(Error::Unavailable { attempts })
    }

    fn fetch_from(&self, index: usize, count: u64) -> (ServerUrl, Result<Run, Failure>) {
        let deadline = Instant::now() + self.timeout;
        let (url, mut idle) = {
            let server = &mut lock(&self.list)[index];
            (server.url.clone(), server.idle.pop())
        };
        loop {
            let was_idle = idle.is_some();
            let marks = lock(&self.list)[index].marks();
            let target = format!("/tickets/create/{count}?format=range");
            let authorization = self.authorization.as_deref();
            let result = exchange::get(&url, &target, authorization, deadline, idle.take())
                .and_then(|(answer, connection)| Ok((answer.run(count)?, connection)));
            let server = &mut lock(&self.list)[index];
            let result = result.and_then(|(run, connection)| {
                server.admit(run, self.check_order.then_some(&marks))?;
                Ok((run, connection))
            });
            match result {
                Ok((run, connection)) => {
                    server.praise(connection);
                    return (url, Ok(run));
                }
                // An old connection may lead to a process that is about to end, while its
                // successor has moved on.
                Err(Failure::OutOfOrder { .. }) if was_idle => server.idle.clear(),
                Err(failure) => {
                    if !matches!(failure, Failure::Answered { status: 400, .. }) {
                        server.blame();
                    }
                    return (url, Err(failure));
                }
            }
        }
    }

    /// The servers in the order in which to try them: by preference, but those that have failed
    /// lately come last.
    fn order(&self) -> Vec<usize> {
        let now = Instant::now();
        let servers = lock(&self.list);
        let mut order: Vec<usize> = (0..servers.len()).collect();
        order.sort_by_key(|index| {
            servers[*index]
                .paused_until
                .is_some_and(|until| until > now)
        });
        order
    }
}

impl Server {
    fn new(url: ServerUrl) -> Server {
        Server {
            url,
            idle: Vec::new(),
            paused_until: None,
            pause: limits::CLIENT_PAUSE_MIN,
            nodes: Vec::new(),
        }
    }

    fn marks(&self) -> Marks {
        let mark = |node: &Node| (node.increment, node.remainder, node.highest);
        self.nodes.iter().map(mark).collect()
    }

    /// Takes note of a run, or refuses it: when it holds a ticket of a recent one, or is below
    /// what its node had issued before it was asked. Runs that were asked for at the same time
    /// may come in any order.
    fn admit(&mut self, run: Run, marks: Option<&Marks>) -> Result<(), Failure> {
        let class = (run.increment, run.first % run.increment);
        let mut known = self.nodes.iter();
        let place = known.position(|node| (node.increment, node.remainder) == class);
        let place = place.unwrap_or_else(|| {
            if self.nodes.len() == limits::CLIENT_NODES_MAX {
                self.nodes.remove(0);
            }
            self.nodes.push(Node {
                increment: class.0,
                remainder: class.1,
                highest: 0,
                runs: VecDeque::new(),
            });
            self.nodes.len() - 1
        });
        let node = &mut self.nodes[place];
        let mut marks = marks.into_iter().flatten();
        let mark = marks.find(|(increment, remainder, _)| (*increment, *remainder) == class);
        let above = mark.map(|(_, _, highest)| *highest);
        let overlaps = |other: &&Run| run.first <= other.last() && other.first <= run.last();
        let repeated = node.runs.iter().find(overlaps).map(Run::last);
        if let Some(issued) = above.filter(|above| run.first <= *above).or(repeated) {
            let first = run.first;
            return Err(Failure::OutOfOrder { first, issued });
        }
        node.highest = node.highest.max(run.last());
        if node.runs.len() == limits::CLIENT_RUNS_REMEMBERED {
            node.runs.pop_front();
        }
        node.runs.push_back(run);
        Ok(())
    }

    /// It has answered well.
    fn praise(&mut self, connection: Option<Connection>) {
        self.paused_until = None;
        self.pause = limits::CLIENT_PAUSE_MIN;
        if self.idle.len() < limits::CLIENT_IDLE_CONNECTIONS_MAX {
            self.idle.extend(connection);
        }
    }

    /// It has failed.
    fn blame(&mut self) {
        self.idle.clear();
        let now = Instant::now();
        if self.paused_until.is_none_or(|until| until <= now) {
            self.paused_until = Some(now + self.pause);
            self.pause = (self.pause * 2).min(limits::CLIENT_PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, increment: u64) -> Run {
        Run {
            first,
            increment,
            count: 5,
        }
    }

    #[test]
    fn a_node_s_tickets_only_go_up_and_several_nodes_may_share_an_address() {
        let mut server = Server::new("http://tickr".parse().expect("a URL"));
        let none = server.marks();
        assert_eq!(server.admit(run(101, 4), Some(&none)), Ok(()));
        let marks = server.marks();
        for first in [1, 97, 101, 117] {
            let refused = Failure::OutOfOrder { first, issued: 117 };
            assert_eq!(
                server.admit(run(first, 4), Some(&marks)),
                Err(refused),
                "{first}"
            );
        }
        assert_eq!(
            server.admit(run(2, 4), Some(&marks)),
            Ok(()),
            "another node"
        );
        assert_eq!(server.admit(run(141, 4), Some(&marks)), Ok(()));
        assert_eq!(
            server.admit(run(121, 4), Some(&marks)),
            Ok(()),
            "asked at the same time"
        );
        assert!(
            server.admit(run(121, 4), Some(&marks)).is_err(),
            "but not twice"
        );
    }

    #[test]
    fn without_an_order_only_repeated_tickets_are_refused() {
        let mut server = Server::new("http://tickr".parse().expect("a URL"));
        assert_eq!(server.admit(run(101, 4), None), Ok(()));
        assert_eq!(server.admit(run(1, 4), None), Ok(()));
        assert!(server.admit(run(117, 4), None).is_err());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut server = Server::new("http://tickr".parse().expect("a URL"));
        for number in 1..1_000 {
            assert_eq!(server.admit(run(number, number), None), Ok(()));
            assert_eq!(server.admit(run(100 * number, 1), None), Ok(()));
        }
        assert_eq!(server.nodes.len(), limits::CLIENT_NODES_MAX);
        let longest = server.nodes.iter().map(|node| node.runs.len()).max();
        assert!(longest <= Some(limits::CLIENT_RUNS_REMEMBERED));
    }
}
