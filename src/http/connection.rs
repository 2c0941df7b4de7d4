//! One client: its buffers, its requests in order, and the answers that they wait for.
//!
//! There is no socket in it. Bytes go in, demands for tickets and pages come out, and bytes go
//! out, so that every split of the input and every order of events can be tried by a test or a
//! fuzzer. Requests are parsed where they were read; only what is left over is kept.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use crate::http::array::{Body, Format};
use crate::http::body::Decoder;
use crate::http::request::{self, BodyFraming, Method, Parsed, Request, Version};
use crate::http::response::{self, Heads, Page, Persistence, Problem, Unavailable};
use crate::http::route::{self, Endpoint, Route, Rules};
use crate::limits;
use crate::ticket::Run;

/// The state of one client's connection.
#[derive(Debug)]
pub struct Connection {
    stage: Stage,
    /// Input that no request could be made of yet.
    input: Vec<u8>,
    /// There may be whole requests in it: too many answers were due to look.
    backlog: bool,
    /// Reading stopped at the last look: the time since then is not the client's.
    paused: bool,
    /// Answers in the order of their requests.
    answers: VecDeque<Answer>,
    /// How many answers at the front are known to wait for nothing.
    settled: usize,
    /// Bytes that the socket would not take.
    output: Vec<u8>,
    output_sent: usize,
    streaming: Option<Streaming>,
    /// When the request that is being read began; without one, when the connection fell idle.
    input_since: Instant,
    /// When the socket last took something.
    output_since: Instant,
}

/// What the next byte of input belongs to.
#[derive(Debug)]
enum Stage {
    Head,
    Body {
        decoder: Decoder,
        pending: Pending,
    },
    /// Nothing more is read as a request: the framing is lost, or one side is leaving.
    Ended,
}

/// A request whose body is still being read and dropped.
#[derive(Debug)]
struct Pending {
    outcome: Result<Route, Problem>,
    persistence: Persistence,
    head_only: bool,
}

/// One request's place in the order of answers.
#[derive(Debug)]
struct Answer {
    content: Content,
    persistence: Persistence,
    head_only: bool,
    endpoint: Endpoint,
    began: Instant,
}

#[derive(Debug)]
enum Content {
    AwaitsTickets(Format),
    AwaitsStatus,
    Continue,
    Tickets(Body),
    Problem(Problem),
    Page(Rc<Page>),
    ServerOptions,
}

/// A large array on its way. It is rendered again from its offset after a short write.
#[derive(Debug)]
struct Streaming {
    body: Body,
    offset: u64,
}

/// What a request needs from outside of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// This many tickets.
    Tickets(u64),
    /// The page of this route.
    Page(Route),
}

/// How a [`Demand`] is met.
#[derive(Debug)]
pub enum Reply {
    /// The answer comes later, by [`Connection::settle_tickets`] or
    /// [`Connection::settle_status`].
    Later,
    /// Here it is.
    Page(Rc<Page>),
    /// There is none.
    Unavailable(Unavailable),
}

/// An answer that has been written for its client, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What was asked for.
    pub endpoint: Endpoint,
    /// The status of the answer.
    pub status: u16,
    /// When the head of the request had been read; without a whole head, some time before.
    pub began: Instant,
}

/// What is to be done about a connection whose deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// An answer has been queued; write it.
    Answer,
    /// Nobody waits for anything: close the socket.
    Close,
}

/// The bytes gathered for one write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gathered {
    /// So many of them, at the end, come from a large array.
    streamed: usize,
}

impl Gathered {
    /// Whether a piece of a large array is among the bytes.
    pub fn is_streaming(&self) -> bool {
        self.streamed > 0
    }
}

impl Connection {
    /// A connection that was accepted at `now`.
    pub fn new(now: Instant) -> Connection {
        Connection {
            stage: Stage::Head,
            input: Vec::new(),
            backlog: false,
            paused: false,
            answers: VecDeque::new(),
            settled: 0,
            output: Vec::new(),
            output_sent: 0,
            streaming: None,
            input_since: now,
            output_since: now,
        }
    }

