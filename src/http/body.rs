//! Reads request bodies, only to drop them: no route needs one, but their bytes must never be
//! taken for a request.

use crate::http::request::{BodyFraming, Reject};
use crate::limits;

/// The state of one body (RFC 9112, sections 6 and 7.1).
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    /// Bytes of content seen so far.
    content: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes are left of a body of known length.
    Length(u64),
    /// In the size of a chunk, which has this value and so many bytes so far.
    Size {
        size: u64,
        line_bytes: usize,
    },
    /// In white space behind the size; only an extension may follow (RFC 9112, section 7.1.1).
    Space {
        size: u64,
        line_bytes: usize,
    },
    /// In the extensions of a chunk.
    Extension {
        size: u64,
        line_bytes: usize,
    },
    /// Behind the CR that ends the line of a chunk.
    SizeLineFeed {
        size: u64,
    },
    /// So many bytes are left of a chunk.
    Data(u64),
    /// Behind the data of a chunk.
    DataReturn,
    DataLineFeed,
    /// In the trailer section.
    Trailer {
        bytes: usize,
        line: Line,
    },
    Done,
}

/// Where in a line of the trailer section.
#[derive(Clone, Copy, Debug)]
enum Line {
    Start,
    Name,
    Value,
    /// Behind the CR of a field line.
    Return,
    /// Behind the CR of the empty line that ends everything.
    LastReturn,
}

/// How far a [`Decoder`] came with some input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of input that belong to the body.
    pub consumed: usize,
    /// Whether the body has ended.
    pub done: bool,
}

impl Decoder {
    /// A decoder for a body with this framing.
    pub fn new(framing: BodyFraming) -> Decoder {
        let state = match framing {
            BodyFraming::None => State::Done,
            BodyFraming::Length(length) => State::Length(length),
            BodyFraming::Chunked => State::Size {
                size: 0,
                line_bytes: 0,
            },
        };
        Decoder { state, content: 0 }
    }

    /// Takes as much of the input as belongs to the body.
    pub fn consume(&mut self, input: &[u8]) -> Result<Progress, Reject> {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            match &mut self.state {
                State::Done => {
                    return Ok(Progress {
                        consumed,
                        done: true,
                    });
                }
                State::Length(left) => {
                    consumed += skip(left, rest);
                    if *left == 0 {
                        self.state = State::Done;
                        continue;
                    }
                }
                State::Data(left) => {
                    consumed += skip(left, rest);
                    if *left == 0 {
                        self.state = State::DataReturn;
                        continue;
                    }
                }
                _ => {
                    if let Some(byte) = rest.first() {
                        self.step(*byte)?;
                        consumed += 1;
                        continue;
                    }
                }
            }
            return Ok(Progress {
                consumed,
                done: false,
            });
        }
    }

    /// Takes one byte of the framing around chunks.
    fn step(&mut self, byte: u8) -> Result<(), Reject> {
        self.state = match self.state {
            State::Size { line_bytes: 0, .. } if !byte.is_ascii_hexdigit() => {
                return Err(Reject::Chunk);
            }
            State::Size { size, .. } if byte == b'\r' => State::SizeLineFeed { size },
            State::Size { size, line_bytes } => {
                let line_bytes = longer(line_bytes)?;
                match (char::from(byte).to_digit(16), byte) {
                    (Some(digit), _) => {
                        let size = size * 16 + u64::from(digit);
                        if self.content + size > limits::BODY_BYTES_MAX {
                            return Err(Reject::BodyTooLarge);
                        }
                        State::Size { size, line_bytes }
                    }
                    (None, b' ' | b'\t') => State::Space { size, line_bytes },
                    (None, b';') => State::Extension { size, line_bytes },
                    (None, _) => return Err(Reject::Chunk),
                }
            }
            State::Space { size, line_bytes } => {
                let line_bytes = longer(line_bytes)?;
                match byte {
                    b' ' | b'\t' => State::Space { size, line_bytes },
                    b';' => State::Extension { size, line_bytes },
                    _ => return Err(Reject::Chunk),
                }
            }
            State::Extension { size, line_bytes } => match byte {
                b'\r' => State::SizeLineFeed { size },
                _ if is_field_byte(byte) => State::Extension {
                    size,
                    line_bytes: longer(line_bytes)?,
                },
                _ => return Err(Reject::Chunk),
            },
            State::SizeLineFeed { size } if byte == b'\n' => {
                self.content += size;
                match size {
                    0 => State::Trailer {
                        bytes: 0,
                        line: Line::Start,
                    },
                    _ => State::Data(size),
                }
            }
            State::DataReturn if byte == b'\r' => State::DataLineFeed,
            State::DataLineFeed if byte == b'\n' => State::Size {
                size: 0,
                line_bytes: 0,
            },
            State::Trailer { bytes, line } => match line.step(byte)? {
                None => State::Done,
                Some(line @ Line::LastReturn) => State::Trailer { bytes, line },
                Some(_) if bytes == limits::TRAILER_BYTES_MAX => return Err(Reject::Trailers),
                Some(line) => State::Trailer {
                    bytes: bytes + 1,
                    line,
                },
            },
            _ => return Err(Reject::Chunk),
        };
        Ok(())
    }
}

impl Line {
    /// The place behind `byte`; `None` at the end of the section.
    fn step(self, byte: u8) -> Result<Option<Line>, Reject> {
        Ok(Some(match (self, byte) {
            (Line::Start, b'\r') => Line::LastReturn,
            (Line::LastReturn, b'\n') => return Ok(None),
            (Line::Start | Line::Name, byte) if is_token_byte(byte) => Line::Name,
            (Line::Name, b':') => Line::Value,
            (Line::Value, b'\r') => Line::Return,
            (Line::Value, byte) if is_field_byte(byte) => Line::Value,
            (Line::Return, b'\n') => Line::Start,
            _ => return Err(Reject::Trailers),
        }))
    }
}

/// Drops up to `left` bytes; returns how many.
fn skip(left: &mut u64, input: &[u8]) -> usize {
    let skipped = input
        .len()
        .min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= skipped as u64;
    skipped
}

fn longer(line_bytes: usize) -> Result<usize, Reject> {
    match line_bytes {
        limits::CHUNK_LINE_BYTES_MAX => Err(Reject::ChunkLineTooLong),
        _ => Ok(line_bytes + 1),
    }
}

/// A byte of a token (RFC 9110, section 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A byte of a field value (RFC 9110, section 5.5).
fn is_field_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests;
