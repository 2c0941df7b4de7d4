//! Which of Tickr's few routes a request is for, or why it is for none.
//!
//! Everything that a client can get wrong above the framing is decided here, before a ticket is
//! used.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use crate::http::array::Format;
use crate::http::request::{Method, Request, Target};
use crate::limits;

/// Longest path that any route has, decoded.
const PATH_BYTES_MAX: usize = 64;
/// Longest name or value in a query that means anything to us, decoded.
const QUERY_WORD_BYTES_MAX: usize = 16;
/// Bytes of unknown parameters that an error repeats.
const SHOWN_NAMES_BYTES_MAX: usize = 80;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET` or `POST /tickets/create[/N]`.
    Create {
        /// How many tickets; at least 1.
        count: u64,
        /// How they are written.
        format: Format,
    },
    /// `GET /status`: the last ticket and the settings.
    Status {
        /// Whether numbers that may be over 2^53 are written as strings.
        strings: bool,
    },
    /// `GET /livez`: does the process run?
    Livez,
    /// `GET /readyz`: would a ticket be issued now?
    Readyz,
    /// `GET /metrics`: for Prometheus.
    Metrics,
    /// `OPTIONS *`: what the server can do at all.
    ServerOptions,
}

/// What is counted together in the metrics: a route without its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/tickets/create` and `/tickets/create/N`.
    Create,
    /// `/status`.
    Status,
    /// `/livez`.
    Livez,
    /// `/readyz`.
    Readyz,
    /// `/metrics`.
    Metrics,
    /// What is not a request for one of these.
    Other,
}

impl Endpoint {
    /// Every endpoint, in the order of the discriminants.
    pub const ALL: [Endpoint; 6] = [
        Endpoint::Create,
        Endpoint::Status,
        Endpoint::Livez,
        Endpoint::Readyz,
        Endpoint::Metrics,
        Endpoint::Other,
    ];

    /// The path, or `other`.
    pub fn path(self) -> &'static str {
        match self {
            Endpoint::Create => "/tickets/create",
            Endpoint::Status => "/status",
            Endpoint::Livez => "/livez",
            Endpoint::Readyz => "/readyz",
            Endpoint::Metrics => "/metrics",
            Endpoint::Other => "other",
        }
    }

    /// The methods that it takes, for the `Allow` field (RFC 9110, section 10.2.1).
    pub fn methods(self) -> &'static str {
        match self {
            Endpoint::Create => "GET, POST",
            _ => "GET, HEAD",
        }
    }

    /// The formats that it has.
    pub fn formats(self) -> &'static str {
        match self {
            Endpoint::Create => "array, string, range or range-string",
            Endpoint::Status => "string",
            _ => "",
        }
    }
}

impl Route {
    /// What the route is counted as.
    pub fn endpoint(self) -> Endpoint {
        match self {
            Route::Create { .. } => Endpoint::Create,
            Route::Status { .. } => Endpoint::Status,
            Route::Livez => Endpoint::Livez,
            Route::Readyz => Endpoint::Readyz,
            Route::Metrics => Endpoint::Metrics,
            Route::ServerOptions => Endpoint::Other,
        }
    }
}

/// Why a well-framed request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// 400: a `%` without two hexadecimal digits behind it.
    BadEscape,
    /// 400: the N of `/tickets/create/N` is not a plain decimal number.
    CountNotANumber,
    /// 400: N is 0.
    CountZero,
    /// 400: N is larger than the server allows.
    CountTooLarge,
    /// 400: `format` is none of those that the route has.
    UnknownFormat {
        /// What the request was for.
        endpoint: Endpoint,
    },
    /// 400: `format` is there more than once.
    RepeatedFormat {
        /// What the request was for.
        endpoint: Endpoint,
    },
    /// 400: the query has parameters that the route does not know.
    UnknownParameters {
        /// What the request was for.
        endpoint: Endpoint,
        /// Their names, as they were sent, cut to a bearable length.
        names: Box<str>,
    },
    /// 401: no or wrong credentials.
    Unauthorized,
    /// 404: no such path.
    NotFound,
    /// 405: the path exists, and takes other methods.
    MethodNotAllowed {
        /// What the request was for.
        endpoint: Endpoint,
    },
}

