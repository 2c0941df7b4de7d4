//! The request parser: bytes to a request head, or the reason why not.
//!
//! `httparse` splits the bytes into tokens; everything that request smuggling lives on is refused
//! here, on top of it. Incomplete input is a value, not an error, and a verdict never depends on
//! how the input was split: what is refused is refused at the first byte that is wrong.

use std::mem::MaybeUninit;
use std::net::Ipv6Addr;

use crate::http::response::Status;
use crate::limits;

/// What a parse came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A whole head.
    Complete {
        /// The request.
        request: Request<'a>,
        /// Bytes of input that it took, with the empty lines before it.
        consumed: usize,
    },
    /// So far so good: more input is needed.
    Partial,
}

/// One request head. Field values that matter to Tickr have been checked and understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// What it is about.
    pub target: Target<'a>,
    /// The version of HTTP.
    pub version: Version,
    /// Whether the connection goes on after the answer (RFC 9112, section 9.3).
    pub keep_alive: bool,
    /// What follows the head.
    pub body: BodyFraming,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// The value of `Authorization`.
    pub authorization: Option<&'a [u8]>,
}

/// The methods of RFC 9110, section 9, but `CONNECT`, and `PATCH`. All others are unknown: 501. No
/// `CONNECT` comes to a server that is no proxy, and what follows one is no HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// `PATCH`
    Patch,
    /// `TRACE`
    Trace,
}

/// A request target (RFC 9112, section 3.2). The absolute form has been reduced to its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// `/path?query`, both still percent-encoded.
    Path {
        /// The path; never empty.
        path: &'a [u8],
        /// What follows the first question mark.
        query: Option<&'a [u8]>,
    },
    /// `*`: the server itself. Only with `OPTIONS`.
    Asterisk,
}

/// The versions of HTTP that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How the end of the body is found (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body.
    None,
    /// So many bytes; at least one.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
}

/// Why input is not a request that can be served. The connection can't go on after any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// 400: the request line is malformed.
    RequestLine,
    /// 400: more empty lines before the request line than are skipped.
    EmptyLines,
    /// 400: a line ends with a bare LF.
    BareLineFeed,
    /// 400: a field name is malformed, or white space comes before its colon, or it is folded.
    FieldName,
    /// 400: a field value has a control byte in it.
    FieldValue,
    /// 400: a CR ends a line without its LF.
    LineEnd,
    /// 400: the request line does not end with a version of HTTP as it is spelt.
    VersionSpelling,
    /// 400: the target has no form that is served, or bytes that no target has.
    Target,
    /// 400: HTTP/1.1 without a `Host`.
    HostMissing,
    /// 400: more than one `Host`.
    HostRepeated,
    /// 400: `Host`, or the host of an absolute target, is no host.
    HostInvalid,
    /// 400: more than one `Authorization`.
    AuthorizationRepeated,
    /// 400: `Content-Length` is not one plain decimal number.
    ContentLength,
    /// 400: `Transfer-Encoding` is not exactly `chunked`, nor a list that ends with it.
    TransferEncoding,
    /// 400: both `Content-Length` and `Transfer-Encoding`.
    TwoFramings,
    /// 400: the chunked coding is malformed.
    Chunk,
    /// 400: the line that opens a chunk is too long.
    ChunkLineTooLong,
    /// 400: the fields behind a chunked body are malformed or too long.
    Trailers,
    /// 400: the input ended inside a request.
    Truncated,
    /// 408: the head of the request took too long.
    HeadTimeout,
    /// 408: the body of the request took too long.
    BodyTimeout,
    /// 413: the body is over its bound.
    BodyTooLarge,
    /// 414: the target is too long.
    TargetTooLong,
    /// 417: an expectation other than `100-continue`.
    Expectation,
    /// 431: the head is over its bound.
    HeadTooLarge,
    /// 431: too many header lines.
    TooManyHeaders,
    /// 501: no such method, or one without an end.
    MethodUnknown,
    /// 501: `Transfer-Encoding` has another coding before `chunked`.
    TransferCodingUnknown,
    /// 505: a version of HTTP that is not served.
    VersionNotServed,
}

