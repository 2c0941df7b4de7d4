//! The laws of the other fuzz targets, held on their seeds and on everything that ever broke one of
//! them: they stay true between two runs of the fuzzer, and with a stable compiler.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

#[path = "../../fuzz/laws/answer.rs"]
mod answer;
#[path = "../../fuzz/laws/differential.rs"]
pub(super) mod differential;
#[path = "../../fuzz/laws/mysql.rs"]
mod mysql_answers;
#[path = "../../fuzz/laws/settings.rs"]
mod settings;
#[path = "../../fuzz/laws/url.rs"]
mod url;

/// The seeds of a target and its regressions, with their names.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut inputs = Vec::new();
    for folder in ["corpus", "regressions"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz")
            .join(folder)
            .join(target);
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            let bytes = fs::read(&path).expect("a readable file");
            inputs.push((path.display().to_string(), bytes));
        }
    }
    // The order of a folder is nobody's.
    inputs.sort();
    inputs
}

/// Holds a law on all of them, of which there are this many at least.
fn hold(target: &str, seeds_min: usize, check: fn(&[u8])) {
    let inputs = inputs(target);
    assert!(inputs.len() >= seeds_min, "{target} has {}", inputs.len());
    for (name, input) in inputs {
        println!("{name}");
        check(&input);
    }
}

/// An input of a target with a few bytes changed, taken out or put in.
fn almost(targets: &[&str], valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> + use<> {
    let inputs = targets.iter().flat_map(|target| inputs(target));
    let inputs: Vec<Vec<u8>> = inputs.map(|(_, input)| input).collect();
    let byte = prop::sample::select(valid);
    let edits = prop::collection::vec((0..4_u8, any::<Index>(), byte, any::<Index>()), 0..6);
    (prop::sample::select(inputs), edits).prop_map(|(mut input, edits)| {
        for (edit, place, byte, other) in edits {
            let place = place.index(input.len() + 1);
            match edit {
                0 => input.insert(place, byte),
                1 if place < input.len() => input[place] = byte,
                2 if place < input.len() => drop(input.remove(place)),
                _ => {
                    // A piece of it stands there once more.
                    let from = other.index(input.len() + 1).min(place);
                    let piece = input[from..place.min(from + 40)].to_vec();
                    input.splice(place..place, piece);
                }
            }
        }
        input
    })
}

/// Every byte, and those more often that mean something.
fn bytes() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..=u8::MAX).collect();
    bytes.extend(b"\r\n\r\n \t:,;/?*[]%.0159aHTP\"\\{}".repeat(8));
    bytes
}

fn ascii() -> Vec<u8> {
    (1..0x7f).chain(b"\n\n@!,:/.[]0129 ".repeat(6)).collect()
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
fn what_mysql_answers_is_taken_as_sent_or_is_an_error() {
    hold("mysql", 50, mysql_answers::check);
}

#[test]
fn the_request_parser_differs_from_the_grammar_only_where_it_is_meant() {
    hold("differential", 20, differential::check);
    hold("request", 50, differential::check);
}

proptest! {
    #[test]
    fn almost_an_answer(input in almost(&["answer"], bytes())) {
        answer::check(&input);
    }

    #[test]
    fn almost_an_address(input in almost(&["url"], ascii())) {
        url::check(text(&input));
    }

    #[test]
    fn almost_settings(input in almost(&["settings"], ascii())) {
        settings::check(text(&input));
    }

    #[test]
    fn almost_an_answer_of_mysql(input in almost(&["mysql"], (0..=u8::MAX).collect())) {
        mysql_answers::check(&input);
    }

    #[test]
    fn almost_a_request(input in almost(&["differential", "request"], bytes())) {
        differential::check(&input);
    }
}
