//! A request head by the grammar of RFC 9112, RFC 9110 and RFC 3986, read as they are written and
//! as strictly. It shares nothing with the parser that it is compared with, and knows no bounds.

/// A head as far as the grammar goes along.
#[derive(Debug, Default)]
pub(super) struct Head<'a> {
    pub(super) empty_lines: usize,
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    /// Major and minor, as digits.
    pub(super) version: Option<[u8; 2]>,
    /// The names and values of the fields, without the white space around them.
    pub(super) fields: Vec<(&'a [u8], &'a [u8])>,
}

/// Where the grammar ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The input may go on so that it becomes a head.
    Open,
    /// The byte at this place cannot stand there.
    Wrong(usize),
    /// The head takes this number of bytes.
    Whole(usize),
}

/// A target by its form (RFC 9112, section 3.2).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form<'a> {
    Origin {
        path: &'a [u8],
        query: Option<&'a [u8]>,
    },
    /// With the scheme and, behind `//`, the authority.
    Absolute {
        scheme: &'a [u8],
        authority: Option<&'a [u8]>,
        path: &'a [u8],
        query: Option<&'a [u8]>,
    },
    Asterisk,
    /// Anything else: the authority form as well, which only tunnels have.
    Other,
}

/// What a `Host` or the authority of a target names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HostPort<'a> {
    pub(super) name_is_empty: bool,
    /// An address in brackets that is not IPv6 (RFC 3986, `IPvFuture`).
    pub(super) is_future: bool,
    /// Digits, maybe none.
    pub(super) port: &'a [u8],
}

/// `*CRLF request-line CRLF *( field-line CRLF ) CRLF`
pub(super) fn lex(input: &[u8]) -> (Head<'_>, End) {
    let mut head = Head::default();
    let mut cursor = Cursor { input, at: 0 };
    let end = match cursor.head(&mut head) {
        Ok(()) => End::Whole(cursor.at),
        Err(()) if cursor.at == input.len() => End::Open,
        Err(()) => End::Wrong(cursor.at),
    };
    (head, end)
}

struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
}

/// An error leaves the cursor at the byte that does not fit, or at the end of the input.
impl<'a> Cursor<'a> {
    fn head(&mut self, head: &mut Head<'a>) -> Result<(), ()> {
        while self.peek() == Some(b'\r') {
            self.text(b"\r\n")?;
            head.empty_lines += 1;
        }
        head.method = self.some(is_tchar)?;
        self.text(b" ")?;
        // "No whitespace is allowed in the request-target" (section 3.2). Its characters are
        // looked at once it is whole.
        head.target = self.some(|byte| byte > b' ' && byte != 0x7f)?;
        self.text(b" HTTP/")?;
        let major = self.digit()?;
        self.text(b".")?;
        head.version = Some([major, self.digit()?]);
        self.text(b"\r\n")?;
        while self.peek() != Some(b'\r') {
            let name = self.some(is_tchar)?;
            self.text(b":")?;
            let value = self.many(|byte| byte == b'\t' || byte >= b' ' && byte != 0x7f);
            self.text(b"\r\n")?;
            head.fields.push((name, without_white_space(value)));
        }
        self.text(b"\r\n")
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn text(&mut self, text: &[u8]) -> Result<(), ()> {
        for expected in text {
            if self.peek() != Some(*expected) {
                return Err(());
            }
            self.at += 1;
        }
        Ok(())
    }

    fn many(&mut self, is: impl Fn(u8) -> bool) -> &'a [u8] {
        let start = self.at;
        while self.peek().is_some_and(&is) {
            self.at += 1;
        }
        &self.input[start..self.at]
    }

    fn some(&mut self, is: impl Fn(u8) -> bool) -> Result<&'a [u8], ()> {
        let found = self.many(is);
        if found.is_empty() { Err(()) } else { Ok(found) }
    }

    fn digit(&mut self) -> Result<u8, ()> {
        let digit = self.peek().filter(u8::is_ascii_digit).ok_or(())?;
        self.at += 1;
        Ok(digit - b'0')
    }
}

/// RFC 9110, section 5.6.2.
pub(super) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn without_white_space(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte));
    let end = value.iter().rposition(|byte| !is_space(byte));
    start
        .zip(end)
        .map_or(b"", |(start, end)| &value[start..=end])
}

/// The values of all lines of a field, in order.
pub(super) fn values<'a>(head: &Head<'a>, name: &str) -> Vec<&'a [u8]> {
    let of_name = |field: &&(&[u8], &[u8])| field.0.eq_ignore_ascii_case(name.as_bytes());
    head.fields
        .iter()
        .filter(of_name)
        .map(|field| field.1)
        .collect()
}

/// The elements of a list field, in lower case, without the empty ones (RFC 9110, section 5.6.1).
/// No quoted string is looked for: none is an element of those that are asked for.
pub(super) fn elements(head: &Head<'_>, name: &str) -> Vec<Vec<u8>> {
    let mut elements = Vec::new();
    for value in values(head, name) {
        for element in value.split(|byte| *byte == b',').map(without_white_space) {
            if !element.is_empty() {
                elements.push(element.to_ascii_lowercase());
            }
        }
    }
    elements
}

