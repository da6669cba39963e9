//! Why a blocking call ended without its effect.
//!
//! | what happened | as `io::Error` | downcasts to |
//! |---|---|---|
//! | the coroutine was cancelled | kind `Other` | [`Cancelled`] |
//! | a deadline passed | kind `TimedOut` | [`Expired`] |
//! | the call was made where it cannot wait | kind `Other` | [`Misuse`] |
//!
//! Never `Interrupted` nor `WouldBlock`: std's loops and others spin on those. A call that has taken effect reports its
//! effect, never one of these.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::io;

/// Why a coroutine was cancelled: a few words for logs, such as "client gone".
pub type Cause = Cow<'static, str>;

/// The error of a blocking call in a coroutine that was cancelled.
///
/// Every later blocking call fails with it too, except inside [`shield`](crate::shield).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cancelled {
    pub(crate) cause: Cause,
}

impl Cancelled {
    /// Why, as it was given to `cancel`.
    pub fn cause(&self) -> &str {
        &self.cause
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cancelled: {}", self.cause)
    }
}

impl std::error::Error for Cancelled {}

/// The error of a blocking call whose deadline passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expired {
    pub(crate) scope: u64,
}

impl Expired {
    /// Which [`timeout`](crate::timeout) expired: a number unique in its machine, or `None` for the call's own deadline
    /// (`recv_timeout`, `set_read_timeout` and their like).
    pub fn scope(&self) -> Option<u64> {
        (self.scope != 0).then_some(self.scope)
    }
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline passed")
    }
}

impl std::error::Error for Expired {}

/// A blocking call that could not wait where it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Misuse {
    /// This thread is no machine: call it inside [`run`](crate::run).
    NoMachine,
    /// The handle belongs to another machine. Send a closure there, or detach the stream.
    OtherMachine,
    /// The handle's machine has ended.
    MachineEnded,
    /// The coroutine is unwinding (a destructor, or the panic hook, made the call): it must not switch.
    Unwinding,
    /// `run` inside a machine: use [`spawn`](crate::spawn) or [`machine::spawn`](crate::machine::spawn).
    Nested,
    /// An io of another process.
    OtherProcess,
    /// The result of a select's case that was not chosen.
    NotChosen,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Misuse::NoMachine => "this thread is no machine: make the call inside machinarium::run",
            Misuse::OtherMachine => {
                "the handle belongs to another machine: send it a closure, or detach the stream"
            }
            Misuse::MachineEnded => "the machine of this handle has ended",
            Misuse::Unwinding => "a blocking call made while unwinding: a destructor must not wait",
            Misuse::Nested => "run inside a machine: use spawn or machine::spawn",
            Misuse::OtherProcess => "the descriptor belongs to another process",
            Misuse::NotChosen => "this case of the select was not chosen",
        })
    }
}

impl std::error::Error for Misuse {}

/// Why a wait ended without what it waited for. Converts into `io::Error` as the table above says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WaitError {
    /// The coroutine was cancelled.
    Cancelled(Cancelled),
    /// A deadline passed.
    Expired(Expired),
    /// The call was made where it cannot wait.
    Misuse(Misuse),
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::Cancelled(error) => error.fmt(f),
            WaitError::Expired(error) => error.fmt(f),
            WaitError::Misuse(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for WaitError {}

impl From<Cancelled> for WaitError {
    fn from(cancelled: Cancelled) -> WaitError {
        WaitError::Cancelled(cancelled)
    }
}

impl From<Misuse> for WaitError {
    fn from(misuse: Misuse) -> WaitError {
        WaitError::Misuse(misuse)
    }
}

impl From<Misuse> for io::Error {
    fn from(misuse: Misuse) -> io::Error {
        io::Error::other(misuse)
    }
}

impl From<WaitError> for io::Error {
    fn from(error: WaitError) -> io::Error {
        match error {
            WaitError::Cancelled(cancelled) => io::Error::other(cancelled),
            WaitError::Expired(expired) => io::Error::new(io::ErrorKind::TimedOut, expired),
            WaitError::Misuse(misuse) => io::Error::other(misuse),
        }
    }
}

/// Whether an `io::Error` is a cancellation, and with which cause.
///
/// ```
/// let error = std::io::Error::other("something else");
/// assert!(machinarium::cancelled(&error).is_none());
/// ```
pub fn cancelled(error: &io::Error) -> Option<&Cancelled> {
    error.get_ref()?.downcast_ref()
}

/// Whether a call has ended because of its caller (deadline, cancellation, misuse), and not of what it was about.
pub(crate) fn is_of_caller(error: &io::Error) -> bool {
    let Some(inner) = error.get_ref() else { return false };
    inner.is::<Expired>() || inner.is::<Cancelled>() || inner.is::<Misuse>()
}

/// Whether a write has failed because the peer is not there any more.
pub(crate) fn has_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}

/// How a coroutine ended, if not by returning; or why it could not be joined.
pub enum JoinError {
    /// It panicked; the value is the panic's.
    Panicked(Box<dyn Any + Send>),
    /// Its machine was torn down before it returned.
    Unwound,
    /// The caller's wait ended first: cancelled, deadline passed, wrong machine. The coroutine goes on.
    Wait(WaitError),
}

impl JoinError {
    /// The panic's message, if it was a panic with a text.
    pub fn message(&self) -> Option<&str> {
        let JoinError::Panicked(panic) = self else { return None };
        panic
            .downcast_ref::<&'static str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked(_) => match self.message() {
                Some(message) => write!(f, "the coroutine panicked: {message}"),
                None => f.write_str("the coroutine panicked"),
            },
            JoinError::Unwound => f.write_str("the coroutine was unwound when its machine ended"),
            JoinError::Wait(error) => write!(f, "join: {error}"),
        }
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> io::Error {
        match error {
            JoinError::Wait(wait) => wait.into(),
            other => io::Error::other(other.to_string()),
        }
    }
}
