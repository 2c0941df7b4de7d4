//! Writes the man pages into a folder, one for each command and `tickr.env.5` for the settings, and
//! beside them `tickr.env`, the file of settings that packages install. All are made of the command
//! line and the table of settings, so they cannot fall behind.
//!
//! ```sh
//! cargo run --example pages -- target/man
//! ```

use std::fs;
use std::io;
use std::path::Path;

use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use tickr::config::{self, Config, GetConfig};
use tickr::settings::{Absent, Row};

#[allow(
    dead_code,
    reason = "the commands are described here, and run elsewhere"
)]
#[path = "../src/main.rs"]
mod program;

/// What the settings are for, and where they may stand.
const ENV_ABOUT: &str = "\
Tickr is configured by environment variables. As a service it reads them from /etc/tickr/tickr.env, \
one NAME=value on each line. Lines that start with # are comments; put a value with spaces in \
double quotes. Each setting is also a flag of the commands that use it, and the flag wins. An empty \
value counts as unset. The service reads the file when it starts: restart it after a change.";

/// The heading of what no server reads.
const CLIENT: &str = "Client commands";

/// Settings, each under its heading.
type Rows = Vec<(Option<&'static str>, &'static Row)>;

/// The settings of a server, those of one heading together.
fn of_a_server() -> Rows {
    let mut rows = config::rows(Config::read);
    let headings: Vec<Option<&str>> = rows.iter().map(|(heading, _)| *heading).collect();
    rows.sort_by_key(|(heading, _)| headings.iter().position(|known| known == heading));
    rows
}

const EXIT_STATUS: [(&str, &str); 3] = [
    ("0", "Success."),
    ("1", "The command failed while it ran, or found a problem."),
    (
        "2",
        "The usage or the settings are invalid; nothing was changed. systemd does not restart the \
         service.",
    ),
];

const FILES: [(&str, &str); 2] = [
    ("/etc/tickr/tickr.env", "The settings of the service."),
    (
        "/usr/share/doc/tickr/docs/how-to.md",
        "One section for each task (installed by the Debian package).",
    ),
];

/// What people type, by page.
const EXAMPLES: [(&str, &[(&str, &str)]); 13] = [
    (
        "tickr",
        &[
            ("tickr dev", "Try it with a private MySQL server."),
            (
                "curl http://127.0.0.1:8080/tickets/create",
                "Ask it for a ticket.",
            ),
        ],
    ),
    (
        "tickr-serve",
        &[(
            "sh -c 'set -a; . /etc/tickr/tickr.env; exec tickr serve'",
            "Serve in the foreground with the settings of the service.",
        )],
    ),
    (
        "tickr-db-create",
        &[(
            "sh -c 'set -a; . /etc/tickr/tickr.env; tickr db create'",
            "Create what the service needs, with its settings.",
        )],
    ),
    (
        "tickr-db-check",
        &[(
            "sh -c 'set -a; . /etc/tickr/tickr.env; tickr db check'",
            "Check the database of the service.",
        )],
    ),
    (
        "tickr-db-migrate",
        &[(
            "sh -c 'set -a; . /etc/tickr/tickr.env; tickr db migrate'",
            "Convert the original's table, with the old node stopped.",
        )],
    ),
    (
        "tickr-db-advance",
        &[
            (
                "sh -c 'set -a; . /etc/tickr/tickr.env; tickr db advance'",
                "Open the counter after a failover, while at least one process of the node runs.",
            ),
            (
                "sh -c 'set -a; . /etc/tickr/tickr.env; tickr db advance --past 54313021'",
                "The same when no process was running: 54313021 is the highest ID in use.",
            ),
        ],
    ),
    (
        "tickr-db-lease",
        &[(
            "sh -c 'set -a; . /etc/tickr/tickr.env; tickr db lease --lease-seconds 30'",
            "Allow TICKR_PREFETCH_SECONDS up to 30.",
        )],
    ),
    (
        "tickr-db-drop",
        &[(
            "sh -c 'set -a; . /etc/tickr/tickr.env; tickr db drop --confirm tickets'",
            "Delete the database tickets. There is no way back.",
        )],
    ),
    (
        "tickr-decode",
        &[(
            "tickr decode 54313021 --max-nodes 4 --starting-offset 54313001",
            "Find the node of a ticket.",
        )],
    ),
    (
        "tickr-get",
        &[
            ("tickr get --server http://127.0.0.1:8080", "One ticket."),
            (
                "tickr get 5 --server unix:/run/tickr/tickr.sock",
                "Five, over a Unix socket.",
            ),
            (
                "tickr get --watch --server http://tickr-0:8080 --server http://tickr-1:8080",
                "One a second, from whichever server issues them: to see a failover.",
            ),
        ],
    ),
    (
        "tickr-cluster-check",
        &[(
            "tickr cluster check http://tickr-0:8080 http://tickr-1:8080",
            "Check two nodes.",
        )],
    ),
    (
        "tickr-dev",
        &[(
            "tickr dev --data-dir /tmp/tickr",
            "Keep the data somewhere else.",
        )],
    ),
    (
        "tickr-completions",
        &[(
            "tickr completions bash > ~/.local/share/bash-completion/completions/tickr",
            "Completions for one user's bash.",
        )],
    ),
];

