//! Reads the settings of one command and gathers everything that is wrong with them, so that a
//! person who corrects what one start complained about is not sent back for the next one.

use std::ffi::OsString;
use std::fmt;

use crate::settings::{Absent, Row, Setting};

/// Looks a setting up as it was given, by flag or by variable; an empty value counts as none.
pub type Given<'a> = dyn Fn(&Row) -> Option<OsString> + 'a;

/// Reads what a command works with, or names everything that is wrong.
pub fn read<T>(
    given: &Given<'_>,
    command: impl FnOnce(&mut Reader<'_>) -> T,
) -> Result<T, Mistakes> {
    let mut reader = Reader::new(given);
    let config = command(&mut reader);
    match reader.mistakes.is_empty() {
        true => Ok(config),
        false => Err(Mistakes {
            mistakes: reader.mistakes,
            notes: Vec::new(),
        }),
    }
}

/// The settings of a command, each under its heading: those that it asks for.
pub fn rows<T>(
    command: impl FnOnce(&mut Reader<'_>) -> T,
) -> Vec<(Option<&'static str>, &'static Row)> {
    let mut reader = Reader::new(&|_| None);
    command(&mut reader);
    reader.rows
}

/// Reads setting after setting. One that is wrong is noted, and the reading goes on with a value
/// that stands in for it; nobody gets to see what was read with such a value in it.
pub struct Reader<'a> {
    given: &'a Given<'a>,
    heading: Option<&'static str>,
    rows: Vec<(Option<&'static str>, &'static Row)>,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    fn new(given: &'a Given<'a>) -> Reader<'a> {
        Reader {
            given,
            heading: None,
            rows: Vec::new(),
            mistakes: Vec::new(),
        }
    }

    /// What follows stands under this heading of the help.
    pub(super) fn under(&mut self, heading: &'static str) -> &mut Reader<'a> {
        self.heading = Some(heading);
        self
    }

    /// The value of a setting that is required or has a default.
    pub(super) fn get<T>(&mut self, setting: &'static Setting<T>) -> T {
        self.find(setting).unwrap_or_else(|| {
            let (Absent::Required(value) | Absent::Default(value)) = setting.row.absent else {
                panic!("{} may be absent", setting.row);
            };
            let read = setting.read(value.as_ref());
            read.unwrap_or_else(|problem| panic!("the row of {}: {problem}", setting.row))
        })
    }

    /// The value of a setting, unless it is absent or wrong.
    pub(super) fn find<T>(&mut self, setting: &'static Setting<T>) -> Option<T> {
        let row = &setting.row;
        self.rows.push((self.heading, row));
        let given = (self.given)(row).filter(|value| !value.is_empty());
        let Some(value) = given.or_else(|| row.default().map(OsString::from)) else {
            if let Absent::Required(_) = row.absent {
                self.mistake(row, "is missing");
            }
            return None;
        };
        let read = setting.read(&value);
        read.map_err(|problem| self.mistake(row, problem)).ok()
    }

    pub(super) fn is_given(&self, row: &Row) -> bool {
        (self.given)(row).is_some_and(|value| !value.is_empty())
    }

    pub(super) fn mistake(&mut self, row: &'static Row, problem: impl Into<String>) {
        let problem = problem.into();
        self.mistakes.push(Mistake { row, problem });
    }
}

/// Everything that is wrong with the settings of one command; at least one mistake.
#[derive(Clone, Debug)]
pub struct Mistakes {
    pub(super) mistakes: Vec<Mistake>,
    /// What may explain them, such as a misspelt variable.
    pub notes: Vec<String>,
}

/// What is wrong with one setting, in words that never hold a secret.
#[derive(Clone, Debug)]
pub(super) struct Mistake {
    pub(super) row: &'static Row,
    pub(super) problem: String,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.mistakes.len();
        let noun = if count == 1 { "setting" } else { "settings" };
        write!(f, "{count} invalid {noun}; nothing was changed:")?;
        for Mistake { row, problem } in &self.mistakes {
            write!(f, "\n  {row} {problem}; expected {}", row.expects())?;
        }
        for note in &self.notes {
            write!(f, "\n  note: {note}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
