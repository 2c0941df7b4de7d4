//! A run of tickets as a JSON body. A batch can be megabytes long, so its length is known by
//! arithmetic before a byte of it exists, and any piece of it can be rendered from its offset:
//! a client that reads slowly costs no memory.

use std::fmt;

use crate::limits;
use crate::ticket::Run;

/// How a run is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `[1,5,9]`
    Array,
    /// `["1","5","9"]`, for readers such as JavaScript that can't hold integers over 2^53.
    String,
    /// `{"first":1,"increment":4,"count":3}`
    Range,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 3] = [Format::Array, Format::String, Format::Range];

    /// The format of this name, as it stands in a query or in a setting.
    pub fn from_name(name: &[u8]) -> Option<Format> {
        Format::ALL
            .into_iter()
            .find(|format| format.name().as_bytes() == name)
    }

    /// The name: `array`, `string` or `range`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Array => "array",
            Format::String => "string",
            Format::Range => "range",
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
            Format::Range => {
                let Run {
                    first,
                    increment,
                    count,
                } = self.run;
                let numbers: usize = [first, increment, count].map(digits).iter().sum();
                let marks: usize = RANGE.iter().map(|mark| mark.len()).sum();
                (marks + numbers + 1) as u64
            }
        }
    }

    /// Appends the bytes from `offset` to `out`: `max` of them, or as many as are left. Returns
    /// how many. On the way `out` may hold a few bytes more; with room for 128 bytes beyond `max`
    /// it never has to grow.
    pub fn write_at(&self, offset: u64, max: usize, out: &mut Vec<u8>) -> usize {
        match self.format {
            Format::Array => List::new(self.run, &ARRAY).write_at(offset, max, out),
            Format::String => List::new(self.run, &STRING).write_at(offset, max, out),
            Format::Range => {
                let start = out.len();
                let Run {
                    first,
                    increment,
                    count,
                } = self.run;
                for (mark, number) in RANGE.into_iter().zip([first, increment, count]) {
                    out.extend_from_slice(mark);
                    append_number(number, out);
                }
                out.push(b'}');
                keep(start, offset, max, out)
            }
        }
    }
}

