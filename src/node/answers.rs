//! From a request to its answer: the calls that are made of what a client has sent, and the answers
//! that the allocator has for those that waited.

use std::rc::Rc;

use super::clients::{Client, queue};
use super::listeners::Listener;
use super::{ConnectionId, Draining, Node};
use crate::allocator::{Allocator, Answer, Ask, Completion, Refusal, RequestId, Verdict};
use crate::api::pages::{self, State};
use crate::api::problems;
use crate::api::routes::{self, Route};
use crate::http::array::Body;
use crate::http::connection::{Rejected, Step};
use crate::http::response::Response;
use crate::metrics::Scrape;
use crate::moment::{Moment, Next};

impl Node {
    /// Makes calls of what a client has sent, and answers those that need nobody else.
    pub(super) fn take_calls(&mut self, id: ConnectionId, now: Moment) {
        let Node {
            allocator,
            numbering,
            rules,
            clients,
            listeners,
            metrics,
            journal,
            scraped,
            draining,
            memo,
            ..
        } = self;
        let is_full = clients.len() > self.connections_max;
        let Some(client) = clients.get_mut(id) else {
            return;
        };
        client.spare &= is_full;
        let Client {
            connection, spare, ..
        } = client;
        loop {
            connection.repeat(memo, now);
            let Some(step) = connection.next_step(now) else {
                break;
            };
            let (sequence, call) = match step {
                Step::Head(request) => {
                    let call = routes::route(&request, rules);
                    let accepted = call.is_ok() && !*spare;
                    connection.begin(call, accepted);
                    // A comparison of heads would tell by its time how much of a password is right.
                    if accepted && rules.password.is_none() {
                        connection.remember(memo);
                    }
                    continue;
                }
                Step::Call { sequence, call } => (sequence, call),
                Step::Rejected(Rejected { sequence, reject }) => {
                    connection.complete(sequence, problems::rejected(reject));
                    continue;
                }
            };
            let state = || state(allocator, *draining, now);
            let ask = match call {
                Err(error) => Err(problems::misrouted(error)),
                Ok(Route::Livez) => Err(pages::LIVE),
                Ok(_) if *spare => Err(problems::too_many_connections()),
                Ok(Route::Create { count, .. }) => Ok(Ask::Tickets(*count)),
                Ok(Route::Status { .. }) => Ok(Ask::Status),
                Ok(Route::Readyz) => Err(pages::readiness(state(), numbering)),
                Ok(Route::Metrics) => {
                    let page = scraped.get_or_insert_with(|| {
                        let scrape = Scrape {
                            http: metrics.clone(),
                            listeners: listeners.iter().map(Listener::scrape).collect(),
                            database: journal.metrics.clone(),
                            status: allocator.status(),
                            numbering: *numbering,
                            ready: state().is_ready(),
                            closed: matches!(allocator.verdict(now), Verdict::Closed(_)),
                            warnings: journal.warnings,
                        };
                        Rc::new(scrape.page())
                    });
                    Err(Response::Page(Rc::clone(page)))
                }
                Ok(Route::ServerOptions) => Err(pages::OPTIONS),
            };
            match ask {
                Ok(ask) => {
                    let connection = id.number();
                    let request = RequestId {
                        connection,
                        sequence,
                    };
                    allocator.submit(request, ask, now);
                }
                Err(response) => connection.complete(sequence, response),
            }
        }
    }

    /// Brings the answers that have become due to their connections; says when there will be more
    /// by themselves.
    pub(super) fn complete(&mut self, now: Moment) -> Option<Moment> {
        let Node {
            allocator,
            numbering,
            clients,
            metrics,
            unavailable,
            draining,
            due,
            ..
        } = self;
        loop {
            let (request, answer) = match allocator.next_completion(now) {
                Next::Ready(Completion { id, answer }) => (id, answer),
                waiting => return waiting.wake(None),
            };
            let id = ConnectionId::from_number(request.connection);
            let Some(client) = clients.get_mut(id) else {
                continue;
            };
            let call = client.connection.call(request.sequence);
            let response = match (answer, call) {
                (Answer::Tickets(run), Some(Ok(Route::Create { format, .. }))) => {
                    metrics.issued(run.count);
                    Response::Tickets(Body::new(run, *format))
                }
                (Answer::Status, Some(Ok(Route::Status { strings }))) => {
                    let state = state(allocator, *draining, now);
                    let database = allocator.database();
                    pages::status(state, &allocator.status(), database, numbering, *strings)
                }
                (Answer::Tickets(_) | Answer::Status, _) => {
                    unreachable!("a request is completed once, with what it asked for")
                }
                (Answer::Refused(refusal), _) => {
                    let refused = || problems::refused(refusal, allocator.verdict(now), numbering);
                    match refusal {
                        Refusal::Unavailable => unavailable.get_or_insert_with(refused).clone(),
                        _ => refused(),
                    }
                }
            };
            client.connection.complete(request.sequence, response);
            queue(client, id, due);
        }
    }
}

/// What the node says of itself.
fn state(allocator: &Allocator, draining: Option<Draining>, now: Moment) -> State<'_> {
    match draining {
        Some(_) => State::Draining,
        None => State::Running(allocator.verdict(now)),
    }
}
