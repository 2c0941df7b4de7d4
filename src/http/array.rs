//! A run of tickets as a JSON body. A batch can be megabytes long, so its length is known by
//! arithmetic before a byte of it exists, and any piece of it can be rendered from its offset:
//! a client that reads slowly costs no memory.

mod cells;
mod digits;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::limits;
use crate::ticket::Run;

use cells::Cells;
use digits::{append_number, digits};

/// How a run is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `[1,5,9]`
    Array,
    /// `["1","5","9"]`, for readers such as JavaScript that can't hold integers over 2^53.
    String,
    /// `{"first":1,"increment":4,"count":3}`
    Range,
    /// `{"first":"1","increment":"4","count":"3"}`: a range for the same readers. JavaScript makes
    /// the tickets of it by `BigInt(first) + BigInt(increment) * BigInt(i)`, `i` from 0 to below
    /// `Number(count)`. All three are strings, so that one rule reads them.
    RangeString,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 4] = [
        Format::Array,
        Format::String,
        Format::Range,
        Format::RangeString,
    ];

    /// The format of this name, as it stands in a query or in a setting.
    pub fn from_name(name: &[u8]) -> Option<Format> {
        Format::ALL
            .into_iter()
            .find(|format| format.name().as_bytes() == name)
    }

    /// The name: `array`, `string`, `range` or `range-string`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Array => "array",
            Format::String => "string",
            Format::Range => "range",
            Format::RangeString => "range-string",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A run in one format: compact JSON (RFC 8259) that depends on nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    run: Run,
    format: Format,
}

impl Body {
    /// The body of this run.
    ///
    /// # Panics
    ///
    /// When the run is empty or longer than [`limits::BATCH_MAX`]; no larger batch is ever
    /// reserved, so that would be a bug of ours.
    pub fn new(run: Run, format: Format) -> Body {
        assert!(
            (1..=limits::BATCH_MAX).contains(&run.count),
            "a batch is not empty, and within its bound"
        );
        Body { run, format }
    }

    /// The exact length in bytes; never 0.
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> u64 {
        match self.format {
            Format::Array => List::new(self.run, &ARRAY).len(),
            Format::String => List::new(self.run, &STRING).len(),
            Format::Range => range_len(self.run, &RANGE),
            Format::RangeString => range_len(self.run, &RANGE_STRING),
        }
    }

    /// Appends the bytes from `offset` to `out`: `max` of them, or as many as are left. Returns
    /// how many. On the way `out` may hold a few bytes more; with room for 128 bytes beyond `max`
    /// it never has to grow.
    pub fn write_at(&self, offset: u64, max: usize, out: &mut Vec<u8>) -> usize {
        match self.format {
            Format::Array => List::new(self.run, &ARRAY).write_at(offset, max, out),
            Format::String => List::new(self.run, &STRING).write_at(offset, max, out),
            Format::Range => write_range_at(self.run, &RANGE, offset, max, out),
            Format::RangeString => write_range_at(self.run, &RANGE_STRING, offset, max, out),
        }
    }
}