impl RouteError {
    /// What the refused request is counted as.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            RouteError::CountNotANumber | RouteError::CountZero | RouteError::CountTooLarge => {
                Endpoint::Create
            }
            RouteError::UnknownFormat { endpoint }
            | RouteError::RepeatedFormat { endpoint }
            | RouteError::UnknownParameters { endpoint, .. }
            | RouteError::MethodNotAllowed { endpoint } => *endpoint,
            RouteError::BadEscape | RouteError::Unauthorized | RouteError::NotFound => {
                Endpoint::Other
            }
        }
    }
}

/// The settings that routing depends on.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The largest N of `/tickets/create/N`.
    pub max_batch: u64,
    /// How a batch is written when the request names no format.
    pub batch_format: Format,
    /// When set, every route but the probes asks for it (RFC 7617, any user name).
    pub password: Option<Box<[u8]>>,
}

/// Finds the route of a request.
pub fn route(request: &Request<'_>, rules: &Rules) -> Result<Route, RouteError> {
    let (path, query) = match request.target {
        Target::Asterisk => return Ok(Route::ServerOptions),
        Target::Path { path, query } => (path, query),
    };
    let mut decoded = [0; PATH_BYTES_MAX];
    let path = decode_path(path, &mut decoded)?;
    let probe = matches!(path, Some(b"/livez" | b"/readyz"));
    if !probe && !is_authorized(request, rules) {
        return Err(RouteError::Unauthorized);
    }
    match path.ok_or(RouteError::NotFound)? {
        // Balancers add what they like to a probe.
        b"/livez" => reads(request, Endpoint::Livez).map(|()| Route::Livez),
        b"/readyz" => reads(request, Endpoint::Readyz).map(|()| Route::Readyz),
        b"/status" => {
            let endpoint = Endpoint::Status;
            reads(request, endpoint)?;
            let strings = match format(query, endpoint)? {
                None => false,
                Some(Format::String) => true,
                Some(_) => return Err(RouteError::UnknownFormat { endpoint }),
            };
            Ok(Route::Status { strings })
        }
        b"/metrics" => {
            reads(request, Endpoint::Metrics)?;
            format(query, Endpoint::Metrics)?;
            Ok(Route::Metrics)
        }
        b"/tickets/create" => {
            issues(request.method)?;
            let format = format(query, Endpoint::Create)?.unwrap_or(Format::Array);
            Ok(Route::Create { count: 1, format })
        }
        path => {
            let count = path
                .strip_prefix(b"/tickets/create/")
                .ok_or(RouteError::NotFound)?;
            if count.is_empty() || count.contains(&b'/') {
                return Err(RouteError::NotFound);
            }
            issues(request.method)?;
            let count = parse_count(count, rules.max_batch)?;
            let format = format(query, Endpoint::Create)?.unwrap_or(rules.batch_format);
            Ok(Route::Create { count, format })
        }
    }
}

fn reads(request: &Request<'_>, endpoint: Endpoint) -> Result<(), RouteError> {
    match request.method {
        Method::Get | Method::Head => Ok(()),
        _ => Err(RouteError::MethodNotAllowed { endpoint }),
    }
}

fn issues(method: Method) -> Result<(), RouteError> {
    match method {
        Method::Get | Method::Post => Ok(()),
        _ => Err(RouteError::MethodNotAllowed {
            endpoint: Endpoint::Create,
        }),
    }
}

fn parse_count(digits: &[u8], max_batch: u64) -> Result<u64, RouteError> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(RouteError::CountNotANumber);
    }
    let count = digits.iter().try_fold(0u64, |count, digit| {
        count.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    });
    match count {
        Some(0) => Err(RouteError::CountZero),
        Some(count) if count <= max_batch => Ok(count),
        _ => Err(RouteError::CountTooLarge),
    }
}

