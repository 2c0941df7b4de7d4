//! One connection, from both of its ends.

use std::collections::VecDeque;

use tickr::moment::Moment;
use tickr::node::{Change, ConnectionId, Interest};

use crate::answers::Reader;
use crate::clients::{Kind, Request};

/// A request on its way, in the order of sending.
#[derive(Debug)]
pub struct Pending {
    pub request: Request,
    /// Its place in all that the client sends.
    pub(super) start: u64,
    pub(super) end: u64,
    /// When its first byte was read.
    pub(super) begun: Option<Moment>,
    /// When its last byte was read.
    pub(super) read: Option<Moment>,
    /// The highest base id that had been written to anybody by then.
    pub(super) floor: u64,
    pub(super) continued: bool,
    /// It was read when the process had been told to stop.
    pub(super) late: bool,
}

/// One connection, from both of its ends.
#[derive(Debug)]
pub struct Socket {
    pub process: usize,
    pub id: Option<ConnectionId>,
    /// No fault befalls it: it shows what the node says of itself.
    pub steady: bool,
    // From the client.
    pub(super) inbox: Vec<u8>,
    pub(super) taken: usize,
    pub(super) arrived: u64,
    pub(super) was_read: u64,
    pub sent: u64,
    /// Nothing arrives before what was sent before it.
    pub last_arrival: Moment,
    /// What the client has not sent yet of its last request.
    pub withheld: Vec<u8>,
    pub waits_for_continue: bool,
    pub has_continued: bool,
    pub fin_sent: bool,
    pub(super) fin: bool,
    pub(super) fin_read: bool,
    pub reset: bool,
    /// The client has closed both directions; the first write makes a reset of it.
    pub gone: bool,
    /// As of a Unix socket: whose end is closed for both directions at once.
    pub(super) hung_up: bool,
    pub pending: VecDeque<Pending>,
    // To the client.
    pub room: Option<usize>,
    pub(super) reader: Reader,
    // The node's end.
    pub(super) interest: Option<Interest>,
    pub(super) changed: bool,
    pub(super) interrupted: bool,
    pub(super) finished: Option<Moment>,
    pub closed: bool,
    /// The last answer says that it is.
    pub(super) ended: bool,
    /// The node was told that the connection is broken.
    pub(super) told_broken: bool,
    pub(super) spare: bool,
    pub(super) blocked: bool,
    /// When the socket last took something.
    pub(super) took_at: Moment,
    /// Since when it has taken all.
    pub(super) flows_since: Moment,
    pub(super) answered_at: Moment,
    pub(super) active_at: Moment,
    /// What had arrived when the node was asked to stop.
    pub(super) owed: Option<u64>,
}

impl Socket {
    /// A client has come, and waits to be accepted.
    pub(super) fn new(process: usize, room: Option<usize>, steady: bool, now: Moment) -> Socket {
        Socket {
            process,
            id: None,
            steady,
            inbox: Vec::new(),
            taken: 0,
            arrived: 0,
            was_read: 0,
            sent: 0,
            last_arrival: now,
            withheld: Vec::new(),
            waits_for_continue: false,
            has_continued: false,
            fin_sent: false,
            fin: false,
            fin_read: false,
            reset: false,
            gone: false,
            hung_up: false,
            pending: VecDeque::new(),
            room,
            reader: Reader::default(),
            interest: None,
            changed: false,
            interrupted: false,
            finished: None,
            closed: false,
            ended: false,
            told_broken: false,
            spare: false,
            blocked: false,
            took_at: now,
            flows_since: now,
            answered_at: now,
            active_at: now,
            owed: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.id.is_some() && !self.closed
    }

    /// Where the requests end that are answered: none follows the last.
    pub(super) fn last_end(&self) -> u64 {
        let ends = |pending: &&Pending| {
            pending.request.closes || matches!(pending.request.kind, Kind::Rejected(_))
        };
        self.pending
            .iter()
            .find(ends)
            .map_or(u64::MAX, |pending| pending.end)
    }

    /// As the kernel sees it.
    pub(super) fn change(&self) -> Change {
        let broken = self.reset || self.hung_up;
        Change {
            readable: self.taken < self.inbox.len() || self.fin || broken,
            writable: self.interest == Some(Interest::ReadWrite)
                && (self.room != Some(0) || broken),
            read_closed: self.fin || broken,
            write_closed: broken || (self.fin && self.finished.is_some()),
            error: self.reset,
        }
    }

    pub(super) fn unread(&self) -> usize {
        self.inbox.len() - self.taken
    }

    /// The first request was read in part.
    pub(super) fn is_inside(&self) -> bool {
        let front = self.pending.front();
        front.is_some_and(|front| front.begun.is_some() && front.read.is_none())
    }
}
