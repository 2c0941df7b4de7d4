//! Any run of tickets, written in any pieces. Law: the promised length is the written length,
//! and a JSON library reads back the same numbers.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tickr::http::array::{Body, Format};
use tickr::ticket::Run;

/// Enough to pass several powers of ten, and every buffer of the writer more than once.
const TICKETS_MAX: u64 = 2_500;

fuzz_target!(|input: &[u8]| {
    if let Some((run, format, pieces)) = decode(input) {
        check(run, format, pieces);
    }
});

/// First ticket (8 bytes), increment (8), count (2) and format (1), in little-endian order; every
/// two bytes behind them are the length of a piece. What is left comes at once.
fn decode(input: &[u8]) -> Option<(Run, Format, &[[u8; 2]])> {
    let (first, rest) = input.split_first_chunk()?;
    let (increment, rest) = rest.split_first_chunk()?;
    let (count, rest) = rest.split_first_chunk()?;
    let (format, rest) = rest.split_first()?;
    let first = u64::from_le_bytes(*first);
    let increment = u64::from_le_bytes(*increment).max(1);
    let room = ((u64::MAX - first) / increment).saturating_add(1);
    let count = u64::from(u16::from_le_bytes(*count))
        .clamp(1, TICKETS_MAX)
        .min(room);
    let format = Format::ALL[usize::from(*format) % Format::ALL.len()];
    Some((
        Run {
            first,
            increment,
            count,
        },
        format,
        rest.as_chunks().0,
    ))
}

fn check(run: Run, format: Format, pieces: &[[u8; 2]]) {
    let body = Body::new(run, format);
    let mut text = Vec::new();
    let mut lengths = pieces.iter().map(|piece| u16::from_le_bytes(*piece).into());
    while (text.len() as u64) < body.len() {
        let before = text.len();
        let max = lengths.next().unwrap_or(usize::MAX).max(1);
        let written = body.write_at(before as u64, max, &mut text);
        assert_eq!(text.len(), before + written);
        assert!(written <= max);
        let left = body.len() - before as u64;
        assert_eq!(written as u64, left.min(max as u64));
    }
    assert_eq!(text.len() as u64, body.len());
    assert_eq!(body.write_at(body.len(), usize::MAX, &mut text), 0);

    let tickets = (0..run.count).map(|index| run.ticket(index));
    match format {
        Format::Array => {
            let read: Vec<u64> = serde_json::from_slice(&text).expect("numbers");
            assert!(read.into_iter().eq(tickets));
        }
        Format::String => {
            let read: Vec<&str> = serde_json::from_slice(&text).expect("strings");
            assert!(
                read.into_iter()
                    .eq(tickets.map(|ticket| ticket.to_string()))
            );
        }
        Format::Range => {
            let read: serde_json::Value = serde_json::from_slice(&text).expect("an object");
            let Run {
                first,
                increment,
                count,
            } = run;
            assert_eq!(
                read,
                json!({ "first": first, "increment": increment, "count": count })
            );
        }
        Format::RangeString => {
            let read: serde_json::Value = serde_json::from_slice(&text).expect("an object");
            let [first, increment, count] =
                [run.first, run.increment, run.count].map(|number| number.to_string());
            assert_eq!(
                read,
                json!({ "first": first, "increment": increment, "count": count })
            );
        }
    }
}
