//! Why a message could not be read, and who must act.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// What a [`Framing`](super::Framing) says of bytes that begin no message of its, or of a message that it cannot frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FramingError(Cow<'static, str>);

impl FramingError {
    /// With some words for logs.
    pub fn new(why: impl Into<Cow<'static, str>>) -> FramingError {
        FramingError(why.into())
    }
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FramingError {}

/// Why no message was read. Nothing was taken from the stream: all bytes that have come of it are still there to be read.
///
/// As an `io::Error` it is of kind `InvalidData` for the first two, `UnexpectedEof` for [`Truncated`](Self::Truncated), and downcasts to
/// this; [`Io`](Self::Io) is the error that it holds.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The peer announces a message that is longer than it may be. The stream stands in front of its header: with a framing of a higher limit
    /// it can be read, and a reader that knows the header can take that and the data. Else close the stream, as every later call
    /// will find the same.
    TooLong {
        /// Bytes of data, as the header says.
        announced: u64,
        /// How many there may be.
        limit: usize,
    },
    /// The peer sends what is no message.
    Framing(FramingError),
    /// The stream ends in the middle of a message. (One that ends between two is no error.)
    Truncated {
        /// Bytes of it that have come, header and all.
        received: usize,
        /// How many it was to have; `None` if its header is not whole.
        expected: Option<u64>,
    },
    /// The call has ended otherwise: by a deadline, a cancellation, or an error of the stream.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::TooLong { announced, limit } => {
                write!(f, "a message of {announced} bytes, and {limit} is the limit")
            }
            ReadError::Framing(error) => write!(f, "no message: {error}"),
            ReadError::Truncated { received, expected: Some(expected) } => {
                write!(f, "the stream ended after {received} of {expected} bytes of a message")
            }
            ReadError::Truncated { received, expected: None } => {
                write!(f, "the stream ended after {received} bytes of a message's header")
            }
            ReadError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadError::Framing(error) => Some(error),
            ReadError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Io(error)
    }
}

impl From<FramingError> for ReadError {
    fn from(error: FramingError) -> ReadError {
        ReadError::Framing(error)
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> io::Error {
        let kind = match error {
            ReadError::TooLong { .. } | ReadError::Framing(_) => io::ErrorKind::InvalidData,
            ReadError::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            ReadError::Io(error) => return error,
        };
        io::Error::new(kind, error)
    }
}
