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

mod allocator {
    use std::time::Duration;

    use divan::Bencher;
    use divan::counter::ItemsCount;
    use tickr::allocator::{Allocator, Ask, Options, RequestId};
    use tickr::counter::{Epoch, Found, Memory, Outcome, Owner, Server, Task, View};
    use tickr::moment::{Moment, Next};
    use tickr::ticket::Numbering;

    /// So many requests wait, are reserved for at once, and are served.
    #[divan::bench(args = [1, 64, 1024])]
    fn coalesced(bencher: Bencher, requests: u64) {
        let mut now = Moment::from_nanos(1_000_000_000);
        let options = Options {
            numbering: Numbering::new(4, 1, 0).expect("good settings"),
            pool_size: 5,
            timeout: Duration::from_secs(1),
            prefetch: Duration::ZERO,
            seed: 0,
            remembered: Memory::default(),
        };
        let mut allocator = Allocator::new(options, now);
        let (mut id, mut sequence) = (1, 0);
        bencher.counter(ItemsCount::new(requests)).bench_local(|| {
            for _ in 0..requests {
                sequence += 1;
                let connection = 1;
                let request = RequestId {
                    connection,
                    sequence,
                };
                allocator.submit(request, Ask::Tickets(1), now);
            }
            let mut served = 0;
            while served < requests {
                now += Duration::from_micros(100);
                while let Next::Ready(job) = allocator.next_job(now) {
                    let view = |id| View {
                        id,
                        mark: 0,
                        epoch: Epoch::default(),
                        owner: Owner::Here,
                        read_only: false,
                        lease: Duration::from_secs(10),
                    };
                    let found = match job.task {
                        Task::Connect { .. } => Found::Connected {
                            view: view(id),
                            server: Server {
                                version: String::new(),
                                connection: 1,
                                identity: String::new(),
                                warnings: Vec::new(),
                            },
                        },
                        Task::Read => Found::Read {
                            view: view(id),
                            warnings: None,
                        },
                        Task::Reserve { count, .. } => {
                            id += count;
                            Found::Reserved { last: id }
                        }
                        Task::Close { .. } => Found::Closed { view: view(id) },
                    };
                    let found = Ok(found);
                    allocator.on_outcome(Outcome { id: job.id, found }, now);
                }
                while let Next::Ready(_) = allocator.next_completion(now) {
                    served += 1;
                }
                while allocator.next_event().is_some() {}
            }
        });
    }
}

mod connection {
    use std::time::SystemTime;

    use divan::Bencher;
    use divan::counter::ItemsCount;
    use tickr::api::routes::{self, Route, Rules};
    use tickr::http::array::{Body, Format};
    use tickr::http::connection::{Connection, Memo, Output, Step};
    use tickr::http::response::{HeadCache, Response};
    use tickr::moment::Moment;
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
        let heads = HeadCache::new(SystemTime::now());
        // Not the clock: valgrind hides the page from which it would be read.
        let now = Moment::from_nanos(1_000_000_000);
        let mut connection = Connection::new(now);
        let mut output = Output::new();
        let mut memo = Memo::new();
        let mut first = 54_313_001;
        bencher.counter(ItemsCount::new(pipelined)).bench_local(|| {
            connection.receive(&input, now);
            loop {
                connection.repeat(&memo, now);
                let Some(step) = connection.next_step(now) else {
                    break;
                };
                match step {
                    Step::Head(request) => {
                        let call = routes::route(&request, &rules);
                        connection.begin(call, true);
                        connection.remember(&mut memo);
                    }
                    Step::Call { sequence, call } => {
                        let Ok(Route::Create { count, format }) = *call else {
                            panic!("it is for tickets")
                        };
                        first += 4;
                        let run = Run {
                            first,
                            increment: 4,
                            count,
                        };
                        let response = Response::Tickets(Body::new(run, format));
                        connection.complete(sequence, response);
                    }
                    Step::Rejected(_) => panic!("it is a good request"),
                }
            }
            connection.output(&heads, false, &mut output);
            connection.took(output.bytes().len(), &output, now);
            output.answered().for_each(drop);
            assert!(connection.is_idle());
        });
    }
}
