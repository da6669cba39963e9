//! Why a configuration cannot be: which file, and what is wrong with it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustls::ProtocolVersion;

/// A configuration that cannot be built, or loaded again.
///
/// ```
/// use machinarium::tls::{Problem, ServerConfig};
///
/// let error = ServerConfig::builder().certificate_files("no-such.pem", "key.pem").build().unwrap_err();
/// assert!(matches!(error.problem(), Problem::Unreadable(_)));
/// assert!(error.to_string().starts_with("no-such.pem: "));
/// ```
#[derive(Debug)]
pub struct ConfigError {
    file: Option<PathBuf>,
    problem: Problem,
}

/// What is wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// The file or folder cannot be read.
    Unreadable(io::Error),
    /// It is not in PEM.
    NotPem(String),
    /// There is no certificate in it.
    NoCertificate,
    /// There is no private key in it.
    NoKey,
    /// Its private key is encrypted, and nobody is asked for a password here.
    EncryptedKey,
    /// The certificate cannot be used.
    BadCertificate(rustls::Error),
    /// The key cannot be used.
    BadKey(rustls::Error),
    /// The key is not the certificate's.
    OtherKey,
    /// A server without any certificate to show.
    NothingToShow,
    /// A peer is to be verified and nobody is trusted.
    NoRoots,
    /// This version of TLS is not known.
    Version(ProtocolVersion),
    /// It was made of rustls' own configuration, and cannot be loaded again.
    NotBuilt,
    /// rustls refuses it.
    Refused(rustls::Error),
}

impl ConfigError {
    pub(super) fn new(file: Option<&Path>, problem: Problem) -> ConfigError {
        ConfigError { file: file.map(Path::to_owned), problem }
    }

    /// Which file it is about.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl From<rustls::Error> for ConfigError {
    fn from(error: rustls::Error) -> ConfigError {
        ConfigError::new(None, Problem::Refused(error))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}: ", file.display())?,
            None => f.write_str("TLS configuration: ")?,
        }
        match &self.problem {
            Problem::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Problem::NotPem(why) => write!(f, "is not PEM: {why}"),
            Problem::NoCertificate => f.write_str("has no certificate"),
            Problem::NoKey => f.write_str("has no private key"),
            Problem::EncryptedKey => f.write_str("has a private key that needs a password: decrypt it first"),
            Problem::BadCertificate(error) => write!(f, "has a certificate that cannot be used: {error}"),
            Problem::BadKey(error) => write!(f, "has a key that cannot be used: {error}"),
            Problem::OtherKey => f.write_str("has a key that is not the certificate's"),
            Problem::NothingToShow => f.write_str("a server needs a certificate"),
            Problem::NoRoots => f.write_str("a peer is to be verified, and nobody is trusted"),
            Problem::Version(version) => write!(f, "{version:?} is not supported"),
            Problem::NotBuilt => f.write_str("made of rustls' own configuration, it cannot be loaded again"),
            Problem::Refused(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Unreadable(error) => Some(error),
            Problem::BadCertificate(error) | Problem::BadKey(error) | Problem::Refused(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ConfigError> for io::Error {
    fn from(error: ConfigError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}
