//! Messages on streams: TCP, Unix, and TLS on either.
//!
//! Reading has no state of its own. What has come of a message lies in the stream's buffer, as for every read there, until all of it
//! has; then header and data are taken at once. So a call that gives up has taken nothing, messages and plain reads may follow
//! each other on one stream, and two who read take turns at whole messages.
//!
//! ```text
//!            header    data            header  data        the rest has not come
//! buffer:   [ kind len | ............ ][ kind len | ..... .
//!            ^ a call takes up to here ^                   ^ and this one waits, or the stream ends: truncated
//! ```
//!
//! Headers and short messages are written from one piece of memory, longer ones from where they lie, by one call as far as it goes.

use std::io::{self, IoSlice};

use super::error::{FramingError, ReadError};
use super::framing::{Framing, Header, LONGEST_HEADER};
use super::{Message, MessageBuilder};
use crate::io::Buffer;
use crate::net::{Duplex, SealedDuplex, WriteError};

/// How many messages are framed before they are written.
const BATCH: usize = 512;

/// The data of shorter messages is copied behind the header.
const SHORT: usize = 512;

/// Messages on a stream: a [`Stream`](crate::net::Stream) (TCP, Unix), or a `TlsStream` on one. All of them have it.
///
/// ```
/// use machinarium::Message;
/// use machinarium::message::{LengthPrefix, MessageStream};
/// use machinarium::net::UnixStream;
///
/// const FRAMING: LengthPrefix = LengthPrefix::postgres().limit(1 << 20);
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let (client, server) = UnixStream::pair()?;
///     let server = machinarium::spawn(move || -> std::io::Result<u32> {
///         let mut questions = 0;
///         while let Some(question) = server.read_message(&FRAMING)? {
///             assert_eq!(question.kind_as(), Ok('Q'));
///             server.write_messages(&FRAMING, &[question.with_kind('A'), Message::new('Z', "I")])?;
///             questions += 1;
///         }
///         Ok(questions) // the client has ended between two messages
///     });
///     client.write_message(&FRAMING, &Message::new('Q', "select 1"))?;
///     let answer = client.read_message(&FRAMING)?.unwrap();
///     assert_eq!((answer.kind_as(), &answer[..]), (Ok('A'), &b"select 1"[..]));
///     drop(client);
///     assert_eq!(server.join()??, 1);
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub trait MessageStream: Duplex + Sized {
    /// Reads one message; `None` if the stream ends in front of it. One turn of reading, with one timeout, as `read_exact`.
    ///
    /// What has come of a message is held by the stream, up to the framing's limit: put deadlines on those who may send half of one.
    ///
    /// # Errors
    /// See [`ReadError`]. Nothing was taken then, also by a call that a deadline or a cancellation has ended: the next one gets the message.
    fn read_message(&self, framing: &dyn Framing) -> Result<Option<Message>, ReadError> {
        read(self, framing)
    }

    /// Writes one message.
    ///
    /// # Errors
    /// As [`write_messages`](Self::write_messages).
    fn write_message(&self, framing: &dyn Framing, message: &Message) -> Result<(), WriteError> {
        write(self, framing, std::slice::from_ref(message))
    }

    /// Writes messages one after the other, many in one call of the system. One turn of writing, as `write_all`: messages of several
    /// writers do not mix.
    ///
    /// # Errors
    /// [`WriteError`] says how many bytes had been written, headers and all: if that is in the middle of a message, nothing but its rest
    /// may follow. Of kind `InvalidInput`, with a [`FramingError`], if one of them cannot be framed: it was not begun, and what was written
    /// are whole messages before it.
    fn write_messages(&self, framing: &dyn Framing, messages: &[Message]) -> Result<(), WriteError> {
        write(self, framing, messages)
    }
}

impl<S: Duplex> MessageStream for S {}

