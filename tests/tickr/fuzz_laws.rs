//! The laws of the other fuzz targets, held on their seeds and on everything that ever broke one of
//! them: they stay true between two runs of the fuzzer, and with a stable compiler.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/laws/answer.rs"]
mod answer;
#[path = "../../fuzz/laws/differential.rs"]
pub(super) mod differential;
#[path = "../../fuzz/laws/settings.rs"]
mod settings;
#[path = "../../fuzz/laws/url.rs"]
mod url;

/// The seeds of a target, of which there are this many at least, and its regressions.
fn hold(target: &str, seeds_min: usize, check: fn(&[u8])) {
    let mut seeds = 0;
    for folder in ["corpus", "regressions"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz")
            .join(folder)
            .join(target);
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            println!("{}", path.display());
            check(&fs::read(&path).expect("a readable file"));
            seeds += 1;
        }
    }
    assert!(seeds >= seeds_min, "{target} has {seeds} inputs");
}

fn text(input: &[u8]) -> &str {
    std::str::from_utf8(input).expect("this target takes text")
}

#[test]
fn the_client_reads_any_answer_alike_in_any_pieces() {
    hold("answer", 15, answer::check);
}

#[test]
fn addresses_that_are_taken_can_be_shown_and_sent() {
    hold("url", 15, |input| url::check(text(input)));
}

#[test]
fn settings_keep_their_bounds_and_their_secrets() {
    hold("settings", 15, |input| settings::check(text(input)));
}

#[test]
fn the_request_parser_differs_from_the_grammar_only_where_it_is_meant() {
    hold("differential", 20, differential::check);
    hold("request", 50, differential::check);
}
