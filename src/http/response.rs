//! What goes out: response heads, problem bodies (RFC 9457), and the pages that are made elsewhere.
//!
//! Everything is written into a buffer that exists already: an answer costs no allocation. The
//! head of a success is made once a second, with the date in it, and only its length is filled in.

use std::time::{Duration, SystemTime};

use httpdate::HttpDate;

use crate::http::array::Body;
use crate::http::request::Reject;
use crate::http::route::{Allow, Refusal};

/// The interim response to `Expect: 100-continue` (RFC 9110, section 10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The content type of every success.
pub const JSON: &str = "application/json";
const PROBLEM_JSON: &str = "application/problem+json";
const CONTENT_LENGTH: &[u8] = b"Content-Length: ";
const RETRY_AFTER: &[u8] = b"Retry-After: 1\r\n";
const AUTHENTICATE: &[u8] = b"WWW-Authenticate: Basic realm=\"tickr\", charset=\"UTF-8\"\r\n";

/// Every status that is sent, the most frequent first.
pub const STATUSES: [u16; 13] = [
    200, 503, 400, 401, 404, 405, 408, 413, 414, 417, 431, 501, 505,
];

/// Why a request gets no success. Each has one status and one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The framing can't be trusted.
    Reject(Reject),
    /// Well framed, but not to be served.
    Refusal(Refusal),
    /// Well made, but not to be served now.
    Unavailable(Unavailable),
    /// 408: the head of the request took too long.
    HeadTimeout,
    /// 408: the body of the request took too long.
    BodyTimeout,
    /// 400: the input ended inside a request.
    Truncated,
}

/// Why a ticket can't be given now: always 503 with `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// No ticket came within the pool time-out.
    TimedOut,
    /// The database has not answered for longer than the pool time-out.
    DatabaseAway,
    /// The database answers with an error that an operator must mend.
    DatabaseRefuses,
    /// The database went backwards.
    Fenced,
    /// Fewer tickets are left below 2^64 than were asked for.
    NumbersExhausted,
    /// Too many requests wait already.
    Overloaded,
    /// Too many connections are open.
    TooManyConnections,
}

/// A body that is made rarely and whole, such as `/status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The status code.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// How the connection goes on after an answer, and what its head says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1 goes on without a word.
    Implied,
    /// HTTP/1.0 goes on only when both sides say so.
    KeepAlive,
    /// This is the last answer.
    Close,
}

/// Writes response heads. Holds the parts that stay the same for a second.
#[derive(Debug)]
pub struct Heads {
    second: u64,
    date: String,
    /// The head of every JSON success, up to the digits of its length.
    success: Vec<u8>,
}

impl Problem {
    /// The status code.
    pub fn status(self) -> u16 {
        match self {
            Problem::Reject(reject) => reject.status(),
            Problem::Refusal(refusal) => match refusal {
                Refusal::BadEscape
                | Refusal::CountNotANumber
                | Refusal::CountZero
                | Refusal::CountTooLarge
                | Refusal::UnknownFormat
                | Refusal::RepeatedFormat => 400,
                Refusal::Unauthorized => 401,
                Refusal::NotFound => 404,
                Refusal::MethodNotAllowed(_) => 405,
            },
            Problem::Unavailable(_) => 503,
            Problem::HeadTimeout | Problem::BodyTimeout => 408,
            Problem::Truncated => 400,
        }
    }

    /// What happened, what it means and what to do; plain text that needs no escape in JSON.
    pub fn detail(self) -> &'static str {
        match self {
            Problem::Reject(reject) => reject.detail(),
            Problem::Refusal(refusal) => match refusal {
                Refusal::BadEscape => {
                    "The target has a % that is not followed by two hexadecimal digits. No \
                     ticket was spent."
                }
                Refusal::CountNotANumber => {
                    "The N of /tickets/create/N must be a plain decimal number. No ticket was \
                     spent."
                }
                Refusal::CountZero => {
                    "The N of /tickets/create/N must be at least 1. No ticket was spent."
                }
                Refusal::CountTooLarge => {
                    "The N of /tickets/create/N is over the largest batch of this server \
                     (TICKR_MAX_BATCH). No ticket was spent; ask for fewer at a time."
                }
                Refusal::UnknownFormat => {
                    "The format must be array, string, range or range-string. No ticket was spent."
                }
                Refusal::RepeatedFormat => {
                    "The format is given more than once. No ticket was spent."
                }
                Refusal::Unauthorized => {
                    "This server asks for HTTP Basic authentication: any user name, and the \
                     password that it was started with."
                }
                Refusal::NotFound => {
                    "There is no such path. Tickets are at /tickets/create and \
                     /tickets/create/N; a trailing or doubled slash is another path."
                }
                Refusal::MethodNotAllowed(_) => {
                    "This path does not take that method; the Allow field lists those it takes. \
                     No ticket was spent."
                }
            },
            Problem::Unavailable(unavailable) => match unavailable {
                Unavailable::TimedOut => {
                    "The database did not answer within the pool time-out \
                     (TICKR_DATABASE_POOL_TIMEOUT). No ticket was spent; try again."
                }
                Unavailable::DatabaseAway => {
                    "The database is away. No ticket was spent; the server tries to reach it \
                     several times a second, so try again."
                }
                Unavailable::DatabaseRefuses => {
                    "The database answers with an error, which /readyz and the server's log \
                     tell; most often an operator must act. No ticket was spent."
                }
                Unavailable::Fenced => {
                    "The database went backwards, so its tickets would be duplicates. No ticket \
                     was spent; /status says what an operator must do."
                }
                Unavailable::NumbersExhausted => {
                    "The numbers have run out: fewer tickets than asked for are left up to \
                     2^64 - 1. No ticket was spent; ask for fewer, or another node."
                }
                Unavailable::Overloaded => {
                    "Too many requests wait for tickets already. No ticket was spent; try again."
                }
                Unavailable::TooManyConnections => {
                    "Too many connections are open (TICKR_MAX_CONNECTIONS). Try again later, or \
                     reuse connections."
                }
            },
            Problem::HeadTimeout => "The head of the request did not arrive in time.",
            Problem::BodyTimeout => {
                "The body of the request did not arrive in time. No ticket was spent."
            }
            Problem::Truncated => "The connection ended inside a request. No ticket was spent.",
        }
    }
}

