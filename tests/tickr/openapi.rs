//! `docs/openapi.json` against the running server: each path, method, status, parameter and format
//! that it names is answered so, and nothing that the server knows is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use tickr::allocator::{Closed, Closing, Verdict};
use tickr::api::pages::State;
use tickr::api::routes::Endpoint;
use tickr::fault::{Fault, FaultKind};
use tickr::http::array::Format;
use tickr::http::response::Status;
use tickr::moment::Moment;

use crate::harness::{Client, Database, Kind, Response, Tickr, wait_until};

/// Methods as OpenAPI names them: all that the server can tell apart.
const METHODS: [&str; 8] = [
    "get", "head", "post", "put", "delete", "patch", "options", "trace",
];
/// Any user name and the password `s`.
const AUTHORIZATION: &str = "Authorization: Basic YW55OnM=\r\n";

/// The description.
struct Api(Value);

impl Api {
    fn read() -> Api {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(root.join("docs/openapi.json")).expect("there is a file");
        Api(serde_json::from_str(&text).expect("it is JSON"))
    }

    /// Follows a reference, if this is one.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(name) => {
                let pointer = name.strip_prefix('#').expect("references are local");
                self.0
                    .pointer(pointer)
                    .expect("a reference leads somewhere")
            }
            None => value,
        }
    }

    /// The paths with their methods.
    fn paths(&self) -> BTreeMap<&str, BTreeMap<&str, &Value>> {
        let paths = self.0["paths"].as_object().expect("there are paths");
        let operations = |item: &'static str, path: &Value| path.get(item).is_some();
        paths
            .iter()
            .map(|(path, item)| {
                let named = METHODS.into_iter().filter(|name| operations(name, item));
                (
                    path.as_str(),
                    named.map(|name| (name, &item[name])).collect(),
                )
            })
            .collect()
    }

    /// The values that `format` may have in this operation.
    fn formats<'a>(&'a self, operation: &'a Value) -> Vec<&'a str> {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let mut formats = Vec::new();
        for parameter in parameters.map(|parameter| self.resolve(parameter)) {
            assert_eq!(
                (&parameter["name"], &parameter["in"]),
                (&"format".into(), &"query".into())
            );
            let values = parameter["schema"]["enum"]
                .as_array()
                .expect("a closed list");
            formats.extend(values.iter().filter_map(Value::as_str));
        }
        formats
    }

    /// The answer is one that the operation names, in every field and in its body.
    fn check(&self, operation: &Value, answer: &Response, has_body: bool) {
        let status = answer.status.to_string();
        let named = self.resolve(&operation["responses"][&status]);
        assert!(named.is_object(), "{status} is not named: {answer:?}");
        for (name, header) in named["headers"].as_object().into_iter().flatten() {
            let value = answer.header(&name.to_ascii_lowercase());
            let value = value.unwrap_or_else(|| panic!("no {name}: {answer:?}"));
            let schema = &self.resolve(header)["schema"];
            assert!(self.fits(&value.into(), schema), "{name}: {value}");
        }
        if !has_body {
            assert!(named["content"].is_null(), "a HEAD has no body");
            return;
        }
        let content_type = answer.header("content-type").expect("a body has a type");
        let schema = &named["content"][content_type]["schema"];
        assert!(
            schema.is_object(),
            "{content_type} is not named for {status}"
        );
        let body = match content_type.contains("json") {
            true => answer.json(),
            false => answer.text().into(),
        };
        assert!(self.fits(&body, schema), "{body} is not as {schema} says");
    }

    /// Whether a value fits a schema, as far as the words of JSON Schema go that the file uses.
    fn fits(&self, value: &Value, schema: &Value) -> bool {
        let words = self.resolve(schema).as_object().expect("a schema");
        words.iter().all(|(word, of)| match word.as_str() {
            "description" | "format" => true,
            "const" => value == of,
            "enum" => of.as_array().is_some_and(|all| all.contains(value)),
            "oneOf" => {
                let all = of.as_array().expect("schemas");
                all.iter().filter(|schema| self.fits(value, schema)).count() == 1
            }
            "type" => match of.as_str().expect("a type") {
                "integer" => value.is_u64(),
                "string" => value.is_string(),
                "array" => value.is_array(),
                "object" => value.is_object(),
                "null" => value.is_null(),
                other => panic!("no test for the type {other}"),
            },
            "minimum" => value.as_u64() >= of.as_u64(),
            "maximum" => value.as_u64() <= of.as_u64(),
            "minItems" => value.as_array().map(|all| all.len() as u64) >= of.as_u64(),
            "items" => {
                let items = value.as_array().into_iter().flatten();
                items.into_iter().all(|item| self.fits(item, of))
            }
            // The only pattern: plain decimal digits.
            "pattern" => value
                .as_str()
                .is_some_and(|text| text.parse::<u64>().is_ok_and(|n| n.to_string() == text)),
            "required" => {
                let names = of.as_array().into_iter().flatten();
                let mut names = names.filter_map(Value::as_str);
                names.all(|name| value.get(name).is_some())
            }
            "properties" => {
                let fields = value.as_object().into_iter().flatten();
                let mut known = fields.filter_map(|(name, field)| Some((field, of.get(name)?)));
                known.all(|(field, schema)| self.fits(field, schema))
            }
            "additionalProperties" => {
                let fields = value.as_object().into_iter().flatten();
                let mut names = fields.map(|(name, _)| name);
                names.all(|name| words["properties"].get(name).is_some())
            }
            other => panic!("no test for the word {other}"),
        })
    }
}

