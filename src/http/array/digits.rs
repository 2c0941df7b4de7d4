//! Numbers as decimal digits: from a table, four at a time.

/// Fills `out` with the last 4 or 8 (`LOW`) digits of a number below 10^`LOW`.
#[inline]
pub(super) fn write_low<const LOW: usize>(number: u64, out: &mut [u8]) {
    let number = number as usize;
    if LOW == 4 {
        out.copy_from_slice(&FOUR_DIGITS[number]);
    } else {
        out[..4].copy_from_slice(&FOUR_DIGITS[number / 10_000]);
        out[4..].copy_from_slice(&FOUR_DIGITS[number % 10_000]);
    }
}

/// Fills `out` with the last digits of any number.
pub(super) fn write_digits(number: u64, out: &mut [u8]) {
    let mut left = number;
    for four in out.rchunks_mut(4) {
        let digits = &FOUR_DIGITS[(left % 10_000) as usize];
        four.copy_from_slice(&digits[4 - four.len()..]);
        left /= 10_000;
    }
}

/// Appends a number in eights of digits, each of them one store.
pub(super) fn append_number(number: u64, out: &mut Vec<u8>) {
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

/// How many decimal digits a number has.
pub(super) fn digits(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
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
