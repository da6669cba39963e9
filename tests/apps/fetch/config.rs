//! What fetch is told when it starts.

use std::path::PathBuf;
use std::time::Duration;

use machinarium::tls::{ClientConfig, ConfigError};
use ureq::http::Uri;

/// What to download and how. The same value in production and in a simulated world.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) targets: Vec<Target>,
    pub(crate) directory: PathBuf,
    /// Downloads at once.
    pub(crate) jobs: usize,
    /// Tries in a row that bring nothing, after which a download is given up.
    pub(crate) tries: u32,
    /// Before the second try; doubled before each further one.
    pub(crate) pause: Duration,
    /// The most for a lookup, and for a connection with its handshake.
    pub(crate) connect: Duration,
    /// The most that a server may say nothing.
    pub(crate) idle: Duration,
    /// The most for one file, with all tries.
    pub(crate) whole: Option<Duration>,
    /// How often what has come is made safe.
    pub(crate) checkpoint: Duration,
    pub(crate) trust: Trust,
    /// Whether files are called as their servers say.
    pub(crate) server_names: bool,
    pub(crate) bug: Option<Bug>,
}

/// One file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    pub(crate) url: Uri,
    /// What its SHA-256 must be, where that is known.
    pub(crate) sha256: Option<[u8; 32]>,
}

/// Whose signatures servers' certificates need.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// Those whom the system trusts.
    System,
    File(PathBuf),
    Pem(String),
}

/// A mistake planted for the hunt to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bug {
    /// A download goes on without asking whether the file is still the same.
    MixedVersions,
}

impl Trust {
    /// To be called on a machine: the random numbers and the time are its kernel's.
    pub(crate) fn config(&self) -> Result<ClientConfig, ConfigError> {
        let builder = ClientConfig::builder();
        match self {
            Trust::System => builder.build(),
            Trust::File(path) => builder.ca_file(path).build(),
            Trust::Pem(text) => builder.ca_pem(text.as_str()).build(),
        }
    }
}
