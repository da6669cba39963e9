//! RESP2, the protocol of Redis, as seen by a server: an incremental parser of requests.
//! Replies are in `reply.rs`.
//!
//! The parser owns no input. It is shown the bytes from the start of the current request, again and again as they grow,
//! and remembers how far it got, so a request that arrives byte by byte costs time linear in its length. It takes a
//! request apart into ranges and copies nothing, inline commands (typed by hand, with quotes) excepted.
//!
//! ```text
//! Start --'*'--> Header --"*N\r\n"--> Length --"$L\r\n"--> Body --L bytes, "\r\n"--> Length ... --> complete
//!   \--other---> Inline --"...\n"--> complete
//! ```
//!
//! What it refuses, it refuses as soon as it can be known: a line, a bulk, a count of arguments or a whole request above
//! its limit is an error before the bytes are there. After an error the stream has no known position: the connection
//! answers and closes. It does no input or output.

use std::fmt;
use std::ops::Range;

/// What one request may take; all of it bytes, but for `arguments`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// An inline command, or the line of a length.
    pub(crate) line: usize,
    /// One argument.
    pub(crate) bulk: usize,
    /// How many arguments.
    pub(crate) arguments: usize,
    /// A request with all its arguments and lengths: what a connection may make the server hold.
    pub(crate) request: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { line: 64 << 10, bulk: 64 << 20, arguments: 1 << 20, request: 128 << 20 }
    }
}

/// Why bytes are not a request. Displayed as Redis words it, so that clients' tests for it match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolError {
    LongInline,
    LongHeader,
    LongLength,
    Quotes,
    Count,
    Length,
    NotBulk(u8),
    NotCrlf,
    LongRequest,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            ProtocolError::LongInline => "too big inline request",
            ProtocolError::LongHeader => "too big mbulk count string",
            ProtocolError::LongLength => "too big bulk count string",
            ProtocolError::Quotes => "unbalanced quotes in request",
            ProtocolError::Count => "invalid multibulk length",
            ProtocolError::Length => "invalid bulk length",
            ProtocolError::NotBulk(byte) => {
                return write!(
                    f,
                    "Protocol error: expected '$', got '{}'",
                    char::from(byte).escape_default()
                );
            }
            ProtocolError::NotCrlf => "expected CRLF",
            ProtocolError::LongRequest => "too big request",
        };
        write!(f, "Protocol error: {text}")
    }
}

#[derive(Clone, Copy)]
enum State {
    Start,
    Inline,
    Header,
    Length,
    Body(usize),
}

/// Takes requests apart. One per connection.
pub(crate) struct Parser {
    limits: Limits,
    state: State,
    /// Bytes of the current request that are behind us: the start of the line or body that `state` waits for.
    offset: usize,
    /// No newline before it: where the search goes on.
    scanned: usize,
    /// Arguments that are still to come.
    missing: usize,
    arguments: Vec<Range<usize>>,
    /// The arguments of an inline command with their quotes taken off.
    unquoted: Vec<u8>,
}

impl Parser {
    pub(crate) fn new(limits: Limits) -> Parser {
        Parser {
            limits,
            state: State::Start,
            offset: 0,
            scanned: 0,
            missing: 0,
            arguments: Vec::new(),
            unquoted: Vec::new(),
        }
    }

