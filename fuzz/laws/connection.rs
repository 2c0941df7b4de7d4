//! A connection with what a caller puts around it: routes, tickets that count up, and a client that
//! takes as much as it likes. Law: every split of the input gives the same answers, byte for byte
//! and in the same order, and so does a memo of the last head; there is no panic, and the bounds
//! hold.

use std::collections::VecDeque;
use std::time::SystemTime;

use tickr::api::routes::{self, Route, RouteError, Rules};
use tickr::api::{pages, problems};
use tickr::http::array::{Body, Format};
use tickr::http::connection::{Connection, Memo, Output, Rejected, Step};
use tickr::http::response::{HeadCache, Response};
use tickr::limits;
use tickr::moment::Moment;
use tickr::ticket::Run;

/// A connection and its caller.
pub(super) struct Caller {
    pub(super) connection: Connection<Result<Route, RouteError>>,
    rules: Rules,
    heads: HeadCache,
    output: Output<Result<Route, RouteError>>,
    /// Without one, every head is read.
    memo: Option<Memo<Result<Route, RouteError>>>,
    /// Requests that wait for tickets.
    pub(super) waiting: VecDeque<(u64, u64, Format)>,
    next_ticket: u64,
    /// What the client has got.
    pub(super) received: Vec<u8>,
}

impl Caller {
    /// With a connection that was accepted at `now`.
    pub(super) fn new(now: Moment) -> Caller {
        Caller {
            connection: Connection::new(now),
            rules: Rules {
                max_batch: 1_000_000,
                batch_format: Format::Array,
                password: None,
            },
            heads: HeadCache::new(SystemTime::UNIX_EPOCH),
            output: Output::new(),
            memo: Some(Memo::new()),
            waiting: VecDeque::new(),
            next_ticket: 1,
            received: Vec::new(),
        }
    }

    /// The client sends this.
    pub(super) fn receive(&mut self, bytes: &[u8], now: Moment) {
        self.connection.receive(bytes, now);
        self.take_calls(now);
    }

    /// The client has sent its last byte.
    pub(super) fn end_input(&mut self) {
        if let Some(rejected) = self.connection.end_input() {
            self.refuse(rejected);
        }
    }

    /// Takes every step that there is.
    pub(super) fn take_calls(&mut self, now: Moment) {
        loop {
            if let Some(memo) = &self.memo {
                self.connection.repeat(memo, now);
            }
            let Some(step) = self.connection.next_step(now) else {
                return;
            };
            let (sequence, response) = match step {
                Step::Head(request) => {
                    let call = routes::route(&request, &self.rules);
                    let accepted = call.is_ok();
                    self.connection.begin(call, accepted);
                    if let Some(memo) = &mut self.memo {
                        self.connection.remember(memo);
                    }
                    continue;
                }
                Step::Rejected(rejected) => {
                    self.refuse(rejected);
                    continue;
                }
                Step::Call { sequence, call } => match call {
                    Ok(Route::Create { count, format }) => {
                        self.waiting.push_back((sequence, *count, *format));
                        continue;
                    }
                    Ok(_) => (sequence, pages::LIVE),
                    Err(error) => (sequence, problems::misrouted(error)),
                },
            };
            self.connection.complete(sequence, response);
        }
    }

    /// Completes the oldest request that waits for tickets.
    pub(super) fn complete(&mut self) -> bool {
        let Some((sequence, count, format)) = self.waiting.pop_front() else {
            return false;
        };
        let run = Run {
            first: self.next_ticket,
            increment: 3,
            count,
        };
        self.next_ticket += 3 * count;
        let response = Response::Tickets(Body::new(run, format));
        self.connection.complete(sequence, response);
        true
    }

    /// Writes once; the socket takes at most this many bytes. Returns how many it was offered.
    pub(super) fn write(&mut self, most: usize, now: Moment) -> usize {
        self.connection.output(&self.heads, false, &mut self.output);
        let bytes = self.output.bytes();
        assert!(bytes.len() <= limits::PIECE_BYTES + 2 * limits::OUTPUT_BYTES_MAX);
        let taken = bytes.len().min(most);
        self.received.extend_from_slice(&bytes[..taken]);
        if !bytes.is_empty() {
            self.connection.took(taken, &self.output, now);
        }
        self.output.answered().for_each(drop);
        self.output.bytes().len()
    }

    /// Completes and writes until nothing is left to do.
    pub(super) fn go_on(&mut self, now: Moment) {
        loop {
            while self.complete() {}
            while self.write(usize::MAX, now) > 0 {}
            if !self.connection.has_backlog() {
                return;
            }
            self.take_calls(now);
        }
    }

    fn refuse(&mut self, Rejected { sequence, reject }: Rejected) {
        let response = problems::rejected(reject);
        self.connection.complete(sequence, response);
    }
}

/// One step of a client that sends in pieces and reads in pieces.
pub(super) struct Split {
    /// How many bytes come at once; 0 for all that are left.
    pub(super) bytes: usize,
    /// How many requests for tickets are completed behind them.
    pub(super) complete: usize,
    /// How many bytes the socket takes in one write.
    pub(super) taken: usize,
}

/// Everything that a client gets for `input` when it comes in these pieces, and the rest at once;
/// without any pieces, every head is read.
pub(super) fn answers(input: &[u8], splits: &[Split]) -> Vec<u8> {
    let now = Moment::default();
    let mut caller = Caller::new(now);
    if splits.is_empty() {
        caller.memo = None;
    }
    let mut rest = input;
    for split in splits {
        let most = match split.bytes {
            0 => limits::READ_BYTES,
            bytes => bytes.min(limits::READ_BYTES),
        };
        let (bytes, behind) = rest.split_at(rest.len().min(most));
        rest = behind;
        // Nothing is read before that.
        if !caller.connection.is_reading() {
            caller.go_on(now);
        }
        caller.receive(bytes, now);
        for _ in 0..split.complete {
            caller.complete();
        }
        caller.write(split.taken, now);
    }
    for bytes in rest.chunks(limits::READ_BYTES) {
        caller.go_on(now);
        caller.receive(bytes, now);
    }
    caller.go_on(now);
    caller.end_input();
    caller.go_on(now);
    caller.received
}
