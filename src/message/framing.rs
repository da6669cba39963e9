//! Where a message begins and ends on a stream: in front of its data stands a header, of its kind and its length.

use super::error::FramingError;

/// The longest header, in bytes.
pub const LONGEST_HEADER: usize = 64;

/// What is in front of the data of each message on a stream. [`LengthPrefix`] is the usual one; this is for all others.
///
/// ```
/// use machinarium::message::{Framing, FramingError, Header};
///
/// /// Netstrings: `5:hello,`, without a kind. The comma is the data's last byte here.
/// struct Netstring;
///
/// impl Framing for Netstring {
///     fn read_header(&self, bytes: &[u8]) -> Result<Option<Header>, FramingError> {
///         let Some(colon) = bytes.iter().position(|byte| *byte == b':') else { return Ok(None) };
///         let length = std::str::from_utf8(&bytes[..colon]).ok().and_then(|digits| digits.parse::<u64>().ok());
///         let length = length.ok_or_else(|| FramingError::new("a length that is no number"))?;
///         Ok(Some(Header { kind: 0, size: colon + 1, length: length + 1 }))
///     }
///
///     fn write_header(&self, _kind: u32, length: usize, header: &mut Vec<u8>) -> Result<(), FramingError> {
///         let length = length.checked_sub(1).ok_or_else(|| FramingError::new("no comma"))?;
///         header.extend_from_slice(format!("{length}:").as_bytes());
///         Ok(())
///     }
/// }
///
/// assert_eq!(Netstring.read_header(b"5:he").unwrap(), Some(Header { kind: 0, size: 2, length: 6 }));
/// ```
pub trait Framing {
    /// Looks at the bytes with which a message begins, the first [`LONGEST_HEADER`] at most. `None`: the header is not whole yet.
    ///
    /// # Errors
    /// This is no header.
    fn read_header(&self, bytes: &[u8]) -> Result<Option<Header>, FramingError>;

    /// Appends the header of a message of `length` bytes to `header`.
    ///
    /// # Errors
    /// There is no header for such a message.
    fn write_header(&self, kind: u32, length: usize, header: &mut Vec<u8>) -> Result<(), FramingError>;

    /// How many bytes of data a message may have that is read. `None`: what `Tuning::message_limit` says.
    fn limit(&self) -> Option<usize> {
        None
    }
}

/// What a header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The message's kind.
    pub kind: u32,
    /// Bytes of the header itself.
    pub size: usize,
    /// Bytes of data that follow.
    pub length: u64,
}

/// Headers of two numbers, the kind and the length, each of so many bytes: 4 and 4, most significant byte first, if nothing else is
/// said. The length is that of the data.
///
/// ```
/// use machinarium::message::{Counted, Framing, LengthPrefix};
///
/// let mut header = Vec::new();
/// LengthPrefix::postgres().write_header('Q' as u32, 9, &mut header)?;
/// assert_eq!(header, b"Q\0\0\0\x0d");
/// let frames = LengthPrefix::new().kind_bytes(0).length_bytes(2).counted(Counted::Data);
/// assert_eq!(frames.read_header(b"\0\x07rest")?.unwrap().length, 7);
/// # Ok::<(), machinarium::message::FramingError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LengthPrefix {
    kind: usize,
    length: usize,
    counted: Counted,
    little_endian: bool,
    limit: Option<usize>,
}

/// What the length in a header counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counted {
    /// The data.
    Data,
    /// The data and the length itself.
    Length,
    /// All of the message: header and data.
    Message,
}

impl Default for LengthPrefix {
    fn default() -> LengthPrefix {
        LengthPrefix::new()
    }
}

impl LengthPrefix {
    /// 4 bytes of kind, 4 of length.
    pub const fn new() -> LengthPrefix {
        LengthPrefix { kind: 4, length: 4, counted: Counted::Data, little_endian: false, limit: None }
    }

    /// Messages of PostgreSQL: a byte of kind, 4 bytes of length, which count themselves. Its first message, which has no kind, is
    /// read and written with `kind_bytes(0)`.
    pub const fn postgres() -> LengthPrefix {
        LengthPrefix { kind: 1, counted: Counted::Length, ..LengthPrefix::new() }
    }

    /// How many bytes the kind has, 0 to 4. With 0 it is not sent, and 0 when read.
    ///
    /// # Panics
    /// For more than 4.
    pub const fn kind_bytes(mut self, bytes: usize) -> LengthPrefix {
        assert!(bytes <= 4, "a kind has 4 bytes at most");
        self.kind = bytes;
        self
    }

    /// How many bytes the length has, 1 to 8.
    ///
    /// # Panics
    /// For 0 and more than 8.
    pub const fn length_bytes(mut self, bytes: usize) -> LengthPrefix {
        assert!(bytes >= 1 && bytes <= 8, "a length has 1 to 8 bytes");
        self.length = bytes;
        self
    }

    /// What the length counts.
    pub const fn counted(mut self, counted: Counted) -> LengthPrefix {
        self.counted = counted;
        self
    }

    /// The least significant byte of both numbers comes first.
    pub const fn little_endian(mut self) -> LengthPrefix {
        self.little_endian = true;
        self
    }

