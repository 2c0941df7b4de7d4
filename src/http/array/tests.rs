//! Runs of every kind, against the same text written the slow way.

use super::*;
use proptest::prelude::*;

fn run(first: u64, increment: u64, count: u64) -> Run {
    Run {
        first,
        increment,
        count,
    }
}

fn whole(run: Run, format: Format) -> String {
    let mut out = Vec::new();
    let body = Body::new(run, format);
    assert_eq!(body.write_at(0, usize::MAX, &mut out) as u64, body.len());
    String::from_utf8(out).unwrap()
}

/// The same, the slow way.
fn reference(run: Run, format: Format) -> String {
    let tickets = (0..run.count).map(|index| run.ticket(index));
    match format {
        Format::Array => serde_json::to_string(&tickets.collect::<Vec<u64>>()).unwrap(),
        Format::String => {
            let tickets: Vec<String> = tickets.map(|ticket| ticket.to_string()).collect();
            serde_json::to_string(&tickets).unwrap()
        }
        Format::Range => {
            let Run {
                first,
                increment,
                count,
            } = run;
            format!(r#"{{"first":{first},"increment":{increment},"count":{count}}}"#)
        }
        Format::RangeString => {
            let numbers = [run.first, run.increment, run.count];
            let [first, increment, count] = numbers.map(|number| number.to_string());
            format!(r#"{{"first":"{first}","increment":"{increment}","count":"{count}"}}"#)
        }
    }
}

#[test]
fn looks_as_documented() {
    let tickets = run(54_313_005, 4, 5);
    let array = "[54313005,54313009,54313013,54313017,54313021]";
    assert_eq!(whole(tickets, Format::Array), array);
    assert_eq!(whole(run(1, 4, 3), Format::String), r#"["1","5","9"]"#);
    let range = r#"{"first":54313005,"increment":4,"count":5}"#;
    assert_eq!(whole(tickets, Format::Range), range);
    let range = r#"{"first":"54313005","increment":"4","count":"5"}"#;
    assert_eq!(whole(tickets, Format::RangeString), range);
    assert_eq!(whole(run(54_313_001, 4, 1), Format::Array), "[54313001]");
    assert_eq!(whole(run(0, 1, 1), Format::String), r#"["0"]"#);
}

#[test]
fn has_names() {
    for format in Format::ALL {
        assert_eq!(
            Format::from_name(format.to_string().as_bytes()),
            Some(format)
        );
    }
    for name in [&b""[..], b"Array", b"array ", b"json"] {
        assert_eq!(Format::from_name(name), None);
    }
}

#[test]
fn the_longest_batch_has_an_exact_end() {
    let increment = 18_000_000_000;
    let first = u64::MAX - (limits::BATCH_MAX - 1) * increment;
    for format in [Format::Array, Format::String] {
        let body = Body::new(run(first, increment, limits::BATCH_MAX), format);
        let mut end = Vec::new();
        assert_eq!(body.write_at(body.len() - 30, usize::MAX, &mut end), 30);
        let end = String::from_utf8(end).unwrap();
        assert!(
            end.trim_end_matches(['"', ']'])
                .ends_with("18446744073709551615"),
            "{end}"
        );
        assert!(end.ends_with(']'));
        assert_eq!(body.write_at(body.len(), 9, &mut Vec::new()), 0);
        assert_eq!(body.write_at(u64::MAX, usize::MAX, &mut Vec::new()), 0);
    }
}

#[test]
fn a_piece_never_grows_a_buffer_with_some_room_to_spare() {
    let batch = run(u64::MAX - 40_000, 1, 40_000);
    for format in Format::ALL {
        let body = Body::new(batch, format);
        let mut out = Vec::with_capacity(1_000 + 128);
        let capacity = out.capacity();
        let mut offset = 0;
        while offset < body.len() {
            out.clear();
            let written = body.write_at(offset, 1_000, &mut out);
            assert!(written > 0, "a piece of nothing");
            offset += written as u64;
            assert_eq!(out.capacity(), capacity);
        }
    }
}

#[test]
fn a_number_of_each_length_is_written_whole() {
    for power in (0..20).map(|digits| 10u64.pow(digits)) {
        for number in [power - 1, power, power + 1] {
            assert_eq!(
                whole(run(number, 1, 1), Format::Array),
                format!("[{number}]")
            );
        }
    }
}

#[test]
fn a_long_run_that_grows_through_many_lengths_is_whole() {
    for batch in [
        run(0, 1, 20_000),
        run(5, 700, 20_000),
        run(1, 98_765, 20_000),
    ] {
        for format in [Format::Array, Format::String] {
            assert_eq!(whole(batch, format), reference(batch, format));
        }
    }
}

/// The widest cells, in the longest cycle.
#[test]
fn a_long_run_of_the_longest_numbers_is_whole() {
    let batch = run(u64::MAX - 40_000, 1, 40_000);
    for format in [Format::Array, Format::String] {
        assert_eq!(whole(batch, format), reference(batch, format));
    }
}

/// Numbers of every length alike.
fn numbers() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift)
}

/// Runs that often pass a power of ten or end at the last 64-bit number.
fn runs(count_max: u64) -> impl Strategy<Value = Run> {
    let increments = prop_oneof![
        1..=16u64,
        1..=20_000u64,
        (1..=64u64, 0..7u32).prop_map(|(number, zeros)| number * 10u64.pow(zeros)),
        numbers(),
    ];
    let around = prop_oneof![
        4 => (0..20u32).prop_map(|power| 10u64.pow(power)),
        1 => Just(u64::MAX),
        2 => numbers(),
    ];
    let counts = prop_oneof![Just(1), 1..=40u64, 1..=count_max];
    (increments, around, counts, 0..=count_max).prop_map(|(increment, around, count, back)| {
        let increment = increment.max(1);
        let back = (back % count).saturating_mul(increment);
        let first = around.saturating_sub(back);
        let room = ((u64::MAX - first) / increment).saturating_add(1);
        run(first, increment, count.min(room))
    })
}

fn formats() -> impl Strategy<Value = Format> {
    prop::sample::select(&Format::ALL[..])
}

proptest! {
    #[test]
    fn is_what_a_json_library_writes(run in runs(3_000), format in formats()) {
        let body = whole(run, format);
        prop_assert_eq!(&body, &reference(run, format));
        prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
    }

    #[test]
    fn any_pieces_make_the_whole(
        run in runs(8_000),
        format in formats(),
        sizes in prop_oneof![
            prop::collection::vec(1..1_500usize, 1..20),
            prop::collection::vec(1..60_000usize, 1..20),
        ],
    ) {
        let body = Body::new(run, format);
        let mut out = b"before".to_vec();
        let mut offset = 0;
        for size in sizes.iter().cycle() {
            let left = body.len() - offset;
            if left == 0 {
                break;
            }
            let length = out.len();
            let written = body.write_at(offset, *size, &mut out);
            prop_assert_eq!(written as u64, left.min(*size as u64));
            prop_assert_eq!(out.len(), length + written);
            offset += written as u64;
        }
        let out = String::from_utf8(out).unwrap();
        prop_assert_eq!(out, format!("before{}", reference(run, format)));
    }

    #[test]
    fn any_piece_is_that_part_of_the_whole(
        run in runs(200),
        format in formats(),
        place in any::<prop::sample::Index>(),
        max in prop_oneof![0..60usize, Just(usize::MAX)],
    ) {
        let reference = reference(run, format);
        let offset = place.index(reference.len() + 2);
        let rest = reference.as_bytes().get(offset..).unwrap_or_default();
        let mut out = Vec::new();
        Body::new(run, format).write_at(offset as u64, max, &mut out);
        prop_assert_eq!(out, &rest[..rest.len().min(max)]);
    }
}
