//! The kinds of settings: how a value is read, what is said to be valid, and what is repeated of a
//! wrong one.

use std::ffi::OsStr;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::secret::Secret;
use crate::{file, limits};

/// A setting whose value is a `T`.
#[derive(Clone, Copy, Debug)]
pub struct Setting<T> {
    /// All but the reading.
    pub row: Row,
    read: fn(&Row, &OsStr) -> Result<T, String>,
}

/// What is known of a setting without the type of its value.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The long flag without its dashes; for an argument, its name.
    pub flag: &'static str,
    /// How it is typed.
    pub form: Form,
    /// What stands for the value in the help.
    pub value_name: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// What holds when it is not given, or empty.
    pub absent: Absent,
    /// Whether the value must never be shown.
    pub secret: bool,
    variable: Variable,
    valid: Valid,
}

/// How a setting is typed on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `--flag VALUE`
    Flag,
    /// `--flag VALUE`, any number of times
    Flags,
    /// `--flag` alone
    Switch,
    /// `VALUE`
    Argument,
    /// `VALUE…`
    Arguments,
}

/// What the absence of a setting means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It is required; this is an example of a value.
    Required(&'static str),
    /// This value holds.
    Default(&'static str),
    /// The program does without.
    Unset,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Variable {
    /// `TICKR_` and the flag in upper case.
    Derived,
    Named(&'static str),
    None,
}

#[derive(Clone, Copy, Debug)]
enum Valid {
    Integer(u64, u64),
    Seconds(Duration, Duration),
    OneOf(fn() -> Vec<&'static str>),
    List(&'static str, usize),
    Text(&'static str, fn(&str) -> bool),
}

impl Row {
    /// The environment variable; `None` for what only makes sense on the command line.
    pub fn variable(&self) -> Option<String> {
        match self.variable {
            Variable::Derived => Some(format!(
                "TICKR_{}",
                self.flag.to_uppercase().replace('-', "_")
            )),
            Variable::Named(name) => Some(name.to_owned()),
            Variable::None => None,
        }
    }

    /// The value that holds when none is given.
    pub fn default(&self) -> Option<&'static str> {
        match self.absent {
            Absent::Default(value) => Some(value),
            Absent::Required(_) | Absent::Unset => None,
        }
    }

    /// What a valid value is, with its unit and range.
    pub fn expects(&self) -> String {
        match self.valid {
            Valid::Integer(min, u64::MAX) => format!("integer, {min} to 2^64 - 1"),
            Valid::Integer(min, max) => format!("integer, {min} to {max}"),
            Valid::Seconds(min, max) => {
                let (min, max) = (min.as_secs_f64(), max.as_secs_f64());
                format!("seconds, {min} to {max}, decimals allowed")
            }
            Valid::OneOf(names) => format!("one of: {}", names().join(", ")),
            Valid::List(of, max) => format!("{of}; comma-separated, at most {max}"),
            Valid::Text(expects, _) => expects.to_owned(),
        }
    }
}

/// The names that people type: `TICKR_MAX_NODES (--max-nodes)`.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typed = match self.form {
            Form::Flag | Form::Flags | Form::Switch => format!("--{}", self.flag),
            Form::Argument | Form::Arguments => self.value_name.to_owned(),
        };
        match self.variable() {
            Some(variable) => write!(f, "{variable} ({typed})"),
            None => f.write_str(&typed),
        }
    }
}

impl<T> Setting<T> {
    /// Reads a value that is not empty; the error continues a sentence that the name began.
    pub fn read(&self, value: &OsStr) -> Result<T, String> {
        (self.read)(&self.row, value).map_err(|problem| match self.row.secret {
            true => "is not valid".to_owned(),
            false => problem,
        })
    }

    pub(super) const fn or(mut self, default: &'static str) -> Setting<T> {
        self.row.absent = Absent::Default(default);
        self
    }

    pub(super) const fn such_as(mut self, example: &'static str) -> Setting<T> {
        self.row.absent = Absent::Required(example);
        self
    }

    pub(super) const fn optional(mut self) -> Setting<T> {
        self.row.absent = Absent::Unset;
        self
    }

    pub(super) const fn secret(mut self) -> Setting<T> {
        self.row.secret = true;
        self
    }

    pub(super) const fn help(mut self, help: &'static str) -> Setting<T> {
        self.row.help = help;
        self
    }

    pub(super) const fn takes(mut self, value_name: &'static str) -> Setting<T> {
        self.row.value_name = value_name;
        self
    }

    pub(super) const fn variable(mut self, variable: Variable) -> Setting<T> {
        self.row.variable = variable;
        self
    }

    pub(super) const fn form(mut self, form: Form) -> Setting<T> {
        self.row.form = form;
        self
    }

    pub(super) const fn typed_only(self, form: Form) -> Setting<T> {
        self.form(form).variable(Variable::None)
    }
}

/// A value that is one of a few, by name.
pub(super) trait Choice: Copy + 'static {
    fn all() -> Vec<(&'static str, Self)>;
}

const fn row(
    flag: &'static str,
    value_name: &'static str,
    help: &'static str,
    valid: Valid,
) -> Row {
    Row {
        flag,
        form: Form::Flag,
        value_name,
        help,
        absent: Absent::Required(""),
        secret: false,
        variable: Variable::Derived,
        valid,
    }
}

pub(super) const fn integer<T: TryFrom<u64>>(
    flag: &'static str,
    help: &'static str,
    range: RangeInclusive<u64>,
) -> Setting<T> {
    Setting {
        read: read_integer::<T>,
        row: row(
            flag,
            "N",
            help,
            Valid::Integer(*range.start(), *range.end()),
        ),
    }
}

pub(super) const fn seconds(
    flag: &'static str,
    help: &'static str,
    range: RangeInclusive<Duration>,
) -> Setting<Duration> {
    let valid = Valid::Seconds(*range.start(), *range.end());
    Setting {
        read: read_seconds,
        row: row(flag, "SECONDS", help, valid),
    }
}

pub(super) const fn choice<T: Choice>(
    flag: &'static str,
    value_name: &'static str,
    help: &'static str,
) -> Setting<T> {
    Setting {
        read: read_choice::<T>,
        row: row(flag, value_name, help, Valid::OneOf(names::<T>)),
    }
}

pub(super) const fn list<T: FromStr<Err: fmt::Display>>(
    flag: &'static str,
    value_name: &'static str,
    help: &'static str,
    of: &'static str,
    max: usize,
) -> Setting<Vec<T>> {
    Setting {
        read: read_list::<T>,
        row: row(flag, value_name, help, Valid::List(of, max)),
    }
}

pub(super) const fn parsed<T: FromStr>(
    flag: &'static str,
    value_name: &'static str,
    help: &'static str,
    expects: &'static str,
) -> Setting<T> {
    Setting {
        read: |_, value| text_of(value)?.parse().map_err(|_| wrong(value)),
        row: row(flag, value_name, help, Valid::Text(expects, |_| true)),
    }
}

pub(super) const fn custom<T>(
    flag: &'static str,
    value_name: &'static str,
    help: &'static str,
    expects: &'static str,
    read: fn(&Row, &OsStr) -> Result<T, String>,
) -> Setting<T> {
    let row = row(flag, value_name, help, Valid::Text(expects, |_| true));
    Setting { row, read }
}

pub(super) const fn text(
    flag: &'static str,
    value_name: &'static str,
    help: &'static str,
    expects: &'static str,
    is_valid: fn(&str) -> bool,
) -> Setting<String> {
    Setting {
        read: |row, value| read_text(row, value).map(str::to_owned),
        row: row(flag, value_name, help, Valid::Text(expects, is_valid)),
    }
}

pub(super) const fn password(
    flag: &'static str,
    help: &'static str,
    expects: &'static str,
    is_valid: fn(&str) -> bool,
) -> Setting<Secret> {
    Setting {
        read: |row, value| read_text(row, value).map(Secret::new),
        row: row(flag, "PASSWORD", help, Valid::Text(expects, is_valid)),
    }
    .optional()
    .secret()
}

pub(super) const fn path(
    flag: &'static str,
    help: &'static str,
    expects: &'static str,
) -> Setting<PathBuf> {
    Setting {
        read: |_, value| Ok(PathBuf::from(value)),
        row: row(flag, "PATH", help, Valid::Text(expects, |_| true)),
    }
}

/// The path of a file that can be opened now; optional.
pub(super) const fn readable(
    flag: &'static str,
    help: &'static str,
    expects: &'static str,
) -> Setting<PathBuf> {
    Setting {
        read: |_, value| match file::open(value.as_ref()) {
            Ok(_) => Ok(PathBuf::from(value)),
            Err(error) => Err(format!(
                "{}, which cannot be opened ({error})",
                wrong(value)
            )),
        },
        ..path(flag, help, expects)
    }
    .optional()
}

pub(super) const fn switch(flag: &'static str, help: &'static str) -> Setting<bool> {
    Setting {
        read: |_, value| Ok(value == "true"),
        row: row(flag, "", help, Valid::Text("no value", |_| true)),
    }
    .typed_only(Form::Switch)
    .optional()
}

/// Plain decimal digits, within the range.
fn read_integer<T: TryFrom<u64>>(row: &Row, value: &OsStr) -> Result<T, String> {
    let text = text_of(value)?;
    if !is_digits(text) {
        return Err(wrong(value));
    }
    let too_much = || format!("{}, which is too large", wrong(value));
    let number = whole_number(text).ok_or_else(too_much)?;
    match row.valid {
        Valid::Integer(min, _) if number < min => {
            Err(format!("{}, which is too small", wrong(value)))
        }
        Valid::Integer(_, max) if number <= max => T::try_from(number).map_err(|_| too_much()),
        _ => Err(too_much()),
    }
}

fn read_seconds(row: &Row, value: &OsStr) -> Result<Duration, String> {
    let duration = decimal_seconds(text_of(value)?).filter(|duration| match row.valid {
        Valid::Seconds(min, max) => (min..=max).contains(duration),
        _ => false,
    });
    duration.ok_or_else(|| wrong(value))
}

fn read_choice<T: Choice>(_: &Row, value: &OsStr) -> Result<T, String> {
    let text = text_of(value)?;
    let found = T::all().into_iter().find(|(name, _)| *name == text);
    found.map(|(_, choice)| choice).ok_or_else(|| wrong(value))
}

fn names<T: Choice>() -> Vec<&'static str> {
    T::all().into_iter().map(|(name, _)| name).collect()
}

fn read_list<T: FromStr<Err: fmt::Display>>(row: &Row, value: &OsStr) -> Result<Vec<T>, String> {
    let text = text_of(value)?;
    let entries: Vec<&str> = text.split(',').map(str::trim).collect();
    if matches!(row.valid, Valid::List(_, max) if entries.len() > max) {
        return Err(format!("has {} entries", entries.len()));
    }
    let (mut values, mut bad) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry.parse() {
            Ok(value) => values.push(value),
            // A comma may stand in a password as well: one `@` hides every entry.
            Err(error) => {
                let entry = shown(if text.contains('@') { text } else { entry });
                bad.push(format!("{entry} ({error})"));
            }
        }
    }
    match bad.is_empty() {
        true => Ok(values),
        false => Err(format!("contains {}", bad.join(" and "))),
    }
}

