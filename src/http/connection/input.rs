//! From bytes to requests: heads one after the other, their bodies, and what can't be read.

use super::{Answer, Connection, Content, Pending, Rejected, Stage, Step};
use crate::http::body::Decoder;
use crate::http::request::{self, BodyFraming, Method, Parsed, Reject, Request, Version};
use crate::http::response::Persistence;
use crate::limits;
use crate::moment::Moment;

/// What is kept of a head for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heading {
    persistence: Persistence,
    head_only: bool,
    body: BodyFraming,
    expect_continue: bool,
}

/// The last head without a body that any client has sent, and what it was about. Clients send the
/// same head again and again, and to compare it costs a small part of what reading it does.
#[derive(Clone, Debug)]
pub struct Memo<C> {
    head: Vec<u8>,
    request: Option<Pending<C>>,
}

impl<C> Connection<C> {
    /// Takes bytes that were read from the client; they are dropped when no request follows.
    pub fn receive(&mut self, bytes: &[u8], now: Moment) {
        if self.is_ending() {
            return;
        }
        if matches!(self.stage, Stage::Head) && !self.has_begun() {
            self.input_since = now;
        }
        match self.used == self.input.len() {
            true => self.input.clear(),
            false => drop(self.input.drain(..self.used)),
        }
        self.used = 0;
        self.input.extend_from_slice(bytes);
    }

    /// The client has sent its last byte. What it asked for is still answered.
    pub fn end_input(&mut self) -> Option<Rejected> {
        let is_inside_a_request = match self.stage {
            Stage::Head => self.has_begun(),
            Stage::Routing(_) | Stage::Body(..) | Stage::Whole(_) => true,
            Stage::Last | Stage::HalfClosed => false,
            Stage::Lingering | Stage::Closed => {
                self.stage = Stage::Closed;
                return None;
            }
        };
        let rejected = is_inside_a_request.then(|| self.reject(Reject::Truncated));
        self.end_with(Stage::HalfClosed);
        rejected
    }

    /// Takes a head that is the same, byte for byte, as the one in the memo: what it is about is
    /// the same too. [`Connection::next_step`] then has the call.
    pub fn repeat(&mut self, memo: &Memo<C>, now: Moment)
    where
        C: Clone,
    {
        let is_head = matches!(self.stage, Stage::Head);
        let is_full = self.answers.len() >= limits::PIPELINED_REQUESTS_MAX;
        if let Some(request) = &memo.request
            && is_head
            && !is_full
            && self.unread().starts_with(&memo.head)
        {
            self.used += memo.head.len();
            self.input_since = now;
            self.stage = Stage::Whole(request.clone());
        }
    }

    /// Puts the head that [`Connection::begin`] was called for into the memo, if no body follows.
    pub fn remember(&self, memo: &mut Memo<C>)
    where
        C: Clone,
    {
        if let Stage::Whole(request) = &self.stage {
            memo.head.clear();
            let head = self.used - self.head..self.used;
            memo.head.extend_from_slice(&self.input[head]);
            memo.request = Some(request.clone());
        }
    }

