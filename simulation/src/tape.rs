//! The tape of bytes that drives a history: every choice is read from it, so that a history is
//! repeated by its tape, and made smaller by deleting bytes. Past its end every choice is the
//! first, harmless one.

use std::time::Duration;

/// Bytes, read from the front.
pub struct Tape<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Tape<'a> {
    pub fn new(bytes: &'a [u8]) -> Tape<'a> {
        Tape { bytes, at: 0 }
    }

    pub fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    /// A number below `end`, which is at most 256.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// Yes in so many of 256 cases.
    pub fn chance(&mut self, of_256: u16) -> bool {
        u16::from(self.byte()) + of_256 > 255
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    pub fn millis(&mut self, choices: &[u64]) -> Duration {
        Duration::from_millis(self.pick(choices))
    }
}

/// The tape that a seed stands for.
pub fn expand(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        // SplitMix64: https://doi.org/10.1145/2714064.2660195
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    };
    let length = 64 + next() % 640;
    (0..length.div_ceil(8))
        .flat_map(|_| next().to_le_bytes())
        .collect()
}

/// The shortest tape found for which `fails` still holds: bytes are deleted, then set to 0.
pub fn shrink(mut tape: Vec<u8>, fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut chunk = tape.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < tape.len() {
            let end = (at + chunk).min(tape.len());
            let mut shorter = tape.clone();
            shorter.drain(at..end);
            match fails(&shorter) {
                true => tape = shorter,
                false => at += chunk,
            }
        }
        chunk /= 2;
    }
    for at in 0..tape.len() {
        let mut simpler = tape.clone();
        simpler[at] = 0;
        if fails(&simpler) {
            tape = simpler;
        }
    }
    tape
}