fn read(stream: &dyn SealedDuplex, framing: &dyn Framing) -> Result<Option<Message>, ReadError> {
    let socket = stream.descriptor();
    let mut turn = socket.reading()?;
    let limit = framing.limit().unwrap_or(socket.machine().tuning.message_limit);
    loop {
        let header = next_header(stream, framing, limit)?;
        let whole = header.map(|header| header.length.saturating_add(header.size as u64));
        let received = stream.unread().len();
        if let (Some(header), Some(whole)) = (header, whole)
            && received as u64 >= whole
        {
            return Ok(Some(take(&mut stream.unread(), header)));
        }
        if stream.read_more(&mut turn)? == 0 {
            return match received {
                0 => Ok(None),
                _ => Err(ReadError::Truncated { received, expected: whole }),
            };
        }
    }
}

/// The header of the next message, if it has come.
fn next_header(
    stream: &dyn SealedDuplex,
    framing: &dyn Framing,
    limit: usize,
) -> Result<Option<Header>, ReadError> {
    // A copy, as the framing is not ours: it may do anything, also with the stream.
    let mut bytes = [0; LONGEST_HEADER];
    let count = stream.unread().bytes().len().min(LONGEST_HEADER);
    bytes[..count].copy_from_slice(&stream.unread().bytes()[..count]);
    let bytes = &bytes[..count];
    let Some(header) = framing.read_header(bytes)? else {
        let longest = count == LONGEST_HEADER;
        return if longest { Err(FramingError::new("a header without an end").into()) } else { Ok(None) };
    };
    let Header { size, length, .. } = header;
    if size > count || (size, length) == (0, 0) {
        return Err(FramingError::new(format!("a header of {size} bytes, of {count} that have come")).into());
    }
    if length > limit as u64 {
        return Err(ReadError::TooLong { announced: length, limit });
    }
    Ok(Some(header))
}

/// Takes a message, all of which is there.
fn take(unread: &mut Buffer, header: Header) -> Message {
    let end = header.size + header.length as usize;
    let mut message = MessageBuilder::with_capacity(header.kind, header.length as usize);
    message.put_slice(&unread.bytes()[header.size..end]);
    unread.consume(end);
    message.freeze()
}

fn write(stream: &dyn SealedDuplex, framing: &dyn Framing, messages: &[Message]) -> Result<(), WriteError> {
    let mut written = 0;
    let result = (|| {
        let mut turn = stream.descriptor().writing()?;
        for messages in messages.chunks(BATCH) {
            let batch = Batch::new(framing, messages)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let mut slices = batch.slices();
            let mut rest = &mut slices[..];
            // Those that are empty go.
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                let count = stream.write_some(&mut turn, rest)?;
                written += count;
                IoSlice::advance_slices(&mut rest, count);
            }
        }
        Ok(())
    })();
    result.map_err(|source| WriteError { written, source })
}

/// Messages as they are written: their headers, and the data of short ones, in one piece; between them the data of long ones.
struct Batch<'a> {
    flat: Vec<u8>,
    /// Each behind so many bytes of `flat`.
    long: Vec<(usize, &'a [u8])>,
}

impl<'a> Batch<'a> {
    fn new(framing: &dyn Framing, messages: &'a [Message]) -> Result<Batch<'a>, FramingError> {
        let short = messages.iter().map(|message| message.len()).filter(|length| *length < SHORT);
        let (flat, long) = (Vec::with_capacity(16 * messages.len() + short.sum::<usize>()), Vec::new());
        let mut batch = Batch { flat, long };
        for message in messages {
            framing.write_header(message.kind(), message.len(), &mut batch.flat)?;
            if message.len() < SHORT {
                batch.flat.extend_from_slice(message);
            } else {
                batch.long.push((batch.flat.len(), message));
            }
        }
        Ok(batch)
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(2 * self.long.len() + 1);
        let mut start = 0;
        for (end, data) in &self.long {
            slices.extend([IoSlice::new(&self.flat[start..*end]), IoSlice::new(data)]);
            start = *end;
        }
        slices.push(IoSlice::new(&self.flat[start..]));
        slices
    }
}
