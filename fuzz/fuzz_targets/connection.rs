//! Bytes and split points to a connection. Law: every split of the input gives the same answers,
//! byte for byte and in the same order; there is no panic, and the bounds hold.

#![no_main]

use std::time::{Instant, SystemTime};

use libfuzzer_sys::fuzz_target;
use tickr::http::array::Format;
use tickr::http::connection::{Connection, Demand, Reply};
use tickr::http::response::{Heads, Unavailable};
use tickr::http::route::Rules;
use tickr::limits;
use tickr::ticket::Run;

/// One step of a client that sends in pieces and reads in pieces.
struct Split {
    /// How many bytes come at once; 0 for all that are left.
    bytes: usize,
    /// How many requests for tickets are settled behind them.
    settle: usize,
    /// How many bytes the socket takes in one write.
    taken: usize,
}

// The first byte says how many splits follow, four bytes each; the rest is what the client sends.
fuzz_target!(|data: &[u8]| {
    let Some((count, rest)) = data.split_first() else {
        return;
    };
    let (splits, input) = rest.split_at(rest.len().min(4 * usize::from(*count)));
    let splits: Vec<Split> = splits
        .chunks_exact(4)
        .map(|split| Split {
            bytes: split[0].into(),
            settle: split[1].into(),
            taken: u16::from_be_bytes([split[2], split[3]]).into(),
        })
        .collect();
    let at_once = answers(input, &[]);
    let in_pieces = answers(input, &splits);
    assert_eq!(
        String::from_utf8_lossy(&at_once),
        String::from_utf8_lossy(&in_pieces)
    );
});

/// A client, its connection, and a dispenser that counts up from 1.
struct Client {
    connection: Connection,
    rules: Rules,
    heads: Heads,
    now: Instant,
    waiting: std::collections::VecDeque<u64>,
    next_ticket: u64,
    received: Vec<u8>,
}

/// Everything that a client gets for `input` when it comes in these pieces; 0 means all of it.
fn answers(input: &[u8], splits: &[Split]) -> Vec<u8> {
    let now = Instant::now();
    let mut client = Client {
        connection: Connection::new(now),
        rules: Rules {
            max_batch: 5_000,
            batch_format: Format::Array,
            password: None,
        },
        heads: Heads::new(SystemTime::UNIX_EPOCH),
        now,
        waiting: Default::default(),
        next_ticket: 1,
        received: Vec::new(),
    };
    let mut rest = input;
    for split in splits {
        let bytes = if split.bytes == 0 {
            rest.len()
        } else {
            rest.len().min(split.bytes.into())
        };
        client.feed(&rest[..bytes.min(limits::READ_BYTES)]);
        rest = &rest[bytes.min(limits::READ_BYTES)..];
        client.settle(split.settle);
        client.write_out(split.taken);
    }
    while !rest.is_empty() {
        let bytes = rest.len().min(limits::READ_BYTES);
        client.feed(&rest[..bytes]);
        rest = &rest[bytes..];
    }
    client.go_on();
    client.connection.end_input();
    client.go_on();
    client.received
}

impl Client {
    /// Gives bytes to the connection as soon as it reads.
    fn feed(&mut self, bytes: &[u8]) {
        self.go_on();
        self.receive(bytes);
    }

    /// Settles and writes until nothing is left to do.
    fn go_on(&mut self) {
        loop {
            self.settle(usize::MAX);
            self.write_out(usize::MAX);
            if !self.connection.has_backlog() || !self.connection.is_reading() {
                break;
            }
            self.receive(&[]);
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        let Client {
            connection,
            rules,
            now,
            waiting,
            ..
        } = self;
        connection.receive(bytes, rules, *now, |demand| match demand {
            Demand::Tickets(count) => {
                waiting.push_back(count);
                Reply::Later
            }
            Demand::Page(_) => Reply::Unavailable(Unavailable::DatabaseAway),
        });
    }

    fn settle(&mut self, most: usize) {
        for _ in 0..most {
            let Some(count) = self.waiting.pop_front() else {
                break;
            };
            let run = Run {
                first: self.next_ticket,
                increment: 3,
                count,
            };
            self.next_ticket += 3 * count;
            self.connection.settle_tickets(Ok(run));
        }
    }

    /// Writes, `taken` bytes at most per write.
    fn write_out(&mut self, taken: usize) {
        let mut buffer = Vec::new();
        loop {
            let unsent = self.connection.unsent();
            assert!(unsent.len() <= limits::OUTPUT_BYTES_MAX + limits::HEAD_BYTES_MAX);
            if !unsent.is_empty() {
                let taken = unsent.len().min(taken.max(1));
                self.received.extend_from_slice(&unsent[..taken]);
                self.connection.resent(taken, self.now);
                continue;
            }
            buffer.clear();
            let gathered = self
                .connection
                .gather(&self.heads, false, &mut buffer, |_| {});
            if buffer.is_empty() {
                return;
            }
            let taken = buffer.len().min(taken);
            self.received.extend_from_slice(&buffer[..taken]);
            self.connection.sent(gathered, &buffer, taken, self.now);
            if taken == 0 && self.connection.unsent().is_empty() {
                return;
            }
        }
    }
}
