//! The requests that wait: one FIFO for tickets, one for the status. All wait equally long, so the
//! front is always the first to expire.

use std::collections::{BTreeSet, VecDeque};

use super::{Answer, Completion, Refusal, RequestId};
use crate::limits;
use crate::moment::Moment;

/// Requests in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    waiting_tickets: u64,
    status: VecDeque<WaitingStatus>,
    /// Refused as they came.
    refused: VecDeque<RequestId>,
    /// Connections that are gone.
    gone: BTreeSet<u64>,
    /// The same in the order in which they went, each with the moment by which its requests have
    /// expired.
    gone_by: VecDeque<(u64, Moment)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    id: RequestId,
    count: u64,
    deadline: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct WaitingStatus {
    id: RequestId,
    asked: Moment,
    deadline: Moment,
}

impl Queue {
    pub(super) fn submit(&mut self, id: RequestId, count: u64, deadline: Moment) {
        if self.waiting.len() >= limits::WAITING_REQUESTS_MAX {
            self.refused.push_back(id);
            return;
        }
        self.waiting.push_back(Waiting {
            id,
            count,
            deadline,
        });
        self.waiting_tickets = self.waiting_tickets.saturating_add(count);
    }

    pub(super) fn submit_status(&mut self, id: RequestId, asked: Moment, deadline: Moment) {
        if self.status.len() >= limits::WAITING_REQUESTS_MAX {
            self.refused.push_back(id);
            return;
        }
        self.status.push_back(WaitingStatus {
            id,
            asked,
            deadline,
        });
    }

    /// A connection is gone, whose requests expire by then.
    pub(super) fn cancel(&mut self, connection: u64, by: Moment) {
        self.gone.insert(connection);
        self.gone_by.push_back((connection, by));
    }

    pub(super) fn next_refused(&mut self) -> Option<Completion> {
        Some(Completion {
            id: self.refused.pop_front()?,
            answer: Answer::Refused(Refusal::QueueFull),
        })
    }

    /// The oldest request for tickets: its name, how many, and until when it waits.
    pub(super) fn front(&mut self) -> Option<(RequestId, u64, Moment)> {
        self.forget_gone();
        while let Some(front) = self.waiting.front() {
            if !self.gone.contains(&front.id.connection) {
                return Some((front.id, front.count, front.deadline));
            }
            self.pop();
        }
        None
    }

    pub(super) fn pop(&mut self) {
        if let Some(front) = self.waiting.pop_front() {
            self.waiting_tickets = self.waiting_tickets.saturating_sub(front.count);
        }
    }

    /// The oldest request for the status: its name, when it came, and until when it waits.
    pub(super) fn front_status(&mut self) -> Option<(RequestId, Moment, Moment)> {
        while let Some(front) = self.status.front() {
            if !self.gone.contains(&front.id.connection) {
                return Some((front.id, front.asked, front.deadline));
            }
            self.status.pop_front();
        }
        None
    }

    pub(super) fn pop_status(&mut self) {
        self.status.pop_front();
    }

    /// When the oldest request for the status came.
    pub(super) fn oldest_status(&self) -> Option<Moment> {
        Some(self.status.front()?.asked)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many tickets the request at the front asks for.
    pub(super) fn next_count(&self) -> Option<u64> {
        Some(self.waiting.front()?.count)
    }

    pub(super) fn waiting_tickets(&self) -> u64 {
        self.waiting_tickets
    }

    /// When the next request expires.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        let tickets = self.waiting.front().map(|front| front.deadline);
        let status = self.status.front().map(|front| front.deadline);
        tickets.into_iter().chain(status).min()
    }

    /// Forgets the connections whose requests have all left.
    fn forget_gone(&mut self) {
        let oldest = self.wake_at();
        while let Some((connection, by)) = self.gone_by.front() {
            if oldest.is_some_and(|oldest| oldest <= *by) {
                break;
            }
            self.gone.remove(connection);
            self.gone_by.pop_front();
        }
    }
}
