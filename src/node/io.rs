//! The one seam between the node and the world: sockets by name, and what can be done to them. The
//! server puts the kernel behind it, a test a world of its own.

use std::io;

use crate::counter::Job;

/// A connection carries a generation above this many bits of slot index, so that no id recurs.
const SLOT_BITS: u32 = 24;

/// Names a connection; never used again within a process, so that what comes late finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// The first connection of a slot.
    pub(super) fn first(slot: usize) -> ConnectionId {
        ConnectionId(1 << SLOT_BITS | slot as u64)
    }

    /// The next connection of the same slot.
    pub(super) fn next(self) -> ConnectionId {
        ConnectionId(self.0 + (1 << SLOT_BITS))
    }

    /// The connection of this number.
    pub fn from_number(number: u64) -> ConnectionId {
        ConnectionId(number)
    }

    /// Its number: never below 2^24.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Its place in a table: small, and used again when the connection is closed.
    pub fn slot(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }
}

/// What the node does to the world. Nothing here waits; [`io::ErrorKind::WouldBlock`] says that
/// there is nothing to do, and that a [`Ready`] follows when there is.
pub trait Io {
    /// Takes in the next client of a listener, which is called `id` from here on.
    fn accept(&mut self, listener: usize, id: ConnectionId) -> io::Result<()>;

    /// Reads what the client has sent; 0 is its end.
    fn read(&mut self, id: ConnectionId, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes as much as the socket takes.
    fn write(&mut self, id: ConnectionId, bytes: &[u8]) -> io::Result<usize>;

    /// Asks for a [`Ready`] whenever the socket becomes readable, and writable if requested.
    fn watch(&mut self, id: ConnectionId, interest: Interest) -> io::Result<()>;

    /// Says to the client that nothing more will be written.
    fn finish(&mut self, id: ConnectionId) -> io::Result<()>;

    /// Closes the connection.
    fn close(&mut self, id: ConnectionId);

    /// Closes the listeners: from here on, clients are refused.
    fn stop_listening(&mut self);

    /// Gives a job to its database thread.
    fn submit(&mut self, job: Job);
}

/// The events to wait for on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// That it has become readable.
    Read,
    /// That it has become readable or writable.
    ReadWrite,
}

/// Something that the world says: once for each change, like an edge-triggered poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Clients may wait at this listener.
    Listener(usize),
    /// This has changed at a socket.
    Connection(ConnectionId, Change),
}

/// What has changed at a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// There may be something to read.
    pub readable: bool,
    /// It may take something.
    pub writable: bool,
    /// The client has sent its last byte, which may be still to be read.
    pub read_closed: bool,
    /// Nothing can be written any more.
    pub write_closed: bool,
    /// The connection is broken.
    pub error: bool,
}
