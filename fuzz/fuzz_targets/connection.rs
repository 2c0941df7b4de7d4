//! Bytes and split points to a connection. The law that it must keep stands in
//! `laws/connection.rs`, because the tests use it too.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../laws/connection.rs"]
mod laws;

use laws::{Split, answers};

// The first byte says how many splits follow, four bytes each; the rest is what the client sends.
fuzz_target!(|data: &[u8]| {
    let Some((count, rest)) = data.split_first() else {
        return;
    };
    let (splits, input) = rest.split_at(rest.len().min(4 * usize::from(*count)));
    let splits: Vec<Split> = splits
        .chunks_exact(4)
        .map(|split| Split {
            bytes: split[0].into(),
            complete: split[1].into(),
            taken: u16::from_be_bytes([split[2], split[3]]).into(),
        })
        .collect();
    let at_once = answers(input, &[]);
    let in_pieces = answers(input, &splits);
    assert_eq!(
        String::from_utf8_lossy(&at_once),
        String::from_utf8_lossy(&in_pieces)
    );
});
