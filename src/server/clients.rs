//! The clients of the event loop: a socket, its connection and what the kernel has said of it, each
//! under an id that never recurs.

use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::Instant;

use super::Origin;
use crate::http::connection::Connection;
use crate::http::response::Heads;
use crate::limits;
use crate::metrics::HttpMetrics;
use crate::socket::Stream;

/// Client tokens carry a generation above this many bits of slot index, so that none ever recurs.
const SLOT_BITS: u32 = 24;

/// One client: its socket, and what there is to do about it.
pub(super) struct Client {
    pub(super) stream: Stream,
    _origin: Rc<Origin>,
    pub(super) connection: Connection,
    /// The socket may have something to read.
    pub(super) readable: bool,
    /// The socket may take something.
    pub(super) writable: bool,
    /// The kernel has been asked to say when the socket takes something again.
    pub(super) awaits_writable: bool,
    /// The client has sent its last byte, or soon will have.
    pub(super) closing: bool,
    /// The last byte has been read.
    pub(super) at_end: bool,
    /// The last answer has been written; input is dropped until the client closes.
    pub(super) lingering: bool,
    /// It is in `ready` or `again`.
    pub(super) queued: bool,
}

impl Client {
    /// One that was accepted just now, with a socket that has not been tried yet.
    pub(super) fn new(stream: Stream, origin: Rc<Origin>, connection: Connection) -> Client {
        Client {
            stream,
            _origin: origin,
            connection,
            readable: true,
            writable: true,
            awaits_writable: false,
            closing: false,
            at_end: false,
            lingering: false,
            queued: false,
        }
    }

    /// Whether the client has closed and nothing is left to write.
    pub(super) fn has_left(&self) -> bool {
        self.at_end && self.connection.is_finished()
    }

    /// Writes until the socket is full, everything is written, or one piece of a large array has
    /// gone; returns whether the client is to be written to again in the next turn.
    pub(super) fn write_out(
        &mut self,
        heads: &Heads,
        leaving: bool,
        metrics: &mut HttpMetrics,
        buffer: &mut Vec<u8>,
        now: Instant,
    ) -> io::Result<bool> {
        while self.writable {
            let unsent = self.connection.unsent();
            if !unsent.is_empty() {
                let (length, taken) = (unsent.len(), write_some(&mut self.stream, unsent)?);
                self.connection.resent(taken, now);
                self.writable = taken == length;
                continue;
            }
            buffer.clear();
            let gathered = self.connection.gather(heads, leaving, buffer, |answered| {
                metrics.answered(answered, now);
            });
            if buffer.is_empty() {
                break;
            }
            let taken = write_some(&mut self.stream, buffer)?;
            self.connection.sent(gathered, buffer, taken, now);
            self.writable = taken == buffer.len();
            if gathered.is_streaming() {
                return Ok(self.writable);
            }
        }
        Ok(false)
    }

    /// Drops what the client still sends; returns whether it has closed.
    pub(super) fn drop_input(&mut self, buffer: &mut [u8]) -> bool {
        for _ in 0..limits::READS_PER_TURN_MAX {
            match self.stream.read(buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return false;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        false
    }
}

/// The clients, in slots that are used again. An id names one client for ever: a late answer
/// finds nobody.
#[derive(Default)]
pub(super) struct Clients {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

struct Slot {
    id: usize,
    client: Option<Client>,
}

impl Clients {
    pub(super) fn insert(&mut self, client: Client) -> usize {
        match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index];
                slot.id += 1 << SLOT_BITS;
                slot.client = Some(client);
                slot.id
            }
            None => {
                // The first generation is 1, which keeps ids apart from the tokens of listeners.
                let id = 1 << SLOT_BITS | self.slots.len();
                self.slots.push(Slot {
                    id,
                    client: Some(client),
                });
                id
            }
        }
    }

    pub(super) fn remove(&mut self, id: usize) {
        let index = slot_index(id);
        if self.contains(id) {
            self.slots[index].client = None;
            self.free.push(index);
        }
    }

    pub(super) fn contains(&self, id: usize) -> bool {
        let slot = self.slots.get(slot_index(id));
        slot.is_some_and(|slot| slot.id == id && slot.client.is_some())
    }

    pub(super) fn get_mut(&mut self, id: usize) -> Option<&mut Client> {
        let slot = self.slots.get_mut(slot_index(id))?;
        slot.client.as_mut().filter(|_| slot.id == id)
    }

    /// How many slots there are, free ones included: the bound of [`Clients::at`].
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn at(&mut self, index: usize) -> Option<(usize, &mut Client)> {
        let slot = self.slots.get_mut(index)?;
        slot.client.as_mut().map(|client| (slot.id, client))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Client)> {
        self.slots
            .iter()
            .filter_map(|slot| Some((slot.id, slot.client.as_ref()?)))
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn slot_index(id: usize) -> usize {
    id & ((1 << SLOT_BITS) - 1)
}

/// Puts a client on a list of those with something to do, once.
pub(super) fn queue(client: &mut Client, id: usize, list: &mut Vec<usize>) {
    if !client.queued {
        client.queued = true;
        list.push(id);
    }
}

/// Writes once; a full socket takes 0 bytes.
fn write_some(stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
