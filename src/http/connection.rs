//! One client: its buffers, its requests in order, and the answers that they wait for.
//!
//! There is no socket in it, and nothing that it calls: bytes are given to it, and the next step
//! is asked of it, so that every split of the input and every order of events can be tried by a
//! test or a fuzzer.
//!
//! ```text
//! receive(bytes) -> next_step() -> Head: begin(call, ..)     a head, before its body is read
//!                                  Call: complete(sequence)  a whole request, now or later
//!                                  Rejected: complete(..)    the last answer
//! repeat(memo) -> next_step()      the same as Head and begin, for a head that was seen before
//! output(buffer) -> took(n)        what is written next, and how much of it the socket took
//! end()                            whether the connection goes on
//! ```

mod input;
mod output;

use std::collections::VecDeque;
use std::time::Duration;

pub use self::input::Memo;
pub use self::output::{Answered, Output};

use self::input::Heading;
use self::output::Streaming;
use crate::http::body::Decoder;
use crate::http::request::{Reject, Request};
use crate::http::response::{Persistence, Response};
use crate::limits;
use crate::moment::Moment;

/// The state of one client's connection. `C` is what the caller makes of a request's head, kept
/// here until the request is answered.
#[derive(Clone, Debug)]
pub struct Connection<C> {
    stage: Stage<C>,
    input: Vec<u8>,
    /// So much of the input is used up.
    used: usize,
    /// The length of the last head that was read.
    head: usize,
    /// There may be whole requests in the input: too many answers were due to look.
    backlog: bool,
    /// Answers in the order of their requests.
    answers: VecDeque<Answer<C>>,
    /// The sequence number of the answer at the front.
    first: u64,
    /// Bytes that the socket would not take.
    output: Vec<u8>,
    streaming: Option<Streaming>,
    /// When the request that is being read began; without one, when the connection fell idle.
    input_since: Moment,
    /// When the socket last took something.
    output_since: Moment,
}

/// What the next byte of input belongs to, up to the end of the connection.
#[derive(Clone, Debug)]
enum Stage<C> {
    Head,
    /// A head has been given to the caller, who has not said yet what it is about.
    Routing(Heading),
    Body(Decoder, Pending<C>),
    /// A request is complete.
    Whole(Pending<C>),
    /// No request follows, since we end the connection.
    Last,
    /// No request follows, since the client has sent its last byte.
    HalfClosed,
    /// The last answer has been written; input is dropped until the client closes.
    Lingering,
    Closed,
}

/// A request without its place in the order of answers.
#[derive(Clone, Debug)]
struct Pending<C> {
    call: C,
    persistence: Persistence,
    head_only: bool,
}

/// One request's place in the order of answers.
#[derive(Clone, Debug)]
struct Answer<C> {
    call: Option<C>,
    content: Content,
    persistence: Persistence,
    head_only: bool,
    began: Moment,
}

#[derive(Clone, Debug)]
enum Content {
    Awaited,
    Continue,
    Final(Response),
}

/// What comes of the input, one at a time.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a, C> {
    /// A head; [`Connection::begin`] must follow.
    Head(Request<'a>),
    /// A whole request: [`Connection::complete`] is due, now or later.
    Call {
        /// Names the request within its connection.
        sequence: u64,
        /// What the caller made of its head.
        call: &'a C,
    },
    /// The input is no request: [`Connection::complete`] is due, and nothing follows.
    Rejected(Rejected),
}

/// Input that can't be served, in the place of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Names it within its connection.
    pub sequence: u64,
    /// What is wrong with it.
    pub reject: Reject,
}

/// What to do about a connection whose deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Complete this, and write it.
    Answer(Rejected),
    /// Nobody waits for anything: close the socket.
    Close,
}

/// How a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It does.
    Open,
    /// The last answer has been written: shut the socket down for writing, call
    /// [`Connection::linger`], and go on reading.
    Finish,
    /// Close the socket.
    Close,
}

impl<C> Connection<C> {
    /// A connection that was accepted at `now`.
    pub fn new(now: Moment) -> Connection<C> {
        Connection {
            stage: Stage::Head,
            input: Vec::new(),
            used: 0,
            head: 0,
            backlog: false,
            answers: VecDeque::new(),
            first: 0,
            output: Vec::new(),
            streaming: None,
            input_since: now,
            output_since: now,
        }
    }

    /// What the caller made of a request that is not answered yet.
    pub fn call(&self, sequence: u64) -> Option<&C> {
        self.answers.get(self.index(sequence)?)?.call.as_ref()
    }

    /// Answers a request.
    pub fn complete(&mut self, sequence: u64, response: Response) {
        let index = self.index(sequence);
        if let Some(answer) = index.and_then(|index| self.answers.get_mut(index)) {
            answer.content = Content::Final(response);
        }
    }

    /// No request follows behind those that have been read.
    pub fn end_after_answers(&mut self) {
        if !self.is_ending() {
            self.end_with(Stage::Last);
        }
    }

    /// Whether the connection goes on.
    pub fn end(&self) -> End {
        match self.stage {
            Stage::Last if self.is_quiet() => End::Finish,
            Stage::HalfClosed if self.is_quiet() => End::Close,
            Stage::Closed => End::Close,
            _ => End::Open,
        }
    }