fn main() -> io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("name the folder for the man pages"));
    };
    let folder = Path::new(&folder);
    fs::create_dir_all(folder)?;
    let mut tickr = program::command_line().disable_help_subcommand(true);
    tickr.build();
    let mut names = Vec::new();
    page_names(&tickr, &mut names);
    write_pages(&tickr, &names, folder)?;
    fs::write(folder.join("tickr.env.5"), settings_page().to_roff())?;
    fs::write(folder.join("tickr.env"), settings_file())
}

/// The name of a command's page: `tickr-db-create`.
fn page_name(command: &clap::Command) -> String {
    command
        .get_display_name()
        .unwrap_or(command.get_name())
        .to_owned()
}

fn page_names(command: &clap::Command, names: &mut Vec<String>) {
    names.push(page_name(command));
    for inner in shown(command) {
        page_names(inner, names);
    }
}

fn shown(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
}

fn write_pages(command: &clap::Command, names: &[String], folder: &Path) -> io::Result<()> {
    let name = page_name(command);
    // The second line of a help, what a valid value is, would run into the first. The variable is
    // what an operator looks for.
    let command = &command.clone().mut_args(|arg| {
        let help = arg
            .get_help()
            .map(|help| help.to_string().replace('\n', ". "));
        let variable = arg.get_env().and_then(|name| name.to_str());
        let variable = variable.map(|name| format!(" [env: {name}]"));
        arg.help(help.unwrap_or_default() + &variable.unwrap_or_default())
    });
    let page = Man::new(command.clone())
        .title(name.to_uppercase())
        .source(concat!("tickr ", env!("CARGO_PKG_VERSION")))
        .manual("Tickr");
    let mut out = Vec::new();
    page.render_title(&mut out)?;
    page.render_name_section(&mut out)?;
    // Every flag in one paragraph helps nobody; they are listed below.
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    Roff::new()
        .control("SH", ["SYNOPSIS"])
        .text([bold(usage)])
        .to_writer(&mut out)?;
    page.render_description_section(&mut out)?;
    page.render_options_section(&mut out)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut out)?;
    }
    if let Some(notes) = command.get_after_help() {
        let notes = notes.to_string();
        let mut roff = Roff::new();
        roff.control("SH", ["NOTES"]);
        // The lines of a table stay as they are.
        if notes.contains("\n  ") {
            roff.control("nf", []);
        }
        for line in notes.lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []).to_writer(&mut out)?;
    }
    ending(&name, names).to_writer(&mut out)?;
    fs::write(folder.join(format!("{name}.1")), out)?;
    shown(command).try_for_each(|inner| write_pages(inner, names, folder))
}

