//! What goes wrong with a download, in words for who sits before the screen: what it was, and what can be done. And whether another try may
//! help.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use machinarium::cancelled;
use machinarium::net::{LookupError, LookupFailure};
use machinarium::tls;
use ureq::Timeout;
use ureq::http::StatusCode;

/// Why a try has failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may pass by itself; the server may have said when.
    Passing(String, Option<Duration>),
    /// Another try would end as this one.
    Lasting(String),
    /// The whole run ends.
    Stopped,
}

impl Failure {
    pub(crate) fn passing(what: impl Into<String>) -> Failure {
        Failure::Passing(what.into(), None)
    }

    /// Of a request, or of reading its answer.
    pub(crate) fn of_request(error: ureq::Error) -> Failure {
        use ureq::Error;
        match error {
            Error::Io(error) => Failure::of_connection(error),
            Error::Timeout(Timeout::Resolve) => Failure::passing("no name server answers in time"),
            Error::Timeout(Timeout::Connect) => Failure::passing("no connection in time"),
            Error::Timeout(_) => Failure::passing("the server says nothing for too long"),
            Error::HostNotFound => {
                Failure::Lasting("the name has no address: check how it is written".to_owned())
            }
            Error::TooManyRedirects => {
                Failure::Lasting("the server sends from one address to the next, without end".to_owned())
            }
            Error::BadUri(what) => {
                Failure::Lasting(format!("the server sends to an address that cannot be used: {what}"))
            }
            other => Failure::passing(format!("the server does not speak HTTP as it should: {other}")),
        }
    }

    /// Of the network. ureq's own errors may be wrapped in it.
    pub(crate) fn of_connection(error: io::Error) -> Failure {
        if cancelled(&error).is_some() {
            return Failure::Stopped;
        }
        if let Some(wrapped) = error.get_ref() {
            if wrapped.is::<ureq::Error>() {
                let inner = error.into_inner().and_then(|inner| inner.downcast::<ureq::Error>().ok());
                return Failure::of_request(*inner.expect("seen just now"));
            }
            if wrapped.is::<io::Error>() {
                let inner = error.into_inner().and_then(|inner| inner.downcast::<io::Error>().ok());
                return Failure::of_connection(*inner.expect("seen just now"));
            }
        }
        let inner = error.get_ref();
        if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<LookupError>()) {
            return Failure::of_lookup(error);
        }
        if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<tls::Error>()) {
            return Failure::of_tls(error);
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Failure::passing("nobody listens there (connection refused)"),
            io::ErrorKind::Unsupported => Failure::Lasting(error.to_string()),
            io::ErrorKind::UnexpectedEof => Failure::passing("the connection ended too early"),
            io::ErrorKind::ConnectionReset => Failure::passing("the connection broke"),
            _ => Failure::passing(error.to_string()),
        }
    }

    fn of_lookup(error: &LookupError) -> Failure {
        let host = error.host();
        match error.failure() {
            LookupFailure::NoSuchName | LookupFailure::NoAddress | LookupFailure::NotAName => {
                Failure::Lasting(format!("there is no host {host:?}: check how it is written"))
            }
            failure => Failure::passing(format!("looking up {host:?}: {failure}")),
        }
    }

    fn of_tls(error: &tls::Error) -> Failure {
        match error {
            tls::Error::Certificate(_) => Failure::Lasting(format!(
                "{error}; --ca FILE names another whom you trust to sign certificates"
            )),
            tls::Error::Truncated(_) => Failure::passing("the connection ended too early"),
            _ => Failure::passing(error.to_string()),
        }
    }

    /// Of a status that is no success.
    pub(crate) fn of_status(status: StatusCode, retry_after: Option<Duration>) -> Failure {
        let passing = matches!(status.as_u16(), 408 | 425 | 429)
            || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
        if passing {
            return Failure::Passing(format!("the server answers {status}"), retry_after);
        }
        let advice = match status.as_u16() {
            401 | 403 | 407 => "it wants to know who asks, and fetch cannot tell",
            404 | 410 => "check the address",
            _ => "it does not give this file in this way",
        };
        Failure::Lasting(format!("the server answers {status}: {advice}"))
    }

    /// Of the disk.
    pub(crate) fn of_disk(error: io::Error, directory: &Path) -> Failure {
        if cancelled(&error).is_some() {
            return Failure::Stopped;
        }
        let advice = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room, and run this again: it goes on from here"
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "choose another with --directory"
            }
            _ => "what was written is kept as far as it is safe",
        };
        Failure::Lasting(format!("{}: {error}: {advice}", directory.display()))
    }
}

/// On one line, whatever servers have put into it.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Failure::Passing(what, _) | Failure::Lasting(what) => what,
            Failure::Stopped => "stopped",
        };
        text.chars().try_for_each(|c| fmt::Write::write_char(f, if c.is_control() { ' ' } else { c }))
    }
}