/// What stands before each of the three numbers of a range, and behind the last.
type RangeMarks = [&'static str; 4];

const RANGE: RangeMarks = [r#"{"first":"#, r#","increment":"#, r#","count":"#, "}"];

const RANGE_STRING: RangeMarks = [
    r#"{"first":""#,
    r#"","increment":""#,
    r#"","count":""#,
    r#""}"#,
];

fn range_len(run: Run, marks: &RangeMarks) -> u64 {
    let numbers: usize = [run.first, run.increment, run.count]
        .map(digits)
        .iter()
        .sum();
    let marks: usize = marks.iter().map(|mark| mark.len()).sum();
    (marks + numbers) as u64
}

// Inlined, so that the marks are constants.
#[inline(always)]
fn write_range_at(
    run: Run,
    marks: &RangeMarks,
    offset: u64,
    max: usize,
    out: &mut Vec<u8>,
) -> usize {
    let start = out.len();
    let [before_numbers @ .., end] = marks;
    for (mark, number) in before_numbers
        .iter()
        .zip([run.first, run.increment, run.count])
    {
        out.extend_from_slice(mark.as_bytes());
        append_number(number, out);
    }
    out.extend_from_slice(end.as_bytes());
    keep(start, offset, max, out)
}

/// What stands before, between and behind the tickets of a list.
struct Marks {
    open: &'static [u8],
    between: &'static [u8],
    close: &'static [u8],
}

const ARRAY: Marks = Marks {
    open: b"[",
    between: b",",
    close: b"]",
};

const STRING: Marks = Marks {
    open: br#"[""#,
    between: br#"",""#,
    close: br#""]"#,
};

/// All tickets of a run, one after the other. A ticket and the mark behind it are a cell; cells
/// of tickets with the same number of digits have the same width, which is what makes both the
/// length and the position of any byte a matter of arithmetic.
struct List<'a> {
    run: Run,
    marks: &'a Marks,
}

/// Neighbouring tickets with the same number of digits.
struct Group {
    digits: usize,
    /// Indices in the run, the end excluded.
    from: u64,
    to: u64,
}

impl<'a> List<'a> {
    fn new(run: Run, marks: &'a Marks) -> List<'a> {
        List { run, marks }
    }

    fn len(&self) -> u64 {
        if self.run.count == 1 {
            let ends = self.marks.open.len() + self.marks.close.len();
            return (ends + digits(self.run.first)) as u64;
        }
        let cells: u64 = self
            .groups()
            .map(|group| (group.to - group.from) * self.width(&group))
            .sum();
        let ends = self.marks.open.len() + self.marks.close.len() - self.marks.between.len();
        cells + ends as u64
    }

    // Inlined, so that the marks of a single ticket are constants.
    #[inline(always)]
    fn write_at(&self, offset: u64, max: usize, out: &mut Vec<u8>) -> usize {
        if self.run.count > 1 {
            return self.write_many_at(offset, max, out);
        }
        let start = out.len();
        out.extend_from_slice(self.marks.open);
        append_number(self.run.first, out);
        out.extend_from_slice(self.marks.close);
        keep(start, offset, max, out)
    }

    fn write_many_at(&self, offset: u64, max: usize, out: &mut Vec<u8>) -> usize {
        let end = self.len().min(offset.saturating_add(max as u64));
        if offset >= end {
            return 0;
        }
        let start = out.len();
        let mut at = offset;
        // Where the cells of the group begin.
        let mut begin = self.marks.open.len() as u64;
        if at < begin {
            out.extend_from_slice(self.marks.open);
            at += keep(start, at, max, out) as u64;
        }
        for group in self.groups() {
            let width = self.width(&group);
            let within = at.saturating_sub(begin);
            begin += (group.to - group.from) * width;
            if at >= begin {
                continue;
            }
            let (mut index, skip) = (group.from + within / width, within % width);
            if skip != 0 {
                at += self.write_cell(index, skip, end - at, out);
                index += 1;
            }
            // The last cell of the run ends in another mark.
            let alike = group.to.min(self.run.count - 1).saturating_sub(index);
            let count = alike.min((end - at) / width);
            if count > 0 {
                Cells {
                    first: self.run.ticket(index),
                    increment: self.run.increment,
                    count,
                    digits: group.digits,
                    mark: self.marks.between,
                }
                .append(out);
                at += count * width;
                index += count;
            }
            if at < end && index < group.to {
                at += self.write_cell(index, 0, end - at, out);
            }
            if at >= end {
                break;
            }
        }
        out.len() - start
    }

    /// Appends up to `max` bytes of one cell, from `offset` in the cell.
    fn write_cell(&self, index: u64, offset: u64, max: u64, out: &mut Vec<u8>) -> u64 {
        let start = out.len();
        append_number(self.run.ticket(index), out);
        let is_last = index == self.run.count - 1;
        out.extend_from_slice(if is_last {
            self.marks.close
        } else {
            self.marks.between
        });
        keep(start, offset, max as usize, out) as u64
    }

    fn groups(&self) -> impl Iterator<Item = Group> {
        let Run {
            first,
            increment,
            count,
        } = self.run;
        let mut from = 0;
        (digits(first)..=digits(self.run.last())).map(move |digits| {
            // The first index with more digits than that.
            let to = match 10u64.checked_pow(digits as u32) {
                Some(power) => (power - first).div_ceil(increment).min(count),
                None => count,
            };
            let group = Group { digits, from, to };
            from = to;
            group
        })
    }

    fn width(&self, group: &Group) -> u64 {
        (group.digits + self.marks.between.len()) as u64
    }
}

/// Of what was appended from `start` on, keeps up to `max` bytes from `offset`; returns how many.
#[inline]
fn keep(start: usize, offset: u64, max: usize, out: &mut Vec<u8>) -> usize {
    let appended = out.len() - start;
    let skipped = offset.min(appended as u64) as usize;
    let kept = max.min(appended - skipped);
    if kept < appended {
        out.truncate(start + skipped + kept);
        out.drain(start..start + skipped);
    }
    kept
}
