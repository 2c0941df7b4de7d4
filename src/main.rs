//! The command line of Tickr: what was typed, the command it stands for, and the exit code.
//!
//! 0: all went well. 1: the command failed while it ran. 2: it was asked for in a way that cannot
//! work (usage, settings), and nothing was done.

use std::io::{self, Write};
use std::process::ExitCode;

use clap_complete::Shell;
use tickr::config::{
    AdvanceConfig, CheckConfig, ClusterConfig, Config, DatabaseConfig, DecodeConfig, DevConfig,
    DropConfig, GetConfig, LeaseConfig, read_shell,
};
use tickr::logging::{self, Format, Logging};

use self::cli::Command;
use self::commands::failure::Failure;
use self::commands::output::{printed, stdout};
use self::commands::{cluster, database, get, serve};

mod cli;
mod commands;

/// Every command. The help lists its settings as its configuration reads them.
const COMMANDS: &[Command<Job>] = &[
    Command {
        path: &["serve"],
        about: "Serve tickets until SIGTERM or SIGINT",
        read: |reader| Job::logged(Config::read(reader), |config| &config.logging, serve::serve),
    },
    Command {
        path: &["dev"],
        about: "Run with a private MySQL server; no configuration needed",
        read: |reader| Job::logged(DevConfig::read(reader), DevConfig::logging, serve::dev),
    },
    Command {
        path: &["db", "create"],
        about: "Create the database, the counter and the stored settings; keep what exists",
        read: |reader| {
            let config = LeaseConfig::read_create(reader);
            Job::logged(config, |config| &config.target.logging, database::create)
        },
    },
    Command {
        path: &["db", "check"],
        about: "Report the database's state; exit 1 if there is a problem",
        read: |reader| {
            let config = CheckConfig::read(reader);
            Job::logged(config, |config| &config.target.logging, database::check)
        },
    },
    Command {
        path: &["db", "migrate"],
        about: "Convert a MyISAM table to InnoDB, keeping the counter",
        read: |reader| {
            let config = DatabaseConfig::read(reader);
            Job::logged(config, |config| &config.logging, database::migrate)
        },
    },
    Command {
        path: &["db", "advance"],
        about: "Open a closed counter, past every issued ticket, after a failover or a restore",
        read: |reader| {
            let config = AdvanceConfig::read(reader);
            Job::logged(config, |config| &config.target.logging, database::advance)
        },
    },
    Command {
        path: &["db", "lease"],
        about: "Change the stored lease; no tickets are issued until the old one has expired",
        read: |reader| {
            let config = LeaseConfig::read(reader);
            Job::logged(config, |config| &config.target.logging, database::lease)
        },
    },
    Command {
        path: &["db", "drop"],
        about: "Permanently delete the database",
        read: |reader| {
            Job::logged(
                DropConfig::read(reader),
                |config| &config.logging,
                database::drop,
            )
        },
    },
    Command {
        path: &["get"],
        about: "Get tickets from a server, one per line",
        read: |reader| Job::quiet(GetConfig::read(reader), get::get),
    },
    Command {
        path: &["decode"],
        about: "Show a ticket's node and base id; exit 1 if no node can have issued it",
        read: |reader| Job::quiet(DecodeConfig::read(reader), cluster::decode),
    },
    Command {
        path: &["cluster", "check"],
        about: "Query every node; exit 1 if one does not serve or if their settings conflict",
        read: |reader| Job::quiet(ClusterConfig::read(reader), cluster::check),
    },
    Command {
        path: &["completions"],
        about: "Generate shell completions",
        read: |reader| Job::quiet(read_shell(reader), completions),
    },
];

/// Everything that can be typed.
pub(crate) fn command_line() -> clap::Command {
    cli::command_line(COMMANDS)
}

/// A command whose settings have been read.
struct Job {
    /// What it logs; `None` when it has nothing to log.
    logging: Option<Logging>,
    run: Box<dyn FnOnce() -> Result<(), Failure>>,
}

impl Job {
    fn logged<C: 'static>(
        config: C,
        logging: fn(&C) -> &Logging,
        run: fn(C) -> Result<(), Failure>,
    ) -> Job {
        let logging = Some(logging(&config).clone());
        let run = Box::new(move || run(config));
        Job { logging, run }
    }

    fn quiet<C: 'static>(config: C, run: fn(C) -> Result<(), Failure>) -> Job {
        let run = Box::new(move || run(config));
        Job { logging: None, run }
    }

    fn run(self) -> Result<(), Failure> {
        if let Some(logging) = self.logging {
            logging.start();
            for unknown in cli::unknown_variables(COMMANDS) {
                log::warn!("{unknown}");
            }
            logging::finish();
        }
        (self.run)()
    }
}

fn main() -> ExitCode {
    let matches = match command_line().try_get_matches() {
        Ok(matches) => matches,
        Err(answer) => {
            // The help and the version are answers as well; a closed pipe is not our concern.
            let _ = answer.print();
            return u8::try_from(answer.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let mut for_collectors = false;
    let ended = cli::read(COMMANDS, &matches)
        .map_err(|mut mistakes| {
            mistakes.notes = cli::unknown_variables(COMMANDS);
            Failure::Usage(mistakes.into())
        })
        .and_then(|job| {
            let logging = job.logging.as_ref();
            for_collectors = logging.is_some_and(|logging| logging.format == Format::Json);
            job.run()
        });
    logging::finish();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if for_collectors {
                log::error!("{failure}");
                logging::finish();
            } else {
                let _ = writeln!(io::stderr(), "tickr: {failure}");
            }
            failure.exit_code()
        }
    }
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    let mut command_line = command_line();
    clap_complete::generate(shell, &mut command_line, "tickr", &mut script);
    let mut out = stdout();
    printed(out.write_all(&script).and_then(|()| out.flush()))
}