/// Reads a query, in which no route but [`Route::Create`] and [`Route::Status`] knows anything.
fn format(query: Option<&[u8]>, endpoint: Endpoint) -> Result<Option<Format>, RouteError> {
    let Some(query) = query else { return Ok(None) };
    let known = endpoint.formats();
    let (mut found, mut unknown) = (None, String::new());
    for pair in query.split(|byte| *byte == b'&') {
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let sent = halves.next().unwrap_or_default();
        let (mut name, mut value) = ([0; QUERY_WORD_BYTES_MAX], [0; QUERY_WORD_BYTES_MAX]);
        let name = decode(sent, &mut name)?;
        let value = decode(halves.next().unwrap_or_default(), &mut value)?;
        if name != Some(b"format") || known.is_empty() {
            let left = SHOWN_NAMES_BYTES_MAX.saturating_sub(unknown.len());
            // A parameter without a name is shown with its value. The parser lets nothing but
            // printable ASCII pass.
            let shown = if sent.is_empty() { pair } else { sent };
            let shown = shown.iter().take(left).copied().map(char::from);
            if !pair.is_empty() {
                unknown.extend((!unknown.is_empty()).then_some(", "));
                unknown.extend(shown);
            }
            continue;
        }
        let format = value
            .and_then(Format::from_name)
            .ok_or(RouteError::UnknownFormat { endpoint })?;
        if found.replace(format).is_some() {
            return Err(RouteError::RepeatedFormat { endpoint });
        }
    }
    match unknown.is_empty() {
        true => Ok(found),
        false => Err(RouteError::UnknownParameters {
            endpoint,
            names: unknown.into(),
        }),
    }
}

/// Decodes a path; `None` when it is longer than any route, or has an encoded slash, which is
/// not the same as a slash (RFC 3986, section 2.2).
fn decode_path<'a>(path: &'a [u8], buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>, RouteError> {
    if !path.contains(&b'%') {
        return Ok(Some(path));
    }
    let encoded_slash = path
        .windows(3)
        .any(|escape| escape.eq_ignore_ascii_case(b"%2f"));
    Ok(decode(path, buffer)?.filter(|_| !encoded_slash))
}

/// Decodes percent-escapes (RFC 3986, section 2.1); `None` when the result is longer than the
/// buffer, though every escape is checked.
fn decode<'a>(text: &[u8], buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>, RouteError> {
    let mut length = 0;
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        let decoded = if *byte == b'%' {
            let [high, low, tail @ ..] = tail else {
                return Err(RouteError::BadEscape);
            };
            rest = tail;
            hex_digit(*high)? << 4 | hex_digit(*low)?
        } else {
            rest = tail;
            *byte
        };
        if let Some(place) = buffer.get_mut(length) {
            *place = decoded;
        }
        length += 1;
    }
    Ok(buffer.get(..length))
}

fn hex_digit(digit: u8) -> Result<u8, RouteError> {
    match char::from(digit).to_digit(16) {
        Some(value) => Ok(value as u8),
        None => Err(RouteError::BadEscape),
    }
}

/// HTTP Basic authentication (RFC 7617): any user name, the right password.
fn is_authorized(request: &Request<'_>, rules: &Rules) -> bool {
    let Some(password) = &rules.password else {
        return true;
    };
    let Some((scheme, credentials)) = request
        .authorization
        .and_then(|value| value.split_at_checked(6))
    else {
        return false;
    };
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return false;
    }
    let mut decoded = [0; limits::HEAD_BYTES_MAX];
    let Ok(length) = STANDARD.decode_slice(credentials.trim_ascii(), &mut decoded) else {
        return false;
    };
    let Some(colon) = decoded[..length].iter().position(|byte| *byte == b':') else {
        return false;
    };
    decoded[colon + 1..length].ct_eq(password).into()
}
