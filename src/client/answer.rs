//! An HTTP/1 answer, read from whatever pieces it comes in: interim answers are passed over, and a
//! body has a length or comes in chunks (RFC 9112, sections 6 and 7).

use super::error::Failure;
use crate::foreign::printable;
use crate::limits;
use crate::ticket::Run;

/// An answer, whatever its status.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// The connection may be used for another request.
    pub reusable: bool,
}

impl Answer {
    /// The body as JSON, or what the error that it describes comes to (RFC 9457).
    pub fn json(&self) -> Result<serde_json::Value, Failure> {
        let body = serde_json::from_slice(&self.body);
        if self.status == 200 {
            return body.map_err(|_| Failure::not_tickr("the body is not JSON"));
        }
        let detail = body.ok().and_then(|problem: serde_json::Value| {
            Some(printable(problem.get("detail")?.as_str()?))
        });
        Err(Failure::Answered {
            status: self.status,
            detail: detail.unwrap_or_default(),
        })
    }

    /// The run of so many tickets, at least one; nothing is believed that could not be so.
    pub fn run(&self, count: u64) -> Result<Run, Failure> {
        let body = self.json()?;
        let number = |key: &str| body.get(key).and_then(serde_json::Value::as_u64);
        let run = number("first")
            .zip(number("increment"))
            .zip(number("count"));
        let sound = run.filter(|((first, increment), counted)| {
            let last = (count - 1)
                .checked_mul(*increment)
                .and_then(|distance| first.checked_add(distance));
            *counted == count && *increment > 0 && last.is_some()
        });
        match sound {
            Some(((first, increment), count)) => Ok(Run {
                first,
                increment,
                count,
            }),
            None => Err(Failure::not_tickr("the body is not the range asked for")),
        }
    }
}

/// Reads one answer; made anew for each request.
#[derive(Debug, Default)]
pub struct Reader {
    /// What has come and is not understood yet.
    input: Vec<u8>,
    interim: usize,
    head: Option<Head>,
    /// What the chunks so far hold.
    chunks: Vec<u8>,
    last_chunk: bool,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    /// Of the head itself, in bytes.
    length: usize,
    status: u16,
    framing: Framing,
    keep_alive: bool,
}

/// How to tell where a body ends.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Length(usize),
    Chunked,
    /// It can't be told, for this reason.
    Unsound(&'static str),
}

/// What the start of the input comes to.
enum Chunk {
    Partial,
    Data { start: usize, end: usize },
    Last { length: usize },
}

impl Reader {
    /// The status, once it is known.
    pub fn status(&self) -> Option<u16> {
        self.head.map(|head| head.status)
    }

    /// Takes in what has come; `None` while the answer is incomplete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Answer>, Failure> {
        self.input.extend_from_slice(bytes);
        while self.head.is_none() {
            let Some(head) = Head::parse(&self.input)? else {
                if self.input.len() > limits::CLIENT_HEAD_BYTES_MAX {
                    return Err(Failure::not_tickr("the response head is too long"));
                }
                return Ok(None);
            };
            if head.length > limits::CLIENT_HEAD_BYTES_MAX {
                return Err(Failure::not_tickr("the response head is too long"));
            }
            self.input.drain(..head.length);
            // 101 is final: what follows it is another protocol.
            if (100..200).contains(&head.status) && head.status != 101 {
                self.interim += 1;
                if self.interim > limits::CLIENT_INTERIM_ANSWERS_MAX {
                    return Err(Failure::not_tickr("too many interim responses"));
                }
                continue;
            }
            self.head = Some(head);
        }
        let Some(head) = self.head else {
            return Ok(None);
        };
        let body = match head.framing {
            Framing::Length(length) if self.input.len() >= length => {
                let rest = self.input.split_off(length);
                std::mem::replace(&mut self.input, rest)
            }
            Framing::Length(_) => return Ok(None),
            Framing::Chunked => match self.read_chunks()? {
                true => std::mem::take(&mut self.chunks),
                false => return Ok(None),
            },
            // An error is one without its explanation as well.
            Framing::Unsound(_) if head.status != 200 => std::mem::take(&mut self.input),
            Framing::Unsound(reason) => return Err(Failure::not_tickr(reason)),
        };
        let framed = !matches!(head.framing, Framing::Unsound(_));
        Ok(Some(Answer {
            status: head.status,
            body,
            reusable: head.keep_alive && framed && self.input.is_empty(),
        }))
    }

    /// Whether all chunks and the trailer are there.
    fn read_chunks(&mut self) -> Result<bool, Failure> {
        let mut position = 0;
        let complete = loop {
            let input = &self.input[position..];
            let chunk = match self.last_chunk {
                false => chunk(input)?,
                // The trailer ends with an empty line; nothing in it is needed.
                true => match line(input) {
                    None => break false,
                    Some(0) => {
                        position += 2;
                        break true;
                    }
                    Some(length) => {
                        position += length + 2;
                        continue;
                    }
                },
            };
            match chunk {
                Chunk::Partial => break false,
                Chunk::Data { start, end } => {
                    if self.chunks.len() + (end - start) > limits::CLIENT_BODY_BYTES_MAX {
                        return Err(Failure::not_tickr("the body is too long"));
                    }
                    self.chunks.extend_from_slice(&input[start..end]);
                    position += end + 2;
                }
                Chunk::Last { length } => {
                    self.last_chunk = true;
                    position += length;
                }
            }
        };
        self.input.drain(..position);
        match self.chunks.len() + self.input.len() > limits::CLIENT_BODY_BYTES_MAX {
            true => Err(Failure::not_tickr("the body is too long")),
            false => Ok(complete),
        }
    }
}

