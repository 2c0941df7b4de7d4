//! The clients of the node: a connection and what is known of its socket, each under an id that
//! never recurs.

use super::Call;
use super::io::{Change, ConnectionId, Interest};
use crate::http::connection::Connection;
use crate::moment::Moment;

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) connection: Connection<Call>,
    /// Where it came from.
    pub(super) listener: usize,
    /// It came when the table was full: it may ask whether the process lives, and no more.
    pub(super) spare: bool,
    /// The socket may have something to read.
    pub(super) readable: bool,
    /// The client has sent its last byte, which a read will show.
    pub(super) closing: bool,
    /// The socket may take something.
    pub(super) writable: bool,
    /// The events to wait for on the socket.
    pub(super) watched: Interest,
    /// It is on a list of those with something to do.
    pub(super) queued: bool,
}

impl Client {
    /// One that was accepted just now, with a socket that has not been tried yet.
    pub(super) fn new(listener: usize, now: Moment) -> Client {
        Client {
            connection: Connection::new(now),
            listener,
            spare: false,
            readable: true,
            closing: false,
            writable: true,
            watched: Interest::Read,
            queued: false,
        }
    }

    /// Takes in what the world says of the socket; returns whether the client is gone.
    pub(super) fn on_change(&mut self, change: Change) -> bool {
        self.readable |= change.readable || change.read_closed;
        self.closing |= change.read_closed;
        self.writable |= change.writable;
        // Of a lingering client both sides are closed: what it sent is still drained, since
        // closing over unread bytes would reset the connection.
        let is_closed = change.read_closed && change.write_closed;
        change.error || (is_closed && !self.connection.is_lingering())
    }

    /// Whether something can be read and may be.
    pub(super) fn may_read(&self) -> bool {
        self.readable && self.connection.is_reading()
    }
}

/// Puts a client on a list of those with something to do, unless it is on one.
pub(super) fn queue(client: &mut Client, id: ConnectionId, list: &mut Vec<ConnectionId>) {
    if !client.queued {
        client.queued = true;
        list.push(id);
    }
}

/// The clients, in slots that are used again.
#[derive(Debug, Default)]
pub(super) struct Clients {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Slot {
    id: ConnectionId,
    client: Option<Client>,
}

impl Clients {
    /// The id of the next client.
    pub(super) fn next_id(&self) -> ConnectionId {
        match self.free.last() {
            Some(slot) => self.slots[*slot].id.next(),
            None => ConnectionId::first(self.slots.len()),
        }
    }

    /// Lets a client in under [`Clients::next_id`].
    pub(super) fn insert(&mut self, client: Client) -> ConnectionId {
        let id = self.next_id();
        let client = Some(client);
        match self.free.pop() {
            Some(slot) => self.slots[slot] = Slot { id, client },
            None => self.slots.push(Slot { id, client }),
        }
        id
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Client> {
        let slot = self.slots.get_mut(id.slot()).filter(|slot| slot.id == id);
        let client = slot?.client.take()?;
        self.free.push(id.slot());
        Some(client)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Client> {
        let slot = self.slots.get_mut(id.slot())?;
        slot.client.as_mut().filter(|_| slot.id == id)
    }

    /// How many slots there are, free ones included: the bound of [`Clients::at`].
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn at(&mut self, slot: usize) -> Option<(ConnectionId, &mut Client)> {
        let slot = self.slots.get_mut(slot)?;
        slot.client.as_mut().map(|client| (slot.id, client))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Client)> {
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
