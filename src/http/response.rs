//! What goes out: response heads, problems (RFC 9457), and the bodies that are made elsewhere.
//!
//! Everything is written into a buffer that exists already: an answer costs no allocation. The
//! head of a success is made once a second, with the date in it, and only its length is filled in.

use std::ops::Deref;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use httpdate::HttpDate;

use crate::http::array::Body;

/// The interim response to `Expect: 100-continue` (RFC 9110, section 10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The content type of every success but the metrics.
pub const JSON: &str = "application/json";
const PROBLEM_JSON: &str = "application/problem+json";
const CONTENT_LENGTH: &[u8] = b"Content-Length: ";

/// The statuses of final answers (RFC 9110, section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// 200
    Ok,
    /// 503
    ServiceUnavailable,
    /// 400
    BadRequest,
    /// 401
    Unauthorized,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 408
    RequestTimeout,
    /// 413
    ContentTooLarge,
    /// 414
    UriTooLong,
    /// 417
    ExpectationFailed,
    /// 431
    HeadersTooLarge,
    /// 501
    NotImplemented,
    /// 505
    VersionNotSupported,
}

impl Status {
    /// Every status that is sent, in the order of the discriminants.
    pub const ALL: [Status; 13] = [
        Status::Ok,
        Status::ServiceUnavailable,
        Status::BadRequest,
        Status::Unauthorized,
        Status::NotFound,
        Status::MethodNotAllowed,
        Status::RequestTimeout,
        Status::ContentTooLarge,
        Status::UriTooLong,
        Status::ExpectationFailed,
        Status::HeadersTooLarge,
        Status::NotImplemented,
        Status::VersionNotSupported,
    ];

    /// The status code.
    pub fn code(self) -> u16 {
        self.row().0
    }

