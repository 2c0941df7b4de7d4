//! The key of a state: equal for two that differ only in what cannot matter.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use tickr::moment::Moment;

use super::state::{PROCESSES, Process, State};

impl State {
    /// The same for states that differ only in what no step can tell.
    pub(super) fn key(&self) -> u64 {
        let mut text = String::new();
        let mut texts = [const { String::new() }; PROCESSES];
        for (process, text) in self.processes.iter().zip(&mut texts) {
            let Process {
                allocator,
                sessions,
                flights,
                last,
                ..
            } = process;
            let raw = format!("{allocator:?}{sessions:?}{flights:?}{last}");
            canonical(&raw, self.now, text);
        }
        // Which is which makes no difference.
        texts.sort_unstable();
        texts.iter().for_each(|own| text.push_str(own));
        let closed = self.operator.map(|(epoch, at)| (epoch, self.now.since(at)));
        for server in &self.servers {
            let _ = write!(
                text,
                "{:?}{}{}",
                server.row, server.read_only, server.fenced
            );
            if self.failovers == 0 && server.index == self.primary {
                let rows = server.log.iter().rev().take(3).map(|commit| commit.row);
                let _ = write!(text, "{:?}", rows.collect::<Vec<_>>());
            }
        }
        let _ = write!(
            text,
            "{closed:?}{}{:?}{:?}{}{:?}{:?}{}{}{}{}{}{}",
            self.primary,
            self.limits,
            self.stale,
            self.reserved_high,
            self.newest,
            self.issued,
            self.requests,
            self.ticks,
            self.failovers,
            self.opened,
            self.opened_before,
            self.lost,
        );
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    }
}

/// Copies a state's text with moments relative to now and with names by their rank.
fn canonical(raw: &str, now: Moment, text: &mut String) {
    const NAMES: [&str; 5] = [
        "JobId(",
        "connection: ",
        "replaces: Some(",
        "used: ",
        "uses: ",
    ];
    let number = |at: usize| {
        let digits = raw[at..].bytes().take_while(u8::is_ascii_digit).count();
        raw[at..at + digits]
            .parse::<u64>()
            .ok()
            .map(|it| (it, at + digits))
    };
    let class = |name: usize| match name {
        0 => 0,
        1 | 2 => 1,
        _ => 2,
    };
    let mut places = Vec::new();
    let mut ranks: [Vec<u64>; 3] = Default::default();
    for (index, name) in NAMES.iter().enumerate() {
        for (at, _) in raw.match_indices(name) {
            if let Some((value, end)) = number(at + name.len()) {
                places.push((at + name.len(), end, Some((class(index), value)), value));
                ranks[class(index)].push(value);
            }
        }
    }
    for (at, name) in raw.match_indices("Moment(") {
        if let Some((value, end)) = number(at + name.len()) {
            places.push((at + name.len(), end, None, value));
        }
    }
    for ranks in &mut ranks {
        ranks.sort_unstable();
        ranks.dedup();
    }
    places.sort_unstable();
    let mut copied = 0;
    for (from, to, named, value) in places {
        text.push_str(&raw[copied..from]);
        let _ = match named {
            Some((class, value)) => {
                let rank = ranks[class].binary_search(&value).unwrap_or_default();
                write!(text, "{rank}")
            }
            None => write!(text, "{}", value as i64 - now.as_nanos() as i64),
        };
        copied = to;
    }
    text.push_str(&raw[copied..]);
}
