//! The command line, built from a table of commands and the settings that each one reads. Values
//! stay text here: clap stops at the first bad one, and [`tickr::config`] names them all.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};

use clap::builder::OsStringValueParser;
use clap::{Arg, ArgAction, ArgMatches};
use tickr::config::{self, Mistakes, Reader};
use tickr::settings::{Absent, Form, Row};

/// A command: how it is typed, what it is for, and the reading of its settings into a job.
pub(crate) struct Command<J: 'static> {
    /// `["db", "create"]`
    pub(crate) path: &'static [&'static str],
    pub(crate) about: &'static str,
    pub(crate) read: fn(&mut Reader<'_>) -> J,
}

/// What stands above commands of two words.
const PARENTS: [(&str, &str); 2] = [
    ("db", "Create, check and repair the database"),
    ("cluster", "Check every node of a cluster"),
];

const GETTING_STARTED: &str = "\
Getting started:
  tickr dev                                  run with a private MySQL server
  curl http://127.0.0.1:8080/tickets/create  in another terminal: the first ticket

In production, with the TICKR_* variables described in `tickr serve --help`:
  tickr db create                            once: create the counter
  tickr serve                                on every node, with its own number";

const SETTINGS_NOTE: &str = "\
A flag marked [env: NAME] can also be set by that environment variable; the flag wins, and an empty
value counts as unset. All invalid settings are reported together, with exit code 2.";

/// Everything that can be typed.
pub(crate) fn command_line<J>(commands: &[Command<J>]) -> clap::Command {
    let mut tickr = clap::Command::new("tickr")
        .version(version())
        .about("Issues unique 64-bit IDs over plain HTTP, backed by MySQL")
        .after_help(GETTING_STARTED)
        .subcommand_required(true)
        .arg_required_else_help(true);
    for command in commands {
        tickr = match *command.path {
            [parent, name] => {
                if tickr.find_subcommand(parent).is_none() {
                    tickr = tickr.subcommand(parent_command(parent));
                }
                tickr.mut_subcommand(parent, |parent| parent.subcommand(leaf(name, command)))
            }
            [name, ..] => tickr.subcommand(leaf(name, command)),
            [] => tickr,
        };
    }
    tickr
}

/// The job of the command that was typed.
pub(crate) fn read<J>(commands: &[Command<J>], mut matches: &ArgMatches) -> Result<J, Mistakes> {
    let mut path = Vec::new();
    while let Some((name, inner)) = matches.subcommand() {
        path.push(name);
        matches = inner;
    }
    let typed = commands.iter().find(|command| *command.path == path);
    let command = typed.expect("clap knows the commands of the table, and requires one");
    config::read(&|row| given(matches, row), command.read)
}

/// Sentences about variables that are meant for Tickr and that no command knows.
pub(crate) fn unknown_variables<J>(commands: &[Command<J>]) -> Vec<String> {
    let rows = commands
        .iter()
        .flat_map(|command| config::rows(command.read));
    let known: BTreeSet<String> = rows.filter_map(|(_, row)| row.variable()).collect();
    config::unknown_variables(env::vars_os(), known.iter().map(String::as_str))
}

/// Version, commit (`TICKR_COMMIT` in the environment of the build) and target.
fn version() -> String {
    let libc = match () {
        () if cfg!(target_env = "musl") => "-musl",
        () if cfg!(target_env = "gnu") => "-gnu",
        () => "",
    };
    let commit = option_env!("TICKR_COMMIT").filter(|commit| !commit.is_empty());
    format!(
        "{} ({}{}-{}{libc})",
        env!("CARGO_PKG_VERSION"),
        commit.map_or(String::new(), |commit| format!("{commit}, ")),
        env::consts::ARCH,
        env::consts::OS,
    )
}

fn parent_command(name: &'static str) -> clap::Command {
    let about = PARENTS.iter().find(|(parent, _)| *parent == name);
    clap::Command::new(name)
        .about(about.map_or("", |(_, about)| about))
        .subcommand_required(true)
        .arg_required_else_help(true)
}

fn leaf<J>(name: &'static str, command: &Command<J>) -> clap::Command {
    let mut leaf = clap::Command::new(name)
        .about(command.about)
        .next_line_help(true);
    let rows = config::rows(command.read);
    if rows.iter().any(|(_, row)| row.variable().is_some()) {
        leaf = leaf.after_help(SETTINGS_NOTE);
    }
    for (heading, row) in rows {
        leaf = leaf.next_help_heading(heading).arg(arg(row));
    }
    leaf
}

/// No value of the environment is shown: a password may stand where it should not.
fn arg(row: &Row) -> Arg {
    let arg = Arg::new(row.flag);
    if row.form == Form::Switch {
        return arg.long(row.flag).action(ArgAction::SetTrue).help(row.help);
    }
    let expects = row.expects();
    let (first, rest) = expects.split_at(1);
    let required = match row.absent {
        Absent::Required(_) => " [required]",
        Absent::Default(_) | Absent::Unset => "",
    };
    let help = format!("{}\n{}{rest}{required}", row.help, first.to_uppercase());
    let mut arg = arg
        .value_name(row.value_name)
        .value_parser(OsStringValueParser::new())
        .allow_negative_numbers(true)
        .hide_env_values(true)
        .help(help);
    arg = match row.form {
        Form::Flag | Form::Switch => arg.long(row.flag),
        Form::Flags => arg.long(row.flag).action(ArgAction::Append),
        Form::Argument => arg,
        Form::Arguments => arg.num_args(1..).action(ArgAction::Append),
    };
    if let Some(variable) = row.variable() {
        arg = arg.env(variable);
    }
    if let Some(value) = row.default() {
        arg = arg.default_value(value);
    }
    arg
}

fn given(matches: &ArgMatches, row: &Row) -> Option<OsString> {
    if row.form == Form::Switch {
        return matches.get_flag(row.flag).then(|| "true".into());
    }
    let values = matches.get_many::<OsString>(row.flag)?;
    Some(values.cloned().collect::<Vec<_>>().join(OsStr::new(",")))
}
