//! Any bytes, as the answer of a server, to the client's reader. The laws stand in
//! `laws/answer.rs`, because the tests hold them too.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../laws/answer.rs"]
mod laws;

fuzz_target!(|input: &[u8]| laws::check(input));
