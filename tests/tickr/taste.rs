//! The house rules that a test can hold: imports go only downward, lines fit in 100 columns, and
//! nothing unfinished is left lying about.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The rooms, lowest first. A file may name rooms of a lower level, and its own room.
const LEVELS: &[(&str, u32)] = &[
    ("limits", 0),
    ("file", 0),
    ("foreign", 1),
    ("patient", 1),
    ("ticket", 1),
    ("secret", 1),
    ("socket", 1),
    ("timer", 2),
    ("moment", 1),
    ("fault", 2),
    ("counter", 3),
    ("state", 4),
    ("http", 2),
    ("client", 2),
    ("cluster", 3),
    ("allocator", 4),
    ("database", 4),
    ("api", 5),
    ("metrics", 6),
    ("logging", 3),
    ("notify", 3),
    ("rotation", 3),
    ("node", 7),
    ("server", 8),
    ("settings", 9),
    ("config", 10),
    ("lib", 11),
    ("cli", 12),
    ("commands", 12),
    ("main", 13),
];

#[test]
fn imports_go_only_downward() {
    for file in rust_files("src") {
        let room = room(&file);
        let level = level(&room);
        for (line, text) in lines(&file) {
            for imported in imported_rooms(&text) {
                assert!(
                    imported == room || self::level(&imported) < level,
                    "{}:{line}: {room} (level {level}) imports {imported}, which is not below it",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_fits_the_page() {
    for file in ["src", "tests", "benches", "fuzz/fuzz_targets"]
        .map(rust_files)
        .concat()
    {
        let first = lines(&file)
            .into_iter()
            .next()
            .map(|(_, text)| text)
            .unwrap_or_default();
        assert!(
            first.starts_with("//!"),
            "{} does not open with what it is",
            file.display()
        );
        for (line, text) in lines(&file) {
            let place = format!("{}:{line}", file.display());
            assert!(text.chars().count() <= 100, "{place} is over 100 columns");
            assert_eq!(text.trim_end(), text, "{place} ends with white space");
            for word in ["todo", "unimplemented", "dbg"] {
                assert!(
                    !text.contains(&format!("{word}!(")),
                    "{place} has a {word}!"
                );
            }
        }
    }
}

#[test]
fn every_statement_ends_and_stands_in_a_file_of_its_own() {
    for entry in fs::read_dir("sql").expect("there is a folder of statements") {
        let path = entry.expect("the folder can be read").path();
        let sql = fs::read_to_string(&path).expect("a statement is text");
        assert!(!sql.trim().is_empty(), "{} is empty", path.display());
    }
    for file in ["session", "schema", "workers"].map(|name| format!("src/database/{name}.rs")) {
        let file = PathBuf::from(file);
        for (line, text) in lines(&file) {
            let code = text.split("//").next().unwrap_or_default();
            for word in [
                "\"SELECT ",
                "\"UPDATE ",
                "\"INSERT ",
                "\"CREATE ",
                "\"ALTER ",
            ] {
                assert!(
                    !code.contains(word),
                    "{}:{line} holds a statement",
                    file.display()
                );
            }
        }
    }
}

/// Else `make hunt-proof` proves nothing; a package without them has nothing to prove.
#[test]
fn the_patches_that_break_the_program_still_apply() {
    for entry in fs::read_dir("tests/sabotage").into_iter().flatten() {
        let path = entry.expect("the folder can be read").path();
        let mut check = Command::new("git");
        let output = check.args(["apply", "--check"]).arg(&path).output();
        let output = output.expect("git is there");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", path.display());
    }
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            files.extend(rust_files(path.to_str().expect("our names are text")));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn lines(file: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(file).expect("a source file is text");
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.to_owned()))
        .collect()
}

/// The room of a file: its first folder or its name below `src`.
fn room(file: &Path) -> String {
    let below = file.strip_prefix("src").expect("only src has rooms");
    let first = below
        .iter()
        .next()
        .expect("a file has a name")
        .to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn level(room: &str) -> u32 {
    let known = LEVELS.iter().find(|(name, _)| *name == room);
    known
        .unwrap_or_else(|| panic!("{room} has no level: give it one in LEVELS"))
        .1
}

/// The rooms that a line names: `crate::room` anywhere, `tickr::room` in the binary.
fn imported_rooms(line: &str) -> Vec<String> {
    // Every other piece between quotes is a text, not code.
    let code: String = line.split('"').step_by(2).collect();
    let code = code.split("//").next().unwrap_or_default();
    ["crate::", "tickr::"]
        .iter()
        .flat_map(|prefix| code.split(prefix).skip(1))
        .map(|rest| {
            rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap_or("")
        })
        .filter(|name| name.chars().next().is_some_and(char::is_lowercase))
        .map(str::to_owned)
        .collect()
}
