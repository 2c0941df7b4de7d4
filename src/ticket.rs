//! The arithmetic of tickets: MySQL counts base ids up by one, and this file turns them into
//! tickets that no other node of the cluster can make.
//!
//! `ticket = (base - 2) * max_nodes + starting_offset + node_number`, in checked u64. The counter
//! row is seeded with 1, so the first base id that is ever reserved is 2.

use std::fmt;

/// What the counter holds before the first reservation.
pub const COUNTER_SEED: u64 = 1;

/// The first base id that is ever reserved.
const FIRST_BASE: u64 = COUNTER_SEED + 1;

/// The three settings that can never change once the system is live. Made only by
/// [`Numbering::new`], which checks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Numbering {
    max_nodes: u64,
    starting_offset: u64,
    node_number: u64,
}

impl Numbering {
    /// Checks the settings: at least one node, a node number below `max_nodes`, and a first
    /// ticket (`starting_offset + node_number`) that fits in 64 bits.
    pub fn new(
        max_nodes: u64,
        starting_offset: u64,
        node_number: u64,
    ) -> Result<Numbering, NumberingError> {
        if max_nodes == 0 {
            return Err(NumberingError::NoNodes);
        }
        if node_number >= max_nodes {
            return Err(NumberingError::NodeNumber {
                max_nodes,
                node_number,
            });
        }
        if starting_offset.checked_add(node_number).is_none() {
            return Err(NumberingError::StartingOffset {
                starting_offset,
                node_number,
            });
        }
        Ok(Numbering {
            max_nodes,
            starting_offset,
            node_number,
        })
    }

    /// How many nodes the cluster can have; the distance between two tickets of one node.
    pub fn max_nodes(&self) -> u64 {
        self.max_nodes
    }

    /// The first ticket of node 0.
    pub fn starting_offset(&self) -> u64 {
        self.starting_offset
    }

    /// This node, counted from 0.
    pub fn node_number(&self) -> u64 {
        self.node_number
    }

    /// The ticket of a base id; `None` below the first base id and past 2^64 - 1.
    pub fn ticket(&self, base: u64) -> Option<u64> {
        base.checked_sub(FIRST_BASE)?
            .checked_mul(self.max_nodes)?
            .checked_add(self.starting_offset + self.node_number)
    }

    /// The last base id whose ticket fits in 64 bits.
    pub fn last_base(&self) -> u64 {
        let room = u64::MAX - self.starting_offset - self.node_number;
        (room / self.max_nodes).saturating_add(FIRST_BASE)
    }

    /// The smallest counter value after which every ticket of this node is above `ticket`.
    /// `None` when no such ticket is left.
    pub fn counter_past(&self, ticket: u64) -> Option<u64> {
        let counter = match ticket.checked_sub(self.starting_offset + self.node_number) {
            None => COUNTER_SEED,
            Some(distance) => (distance / self.max_nodes).checked_add(FIRST_BASE)?,
        };
        (counter < self.last_base()).then_some(counter)
    }

    /// How many tickets up to `ceiling` this node can still hand out when its counter is
    /// `counter`.
    pub fn headroom(&self, counter: u64, ceiling: u64) -> u64 {
        let Some(room) = ceiling.checked_sub(self.starting_offset + self.node_number) else {
            return 0;
        };
        (room / self.max_nodes)
            .saturating_add(FIRST_BASE)
            .saturating_sub(counter)
    }

    /// The tickets of a block as a run.
    ///
    /// # Panics
    ///
    /// When a ticket of the block does not fit in 64 bits; reservations never go past
    /// [`Numbering::last_base`], so that would be a bug of ours.
    pub fn run(&self, block: Block) -> Run {
        let first = self
            .ticket(block.first)
            .expect("a reserved base id has a ticket");
        self.ticket(block.last)
            .expect("a reserved base id has a ticket");
        Run {
            first,
            increment: self.max_nodes,
            count: block.count(),
        }
    }
}

/// Which node of a cluster a ticket comes from, and which of its base ids it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The node, counted from 0.
    pub node_number: u64,
    /// The node's base id.
    pub base: u64,
}

impl Origin {
    /// The reverse of [`Numbering::ticket`]; `None` for what no node can have issued.
    pub fn of(ticket: u64, max_nodes: u64, starting_offset: u64) -> Option<Origin> {
        let distance = ticket.checked_sub(starting_offset)?;
        Some(Origin {
            node_number: distance.checked_rem(max_nodes)?,
            base: (distance / max_nodes).checked_add(FIRST_BASE)?,
        })
    }
}

impl fmt::Display for Numbering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Numbering {
            max_nodes,
            starting_offset,
            node_number,
        } = self;
        write!(
            f,
            "max_nodes={max_nodes} starting_offset={starting_offset} node_number={node_number}"
        )
    }
}

/// Why three settings do not make a [`Numbering`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberingError {
    /// `max_nodes` is 0.
    NoNodes,
    /// `node_number` is not below `max_nodes`.
    NodeNumber {
        /// The number of nodes that was given.
        max_nodes: u64,
        /// The node number that was given.
        node_number: u64,
    },
    /// The first ticket would not fit in 64 bits.
    StartingOffset {
        /// The offset that was given.
        starting_offset: u64,
        /// The node number that was given.
        node_number: u64,
    },
}

