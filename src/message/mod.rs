//! Messages: a kind and some bytes, which coroutines and machines send each other and read from and write to streams.
//!
//! The bytes are counted references to memory that nobody changes any more, so a clone costs one atomic addition, and a message
//! goes on any channel to any machine. What is written by a [`MessageBuilder`], or read from a stream, lies in a buffer of the
//! pool of the machine on which that happens. The last reference gives it back from wherever it is dropped, on another machine or
//! on a thread that is none; a buffer whose machine has ended, or that was made outside of one, is plain memory.
//!
//! ```text
//! builder --freeze--> message --clone, channel--> message, message ... --last drop--> pool
//!    ^                                                                                  |
//!    +----------------------- the next builder of that machine -------------------------+
//! ```
//!
//! On a stream each message has a header in front, which a [`Framing`] reads and writes: see [`MessageStream`].
//!
//! How much a pool keeps is in [`Tuning`](crate::Tuning) (`message_sizes`, `message_cache`), and what it has done in
//! [`inspect::statistics`](crate::inspect::statistics).

mod block;
mod builder;
mod error;
mod framing;
mod stream;

use std::fmt;
use std::ops::Deref;

pub use builder::MessageBuilder;
pub use bytes::{Buf, Bytes};
pub use error::{FramingError, ReadError};
pub use framing::{Counted, Framing, Header, LONGEST_HEADER, LengthPrefix};
pub use stream::MessageStream;

/// A kind and some bytes, which are shared by all clones. `Send`; it dereferences to its bytes.
///
/// ```
/// use machinarium::{Message, sync::channel};
///
/// const QUERY: u32 = 'Q' as u32;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let (sender, receiver) = channel::unbounded();
///     let worker = machinarium::machine::spawn("worker", move || {
///         let query: Message = receiver.recv().unwrap();
///         assert_eq!((query.kind(), &query[..]), (QUERY, &b"select 1"[..]));
///     })?;
///     sender.send(Message::copy(QUERY, b"select 1")).unwrap();
///     Ok(worker.join()?)
/// });
/// result.unwrap();
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Message {
    kind: u32,
    data: Bytes,
}

impl Message {
    /// A message of bytes that are there already, which are not copied: `Bytes`, a `Vec<u8>`, a `String`, or a `&'static` slice or text.
    pub fn new(kind: impl Into<u32>, data: impl Into<Bytes>) -> Message {
        Message { kind: kind.into(), data: data.into() }
    }

    /// A message of a copy of these bytes, in a buffer of this machine's pool.
    pub fn copy(kind: impl Into<u32>, bytes: &[u8]) -> Message {
        let mut builder = MessageBuilder::with_capacity(kind, bytes.len());
        builder.put_slice(bytes);
        builder.freeze()
    }

    /// A message that is yet to be written.
    pub fn builder(kind: impl Into<u32>) -> MessageBuilder {
        MessageBuilder::new(kind)
    }

    /// What it is: a number on which those who exchange messages have agreed.
    pub fn kind(&self) -> u32 {
        self.kind
    }

    /// The kind as a value of the program's own type.
    ///
    /// # Errors
    /// Those of that type, for a number that is none of its values.
    ///
    /// ```
    /// # use machinarium::Message;
    /// assert_eq!(Message::new('Z', "").kind_as::<char>(), Ok('Z'));
    /// assert!(Message::new(1000_u32, "").kind_as::<u8>().is_err());
    /// ```
    pub fn kind_as<K: TryFrom<u32>>(&self) -> Result<K, K::Error> {
        self.kind.try_into()
    }

    /// The same bytes as a message of another kind.
    pub fn with_kind(self, kind: impl Into<u32>) -> Message {
        Message { kind: kind.into(), ..self }
    }

    /// The bytes. Parts of them ([`Bytes::slice`]) and clones keep all of the message's memory.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The bytes, to be read from the front with the methods of [`Buf`]. Of these the `try_` ones do not panic when there are too few.
    ///
    /// ```
    /// use machinarium::message::{Buf, Message};
    ///
    /// let mut message = Message::builder(7_u32);
    /// message.put_u16(80).put_slice(b"rest");
    /// let mut data = message.freeze().into_data();
    /// assert_eq!((data.try_get_u16(), &data[..]), (Ok(80), &b"rest"[..]));
    /// assert!(data.try_get_u64().is_err());
    /// ```
    pub fn into_data(self) -> Bytes {
        self.data
    }
}

impl Deref for Message {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.data
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// How many bytes `Debug` shows.
const SHOWN: usize = 32;

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show("Message", self.kind, &self.data, f)
    }
}

fn show(what: &str, kind: u32, data: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (begin, rest) = data.split_at(data.len().min(SHOWN));
    let more = if rest.is_empty() { "" } else { ".." };
    write!(f, "{what} {{ kind: {kind}, {} bytes: \"{}{more}\" }}", data.len(), begin.escape_ascii())
}