    /// The reason phrase.
    pub fn reason(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (u16, &'static str) {
        match self {
            Status::Ok => (200, "OK"),
            Status::BadRequest => (400, "Bad Request"),
            Status::Unauthorized => (401, "Unauthorized"),
            Status::NotFound => (404, "Not Found"),
            Status::MethodNotAllowed => (405, "Method Not Allowed"),
            Status::RequestTimeout => (408, "Request Timeout"),
            Status::ContentTooLarge => (413, "Content Too Large"),
            Status::UriTooLong => (414, "URI Too Long"),
            Status::ExpectationFailed => (417, "Expectation Failed"),
            Status::HeadersTooLarge => (431, "Request Header Fields Too Large"),
            Status::NotImplemented => (501, "Not Implemented"),
            Status::ServiceUnavailable => (503, "Service Unavailable"),
            Status::VersionNotSupported => (505, "HTTP Version Not Supported"),
        }
    }
}

/// A final answer, but for its framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Tickets; a large body is rendered in pieces.
    Tickets(Body),
    /// 200 with this JSON.
    Json(&'static str),
    /// What is made rarely and whole, such as the metrics.
    Page(Rc<Page>),
    /// 200 without content: the methods that the server knows.
    Options(&'static str),
    /// Anything but a success.
    Problem(Problem),
}

/// A body that was made for this answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// Why a request gets no success (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status.
    pub status: Status,
    /// A header line that belongs to it.
    pub field: Option<Field>,
    /// What happened, what it means and what to do.
    pub detail: Text,
}

/// A header line that only problems have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `Retry-After`, in a second.
    RetryAfter,
    /// `Allow`, with these methods (RFC 9110, section 10.2.1).
    Allow(&'static str),
    /// `WWW-Authenticate` (RFC 7617).
    Authenticate,
}

/// Text that was known before, or is shared by many answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// Known before.
    Known(&'static str),
    /// Made at run time.
    Shared(Rc<str>),
}

impl Response {
    /// The status.
    pub fn status(&self) -> Status {
        match self {
            Response::Problem(problem) => problem.status,
            Response::Tickets(_) | Response::Json(_) | Response::Page(_) | Response::Options(_) => {
                Status::Ok
            }
        }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Known(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text::Shared(text.into())
    }
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

/// Writes answers. Holds the parts of heads that stay the same for a second.
#[derive(Clone, Debug)]
pub struct HeadCache {
    second: u64,
    date: String,
    /// The head of every JSON success, up to the digits of its length.
    success: Vec<u8>,
}

impl HeadCache {
    /// Heads with the date of `now`.
    pub fn new(now: SystemTime) -> HeadCache {
        let mut heads = HeadCache {
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
        let mut success = std::mem::take(&mut self.success);
        success.clear();
        self.open(Status::Ok, Some(JSON), &mut success);
        success.extend_from_slice(CONTENT_LENGTH);
        self.success = success;
    }

    /// Writes an answer, or only its head. Returns the body that is still to be written, if it is
    /// longer than `body_bytes_max`.
    pub fn write(
        &self,
        response: &Response,
        persistence: Persistence,
        head_only: bool,
        body_bytes_max: u64,
        out: &mut Vec<u8>,
    ) -> Option<Body> {
        match response {
            Response::Tickets(body) => {
                let length = body.len();
                out.extend_from_slice(&self.success);
                close(length, persistence, out);
                if head_only {
                    return None;
                }
                if length > body_bytes_max {
                    return Some(*body);
                }
                body.write_at(0, usize::MAX, out);
                return None;
            }
            Response::Json(json) => {
                out.extend_from_slice(&self.success);
                close(json.len() as u64, persistence, out);
                if !head_only {
                    out.extend_from_slice(json.as_bytes());
                }
            }
            Response::Page(page) => {
                self.open(Status::Ok, Some(page.content_type), out);
                out.extend_from_slice(CONTENT_LENGTH);
                close(page.body.len() as u64, persistence, out);
                if !head_only {
                    out.extend_from_slice(&page.body);
                }
            }
            Response::Options(methods) => {
                // No bytes are no JSON, so there is no type.
                self.open(Status::Ok, None, out);
                append(&["Allow: ", methods, "\r\n"], out);
                out.extend_from_slice(CONTENT_LENGTH);
                close(0, persistence, out);
            }
            Response::Problem(problem) => self.problem(problem, persistence, head_only, out),
        }
        None
    }

    fn problem(
        &self,
        problem: &Problem,
        persistence: Persistence,
        head_only: bool,
        out: &mut Vec<u8>,
    ) {
        let Problem {
            status,
            field,
            detail,
        } = problem;
        self.open(*status, Some(PROBLEM_JSON), out);
        match field {
            Some(Field::RetryAfter) => append(&["Retry-After: 1\r\n"], out),
            Some(Field::Allow(methods)) => append(&["Allow: ", methods, "\r\n"], out),
            Some(Field::Authenticate) => {
                let challenge = "Basic realm=\"tickr\", charset=\"UTF-8\"";
                append(&["WWW-Authenticate: ", challenge, "\r\n"], out);
            }
            None => {}
        }
        let mut number = itoa::Buffer::new();
        let parts = [
            "{\"type\":\"about:blank\",\"title\":\"",
            status.reason(),
            "\",\"status\":",
            number.format(status.code()),
            ",\"detail\":\"",
        ];
        let end = "\"}";
        let known: usize = parts.iter().map(|part| part.len()).sum();
        let escaped: usize = detail.bytes().map(escaped_len).sum();
        out.extend_from_slice(CONTENT_LENGTH);
        close((known + escaped + end.len()) as u64, persistence, out);
        if !head_only {
            append(&parts, out);
            append_escaped(detail, out);
            append(&[end], out);
        }
    }

    fn open(&self, status: Status, content_type: Option<&str>, out: &mut Vec<u8>) {
        let mut number = itoa::Buffer::new();
        let code = number.format(status.code());
        let reason = status.reason();
        append(
            &["HTTP/1.1 ", code, " ", reason, "\r\nDate: ", &self.date],
            out,
        );
        if let Some(content_type) = content_type {
            append(&["\r\nContent-Type: ", content_type], out);
        }
        append(&["\r\nCache-Control: no-store\r\n"], out);
    }
}

/// Ends a head behind `Content-Length: `.
fn close(body_bytes: u64, persistence: Persistence, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(body_bytes).as_bytes());
    out.extend_from_slice(match persistence {
        Persistence::Implied => b"\r\n\r\n",
        Persistence::KeepAlive => b"\r\nConnection: keep-alive\r\n\r\n",
        Persistence::Close => b"\r\nConnection: close\r\n\r\n",
    });
}

fn append(parts: &[&str], out: &mut Vec<u8>) {
    parts
        .iter()
        .for_each(|part| out.extend_from_slice(part.as_bytes()));
}

/// How long a byte is in a JSON string (RFC 8259, section 7).
fn escaped_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' => 2,
        0..=0x1f => 6,
        _ => 1,
    }
}

fn append_escaped(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1f => {
                let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::array::Format;
    use crate::ticket::Run;

    #[test]
    fn a_problem_is_json_whatever_its_detail_says() {
        let heads = HeadCache::new(SystemTime::UNIX_EPOCH);
        let detail = "a \"b\" \\ ü\r\n\u{0}\u{1f}\u{7f}{".to_owned();
        let problem = Problem {
            status: Status::BadRequest,
            field: Some(Field::RetryAfter),
            detail: detail.clone().into(),
        };
        let mut out = Vec::new();
        let response = Response::Problem(problem);
        heads.write(&response, Persistence::Close, false, 0, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
        let read: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(read["detail"], detail.as_str());
        assert_eq!(read["status"], 400);
    }

    /// All that is written, and whether a body is left to be written.
    fn written(response: &Response, persistence: Persistence, head_only: bool) -> (String, bool) {
        let heads = HeadCache::new(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
        let mut out = b"before ".to_vec();
        let rest = heads.write(response, persistence, head_only, 10, &mut out);
        let text = String::from_utf8(out).unwrap();
        let text = text.strip_prefix("before ").unwrap().to_owned();
        (text, rest.is_some())
    }

    fn problem(field: Option<Field>) -> Response {
        Response::Problem(Problem {
            status: Status::ServiceUnavailable,
            field,
            detail: Text::Known("wait"),
        })
    }

    fn tickets(count: u64) -> Response {
        let run = Run {
            first: 7,
            increment: 1,
            count,
        };
        Response::Tickets(Body::new(run, Format::Array))
    }

    const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

    #[test]
    fn each_kind_of_answer_has_its_head_and_its_body() {
        let typed = |status: &str, content_type: &str, fields: &str, length: usize| {
            format!(
                "HTTP/1.1 {status}\r\n{DATE}{content_type}Cache-Control: no-store\r\n{fields}\
                 Content-Length: {length}\r\n\r\n"
            )
        };
        let json = "Content-Type: application/json\r\n";
        let problem_json = "Content-Type: application/problem+json\r\n";
        let unavailable = "503 Service Unavailable";
        let waits =
            r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"wait"}"#;
        let page = Page {
            content_type: "text/plain",
            body: b"metrics".to_vec(),
        };
        let challenge = "WWW-Authenticate: Basic realm=\"tickr\", charset=\"UTF-8\"\r\n";
        for (response, head, body) in [
            (tickets(4), typed("200 OK", json, "", 10), "[7,8,9,10]"),
            (tickets(2), typed("200 OK", json, "", 5), "[7,8]"),
            (Response::Json("{}"), typed("200 OK", json, "", 2), "{}"),
            (
                Response::Page(Rc::new(page)),
                typed("200 OK", "Content-Type: text/plain\r\n", "", 7),
                "metrics",
            ),
            (
                Response::Options("GET, HEAD"),
                typed("200 OK", "", "Allow: GET, HEAD\r\n", 0),
                "",
            ),
            (
                problem(None),
                typed(unavailable, problem_json, "", waits.len()),
                waits,
            ),
            (
                problem(Some(Field::RetryAfter)),
                typed(unavailable, problem_json, "Retry-After: 1\r\n", waits.len()),
                waits,
            ),
            (
                problem(Some(Field::Allow("POST"))),
                typed(unavailable, problem_json, "Allow: POST\r\n", waits.len()),
                waits,
            ),
            (
                problem(Some(Field::Authenticate)),
                typed(unavailable, problem_json, challenge, waits.len()),
                waits,
            ),
        ] {
            let whole = (format!("{head}{body}"), false);
            assert_eq!(written(&response, Persistence::Implied, false), whole);
            let head = (head, false);
            assert_eq!(written(&response, Persistence::Implied, true), head);
        }
    }

    #[test]
    fn a_long_body_is_left_for_later_unless_only_its_head_is_asked_for() {
        let (text, is_left) = written(&tickets(5), Persistence::Implied, false);
        assert!(text.ends_with("\r\nContent-Length: 13\r\n\r\n") && is_left);
        assert_eq!(
            written(&tickets(5), Persistence::Implied, true),
            (text, false)
        );
    }

    #[test]
    fn an_answer_says_how_the_connection_goes_on() {
        for (persistence, end) in [
            (Persistence::Implied, "Content-Length: 2\r\n\r\n{}"),
            (
                Persistence::KeepAlive,
                "Content-Length: 2\r\nConnection: keep-alive\r\n\r\n{}",
            ),
            (
                Persistence::Close,
                "Content-Length: 2\r\nConnection: close\r\n\r\n{}",
            ),
        ] {
            let (text, _) = written(&Response::Json("{}"), persistence, false);
            assert!(text.ends_with(end), "{text}");
        }
    }

    #[test]
    fn the_date_follows_the_clock() {
        let mut heads = HeadCache::new(SystemTime::UNIX_EPOCH);
        let date = |heads: &HeadCache| {
            let mut out = Vec::new();
            heads.write(
                &Response::Json("{}"),
                Persistence::Implied,
                false,
                0,
                &mut out,
            );
            String::from_utf8(out)
                .unwrap()
                .lines()
                .nth(1)
                .unwrap()
                .to_owned()
        };
        assert_eq!(date(&heads), "Date: Thu, 01 Jan 1970 00:00:00 GMT");
        heads.tick(SystemTime::UNIX_EPOCH + Duration::from_millis(1_999));
        assert_eq!(date(&heads), "Date: Thu, 01 Jan 1970 00:00:01 GMT");
        // The clock was set back beyond that.
        heads.tick(SystemTime::UNIX_EPOCH - Duration::from_secs(9));
        assert_eq!(date(&heads), "Date: Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn a_text_that_was_made_is_read_like_one_that_was_known() {
        assert_eq!(&*Text::Known("a"), "a");
        assert_eq!(&*Text::from("a".to_owned()), "a");
    }

    #[test]
    fn an_answer_has_the_status_that_its_head_has() {
        for status in Status::ALL {
            let response = Response::Problem(Problem {
                status,
                field: None,
                detail: Text::Known(""),
            });
            assert_eq!(response.status(), status);
            let (text, _) = written(&response, Persistence::Implied, true);
            let line = format!("HTTP/1.1 {} {}\r\n", status.code(), status.reason());
            assert!(text.starts_with(&line), "{text}");
        }
        assert_eq!(tickets(1).status(), Status::Ok);
        // As RFC 9110 and RFC 6585 name them.
        let lines = Status::ALL.map(|status| format!("{} {}", status.code(), status.reason()));
        assert_eq!(
            lines,
            [
                "200 OK",
                "503 Service Unavailable",
                "400 Bad Request",
                "401 Unauthorized",
                "404 Not Found",
                "405 Method Not Allowed",
                "408 Request Timeout",
                "413 Content Too Large",
                "414 URI Too Long",
                "417 Expectation Failed",
                "431 Request Header Fields Too Large",
                "501 Not Implemented",
                "505 HTTP Version Not Supported",
            ]
        );
    }

    #[test]
    fn the_statuses_stand_in_the_order_of_their_numbers() {
        for (index, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, index);
        }
    }
}
