//! The pages: every link leads somewhere, the table of contents names every page, and the tables of
//! the reference are what the program says of itself. `TICKR_WRITE_DOCS=1` writes those tables.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use tickr::config::{
    self, AdvanceConfig, CheckConfig, ClusterConfig, Config, DecodeConfig, DevConfig, DropConfig,
    GetConfig, LeaseConfig,
};
use tickr::settings::{Absent, Form, Row};

use crate::harness::{Database, Kind, Tickr, run};

/// Folders of pages, and the pages that stand alone.
const FOLDERS: [&str; 4] = ["docs", "docs/decisions", "deploy", "clients"];
const ALONE: [&str; 4] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
];

/// Rows under their headings.
type Rows = Vec<(Option<&'static str>, &'static Row)>;

/// Every page that people read, from the root of the repository.
fn pages() -> BTreeSet<PathBuf> {
    let clients = entries("clients")
        .into_iter()
        .flat_map(|path| entries(path.to_str().unwrap()));
    let folders = FOLDERS.into_iter().flat_map(entries);
    let found = folders.chain(clients).chain(ALONE.map(PathBuf::from));
    let pages = found.filter(|path| path.extension().is_some_and(|end| end == "md"));
    pages.collect()
}

fn entries(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .map(|entry| entry.expect("the folder can be read").path())
        .collect()
}

fn text(page: &Path) -> String {
    fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

/// Where the links and pictures of a page lead, outside of code.
fn links(text: &str) -> Vec<String> {
    let mut in_code = false;
    let prose = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    });
    let links = prose.flat_map(|line| {
        // Every other piece between backticks is code, but for links whose text is code.
        let line = line.replace("`]", "]");
        let rest: Vec<String> = line.split("](").skip(1).map(str::to_owned).collect();
        rest.into_iter()
            .filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
    });
    links.collect()
}

/// The names by which the headings of a page can be linked to.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let headings = text.lines().filter(|line| {
        in_code ^= line.starts_with("```");
        !in_code && line.starts_with('#')
    });
    let anchors = headings.map(|heading| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    });
    anchors.collect()
}

/// `docs/../deploy/x` as `deploy/x`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path {
        match part.to_str() {
            Some("..") => assert!(plain.pop(), "{} leads out", path.display()),
            _ => plain.push(part),
        }
    }
    plain
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_of_it() {
    let pages = pages();
    assert!(pages.len() > 25, "{pages:?}");
    let contents = contents();
    let mut count = 0;
    for page in &pages {
        for link in links(&text(page)) {
            if link.starts_with("http") || link.starts_with("mailto:") {
                continue;
            }
            let place = format!("{} links to {link}", page.display());
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => page.clone(),
                path => plain(&page.parent().expect("a file is in a folder").join(path)),
            };
            // A folder cannot be opened from a disk.
            assert!(target.is_file(), "{place}, which is no file");
            if target.extension().is_some_and(|end| end == "md") {
                let is_on_the_site = contents.contains(&target);
                assert!(is_on_the_site, "{place}, which is not in docs/SUMMARY.md");
            }
            if !anchor.is_empty() {
                assert!(
                    anchors(&text(&target)).contains(anchor),
                    "{place}: no such heading"
                );
            }
            count += 1;
        }
    }
    assert!(count > 100, "{count} links");
}

/// The pages that the table of contents names.
fn contents() -> BTreeSet<PathBuf> {
    let links = links(&text(Path::new("docs/SUMMARY.md")));
    links
        .iter()
        .map(|link| plain(&Path::new("docs").join(link)))
        .collect()
}

#[test]
fn the_table_of_contents_names_every_page() {
    let mut pages = pages();
    pages.remove(Path::new("docs/SUMMARY.md"));
    assert_eq!(contents(), pages);
}

/// Requires that a page holds the generated text between its markers, or writes it there.
fn hold(page: &str, name: &str, generated: &str) {
    let whole = text(Path::new(page));
    let (start, end) = (
        format!("<!-- {name} -->\n"),
        format!("<!-- end of {name} -->\n"),
    );
    let missing = format!("{page} has no {start}");
    let (before, rest) = whole.split_once(&start).expect(&missing);
    let (held, after) = rest.split_once(&end).expect(&missing);
    if env::var_os("TICKR_WRITE_DOCS").is_some() {
        let whole = [before, &start, generated, &end, after].concat();
        return fs::write(page, whole).expect("the page can be written");
    }
    assert_eq!(
        held, generated,
        "{page} is out of date: TICKR_WRITE_DOCS=1 cargo test --test tickr docs::"
    );
}

#[test]
fn the_page_of_settings_is_what_the_program_reads() {
    let serve = config::rows(Config::read);
    let mut generated = String::new();
    table(&mut generated, "", &serve);
    let others: [(&str, Rows); 9] = [
        ("dev", config::rows(DevConfig::read)),
        ("db create", config::rows(LeaseConfig::read_create)),
        ("db check", config::rows(CheckConfig::read)),
        ("db advance", config::rows(AdvanceConfig::read)),
        ("db lease", config::rows(LeaseConfig::read)),
        ("db drop", config::rows(DropConfig::read)),
        ("get", config::rows(GetConfig::read)),
        ("cluster check", config::rows(ClusterConfig::read)),
        ("decode", config::rows(DecodeConfig::read)),
    ];
    for (command, rows) in others {
        let is_shared = |row: &Row| {
            serve.iter().any(|(_, other)| {
                (other.flag, other.help, other.absent) == (row.flag, row.help, row.absent)
            })
        };
        let own = rows.into_iter().filter(|(_, row)| !is_shared(row));
        let own: Rows = own.map(|(_, row)| (None, row)).collect();
        writeln!(generated, "\n## tickr {command}").expect("a String takes all");
        table(&mut generated, command, &own);
    }
    hold("docs/settings.md", "settings", &generated);
}

