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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    fn id(connection: u64, sequence: u64) -> RequestId {
        RequestId {
            connection,
            sequence,
        }
    }

    #[test]
    fn requests_leave_in_the_order_in_which_they_came() {
        let mut queue = Queue::default();
        assert_eq!((queue.front(), queue.front_status()), (None, None));
        assert_eq!((queue.next_count(), queue.oldest_status()), (None, None));
        assert_eq!(queue.wake_at(), None);
        queue.submit(id(1, 0), 5, at(12));
        queue.submit(id(2, 0), 7, at(13));
        queue.submit_status(id(3, 0), at(1), at(11));
        queue.submit_status(id(4, 0), at(2), at(12));
        assert_eq!((queue.waiting(), queue.waiting_tickets()), (2, 12));
        assert_eq!(queue.front(), Some((id(1, 0), 5, at(12))));
        assert_eq!(queue.next_count(), Some(5));
        assert_eq!(queue.front_status(), Some((id(3, 0), at(1), at(11))));
        assert_eq!(
            (queue.oldest_status(), queue.wake_at()),
            (Some(at(1)), Some(at(11)))
        );
        queue.pop_status();
        assert_eq!(
            (queue.oldest_status(), queue.wake_at()),
            (Some(at(2)), Some(at(12)))
        );
        queue.pop();
        assert_eq!((queue.waiting(), queue.waiting_tickets()), (1, 7));
        assert_eq!(queue.front(), Some((id(2, 0), 7, at(13))));
        queue.pop();
        queue.pop();
        assert_eq!((queue.waiting(), queue.waiting_tickets()), (0, 0));
    }

    #[test]
    fn the_tickets_that_wait_are_counted_without_wrapping() {
        let mut queue = Queue::default();
        queue.submit(id(1, 0), u64::MAX, at(1));
        queue.submit(id(1, 1), u64::MAX, at(1));
        assert_eq!(queue.waiting_tickets(), u64::MAX);
    }

    #[test]
    fn a_full_queue_refuses_and_the_refused_wait_for_nothing() {
        let mut queue = Queue::default();
        let most = limits::WAITING_REQUESTS_MAX as u64;
        for sequence in 0..most {
            queue.submit(id(1, sequence), 1, at(9));
            queue.submit_status(id(2, sequence), at(0), at(9));
        }
        assert_eq!(queue.next_refused(), None);
        queue.submit(id(1, most), 1, at(9));
        queue.submit_status(id(2, most), at(0), at(9));
        let answer = Answer::Refused(Refusal::QueueFull);
        for id in [id(1, most), id(2, most)] {
            assert_eq!(queue.next_refused(), Some(Completion { id, answer }));
        }
        assert_eq!(queue.next_refused(), None);
        assert_eq!(
            (queue.waiting() as u64, queue.waiting_tickets()),
            (most, most)
        );
    }

    #[test]
    fn who_is_gone_is_passed_over_and_costs_no_ticket() {
        let mut queue = Queue::default();
        for (connection, count) in [(1, 5), (2, 7), (1, 9)] {
            queue.submit(id(connection, count), count, at(12));
            queue.submit_status(id(connection, count), at(0), at(12));
        }
        queue.cancel(1, at(12));
        assert_eq!(queue.front(), Some((id(2, 7), 7, at(12))));
        assert_eq!(queue.front_status(), Some((id(2, 7), at(0), at(12))));
        assert_eq!(
            queue.waiting_tickets(),
            16,
            "the last one is not at the front"
        );
        queue.pop();
        queue.pop_status();
        assert_eq!((queue.front(), queue.front_status()), (None, None));
        assert_eq!(queue.waiting_tickets(), 0);
    }

    #[test]
    fn a_connection_is_forgotten_when_its_requests_have_left_and_not_before() {
        let mut queue = Queue::default();
        queue.submit(id(1, 0), 1, at(12));
        queue.submit(id(2, 0), 1, at(12));
        queue.submit(id(1, 1), 1, at(12));
        queue.cancel(1, at(12));
        queue.front();
        assert_eq!(
            queue.gone.len(),
            1,
            "one of its requests is behind the front"
        );
        queue.pop();
        assert_eq!(queue.front(), None);
        // Nothing waits any longer.
        assert_eq!(queue.front(), None);
        assert_eq!((queue.gone.len(), queue.gone_by.len()), (0, 0));
        queue.cancel(3, at(13));
        queue.submit(id(4, 0), 1, at(14));
        queue.front();
        assert!(queue.gone.is_empty(), "what waits now came later");
    }
}
