//! Output that whoever shares it has set to non-blocking, as ssh and Node.js do with a terminal: a
//! write that finds no room fails there, and half a line is out.

use std::io::{self, ErrorKind, Write};
use std::thread;

use crate::limits;

/// Waits for room, as a blocking output does by itself.
#[derive(Debug)]
pub struct Patient<W>(pub W);

impl<W: Write> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        waiting(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        waiting(|| self.0.flush())
    }
}

fn waiting<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match work() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(limits::OUTPUT_PAUSE);
            }
            done => return done,
        }
    }
}