/// Asks one connection, with or without the password.
fn ask(client: &mut Client, method: &str, target: &str, authorization: &str) -> Response {
    let method = method.to_ascii_uppercase();
    client.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: t\r\n{authorization}\r\n"
    ));
    match method == "HEAD" {
        true => client.read_head(),
        false => client.read_response(),
    }
}

/// The path with a small count in it.
fn concrete(path: &str) -> String {
    path.replace("{count}", "3")
}

#[test]
fn each_operation_answers_as_described_and_no_other_does() {
    let api = Api::read();
    let database = Database::alone();
    let settings = [
        ("TICKR_HTTP_AUTH_PASSWORD", "s"),
        ("TICKR_DATABASE_POOL_TIMEOUT", "0.5"),
    ];
    let tickr = Tickr::serve_with(&database, &settings);
    let mut client = tickr.connect(Kind::Tcp);
    let mut seen: BTreeSet<(&str, &str, String)> = BTreeSet::new();

    for (path, operations) in api.paths() {
        let target = concrete(path);
        for method in METHODS {
            let Some(operation) = operations.get(method) else {
                let answer = ask(&mut client, method, &target, AUTHORIZATION);
                assert_eq!(answer.status, 405, "{method} {path}");
                let allow = answer.header("allow").unwrap_or_default().to_lowercase();
                let named: Vec<&str> = operations.keys().copied().collect();
                assert_eq!(allow, named.join(", "), "{method} {path}");
                continue;
            };
            let mut checked = |query: &str, authorization: &str, expected: u16| {
                let target = format!("{target}{query}");
                let answer = ask(&mut client, method, &target, authorization);
                assert_eq!(answer.status, expected, "{method} {target}");
                api.check(operation, &answer, method != "head");
                seen.insert((path, method, expected.to_string()));
            };
            checked("", AUTHORIZATION, 200);
            let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
            checked("", "", if is_open { 200 } else { 401 });
            let refuses = operation["responses"].get("400").is_some();
            checked("?unknown=1", AUTHORIZATION, if refuses { 400 } else { 200 });
            let formats = api.formats(operation);
            for format in Format::ALL.map(Format::name) {
                let is_named = formats.contains(&format) || !refuses;
                let expected = if is_named { 200 } else { 400 };
                checked(&format!("?format={format}"), AUTHORIZATION, expected);
            }
            for format in formats {
                assert!(Format::from_name(format.as_bytes()).is_some(), "{format}");
            }
        }
    }

    let count = &api.0["components"]["parameters"]["Count"]["schema"];
    let bound = |word: &str| count[word].as_u64().expect("a bound");
    for (count, expected) in [
        (bound("minimum") - 1, 400),
        (bound("minimum"), 200),
        (bound("maximum"), 200),
        (bound("maximum") + 1, 400),
    ] {
        let target = format!("/tickets/create/{count}?format=range");
        let answer = ask(&mut client, "get", &target, AUTHORIZATION);
        assert_eq!(answer.status, expected, "{target}");
    }

    database.server().kill().expect("the server is killed");
    wait_until("the loss is noticed", || {
        ask(&mut client, "get", "/readyz", "").status == 503
    });
    for (path, operations) in api.paths() {
        for (method, operation) in operations {
            let answer = ask(&mut client, method, &concrete(path), AUTHORIZATION);
            api.check(operation, &answer, method != "head");
            seen.insert((path, method, answer.status.to_string()));
        }
    }

    let mut named = BTreeSet::new();
    for (path, operations) in api.paths() {
        for (method, operation) in operations {
            let responses = operation["responses"].as_object().expect("responses");
            let statuses = responses.keys().filter(|status| *status != "default");
            named.extend(statuses.map(|status| (path, method, status.clone())));
        }
    }
    assert_eq!(seen, named, "each status that is named was seen");
}