impl Reject {
    /// The status of the answer.
    pub fn status(self) -> Status {
        match self {
            Reject::RequestLine
            | Reject::EmptyLines
            | Reject::BareLineFeed
            | Reject::FieldName
            | Reject::FieldValue
            | Reject::LineEnd
            | Reject::VersionSpelling
            | Reject::Target
            | Reject::HostMissing
            | Reject::HostRepeated
            | Reject::HostInvalid
            | Reject::AuthorizationRepeated
            | Reject::ContentLength
            | Reject::TransferEncoding
            | Reject::TwoFramings
            | Reject::Chunk
            | Reject::ChunkLineTooLong
            | Reject::Trailers
            | Reject::Truncated => Status::BadRequest,
            Reject::HeadTimeout | Reject::BodyTimeout => Status::RequestTimeout,
            Reject::BodyTooLarge => Status::ContentTooLarge,
            Reject::TargetTooLong => Status::UriTooLong,
            Reject::Expectation => Status::ExpectationFailed,
            Reject::HeadTooLarge | Reject::TooManyHeaders => Status::HeadersTooLarge,
            Reject::MethodUnknown | Reject::TransferCodingUnknown => Status::NotImplemented,
            Reject::VersionNotServed => Status::VersionNotSupported,
        }
    }
}

/// Parses the head at the start of `input`. Bytes behind it are not looked at.
pub fn parse(input: &[u8]) -> Result<Parsed<'_>, Reject> {
    let start = skip_empty_lines(input)?;
    let head = &input[start..];
    let head = &head[..head.len().min(limits::HEAD_BYTES_MAX)];
    let mut headers = [const { MaybeUninit::uninit() }; limits::HEADERS_MAX];
    let mut tokens = httparse::Request::new(&mut []);
    match tokenise(head, &mut tokens, &mut headers) {
        Ok(httparse::Status::Complete(length)) => {
            if bare_line_feed(&head[..length]).is_some() {
                return Err(Reject::BareLineFeed);
            }
            Ok(Parsed::Complete {
                request: understand(&tokens)?,
                consumed: start + length,
            })
        }
        Ok(httparse::Status::Partial) if bare_line_feed(head).is_some() => {
            Err(Reject::BareLineFeed)
        }
        Ok(httparse::Status::Partial) if head.len() < limits::HEAD_BYTES_MAX => Ok(Parsed::Partial),
        Ok(httparse::Status::Partial) => Err(over_the_bound(&tokens)),
        Err(reject) => Err(first_fault(head, reject)),
    }
}

/// Whether input that is no whole request head, or none that is served, begins with `HEAD`: then
/// the answer has no content, whatever is wrong with it (RFC 9110, section 9.3.2).
pub fn asks_for_the_head(input: &[u8]) -> bool {
    skip_empty_lines(input).is_ok_and(|start| input[start..].starts_with(b"HEAD "))
}

/// Skips empty lines before the request line (RFC 9112, section 2.2).
fn skip_empty_lines(input: &[u8]) -> Result<usize, Reject> {
    let mut start = 0;
    while input[start..].starts_with(b"\r\n") {
        start += 2;
        if start > 2 * limits::LEADING_EMPTY_LINES_MAX {
            return Err(Reject::EmptyLines);
        }
    }
    // `httparse` skips empty lines as well, any number of them and those of a bare LF.
    match &input[start..] {
        [b'\r', _, ..] => Err(Reject::RequestLine),
        [b'\n', ..] => Err(Reject::BareLineFeed),
        _ => Ok(start),
    }
}

/// Splits a head into tokens. A bare LF passes for a line end here.
fn tokenise<'h, 'a>(
    head: &'a [u8],
    tokens: &mut httparse::Request<'h, 'a>,
    headers: &'h mut [MaybeUninit<httparse::Header<'a>>],
) -> Result<httparse::Status<usize>, Reject> {
    let error = match tokens.parse_with_uninit_headers(head, headers) {
        Ok(status) => return Ok(status),
        Err(error) => error,
    };
    // Behind the method, the target, and the single space that ends each.
    let version = match (tokens.method, tokens.path) {
        (Some(method), Some(target)) => head.get(method.len() + target.len() + 2..),
        _ => None,
    };
    match error {
        httparse::Error::Version => other_version(version.unwrap_or_default()),
        httparse::Error::NewLine => Err(match version.and_then(|version| version.get(8)) {
            Some(b'\r') => Reject::LineEnd,
            _ => Reject::VersionSpelling,
        }),
        httparse::Error::HeaderName => Err(Reject::FieldName),
        httparse::Error::HeaderValue => Err(Reject::FieldValue),
        httparse::Error::TooManyHeaders => Err(Reject::TooManyHeaders),
        httparse::Error::Token | httparse::Error::Status => Err(Reject::RequestLine),
    }
}

