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

use std::collections::VecDeque;
use std::time::Duration;

use crate::http::array::Body;
use crate::http::body::Decoder;
use crate::http::request::{self, BodyFraming, Method, Parsed, Reject, Request, Version};
use crate::http::response::{CONTINUE, HeadCache, Persistence, Response, Status};
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

/// What is kept of a head for its answer.
#[derive(Clone, Copy, Debug)]
struct Heading {
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

/// A large array on its way. It is rendered again from its offset after a short write.
#[derive(Clone, Copy, Debug)]
struct Streaming {
    body: Body,
    offset: u64,
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

/// An answer that has been written for its client, for the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered<C> {
    /// What the caller made of the request's head, if that was whole.
    pub call: Option<C>,
    /// The status of the answer.
    pub status: Status,
    /// When the head of the request had been read; without a whole head, some time before.
    pub began: Moment,
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

/// The bytes of one write. One such buffer serves every connection, one after the other.
#[derive(Clone, Debug)]
pub struct Output<C> {
    bytes: Vec<u8>,
    /// So many of them, at the end, come from a large array.
    streamed: usize,
    /// Nothing was waiting for the socket before.
    fresh: bool,
    /// The connection was reading before.
    was_reading: bool,
    answered: Vec<Answered<C>>,
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

    /// Fills the buffer with the next bytes to write, as many as go well in one write; with none
    /// when every answer that is due has been written. `draining` says `Connection: close` with
    /// the last answer. [`Connection::took`] must follow.
    pub fn output(&mut self, heads: &HeadCache, draining: bool, out: &mut Output<C>) {
        out.bytes.clear();
        out.streamed = 0;
        out.fresh = self.output.is_empty() && self.streaming.is_none();
        out.was_reading = self.is_reading();
        out.bytes.append(&mut self.output);
        loop {
            if let Some(Streaming { body, offset }) = &mut self.streaming {
                if *offset < body.len() {
                    out.streamed = body.write_at(*offset, limits::PIECE_BYTES, &mut out.bytes);
                    *offset += out.streamed as u64;
                    return;
                }
                self.streaming = None;
            }
            if out.bytes.len() >= limits::OUTPUT_BYTES_MAX || !self.is_answer_due() {
                return;
            }
            let Some(answer) = self.answers.pop_front() else {
                return;
            };
            self.first += 1;
            let response = match answer.content {
                Content::Final(response) => response,
                Content::Continue | Content::Awaited => {
                    out.bytes.extend_from_slice(CONTINUE);
                    continue;
                }
            };
            let persistence = match draining && self.expects_nothing() {
                true => Persistence::Close,
                false => answer.persistence,
            };
            if persistence == Persistence::Close {
                self.end_after_answers();
            }
            let rest = heads.write(
                &response,
                persistence,
                answer.head_only,
                limits::SMALL_BODY_BYTES_MAX,
                &mut out.bytes,
            );
            self.streaming = rest.map(|body| Streaming { body, offset: 0 });
            out.answered.push(Answered {
                call: answer.call,
                status: response.status(),
                began: answer.began,
            });
        }
    }

    /// The socket took the first `taken` bytes of the buffer; the rest is kept, or rendered again.
    pub fn took(&mut self, taken: usize, out: &Output<C>, now: Moment) {
        let left = &out.bytes[taken..];
        let again = left.len().min(out.streamed);
        if let Some(streaming) = &mut self.streaming {
            streaming.offset -= again as u64;
            // Nothing is left of it.
            if streaming.offset == streaming.body.len() {
                self.streaming = None;
            }
        }
        self.output.extend_from_slice(&left[..left.len() - again]);
        if taken == 0 && !out.fresh {
            return;
        }
        self.output_since = now;
        if self.is_reading() && !out.was_reading {
            self.input_since = now;
        }
        if self.answers.is_empty() && self.output.is_empty() {
            match self.stage {
                Stage::Head if !self.has_begun() => self.input_since = now,
                Stage::Head | Stage::Routing(_) | Stage::Whole(_) => {}
                Stage::Body(..) | Stage::Last | Stage::HalfClosed => self.input_since = now,
                Stage::Lingering | Stage::Closed => {}
            }
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

impl<C> Stage<C> {
    /// Whether what is being read, with this input behind it, is answered without content.
    fn is_head_only(&self, unread: &[u8]) -> bool {
        match self {
            Stage::Body(_, pending) | Stage::Whole(pending) => pending.head_only,
            Stage::Routing(heading) => heading.head_only,
            _ => request::asks_for_the_head(unread),
        }
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

impl<C> Output<C> {
    /// An empty buffer with room for the longest write.
    pub fn new() -> Output<C> {
        Output {
            bytes: Vec::with_capacity(limits::PIECE_BYTES + 2 * limits::OUTPUT_BYTES_MAX),
            streamed: 0,
            fresh: true,
            was_reading: true,
            answered: Vec::new(),
        }
    }

    /// What to write.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether a piece of a large array is among the bytes.
    pub fn is_streaming(&self) -> bool {
        self.streamed > 0
    }

    /// The final answers that were written into this buffer, oldest first, each of them once.
    pub fn answered(&mut self) -> std::vec::Drain<'_, Answered<C>> {
        self.answered.drain(..)
    }

    /// How many final answers wait to be taken.
    pub fn answered_len(&self) -> usize {
        self.answered.len()
    }
}

impl<C> Default for Output<C> {
    fn default() -> Output<C> {
        Output::new()
    }
}
