//! Any bytes to the request parser and, behind a head, to the body decoder. The laws that they
//! must keep stand in `laws/request.rs`, because the tests hold them too.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../laws/request.rs"]
mod laws;

fuzz_target!(|input: &[u8]| laws::check(input));