/// What stands before each of the three numbers of a range; `}` ends it.
const RANGE: [&[u8]; 3] = [br#"{"first":"#, br#","increment":"#, br#","count":"#];

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
            if skip > 0 {
                at += self.write_cell(index, skip, end - at, out);
                index += 1;
            }
            // The last cell of the run ends in another mark.
            let alike = group.to.min(self.run.count - 1).saturating_sub(index);
            let count = alike.min((end - at) / width);
            if count > 0 {
                self.write_cells(index, count, group.digits, out);
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

    /// Appends `count` whole cells of one width, from the ticket at `index`.
    fn write_cells(&self, index: u64, count: u64, digits: usize, out: &mut Vec<u8>) {
        if count < FAST_CELLS_MIN || digits < 4 {
            for index in index..index + count {
                append_number(self.run.ticket(index), out);
                out.extend_from_slice(self.marks.between);
            }
        } else if digits < 8 || self.run.increment < 10_000 {
            self.write_cells_by::<4>(index, count, digits, out);
        } else {
            self.write_cells_by::<8>(index, count, digits, out);
        }
    }

    /// Every cell begins as a copy of a template, which has the high digits and the mark, and
    /// gets its low digits (`LOW` of them, 4 or 8) from a table. Copies have a fixed size, so
    /// that they are single stores; the next cell overwrites what was too much. The template
    /// changes only when the low digits overflow.
    fn write_cells_by<const LOW: usize>(
        &self,
        index: u64,
        count: u64,
        digits: usize,
        out: &mut Vec<u8>,
    ) {
        let width = digits + self.marks.between.len();
        let high_digits = (digits - LOW).min(CELL_BYTES_MAX - LOW);
        let power = 10u64.pow(LOW as u32);
        let first = self.run.ticket(index);
        let (mut high, mut low) = (first / power, first % power);
        let (high_step, low_step) = (self.run.increment / power, self.run.increment % power);
        let mut template = [0; CELL_BYTES_MAX];
        template[digits..width].copy_from_slice(self.marks.between);
        write_digits(high, &mut template[..high_digits]);

        let mut stage = [0; STAGE_BYTES];
        let mut left = count;
        while left > 0 {
            let cells = left.min(((STAGE_BYTES - CELL_BYTES_MAX) / width) as u64);
            let mut at = 0;
            for _ in 0..cells {
                let cell: &mut [u8; CELL_BYTES_MAX] = stage[at..]
                    .first_chunk_mut()
                    .expect("the stage has room for the widest cell");
                if width <= CELL_BYTES_MAX / 2 {
                    cell[..CELL_BYTES_MAX / 2].copy_from_slice(&template[..CELL_BYTES_MAX / 2]);
                } else {
                    *cell = template;
                }
                write_low::<LOW>(low, &mut cell[high_digits..high_digits + LOW]);
                at += width;
                low += low_step;
                if low >= power || high_step > 0 {
                    high += high_step + low / power;
                    low %= power;
                    write_digits(high, &mut template[..high_digits]);
                }
            }
            out.extend_from_slice(&stage[..at]);
            left -= cells;
        }
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

/// Room for the widest cell: 20 digits and a mark of 3 characters.
const CELL_BYTES_MAX: usize = 32;
/// Cells are made here, close to the processor, and then copied to where they belong.
const STAGE_BYTES: usize = 4096;
/// Fewer cells than this are not worth the preparation.
const FAST_CELLS_MIN: u64 = 16;

/// Fills `out` with the last 4 or 8 (`LOW`) digits of a number below 10^`LOW`.
#[inline]
fn write_low<const LOW: usize>(number: u64, out: &mut [u8]) {
    let number = number as usize;
    if LOW == 4 {
        out.copy_from_slice(&FOUR_DIGITS[number]);
    } else {
        out[..4].copy_from_slice(&FOUR_DIGITS[number / 10_000]);
        out[4..].copy_from_slice(&FOUR_DIGITS[number % 10_000]);
    }
}

/// Fills `out` with the last digits of any number.
fn write_digits(number: u64, out: &mut [u8]) {
    let mut left = number;
    for four in out.rchunks_mut(4) {
        let digits = &FOUR_DIGITS[(left % 10_000) as usize];
        four.copy_from_slice(&digits[4 - four.len()..]);
        left /= 10_000;
    }
}

/// Appends a number in eights of digits, each of them one store.
fn append_number(number: u64, out: &mut Vec<u8>) {
    const EIGHT: u64 = 100_000_000;
    if number < EIGHT {
        append_leading(number, out);
        return;
    }
    let high = number / EIGHT;
    if high < EIGHT {
        append_leading(high, out);
    } else {
        append_leading(high / EIGHT, out);
        out.extend_from_slice(&eight_digits(high % EIGHT));
    }
    out.extend_from_slice(&eight_digits(number % EIGHT));
}

/// Appends a number below 10^8.
#[inline]
fn append_leading(number: u64, out: &mut Vec<u8>) {
    let characters = u64::from_le_bytes(eight_digits(number));
    let values = characters & 0x0f0f_0f0f_0f0f_0f0f;
    let zeros = (values.trailing_zeros() / 8).min(7);
    out.extend_from_slice(&(characters >> (8 * zeros)).to_le_bytes());
    out.truncate(out.len() - zeros as usize);
}

#[inline]
fn eight_digits(number: u64) -> [u8; 8] {
    let mut digits = [0; 8];
    write_low::<8>(number, &mut digits);
    digits
}

/// How many decimal digits a number has.
fn digits(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
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

/// The characters of every number below 10,000, leading zeros included.
static FOUR_DIGITS: [[u8; 4]; 10_000] = {
    let mut table = [[0; 4]; 10_000];
    let mut number = 0;
    while number < table.len() {
        let mut left = number;
        let mut place = 4;
        while place > 0 {
            place -= 1;
            table[number][place] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        number += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(first: u64, increment: u64, count: u64) -> Run {
        Run {
            first,
            increment,
            count,
        }
    }

    fn whole(run: Run, format: Format) -> String {
        let mut out = Vec::new();
        let body = Body::new(run, format);
        assert_eq!(body.write_at(0, usize::MAX, &mut out) as u64, body.len());
        String::from_utf8(out).unwrap()
    }

    /// The same, the slow way.
    fn reference(run: Run, format: Format) -> String {
        let tickets = (0..run.count).map(|index| run.ticket(index));
        match format {
            Format::Array => serde_json::to_string(&tickets.collect::<Vec<u64>>()).unwrap(),
            Format::String => {
                let tickets: Vec<String> = tickets.map(|ticket| ticket.to_string()).collect();
                serde_json::to_string(&tickets).unwrap()
            }
            Format::Range => {
                let Run {
                    first,
                    increment,
                    count,
                } = run;
                format!(r#"{{"first":{first},"increment":{increment},"count":{count}}}"#)
            }
        }
    }

    #[test]
    fn looks_as_documented() {
        let tickets = run(54_313_005, 4, 5);
        let array = "[54313005,54313009,54313013,54313017,54313021]";
        assert_eq!(whole(tickets, Format::Array), array);
        assert_eq!(whole(run(1, 4, 3), Format::String), r#"["1","5","9"]"#);
        let range = r#"{"first":54313005,"increment":4,"count":5}"#;
        assert_eq!(whole(tickets, Format::Range), range);
        assert_eq!(whole(run(54_313_001, 4, 1), Format::Array), "[54313001]");
        assert_eq!(whole(run(0, 1, 1), Format::String), r#"["0"]"#);
    }

    #[test]
    fn has_names() {
        for format in Format::ALL {
            assert_eq!(
                Format::from_name(format.to_string().as_bytes()),
                Some(format)
            );
        }
        for name in [&b""[..], b"Array", b"array ", b"json"] {
            assert_eq!(Format::from_name(name), None);
        }
    }

    #[test]
    fn the_longest_batch_has_an_exact_end() {
        let increment = 18_000_000_000;
        let first = u64::MAX - (limits::BATCH_MAX - 1) * increment;
        for format in [Format::Array, Format::String] {
            let body = Body::new(run(first, increment, limits::BATCH_MAX), format);
            let mut end = Vec::new();
            assert_eq!(body.write_at(body.len() - 30, usize::MAX, &mut end), 30);
            let end = String::from_utf8(end).unwrap();
            assert!(
                end.trim_end_matches(['"', ']'])
                    .ends_with("18446744073709551615"),
                "{end}"
            );
            assert!(end.ends_with(']'));
            assert_eq!(body.write_at(body.len(), 9, &mut Vec::new()), 0);
            assert_eq!(body.write_at(u64::MAX, usize::MAX, &mut Vec::new()), 0);
        }
    }

    #[test]
    fn a_piece_never_grows_a_buffer_with_some_room_to_spare() {
        let batch = run(u64::MAX - 40_000, 1, 40_000);
        for format in Format::ALL {
            let body = Body::new(batch, format);
            let mut out = Vec::with_capacity(1_000 + 128);
            let capacity = out.capacity();
            let mut offset = 0;
            while offset < body.len() {
                out.clear();
                offset += body.write_at(offset, 1_000, &mut out) as u64;
                assert_eq!(out.capacity(), capacity);
            }
        }
    }

    /// Numbers of every length alike.
    fn numbers() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift)
    }

    /// Runs that often pass a power of ten or end at the last 64-bit number.
    fn runs(count_max: u64) -> impl Strategy<Value = Run> {
        let increments = prop_oneof![1..=16u64, 1..=20_000u64, numbers()];
        let around = prop_oneof![
            4 => (0..20u32).prop_map(|power| 10u64.pow(power)),
            1 => Just(u64::MAX),
            2 => numbers(),
        ];
        let counts = prop_oneof![Just(1), 1..=40u64, 1..=count_max];
        (increments, around, counts, 0..=count_max).prop_map(|(increment, around, count, back)| {
            let increment = increment.max(1);
            let back = (back % count).saturating_mul(increment);
            let first = around.saturating_sub(back);
            let room = ((u64::MAX - first) / increment).saturating_add(1);
            run(first, increment, count.min(room))
        })
    }

    fn formats() -> impl Strategy<Value = Format> {
        prop::sample::select(&Format::ALL[..])
    }

    proptest! {
        #[test]
        fn is_what_a_json_library_writes(run in runs(3_000), format in formats()) {
            let body = whole(run, format);
            prop_assert_eq!(&body, &reference(run, format));
            prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
        }

        #[test]
        fn any_pieces_make_the_whole(
            run in runs(600),
            format in formats(),
            sizes in prop::collection::vec(1..1_500usize, 1..20),
        ) {
            let body = Body::new(run, format);
            let mut out = b"before".to_vec();
            let mut offset = 0;
            for size in sizes.iter().cycle() {
                let left = body.len() - offset;
                if left == 0 {
                    break;
                }
                let length = out.len();
                let written = body.write_at(offset, *size, &mut out);
                prop_assert_eq!(written as u64, left.min(*size as u64));
                prop_assert_eq!(out.len(), length + written);
                offset += written as u64;
            }
            let out = String::from_utf8(out).unwrap();
            prop_assert_eq!(out, format!("before{}", reference(run, format)));
        }

        #[test]
        fn any_piece_is_that_part_of_the_whole(
            run in runs(200),
            format in formats(),
            place in any::<prop::sample::Index>(),
            max in prop_oneof![0..60usize, Just(usize::MAX)],
        ) {
            let reference = reference(run, format);
            let offset = place.index(reference.len() + 2);
            let rest = reference.as_bytes().get(offset..).unwrap_or_default();
            let mut out = Vec::new();
            Body::new(run, format).write_at(offset as u64, max, &mut out);
            prop_assert_eq!(out, &rest[..rest.len().min(max)]);
        }
    }
}
