//! What must hold for the promise to hold: each as code that keeps the world within it, and says
//! how often that was needed. `docs/simulation.md` has them as sentences.

use std::time::Duration;

use tickr::counter::{Epoch, Memory};
use tickr::moment::Moment;

use crate::database::{Owned, Row, Server};

/// A process that has read the row every second knows what it was this long ago.
pub const HEARTBEAT_KNOWN: Duration = Duration::from_millis(2_500);

/// How long a process must have had nothing but prompt answers from the primary to be relied on.
pub const CLEAN: Duration = Duration::from_secs(3);

/// A server whose row went back, and is open all the same.
#[derive(Clone, Debug, Default)]
pub struct Stale {
    /// It is.
    pub stands: bool,
    /// Those who must notice, by the design: they knew more when it happened.
    pub know: [bool; 4],
}

/// *The first to reach a database that went back is somebody who knows more.* Whoever has read the
/// row each second before it went back by more than a heartbeat is relied on to notice; anybody
/// else is kept away until an operator has opened the row anew.
pub fn may_reserve(stale: &Stale, process: usize, row: &Row, epoch: Epoch, floor: u64) -> bool {
    let would = row.epoch == epoch && floor <= row.id && row.mark <= row.id;
    !stale.stands || !would || stale.know[process]
}

/// Who must notice that the row of `server` went back, given the primary of before.
pub fn who_knows(before: &Server, row: &Row, clean: [Option<Moment>; 4], now: Moment) -> [bool; 4] {
    let nanos = now.as_nanos();
    let ago = nanos.saturating_sub(HEARTBEAT_KNOWN.as_nanos() as u64);
    let then = before.row_at(Moment::from_nanos(ago));
    // The epoch of a row that an old program has replaced is nobody's, nor is the one without a tag
    // that it has when it was closed again: who knows the one with a tag keeps that.
    let untagged = then.epoch.tag == 0 && then.epoch.number == row.epoch.number;
    let epoch = match then.owner {
        Owned::Nobody => row.epoch,
        _ if untagged => row.epoch,
        _ => then.epoch,
    };
    let lost = row.is_behind(&Memory { epoch, id: then.id });
    clean.map(|since| lost && since.is_some_and(|since| since + CLEAN <= now))
}

/// Whether a server that just began to serve this row could repeat what was reserved before.
pub fn is_stale(server: &Server, reserved_high: u64, newest: Epoch) -> bool {
    let back = server.row.id < reserved_high || server.row.epoch.number < newest.number;
    back && server.row.owner == Owned::By(server.index) && server.row.mark <= server.row.id
}

/// *An old primary is fenced, or commits less than the margin after the fail-over*: it is cut off
/// before it reaches what was opened elsewhere.
pub fn must_be_fenced(server: &Server, limit: Option<u64>, count: u64) -> bool {
    limit.is_some_and(|limit| server.row.id.saturating_add(count) >= limit)
}

/// *`--past` and the margin cover what was issued by those who can't raise the mark any more*
/// (dead without a memory, stopped, cut off): the least `--past` that an operator may give.
pub fn least_past(issued_by_the_absent: u64, margin: u64) -> u64 {
    issued_by_the_absent.saturating_sub(margin)
}
