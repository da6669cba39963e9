//! Why a name has no addresses: what was asked for, and who must act.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::error::WaitError;
use crate::kernel::{Errno, ResolveError};

/// A lookup that failed, with the host it was for.
///
/// As an `io::Error` it keeps itself inside, to be had back by `downcast`; but for a wait that was ended, which then looks as
/// that of any other call.
#[derive(Clone, Debug)]
pub struct LookupError {
    pub(super) host: Arc<str>,
    pub(super) failure: LookupFailure,
}

/// Why a lookup failed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LookupFailure {
    /// There is no such name (`EAI_NONAME`). This is remembered for `Tuning::dns_negative_ttl`.
    NoSuchName,
    /// The name, or the address, is there and is none of the family that was asked for (`EAI_NODATA`, `EAI_ADDRFAMILY`). This is
    /// remembered for `Tuning::dns_negative_ttl`.
    NoAddress,
    /// No name server answers now (`EAI_AGAIN`): ask again later. Never remembered, as all that follow.
    TryAgain,
    /// What was asked for cannot be a name: it is empty, or has a zero byte.
    NotAName,
    /// Any other error of `getaddrinfo`.
    System(ResolveError),
    /// There is no thread to ask on, and none can be had.
    Thread(Errno),
    /// The caller's wait ended first: cancelled, deadline passed, no machine. The lookup goes on.
    Wait(WaitError),
}

impl LookupError {
    /// The host that was asked for.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Why there is no answer.
    pub fn failure(&self) -> &LookupFailure {
        &self.failure
    }

    pub(super) fn new(host: &str, failure: LookupFailure) -> LookupError {
        LookupError { host: host.into(), failure }
    }
}

impl LookupFailure {
    /// Whether the answer says something about the name, and not about the moment.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(self, LookupFailure::NoSuchName | LookupFailure::NoAddress)
    }

    /// Never `WouldBlock` nor `Interrupted`, on which others spin.
    fn kind(&self) -> io::ErrorKind {
        match self {
            LookupFailure::NoSuchName | LookupFailure::NoAddress => io::ErrorKind::NotFound,
            LookupFailure::NotAName => io::ErrorKind::InvalidInput,
            LookupFailure::System(ResolveError::System(_)) => io::ErrorKind::Other,
            LookupFailure::System(error) => io::Error::from(*error).kind(),
            LookupFailure::TryAgain | LookupFailure::Thread(_) | LookupFailure::Wait(_) => {
                io::ErrorKind::Other
            }
        }
    }
}

impl From<ResolveError> for LookupFailure {
    fn from(error: ResolveError) -> LookupFailure {
        match error {
            ResolveError::NoName => LookupFailure::NoSuchName,
            ResolveError::NoData | ResolveError::AddrFamily => LookupFailure::NoAddress,
            ResolveError::Again => LookupFailure::TryAgain,
            other => LookupFailure::System(other),
        }
    }
}

impl fmt::Display for LookupFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupFailure::NoSuchName => f.write_str("no such name"),
            LookupFailure::NoAddress => f.write_str("no address of this family"),
            LookupFailure::TryAgain => f.write_str("no name server answers now"),
            LookupFailure::NotAName => f.write_str("not a name"),
            LookupFailure::System(error) => error.fmt(f),
            LookupFailure::Thread(errno) => write!(f, "no thread to ask on: {errno}"),
            LookupFailure::Wait(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lookup of {:?}: {}", self.host, self.failure)
    }
}

impl std::error::Error for LookupError {}

impl From<LookupError> for io::Error {
    fn from(error: LookupError) -> io::Error {
        match error.failure {
            LookupFailure::Wait(wait) => wait.into(),
            _ => io::Error::new(error.failure.kind(), error),
        }
    }
}

/// The text as `getaddrinfo` takes it.
pub(super) fn text_of(host: &str) -> Result<CString, LookupFailure> {
    if host.is_empty() {
        return Err(LookupFailure::NotAName);
    }
    CString::new(host.to_ascii_lowercase()).map_err(|_| LookupFailure::NotAName)
}
