//! The commands and their flags, built from the table of settings. Values stay text here: clap
//! stops at the first bad one, and [`tickr::config`] names them all.

use std::ffi::{OsStr, OsString};

use clap::builder::OsStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use clap_complete::Shell;
use tickr::config::Mistakes;
use tickr::config::{AdvanceConfig, ClientConfig, Config, DatabaseConfig, DevConfig, DropConfig};
use tickr::limits;
use tickr::logging::Logging;
use tickr::settings::{self, Absent, Group, Setting};

const COUNT: &str = "count";
const WATCH: &str = "watch";
const JSON: &str = "json";
const SHELL: &str = "shell";

/// A command with its settings read.
pub(crate) enum Command {
    Serve(Box<Config>),
    Dev(Box<DevConfig>),
    DbCreate(DatabaseConfig),
    DbCheck(DatabaseConfig),
    DbMigrate(DatabaseConfig),
    DbAdvance(AdvanceConfig),
    DbDrop(DropConfig),
    Get {
        config: ClientConfig,
        count: u64,
    },
    ClusterCheck {
        config: ClientConfig,
        watch: bool,
        json: bool,
    },
    Completions(Shell),
}

impl Command {
    /// Reads the settings of the command that was typed.
    pub(crate) fn read(matches: &ArgMatches) -> Result<Command, Mistakes> {
        let (name, matches) = subcommand(matches);
        Ok(match name {
            "serve" => Command::Serve(Box::new(Config::read(&given(matches))?)),
            "dev" => Command::Dev(Box::new(DevConfig::read(&given(matches))?)),
            "db" => {
                let (name, matches) = subcommand(matches);
                let given = given(matches);
                match name {
                    "create" => Command::DbCreate(DatabaseConfig::read(&given)?),
                    "check" => Command::DbCheck(DatabaseConfig::read(&given)?),
                    "migrate" => Command::DbMigrate(DatabaseConfig::read(&given)?),
                    "advance" => Command::DbAdvance(AdvanceConfig::read(&given)?),
                    "drop" => Command::DbDrop(DropConfig::read(&given)?),
                    _ => unreachable!("clap knows every command"),
                }
            }
            "get" => Command::Get {
                config: ClientConfig::read(&given(matches))?,
                count: matches.get_one(COUNT).copied().unwrap_or(1),
            },
            "cluster" => {
                let (_, matches) = subcommand(matches);
                Command::ClusterCheck {
                    config: ClientConfig::read(&given(matches))?,
                    watch: matches.get_flag(WATCH),
                    json: matches.get_flag(JSON),
                }
            }
            "completions" => {
                let shell = matches.get_one(SHELL).copied();
                Command::Completions(shell.expect("clap insists on a shell"))
            }
            _ => unreachable!("clap knows every command"),
        })
    }

    /// What this command logs; `None` when it has nothing to log.
    pub(crate) fn logging(&self) -> Option<&Logging> {
        match self {
            Command::Serve(config) => Some(&config.logging),
            Command::Dev(config) => Some(config.logging()),
            Command::DbCreate(config) | Command::DbCheck(config) | Command::DbMigrate(config) => {
                Some(&config.logging)
            }
            Command::DbAdvance(config) => Some(&config.target.logging),
            Command::DbDrop(config) => Some(&config.logging),
            Command::Get { .. } | Command::ClusterCheck { .. } | Command::Completions(_) => None,
        }
    }
}

