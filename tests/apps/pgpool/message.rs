//! The messages of PostgreSQL's protocol, version 3: headers, the few that the pooler reads, and those that it writes itself.
//!
//! A message is a byte that says its kind, its length with itself and without that byte, and its body. All else is passed on as it came.

use std::io;

use crate::inbox::invalid;

/// The length of a message's kind and length.
pub(crate) const HEADER: usize = 5;

/// What a message begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    /// All of the message, its header too.
    pub(crate) total: usize,
}

impl Header {
    /// Of the message that `bytes` begins with, if so much is there.
    #[inline]
    pub(crate) fn of(bytes: &[u8]) -> io::Result<Option<Header>> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [kind, a, b, c, d] = *header;
        let length = u32::from_be_bytes([a, b, c, d]);
        if !(4..=i32::MAX as u32).contains(&length) {
            return Err(invalid(format!(
                "a message of kind {:?} with the length {length}",
                char::from(kind)
            )));
        }
        Ok(Some(Header { kind, total: length as usize + 1 }))
    }
}

/// Appends a message.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let start = out.len();
    out.extend([0; 4]);
    body(out);
    let length = u32::try_from(out.len() - start).expect("the pooler's own messages are short");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a text and the zero behind it.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text);
    out.push(0);
}

/// Takes a text that ends with a zero off the front of `bytes`. `None`: there is no zero.
pub(crate) fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let text = &bytes[..end];
    *bytes = &bytes[end + 1..];
    Some(text)
}

/// Appends an ErrorResponse.
pub(crate) fn put_error(out: &mut Vec<u8>, severity: &str, code: &str, text: &str) {
    put_report(out, b'E', severity, code, text);
}

/// Appends a NoticeResponse.
pub(crate) fn put_notice(out: &mut Vec<u8>, text: &str) {
    put_report(out, b'N', "NOTICE", "00000", text);
}

fn put_report(out: &mut Vec<u8>, kind: u8, severity: &str, code: &str, text: &str) {
    put(out, kind, |body| {
        for (field, value) in [(b'S', severity), (b'V', severity), (b'C', code), (b'M', text)] {
            body.push(field);
            // A zero would end the text.
            put_text(body, value.replace('\0', " ").as_bytes());
        }
        body.push(0);
    });
}

/// Appends a ReadyForQuery.
pub(crate) fn put_ready(out: &mut Vec<u8>, status: u8) {
    put(out, b'Z', |body| body.push(status));
}

/// Appends a Query.
pub(crate) fn put_query(out: &mut Vec<u8>, sql: &str) {
    put(out, b'Q', |body| put_text(body, sql.as_bytes()));
}

/// The code and the text of an ErrorResponse's body.
pub(crate) fn read_error(mut body: &[u8]) -> (String, String) {
    let (mut code, mut text) = (String::new(), String::new());
    while let Some((field, rest)) = body.split_first().filter(|(field, _)| **field != 0) {
        body = rest;
        let Some(value) = take_text(&mut body) else { break };
        let value = String::from_utf8_lossy(value).into_owned();
        match field {
            b'C' => code = value,
            b'M' => text = value,
            _ => {}
        }
    }
    (code, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_how_long_a_message_is() {
        assert_eq!(Header::of(b"Q\0\0\0").unwrap(), None);
        assert_eq!(Header::of(b"Q\0\0\0\x05x").unwrap(), Some(Header { kind: b'Q', total: 6 }));
        assert!(Header::of(b"Q\0\0\0\x03").is_err(), "shorter than its length");
        assert!(Header::of(b"Q\xff\0\0\x03").is_err(), "negative");
    }

    #[test]
    fn errors_are_read_as_they_are_written() {
        let mut out = Vec::new();
        put_error(&mut out, "FATAL", "08P01", "a\0b");
        assert_eq!(read_error(&out[HEADER..]), ("08P01".to_owned(), "a b".to_owned()));
        assert_eq!(read_error(b"Mno end"), (String::new(), String::new()));
    }
}
