//! Where servers listen besides a TCP port, and what they are there: Unix sockets, certificates.

use std::fmt;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use machinarium::kernel::UnixName;
use machinarium::net::{UnixListener, UnixStream};
use machinarium::tls::ServerConfig;

/// What the server is, in TLS.
#[derive(Clone, Debug)]
pub(crate) enum Certificate {
    /// PEM files: the chain, and the key.
    Files(PathBuf, PathBuf),
    /// The same as text.
    Pem(String, String),
}

/// A path, or a name without a file, which is written `@NAME`.
#[derive(Clone, Debug)]
pub(crate) enum UnixAddress {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

impl Certificate {
    /// To be called on a machine: the random numbers and the time are its kernel's.
    pub(crate) fn config(&self) -> io::Result<ServerConfig> {
        self.config_for(&[])
    }

    /// The same, for protocols that clients choose from.
    pub(crate) fn config_for(&self, protocols: &[&str]) -> io::Result<ServerConfig> {
        let builder = ServerConfig::builder().alpn(protocols);
        let builder = match self {
            Certificate::Files(certificate, key) => builder.certificate_files(certificate, key),
            Certificate::Pem(certificate, key) => builder.certificate_pem(certificate.as_str(), key.as_str()),
        };
        builder.build().map_err(io::Error::from)
    }
}

impl UnixAddress {
    pub(crate) fn parse(text: &str) -> UnixAddress {
        match text.strip_prefix('@') {
            Some(name) => UnixAddress::Abstract(name.into()),
            None => UnixAddress::Path(text.into()),
        }
    }

    pub(crate) fn bind(&self) -> io::Result<UnixListener> {
        match self {
            UnixAddress::Path(path) => UnixListener::bind(path),
            UnixAddress::Abstract(name) => UnixListener::bind_addr(&abstract_name(name)?),
        }
    }

    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        match self {
            UnixAddress::Path(path) => UnixStream::connect(path),
            UnixAddress::Abstract(name) => UnixStream::connect_addr(&abstract_name(name)?),
        }
    }
}

/// As it is written.
impl fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnixAddress::Path(path) => write!(f, "{}", path.display()),
            UnixAddress::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
        }
    }
}

fn abstract_name(name: &[u8]) -> io::Result<UnixName> {
    UnixName::abstract_name(name).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Removes the file of a Unix socket, which stays when its server has gone.
pub(crate) fn remove_stale(address: Option<&UnixAddress>) {
    let Some(UnixAddress::Path(path)) = address else { return };
    if std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        // If that fails, so does listening, and says why.
        let _ = std::fs::remove_file(path);
    }
}
