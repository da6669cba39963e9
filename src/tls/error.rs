//! Why TLS failed on a connection, by who must act.
//!
//! | error | whose fault | as `io::Error` |
//! |---|---|---|
//! | [`Certificate`](Error::Certificate), [`NoCertificate`](Error::NoCertificate) | the peer's: we do not accept what it shows | `InvalidData` |
//! | [`Alert`](Error::Alert) | ours, says the peer | `InvalidData` |
//! | [`Incompatible`](Error::Incompatible), [`UnknownName`](Error::UnknownName) | nobody's: nothing in common | `InvalidData` |
//! | [`Misbehaved`](Error::Misbehaved) | the peer's: no TLS, or against its rules | `InvalidData` |
//! | [`Truncated`](Error::Truncated) | the peer's, or the network's: the connection ended before TLS did | `UnexpectedEof` |
//! | [`Local`](Error::Local) | ours | `Other` |
//!
//! Deadlines, cancellation and the socket's errors stay what they are. An `io::Error` made of one of these gives it back
//! by [`Error::of`].

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// See the head of the file.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The peer's certificate is not accepted here.
    Certificate(CertificateError),
    /// The peer must show a certificate and has none.
    NoCertificate,
    /// The peer has ended the connection and says why: it does not accept something of ours.
    Alert(AlertDescription),
    /// No protocol version, cipher or application protocol that both accept.
    Incompatible(rustls::Error),
    /// A client has asked for a name, or for none, for which this server has no certificate.
    UnknownName(Option<Box<str>>),
    /// The peer has sent what is no TLS, or broken its rules.
    Misbehaved(rustls::Error),
    /// The connection ended without the peer's `close_notify`: what was read may not be all that was sent.
    Truncated(During),
    /// Something on this side.
    Local(rustls::Error),
}

/// When a connection was cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum During {
    /// Before both had agreed.
    Handshake,
    /// In the middle of a record.
    Record,
    /// Between two records.
    Data,
}

/// Who must act on an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The other end.
    Peer,
    /// This end, its configuration or its certificate.
    Local,
    /// Either end, or what is between them.
    Either,
}

impl Error {
    /// The TLS error that an `io::Error` was made of, if it was.
    ///
    /// ```
    /// use machinarium::tls::{During, Error, Fault};
    ///
    /// let error = std::io::Error::from(Error::Truncated(During::Record));
    /// assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    /// assert_eq!(Error::of(&error).unwrap().fault(), Fault::Either);
    /// ```
    pub fn of(error: &io::Error) -> Option<&Error> {
        error.get_ref()?.downcast_ref()
    }

    /// Who must act on it.
    pub fn fault(&self) -> Fault {
        match self {
            Error::Certificate(_) | Error::NoCertificate | Error::Misbehaved(_) => Fault::Peer,
            Error::Alert(_) | Error::Local(_) => Fault::Local,
            Error::Incompatible(_) | Error::UnknownName(_) | Error::Truncated(_) => Fault::Either,
        }
    }
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Error {
        use rustls::Error as Tls;
        match error {
            Tls::InvalidCertificate(why) => Error::Certificate(why),
            Tls::NoCertificatesPresented => Error::NoCertificate,
            Tls::AlertReceived(alert) => Error::Alert(alert),
            Tls::PeerIncompatible(_) | Tls::NoApplicationProtocol => Error::Incompatible(error),
            Tls::InappropriateMessage { .. }
            | Tls::InappropriateHandshakeMessage { .. }
            | Tls::InvalidMessage(_)
            | Tls::InvalidEncryptedClientHello(_)
            | Tls::DecryptError
            | Tls::PeerMisbehaved(_)
            | Tls::PeerSentOversizedRecord
            | Tls::UnsupportedNameType => Error::Misbehaved(error),
            other => Error::Local(other),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match error {
            Error::Truncated(_) => io::ErrorKind::UnexpectedEof,
            Error::Local(_) => io::ErrorKind::Other,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Certificate(CertificateError::UnknownIssuer) => f.write_str(
                "TLS: the peer's certificate is not accepted: nobody who is trusted has signed it",
            ),
            Error::Certificate(why) => write!(f, "TLS: the peer's certificate is not accepted: {why}"),
            Error::NoCertificate => f.write_str("TLS: the peer has shown no certificate"),
            Error::Alert(alert) => write!(f, "TLS: the peer refuses this end: alert {alert:?}"),
            Error::Incompatible(why) => write!(f, "TLS: nothing in common with the peer: {why}"),
            Error::UnknownName(Some(name)) => {
                write!(f, "TLS: the peer asks for {name:?}, and there is no certificate for that")
            }
            Error::UnknownName(None) => {
                f.write_str("TLS: the peer asks for no name, and there is no certificate for all")
            }
            Error::Misbehaved(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                f.write_str("TLS: the peer breaks the protocol: what it sends is no TLS")
            }
            Error::Misbehaved(why) => write!(f, "TLS: the peer breaks the protocol: {why}"),
            Error::Truncated(During::Handshake) => {
                f.write_str("TLS: the connection ended during the handshake")
            }
            Error::Truncated(During::Record) => {
                f.write_str("TLS: the connection ended in the middle of a record")
            }
            Error::Truncated(During::Data) => {
                f.write_str("TLS: the connection ended without close_notify, data may be missing")
            }
            Error::Local(why) => write!(f, "TLS: on this side: {why}"),
        }
    }
}

impl std::error::Error for Error {}