fn read_text<'a>(row: &Row, value: &'a OsStr) -> Result<&'a str, String> {
    let text = text_of(value)?;
    match row.valid {
        Valid::Text(_, is_valid) if !is_valid(text) => Err(wrong(value)),
        _ => Ok(text),
    }
}

pub(super) fn text_of(value: &OsStr) -> Result<&str, String> {
    value.to_str().ok_or_else(|| wrong(value))
}

/// Plain decimal digits, as a number that fits in 64 bits.
fn whole_number(text: &str) -> Option<u64> {
    is_digits(text).then(|| text.parse().ok())?
}

/// Plain decimal digits, with or without a fraction, as seconds.
fn decimal_seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn has_control(text: &str) -> bool {
    text.contains(char::is_control)
}

pub(super) fn wrong(value: &OsStr) -> String {
    format!("is {}", shown(&value.to_string_lossy()))
}

/// A wrong value as an error may repeat it: quoted, escaped and cut. A value with an `@` is not
/// repeated, because it may be a URL with a password in it.
pub(crate) fn shown(value: &str) -> String {
    if value.contains('@') {
        return "a value that may contain a password".to_owned();
    }
    match value.char_indices().nth(limits::SHOWN_VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whole_numbers_are_digits_that_fit(number: u64, text in "[ +-]?[0-9]{0,21}[ .e_]?") {
            prop_assert_eq!(whole_number(&number.to_string()), Some(number));
            let plain = text.bytes().all(|byte| byte.is_ascii_digit());
            prop_assert_eq!(whole_number(&text), text.parse().ok().filter(|_| plain));
        }

        #[test]
        fn seconds_are_exact_to_the_millisecond(millis in 0_u64..1_000_000_000) {
            let text = format!("{}.{:03}", millis / 1000, millis % 1000);
            prop_assert_eq!(decimal_seconds(&text), Some(Duration::from_millis(millis)));
            prop_assert_eq!(decimal_seconds(&format!("-{text}")), None);
            prop_assert_eq!(decimal_seconds(&format!("{text}s")), None);
        }
    }
}
