//! Any text as a server's URL and as a place to listen. The laws stand in `laws/url.rs`, because
//! the tests hold them too.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../laws/url.rs"]
mod laws;

fuzz_target!(|input: &str| laws::check(input));
