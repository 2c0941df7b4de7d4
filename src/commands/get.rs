//! `tickr get`: tickets from a server, one per line.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::thread;

use tickr::client::{self, Client};
use tickr::config::GetConfig;
use tickr::limits;

use super::failure::Failure;
use super::output::{printed, stdout};

pub(crate) fn get(config: GetConfig) -> Result<(), Failure> {
    let GetConfig {
        client,
        count,
        watch,
        interval,
    } = config;
    let options = client::Options {
        timeout: client.timeout,
        password: client.password.map(|password| password.expose().to_owned()),
        cache: 0,
        ..client::Options::default()
    };
    let client = Client::with_options(client.servers, options)?;
    let mut out = BufWriter::new(stdout());
    loop {
        match print_tickets(&client, count, &mut out) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            // Whoever watches wants to see the end of an outage.
            Err(GetError::Client(error @ client::Error::Unavailable { .. })) if watch => {
                let _ = writeln!(io::stderr(), "tickr: {error}");
            }
            Err(error) => return Err(error.into()),
        }
        if !watch {
            return Ok(());
        }
        thread::sleep(interval);
    }
}

/// Gets the tickets and prints each on a line; false once nobody reads any more. What was printed
/// before an error is complete.
fn print_tickets(client: &Client, count: u64, out: &mut impl Write) -> Result<bool, GetError> {
    let is_watched = io::stderr().is_terminal() && !io::stdout().is_terminal();
    let mut progress = Progress::of(count, is_watched);
    let mut done = 0;
    while done < count {
        progress.reach(done);
        let run = client.batch((count - done).min(limits::GET_BATCH_MAX))?;
        let written = (0..run.count).try_for_each(|index| {
            progress.reach(done + index);
            writeln!(out, "{}", run.ticket(index))
        });
        let written = written.and_then(|()| out.flush());
        let is_read = written.is_ok();
        printed(written)?;
        if !is_read {
            return Ok(false);
        }
        done += run.count;
    }
    progress.reach(count);
    Ok(true)
}

/// Why tickets were not printed.
enum GetError {
    Client(client::Error),
    Output(Failure),
}

impl From<client::Error> for GetError {
    fn from(error: client::Error) -> GetError {
        GetError::Client(error)
    }
}

impl From<Failure> for GetError {
    fn from(failure: Failure) -> GetError {
        GetError::Output(failure)
    }
}

impl From<GetError> for Failure {
    fn from(error: GetError) -> Failure {
        match error {
            GetError::Client(error) => error.into(),
            GetError::Output(failure) => failure,
        }
    }
}

/// A percentage on a terminal, for long work; it ends with a line of its own.
struct Progress {
    total: u64,
    /// The next count that is worth a word; `None` for silence.
    next: Option<u64>,
}

impl Progress {
    fn of(total: u64, is_watched: bool) -> Progress {
        let is_shown = is_watched && total >= limits::PROGRESS_TICKETS_MIN;
        let next = is_shown.then_some(0);
        Progress { total, next }
    }

    fn reach(&mut self, count: u64) {
        if self.next.is_some_and(|next| count >= next) {
            let end = if count == self.total { "\n" } else { "" };
            let percent = count * 100 / self.total;
            // A terminal that has gone is no reason to stop.
            let _ = write!(io::stderr(), "\r{percent} % of {} tickets{end}", self.total);
            self.next = Some((count + self.total / 100).min(self.total));
        }
    }
}
