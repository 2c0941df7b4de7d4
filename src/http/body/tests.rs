//! Bodies as tables, each bound at its edge, and every split of each of them.

use super::*;

/// What a body comes to: the bytes that belong to it and whether it has ended, or why not.
type Outcome = Result<Progress, Reject>;

/// Gives the pieces one after the other, until the body ends.
fn decode<'a>(framing: BodyFraming, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = Decoder::new(framing);
    let mut total = decoder.consume(b"")?;
    for piece in pieces {
        let progress = decoder.consume(piece)?;
        total.consumed += progress.consumed;
        total.done = progress.done;
        if total.done {
            break;
        }
        assert_eq!(progress.consumed, piece.len(), "it stops only at its end");
    }
    Ok(total)
}

/// Decodes `input`, and holds that no split of it changes what comes of it.
fn outcome(framing: BodyFraming, input: &[u8]) -> Outcome {
    let whole = decode(framing, [input]);
    assert_eq!(
        decode(framing, input.chunks(1)),
        whole,
        "{}",
        input.escape_ascii()
    );
    for middle in 0..=input.len().min(512) {
        let (first, second) = input.split_at(middle);
        let halves = decode(framing, [first, second]);
        assert_eq!(halves, whole, "at {middle} of {}", input.escape_ascii());
    }
    whole
}

fn chunked(input: &[u8]) -> Outcome {
    outcome(BodyFraming::Chunked, input)
}

fn ended(consumed: usize) -> Outcome {
    Ok(Progress {
        consumed,
        done: true,
    })
}

fn open(consumed: usize) -> Outcome {
    Ok(Progress {
        consumed,
        done: false,
    })
}

#[test]
fn known_lengths() {
    assert_eq!(outcome(BodyFraming::None, b"GET / "), ended(0));
    assert_eq!(outcome(BodyFraming::Length(5), b"12345GET / "), ended(5));
    assert_eq!(outcome(BodyFraming::Length(5), b"1234"), open(4));
    assert_eq!(outcome(BodyFraming::Length(1), b""), open(0));
}

#[test]
fn chunks() {
    for body in [
        &b"0\r\n\r\n"[..],
        b"000\r\n\r\n",
        b"5\r\n12345\r\n0\r\n\r\n",
        b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
        b"0a\r\n0123456789\r\n0\r\n\r\n",
        b"2\r\n\r\n\r\n0\r\n\r\n",
        b"5\r\n0\r\n\r\n\r\n0\r\n\r\n",
        b"1;a\r\n1\r\n0;b=c;d=\"e;f\"\r\n\r\n",
        b"1 \t;\ta = b\r\n1\r\n0\r\n\r\n",
        b"1;\xff\r\n1\r\n0\r\n\r\n",
        b"0\r\nA: b\r\n\r\n",
        b"0\r\nA:\r\nContent-Length: 5\r\n\r\n",
        b"0\r\nA: \xff\tb \r\n\r\n",
    ] {
        let next = [body, b"GET /"].concat();
        assert_eq!(chunked(&next), ended(body.len()), "{}", body.escape_ascii());
        for length in 0..body.len() {
            assert_eq!(chunked(&body[..length]), open(length));
        }
    }
}