impl fmt::Display for NumberingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NumberingError::NoNodes => write!(f, "the number of nodes must be at least 1"),
            NumberingError::NodeNumber {
                max_nodes,
                node_number,
            } => write!(
                f,
                "the node number is counted from 0 and must be below the number of nodes: \
                 {node_number} is not below {max_nodes}"
            ),
            NumberingError::StartingOffset {
                starting_offset,
                node_number,
            } => write!(
                f,
                "the first ticket, {starting_offset} + {node_number}, does not fit in 64 bits"
            ),
        }
    }
}

impl std::error::Error for NumberingError {}

/// Base ids that one reservation took from the counter, both ends included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// The lowest base id.
    pub first: u64,
    /// The highest base id.
    pub last: u64,
}

impl Block {
    /// The block that ends a reservation of `count` base ids with the counter at `last`; `None`
    /// when there is no such block.
    pub fn ending_at(last: u64, count: u64) -> Option<Block> {
        let first = last.checked_sub(count.checked_sub(1)?)?;
        (first >= FIRST_BASE).then_some(Block { first, last })
    }

    /// How many base ids it holds.
    pub fn count(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// Tickets at one constant distance: `first`, `first + increment`, … (`count` of them, at least
/// one). The last one fits in 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The lowest ticket.
    pub first: u64,
    /// The distance between two neighbours; at least 1.
    pub increment: u64,
    /// How many tickets.
    pub count: u64,
}

impl Run {
    /// The ticket at `index`, counted from 0.
    pub fn ticket(&self, index: u64) -> u64 {
        debug_assert!(index < self.count);
        self.first + index * self.increment
    }

    /// The highest ticket.
    pub fn last(&self) -> u64 {
        self.ticket(self.count - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbering(max_nodes: u64, offset: u64, node: u64) -> Numbering {
        Numbering::new(max_nodes, offset, node).unwrap()
    }

    #[test]
    fn counts_like_the_original() {
        let original = numbering(10, 326, 3);
        let settings = (
            original.max_nodes(),
            original.starting_offset(),
            original.node_number(),
        );
        assert_eq!(settings, (10, 326, 3));
        let shown = "max_nodes=10 starting_offset=326 node_number=3";
        assert_eq!(original.to_string(), shown);
        let tickets = [2, 3, 4].map(|base| original.ticket(base).unwrap());
        assert_eq!(tickets, [329, 339, 349]);
        let batch = original.run(Block { first: 2, last: 21 });
        assert_eq!((batch.first, batch.last()), (329, 519));
        assert_eq!(original.ticket(22), Some(529));
        assert_eq!(original.ticket(COUNTER_SEED), None);
    }

    #[test]
    fn ends_at_the_last_64_bit_number() {
        for (max_nodes, offset, node) in [(1, 0, 0), (4, 54_313_001, 3), (u64::MAX, 0, 7)] {
            let numbering = numbering(max_nodes, offset, node);
            let last = numbering.last_base();
            assert!(numbering.ticket(last).is_some());
            assert!(last == u64::MAX || numbering.ticket(last + 1).is_none());
            assert_eq!(numbering.headroom(last, u64::MAX), 0);
        }
        assert_eq!(numbering(4, 0, 0).headroom(COUNTER_SEED, 7), 2);
        assert_eq!(numbering(4, 9, 0).headroom(COUNTER_SEED, 7), 0);
    }

    #[test]
    fn advances_past_any_ticket() {
        let numbering = numbering(4, 100, 2);
        for ticket in [0, 101, 102, 103, 105, 106, 1_000_003] {
            let counter = numbering.counter_past(ticket).unwrap();
            assert!(
                numbering.ticket(counter + 1).unwrap() > ticket,
                "next is above {ticket}"
            );
            let handed_out = numbering.ticket(counter);
            assert!(
                handed_out.is_none_or(|last| last <= ticket),
                "nothing wasted at {ticket}"
            );
        }
        assert_eq!(numbering.counter_past(u64::MAX), None);
    }

    #[test]
    fn an_origin_is_the_reverse_of_a_ticket() {
        for (max_nodes, offset, node) in [(1, 0, 0), (4, 54_313_001, 3), (u64::MAX, 0, 7)] {
            let numbering = numbering(max_nodes, offset, node);
            for base in [FIRST_BASE, FIRST_BASE + 1, numbering.last_base() - 1] {
                let Some(ticket) = numbering.ticket(base) else {
                    continue;
                };
                let node_number = node;
                let origin = Origin::of(ticket, max_nodes, offset);
                assert_eq!(origin, Some(Origin { node_number, base }));
            }
            if let Some(below) = offset.checked_sub(1) {
                assert_eq!(Origin::of(below, max_nodes, offset), None);
            }
        }
    }

    #[test]
    fn refuses_settings_that_cannot_work() {
        assert_eq!(Numbering::new(0, 1, 0), Err(NumberingError::NoNodes));
        let error = Numbering::new(4, 1, 4).unwrap_err();
        assert!(matches!(error, NumberingError::NodeNumber { .. }));
        assert!(error.to_string().ends_with(": 4 is not below 4"));
        let error = Numbering::new(4, u64::MAX, 1).unwrap_err();
        assert!(matches!(error, NumberingError::StartingOffset { .. }));
        assert!(error.to_string().contains("18446744073709551615 + 1"));
    }

    #[test]
    fn a_block_ends_at_the_counter() {
        assert_eq!(Block::ending_at(11, 10), Some(Block { first: 2, last: 11 }));
        assert_eq!(Block::ending_at(10, 10), None);
        assert_eq!(Block::ending_at(10, 0), None);
    }
}