    /// What comes next of the input; `None` until there is more of it, or fewer answers are due.
    pub fn next_step(&mut self, now: Moment) -> Option<Step<'_, C>> {
        // Apart from each other, so that a head can be lent while the rest changes.
        let Connection {
            stage,
            input,
            used,
            head,
            backlog,
            answers,
            first,
            input_since,
            ..
        } = self;
        let input = &input[..];
        let rejected = loop {
            let unread = &input[*used..];
            let is_full = answers.len() >= limits::PIPELINED_REQUESTS_MAX;
            *backlog = is_full && !unread.is_empty();
            match stage {
                Stage::Head | Stage::Body(..) if is_full => return None,
                Stage::Head if unread.is_empty() => return None,
                Stage::Head => match request::parse(unread) {
                    Ok(Parsed::Complete { request, consumed }) => {
                        *used += consumed;
                        *head = consumed;
                        *input_since = now;
                        *stage = Stage::Routing(Heading::of(&request));
                        return Some(Step::Head(request));
                    }
                    Ok(Parsed::Partial) => return None,
                    Err(reject) => break reject,
                },
                Stage::Body(decoder, _) => match decoder.consume(unread) {
                    Ok(progress) => {
                        *used += progress.consumed;
                        if !progress.done {
                            return None;
                        }
                        if let Stage::Body(_, pending) = std::mem::replace(stage, Stage::Head) {
                            *stage = Stage::Whole(pending);
                        }
                    }
                    Err(reject) => break reject,
                },
                Stage::Whole(_) => {
                    if let Stage::Whole(pending) = std::mem::replace(stage, Stage::Head) {
                        if pending.persistence == Persistence::Close {
                            (*stage, *used) = (Stage::Last, input.len());
                        }
                        let sequence = *first + answers.len() as u64;
                        answers.push_back(Answer {
                            call: Some(pending.call),
                            content: Content::Awaited,
                            persistence: pending.persistence,
                            head_only: pending.head_only,
                            began: std::mem::replace(input_since, now),
                        });
                        let call = answers.back()?.call.as_ref()?;
                        return Some(Step::Call { sequence, call });
                    }
                }
                Stage::Routing(_)
                | Stage::Last
                | Stage::HalfClosed
                | Stage::Lingering
                | Stage::Closed => return None,
            }
        };
        let sequence = *first + answers.len() as u64;
        let head_only = stage.is_head_only(&input[*used..]);
        answers.push_back(Answer::last(head_only, *input_since));
        (*stage, *used, *backlog) = (Stage::Last, input.len(), false);
        Some(Step::Rejected(Rejected {
            sequence,
            reject: rejected,
        }))
    }

    /// Says what the head is about that [`Connection::next_step`] has lent. A request that is not
    /// `accepted` never gets its body when it waits for a `100 Continue`: the final answer takes
    /// the place of that.
    pub fn begin(&mut self, call: C, accepted: bool) {
        let Stage::Routing(heading) = self.stage else {
            return;
        };
        let mut pending = Pending {
            call,
            persistence: heading.persistence,
            head_only: heading.head_only,
        };
        self.stage = match (heading.body, heading.expect_continue) {
            (BodyFraming::None, _) => Stage::Whole(pending),
            (_, true) if !accepted => {
                pending.persistence = Persistence::Close;
                Stage::Whole(pending)
            }
            (body, expect_continue) => {
                if expect_continue {
                    self.answers.push_back(Answer {
                        content: Content::Continue,
                        persistence: Persistence::Implied,
                        ..Answer::last(false, self.input_since)
                    });
                }
                Stage::Body(Decoder::new(body), pending)
            }
        };
    }
}

impl<C> Stage<C> {
    /// Whether what is being read, with this input behind it, is answered without content.
    pub(super) fn is_head_only(&self, unread: &[u8]) -> bool {
        match self {
            Stage::Body(_, pending) | Stage::Whole(pending) => pending.head_only,
            Stage::Routing(heading) => heading.head_only,
            _ => request::asks_for_the_head(unread),
        }
    }
}

impl Heading {
    fn of(request: &Request<'_>) -> Heading {
        Heading {
            persistence: match request.version {
                _ if !request.keep_alive => Persistence::Close,
                Version::Http10 => Persistence::KeepAlive,
                Version::Http11 => Persistence::Implied,
            },
            head_only: request.method == Method::Head,
            body: request.body,
            expect_continue: request.expect_continue,
        }
    }
}

impl<C> Memo<C> {
    /// One that remembers nothing.
    pub fn new() -> Memo<C> {
        Memo {
            head: Vec::new(),
            request: None,
        }
    }
}

impl<C> Default for Memo<C> {
    fn default() -> Memo<C> {
        Memo::new()
    }
}