#[test]
fn everything_that_the_server_knows_is_named() {
    let api = Api::read();
    assert_eq!(api.0["info"]["version"], env!("CARGO_PKG_VERSION"));

    let endpoint = |path: &str| {
        path.strip_suffix("/{count}")
            .map_or(path.to_owned(), Into::into)
    };
    let named: BTreeSet<String> = api.paths().into_keys().map(endpoint).collect();
    let known = Endpoint::ALL
        .into_iter()
        .filter(|known| *known != Endpoint::Other);
    let known: BTreeSet<String> = known.map(|known| known.path().to_owned()).collect();
    assert_eq!(named, known);

    let problem = &api.0["components"]["schemas"]["Problem"]["properties"]["status"]["enum"];
    let problem: BTreeSet<u64> = numbers(problem);
    let known = Status::ALL.into_iter().filter(|known| *known != Status::Ok);
    let known: BTreeSet<u64> = known.map(|known| u64::from(known.code())).collect();
    assert_eq!(problem, known);

    let states = &api.0["components"]["schemas"]["Status"]["properties"]["state"]["enum"];
    let named = states.as_array().into_iter().flatten();
    let named: BTreeSet<&str> = named.filter_map(Value::as_str).collect();
    assert_eq!(named, states_of_the_server());
    let readme = fs::read_to_string("README.md").expect("there is a README");
    let line = readme.lines().find(|line| line.contains("`GET /status`"));
    for state in named {
        let shown = format!("`{state}`");
        assert!(
            line.is_some_and(|line| line.contains(&shown)),
            "{state} in the README"
        );
    }
}

fn numbers(list: &Value) -> BTreeSet<u64> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_u64).collect()
}

fn states_of_the_server() -> BTreeSet<&'static str> {
    let fault = Fault::new(FaultKind::Protocol, "");
    let closed = Closed {
        why: Closing::ByOperator,
        since: Moment::default(),
    };
    let verdicts = [
        Verdict::Serving,
        Verdict::Degraded(&fault),
        Verdict::Starting,
        Verdict::Unavailable(&fault),
        Verdict::Closed(&closed),
        Verdict::Misfit(&fault),
        Verdict::Exhausted,
    ];
    let running = verdicts.map(|verdict| State::Running(verdict).name());
    let mut names = BTreeSet::from(running);
    names.insert(State::Draining.name());
    names
}
