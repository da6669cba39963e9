//! What a command answers, and how that is written in RESP2.
//!
//! A `Reply` is a value, made while the store is borrowed and written after it was let go, since writing may block. It may
//! cross to another machine on the way.

use std::io::{self, Write};
use std::sync::Arc;

/// An answer, in values that may cross to another machine. A bulk shares the stored value: a reply that waits for a slow
/// client costs a reference, not a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Simple(&'static str),
    Error(String),
    Integer(i64),
    Bulk(Arc<[u8]>),
    Nil,
    Array(Vec<Reply>),
}

impl Reply {
    pub(crate) const OK: Reply = Reply::Simple("OK");

    pub(crate) fn error(text: impl Into<String>) -> Reply {
        Reply::Error(text.into())
    }

    pub(crate) fn bulk(bytes: &[u8]) -> Reply {
        Reply::Bulk(Arc::from(bytes))
    }

    /// What this reply keeps alive until it is written.
    pub(crate) fn weight(&self) -> usize {
        let own = size_of::<Reply>();
        match self {
            Reply::Bulk(bytes) => own + bytes.len(),
            Reply::Error(text) => own + text.len(),
            Reply::Array(items) => items.iter().fold(own, |sum, item| sum.saturating_add(item.weight())),
            Reply::Simple(_) | Reply::Integer(_) | Reply::Nil => own,
        }
    }

    /// Writes the reply as RESP2.
    pub(crate) fn encode(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Reply::Simple(text) => {
                out.write_all(b"+")?;
                out.write_all(text.as_bytes())?;
                out.write_all(b"\r\n")
            }
            Reply::Error(text) => {
                out.write_all(b"-")?;
                out.write_all(text.as_bytes())?;
                out.write_all(b"\r\n")
            }
            Reply::Integer(value) => encode_integer(b':', *value, out),
            Reply::Bulk(bytes) => {
                encode_integer(b'$', i64::try_from(bytes.len()).unwrap_or(i64::MAX), out)?;
                out.write_all(bytes)?;
                out.write_all(b"\r\n")
            }
            Reply::Nil => out.write_all(b"$-1\r\n"),
            Reply::Array(items) => {
                encode_integer(b'*', i64::try_from(items.len()).unwrap_or(i64::MAX), out)?;
                items.iter().try_for_each(|item| item.encode(out))
            }
        }
    }
}

/// The type's byte, the number, CRLF; without the machinery of `write!`, which costs more than the rest of a small reply.
fn encode_integer(kind: u8, value: i64, out: &mut impl Write) -> io::Result<()> {
    let mut text = [0u8; 23];
    let mut at = text.len() - 2;
    text[at..].copy_from_slice(b"\r\n");
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        text[at] = b'-';
    }
    at -= 1;
    text[at] = kind;
    out.write_all(&text[at..])
}

/// A command to send: an array of bulks.
pub(crate) fn encode_command(arguments: &[&[u8]], out: &mut Vec<u8>) {
    let written = (|| {
        encode_integer(b'*', arguments.len() as i64, out)?;
        arguments.iter().try_for_each(|argument| {
            encode_integer(b'$', argument.len() as i64, out)?;
            out.extend_from_slice(argument);
            out.write_all(b"\r\n")
        })
    })();
    written.unwrap_or_else(|error: io::Error| unreachable!("a vector takes every byte: {error}"));
}
