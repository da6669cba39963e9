//! Why a client's session ends early, and what the client is told of it.

use std::fmt;
use std::io;

use machinarium::{WaitError, cancelled};

use crate::message;

/// What a session ends with.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client is told: SQLSTATE and text.
    Told(&'static str, String),
    /// The client gets the server's own ErrorResponse.
    OfServer { code: String, text: String },
    /// A cancel request came before a server had what the client asked for: that has failed, and not the session.
    Cancelled,
    /// Its connection has failed, or the wait was cancelled.
    Io(io::Error),
}

/// SQLSTATEs, as PostgreSQL has them.
pub(crate) mod code {
    pub(crate) const PROTOCOL: &str = "08P01";
    pub(crate) const CONNECTION: &str = "08006";
    pub(crate) const NO_FEATURE: &str = "0A000";
    pub(crate) const NO_LOGIN: &str = "28000";
    pub(crate) const WRONG_PASSWORD: &str = "28P01";
    pub(crate) const NO_DATABASE: &str = "3D000";
    pub(crate) const SYNTAX: &str = "42601";
    pub(crate) const TOO_MANY: &str = "53300";
    pub(crate) const NOT_NOW: &str = "57P03";
    pub(crate) const SHUTDOWN: &str = "57P01";
    pub(crate) const IDLE: &str = "57P05";
    pub(crate) const IDLE_IN_TRANSACTION: &str = "25P03";
    pub(crate) const TIMEOUT: &str = "57014";
}

impl Failure {
    pub(crate) fn told(code: &'static str, text: impl Into<String>) -> Failure {
        Failure::Told(code, text.into())
    }

    /// Appends what the client is told.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Failure::Told(code, text) => message::put_error(out, "FATAL", code, text),
            Failure::OfServer { code, text } => message::put_error(out, "FATAL", code, text),
            Failure::Cancelled => message::put_error(out, "ERROR", code::TIMEOUT, &self.to_string()),
            Failure::Io(error) => match cancelled(error) {
                Some(cause) => message::put_error(out, "FATAL", code::SHUTDOWN, cause.cause()),
                None => message::put_error(out, "FATAL", code::CONNECTION, &error.to_string()),
            },
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::InvalidData => Failure::Told(code::PROTOCOL, error.to_string()),
            _ => Failure::Io(error),
        }
    }
}

impl From<WaitError> for Failure {
    fn from(error: WaitError) -> Failure {
        Failure::Io(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Told(_, text) => f.write_str(text),
            Failure::OfServer { text, .. } => f.write_str(text),
            Failure::Cancelled => f.write_str("canceling statement due to user request"),
            Failure::Io(error) => error.fmt(f),
        }
    }
}