impl Head {
    /// `None` while the head is incomplete.
    fn parse(input: &[u8]) -> Result<Option<Head>, Failure> {
        let mut headers = [httparse::EMPTY_HEADER; limits::CLIENT_HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(input) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => {
                return Err(Failure::not_tickr(format!(
                    "not an HTTP/1 response ({error})"
                )));
            }
        };
        let is_new = response.version == Some(1);
        let mut keep_alive = is_new;
        let mut lengths = Vec::new();
        let mut codings = Vec::new();
        for header in response.headers.iter() {
            let value = header.value.trim_ascii();
            if header.name.eq_ignore_ascii_case("content-length") {
                lengths.push(value);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                codings.push(value);
            } else if header.name.eq_ignore_ascii_case("connection") {
                let mut tokens = value.split(|byte| *byte == b',');
                keep_alive &=
                    !tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"));
            }
        }
        Ok(Some(Head {
            length,
            status: response.code.unwrap_or_default(),
            framing: match (&lengths[..], &codings[..]) {
                ([length], []) => Framing::of_length(length),
                ([], [coding]) if is_new && coding.eq_ignore_ascii_case(b"chunked") => {
                    Framing::Chunked
                }
                ([], []) => Framing::Unsound("it has no Content-Length"),
                ([], _) => Framing::Unsound("its Transfer-Encoding is not just chunked"),
                (_, []) => Framing::Unsound("it has more than one Content-Length"),
                (_, _) => Framing::Unsound("it has both Content-Length and Transfer-Encoding"),
            },
            keep_alive,
        }))
    }
}

impl Framing {
    fn of_length(digits: &[u8]) -> Framing {
        let number = str::from_utf8(digits).ok().and_then(|digits| {
            let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| are_digits)
        });
        match number {
            Some(length) if length <= limits::CLIENT_BODY_BYTES_MAX => Framing::Length(length),
            Some(_) => Framing::Unsound("the body is too long"),
            None => Framing::Unsound("its Content-Length is not a number that can be"),
        }
    }
}

/// The chunk at the start of the input, with the line end behind its data.
fn chunk(input: &[u8]) -> Result<Chunk, Failure> {
    let broken = || Failure::not_tickr("a chunk of the body is malformed");
    match httparse::parse_chunk_size(input) {
        Err(_) => Err(broken()),
        Ok(httparse::Status::Partial) => Ok(Chunk::Partial),
        Ok(httparse::Status::Complete((length, 0))) => Ok(Chunk::Last { length }),
        Ok(httparse::Status::Complete((start, size))) => {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size > limits::CLIENT_BODY_BYTES_MAX {
                return Err(Failure::not_tickr("the body is too long"));
            }
            let end = start + size;
            match input.get(end..end + 2) {
                None => Ok(Chunk::Partial),
                Some(b"\r\n") => Ok(Chunk::Data { start, end }),
                Some(_) => Err(broken()),
            }
        }
    }
}