    /// The socket was shut down for writing: what still comes is dropped.
    pub fn linger(&mut self) {
        self.stage = Stage::Lingering;
    }

    /// Whether the last answer has been written and the client's end is all that is waited for.
    pub fn is_lingering(&self) -> bool {
        matches!(self.stage, Stage::Lingering)
    }

    /// Whether more input may be given: nothing is read while too many answers are due, or while
    /// the client takes none.
    pub fn is_reading(&self) -> bool {
        match self.stage {
            Stage::Lingering => true,
            Stage::Last | Stage::HalfClosed | Stage::Closed => false,
            Stage::Head | Stage::Routing(_) | Stage::Body(..) | Stage::Whole(_) => {
                self.answers.len() < limits::PIPELINED_REQUESTS_MAX && self.output.is_empty()
            }
        }
    }

    /// Whether input was left over because too many answers were due.
    pub fn has_backlog(&self) -> bool {
        self.backlog
    }

    /// Whether bytes wait for the socket.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty() || self.streaming.is_some() || self.is_answer_due()
    }

    /// Whether a request waits for its answer.
    pub fn is_awaiting(&self) -> bool {
        let is_awaited = |answer: &Answer<C>| matches!(answer.content, Content::Awaited);
        self.answers.iter().any(is_awaited)
    }

    /// Whether the connection is between two requests, with nothing begun.
    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Head) && !self.has_begun() && self.is_quiet()
    }

    /// Since when an idle connection has been idle.
    pub fn idle_since(&self) -> Moment {
        self.input_since
    }

    /// When something must have happened; `None` while only the database is waited for. A
    /// connection without a request may stay for `idle_timeout`.
    pub fn deadline(&self, idle_timeout: Duration) -> Option<Moment> {
        if self.has_output() {
            return Some(self.output_since + limits::WRITE_TIMEOUT);
        }
        let timeout = match self.stage {
            // A client that waits for its 100 behind other answers can't send its body yet.
            Stage::Body(..) if self.answers.is_empty() => limits::BODY_TIMEOUT,
            Stage::Head if self.has_begun() && self.is_reading() => limits::HEAD_TIMEOUT,
            Stage::Head if self.answers.is_empty() => idle_timeout,
            Stage::Last | Stage::HalfClosed | Stage::Lingering if self.answers.is_empty() => {
                limits::LINGER_TIMEOUT
            }
            _ => return None,
        };
        Some(self.input_since + timeout)
    }

    /// The deadline has passed.
    pub fn expire(&mut self) -> Expiry {
        let reject = match self.stage {
            _ if self.has_output() => return Expiry::Close,
            Stage::Body(..) => Reject::BodyTimeout,
            Stage::Head if self.has_begun() => Reject::HeadTimeout,
            _ => return Expiry::Close,
        };
        Expiry::Answer(self.reject(reject))
    }

    /// Gives memory back that an idle connection does not need.
    pub fn release_buffers(&mut self) {
        if self.is_idle() && self.unread().is_empty() {
            self.input = Vec::new();
            self.used = 0;
            self.output = Vec::new();
            self.answers = VecDeque::new();
        }
    }

    /// Puts the last answer in its place: the framing is lost behind input that is no request.
    fn reject(&mut self, reject: Reject) -> Rejected {
        let sequence = self.first + self.answers.len() as u64;
        let head_only = self.stage.is_head_only(self.unread());
        self.answers
            .push_back(Answer::last(head_only, self.input_since));
        self.end_with(Stage::Last);
        Rejected { sequence, reject }
    }

    fn index(&self, sequence: u64) -> Option<usize> {
        usize::try_from(sequence.checked_sub(self.first)?).ok()
    }

    fn end_with(&mut self, stage: Stage<C>) {
        self.stage = stage;
        self.used = self.input.len();
        self.backlog = false;
    }

    fn unread(&self) -> &[u8] {
        &self.input[self.used..]
    }

    /// Whether a request has begun in the unread input: empty lines before it are no part of it
    /// (RFC 9112, section 2.2).
    fn has_begun(&self) -> bool {
        !self.unread().iter().all(|byte| b"\r\n".contains(byte))
    }

    fn is_answer_due(&self) -> bool {
        let front = self.answers.front();
        front.is_some_and(|answer| !matches!(answer.content, Content::Awaited))
    }

    fn is_ending(&self) -> bool {
        matches!(
            self.stage,
            Stage::Last | Stage::HalfClosed | Stage::Lingering | Stage::Closed
        )
    }

    /// Whether no request is waiting behind those that have been written, or has begun.
    fn expects_nothing(&self) -> bool {
        let is_between = matches!(self.stage, Stage::Head);
        is_between && self.answers.is_empty() && !self.has_begun()
    }

    fn is_quiet(&self) -> bool {
        self.answers.is_empty() && self.output.is_empty() && self.streaming.is_none()
    }
}

impl<C> Answer<C> {
    /// The last answer of a connection, which belongs to no call.
    fn last(head_only: bool, began: Moment) -> Answer<C> {
        Answer {
            call: None,
            content: Content::Awaited,
            persistence: Persistence::Close,
            head_only,
            began,
        }
    }
}