/// Everything that can be typed.
pub(crate) fn command() -> clap::Command {
    use settings::{ADVANCE, DATABASE, DEV, DEV_HTTP, DEV_NUMBERING, DROP, HTTP, LOGGING};
    use settings::{NUMBERING, POOL, WAIT};

    clap::Command::new("tickr")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Gives out unique 64-bit IDs over plain HTTP, backed by MySQL")
        .after_help(GETTING_STARTED)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(
            clap::Command::new("serve")
                .about("Serve tickets until SIGTERM or SIGINT")
                .after_help(SETTINGS_NOTE),
            &[DATABASE, POOL, NUMBERING, HTTP, LOGGING],
        ))
        .subcommand(
            clap::Command::new("db")
                .about("Create, check and mend the database")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(with_settings(
                    clap::Command::new("create").about(
                        "Create the database, the counter and the stored settings; what is there \
                         already stays as it is",
                    ),
                    &[DATABASE, WAIT, NUMBERING, LOGGING],
                ))
                .subcommand(with_settings(
                    clap::Command::new("check")
                        .about("Say what is there; exit 1 when something is wrong"),
                    &[DATABASE, WAIT, NUMBERING, LOGGING],
                ))
                .subcommand(with_settings(
                    clap::Command::new("migrate")
                        .about("Turn a MyISAM table into InnoDB, counter and all"),
                    &[DATABASE, WAIT, NUMBERING, LOGGING],
                ))
                .subcommand(with_settings(
                    clap::Command::new("advance")
                        .about("Move the counter forward, past a ticket, after a restore"),
                    &[ADVANCE, DATABASE, WAIT, NUMBERING, LOGGING],
                ))
                .subcommand(with_settings(
                    clap::Command::new("drop").about("Drop the database, for good"),
                    &[DROP, DATABASE, WAIT, LOGGING],
                )),
        )
        .subcommand(with_settings(
            clap::Command::new("dev")
                .about("Try it out: serve from a private MySQL server, nothing to set")
                .after_help(SETTINGS_NOTE),
            &[DEV, DEV_NUMBERING, DEV_HTTP, POOL, LOGGING],
        ))
        .subcommand(get())
        .subcommand(
            clap::Command::new("cluster")
                .about("Look at all nodes of a cluster")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(cluster_check()),
        )
        .subcommand(
            clap::Command::new("completions")
                .about("Print what makes a shell complete these commands")
                .arg(
                    Arg::new(SHELL)
                        .value_name("SHELL")
                        .value_parser(value_parser!(Shell))
                        .required(true),
                ),
        )
}

fn get() -> clap::Command {
    let about = "Get tickets from a server, one on each line";
    let count = Arg::new(COUNT)
        .value_name("N")
        .value_parser(value_parser!(u64).range(1..=limits::BATCH_MAX))
        .help("How many tickets, as one contiguous run; 1 when it is not given");
    let server = arg(&settings::SERVER).action(ArgAction::Append);
    let command = clap::Command::new("get")
        .about(about)
        .arg(count)
        .arg(server);
    with_settings(command, &[settings::CLIENT])
}

fn cluster_check() -> clap::Command {
    let about = "Ask each node how it is; exit 1 when one does not answer or they do not fit";
    let nodes = arg(&settings::NODES)
        .long(None)
        .num_args(1..)
        .action(ArgAction::Append);
    let watch = Arg::new(WATCH)
        .long(WATCH)
        .action(ArgAction::SetTrue)
        .help("Ask again every 2 seconds, until Ctrl-C");
    let json = Arg::new(JSON)
        .long(JSON)
        .action(ArgAction::SetTrue)
        .help("Print one JSON object on one line instead of the table");
    let command = clap::Command::new("check").about(about);
    with_settings(command.args([nodes, watch, json]), &[settings::CLIENT])
}

const GETTING_STARTED: &str = "\
Getting started:
  tickr dev                                   a private MySQL server and everything by default
  curl http://127.0.0.1:8080/tickets/create   in another terminal: the first ticket

In production, with the TICKR_* variables set as `tickr serve --help` says:
  tickr db create                             once: the counter and the stored settings
  tickr serve                                 on every node, each with a node number of its own";

const SETTINGS_NOTE: &str = "\
A flag and its environment variable are two names for one thing; the flag wins, and an empty value
counts as none. Bad settings are all named at once, with exit code 2.";

fn with_settings(mut command: clap::Command, groups: &[Group]) -> clap::Command {
    for group in groups {
        command = command.next_help_heading(group.heading);
        command = command.args(group.settings.iter().map(arg));
    }
    command.next_line_help(true)
}

/// No value of the environment is shown: a password may stand where it should not.
fn arg(setting: &Setting) -> Arg {
    let insisted_on = match setting.absent {
        Absent::Mistake => " [insisted on]",
        Absent::Default(_) | Absent::Unset => "",
    };
    let help = format!("{}\nTakes {}{insisted_on}", setting.about, setting.expects);
    let mut arg = Arg::new(setting.flag)
        .long(setting.flag)
        .value_name(setting.value_name)
        .value_parser(OsStringValueParser::new())
        .allow_negative_numbers(true)
        .hide_env_values(true)
        .help(help);
    if let Some(variable) = setting.variable {
        arg = arg.env(variable);
    }
    if let Absent::Default(value) = setting.absent {
        arg = arg.default_value(value);
    }
    arg
}

fn subcommand(matches: &ArgMatches) -> (&str, &ArgMatches) {
    matches.subcommand().expect("clap insists on a command")
}

fn given(matches: &ArgMatches) -> impl Fn(&Setting) -> Option<OsString> {
    |setting| {
        let values = matches.get_many::<OsString>(setting.flag)?;
        Some(values.cloned().collect::<Vec<_>>().join(OsStr::new(",")))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        super::command().debug_assert();
    }
}
