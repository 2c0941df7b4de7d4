//! Any rows and counts as the answers of a MySQL server. The laws stand in `laws/mysql.rs`, because
//! the tests hold them too.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../laws/mysql.rs"]
mod laws;

fuzz_target!(|input: &[u8]| laws::check(input));
