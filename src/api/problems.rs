//! Every answer that is no success, on one ladder: input that is no request, a request that is for
//! no route, and the reasons for a 503. Each has one status and one text.

use crate::allocator::{Closed, Closing, Refusal, Verdict};
use crate::api::routes::{Endpoint, RouteError};
use crate::http::request::Reject;
use crate::http::response::{Field, Problem, Response, Status, Text};
use crate::ticket::Numbering;

/// What an operator is told when no ticket is left.
pub const EXHAUSTED: &str = "this node has no tickets left: every number up to 2^64 - 1 has been \
     issued; start a new cluster with a new database";

/// Input that is no request that could be served.
pub fn rejected(reject: Reject) -> Response {
    problem(reject.status(), None, Text::Known(reject_detail(reject)))
}

/// A well-framed request that is for no route.
pub fn misrouted(error: &RouteError) -> Response {
    let (status, field) = match error {
        RouteError::Unauthorized => (Status::Unauthorized, Some(Field::Authenticate)),
        RouteError::NotFound => (Status::NotFound, None),
        RouteError::MethodNotAllowed { endpoint } => (
            Status::MethodNotAllowed,
            Some(Field::Allow(endpoint.methods())),
        ),
        RouteError::BadEscape
        | RouteError::CountNotANumber
        | RouteError::CountZero
        | RouteError::CountTooLarge
        | RouteError::UnknownFormat { .. }
        | RouteError::RepeatedFormat { .. }
        | RouteError::UnknownParameters { .. } => (Status::BadRequest, None),
    };
    problem(status, field, route_detail(error))
}

/// A request for tickets that gets none, while the node is like this.
pub fn refused(refusal: Refusal, verdict: Verdict<'_>, numbering: &Numbering) -> Response {
    unavailable(match refusal {
        Refusal::TimedOut => Text::Known(
            "The database did not respond within the pool timeout \
             (TICKR_DATABASE_POOL_TIMEOUT). No ticket was used; please retry.",
        ),
        Refusal::QueueFull => Text::Known(
            "Too many requests are waiting for tickets. No ticket was used; please retry.",
        ),
        Refusal::NumbersExhausted if verdict == Verdict::Exhausted => format!(
            "{}. No ticket was used; ask another node.",
            sentence(EXHAUSTED)
        )
        .into(),
        Refusal::NumbersExhausted => Text::Known(
            "This node has fewer tickets left than were requested. No ticket was used; request \
             fewer, or ask another node.",
        ),
        Refusal::Unavailable => {
            let reason = reason(verdict, numbering);
            let reason = reason
                .as_deref()
                .unwrap_or("It has just become available again");
            format!("{}. No ticket was used; please retry.", sentence(reason)).into()
        }
    })
}

/// One connection too many.
pub fn too_many_connections() -> Response {
    unavailable(Text::Known(
        "Too many connections are open (TICKR_MAX_CONNECTIONS). No ticket was used; retry later, \
         or reuse connections.",
    ))
}

/// The node serves no request, for this reason.
pub fn not_ready(reason: &str) -> Response {
    unavailable(format!("Not ready: {}.", reason.trim_end_matches('.')).into())
}

/// Why a node that is like this issues no ticket; `None` when it does. Without a full stop.
pub fn reason(verdict: Verdict<'_>, numbering: &Numbering) -> Option<String> {
    Some(match verdict {
        Verdict::Serving => return None,
        Verdict::Degraded(fault) | Verdict::Unavailable(fault) | Verdict::Misfit(fault) => {
            fault.to_string().trim_end_matches('.').to_owned()
        }
        Verdict::Starting => "the database has not been reached yet".to_owned(),
        Verdict::Closed(Closed { why, .. }) => closed(why, numbering),
        Verdict::Exhausted => EXHAUSTED.to_owned(),
    })
}

/// Why the counter is closed, and what opens it. Without a full stop.
pub fn closed(why: &Closing, numbering: &Numbering) -> String {
    let ticket = |base| match numbering.ticket(base) {
        Some(ticket) => ticket.to_string(),
        None => "none".to_owned(),
    };
    match why {
        Closing::Behind { memory, epoch, id } if *id < memory.id => {
            let (seen, found) = (ticket(memory.id), ticket(*id));
            format!(
                "the database went backwards: this node has seen tickets up to {seen}, and the \
                 counter is now at {found} (epoch {}, seen {}). This happens after a restore from \
                 a backup or a failover to a replica that lags behind, and further tickets would \
                 be duplicates, so none is issued until an operator runs `tickr db advance --past \
                 {seen}` (or a higher ticket, if other processes of this node issued some)",
                epoch.number, memory.epoch.number
            )
        }
        Closing::Behind { memory, epoch, id } => format!(
            "the counter is from before it was opened last, or from another database: it is at \
             ticket {}, epoch {}, and this node has seen epoch {}. No ticket is issued until an \
             operator runs `tickr db advance --past {}` (or a higher ticket, if other processes of \
             this node issued some)",
            ticket(*id),
            epoch.number,
            memory.epoch.number,
            ticket(memory.id.max(*id))
        ),
        Closing::Marked { mark, id } => format!(
            "the counter is closed: tickets up to {} may have been issued, and it is at {}. No \
             ticket is issued until an operator runs `tickr db advance --past {}` (or a higher \
             ticket, if some were issued)",
            ticket(*mark),
            ticket(*id),
            ticket(*mark)
        ),
        Closing::OtherServer { owner, here } => format!(
            "the counter belongs to another MySQL server ({owner}; this one is {here}), as after a \
             failover or a copy. No ticket is issued until an operator runs `tickr db advance` \
             with a ticket past all that were issued"
        ),
        Closing::ByOperator => "the counter was closed by an operator, who has not opened it yet: \
             see whether `tickr db advance` was interrupted, and run it again"
            .to_owned(),
        Closing::Unowned => "the counter belongs to no server: an older version of Tickr has \
             replaced it, or it was never opened. No ticket is issued until an operator runs \
             `tickr db advance` with a ticket past all that were issued"
            .to_owned(),
        Closing::ReadOnly => {
            "the MySQL server is read-only: a replica, or one that an operator has \
             set so. Direct this node to the primary, or make the server writable"
                .to_owned()
        }
    }
}