#[test]
fn malformed_chunks() {
    for body in [
        &b"\r\n"[..],
        b"g\r\n",
        b" 5\r\n12345\r\n",
        b"+5\r\n12345\r\n",
        b"-5\r\n12345\r\n",
        b"0x5\r\n12345\r\n",
        b"5h\r\n12345\r\n",
        b"5 \r\n12345\r\n",
        b"5\t\r\n12345\r\n",
        b"5 5\r\n12345\r\n",
        b"5,\r\n12345\r\n",
        b";a\r\n",
        b"\0",
        b"5\n12345\r\n",
        b"5\r12345\r\n",
        b"5\r\r\n12345\r\n",
        b"5;a\n12345\r\n",
        b"5;a\rb\r\n12345\r\n",
        b"5;\0\r\n12345\r\n",
        b"5;\x7f\r\n12345\r\n",
        b"5\r\n12345\n0\r\n\r\n",
        b"5\r\n12345\r0\r\n\r\n",
        b"5\r\n12345x\n0\r\n\r\n",
        b"5\r\n123456\r\n0\r\n\r\n",
        b"5\r\n123450\r\n\r\n",
        // Something else in the place of a line feed.
        b"5\rx12345\r\n0\r\n\r\n",
        b"5\r\n12345\rx0\r\n\r\n",
    ] {
        assert_eq!(chunked(body), Err(Reject::Chunk), "{}", body.escape_ascii());
    }
}

#[test]
fn malformed_trailers() {
    for fields in [
        &b"\n"[..],
        b"\rX",
        b" A: b\r\n",
        b"A: b\r\n c\r\n",
        b"A : b\r\n",
        b"A\r\n",
        b": b\r\n",
        b"A B: c\r\n",
        b"A: b\n",
        b"A: b\rc\r\n",
        b"A: \0\r\n",
        b"A: \x7f\r\n",
        b"\xff: a\r\n",
    ] {
        let body = [b"0\r\n", fields, b"\r\n"].concat();
        assert_eq!(
            chunked(&body),
            Err(Reject::Trailers),
            "{}",
            body.escape_ascii()
        );
    }
}

#[test]
fn bound_of_the_content() {
    let bound = limits::BODY_BYTES_MAX as usize;
    let one_chunk = |size: usize| [format!("{size:x}\r\n").as_bytes(), &vec![b'x'; size]].concat();
    let end = b"\r\n0\r\n\r\n";

    let at_bound = [&one_chunk(bound)[..], end].concat();
    assert_eq!(chunked(&at_bound), ended(at_bound.len()));
    assert_eq!(chunked(&one_chunk(bound + 1)), Err(Reject::BodyTooLarge));

    let in_two = [&one_chunk(bound - 1)[..], b"\r\n", &one_chunk(1), end].concat();
    assert_eq!(chunked(&in_two), ended(in_two.len()));
    let over_in_two = [&one_chunk(bound - 1)[..], b"\r\n", &one_chunk(2), end].concat();
    assert_eq!(chunked(&over_in_two), Err(Reject::BodyTooLarge));

    for size in [
        "ffffffffffffffff",
        "10000000000000000",
        "fffffffffffffffffffffffff",
    ] {
        assert_eq!(
            chunked(size.as_bytes()),
            Err(Reject::BodyTooLarge),
            "{size}"
        );
    }
}

#[test]
fn bound_of_the_chunk_line() {
    let bound = limits::CHUNK_LINE_BYTES_MAX;
    for (start, filling) in [("", "0"), ("0;", "x"), ("0", " "), ("0 ", ";")] {
        let line = |bytes: usize| {
            let end = if filling == " " { ";" } else { "" };
            let filled = filling.repeat(bytes - start.len() - end.len());
            format!("{start}{filled}{end}\r\n\r\n").into_bytes()
        };
        assert_eq!(chunked(&line(bound)), ended(bound + 4), "{start}{filling}");
        assert_eq!(
            chunked(&line(bound + 1)),
            Err(Reject::ChunkLineTooLong),
            "{start}{filling}"
        );
    }
}

#[test]
fn bound_of_the_trailers() {
    let bound = limits::TRAILER_BYTES_MAX;
    let of = |bytes: usize| {
        let filling = "x".repeat(bytes - "A: b\r\nC: \r\n".len());
        format!("0\r\nA: b\r\nC: {filling}\r\n\r\n").into_bytes()
    };
    assert_eq!(chunked(&of(bound)), ended(bound + 5));
    assert_eq!(chunked(&of(bound + 1)), Err(Reject::Trailers));
}
