//! Log lines on stderr, one line an event: as text for people, or as JSON objects for collectors.
//! A line stays one line whatever a peer sent, because control characters are escaped.
//!
//! A thread of its own writes them: a terminal that is halted (Ctrl-S), a pipe that nobody reads or
//! a disk that hangs must not halt the event loop. Lines that find no room are counted and lost.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use env_logger::{Builder, Target};
use log::{LevelFilter, Record};

use crate::limits;
use crate::patient::Patient;

/// The lines of this process that wait to be written.
static WAITING: OnceLock<Arc<Waiting>> = OnceLock::new();

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
        // Without one more thread or file, whoever logs waits.
        let target = queue().map_or(Target::Stderr, |queue| Target::Pipe(Box::new(queue)));
        Builder::new()
            .parse_filters(&self.filter.0)
            .target(target)
            .format(move |out, record| {
                let time = out.timestamp_millis();
                format.write(out, time, record)
            })
            .init();
    }
}

/// Waits until what was logged is written, but not for ever: before the process ends, or says
/// something on stderr itself.
pub fn finish() {
    if let Some(waiting) = WAITING.get() {
        waiting.wait(limits::LOG_STOP_GRACE);
    }
}

fn queue() -> io::Result<Queue> {
    // Not the standard library's, whose lock would be held by a write that hangs.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let (lines, receiver) = mpsc::sync_channel(limits::LOG_LINES_WAITING_MAX);
    let waiting = WAITING.get_or_init(Arc::default);
    let writer = Arc::clone(waiting);
    thread::Builder::new()
        .name("tickr-log".to_owned())
        .spawn(move || write_lines(Patient(stderr), &receiver, &writer))?;
    Ok(Queue {
        lines,
        waiting: Arc::clone(waiting),
    })
}

fn write_lines(mut out: impl Write, lines: &Receiver<Vec<u8>>, waiting: &Waiting) {
    for line in lines {
        // There is nobody left to tell.
        let _ = out.write_all(&line);
        let lost = waiting.written();
        if lost > 0 {
            log::warn!("{lost} lines of the log were lost: nothing took them in time");
        }
    }
}

/// Takes the lines of the logger, one with each write, and never waits.
struct Queue {
    lines: SyncSender<Vec<u8>>,
    waiting: Arc<Waiting>,
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.waiting.change(|count| count.unwritten += 1);
        if self.lines.try_send(line.to_vec()).is_err() {
            self.waiting.change(|count| {
                count.unwritten -= 1;
                count.lost += 1;
            });
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many lines wait, and how many were lost since that was last told.
#[derive(Default)]
struct Waiting {
    count: Mutex<Count>,
    changed: Condvar,
}

#[derive(Default)]
struct Count {
    unwritten: u64,
    lost: u64,
}

impl Waiting {
    fn change<T>(&self, change: impl FnOnce(&mut Count) -> T) -> T {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut count);
        self.changed.notify_all();
        changed
    }

    /// A line has been written, or could not be. Returns how many others were lost before.
    fn written(&self) -> u64 {
        self.change(|count| {
            count.unwritten -= 1;
            std::mem::take(&mut count.lost)
        })
    }

    fn wait(&self, within: Duration) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        // Whether it came to an end is all the same.
        let _ = self
            .changed
            .wait_timeout_while(count, within, |count| count.unwritten > 0);
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
    fn who_logs_waits_for_nobody_and_what_is_lost_is_counted() {
        let (lines, receiver) = mpsc::sync_channel(2);
        let waiting = Arc::new(Waiting::default());
        let mut queue = Queue {
            lines,
            waiting: Arc::clone(&waiting),
        };
        for line in ["1", "2", "3", "4"] {
            assert_eq!(queue.write(line.as_bytes()).unwrap(), 1);
        }
        waiting.wait(Duration::from_millis(1));
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!([waiting.written(), waiting.written()], [2, 0]);
        // Nothing waits any more.
        waiting.wait(Duration::MAX);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_no_obstacle() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (lines, receiver) = mpsc::sync_channel(2);
        let waiting = Arc::new(Waiting::default());
        let mut queue = Queue {
            lines,
            waiting: Arc::clone(&waiting),
        };
        queue.write_all(b"1").unwrap();
        queue.write_all(b"2").unwrap();
        drop(queue);
        write_lines(Full, &receiver, &waiting);
        waiting.wait(Duration::MAX);
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