/// The rows of one heading together, each heading once.
fn table(out: &mut String, command: &str, rows: &Rows) {
    let mut headings: Vec<Option<&str>> = Vec::new();
    for (heading, _) in rows {
        if !headings.contains(heading) {
            headings.push(*heading);
        }
    }
    for heading in headings {
        if let Some(heading) = heading.filter(|_| command.is_empty()) {
            writeln!(out, "\n## {heading}").expect("a String takes all");
        }
        out.push_str("\n| setting | meaning | value | default |\n|---|---|---|---|\n");
        for (_, row) in rows.iter().filter(|(of, _)| *of == heading) {
            let typed = match row.form {
                Form::Flag | Form::Flags | Form::Switch => format!("--{}", row.flag),
                Form::Argument | Form::Arguments => row.value_name.to_owned(),
            };
            let name = row.variable().unwrap_or(typed);
            let default = match row.absent {
                Absent::Required(_) => "required".to_owned(),
                Absent::Default(value) => format!("`{value}`"),
                Absent::Unset => String::new(),
            };
            let (value, help) = (row.expects(), row.help);
            writeln!(out, "| `{name}` | {help} | {value} | {default} |")
                .expect("a String takes all");
        }
    }
}

#[test]
fn the_page_of_metrics_is_what_a_server_shows() {
    let database = Database::create();
    let tickr = Tickr::serve(&database);
    let mut client = tickr.connect(Kind::Tcp);
    assert_eq!(client.ask("GET /tickets/create HTTP/1.1").status, 200);
    let answer = client.ask("GET /metrics HTTP/1.1");
    let lines: Vec<&str> = answer.text().lines().collect();
    let mut generated = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for line in &lines {
        let Some((name, help)) = line
            .strip_prefix("# HELP ")
            .and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        let kind = format!("# TYPE {name} ");
        let kind = lines
            .iter()
            .find_map(|line| line.strip_prefix(&kind))
            .expect("it has a type");
        let samples = lines.iter().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', '_']))
        });
        let mut labels = BTreeSet::new();
        for sample in samples {
            let inner = sample.split_once('{').map_or("", |(_, rest)| rest);
            let pairs = inner.split("\",").filter_map(|pair| pair.split_once("=\""));
            labels.extend(pairs.map(|(label, _)| label).filter(|label| *label != "le"));
        }
        // There are no errors yet.
        if name == "tickr_database_errors_total" {
            labels.insert("class");
        }
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        writeln!(generated, "| `{name}` | {kind} | {labels} | {help} |")
            .expect("a String takes all");
    }
    hold("docs/metrics.md", "metrics", &generated);
    tickr.stop();
}

#[test]
fn the_page_of_exit_codes_names_every_command() {
    let page = text(Path::new("docs/exit-codes.md"));
    for parent in ["", "db", "cluster"] {
        let arguments: Vec<&str> = parent.split_whitespace().chain(["--help"]).collect();
        let output = run(&arguments, &[]);
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        let commands = help.split_once("Commands:\n").expect("it has commands").1;
        for line in commands.lines().take_while(|line| line.starts_with("  ")) {
            let name = line
                .split_whitespace()
                .next()
                .expect("a command has a name");
            let typed = ["tickr", parent, name].join(" ").replace("  ", " ");
            let is_named = ["help", "db", "cluster"].contains(&name) || page.contains(&typed);
            assert!(is_named, "{typed} is not on the page");
        }
    }
}

/// What is written in the source with `log::info!` and above, as far as it is always the same.
#[test]
fn the_page_of_log_events_has_every_one() {
    let page = text(Path::new("docs/log.md")).replace("`…`", "");
    let mut events = 0;
    let files = [entries("src"), entries("src/node"), entries("src/database")].concat();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|end| end == "rs"))
    {
        let source = text(file).replace("\\\n", "\n");
        for level in ["info", "warn", "error"] {
            for call in source.split(&format!("log::{level}!(")).skip(1) {
                let literal = call
                    .trim_start()
                    .strip_prefix('"')
                    .expect("a text comes first");
                let fixed = literal.split(['{', '"', '\n']).next().unwrap_or_default();
                let fixed = fixed.trim_end_matches([' ', '(', ':']);
                let is_there = page.contains(fixed);
                assert!(
                    is_there,
                    "{}: {fixed:?} is not in docs/log.md",
                    file.display()
                );
                events += 1;
            }
        }
    }
    assert!(events > 15, "{events} events");
}

/// The kinds of database faults: what the log says, and the `class` of a metric.
#[test]
fn the_page_of_log_events_has_every_fault() {
    let source = text(Path::new("src/fault.rs"));
    let rows = source.split("=> (\"").skip(1).map(|row| {
        let (label, rest) = row.split_once("\", ").expect("a label, and more");
        let (act, rest) = rest.split_once(',').expect("whose act");
        let sentence = rest
            .split('"')
            .nth(1)
            .expect("a sentence")
            .replace("\\\n", "");
        let words: Vec<&str> = sentence.split_whitespace().collect();
        (label, act, words.join(" ").replace("{said}", ""))
    });
    let mut generated = "| class | ends | text |\n|---|---|---|\n".to_owned();
    for (label, act, sentence) in rows {
        let ends = match act {
            "Retry" => "when a retry works",
            "Operator" | "Mend" => "by an operator",
            other => panic!("{other} is new"),
        };
        writeln!(generated, "| `{label}` | {ends} | {sentence} |").expect("a String takes all");
    }
    hold("docs/log.md", "faults", &generated);
}
