//! What an echo server is told when it starts.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use machinarium::kernel::UnixName;
use machinarium::net::{UnixListener, UnixStream};
use machinarium::tls::ServerConfig;

/// How to serve. The same value in production and in a simulated world.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) tcp: Option<SocketAddr>,
    pub(crate) tls: Option<(SocketAddr, Certificate)>,
    pub(crate) unix: Option<UnixAddress>,
    /// How many machines share the connections.
    pub(crate) machines: usize,
    /// Connections at once, all listeners together.
    pub(crate) clients: usize,
    /// How long a client may neither send nor take anything.
    pub(crate) idle: Option<Duration>,
    pub(crate) bug: Option<Bug>,
}

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

/// A mistake planted for the hunt to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bug {
    /// A write that takes a part is taken for one that took all.
    ShortWrite,
}

impl Certificate {
    /// To be called on a machine: the random numbers and the time are its kernel's.
    pub(crate) fn config(&self) -> io::Result<ServerConfig> {
        let builder = ServerConfig::builder();
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

fn abstract_name(name: &[u8]) -> io::Result<UnixName> {
    UnixName::abstract_name(name).map_err(|_| io::ErrorKind::InvalidInput.into())
}
