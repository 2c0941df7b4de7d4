//! What HTTP clients receive in the world of nodes: bytes to answers, by a parser that shares
//! nothing with the program.

use tickr::http::array::Format;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// `Connection: close`.
    pub closes: bool,
    pub retry_after: bool,
    pub is_problem: bool,
    pub body: Vec<u8>,
}

impl Answer {
    /// What follows this text in the body, up to one of the characters that end it.
    pub fn field(&self, name: &str, ends: &[char]) -> Option<&str> {
        let body = std::str::from_utf8(&self.body).ok()?;
        let rest = &body[body.find(name)? + name.len()..];
        Some(&rest[..rest.find(ends)?])
    }
}

impl Answer {
    /// The values of metrics without labels, in one walk over the page.
    pub fn gauges<const N: usize>(&self, names: [&str; N]) -> [Option<&str>; N] {
        let mut values = [None; N];
        let page = std::str::from_utf8(&self.body).unwrap_or_default();
        for line in page.split('\n').filter(|line| !line.starts_with('#')) {
            if values.iter().all(Option::is_some) {
                break;
            }
            for (name, value) in names.iter().zip(&mut values) {
                let rest = line.strip_prefix(name);
                *value = value.or(rest.and_then(|rest| rest.strip_prefix(' ')));
            }
        }
        values
    }
}

/// What was written to one client, and how far it has been understood.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// So many of them have been understood.
    past: usize,
    /// A head was read; its content is to come.
    open: Option<(Answer, usize)>,
}

impl Reader {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.past));
        self.bytes.extend_from_slice(bytes);
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.past..]
    }

    /// Nothing of the next answer has been written.
    pub fn is_between(&self) -> bool {
        self.rest().is_empty() && self.open.is_none()
    }

    /// The next answer, if it is whole; `head_only` when it answers `HEAD`.
    pub fn next(&mut self, head_only: bool) -> Result<Option<Answer>, String> {
        let (mut answer, length) = match self.open.take() {
            Some(open) => open,
            None => {
                let rest = self.rest();
                let end = rest.windows(4).position(|four| four == b"\r\n\r\n");
                let Some(end) = end else { return Ok(None) };
                let head = std::str::from_utf8(&rest[..end + 4]);
                let head = head.map_err(|error| error.to_string())?;
                let (answer, length) = read_head(head)?;
                self.past += end + 4;
                (answer, if head_only { 0 } else { length })
            }
        };
        if self.rest().len() < length {
            self.open = Some((answer, length));
            return Ok(None);
        }
        answer.body = self.rest()[..length].to_vec();
        self.past += length;
        Ok(Some(answer))
    }
}

fn read_head(head: &str) -> Result<(Answer, usize), String> {
    let wrong = || format!("not the head of an answer: {head:?}");
    let lines = head.strip_suffix("\r\n").ok_or_else(wrong)?;
    let lines = lines.split_terminator('\n');
    let mut lines = lines.map(|line| line.strip_suffix('\r').ok_or_else(wrong));
    let status = lines.next().and_then(|line| {
        let line = line.ok()?;
        let (code, reason) = line.strip_prefix("HTTP/1.1 ")?.split_once(' ')?;
        let fits = code.len() == 3 && !reason.is_empty();
        code.parse().ok().filter(|_| fits)
    });
    let mut answer = Answer {
        status: status.ok_or_else(wrong)?,
        closes: false,
        retry_after: false,
        is_problem: false,
        body: Vec::new(),
    };
    let (mut length, mut dated) = (None, false);
    for line in lines {
        match line?.split_once(": ").ok_or_else(wrong)? {
            ("Content-Length", value) if length.is_none() => {
                length = Some(value.parse::<usize>().map_err(|_| wrong())?);
            }
            ("Content-Length", _) => return Err(wrong()),
            ("Connection", value) => answer.closes = value == "close",
            ("Retry-After", value) => answer.retry_after = value == "1",
            ("Content-Type", value) => answer.is_problem = value == "application/problem+json",
            ("Date", _) => dated = true,
            _ => {}
        }
    }
    match (answer.status / 100, length) {
        (1, None) => Ok((answer, 0)),
        (1, Some(_)) | (_, None) => Err(wrong()),
        (_, Some(_)) if !dated => Err(wrong()),
        (_, Some(length)) => Ok((answer, length)),
    }
}

/// The tickets of a body: the first, the distance and how many. For a list, each of them is
/// compared with the one before.
pub fn tickets(body: &[u8], format: Format, increment: u64) -> Result<(u64, u64, u64), String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let start = &text[..text.len().min(60)];
    let wrong = || format!("not tickets as {format}: {start}");
    let number = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let plain = plain && (text == "0" || !text.starts_with('0'));
        text.parse::<u64>().ok().filter(|_| plain).ok_or_else(wrong)
    };
    let quoted = matches!(format, Format::String | Format::RangeString);
    let unquoted = |text: &str| match quoted {
        false => number(text),
        true => {
            let inside = text
                .strip_prefix('"')
                .and_then(|text| text.strip_suffix('"'));
            number(inside.ok_or_else(wrong)?)
        }
    };
    let inside = |open: char, close: char| {
        let inside = text
            .strip_prefix(open)
            .and_then(|text| text.strip_suffix(close));
        inside.ok_or_else(wrong)
    };
    match format {
        Format::Range | Format::RangeString => {
            let mut numbers = [0; 3];
            let mut parts = inside('{', '}')?.split(',');
            for (name, place) in ["first", "increment", "count"].iter().zip(&mut numbers) {
                let (key, value) = parts
                    .next()
                    .and_then(|part| part.split_once(':'))
                    .ok_or_else(wrong)?;
                if key != format!("\"{name}\"") {
                    return Err(wrong());
                }
                *place = unquoted(value)?;
            }
            match parts.next() {
                None => Ok((numbers[0], numbers[1], numbers[2])),
                Some(_) => Err(wrong()),
            }
        }
        Format::Array | Format::String => {
            let (mut first, mut last, mut count) = (None, 0, 0);
            for part in inside('[', ']')?.split(',') {
                let ticket = unquoted(part)?;
                if first.is_some() && Some(ticket) != increment.checked_add(last) {
                    return Err(format!("{ticket} follows {last} in one batch"));
                }
                first = first.or(Some(ticket));
                (last, count) = (ticket, count + 1);
            }
            Ok((first.ok_or_else(wrong)?, increment, count))
        }
    }
}