    /// Takes bytes that were read from the client, after those left over from before. `demand`
    /// is called for every request that needs something from outside. Pass no bytes to go on
    /// after [`Connection::is_reading`] has become true again.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        rules: &Rules,
        now: Instant,
        mut demand: impl FnMut(Demand) -> Reply,
    ) {
        let was_empty = self.input.is_empty();
        let consumed = if was_empty {
            let consumed = self.take_requests(bytes, rules, now, &mut demand);
            self.input.extend_from_slice(&bytes[consumed..]);
            consumed
        } else {
            let mut input = std::mem::take(&mut self.input);
            input.extend_from_slice(bytes);
            let consumed = self.take_requests(&input, rules, now, &mut demand);
            input.drain(..consumed);
            self.input = input;
            consumed
        };
        let full = self.answers.len() >= limits::PIPELINED_REQUESTS_MAX;
        self.backlog = full && !self.input.is_empty();
        if matches!(self.stage, Stage::Head) && (was_empty || consumed > 0) {
            self.input_since = now;
        }
        self.paused = !self.is_reading();
    }

    /// The client has sent its last byte. What it asked for is still answered.
    pub fn end_input(&mut self) {
        let inside_a_request = match self.stage {
            Stage::Head => !self.input.iter().all(|byte| b"\r\n".contains(byte)),
            Stage::Body { .. } => true,
            Stage::Ended => false,
        };
        if inside_a_request {
            self.refuse(Problem::Truncated);
        }
        self.end();
    }

    /// Answers with a problem after which nothing more is read as a request.
    pub fn refuse(&mut self, problem: Problem) {
        let head_only = match &self.stage {
            Stage::Body { pending, .. } => pending.head_only,
            Stage::Head | Stage::Ended => request::asks_for_the_head(&self.input),
        };
        self.refuse_so(problem, head_only);
    }

    fn refuse_so(&mut self, problem: Problem, head_only: bool) {
        self.answer(
            Content::Problem(problem),
            Persistence::Close,
            head_only,
            Endpoint::Other,
        );
        self.end();
    }

    /// Answers the first request that waits for tickets.
    pub fn settle_tickets(&mut self, tickets: Result<Run, Unavailable>) {
        let awaiting = |content: &Content| match content {
            Content::AwaitsTickets(format) => Some(*format),
            _ => None,
        };
        self.settle(awaiting, |format| match tickets {
            Ok(run) => Content::Tickets(Body::new(run, format)),
            Err(unavailable) => Content::Problem(Problem::Unavailable(unavailable)),
        });
    }

    /// Answers the first request that waits for tickets with a page, such as a 503 of its own.
    pub fn settle_tickets_with_page(&mut self, page: &Rc<Page>) {
        let awaiting =
            |content: &Content| matches!(content, Content::AwaitsTickets(_)).then_some(());
        self.settle(awaiting, |()| Content::Page(Rc::clone(page)));
    }

    /// Answers the first request that waits for the status.
    pub fn settle_status(&mut self, page: &Rc<Page>) {
        let awaiting = |content: &Content| matches!(content, Content::AwaitsStatus).then_some(());
        self.settle(awaiting, |()| Content::Page(Rc::clone(page)));
    }

    /// Appends the next bytes to write, as many as go well in one write; nothing when every
    /// answer that is due has been written. `leaving` says `Connection: close` with the last
    /// answer. [`Connection::sent`] must follow. `answered` hears of every final answer.
    pub fn gather(
        &mut self,
        heads: &Heads,
        leaving: bool,
        out: &mut Vec<u8>,
        mut answered: impl FnMut(Answered),
    ) -> Gathered {
        loop {
            if let Some(Streaming { body, offset }) = &mut self.streaming {
                if *offset < body.len() {
                    let streamed = body.write_at(*offset, limits::PIECE_BYTES, out);
                    *offset += streamed as u64;
                    return Gathered { streamed };
                }
                self.streaming = None;
            }
            let settled = self.answers.front().is_some_and(Answer::is_settled);
            if !settled || out.len() >= limits::OUTPUT_BYTES_MAX {
                return Gathered::default();
            }
            let Some(mut answer) = self.answers.pop_front() else {
                return Gathered::default();
            };
            self.settled = self.settled.saturating_sub(1);
            if leaving && answer.is_final() && self.expects_nothing() {
                answer.persistence = Persistence::Close;
            }
            if answer.persistence == Persistence::Close {
                self.end();
            }
            if let Some(status) = answer.content.status() {
                answered(Answered {
                    endpoint: answer.endpoint,
                    status,
                    began: answer.began,
                });
            }
            self.streaming = answer.write(heads, out);
        }
    }

    /// The socket took `taken` bytes of what was gathered; the rest is kept or rendered again.
    pub fn sent(&mut self, gathered: Gathered, bytes: &[u8], taken: usize, now: Instant) {
        let left = &bytes[taken..];
        let again = left.len().min(gathered.streamed);
        if let Some(streaming) = &mut self.streaming {
            streaming.offset -= again as u64;
        }
        self.output.extend_from_slice(&left[..left.len() - again]);
        self.output_moved(now);
    }

    /// Bytes that the socket would not take before; they go first.
    pub fn unsent(&self) -> &[u8] {
        &self.output[self.output_sent..]
    }

    /// The socket took `taken` bytes of [`Connection::unsent`].
    pub fn resent(&mut self, taken: usize, now: Instant) {
        self.output_sent += taken;
        if self.output_sent == self.output.len() {
            self.output.clear();
            self.output_sent = 0;
        }
        if taken > 0 {
            self.output_moved(now);
        }
    }

    /// Whether more input may be given: nothing is read while too many answers are due.
    pub fn is_reading(&self) -> bool {
        self.answers.len() < limits::PIPELINED_REQUESTS_MAX
            && self.output.is_empty()
            && !matches!(self.stage, Stage::Ended)
    }

    /// Whether input was left over because too many answers were due.
    pub fn has_backlog(&self) -> bool {
        self.backlog
    }

    /// Whether bytes wait for the socket.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
            || self.streaming.is_some()
            || self.answers.front().is_some_and(Answer::is_settled)
    }

    /// Whether the last answer has been written and no request will follow.
    pub fn is_finished(&self) -> bool {
        matches!(self.stage, Stage::Ended) && self.is_quiet()
    }

    /// Whether the connection is between two requests, with nothing begun.
    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Head) && self.input.is_empty() && self.is_quiet()
    }

    /// Since when an idle connection has been idle.
    pub fn idle_since(&self) -> Instant {
        self.input_since
    }

    /// When something must have happened; `None` while only the database is waited for.
    pub fn deadline(&self) -> Option<Instant> {
        if self.has_output() {
            return Some(self.output_since + limits::WRITE_TIMEOUT);
        }
        let timeout = match self.stage {
            // A client that waits for its 100 behind other answers can't send its body yet.
            Stage::Body { .. } if self.answers.is_empty() => limits::BODY_TIMEOUT,
            Stage::Head if !self.input.is_empty() && self.is_reading() => limits::HEAD_TIMEOUT,
            Stage::Head if self.answers.is_empty() => limits::IDLE_TIMEOUT,
            Stage::Ended if self.answers.is_empty() => limits::LINGER_TIMEOUT,
            Stage::Head | Stage::Body { .. } | Stage::Ended => return None,
        };
        Some(self.input_since + timeout)
    }

    /// The deadline has passed.
    pub fn expire(&mut self) -> Expiry {
        let problem = match self.stage {
            _ if self.has_output() => return Expiry::Close,
            Stage::Body { .. } => Problem::BodyTimeout,
            Stage::Head if !self.input.is_empty() => Problem::HeadTimeout,
            Stage::Head | Stage::Ended => return Expiry::Close,
        };
        self.refuse(problem);
        Expiry::Answer
    }

    /// Gives memory back that an idle connection does not need.
    pub fn release_buffers(&mut self) {
        if self.is_idle() {
            self.input = Vec::new();
            self.output = Vec::new();
            self.answers = VecDeque::new();
        }
    }

    /// Makes requests of the input; returns how much of it is used up.
    fn take_requests(
        &mut self,
        input: &[u8],
        rules: &Rules,
        now: Instant,
        demand: &mut impl FnMut(Demand) -> Reply,
    ) -> usize {
        let mut at = 0;
        while self.answers.len() < limits::PIPELINED_REQUESTS_MAX {
            match &mut self.stage {
                Stage::Ended => return input.len(),
                Stage::Head => match request::parse(&input[at..]) {
                    Ok(Parsed::Complete { request, consumed }) => {
                        at += consumed;
                        self.input_since = now;
                        self.begin(&request, rules, demand);
                    }
                    Ok(Parsed::Partial) => break,
                    Err(reject) => {
                        let head_only = request::asks_for_the_head(&input[at..]);
                        self.refuse_so(Problem::Reject(reject), head_only);
                    }
                },
                Stage::Body { decoder, .. } => match decoder.consume(&input[at..]) {
                    Ok(progress) => {
                        at += progress.consumed;
                        if !progress.done {
                            break;
                        }
                        self.end_body(demand);
                    }
                    Err(reject) => self.refuse(Problem::Reject(reject)),
                },
            }
        }
        at
    }

    /// A head is complete. Its request is dispatched when its body is, so that a bad body spends
    /// no ticket.
    fn begin(
        &mut self,
        request: &Request<'_>,
        rules: &Rules,
        demand: &mut impl FnMut(Demand) -> Reply,
    ) {
        let persistence = match request.version {
            _ if !request.keep_alive => Persistence::Close,
            Version::Http10 => Persistence::KeepAlive,
            Version::Http11 => Persistence::Implied,
        };
        let head_only = request.method == Method::Head;
        let outcome = route::route(request, rules).map_err(Problem::Refusal);
        let pending = Pending {
            outcome,
            persistence,
            head_only,
        };
        if request.body == BodyFraming::None {
            return self.dispatch(pending, demand);
        }
        if request.expect_continue {
            // A refused request never gets its body: the final answer takes the place of the 100.
            if pending.outcome.is_err() {
                return self.dispatch(
                    Pending {
                        persistence: Persistence::Close,
                        ..pending
                    },
                    demand,
                );
            }
            self.answer(
                Content::Continue,
                Persistence::Implied,
                false,
                Endpoint::Other,
            );
        }
        let decoder = Decoder::new(request.body);
        self.stage = Stage::Body { decoder, pending };
    }

    fn end_body(&mut self, demand: &mut impl FnMut(Demand) -> Reply) {
        if let Stage::Body { pending, .. } = std::mem::replace(&mut self.stage, Stage::Head) {
            self.dispatch(pending, demand);
        }
    }

    fn dispatch(&mut self, pending: Pending, demand: &mut impl FnMut(Demand) -> Reply) {
        let Pending {
            outcome,
            persistence,
            head_only,
        } = pending;
        let mut ask = |what, later| match demand(what) {
            Reply::Later => later,
            Reply::Page(page) => Content::Page(page),
            Reply::Unavailable(why) => Content::Problem(Problem::Unavailable(why)),
        };
        let endpoint = match outcome {
            Ok(route) => route.endpoint(),
            Err(Problem::Refusal(refusal)) => refusal.endpoint(),
            Err(_) => Endpoint::Other,
        };
        let content = match outcome {
            Err(problem) => Content::Problem(problem),
            Ok(Route::ServerOptions) => Content::ServerOptions,
            Ok(Route::Create { count, format }) => {
                ask(Demand::Tickets(count), Content::AwaitsTickets(format))
            }
            Ok(page) => ask(Demand::Page(page), Content::AwaitsStatus),
        };
        self.answer(content, persistence, head_only, endpoint);
        if persistence == Persistence::Close {
            self.end();
        }
    }

    fn answer(
        &mut self,
        content: Content,
        persistence: Persistence,
        head_only: bool,
        endpoint: Endpoint,
    ) {
        self.answers.push_back(Answer {
            content,
            persistence,
            head_only,
            endpoint,
            began: self.input_since,
        });
    }

    fn settle<T>(
        &mut self,
        awaiting: impl Fn(&Content) -> Option<T>,
        content: impl FnOnce(T) -> Content,
    ) {
        let waiting = self.answers.iter_mut().skip(self.settled);
        let found = waiting
            .enumerate()
            .find_map(|(index, answer)| Some((index, awaiting(&answer.content)?, answer)));
        let Some((index, awaited, answer)) = found else {
            return;
        };
        answer.content = content(awaited);
        if index == 0 {
            self.settled += 1;
        }
    }

    fn end(&mut self) {
        self.stage = Stage::Ended;
        self.input = Vec::new();
        self.backlog = false;
    }

    fn output_moved(&mut self, now: Instant) {
        self.output_since = now;
        if self.paused && self.is_reading() {
            self.input_since = now;
        }
        self.paused = !self.is_reading();
        if self.answers.is_empty() && self.output.is_empty() {
            match self.stage {
                Stage::Head if self.input.is_empty() => self.input_since = now,
                Stage::Body { .. } | Stage::Ended => self.input_since = now,
                Stage::Head => {}
            }
        }
    }

    /// Whether no request is waiting behind those that have been written, or has begun.
    fn expects_nothing(&self) -> bool {
        self.answers.is_empty() && self.input.is_empty() && matches!(self.stage, Stage::Head)
    }

    fn is_quiet(&self) -> bool {
        self.answers.is_empty() && self.output.is_empty() && self.streaming.is_none()
    }
}

