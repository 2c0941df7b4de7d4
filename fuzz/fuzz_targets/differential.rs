//! Any bytes to the request parser and to an independent reading of the RFCs' grammar. Where they
//! may differ stands in `laws/differential.rs`; the tests compare them too.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../laws/differential.rs"]
mod laws;

fuzz_target!(|input: &[u8]| laws::check(input));
