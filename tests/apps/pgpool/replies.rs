//! What a server sends, on its way to its client: passed on as it came, in one piece, but for what only the pooler has asked for.
//!
//! The other half of `requests.rs`: a scan reads headers, follows the flow, and says which bytes the client gets.

use std::io;

use crate::flow::Shown;
use crate::inbox::invalid;
use crate::message::{HEADER, Header};
use crate::server::{LONGEST, Server};
use crate::statements::Names;
use crate::stats::Stats;
use crate::traces;

/// What a server sends. Kept over the transactions of a session.
#[derive(Default)]
pub(crate) struct Replies {
    /// How many bytes of a message are still to come.
    rest: usize,
    /// Whether notifications are passed on: who shares a server connection may get those of another.
    notifies: bool,
}

/// What a scan has found.
pub(crate) struct Answer {
    /// The bytes that the client gets, if `out` is empty; else those in `out`.
    pub(crate) verbatim: std::ops::Range<usize>,
    pub(crate) used: usize,
}

impl Replies {
    pub(crate) fn new(notifies: bool) -> Replies {
        Replies { rest: 0, notifies }
    }

    /// Whether the last bytes that the client gets are not the end of a message.
    pub(crate) fn are_within(&self) -> bool {
        self.rest > 0
    }

    /// See the head of the file.
    pub(crate) fn scan(
        &mut self,
        bytes: &[u8],
        server: &Server,
        names: &mut Names,
        stats: &Stats,
        out: &mut Vec<u8>,
    ) -> io::Result<Answer> {
        let first = self.rest.min(bytes.len());
        self.rest -= first;
        let (mut start, mut at) = (0, first);
        while self.rest == 0
            && let Some(header) = Header::of(&bytes[at..])?
        {
            let there = header.total.min(bytes.len() - at);
            let is_whole = there == header.total;
            if !is_whole && is_read(header) {
                if header.total > LONGEST {
                    return Err(invalid(format!(
                        "the server sends {:?} of {} bytes",
                        char::from(header.kind),
                        header.total
                    )));
                }
                break;
            }
            let shown = if is_read(header) {
                self.read(header, &bytes[at + HEADER..at + there], server, names, stats)?
            } else {
                Shown::AsIs
            };
            if shown != Shown::AsIs {
                out.extend(&bytes[start..at]);
                start = at + there;
            }
            if shown == Shown::AsParsed {
                out.extend(b"1\0\0\0\x04");
            }
            at += there;
            self.rest = header.total - there;
        }
        if !out.is_empty() {
            out.extend(&bytes[start..at]);
        }
        Ok(Answer { verbatim: start..at, used: at })
    }

    /// Follows a message that the pooler looks into, and says what the client sees of it.
    fn read(
        &self,
        header: Header,
        body: &[u8],
        server: &Server,
        names: &mut Names,
        stats: &Stats,
    ) -> io::Result<Shown> {
        let mut flow = server.flow.borrow_mut();
        match header.kind {
            b'Z' => {
                let [status] = body else { return Err(invalid("a malformed ReadyForQuery".to_owned())) };
                flow.ready(*status);
                Stats::add(&stats.queries, 1);
                Stats::add(&stats.transactions, u64::from(*status == b'I'));
            }
            b'E' => {
                let undone = flow.failed(&mut server.prepared.borrow_mut());
                undone.into_iter().for_each(|undo| names.undo(undo));
            }
            b'1' => {
                return Ok(flow
                    .parsed()
                    .map_or(Shown::AsIs, |parsed| if parsed.shown { Shown::AsIs } else { Shown::Not }));
            }
            b'3' => return Ok(flow.closed().map_or(Shown::AsIs, |closed| closed.shown)),
            b'G' => flow.copy_in(),
            b'S' => server.reported(body),
            b'C' => {
                if server.forgets(body) {
                    names.forget_all();
                }
                if traces::are_left_by(body) {
                    server.touched.set(true);
                }
            }
            b'A' if !self.notifies => return Ok(Shown::Not),
            _ => {}
        }
        Ok(Shown::AsIs)
    }
}

/// Whether the pooler looks into such a message.
#[inline]
fn is_read(header: Header) -> bool {
    match header.kind {
        b'D' => false,
        b'C' | b'Z' | b'E' | b'1' | b'3' | b'G' | b'S' | b'A' => true,
        _ => false,
    }
}
