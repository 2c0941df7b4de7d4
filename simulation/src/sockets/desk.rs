//! One process as its sockets know it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tickr::counter::Job;
use tickr::moment::Moment;
use tickr::node::ConnectionId;

use crate::answers::Answer;
use crate::clients::Kind;

/// One process as its sockets know it.
#[derive(Debug)]
pub struct Desk {
    pub listening: bool,
    pub backlogs: Vec<VecDeque<usize>>,
    pub outlives: Vec<bool>,
    pub listeners_changed: Vec<bool>,
    /// What `accept` fails with first.
    pub accept_errors: VecDeque<i32>,
    /// The last one found no file.
    pub(super) is_short: bool,
    pub(super) by_id: BTreeMap<ConnectionId, usize>,
    /// Sockets at which something has changed.
    pub(super) changed: BTreeSet<usize>,
    pub most: usize,
    pub timeout: Duration,
    pub idle_timeout: Duration,
    pub draining: bool,
    pub(super) crowded: bool,
    /// It was stopped until then.
    pub late_until: Moment,
    /// The highest base id in an answer.
    pub(super) high: u64,
    /// Blocks that were committed for it.
    pub committed: BTreeMap<u64, u64>,
    /// Of this turn.
    pub jobs: Vec<Job>,
    pub did: u32,
    /// Bytes were read or written.
    pub traffic: bool,
    pub turns: u64,
    /// The turn in which tickets were last given.
    pub gave: Option<u64>,
    /// The last state that `/status` showed a steady client, and in which turn.
    pub said: Option<(u64, String, Option<String>)>,
    /// The last that it showed anybody, when the faults had ended.
    pub told: Option<(String, Option<String>)>,
    /// What the probes of this moment have said.
    pub probed: Vec<(Kind, Answer)>,
}

impl Desk {
    pub fn new(most: usize, timeout: Duration, idle_timeout: Duration, outlives: &[bool]) -> Desk {
        Desk {
            listening: true,
            backlogs: vec![VecDeque::new(); outlives.len()],
            outlives: outlives.to_vec(),
            listeners_changed: vec![false; outlives.len()],
            accept_errors: VecDeque::new(),
            is_short: false,
            by_id: BTreeMap::new(),
            changed: BTreeSet::new(),
            most,
            timeout,
            idle_timeout,
            draining: false,
            crowded: false,
            late_until: Moment::default(),
            high: 0,
            committed: BTreeMap::new(),
            jobs: Vec::new(),
            did: 0,
            traffic: false,
            turns: 0,
            gave: None,
            said: None,
            told: None,
            probed: Vec::new(),
        }
    }

    pub fn open_sockets(&self) -> impl Iterator<Item = usize> + Clone {
        self.by_id.values().copied()
    }

    /// The highest base id in an answer.
    pub fn high(&self) -> u64 {
        self.high
    }

    /// The kernel has something to tell.
    pub fn has_changed(&self) -> bool {
        let listeners = self.listening && self.listeners_changed.contains(&true);
        !self.changed.is_empty() || listeners
    }

    pub fn has_clients(&self) -> bool {
        !self.by_id.is_empty()
    }
}
