//! What holds of the answers of a MySQL server, or of whoever answers in its place: rows and counts
//! of any kind are either what was sent or an error. The bytes of the protocol are the driver's;
//! what begins here is what the driver makes of them. The fuzz target tries it on its inputs, the
//! tests on the fuzzer's corpus.

use mysql::Value;
use tickr::counter::{Owner, View};
use tickr::database::Failover;
use tickr::database::answers::{self, Done, Identity, Row, Variables};
use tickr::fault::{Fault, FaultKind};
use tickr::limits;
use tickr::ticket::{Block, Numbering};

/// As many as a question allows, and more.
const ROWS_MAX: usize = 4;
const COLUMNS_MAX: usize = 10;

/// Holds every law on the answer that these bytes describe.
pub(super) fn check(bytes: &[u8]) {
    let mut input = Input(bytes);
    let question = input.byte();
    let failover = match question & 0x80 {
        0 => Failover::Stop,
        _ => Failover::Continue,
    };
    match question & 0x7f {
        0 => of_the_row(&input.rows(), failover),
        1 => of_the_settings(&input.rows()),
        2 => of_the_engine(&input.rows()),
        3 => of_the_variables(&input.rows(), failover),
        4 => of_the_connections(input.number(), &input.rows()),
        _ => of_a_reservation(&mut input),
    }
}

/// The bytes that are left; when there are none, zeros.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    fn number(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    fn rows(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        while !self.0.is_empty() && rows.len() < ROWS_MAX {
            let columns = usize::from(self.byte()) % COLUMNS_MAX;
            rows.push((0..columns).map(|_| self.value()).collect());
        }
        rows
    }

    /// Everything that the driver knows, and numbers as text, which is how most of them come.
    fn value(&mut self) -> Value {
        match self.byte() % 9 {
            0 => Value::NULL,
            1 => {
                let length = self.byte() % 64;
                Value::Bytes((0..length).map(|_| self.byte()).collect())
            }
            2 => Value::Int(self.number().cast_signed()),
            3 => Value::UInt(self.number()),
            4 => Value::Float(f32::from_bits(self.number() as u32)),
            5 => Value::Double(f64::from_bits(self.number())),
            6 => Value::Date(u16::from(self.byte()) * 100, 1, 2, 3, 4, 5, 6),
            7 => Value::Time(self.byte() > 127, 1, 2, 3, 4, 5),
            _ => Value::Bytes(self.number().to_string().into_bytes()),
        }
    }
}

/// The number that a value is, as a person would read it.
fn number(value: Option<&Value>) -> Option<u64> {
    match value? {
        Value::UInt(number) => Some(*number),
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Bytes(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    }
}

/// What is found is right, and what is wrong is said in a line that can be shown.
fn or_a_fault<T>(found: Result<T, Fault>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(fault) => {
            let said = fault.to_string();
            assert!(!said.chars().any(char::is_control), "{said:?}");
            assert!(said.chars().count() < 800, "{said:?}");
            None
        }
    }
}

fn identity(failover: Failover) -> Identity {
    let values = [("server_uuid", "ab-12")];
    let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let identity = Variables::new(values.into()).identity(failover);
    identity.expect("a server with a name")
}

fn of_the_row(rows: &[Row], failover: Failover) {
    let found = answers::view(rows.to_vec(), &identity(failover));
    let several = matches!(&found, Err(fault) if fault.kind == FaultKind::NotOneRow);
    assert_eq!(several, rows.len() > 1, "{rows:?}");
    let missing = matches!(&found, Err(fault) if fault.kind == FaultKind::NoCounterRow);
    assert_eq!(missing, rows.is_empty(), "{rows:?}");
    let Some(view) = or_a_fault(found) else {
        return;
    };
    let row = &rows[0];
    assert_eq!(number(row.first()), Some(view.id), "{row:?}");
    if row.len() == 1 {
        assert!(view.owner == Owner::Nobody && !view.is_open());
        return;
    }
    assert_eq!(number(row.get(1)), Some(view.mark), "{row:?}");
    assert_eq!(number(row.get(2)), Some(view.epoch.number), "{row:?}");
    assert_eq!(number(row.get(3)), Some(view.epoch.tag), "{row:?}");
    let writable = number(row.get(6)).expect("a number");
    assert_eq!(view.read_only, writable == 0, "{row:?}");
    assert_eq!(number(row.get(7)), Some(view.lease.as_secs()), "{row:?}");
    a_lease_can_be_waited_for(view.lease.as_secs());
    its_owner_is_who_was_named(&view, row, failover);
}

/// Only the server that is named may move the row, byte for byte.
fn its_owner_is_who_was_named(view: &View, row: &[Value], failover: Failover) {
    let bytes = |value: Option<&Value>| match value {
        Some(Value::Bytes(bytes)) => bytes.clone(),
        _ => Vec::new(),
    };
    let (owner, here) = (bytes(row.get(4)), bytes(row.get(5)));
    let is_here = match failover {
        Failover::Stop => owner == here,
        Failover::Continue => true,
    };
    let may_move = !owner.is_empty() && owner != b"closed" && is_here;
    assert_eq!(view.owner == Owner::Here, may_move, "{row:?}");
    if view.is_open() {
        assert!(may_move && view.mark <= view.id && !view.read_only);
    }
}