fn problem(status: Status, field: Option<Field>, detail: Text) -> Response {
    Response::Problem(Problem {
        status,
        field,
        detail,
    })
}

fn unavailable(detail: Text) -> Response {
    problem(Status::ServiceUnavailable, Some(Field::RetryAfter), detail)
}

/// Begins with a capital letter, as what stands alone does.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

fn route_detail(error: &RouteError) -> Text {
    Text::Known(match error {
        RouteError::BadEscape => {
            "The target has a % that is not followed by two hexadecimal digits. No ticket was used."
        }
        RouteError::CountNotANumber => {
            "The N of /tickets/create/N must be a plain decimal number. No ticket was used."
        }
        RouteError::CountZero => {
            "The N of /tickets/create/N must be at least 1. No ticket was used."
        }
        RouteError::CountTooLarge => {
            "The N of /tickets/create/N is over the largest batch of this server \
             (TICKR_MAX_BATCH). No ticket was used; ask for fewer at a time."
        }
        RouteError::UnknownFormat { endpoint } => {
            let known = endpoint.formats();
            return format!("The format must be {known}. No ticket was used.").into();
        }
        RouteError::RepeatedFormat { .. } => {
            "The format is given more than once. No ticket was used."
        }
        RouteError::UnknownParameters { endpoint, names } => {
            let known = match endpoint {
                Endpoint::Create | Endpoint::Status => "the only one is format",
                _ => "there are none",
            };
            return format!(
                "The query has unknown parameters ({names}); {known}. No ticket was used."
            )
            .into();
        }
        RouteError::Unauthorized => {
            "This server requires HTTP Basic authentication: any user name, and the password that \
             it was started with."
        }
        RouteError::NotFound => {
            "There is no such path. Tickets are at /tickets/create and /tickets/create/N; a \
             trailing or doubled slash is another path."
        }
        RouteError::MethodNotAllowed { .. } => {
            "This path does not take that method; the Allow field lists those that it takes. No \
             ticket was used."
        }
    })
}

fn reject_detail(reject: Reject) -> &'static str {
    match reject {
        Reject::RequestLine => "The request line is not METHOD SP target SP HTTP/1.1 CRLF.",
        Reject::EmptyLines => "Too many empty lines come before the request line.",
        Reject::BareLineFeed => "A line of the head ends with LF instead of CRLF.",
        Reject::FieldName => {
            "A field name is malformed: no white space before the colon, no folded lines."
        }
        Reject::FieldValue => "A field value has a control byte in it.",
        Reject::LineEnd => "A line of the head ends with CR alone instead of CRLF.",
        Reject::VersionSpelling => "The request line must end with exactly HTTP/1.0 or HTTP/1.1.",
        Reject::Target => "The target must be a path, an http URL, or * with OPTIONS.",
        Reject::HostMissing => "HTTP/1.1 asks for a Host field.",
        Reject::HostRepeated => "There is more than one Host field.",
        Reject::HostInvalid => "The Host field, or the host of the target, is no host.",
        Reject::AuthorizationRepeated => "There is more than one Authorization field.",
        Reject::ContentLength => "Content-Length must be one plain decimal number, once.",
        Reject::TransferEncoding => "Transfer-Encoding must be exactly chunked, once.",
        Reject::TransferCodingUnknown => {
            "The only transfer coding that is known to this server is chunked, alone."
        }
        Reject::TwoFramings => "Content-Length and Transfer-Encoding exclude each other.",
        Reject::Chunk => "The chunked body is malformed.",
        Reject::ChunkLineTooLong => "The line that opens a chunk is too long.",
        Reject::Trailers => "The fields behind the chunked body are malformed or too long.",
        Reject::Truncated => "The connection ended inside a request. No ticket was used.",
        Reject::HeadTimeout => "The head of the request did not arrive in time.",
        Reject::BodyTimeout => {
            "The body of the request did not arrive in time. No ticket was used."
        }
        Reject::BodyTooLarge => "The body is too large; no route needs one.",
        Reject::TargetTooLong => "The target is too long.",
        Reject::Expectation => "The only expectation that is met is 100-continue.",
        Reject::HeadTooLarge => "The head of the request is too large.",
        Reject::TooManyHeaders => "The request has too many header lines.",
        Reject::MethodUnknown => "The method is not known to this server.",
        Reject::VersionNotServed => "Only HTTP/1.0 and HTTP/1.1 are served.",
    }
}
