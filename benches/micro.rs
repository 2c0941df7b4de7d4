//! The cost of the pieces that every answer is made of: `cargo bench --bench micro` in time,
//! `make instructions` in instructions.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

use tickr::http::array::{Body, Format};
use tickr::limits::PIECE_BYTES;
use tickr::ticket::Run;

fn main() {
    divan::main();
}

/// Batches are rendered in pieces, each into the same buffer, as the server does it.
fn render(bencher: Bencher, run: Run, format: Format, start: u64) {
    let body = Body::new(run, format);
    let mut out = Vec::with_capacity(PIECE_BYTES);
    bencher
        .counter(BytesCount::new(body.len() - start))
        .counter(ItemsCount::new(run.count))
        .bench_local(|| {
            let body = black_box(body);
            let mut offset = start;
            while offset < body.len() {
                out.clear();
                offset += body.write_at(offset, PIECE_BYTES, &mut out) as u64;
                black_box(&out);
            }
        });
}

mod array {
    use super::*;

    const BATCH: u64 = 100_000;

    /// One ticket: `[54313001]`.
    #[divan::bench(args = Format::ALL)]
    fn single(bencher: Bencher, format: Format) {
        let run = Run {
            first: 54_313_001,
            increment: 4,
            count: 1,
        };
        render(bencher, run, format, 0);
    }

    /// 100,000 tickets of the given number of digits.
    #[divan::bench(args = [6, 8, 9, 10, 13, 16, 19])]
    fn batch(bencher: Bencher, digits: u32) {
        let run = Run {
            first: 10u64.pow(digits - 1) + 1,
            increment: 4,
            count: BATCH,
        };
        render(bencher, run, Format::Array, 0);
    }

    /// 100,000 tickets of 9 digits as strings.
    #[divan::bench]
    fn batch_of_strings(bencher: Bencher) {
        let run = Run {
            first: 543_130_001,
            increment: 4,
            count: BATCH,
        };
        render(bencher, run, Format::String, 0);
    }

    /// From the middle of a ticket, as after a short write.
    #[divan::bench]
    fn batch_from_odd_offset(bencher: Bencher) {
        let run = Run {
            first: 543_130_001,
            increment: 4,
            count: BATCH,
        };
        render(bencher, run, Format::Array, 4_567);
    }

    /// A cluster with room for so many nodes.
    #[divan::bench(args = [1, 100, 1_024, 10_007, 1_000_003, 1_000_000_007])]
    fn batch_with_increment(bencher: Bencher, increment: u64) {
        let run = Run {
            first: 1_000_000_000_000_001,
            increment,
            count: BATCH,
        };
        render(bencher, run, Format::Array, 0);
    }

    /// A small batch, gathered with other answers.
    #[divan::bench(args = [5, 100])]
    fn small_batch(bencher: Bencher, count: u64) {
        let run = Run {
            first: 54_313_005,
            increment: 4,
            count,
        };
        render(bencher, run, Format::Array, 0);
    }
}

mod request {
    use divan::Bencher;
    use divan::counter::ItemsCount;
    use tickr::http::request::parse;

    const BENCHMARK: &[u8] = b"GET /tickets/create HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
    const CURL: &[u8] = b"GET /tickets/create/5?format=range HTTP/1.1\r\nHost: tickr.internal\r\n\
        User-Agent: curl/8.5.0\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n";

    #[divan::bench(args = ["benchmark", "curl"])]
    fn head(bencher: Bencher, client: &str) {
        let input = match client {
            "curl" => CURL,
            _ => BENCHMARK,
        };
        bencher
            .counter(ItemsCount::new(1_u32))
            .bench(|| parse(divan::black_box(input)).is_ok());
    }
}

mod dispenser {
    use std::time::{Duration, Instant};

    use divan::Bencher;
    use divan::counter::ItemsCount;
    use tickr::dispenser::{Dispenser, Options};
    use tickr::ticket::{Block, Numbering};

    /// So many requests wait, are reserved for at once, and are served.
    #[divan::bench(args = [1, 64, 1024])]
    fn coalesced(bencher: Bencher, requests: usize) {
        let mut dispenser = Dispenser::new(Options {
            numbering: Numbering::new(4, 1, 0).expect("good settings"),
            reservations_max: 5,
            late_after: Duration::from_millis(250),
            prefetch_seconds: 0.0,
        });
        let now = Instant::now();
        let mut last = 1;
        bencher.counter(ItemsCount::new(requests)).bench_local(|| {
            for client in 0..requests {
                let deadline = now + Duration::from_secs(1);
                dispenser
                    .request(client, 1, deadline)
                    .expect("room in the queue");
            }
            let reservation = dispenser.next_reservation(now).expect("requests wait");
            let block = Block::ending_at(last + reservation.count, reservation.count);
            last += reservation.count;
            dispenser.landed(reservation.id, block.expect("a block"), now);
            let mut granted = 0;
            while dispenser.next_grant(|_| true).is_some() {
                granted += 1;
            }
            assert_eq!(granted, requests);
        });
    }
}

mod connection {
    use std::time::{Instant, SystemTime};

    use divan::Bencher;
    use divan::counter::ItemsCount;
    use tickr::http::array::Format;
    use tickr::http::connection::{Connection, Reply};
    use tickr::http::response::Heads;
    use tickr::http::route::Rules;
    use tickr::ticket::Run;

    /// The whole way of pipelined singles, but for the sockets and the database.
    #[divan::bench(args = [1, 16])]
    fn singles(bencher: Bencher, pipelined: usize) {
        let one = b"GET /tickets/create HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
        let input = one.repeat(pipelined);
        let rules = Rules {
            max_batch: 1,
            batch_format: Format::Array,
            password: None,
        };
        let heads = Heads::new(SystemTime::now());
        let now = Instant::now();
        let mut connection = Connection::new(now);
        let mut out = Vec::with_capacity(64 * 1024);
        let mut ticket = 54_313_001;
        bencher.counter(ItemsCount::new(pipelined)).bench_local(|| {
            connection.receive(&input, &rules, now, |_| Reply::Later);
            for _ in 0..pipelined {
                ticket += 4;
                let run = Run {
                    first: ticket,
                    increment: 4,
                    count: 1,
                };
                connection.settle_tickets(Ok(run));
            }
            out.clear();
            let gathered = connection.gather(&heads, false, &mut out, |_| {});
            connection.sent(gathered, &out, out.len(), now);
            assert!(connection.is_idle());
        });
    }
}