/// The length of the first line, without its end.
fn line(input: &[u8]) -> Option<usize> {
    input.windows(2).position(|pair| pair == b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole answer at once must come to the same as every split in two, and each byte alone.
    fn read(text: &str) -> Result<Option<Answer>, Failure> {
        let whole = Reader::default().push(text.as_bytes());
        let complete = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut reader = Reader::default();
            for piece in pieces {
                match reader.push(piece) {
                    Ok(None) => {}
                    other => return other,
                }
            }
            Ok(None)
        };
        let bytes = text.as_bytes();
        assert_eq!(complete(&mut bytes.chunks(1)), whole, "{text:?} in bytes");
        for at in 0..bytes.len() {
            let (start, rest) = bytes.split_at(at);
            let halves = complete(&mut [start, rest].into_iter());
            assert_eq!(halves, whole, "{text:?} split at {at}");
        }
        whole
    }

    fn body(text: &str) -> (u16, String, bool) {
        let answer = read(text).expect("sound").expect("complete");
        let body = String::from_utf8(answer.body).expect("text");
        (answer.status, body, answer.reusable)
    }

    #[test]
    fn bodies_have_a_length_or_come_in_chunks() {
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong";
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n\
            1\r\np\r\n3;note=\"x\"\r\nong\r\n0\r\n";
        for (text, reusable) in [
            (length.to_owned(), true),
            (format!("{chunked}\r\n"), true),
            (format!("{chunked}Digest: abc\r\nX: y\r\n\r\n"), true),
            (length.replace("1.1", "1.0"), false),
            (
                length.replace("\r\n\r\n", "\r\nConnection: x, close\r\n\r\n"),
                false,
            ),
        ] {
            assert_eq!(body(&text), (200, "pong".to_owned(), reusable), "{text:?}");
        }
        for end in 0..chunked.len() {
            assert_eq!(read(&chunked[..end]), Ok(None), "cut at {end}");
        }
    }

    #[test]
    fn interim_answers_are_passed_over_within_a_bound() {
        let good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong";
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        assert_eq!(
            body(&format!("{interim}{good}")),
            (200, "pong".to_owned(), true)
        );
        assert!(read(&(interim.repeat(limits::CLIENT_INTERIM_ANSWERS_MAX) + good)).is_err());
        assert_eq!(body("HTTP/1.1 101 Switching Protocols\r\n\r\n").0, 101);
    }

    #[test]
    fn an_answer_whose_end_cannot_be_told_is_refused_but_an_error_keeps_its_status() {
        for head in [
            "",
            "Content-Length: 4\r\nContent-Length: 4\r\n",
            "Content-Length: 4, 4\r\n",
            "Content-Length: +4\r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "Content-Length: 999999999\r\n",
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
        ] {
            let of = |status: &str| format!("HTTP/1.1 {status}\r\n{head}\r\n");
            assert!(read(&of("200 OK")).is_err(), "{head:?}");
            assert_eq!(
                body(&of("302 Found")),
                (302, String::new(), false),
                "{head:?}"
            );
        }
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for chunks in [
            "x\r\n",
            "1\r\nabc\r\n",
            "fffff\r\n",
            "fffffffffffffffff\r\n",
        ] {
            assert!(read(&format!("{chunked}{chunks}")).is_err(), "{chunks:?}");
        }
        let endless = format!(
            "{chunked}0\r\n{}",
            "x".repeat(limits::CLIENT_BODY_BYTES_MAX + 1)
        );
        assert!(Reader::default().push(endless.as_bytes()).is_err());
        let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
        let mut reader = Reader::default();
        assert_eq!(reader.push(chunked.as_bytes()), Ok(None));
        let most = limits::CLIENT_BODY_BYTES_MAX / 1024;
        let refused = (0..=most).find(|_| reader.push(chunk.as_bytes()).is_err());
        assert_eq!(refused, Some(most), "the sum of the chunks is bounded");
    }

    #[test]
    fn a_head_has_an_end() {
        for text in ["SSH-2.0-OpenSSH_9.2\r\n\r\n", "\u{16}\u{3}\u{1}", "{}"] {
            assert!(read(text).is_err(), "{text:?}");
        }
        let endless = format!(
            "HTTP/1.1 200 OK\r\nX: {}",
            "x".repeat(limits::CLIENT_HEAD_BYTES_MAX)
        );
        assert!(Reader::default().push(endless.as_bytes()).is_err());
    }
}