/// RFC 9112, section 3.2.
pub(super) fn form(target: &[u8]) -> Form<'_> {
    let (before, query) = match target.iter().position(|byte| *byte == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    };
    if before.starts_with(b"/") {
        return Form::Origin {
            path: before,
            query,
        };
    }
    if target == b"*" {
        return Form::Asterisk;
    }
    // absolute-URI = scheme ":" hier-part [ "?" query ]
    let Some(colon) = before.iter().position(|byte| *byte == b':') else {
        return Form::Other;
    };
    let (scheme, rest) = (&before[..colon], &before[colon + 1..]);
    let is_of_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    if !scheme.first().is_some_and(u8::is_ascii_alphabetic) || !scheme.iter().all(is_of_scheme) {
        return Form::Other;
    }
    let (authority, path) = match rest.strip_prefix(b"//") {
        Some(rest) => {
            let end = rest.iter().position(|byte| *byte == b'/');
            let (authority, path) = rest.split_at(end.unwrap_or(rest.len()));
            (Some(authority), path)
        }
        None => (None, rest),
    };
    Form::Absolute {
        scheme,
        authority,
        path,
        query,
    }
}

/// Whether a path has only what `pchar` and `/` allow (RFC 3986, section 3.3).
pub(super) fn is_path(path: &[u8]) -> bool {
    is_of(path, b":@/")
}

/// RFC 3986, section 3.4.
pub(super) fn is_query(query: &[u8]) -> bool {
    is_of(query, b":@/?")
}

/// `unreserved`, `pct-encoded`, `sub-delims` and these.
fn is_of(text: &[u8], others: &[u8]) -> bool {
    let mut at = 0;
    while at < text.len() {
        at += match text[at] {
            b'%' => match text.get(at + 1..at + 3) {
                Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => 3,
                _ => return false,
            },
            byte if byte.is_ascii_alphanumeric() => 1,
            byte if b"-._~!$&'()*+,;=".contains(&byte) || others.contains(&byte) => 1,
            _ => return false,
        };
    }
    true
}

/// `uri-host [ ":" port ]` (RFC 9110, section 7.2).
pub(super) fn host_port(value: &[u8]) -> Option<HostPort<'_>> {
    let (host, rest) = match value.strip_prefix(b"[") {
        Some(rest) => {
            let end = rest.iter().position(|byte| *byte == b']')?;
            (&value[..end + 2], &rest[end + 1..])
        }
        None => {
            let end = value.iter().position(|byte| *byte == b':');
            value.split_at(end.unwrap_or(value.len()))
        }
    };
    let port = match rest {
        [] => rest,
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let mut is_future = false;
    if let [b'[', literal @ .., b']'] = host {
        is_future = is_ip_future(literal);
        if !is_future && !is_ipv6(literal) {
            return None;
        }
    } else if !is_of(host, b"") {
        return None;
    }
    Some(HostPort {
        name_is_empty: host.is_empty(),
        is_future,
        port,
    })
}

/// `"v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )`
fn is_ip_future(literal: &[u8]) -> bool {
    let [b'v' | b'V', rest @ ..] = literal else {
        return false;
    };
    let Some(dot) = rest.iter().position(|byte| *byte == b'.') else {
        return false;
    };
    let (digits, text) = (&rest[..dot], &rest[dot + 1..]);
    let is_plain = is_of(text, b":") && !text.contains(&b'%');
    !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit) && !text.is_empty() && is_plain
}

/// `IPv6address`: eight groups of 16 bits, the last two maybe as IPv4; `::` stands for at least
/// one of them.
fn is_ipv6(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    match text.split_once("::") {
        None => groups(text, true) == Some(8),
        Some((before, behind)) => {
            let before = if before.is_empty() {
                Some(0)
            } else {
                groups(before, false)
            };
            let behind = if behind.is_empty() {
                Some(0)
            } else {
                groups(behind, true)
            };
            before
                .zip(behind)
                .is_some_and(|(one, other)| one + other <= 7)
        }
    }
}

/// How many groups these are; none when one is malformed.
fn groups(text: &str, ipv4_may_end_it: bool) -> Option<usize> {
    let pieces: Vec<&str> = text.split(':').collect();
    let mut count = 0;
    for (index, piece) in pieces.iter().enumerate() {
        let is_group =
            (1..=4).contains(&piece.len()) && piece.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_last = index + 1 == pieces.len();
        count += match is_group {
            true => 1,
            false if is_last && ipv4_may_end_it && is_ipv4(piece) => 2,
            false => return None,
        };
    }
    Some(count)
}

/// Four `dec-octet`: 0 to 255 without leading zeros.
fn is_ipv4(text: &str) -> bool {
    let octets: Vec<&str> = text.split('.').collect();
    let is_octet = |octet: &&str| {
        let digits = octet.bytes().all(|byte| byte.is_ascii_digit());
        let plain = octet.len() == 1 || !octet.starts_with('0');
        digits && plain && octet.parse::<u8>().is_ok()
    };
    octets.len() == 4 && octets.iter().all(is_octet)
}
