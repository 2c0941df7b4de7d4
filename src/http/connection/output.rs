//! From answers to bytes: as many as go well in one write, and what the socket did not take.

use super::{Connection, Content, Stage};
use crate::http::array::Body;
use crate::http::response::{CONTINUE, HeadCache, Persistence, Status};
use crate::limits;
use crate::moment::Moment;

/// The bytes of one write. One such buffer serves every connection, one after the other.
#[derive(Clone, Debug)]
pub struct Output<C> {
    bytes: Vec<u8>,
    /// So many of them, at the end, come from a large array.
    streamed: usize,
    /// Nothing was waiting for the socket before.
    fresh: bool,
    /// The connection was reading before.
    was_reading: bool,
    answered: Vec<Answered<C>>,
}

/// An answer that has been written for its client, for the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered<C> {
    /// What the caller made of the request's head, if that was whole.
    pub call: Option<C>,
    /// The status of the answer.
    pub status: Status,
    /// When the head of the request had been read; without a whole head, some time before.
    pub began: Moment,
}

/// A large array on its way. It is rendered again from its offset after a short write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streaming {
    body: Body,
    offset: u64,
}

impl<C> Connection<C> {
    /// Fills the buffer with the next bytes to write, as many as go well in one write; with none
    /// when every answer that is due has been written. `draining` says `Connection: close` with
    /// the last answer. [`Connection::took`] must follow.
    pub fn output(&mut self, heads: &HeadCache, draining: bool, out: &mut Output<C>) {
        out.bytes.clear();
        out.streamed = 0;
        out.fresh = self.output.is_empty() && self.streaming.is_none();
        out.was_reading = self.is_reading();
        out.bytes.append(&mut self.output);
        loop {
            if let Some(Streaming { body, offset }) = &mut self.streaming {
                if *offset < body.len() {
                    out.streamed = body.write_at(*offset, limits::PIECE_BYTES, &mut out.bytes);
                    *offset += out.streamed as u64;
                    return;
                }
                self.streaming = None;
            }
            if out.bytes.len() >= limits::OUTPUT_BYTES_MAX || !self.is_answer_due() {
                return;
            }
            let Some(answer) = self.answers.pop_front() else {
                return;
            };
            self.first += 1;
            let response = match answer.content {
                Content::Final(response) => response,
                Content::Continue | Content::Awaited => {
                    out.bytes.extend_from_slice(CONTINUE);
                    continue;
                }
            };
            let persistence = match draining && self.expects_nothing() {
                true => Persistence::Close,
                false => answer.persistence,
            };
            if persistence == Persistence::Close {
                self.end_after_answers();
            }
            let rest = heads.write(
                &response,
                persistence,
                answer.head_only,
                limits::SMALL_BODY_BYTES_MAX,
                &mut out.bytes,
            );
            self.streaming = rest.map(|body| Streaming { body, offset: 0 });
            out.answered.push(Answered {
                call: answer.call,
                status: response.status(),
                began: answer.began,
            });
        }
    }

    /// The socket took the first `taken` bytes of the buffer; the rest is kept, or rendered again.
    pub fn took(&mut self, taken: usize, out: &Output<C>, now: Moment) {
        let left = &out.bytes[taken..];
        let again = left.len().min(out.streamed);
        if let Some(streaming) = &mut self.streaming {
            streaming.offset -= again as u64;
            // Nothing is left of it.
            if streaming.offset == streaming.body.len() {
                self.streaming = None;
            }
        }
        self.output.extend_from_slice(&left[..left.len() - again]);
        if taken == 0 && !out.fresh {
            return;
        }
        self.output_since = now;
        if self.is_reading() && !out.was_reading {
            self.input_since = now;
        }
        if self.answers.is_empty() && self.output.is_empty() {
            match self.stage {
                Stage::Head if !self.has_begun() => self.input_since = now,
                Stage::Head | Stage::Routing(_) | Stage::Whole(_) => {}
                Stage::Body(..) | Stage::Last | Stage::HalfClosed => self.input_since = now,
                Stage::Lingering | Stage::Closed => {}
            }
        }
    }
}

impl<C> Output<C> {
    /// An empty buffer with room for the longest write.
    pub fn new() -> Output<C> {
        Output {
            bytes: Vec::with_capacity(limits::PIECE_BYTES + 2 * limits::OUTPUT_BYTES_MAX),
            streamed: 0,
            fresh: true,
            was_reading: true,
            answered: Vec::new(),
        }
    }

    /// What to write.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether a piece of a large array is among the bytes.
    pub fn is_streaming(&self) -> bool {
        self.streamed > 0
    }

    /// The final answers that were written into this buffer, oldest first, each of them once.
    pub fn answered(&mut self) -> std::vec::Drain<'_, Answered<C>> {
        self.answered.drain(..)
    }

    /// How many final answers wait to be taken.
    pub fn answered_len(&self) -> usize {
        self.answered.len()
    }
}

impl<C> Default for Output<C> {
    fn default() -> Output<C> {
        Output::new()
    }
}