fn a_lease_can_be_waited_for(seconds: u64) {
    let bounds = limits::LEASE_SECONDS_MIN..=limits::LEASE_SECONDS_MAX;
    assert!(bounds.contains(&seconds), "{seconds}");
}

fn of_the_settings(rows: &[Row]) {
    let Some(stored) = or_a_fault(answers::stored(rows.to_vec())) else {
        return;
    };
    let Some(stored) = stored else {
        return assert!(rows.is_empty(), "{rows:?}");
    };
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    let three = [0, 1, 2].map(|index| number(row.get(index)).expect("a number"));
    let numbering = Numbering::new(three[0], three[1], three[2]);
    assert_eq!(numbering, Ok(stored.numbering), "{row:?}");
    let seconds = stored.lease.as_secs();
    a_lease_can_be_waited_for(seconds);
    if row.len() > 3 {
        assert_eq!(number(row.get(3)), Some(seconds), "{row:?}");
    }
}

fn of_the_engine(rows: &[Row]) {
    let found = answers::engine(rows.to_vec());
    let Some(Some(engine)) = or_a_fault(found) else {
        return;
    };
    let yes = Value::Bytes(b"YES".to_vec());
    assert_eq!(engine.transactional, rows[0].get(1) == Some(&yes));
    let versioned = Value::Bytes(b"SYSTEM VERSIONED".to_vec());
    assert_eq!(engine.versioned, rows[0].get(2) == Some(&versioned));
    match &rows[0][0] {
        Value::Bytes(name) => assert_eq!(engine.name.as_bytes(), name),
        other => assert_eq!((other, &engine.name[..]), (&Value::NULL, "none")),
    }
}

fn of_the_variables(rows: &[Row], failover: Failover) {
    let Some(values) = or_a_fault(answers::variables(rows.to_vec())) else {
        return;
    };
    assert!(values.len() <= rows.len());
    for (name, value) in &values {
        let is_it = |row: &&Row| {
            matches!(&row[..], [Value::Bytes(sent), ..]
            if sent.eq_ignore_ascii_case(name.as_bytes()))
        };
        let last = rows.iter().rfind(is_it).expect("it was sent");
        assert_eq!(last[1], Value::Bytes(value.clone().into_bytes()));
    }
    let variables = Variables::new(values);
    for warning in variables.warnings() {
        assert!(!warning.to_string().is_empty());
    }
    if let Some(identity) = or_a_fault(variables.identity(failover)) {
        no_value_ends_its_quotes(&identity);
    }
}

/// Values of variables become part of statements: as literals alone, and they stay literals.
fn no_value_ends_its_quotes(identity: &Identity) {
    for statement in ["{identity}", "{owned}", "{writable}"] {
        let filled = identity.fill(statement);
        assert!(!filled.contains('\\') && filled.is_ascii(), "{filled}");
        assert_eq!(filled.matches('\'').count() % 2, 0, "{filled}");
        let code = filled.split('\'').step_by(2).collect::<String>();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "@_.,()= ".contains(c);
        assert!(code.chars().all(allowed), "{filled}");
    }
}

fn of_the_connections(connection: u64, rows: &[Row]) {
    let found = answers::has_connection(rows.to_vec(), connection, "user", "name");
    if or_a_fault(found) == Some(true) {
        let ours = |row: &&Row| {
            number(row.first()) == Some(connection)
                && row[1] == Value::Bytes(b"user".to_vec())
                && row[3] == Value::Bytes(b"name".to_vec())
        };
        assert!(rows.iter().any(|row| ours(&row)), "{rows:?}");
    }
}

fn of_a_reservation(input: &mut Input) {
    let three = [0; 3].map(|_| input.number());
    let Ok(numbering) = Numbering::new(three[0], three[1], three[2]) else {
        return;
    };
    let (count, floor, last) = (input.number(), input.number(), input.number());
    let done = Done {
        rows: u64::from(input.byte()),
        last_insert_id: (input.byte() > 0).then_some(last),
    };
    if count == 0 {
        return;
    }
    match or_a_fault(answers::reserved(done, count, floor, &numbering)) {
        None => assert!(done.rows > 0),
        Some(None) => assert_eq!(done.rows, 0),
        Some(Some(given)) => {
            assert_eq!((done.rows, done.last_insert_id), (1, Some(given)));
            let block = Block::ending_at(given, count).expect("a block");
            assert!(block.first > floor && block.count() == count);
            // No ticket of it wraps.
            let run = numbering.run(block);
            assert_eq!(run.count, count);
            assert!(run.last() >= run.first, "{run:?}");
        }
    }
}
