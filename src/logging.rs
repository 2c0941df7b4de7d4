//! Log lines on stderr, one line an event: as text for people, or as JSON objects for collectors.
//! A line stays one line whatever a peer sent, because control characters are escaped.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use env_logger::{Builder, Target};
use log::{LevelFilter, Record};

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Which records pass.
    pub filter: Filter,
    /// How a record is written.
    pub format: Format,
}

impl Logging {
    /// Sets the process's logger up.
    ///
    /// # Panics
    ///
    /// When there is a logger already: it is called once, by `main`.
    pub fn start(&self) {
        let format = self.format;
        Builder::new()
            .parse_filters(&self.filter.0)
            .target(Target::Stderr)
            .format(move |out, record| {
                let time = out.timestamp_millis();
                format.write(out, time, record)
            })
            .init();
    }
}

/// Which records pass: `LEVEL` or `TARGET=LEVEL`, separated by commas, and perhaps a `/` with text
/// that a message must contain (the syntax of `env_logger`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(String);

impl FromStr for Filter {
    type Err = FilterError;

    /// Stricter than `env_logger`, which takes a misspelt level for the name of a module and then
    /// logs nothing else: a module without a level must look like a path.
    fn from_str(text: &str) -> Result<Filter, FilterError> {
        let (directives, contained) = text.split_once('/').unwrap_or((text, ""));
        if contained.contains('/') {
            return Err(FilterError);
        }
        for directive in directives.split(',').map(str::trim) {
            let good = match directive.split_once('=') {
                Some((target, level)) => !target.trim().is_empty() && is_level(level.trim()),
                None => is_level(directive) || directive == "tickr" || directive.contains("::"),
            };
            if !good {
                return Err(FilterError);
            }
        }
        Ok(Filter(text.to_owned()))
    }
}

/// A text is not a [`Filter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterError;

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a level (off, error, warn, info, debug, trace) nor TARGET=LEVEL")
    }
}

impl std::error::Error for FilterError {}

/// How a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `2026-01-31T12:00:00.000Z INFO  tickr::server: message`
    Text,
    /// One object per line: `timestamp` (RFC 3339, UTC), `level`, `target`, `message`.
    Json,
}

impl Format {
    fn write(
        self,
        out: &mut impl Write,
        time: impl fmt::Display,
        record: &Record<'_>,
    ) -> io::Result<()> {
        let (level, target) = (record.level(), record.target());
        let message = record.args().to_string();
        match self {
            Format::Text => {
                write!(out, "{time} {level:<5} {}: ", OneLine(target))?;
                writeln!(out, "{}", OneLine(&message))
            }
            Format::Json => {
                write!(out, r#"{{"timestamp":"{time}","level":"{level}","target":"#)?;
                serde_json::to_writer(&mut *out, target)?;
                write!(out, r#","message":"#)?;
                serde_json::to_writer(&mut *out, &message)?;
                writeln!(out, "}}")
            }
        }
    }
}

/// Text with its control characters escaped.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(char::is_control) {
            let text = part.trim_end_matches(char::is_control);
            f.write_str(text)?;
            write!(f, "{}", part[text.len()..].escape_default())?;
        }
        Ok(())
    }
}

fn is_level(text: &str) -> bool {
    text.parse::<LevelFilter>().is_ok()
}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    fn written(format: Format, message: &str) -> String {
        let mut out = Vec::new();
        let mut record = Record::builder();
        record.level(Level::Warn).target("tickr::server");
        let time = "2026-01-31T12:00:00.000Z";
        format
            .write(
                &mut out,
                time,
                &record.args(format_args!("{message}")).build(),
            )
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_one_line() {
        assert_eq!(
            written(Format::Text, "a \"b\" ü\r\n\u{1b}[31mforged"),
            "2026-01-31T12:00:00.000Z WARN  tickr::server: a \"b\" ü\\r\\n\\u{1b}[31mforged\n"
        );
    }

    #[test]
    fn json_is_one_object_a_line() {
        let message = "a \"b\" \\ ü\n\u{0}{";
        let line = written(Format::Json, message);
        assert_eq!(line.matches('\n').count(), 1);
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            object,
            serde_json::json!({
                "timestamp": "2026-01-31T12:00:00.000Z",
                "level": "WARN",
                "target": "tickr::server",
                "message": message,
            })
        );
    }

    #[test]
    fn filters_are_checked() {
        for good in [
            "info",
            "OFF",
            "warn,tickr::server=debug",
            "tickr",
            "info, mysql=error",
            "tickr::server",
            "debug/lost",
        ] {
            assert!(good.parse::<Filter>().is_ok(), "{good}");
        }
        for bad in [
            "inof",
            "",
            "info,",
            "tickr=loud",
            "=info",
            "a=b=c",
            "info/a/b",
            "5",
        ] {
            assert_eq!(bad.parse::<Filter>(), Err(FilterError), "{bad}");
        }
    }
}
