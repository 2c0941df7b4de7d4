//! What HTTP clients send in the world of nodes: requests as bytes, each with what may come back.

use tickr::http::array::Format;
use tickr::limits;

use crate::tape::Tape;

/// The credentials of the password of [`Manner::password`].
const AUTHORIZATION: &str = "Authorization: Basic OnNlY3JldA==\r\n";

/// How the clients of a history behave, and the node that they speak to.
#[derive(Clone, Debug)]
pub struct Manner {
    pub max_batch: u64,
    pub batch_format: Format,
    pub password: bool,
    /// The largest array that is asked for.
    pub array: u64,
}

/// What a request is about, and so what may be its final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tickets {
        count: u64,
        format: Format,
    },
    Status,
    Ready,
    Live,
    Metrics,
    Options,
    /// It is refused with this, whatever the node is like; the connection goes on.
    Refused(u16),
    /// It is no request: this is the last answer.
    Rejected(u16),
}

/// A request as it is sent.
#[derive(Clone, Debug)]
pub struct Request {
    pub bytes: Vec<u8>,
    /// So many of the bytes are its head.
    pub head: usize,
    pub kind: Kind,
    /// `HEAD`: the answer has no content.
    pub head_only: bool,
    /// The connection ends behind its answer.
    pub closes: bool,
    /// It asks for a `100 Continue`, and its body waits for that.
    pub expects: bool,
}

impl Request {
    /// One that the tape chooses.
    pub fn choose(tape: &mut Tape<'_>, manner: &Manner) -> Request {
        let formats = [
            (Format::Array, "?format=array"),
            (Format::Range, "?format=range"),
            (Format::String, "?format=string"),
            (Format::RangeString, "?format=range-string"),
            (manner.batch_format, ""),
        ];
        match tape.byte() % 32 {
            0..8 => Request::tickets(1, Format::Array, "GET /tickets/create", manner),
            8..13 => {
                let count = tape.pick(&[2, 7, 40, 300]).min(manner.max_batch);
                let (format, query) = tape.pick(&formats);
                let line = format!("GET /tickets/create/{count}{query}");
                Request::tickets(count, format, &line, manner)
            }
            13 => {
                let count = manner.max_batch;
                let line = format!("POST /tickets/create/{count}?format=range");
                Request::tickets(count, Format::Range, &line, manner)
            }
            14 => {
                let count = manner.array.min(manner.max_batch);
                let line = format!("GET /tickets/create/{count}?format=array");
                Request::tickets(count, Format::Array, &line, manner)
            }
            15 => Request::plain("GET /status", Kind::Status, manner),
            16 => Request::plain("GET /readyz?x=1", Kind::Ready, manner),
            17 => Request::plain("GET /metrics", Kind::Metrics, manner),
            18 => Request::plain("GET /livez", Kind::Live, manner),
            19 => match tape.below(3) {
                0 => Request::plain("OPTIONS *", Kind::Options, manner),
                1 => Request::plain("HEAD /readyz", Kind::Ready, manner),
                _ => Request::plain("HEAD /status?format=string", Kind::Status, manner),
            },
            20 | 21 => Request::with_body(tape, false, manner),
            22 => Request::with_body(tape, true, manner),
            23..26 => Request::refused(tape, manner),
            26 => Request::rejected(tape, manner),
            27 => Request::close(manner),
            28 | 29 => Request::old(tape, manner),
            _ => Request::tickets(
                3,
                Format::Range,
                "GET /tickets/create/3?format=range",
                manner,
            ),
        }
    }

    /// One ticket, and nothing else about it.
    pub fn single(manner: &Manner) -> Request {
        Request::tickets(1, Format::Array, "GET /tickets/create", manner)
    }

    pub fn plain(line: &str, kind: Kind, manner: &Manner) -> Request {
        Request::of(line, "HTTP/1.1", "Host: t\r\n", b"", kind, manner)
    }

    fn tickets(count: u64, format: Format, line: &str, manner: &Manner) -> Request {
        Request::plain(line, Kind::Tickets { count, format }, manner)
    }

    fn close(manner: &Manner) -> Request {
        let kind = Kind::Tickets {
            count: 1,
            format: Format::Array,
        };
        let fields = "Host: t\r\nConnection: close\r\n";
        let line = "GET /tickets/create";
        Request {
            closes: true,
            ..Request::of(line, "HTTP/1.1", fields, b"", kind, manner)
        }
    }

