//! Many cells of one width, each a ticket and the mark behind it: the bulk of a batch, and so
//! the one place where it matters what a digit costs.
//!
//! The low digits of a run repeat: those of 1, 5, 9, … come round every 25 tickets if they are
//! two, every 250 if they are three. One such cycle is made cell by cell. All other cells are
//! copies of it, with the high digits put in while they are copied; those are the same for many
//! cells, so that this is one `or` for sixteen bytes.

use std::iter;

use super::digits::{append_number, write_digits, write_low};

/// Neighbouring cells of one width.
pub(super) struct Cells {
    /// The first ticket.
    pub(super) first: u64,
    /// The distance between two tickets.
    pub(super) increment: u64,
    pub(super) count: u64,
    /// How many digits each ticket has.
    pub(super) digits: usize,
    /// What stands behind each ticket.
    pub(super) mark: &'static [u8],
}

/// How often the lowest digits repeat.
#[derive(Clone, Copy)]
struct Cycle {
    /// 10 to the power of how many digits these are.
    power: u64,
    low_digits: usize,
    /// Cells until they repeat.
    cells: u64,
}

impl Cells {
    /// Appends them all.
    pub(super) fn append(&self, out: &mut Vec<u8>) {
        if self.digits < 4 || !self.is_worth_preparing() {
            for index in 0..self.count {
                append_number(self.first + index * self.increment, out);
                out.extend_from_slice(self.mark);
            }
            return;
        }
        match self.cycle() {
            Some(cycle) => self.append_cycles(cycle, out),
            None => self.append_each(out),
        }
    }

    fn width(&self) -> usize {
        self.digits + self.mark.len()
    }

    fn is_worth_preparing(&self) -> bool {
        self.count >= FAST_CELLS_MIN && self.increment < FAST_INCREMENT_MAX
    }

    /// The cycle that makes the least work, if any makes less than to write each cell.
    fn cycle(&self) -> Option<Cycle> {
        let each = (self.count, None);
        let cycles = self
            .cycles()
            .map(|cycle| (self.work_of(&cycle), Some(cycle)));
        let (_, least) = iter::once(each)
            .chain(cycles)
            .min_by_key(|(work, _)| *work)?;
        least
    }

    /// The cycles that come round at least once and fit into a block, the shortest first.
    fn cycles(&self) -> impl Iterator<Item = Cycle> {
        let most = self.count.min((BLOCK_BYTES_MAX / self.width()) as u64);
        let (mut power, mut cells, mut increment) = (1, 1, self.increment);
        let cycles = (1..self.digits).map(move |low_digits| {
            power *= 10;
            for factor in [2, 5] {
                if increment % factor == 0 {
                    increment /= factor;
                } else {
                    cells *= factor;
                }
            }
            Cycle {
                power,
                low_digits,
                cells,
            }
        });
        cycles.take_while(move |cycle| cycle.cells <= most)
    }

    /// In cells that are written one by one.
    fn work_of(&self, cycle: &Cycle) -> u64 {
        // How often the high digits change.
        let changes = (self.count - 1) * self.increment / cycle.power;
        SETUP_WORK + self.count / 3 + 2 * cycle.cells + CHANGE_WORK * changes
    }

    fn append_cycles(&self, cycle: Cycle, out: &mut Vec<u8>) {
        let width = self.width();
        let high_digits = self.digits - cycle.low_digits;
        let mut block = [0; BLOCK_ROOM];
        self.fill(self.first, cycle.cells, &mut block);
        let block = &mut block[..cycle.cells as usize * width];
        let mut row = [0; ROW_CELLS * CELL_BYTES_MAX];
        let mut template = [0xff; CELL_BYTES_MAX];
        template[..high_digits].fill(0);
        fill_row(&template, width, &mut row);
        for cells in block.chunks_mut(ROW_CELLS * width) {
            for (byte, mask) in cells.iter_mut().zip(&row) {
                *byte &= mask;
            }
        }
        let mut template = [0; CELL_BYTES_MAX];
        let mut high = None;
        let mut index = 0;
        while index < self.count {
            let ticket = self.first + index * self.increment;
            let ticket_high = ticket / cycle.power;
            if high.replace(ticket_high) != Some(ticket_high) {
                write_digits(ticket_high, &mut template[..high_digits]);
                fill_row(&template, width, &mut row);
            }
            let from = index % cycle.cells;
            let alike = (cycle.power - ticket % cycle.power).div_ceil(self.increment);
            let count = alike.min(cycle.cells - from).min(self.count - index);
            let low = &block[from as usize * width..][..count as usize * width];
            for low in low.chunks(ROW_CELLS * width) {
                // An iterator of known length fills the spare room of `out` with no zeros first.
                out.extend(low.iter().zip(&row).map(|(low, high)| low | high));
            }
            index += count;
        }
    }

    fn append_each(&self, out: &mut Vec<u8>) {
        let mut stage = [0; STAGE_ROOM];
        let room = (STAGE_BYTES / self.width()) as u64;
        let mut index = 0;
        while index < self.count {
            let count = room.min(self.count - index);
            self.fill(self.first + index * self.increment, count, &mut stage);
            out.extend_from_slice(&stage[..count as usize * self.width()]);
            index += count;
        }
    }

