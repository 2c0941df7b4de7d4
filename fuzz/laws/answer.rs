//! What holds of the client's reader of answers, whatever bytes a server sends. The fuzz target
//! tries it on its inputs, the tests on the fuzzer's corpus.

use tickr::client::Failure;
use tickr::client::answer::{Answer, Reader};
use tickr::limits;

type Verdict = Result<Option<Answer>, Failure>;

/// Holds every law on `input`.
pub(super) fn check(input: &[u8]) {
    let (verdict, status, taken) = read(input, 1);
    // The bytes behind the one that decides are another answer's, or nobody's.
    let decisive = &input[..taken];
    for piece in [2, 7, 4096, usize::MAX] {
        let other = read(decisive, piece);
        assert_eq!(
            (&other.0, other.1),
            (&verdict, status),
            "in pieces of {piece}"
        );
    }
    bytes_behind_an_answer_do_not_change_it(input, &verdict, taken);
    if let Ok(Some(answer)) = &verdict {
        assert_eq!(status, Some(answer.status));
        assert!(answer.body.len() <= limits::CLIENT_BODY_BYTES_MAX);
        let is_interim = (100..200).contains(&answer.status) && answer.status != 101;
        assert!(!is_interim, "{}", answer.status);
        an_answer_survives_its_canonical_form(answer);
        an_explanation_can_be_shown(answer);
        a_run_is_what_was_asked_for(answer);
    }
}

/// What comes of an input in pieces: the verdict, the status, and the bytes up to the verdict.
fn read(input: &[u8], piece: usize) -> (Verdict, Option<u16>, usize) {
    let mut reader = Reader::default();
    let mut taken = 0;
    let mut verdict = Ok(None);
    for bytes in input.chunks(piece) {
        taken += bytes.len();
        verdict = reader.push(bytes);
        if verdict != Ok(None) {
            break;
        }
    }
    (verdict, reader.status(), taken)
}

fn bytes_behind_an_answer_do_not_change_it(input: &[u8], verdict: &Verdict, taken: usize) {
    let others = [&input[..taken], b"HTTP/1.1 200 OK\r\n"].concat();
    for longer in [input, &others] {
        let (whole, ..) = read(longer, usize::MAX);
        match (verdict, whole) {
            (Ok(Some(answer)), Ok(Some(whole))) => {
                assert_eq!(whole.status, answer.status);
                assert!(!whole.reusable || answer.reusable && longer.len() == taken);
                // An answer whose end cannot be told keeps what has come.
                let same = whole.body == answer.body;
                assert!(same || answer.status != 200 && !answer.reusable);
            }
            (Err(_), Err(_)) => {}
            (Ok(None), _) => {}
            (verdict, whole) => panic!("{verdict:?} became {whole:?}"),
        }
    }
}

/// The plainest answer that says the same. Nothing follows a status that is another protocol's.
fn an_answer_survives_its_canonical_form(answer: &Answer) {
    let Answer { status, body, .. } = answer;
    let mut plain = format!(
        "HTTP/1.1 {status:03} \r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    plain.extend_from_slice(body);
    let expected = Answer {
        status: *status,
        body: body.clone(),
        reusable: true,
    };
    assert_eq!(read(&plain, usize::MAX).0, Ok(Some(expected)));
}

/// What a server says of an error reaches terminals and logs.
fn an_explanation_can_be_shown(answer: &Answer) {
    match answer.json() {
        Ok(_) => assert_eq!(answer.status, 200),
        Err(Failure::NotTickr { reason }) => {
            assert_eq!(answer.status, 200);
            assert!(!reason.contains(char::is_control), "{reason:?}");
        }
        Err(Failure::Answered { status, detail }) => {
            assert_eq!(status, answer.status);
            assert!(status != 200);
            assert!(!detail.contains(char::is_control), "{detail:?}");
            assert!(detail.chars().count() <= limits::FOREIGN_TEXT_CHARS_MAX);
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn a_run_is_what_was_asked_for(answer: &Answer) {
    let counted = serde_json::from_slice(&answer.body)
        .ok()
        .and_then(|body: serde_json::Value| body.get("count")?.as_u64())
        .filter(|count| *count > 0);
    for count in [Some(1), Some(5), Some(u64::MAX), counted]
        .into_iter()
        .flatten()
    {
        let Ok(run) = answer.run(count) else { continue };
        assert_eq!((answer.status, Some(count)), (200, counted));
        assert_eq!(run.count, count);
        assert!(run.increment > 0);
        // In numbers that cannot overflow.
        let [first, increment, distance] = [run.first, run.increment, count - 1].map(u128::from);
        let last = first + increment * distance;
        assert_eq!(u128::from(run.last()), last);
        assert_eq!(u128::from(run.ticket(count - 1)), last);
    }
}