/// What clap knows nothing of.
fn ending(name: &str, names: &[String]) -> Roff {
    let mut roff = Roff::new();
    if let Some((_, examples)) = EXAMPLES.iter().find(|(page, _)| *page == name) {
        roff.control("SH", ["EXAMPLES"]);
        for (typed, does) in *examples {
            roff.control("TP", [])
                .text([bold(*typed)])
                .text([roman(*does)]);
        }
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_STATUS {
        roff.control("TP", [])
            .text([bold(code)])
            .text([roman(meaning)]);
    }
    if name == "tickr" {
        roff.control("SH", ["FILES"]);
        for (file, what) in FILES {
            roff.control("TP", [])
                .text([bold(file)])
                .text([roman(what)]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    let mut others: Vec<Inline> = Vec::new();
    for other in names.iter().filter(|other| *other != name) {
        others.extend([bold(other.as_str()), roman("(1), ")]);
    }
    others.extend([bold("tickr.env"), roman("(5)")]);
    roff.text(others);
    roff
}

fn settings_page() -> Roff {
    let mut roff = Roff::new();
    let source = concat!("tickr ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["TICKR.ENV", "5", "", source, "Tickr"])
        .control("SH", ["NAME"])
        .text([roman("tickr.env - settings of Tickr")])
        .control("SH", ["SYNOPSIS"])
        .text([italic("/etc/tickr/tickr.env")])
        .control("SH", ["DESCRIPTION"])
        .text([roman(ENV_ABOUT)]);
    let mut last = None;
    let of_a_client = config::rows(GetConfig::read);
    let of_a_client = of_a_client.into_iter().map(|(_, row)| (Some(CLIENT), row));
    for (heading, row) in of_a_server().into_iter().chain(of_a_client) {
        if heading != last {
            let title = heading.unwrap_or("Other").to_uppercase();
            roff.control("SH", [title.as_str()]);
            last = heading;
        }
        describe(row, &mut roff);
    }
    roff.control("SH", ["SEE ALSO"]).text([
        bold("tickr-serve"),
        roman("(1), "),
        bold("systemd.exec"),
        roman("(5)"),
    ]);
    roff
}

fn describe(row: &Row, roff: &mut Roff) {
    let Some(variable) = row.variable() else {
        return;
    };
    let absent = match row.absent {
        Absent::Required(_) => "Required.".to_owned(),
        Absent::Default(value) => format!("Default: {value}."),
        Absent::Unset => "Optional.".to_owned(),
    };
    roff.control("TP", [])
        .text([bold(variable), roman("="), italic(row.value_name)])
        .text([roman(format!(
            "{}. Value: {}. {absent}",
            row.help,
            row.expects()
        ))]);
}

/// Every setting is a comment: an empty value would count as none all the same, but in systemd it
/// would also replace what a unit sets. A start names the required ones that were forgotten.
fn settings_file() -> String {
    let mut file = String::from(
        "# Settings of Tickr, one NAME=value on each line; see tickr.env(5). After a change:\n\
         # systemctl restart tickr\n",
    );
    let mut last = None;
    for (heading, row) in of_a_server() {
        let Some(variable) = row.variable() else {
            continue;
        };
        if heading != last {
            file.push_str(&format!("\n## {}\n", heading.unwrap_or("Other")));
            last = heading;
        }
        let text = format!("{}. Value: {}.", row.help, row.expects());
        file.push('\n');
        for line in wrapped(&text, 96) {
            file.push_str(&format!("# {line}\n"));
        }
        file.push_str(&match row.absent {
            Absent::Required(_) => format!("# Required.\n#{variable}=\n"),
            Absent::Default(value) => format!("#{variable}={value}\n"),
            Absent::Unset => format!("#{variable}=\n"),
        });
    }
    file
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