impl Content {
    /// The status of a final answer.
    fn status(&self) -> Option<u16> {
        match self {
            Content::Tickets(_) | Content::ServerOptions => Some(200),
            Content::Problem(problem) => Some(problem.status()),
            Content::Page(page) => Some(page.status),
            Content::AwaitsTickets(_) | Content::AwaitsStatus | Content::Continue => None,
        }
    }
}

impl Answer {
    fn is_settled(&self) -> bool {
        !matches!(
            self.content,
            Content::AwaitsTickets(_) | Content::AwaitsStatus
        )
    }

    /// Not an interim response, behind which the real one follows.
    fn is_final(&self) -> bool {
        !matches!(self.content, Content::Continue)
    }

    /// Writes the answer, but for a large array, which is returned to be streamed.
    fn write(self, heads: &Heads, out: &mut Vec<u8>) -> Option<Streaming> {
        let Answer {
            content,
            persistence,
            head_only,
            ..
        } = self;
        match content {
            Content::Tickets(body) => {
                heads.tickets(&body, persistence, out);
                if body.len() > limits::SMALL_BODY_BYTES_MAX {
                    return Some(Streaming { body, offset: 0 });
                }
                body.write_at(0, usize::MAX, out);
            }
            Content::Problem(problem) => heads.problem(problem, persistence, head_only, out),
            Content::Page(page) => heads.page(&page, persistence, head_only, out),
            Content::ServerOptions => heads.server_options(persistence, out),
            Content::Continue => out.extend_from_slice(response::CONTINUE),
            Content::AwaitsTickets(_) | Content::AwaitsStatus => {
                unreachable!("only settled answers are written")
            }
        }
        None
    }
}