    /// Reads on. `bytes` begins where the current request does and holds all that earlier calls have seen of it.
    /// Returns the length of the request once it is complete; `arguments` then has it, and `reset` makes ready for the next.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
        assert!(bytes.len() >= self.offset, "the request lost bytes that were parsed");
        loop {
            let complete = match self.state {
                State::Start => match bytes.first() {
                    None => return Ok(None),
                    Some(b'*') => {
                        self.state = State::Header;
                        false
                    }
                    Some(_) => {
                        self.state = State::Inline;
                        false
                    }
                },
                State::Inline => match self.line(bytes, ProtocolError::LongInline)? {
                    None => return Ok(None),
                    Some(line) => {
                        self.split(line)?;
                        true
                    }
                },
                State::Header => match self.line(bytes, ProtocolError::LongHeader)? {
                    None => return Ok(None),
                    Some(line) => self.header(line)?,
                },
                State::Length => match self.line(bytes, ProtocolError::LongLength)? {
                    None => return Ok(None),
                    Some(line) => self.length(line)?,
                },
                State::Body(length) => match self.body(bytes, length)? {
                    None => return Ok(None),
                    Some(complete) => complete,
                },
            };
            if complete {
                return Ok(Some(self.offset));
            }
        }
    }

    /// The arguments of the request that `advance` completed, of the same bytes.
    pub(crate) fn arguments<'a>(&'a self, bytes: &'a [u8]) -> Arguments<'a> {
        let bytes = if matches!(self.state, State::Inline) { &self.unquoted } else { bytes };
        Arguments { bytes, ranges: &self.arguments }
    }

    /// Forgets the request: the next byte shown begins another.
    pub(crate) fn reset(&mut self) {
        self.state = State::Start;
        self.offset = 0;
        self.scanned = 0;
        self.missing = 0;
        // One request of a million arguments must not hold their ranges for as long as its connection lives.
        if self.arguments.capacity() > 1024 {
            self.arguments = Vec::new();
        }
        if self.unquoted.capacity() > 1024 {
            self.unquoted = Vec::new();
        }
        self.arguments.clear();
        self.unquoted.clear();
    }

    /// The line at `offset` without its end, or none when that is not there yet.
    fn line<'a>(&mut self, bytes: &'a [u8], long: ProtocolError) -> Result<Option<&'a [u8]>, ProtocolError> {
        // Only what the limit allows is searched: the error must not depend on how the bytes were cut by the network.
        let start = self.offset;
        let end = bytes.len().min(start + self.limits.line);
        let from = self.scanned.max(start);
        let Some(found) = bytes[from..end].iter().position(|&byte| byte == b'\n') else {
            self.scanned = end;
            return if end - start >= self.limits.line { Err(long) } else { Ok(None) };
        };
        let newline = from + found;
        self.offset = newline + 1;
        self.scanned = self.offset;
        let line = &bytes[start..newline];
        match line.strip_suffix(b"\r") {
            Some(line) => Ok(Some(line)),
            None if matches!(self.state, State::Inline) => Ok(Some(line)),
            None => Err(ProtocolError::NotCrlf),
        }
    }

    /// `*N`. True when the request is complete with it: no or fewer arguments mean an empty request.
    fn header(&mut self, line: &[u8]) -> Result<bool, ProtocolError> {
        let count = parse_integer(&line[1..]).ok_or(ProtocolError::Count)?;
        if count <= 0 {
            return Ok(true);
        }
        self.missing = usize::try_from(count).map_err(|_| ProtocolError::Count)?;
        if self.missing > self.limits.arguments {
            return Err(ProtocolError::Count);
        }
        self.state = State::Length;
        Ok(false)
    }

    /// `$L`.
    fn length(&mut self, line: &[u8]) -> Result<bool, ProtocolError> {
        match line.first() {
            Some(b'$') => {}
            Some(&byte) => return Err(ProtocolError::NotBulk(byte)),
            None => return Err(ProtocolError::NotBulk(b'\r')),
        }
        let length = parse_integer(&line[1..]).ok_or(ProtocolError::Length)?;
        let length = usize::try_from(length).map_err(|_| ProtocolError::Length)?;
        if length > self.limits.bulk {
            return Err(ProtocolError::Length);
        }
        if self.offset + length + 2 > self.limits.request {
            return Err(ProtocolError::LongRequest);
        }
        self.state = State::Body(length);
        Ok(false)
    }

    fn body(&mut self, bytes: &[u8], length: usize) -> Result<Option<bool>, ProtocolError> {
        let end = self.offset + length;
        let Some(crlf) = bytes.get(end..end + 2) else { return Ok(None) };
        if crlf != b"\r\n" {
            return Err(ProtocolError::NotCrlf);
        }
        self.arguments.push(self.offset..end);
        self.offset = end + 2;
        self.scanned = self.offset;
        self.missing -= 1;
        self.state = State::Length;
        Ok(Some(self.missing == 0))
    }

    /// Splits an inline command at its blanks, as Redis does: `"..."` with escapes, `'...'` with `\'` alone.
    fn split(&mut self, line: &[u8]) -> Result<(), ProtocolError> {
        let mut rest = line;
        loop {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                return Ok(());
            }
            let start = self.unquoted.len();
            rest = match rest[0] {
                b'"' => unquote_double(&rest[1..], &mut self.unquoted)?,
                b'\'' => unquote_single(&rest[1..], &mut self.unquoted)?,
                _ => {
                    let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                    self.unquoted.extend_from_slice(&rest[..end]);
                    &rest[end..]
                }
            };
            self.arguments.push(start..self.unquoted.len());
            // A quote ends its argument: what follows at once is neither part of it nor another one.
            if !rest.is_empty() && !rest[0].is_ascii_whitespace() {
                return Err(ProtocolError::Quotes);
            }
            if self.arguments.len() > self.limits.arguments {
                return Err(ProtocolError::Count);
            }
        }
    }
}

/// Copies up to the closing `"` and returns what comes behind it.
fn unquote_double<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    let mut rest = text;
    loop {
        rest = match *rest {
            [b'"', ref behind @ ..] => return Ok(behind),
            [b'\\', b'x', high, low, ref behind @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                out.push(hex(high) << 4 | hex(low));
                behind
            }
            [b'\\', byte, ref behind @ ..] => {
                out.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                behind
            }
            [byte, ref behind @ ..] => {
                out.push(byte);
                behind
            }
            [] => return Err(ProtocolError::Quotes),
        };
    }
}

fn unquote_single<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    let mut rest = text;
    loop {
        rest = match *rest {
            [b'\'', ref behind @ ..] => return Ok(behind),
            [b'\\', b'\'', ref behind @ ..] => {
                out.push(b'\'');
                behind
            }
            [byte, ref behind @ ..] => {
                out.push(byte);
                behind
            }
            [] => return Err(ProtocolError::Quotes),
        };
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// A decimal integer as Redis takes it: an optional minus, digits, no plus, no blanks, no leading zero.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    digits.iter().try_fold(0i64, |value, &digit| {
        let digit = if digit.is_ascii_digit() { i64::from(digit - b'0') } else { return None };
        let value = value.checked_mul(10)?;
        // Towards its own sign, since the smallest number has no positive twin.
        if negative { value.checked_sub(digit) } else { value.checked_add(digit) }
    })
}

/// The arguments of one request, the command's name first.
#[derive(Clone, Copy)]
pub(crate) struct Arguments<'a> {
    bytes: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl<'a> Arguments<'a> {
    pub(crate) fn new(bytes: &'a [u8], ranges: &'a [Range<usize>]) -> Arguments<'a> {
        Arguments { bytes, ranges }
    }

    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Panics past the end: arity is checked before a command looks at its arguments.
    pub(crate) fn get(&self, index: usize) -> &'a [u8] {
        &self.bytes[self.ranges[index].clone()]
    }

    /// The request as if it had only these arguments behind its name.
    pub(crate) fn only(&self, first: usize, count: usize) -> Arguments<'a> {
        // Commands look at what follows the name, never at the name: any range may stand in its place.
        Arguments { bytes: self.bytes, ranges: &self.ranges[first - 1..first + count] }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.ranges.iter().map(move |range| &bytes[range.clone()])
    }
}