    /// Fills the start of `out` with `count` cells, from that ticket on. It may write a few
    /// bytes more.
    fn fill(&self, first: u64, count: u64, out: &mut [u8]) {
        if self.digits >= 8 && 500 <= self.increment {
            self.fill_by::<8>(first, count, out);
        } else {
            self.fill_by::<4>(first, count, out);
        }
    }

    /// Every cell begins as a copy of a template, which has the high digits and the mark, and
    /// gets its low digits (`LOW` of them, 4 or 8) from a table. Copies have a fixed size, so
    /// that they are single stores; the next cell overwrites what was too much. The template
    /// changes only when the low digits overflow.
    fn fill_by<const LOW: usize>(&self, first: u64, count: u64, out: &mut [u8]) {
        let width = self.width();
        let high_digits = (self.digits - LOW).min(CELL_BYTES_MAX - LOW);
        let power = 10u64.pow(LOW as u32);
        let (mut high, mut low) = (first / power, first % power);
        let (high_step, low_step) = (self.increment / power, self.increment % power);
        let mut template = [0; CELL_BYTES_MAX];
        template[self.digits..width].copy_from_slice(self.mark);
        write_digits(high, &mut template[..high_digits]);
        let mut at = 0;
        for _ in 0..count {
            let cell: &mut [u8; CELL_BYTES_MAX] = out[at..]
                .first_chunk_mut()
                .expect("there is room for the widest cell");
            if width <= HALF_CELL {
                cell[..HALF_CELL].copy_from_slice(&template[..HALF_CELL]);
            } else {
                *cell = template;
            }
            write_low::<LOW>(low, &mut cell[high_digits..high_digits + LOW]);
            at += width;
            low += low_step;
            if low >= power || high_step != 0 {
                high += high_step + low / power;
                low %= power;
                write_digits(high, &mut template[..high_digits]);
            }
        }
    }
}

/// Repeats what all cells of a row have in common.
fn fill_row(template: &[u8; CELL_BYTES_MAX], width: usize, row: &mut [u8]) {
    for cell in 0..ROW_CELLS {
        // As in `fill_by`: one store, and the next cell overwrites what was too much.
        row[cell * width..][..CELL_BYTES_MAX].copy_from_slice(template);
    }
}

/// Room for the widest cell: 20 digits and a mark of 3 characters.
const CELL_BYTES_MAX: usize = 32;
const HALF_CELL: usize = CELL_BYTES_MAX / 2;
/// Fewer cells than this are not worth the preparation.
const FAST_CELLS_MIN: u64 = 16;
/// With a larger increment every cell has other high digits.
const FAST_INCREMENT_MAX: u64 = 10_000_000;
/// Cells are made here, close to the processor, and then copied to where they belong.
const STAGE_BYTES: usize = 4096;
const STAGE_ROOM: usize = STAGE_BYTES + CELL_BYTES_MAX;
/// The longest cycle: one of three digits always fits.
const BLOCK_BYTES_MAX: usize = 1000 * 23;
const BLOCK_ROOM: usize = BLOCK_BYTES_MAX + CELL_BYTES_MAX;
/// The high digits are written for this many cells at once; a row of them is a multiple of the
/// 32 bytes that are copied by one turn of a loop.
const ROW_CELLS: usize = 32;
/// Other high digits cost as much as to write this many cells.
const CHANGE_WORK: u64 = 20;
/// A cycle costs as much as to write this many cells before it is begun.
const SETUP_WORK: u64 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(digits: usize, increment: u64, count: u64, mark: &'static [u8]) -> Cells {
        let first = 10u64.pow(digits as u32 - 1);
        Cells {
            first,
            increment,
            count,
            digits,
            mark,
        }
    }

    /// How many low digits come from the cycle that is chosen, and how many cells that has.
    fn chosen(
        digits: usize,
        increment: u64,
        count: u64,
        mark: &'static [u8],
    ) -> Option<(usize, u64)> {
        let cells = cells(digits, increment, count, mark);
        let cycle = cells.cycle()?;
        assert_eq!(cycle.power, 10u64.pow(cycle.low_digits as u32));
        assert_eq!(increment * cycle.cells % cycle.power, 0, "it comes round");
        Some((cycle.low_digits, cycle.cells))
    }

    #[test]
    fn the_longer_a_run_the_longer_is_the_cycle_that_pays() {
        // Of every fourth number, two digits come round after 25 of them, and three after 250.
        assert_eq!(chosen(8, 4, 300, b","), None);
        assert_eq!(chosen(8, 4, 10_000, b","), Some((3, 250)));
        assert_eq!(chosen(8, 4, 100_000, b","), Some((4, 2_500)));
        // Of every hundred-thousandth, five are always zero.
        assert_eq!(chosen(8, 100_000, 10_000, b","), Some((7, 100)));
        assert_eq!(
            chosen(10, 123, 20_000, b","),
            None,
            "the high digits change too often"
        );
    }

    #[test]
    fn a_cycle_of_three_digits_fits_into_a_block_and_none_of_four() {
        assert_eq!(chosen(8, 1, 10_000_000, b","), Some((3, 1_000)));
        assert_eq!(chosen(20, 1, 10_000_000, br#"",""#), Some((3, 1_000)));
    }
}
