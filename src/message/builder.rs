//! A message while it is written: bytes are appended, changed in place, and frozen.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};

use super::block::Block;
use super::{Bytes, Message, show};

/// A message that is being written, in a buffer of this machine's pool. Dereferences to the bytes that were written, also to change them.
///
/// It takes no memory before the first byte. When it grows it moves to a buffer of at least twice the size.
///
/// ```
/// use machinarium::Message;
/// use std::io::Write;
///
/// let mut row = Message::builder('D');
/// row.put_u16(1).put_u32(0); // a length that is not known yet
/// write!(row, "{}", 6 * 7)?;
/// let length = row.len() as u32 - 6;
/// row[2..6].copy_from_slice(&length.to_be_bytes());
/// assert_eq!(&row.freeze()[..], b"\0\x01\0\0\0\x0242");
/// # std::io::Result::Ok(())
/// ```
#[derive(Default)]
pub struct MessageBuilder {
    kind: u32,
    block: Block,
    len: usize,
}

impl MessageBuilder {
    /// An empty message.
    pub fn new(kind: impl Into<u32>) -> MessageBuilder {
        MessageBuilder { kind: kind.into(), ..MessageBuilder::default() }
    }

    /// An empty message with room for so many bytes.
    pub fn with_capacity(kind: impl Into<u32>, bytes: usize) -> MessageBuilder {
        MessageBuilder { kind: kind.into(), block: Block::new(bytes), len: 0 }
    }

    /// What it will be.
    pub fn kind(&self) -> u32 {
        self.kind
    }

    /// Makes it a message of another kind.
    pub fn set_kind(&mut self, kind: impl Into<u32>) -> &mut MessageBuilder {
        self.kind = kind.into();
        self
    }

    /// How many bytes it can have without moving to another buffer.
    pub fn capacity(&self) -> usize {
        self.block.bytes.len()
    }

    /// Makes room for `more` bytes.
    pub fn reserve(&mut self, more: usize) {
        let needed = self.len.checked_add(more).expect("a message longer than memory");
        if needed > self.capacity() {
            let mut larger = Block::new(needed.max(self.capacity().saturating_mul(2)));
            larger.bytes[..self.len].copy_from_slice(self);
            self.block = larger;
        }
    }

    /// Appends bytes.
    pub fn put_slice(&mut self, bytes: &[u8]) -> &mut MessageBuilder {
        self.append(bytes.len()).copy_from_slice(bytes);
        self
    }

    /// Appends `count` times the same byte.
    pub fn put_bytes(&mut self, byte: u8, count: usize) -> &mut MessageBuilder {
        self.append(count).fill(byte);
        self
    }

    /// Appends a byte.
    pub fn put_u8(&mut self, byte: u8) -> &mut MessageBuilder {
        self.put_slice(&[byte])
    }

    /// Makes it shorter; nothing if it is.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Takes away all bytes; the buffer stays.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The message, which does not change any more.
    pub fn freeze(self) -> Message {
        let data =
            if self.len == 0 { Bytes::new() } else { Bytes::from_owner(Written(self.block, self.len)) };
        Message { kind: self.kind, data }
    }

    /// Room for `more` bytes at the end, which from now on belong to the message. They hold what somebody else has left there: the
    /// caller writes all of them.
    fn append(&mut self, more: usize) -> &mut [u8] {
        self.reserve(more);
        let start = self.len;
        self.len += more;
        &mut self.block.bytes[start..self.len]
    }
}

/// The memory of a message, and how much of it was written.
struct Written(Block, usize);

impl AsRef<[u8]> for Written {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes[..self.1]
    }
}

macro_rules! put_numbers {
    ($($big:ident, $little:ident: $number:ty;)*) => {
        impl MessageBuilder {
            $(
                /// Appends a number, its most significant byte first.
                pub fn $big(&mut self, number: $number) -> &mut MessageBuilder {
                    self.put_slice(&number.to_be_bytes())
                }

                /// Appends a number, its least significant byte first.
                pub fn $little(&mut self, number: $number) -> &mut MessageBuilder {
                    self.put_slice(&number.to_le_bytes())
                }
            )*
        }
    };
}

put_numbers! {
    put_u16, put_u16_le: u16;
    put_u32, put_u32_le: u32;
    put_u64, put_u64_le: u64;
    put_i16, put_i16_le: i16;
    put_i32, put_i32_le: i32;
    put_i64, put_i64_le: i64;
    put_f32, put_f32_le: f32;
    put_f64, put_f64_le: f64;
}

impl Deref for MessageBuilder {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block.bytes[..self.len]
    }
}

impl DerefMut for MessageBuilder {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.block.bytes[..self.len]
    }
}

impl Extend<u8> for MessageBuilder {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        let bytes = bytes.into_iter();
        self.reserve(bytes.size_hint().0);
        for byte in bytes {
            self.put_u8(byte);
        }
    }
}

impl<'a> Extend<&'a u8> for MessageBuilder {
    fn extend<I: IntoIterator<Item = &'a u8>>(&mut self, bytes: I) {
        self.extend(bytes.into_iter().copied());
    }
}

/// Appends; never fails.
impl io::Write for MessageBuilder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends; never fails.
impl fmt::Write for MessageBuilder {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put_slice(text.as_bytes());
        Ok(())
    }
}

impl fmt::Debug for MessageBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show("MessageBuilder", self.kind, self, f)
    }
}

impl From<MessageBuilder> for Message {
    fn from(builder: MessageBuilder) -> Message {
        builder.freeze()
    }
}