    /// HTTP/1.0, which goes on only when both sides say so.
    fn old(tape: &mut Tape<'_>, manner: &Manner) -> Request {
        let keeps = tape.chance(128);
        let fields = if keeps {
            "Connection: keep-alive\r\n"
        } else {
            ""
        };
        let kind = Kind::Tickets {
            count: 1,
            format: Format::Array,
        };
        Request {
            closes: !keeps,
            ..Request::of("GET /tickets/create", "HTTP/1.0", fields, b"", kind, manner)
        }
    }

    fn with_body(tape: &mut Tape<'_>, expects: bool, manner: &Manner) -> Request {
        let (framing, body): (_, &[u8]) = match tape.below(3) {
            0 => ("Content-Length: 5\r\n", b"GET /"),
            1 => (
                "Transfer-Encoding: chunked\r\n",
                b"4;x\r\nGET \r\n0\r\nA: b\r\n\r\n",
            ),
            _ => ("Content-Length: 1\r\n", b"\r"),
        };
        let expect = if expects {
            "Expect: 100-continue\r\n"
        } else {
            ""
        };
        let fields = format!("Host: t\r\n{framing}{expect}");
        let (line, kind) = match tape.chance(32) {
            true => ("POST /nowhere", Kind::Refused(404)),
            false => {
                let kind = Kind::Tickets {
                    count: 1,
                    format: Format::Array,
                };
                ("POST /tickets/create", kind)
            }
        };
        Request {
            expects,
            ..Request::of(line, "HTTP/1.1", &fields, body, kind, manner)
        }
    }

    /// For no route.
    fn refused(tape: &mut Tape<'_>, manner: &Manner) -> Request {
        let over = format!("GET /tickets/create/{}", manner.max_batch + 1);
        let (line, status) = tape.pick(&[
            ("GET /nowhere", 404),
            ("GET /tickets/create/0", 400),
            (over.as_str(), 400),
            ("GET /tickets/create?n=1", 400),
            ("DELETE /tickets/create", 405),
            ("GET /status?format=array", 400),
            ("GET /metrics?x=1", 400),
            ("GET /tickets/create/x", 400),
            ("GET /tickets/create/%zz", 400),
            ("", 401),
        ]);
        let kind = Kind::Refused(status);
        match (line, manner.password) {
            ("", true) => Request {
                bytes: b"GET /tickets/create HTTP/1.1\r\nHost: t\r\n\r\n".to_vec(),
                ..Request::plain("", kind, manner)
            },
            ("", false) => Request::plain("GET /nowhere", Kind::Refused(404), manner),
            _ => Request::plain(line, kind, manner),
        }
        .whole_head()
    }

    /// No request at all.
    fn rejected(tape: &mut Tape<'_>, manner: &Manner) -> Request {
        let long = "x".repeat(limits::HEAD_BYTES_MAX);
        let (bytes, status) = match tape.below(10) {
            0 => ("FOO / HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(), 501),
            1 => ("GET /livez HTTP/2.0\r\n\r\n".to_owned(), 505),
            2 => ("GET /livez HTTP/1.1\r\n\r\n".to_owned(), 400),
            3 => ("GET /livez HTTP/1.1\nHost: t\r\n\r\n".to_owned(), 400),
            4 => (
                "GET /livez HTTP/1.1\r\nHost: t\r\nExpect: x\r\n\r\n".to_owned(),
                417,
            ),
            5 => (
                "POST /livez HTTP/1.1\r\nHost: t\r\nContent-Length: 99999\r\n\r\n".to_owned(),
                413,
            ),
            6 => (format!("GET /{long} HTTP/1.1\r\n\r\n"), 414),
            7 => (format!("GET /livez HTTP/1.1\r\nA: {long}\r\n\r\n"), 431),
            8 => (
                "POST /tickets/create HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nz"
                    .to_owned(),
                400,
            ),
            _ => ("(\r\n\r\n".to_owned(), 400),
        };
        Request {
            bytes: bytes.into_bytes(),
            closes: true,
            ..Request::plain("", Kind::Rejected(status), manner)
        }
        .whole_head()
    }

    fn of(
        line: &str,
        version: &str,
        fields: &str,
        body: &[u8],
        kind: Kind,
        manner: &Manner,
    ) -> Request {
        let authorization = if manner.password { AUTHORIZATION } else { "" };
        let head = format!("{line} {version}\r\n{fields}{authorization}\r\n");
        let mut bytes = head.into_bytes();
        let head = bytes.len();
        bytes.extend_from_slice(body);
        Request {
            bytes,
            head,
            kind,
            head_only: line.starts_with("HEAD "),
            closes: false,
            expects: false,
        }
    }

    fn whole_head(mut self) -> Request {
        self.head = self.bytes.len();
        self
    }
}
