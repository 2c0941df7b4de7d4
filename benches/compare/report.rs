//! The rows of the table, on the terminal and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    RequestsPerSecond,
    BytesPerSecond,
    Seconds,
    Bytes,
}

impl Unit {
    /// A figure for people.
    pub(crate) fn show(self, value: f64) -> String {
        let scale = self.scale(value);
        format!("{} {}", scale.show(value), scale.name)
    }

    /// What figures of about this size are told in.
    pub(crate) fn scale(self, value: f64) -> Scale {
        let (divisor, decimals, name) = match self {
            Unit::RequestsPerSecond if value >= 1e6 => (1e6, 2, "M/s"),
            Unit::RequestsPerSecond => (1e3, 1, "k/s"),
            Unit::BytesPerSecond => (1e9, 2, "GB/s"),
            Unit::Seconds if value < 1e-4 => (1e-6, 2, "µs"),
            Unit::Seconds => (1e-3, 3, "ms"),
            Unit::Bytes if value >= 1048576.0 => (1048576.0, 2, "MiB"),
            Unit::Bytes if value >= 10240.0 => (1024.0, 0, "KiB"),
            Unit::Bytes => (1.0, 0, "B"),
        };
        Scale {
            divisor,
            decimals,
            name,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Unit::RequestsPerSecond => "requests/s",
            Unit::BytesPerSecond => "bytes/s",
            Unit::Seconds => "s",
            Unit::Bytes => "bytes",
        }
    }
}

/// A unit in its everyday size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    divisor: f64,
    decimals: usize,
    /// As in "k/s".
    pub(crate) name: &'static str,
}

impl Scale {
    /// The figure without its unit.
    pub(crate) fn show(self, value: f64) -> String {
        format!("{:.*}", self.decimals, value / self.divisor)
    }
}

/// What a row has to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mark {
    /// Tickr's figure is at least this many times the peer's.
    RatioAtLeast(f64),
    /// Tickr's figure is at most this many times the peer's.
    RatioAtMost(f64),
    /// Tickr's figure is at most this.
    AtMost(f64),
    /// It is only told.
    None,
}

/// One line of the table: the same work, measured in turn on Tickr and on a peer.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) work: String,
    pub(crate) unit: Unit,
    /// One figure a run.
    pub(crate) tickr: Vec<f64>,
    /// The other side of each pair, and its name.
    pub(crate) peer: Option<(String, Vec<f64>)>,
    pub(crate) mark: Mark,
}

impl Row {
    /// The median over the pairs of Tickr's figure to the peer's.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (_, peer) = self.peer.as_ref()?;
        let ratios = self.tickr.iter().zip(peer);
        Some(median(ratios.map(|(ours, theirs)| ours / theirs)))
    }

    /// Whether the mark is reached.
    pub(crate) fn reached(&self) -> bool {
        let ratio = self.ratio().unwrap_or(f64::NAN);
        match self.mark {
            Mark::RatioAtLeast(mark) => ratio >= mark,
            Mark::RatioAtMost(mark) => ratio <= mark,
            Mark::AtMost(mark) => median(self.tickr.iter().copied()) <= mark,
            Mark::None => true,
        }
    }

    fn cells(&self) -> [String; 7] {
        let show = |figures: &[f64]| self.unit.show(median(figures.iter().copied()));
        let none = || "–".to_owned();
        let (name, peer) = match &self.peer {
            Some((name, figures)) => (name.clone(), show(figures)),
            None => (none(), none()),
        };
        [
            self.work.clone(),
            show(&self.tickr),
            name,
            peer,
            self.ratio()
                .map_or_else(none, |ratio| format!("{ratio:.2}")),
            match self.mark {
                Mark::RatioAtLeast(mark) => format!("≥ {mark:.2}"),
                Mark::RatioAtMost(mark) => format!("≤ {mark:.2}"),
                Mark::AtMost(mark) => format!("≤ {}", self.unit.show(mark)),
                Mark::None => none(),
            },
            match (self.mark, self.reached()) {
                (Mark::None, _) => none(),
                (_, reached) => if reached { "yes" } else { "no" }.to_owned(),
            },
        ]
    }

    /// The row with every figure that it is made of.
    pub(crate) fn json(&self) -> Value {
        let mark = match self.mark {
            Mark::RatioAtLeast(mark) => json!({ "kind": "ratio at least", "value": mark }),
            Mark::RatioAtMost(mark) => json!({ "kind": "ratio at most", "value": mark }),
            Mark::AtMost(mark) => json!({ "kind": "at most", "value": mark }),
            Mark::None => Value::Null,
        };
        json!({
            "work": self.work,
            "unit": self.unit.name(),
            "tickr": self.tickr,
            "peer": self.peer.as_ref().map(|(name, figures)| json!({
                "name": name,
                "figures": figures,
            })),
            "ratio": self.ratio(),
            "mark": mark,
            "reached": self.reached(),
        })
    }
}

/// The middle of some figures; NaN of none.
pub(crate) fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

const HEAD: [&str; 7] = [
    "work",
    "Tickr",
    "peer",
    "its figure",
    "ratio",
    "goal",
    "reached",
];

/// The table for a page.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let head = HEAD.map(str::to_owned);
    let line = std::array::from_fn(|_| "---".to_owned());
    let lines = [head, line].into_iter().chain(rows.iter().map(Row::cells));
    lines
        .map(|cells| format!("| {} |\n", cells.join(" | ")))
        .collect()
}

/// The table for the terminal.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = String::new();
    for line in &lines {
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            // Words to the left, figures to the right.
            let padding = " ".repeat(width - cell.chars().count());
            let _ = match column {
                0 | 2 => write!(text, "{cell}{padding}  "),
                6 => write!(text, "{cell}"),
                _ => write!(text, "{padding}{cell}  "),
            };
        }
        text.push('\n');
    }
    text
}