impl Heads {
    /// Heads with the date of `now`.
    pub fn new(now: SystemTime) -> Heads {
        let mut heads = Heads {
            second: u64::MAX,
            date: String::new(),
            success: Vec::new(),
        };
        heads.tick(now);
        heads
    }

    /// Brings the date up to `now`; cheap when the second is still the same.
    pub fn tick(&mut self, now: SystemTime) {
        use std::fmt::Write;
        let second = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        if second == self.second {
            return;
        }
        self.second = second;
        self.date.clear();
        // Not `now` itself: a clock before 1970 has no date. Writing to a String cannot fail.
        let known = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let _ = write!(self.date, "{}", HttpDate::from(known));
        self.success.clear();
        open(&self.date, 200, JSON, &mut self.success);
        self.success.extend_from_slice(CONTENT_LENGTH);
    }

    /// Writes the head of an answer with these tickets.
    pub fn tickets(&self, body: &Body, persistence: Persistence, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.success);
        write_number(body.len(), out);
        out.extend_from_slice(end(persistence));
    }

    /// Writes a whole answer, or only its head.
    pub fn page(&self, page: &Page, persistence: Persistence, head_only: bool, out: &mut Vec<u8>) {
        open(&self.date, page.status, page.content_type, out);
        if page.status == 503 {
            out.extend_from_slice(RETRY_AFTER);
        }
        close(page.body.len(), persistence, out);
        if !head_only {
            out.extend_from_slice(&page.body);
        }
    }

    /// Writes a whole problem (RFC 9457), or only its head.
    pub fn problem(
        &self,
        problem: Problem,
        persistence: Persistence,
        head_only: bool,
        out: &mut Vec<u8>,
    ) {
        let status = problem.status();
        open(&self.date, status, PROBLEM_JSON, out);
        match problem {
            Problem::Unavailable(_) => out.extend_from_slice(RETRY_AFTER),
            Problem::Refusal(Refusal::MethodNotAllowed(allow)) => write_allow(allow, out),
            Problem::Refusal(Refusal::Unauthorized) => out.extend_from_slice(AUTHENTICATE),
            _ => {}
        }
        let mut number = itoa::Buffer::new();
        let parts = [
            "{\"type\":\"about:blank\",\"title\":\"",
            reason(status),
            "\",\"status\":",
            number.format(status),
            ",\"detail\":\"",
            problem.detail(),
            "\"}",
        ]
        .map(str::as_bytes);
        close(parts.iter().map(|part| part.len()).sum(), persistence, out);
        if !head_only {
            parts.iter().for_each(|part| out.extend_from_slice(part));
        }
    }

    /// Writes the answer to `OPTIONS *`.
    pub fn server_options(&self, persistence: Persistence, out: &mut Vec<u8>) {
        // No bytes are no JSON, so there is no type.
        for part in [
            "HTTP/1.1 200 OK\r\nDate: ",
            &self.date,
            "\r\nCache-Control: no-store\r\nAllow: GET, HEAD, POST, OPTIONS\r\n",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
        close(0, persistence, out);
    }
}

impl Page {
    /// A problem whose detail is made at run time.
    pub fn problem(status: u16, detail: &str) -> Page {
        let title = reason(status);
        let body = serde_json::json!({
            "type": "about:blank", "title": title, "status": status, "detail": detail,
        });
        Page {
            status,
            content_type: PROBLEM_JSON,
            body: body.to_string().into_bytes(),
        }
    }
}

fn open(date: &str, status: u16, content_type: &str, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let parts = [
        "HTTP/1.1 ",
        buffer.format(status),
        " ",
        reason(status),
        "\r\nDate: ",
        date,
        "\r\nContent-Type: ",
        content_type,
        "\r\nCache-Control: no-store\r\n",
    ];
    parts
        .iter()
        .for_each(|part| out.extend_from_slice(part.as_bytes()));
}

fn close(body_bytes: usize, persistence: Persistence, out: &mut Vec<u8>) {
    out.extend_from_slice(CONTENT_LENGTH);
    write_number(body_bytes as u64, out);
    out.extend_from_slice(end(persistence));
}

fn end(persistence: Persistence) -> &'static [u8] {
    match persistence {
        Persistence::Implied => b"\r\n\r\n",
        Persistence::KeepAlive => b"\r\nConnection: keep-alive\r\n\r\n",
        Persistence::Close => b"\r\nConnection: close\r\n\r\n",
    }
}

fn write_allow(allow: Allow, out: &mut Vec<u8>) {
    for part in ["Allow: ", allow.methods(), "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The reason phrase of a status that we send (RFC 9110, section 15).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