/// What comes of a version that is neither HTTP/1.0 nor HTTP/1.1, decided at its first byte that
/// is wrong, or where it ends.
fn other_version(line: &[u8]) -> Result<httparse::Status<usize>, Reject> {
    let mut rest = line.iter();
    for expected in b"HTTP/0.0\r" {
        let fits = match (rest.next(), expected) {
            (None, _) => return Ok(httparse::Status::Partial),
            (Some(byte), b'0') => byte.is_ascii_digit(),
            (Some(byte), expected) => byte == expected,
        };
        if !fits {
            return Err(Reject::VersionSpelling);
        }
    }
    Err(Reject::VersionNotServed)
}

/// Where the first LF is that has no CR before it.
fn bare_line_feed(head: &[u8]) -> Option<usize> {
    let follows = |(before, byte): (&u8, &u8)| *byte == b'\n' && *before != b'\r';
    let pairs = || head.iter().zip(head.get(1..).unwrap_or_default());
    // The fold has no branches, which makes it several times as fast as the search.
    let any = pairs().fold(false, |any, pair| any | follows(pair));
    any.then(|| pairs().position(follows).map(|before| before + 1))?
}

/// The verdict on a head in which `found` is wrong, unless a bare LF came before that.
fn first_fault(head: &[u8], found: Reject) -> Reject {
    let Some(line_feed) = bare_line_feed(head) else {
        return found;
    };
    let mut headers = [const { MaybeUninit::uninit() }; limits::HEADERS_MAX];
    let mut tokens = httparse::Request::new(&mut []);
    match tokenise(&head[..line_feed], &mut tokens, &mut headers) {
        Ok(_) => Reject::BareLineFeed,
        Err(reject) => reject,
    }
}

/// Which part of a head has made it too long.
fn over_the_bound(tokens: &httparse::Request<'_, '_>) -> Reject {
    match (tokens.method, tokens.path) {
        (None, _) => Reject::MethodUnknown,
        (Some(_), None) => Reject::TargetTooLong,
        (Some(_), Some(target)) if target.len() > limits::LONG_TARGET_BYTES => {
            Reject::TargetTooLong
        }
        (Some(_), Some(_)) => Reject::HeadTooLarge,
    }
}

/// Checks what the tokens mean.
fn understand<'a>(tokens: &httparse::Request<'_, 'a>) -> Result<Request<'a>, Reject> {
    let method = method(tokens.method.unwrap_or_default())?;
    let version = match tokens.version {
        Some(0) => Version::Http10,
        _ => Version::Http11,
    };
    let fields = Fields::read(tokens.headers)?;
    let target = target(tokens.path.unwrap_or_default().as_bytes(), method)?;
    match fields.host {
        None if version == Version::Http11 => return Err(Reject::HostMissing),
        // Empty, it says that there is no authority (RFC 9112, section 3.2). The one of an absolute
        // target goes before it.
        Some(b"") => {}
        Some(host) if !is_authority(host) => return Err(Reject::HostInvalid),
        _ => {}
    }
    let body = match (fields.content_length, fields.chunked) {
        (Some(_), true) => return Err(Reject::TwoFramings),
        (_, true) => BodyFraming::Chunked,
        (None | Some(0), false) => BodyFraming::None,
        (Some(length), false) if length > limits::BODY_BYTES_MAX => {
            return Err(Reject::BodyTooLarge);
        }
        (Some(length), false) => BodyFraming::Length(length),
    };
    // A chunked body in HTTP/1.0 may not have been understood by those in between (RFC 9112,
    // section 6.1).
    let keep_alive = match version {
        Version::Http10 => fields.keep_alive && !fields.close && !fields.chunked,
        Version::Http11 => !fields.close,
    };
    let expect_continue =
        fields.expect_continue && version == Version::Http11 && body != BodyFraming::None;
    let authorization = fields.authorization;
    Ok(Request {
        method,
        target,
        version,
        keep_alive,
        body,
        expect_continue,
        authorization,
    })
}

