//! Any text as the settings of a command. The laws stand in `laws/settings.rs`, because the tests
//! hold them too.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../laws/settings.rs"]
mod laws;

fuzz_target!(|input: &str| laws::check(input));
