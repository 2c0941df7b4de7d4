//! The pages about the node itself, made of values: `/status`, `/readyz` and `/livez`.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::allocator::{Status, Verdict};
use crate::api::problems;
use crate::http::response::{JSON, Page, Response};
use crate::ticket::Numbering;

/// What the node says of itself, everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// It has been asked to stop, which comes before everything else.
    Draining,
    /// What the allocator says.
    Running(Verdict<'a>),
}

impl State<'_> {
    /// Its name in `/status`.
    pub fn name(self) -> &'static str {
        match self {
            State::Draining => "draining",
            State::Running(verdict) => match verdict {
                Verdict::Serving => "serving",
                Verdict::Degraded(_) => "degraded",
                Verdict::Starting => "starting",
                Verdict::Unavailable(_) => "unavailable",
                Verdict::Closed(_) => "closed",
                Verdict::Misfit(_) => "misfit",
                Verdict::Exhausted => "exhausted",
            },
        }
    }

    /// Whether a ticket would be issued now.
    pub fn is_ready(self) -> bool {
        match self {
            State::Draining => false,
            State::Running(verdict) => match verdict {
                Verdict::Serving | Verdict::Degraded(_) => true,
                Verdict::Starting
                | Verdict::Unavailable(_)
                | Verdict::Closed(_)
                | Verdict::Misfit(_)
                | Verdict::Exhausted => false,
            },
        }
    }

    /// What is wrong, if anything; without a full stop.
    fn reason(self, numbering: &Numbering) -> Option<String> {
        match self {
            State::Draining => Some("the server is stopping".to_owned()),
            State::Running(verdict) => problems::reason(verdict, numbering),
        }
    }
}

/// The answer to `/livez`: the process runs.
pub const LIVE: Response = Response::Json(r#"{"live":true}"#);

/// The answer to `OPTIONS *`.
pub const OPTIONS: Response = Response::Options("GET, HEAD, POST, OPTIONS");

/// The answer to `/readyz`.
pub fn readiness(state: State<'_>, numbering: &Numbering) -> Response {
    match state.is_ready() {
        true => Response::Json(r#"{"ready":true}"#),
        false => problems::not_ready(&state.reason(numbering).unwrap_or_default()),
    }
}

/// The answer to `/status`. With `strings`, every number is one, for readers that can't hold
/// integers over 2^53.
pub fn status(
    state: State<'_>,
    status: &Status,
    database: Option<String>,
    numbering: &Numbering,
    strings: bool,
) -> Response {
    let number = |number: u64| match strings {
        true => Value::from(number.to_string()),
        false => Value::from(number),
    };
    let last_ticket = status.last_issued.and_then(|base| numbering.ticket(base));
    let mut page = json!({
        "last_ticket": last_ticket.map(number),
        "node_number": number(numbering.node_number()),
        "max_nodes": number(numbering.max_nodes()),
        "starting_offset": number(numbering.starting_offset()),
        "version": env!("CARGO_PKG_VERSION"),
        "state": state.name(),
        "reserve": number(status.reserve),
        "epoch": number(status.memory.epoch.number),
        "database": database,
    });
    if let Some(detail) = state.reason(numbering) {
        page["detail"] = Value::from(detail);
    }
    Response::Page(Rc::new(Page {
        content_type: JSON,
        body: page.to_string().into_bytes(),
    }))
}