/// The fields that matter to Tickr.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expect_continue: bool,
    authorization: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn read(headers: &[httparse::Header<'a>]) -> Result<Fields<'a>, Reject> {
        let mut fields = Fields::default();
        for &httparse::Header { name, value } in headers {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            match name.len() {
                4 if is("host") => once(&mut fields.host, value, Reject::HostRepeated)?,
                6 if is("expect") => {
                    for expectation in elements(value) {
                        if !expectation.eq_ignore_ascii_case(b"100-continue") {
                            return Err(Reject::Expectation);
                        }
                        fields.expect_continue = true;
                    }
                }
                10 if is("connection") => {
                    for token in elements(value) {
                        fields.close |= token.eq_ignore_ascii_case(b"close");
                        fields.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                13 if is("authorization") => {
                    let repeated = Reject::AuthorizationRepeated;
                    once(&mut fields.authorization, value, repeated)?;
                }
                14 if is("content-length") => {
                    let length = decimal(value).ok_or(Reject::ContentLength)?;
                    once(&mut fields.content_length, length, Reject::ContentLength)?;
                }
                17 if is("transfer-encoding") => {
                    let known = value.eq_ignore_ascii_case(b"chunked");
                    match fields.chunked {
                        false if known => fields.chunked = true,
                        false if is_coded_before_chunked(value) => {
                            return Err(Reject::TransferCodingUnknown);
                        }
                        _ => return Err(Reject::TransferEncoding),
                    }
                }
                _ => {}
            }
        }
        Ok(fields)
    }
}

/// The elements of a list, without the empty ones (RFC 9110, section 5.6.1.2). None of those that
/// matter here holds a quoted string. Codings of a transfer are no list here: requests are smuggled
/// in what two parsers make of one.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let elements = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    elements.filter(|element| !element.is_empty())
}

/// Whether there are codings that nobody here knows before the one that shows where the body ends
/// (RFC 9112, section 6.1). Without that one, or with two, the request is malformed.
fn is_coded_before_chunked(value: &[u8]) -> bool {
    let mut codings = value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    codings.next().is_some_and(is_chunked)
        && codings.all(|coding| is_token(coding) && !is_chunked(coding))
}

/// `token` (RFC 9110, section 5.6.2).
fn is_token(text: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_allowed)
}

/// Fills in a field that may not be there twice, even with the same value.
fn once<T>(slot: &mut Option<T>, value: T, repeated: Reject) -> Result<(), Reject> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(repeated),
    }
}

fn method(name: &str) -> Result<Method, Reject> {
    Ok(match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        "TRACE" => Method::Trace,
        _ => return Err(Reject::MethodUnknown),
    })
}

/// Reads a target.
fn target(target: &[u8], method: Method) -> Result<Target<'_>, Reject> {
    if !target
        .iter()
        .all(|byte| byte.is_ascii_graphic() && *byte != b'#')
    {
        return Err(Reject::Target);
    }
    if target.starts_with(b"/") {
        return Ok(split_query(target));
    }
    if target == b"*" && method == Method::Options {
        return Ok(Target::Asterisk);
    }
    let rest = after_scheme(target).ok_or(Reject::Target)?;
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !is_authority(authority) {
        return Err(Reject::HostInvalid);
    }
    // An empty path stands for the root, with OPTIONS for the server (RFC 9110, section 4.2.3).
    Ok(match split_query(path) {
        Target::Path {
            path: b"",
            query: None,
        } if method == Method::Options => Target::Asterisk,
        Target::Path { path: b"", query } => Target::Path { path: b"/", query },
        whole => whole,
    })
}

fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"]
        .into_iter()
        .find_map(|scheme| {
            let (start, rest) = target.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some(rest)
        })
}

fn split_query(target: &[u8]) -> Target<'_> {
    match target.iter().position(|byte| *byte == b'?') {
        Some(mark) => Target::Path {
            path: &target[..mark],
            query: Some(&target[mark + 1..]),
        },
        None => Target::Path {
            path: target,
            query: None,
        },
    }
}

/// `uri-host [ ":" port ]` (RFC 9110, section 7.2) with a host that is not empty. No user
/// information, no IP version of the future.
fn is_authority(authority: &[u8]) -> bool {
    let (host_is_valid, port) = match authority {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else {
                return false;
            };
            let address = std::str::from_utf8(&rest[..end]);
            let is_address = address.is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
            (is_address, &rest[end + 1..])
        }
        _ => {
            let end = authority
                .iter()
                .position(|byte| *byte == b':')
                .unwrap_or(authority.len());
            let (name, port) = authority.split_at(end);
            (is_registered_name(name), port)
        }
    };
    host_is_valid
        && match port {
            [] | [b':'] => true,
            [b':', digits @ ..] => decimal(digits).is_some_and(|port| port <= u16::MAX.into()),
            _ => false,
        }
}

/// `reg-name` (RFC 3986, section 3.2.2), which IPv4 addresses are as well, but not empty.
fn is_registered_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let [byte, tail @ ..] = rest {
        rest = match (byte, tail) {
            (b'%', [high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                tail
            }
            (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~', _) => tail,
            (b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=', _) => {
                tail
            }
            _ => return false,
        };
    }
    !name.is_empty()
}

/// A plain decimal number: digits and nothing else.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
