//! Misspelt variables: a `TICKR_*` that no command knows is named, with the nearest one that is.

use std::ffi::OsStr;

use crate::settings::shown;

const PREFIX: &str = "TICKR_";

/// A sentence for each variable that is meant for Tickr and unknown to it. Of the values nothing
/// is shown.
pub fn unknown_variables<'a, N: AsRef<OsStr>, V: AsRef<OsStr>>(
    environment: impl IntoIterator<Item = (N, V)>,
    known: impl IntoIterator<Item = &'a str>,
) -> Vec<String> {
    let known: Vec<&str> = known.into_iter().collect();
    let sentences = environment.into_iter().filter_map(|(name, value)| {
        let name = name.as_ref().to_string_lossy();
        let is_meant = name.starts_with(PREFIX)
            && !known.contains(&name.as_ref())
            && !is_service_link(&name, value.as_ref());
        is_meant.then(|| sentence(&name, &known))
    });
    let mut sentences: Vec<String> = sentences.collect();
    sentences.sort();
    sentences
}

fn sentence(name: &str, known: &[&str]) -> String {
    let near = known.iter().map(|known| (distance(name, known), *known));
    match near
        .min()
        .filter(|(distance, _)| *distance <= name.len() / 4)
    {
        Some((_, nearest)) => format!(
            "unknown environment variable {}; did you mean {nearest}?",
            shown(name)
        ),
        None => format!("unknown environment variable {}", shown(name)),
    }
}

/// What Kubernetes sets in every container for a service called `tickr` or `tickr-…`.
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let is_url = value.to_string_lossy().contains("://");
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_TCP_")
        || name.contains("_UDP_")
        || (is_url && name.contains("_PORT"))
}

/// Characters to insert, delete or replace to turn one word into the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, char) in one.chars().enumerate() {
        let mut diagonal = index;
        row[0] = index + 1;
        for column in 0..other.len() {
            let replaced = diagonal + usize::from(char != other[column]);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("TICKR_MAX_NODE", "TICKR_MAX_NODES", 1),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn a_misspelt_variable_is_named_with_the_nearest_and_without_its_value() {
        let environment = [
            ("TICKR_MAX_NODE", "hunter2"),
            ("TICKR_DATABASE_PASWORD", "hunter2"),
            ("TICKR_SOMETHING_ELSE", ""),
            ("TICKR_MAX_NODES", "4"),
            ("PATH", "/bin"),
            ("tickr_max_nodes", "4"),
            ("TICKR_SERVICE_HOST", "10.0.0.1"),
            ("TICKR_SERVICE_PORT_HTTP", "80"),
            ("TICKR_PORT", "tcp://10.0.0.1:80"),
            ("TICKR_NODE_0_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ];
        let known = ["TICKR_MAX_NODES", "TICKR_DATABASE_PASSWORD"];
        assert_eq!(
            unknown_variables(environment, known),
            [
                "unknown environment variable \"TICKR_DATABASE_PASWORD\"; did you mean \
                 TICKR_DATABASE_PASSWORD?",
                "unknown environment variable \"TICKR_MAX_NODE\"; did you mean TICKR_MAX_NODES?",
                "unknown environment variable \"TICKR_SOMETHING_ELSE\"",
            ]
        );
    }
}