    /// How many bytes of data a message may have that is read. Default: `Tuning::message_limit`.
    pub const fn limit(mut self, bytes: usize) -> LengthPrefix {
        self.limit = Some(bytes);
        self
    }

    /// What the length counts besides the data.
    fn overhead(&self) -> u64 {
        match self.counted {
            Counted::Data => 0,
            Counted::Length => self.length as u64,
            Counted::Message => (self.kind + self.length) as u64,
        }
    }

    fn number(&self, bytes: &[u8]) -> u64 {
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        if self.little_endian { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) }
    }

    fn put(&self, number: u64, size: usize, header: &mut Vec<u8>) -> bool {
        if self.little_endian {
            header.extend_from_slice(&number.to_le_bytes()[..size]);
        } else {
            header.extend_from_slice(&number.to_be_bytes()[8 - size..]);
        }
        size == 8 || number >> (8 * size) == 0
    }
}

impl Framing for LengthPrefix {
    fn read_header(&self, bytes: &[u8]) -> Result<Option<Header>, FramingError> {
        let size = self.kind + self.length;
        let Some(header) = bytes.get(..size) else { return Ok(None) };
        let (kind, length) = header.split_at(self.kind);
        let (kind, all) = (self.number(kind) as u32, self.number(length));
        match all.checked_sub(self.overhead()) {
            Some(length) => Ok(Some(Header { kind, size, length })),
            None => Err(FramingError::new(format!(
                "a length of {all}, which counts {} bytes of the header",
                self.overhead()
            ))),
        }
    }

    fn write_header(&self, kind: u32, length: usize, header: &mut Vec<u8>) -> Result<(), FramingError> {
        if self.kind > 0 && !self.put(kind.into(), self.kind, header) {
            return Err(FramingError::new(format!("kind {kind} in {} bytes", self.kind)));
        }
        let all = (length as u64).checked_add(self.overhead());
        if all.is_some_and(|all| self.put(all, self.length, header)) {
            return Ok(());
        }
        let all = length as u128 + u128::from(self.overhead());
        Err(FramingError::new(format!("a length of {all} in {} bytes", self.length)))
    }

    fn limit(&self) -> Option<usize> {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a message, which must be read as it was written, and not before it is whole.
    #[track_caller]
    fn header(framing: LengthPrefix, kind: u32, length: usize) -> Vec<u8> {
        let mut header = Vec::new();
        framing.write_header(kind, length, &mut header).unwrap();
        for part in 0..header.len() {
            assert_eq!(framing.read_header(&header[..part]), Ok(None));
        }
        let kind = if framing.kind == 0 { 0 } else { kind };
        let expected = Header { kind, size: header.len(), length: length as u64 };
        assert_eq!(framing.read_header(&header), Ok(Some(expected)));
        let longer = [&header[..], &[9; 20]].concat();
        assert_eq!(framing.read_header(&longer), Ok(Some(expected)));
        header
    }

    #[test]
    fn numbers_are_of_every_size_and_both_orders() {
        let plain = LengthPrefix::new();
        assert_eq!(header(plain, 0x0102_0304, 5), [1, 2, 3, 4, 0, 0, 0, 5]);
        assert_eq!(header(plain.little_endian(), 0x0102_0304, 5), [4, 3, 2, 1, 5, 0, 0, 0]);
        assert_eq!(header(plain.kind_bytes(0).length_bytes(1), 7, 255), [255]);
        assert_eq!(header(plain.kind_bytes(3).length_bytes(8), 1, 1), [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(header(plain.kind_bytes(2).length_bytes(2).little_endian(), 258, 259), [2, 1, 3, 1]);
    }

    #[test]
    fn a_length_may_count_itself_and_the_kind() {
        assert_eq!(header(LengthPrefix::postgres(), 'Z'.into(), 1), [b'Z', 0, 0, 0, 5]);
        assert_eq!(header(LengthPrefix::postgres().kind_bytes(0), 0, 0), [0, 0, 0, 4]);
        assert_eq!(header(LengthPrefix::new().counted(Counted::Message), 1, 2), [0, 0, 0, 1, 0, 0, 0, 10]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let short = LengthPrefix::new().kind_bytes(1).length_bytes(1).counted(Counted::Length);
        header(short, 255, 254);
        let refused =
            |kind, length| short.write_header(kind, length, &mut Vec::new()).unwrap_err().to_string();
        assert_eq!(refused(256, 0), "kind 256 in 1 bytes");
        assert_eq!(refused(0, 255), "a length of 256 in 1 bytes");
        let long = LengthPrefix::new().length_bytes(8).counted(Counted::Message);
        let refused_long = long.write_header(0, usize::MAX, &mut Vec::new()).unwrap_err().to_string();
        assert_eq!(refused_long, "a length of 18446744073709551627 in 8 bytes");
        let wrong = short.read_header(&[1, 0]).unwrap_err().to_string();
        assert_eq!(wrong, "a length of 0, which counts 1 bytes of the header");
        assert_eq!(
            (short.limit(5).limit, Framing::limit(&short.limit(5)), Framing::limit(&short)),
            (Some(5), Some(5), None)
        );
    }
}
