//! Why a channel did not do what it was asked; a value that was not sent comes back.

use std::fmt;
use std::io;

use crate::error::WaitError;

/// A value that was not sent.
#[derive(Clone, PartialEq, Eq)]
pub enum SendError<T> {
    /// All receivers are gone.
    Disconnected(T),
    /// The channel has a limit, and it is reached (see [`limited`](super::limited)).
    Full(T),
    /// The wait for room was ended: cancelled, or a deadline passed.
    Wait(T, WaitError),
}

/// A value that could not be sent at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room.
    Full(T),
    /// All receivers are gone.
    Disconnected(T),
}

/// Why nothing was received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecvError {
    /// The channel is empty and all senders are gone.
    Disconnected,
    /// The wait was ended: cancelled, or a deadline passed.
    Wait(WaitError),
}

/// Why nothing was received at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TryRecvError {
    /// There is nothing just now.
    Empty,
    /// There is nothing, and all senders are gone.
    Disconnected,
}

const FULL: &str = "the channel is full";
const NO_RECEIVER: &str = "the channel has no receiver left";
const NO_SENDER: &str = "the channel is empty and has no sender left";

impl<T> SendError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Disconnected(item) | SendError::Full(item) | SendError::Wait(item, _) => item,
        }
    }

    /// Whether a deadline passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self, SendError::Wait(_, WaitError::Expired(_)))
    }
}

impl<T> TrySendError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(item) | TrySendError::Disconnected(item) => item,
        }
    }

    /// Whether there was no room.
    pub fn is_full(&self) -> bool {
        matches!(self, TrySendError::Full(_))
    }
}

impl RecvError {
    /// Whether a deadline passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self, RecvError::Wait(WaitError::Expired(_)))
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Disconnected(_) => f.write_str(NO_RECEIVER),
            SendError::Full(_) => f.write_str(FULL),
            SendError::Wait(_, error) => write!(f, "send: {error}"),
        }
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() { FULL } else { NO_RECEIVER })
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Disconnected => f.write_str(NO_SENDER),
            RecvError::Wait(error) => write!(f, "receive: {error}"),
        }
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryRecvError::Empty => f.write_str("the channel is empty"),
            TryRecvError::Disconnected => f.write_str(NO_SENDER),
        }
    }
}

// The value may not be printable, and says nothing of the failure.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendError({self})")
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrySendError({self})")
    }
}

impl<T> std::error::Error for SendError<T> {}
impl<T> std::error::Error for TrySendError<T> {}
impl std::error::Error for RecvError {}
impl std::error::Error for TryRecvError {}

impl<T> From<SendError<T>> for io::Error {
    fn from(error: SendError<T>) -> io::Error {
        match error {
            SendError::Disconnected(_) => io::Error::new(io::ErrorKind::BrokenPipe, NO_RECEIVER),
            SendError::Full(_) => io::Error::new(io::ErrorKind::QuotaExceeded, FULL),
            SendError::Wait(_, error) => error.into(),
        }
    }
}

impl From<RecvError> for io::Error {
    fn from(error: RecvError) -> io::Error {
        match error {
            RecvError::Disconnected => io::Error::new(io::ErrorKind::UnexpectedEof, NO_SENDER),
            RecvError::Wait(error) => error.into(),
        }
    }
}
