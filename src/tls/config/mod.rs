//! What TLS is to be like: read from files or memory, checked when it is built, read again by `reload` while connections go on.
//!
//! | file | what |
//! |---|---|
//! | `client`, `server` | the two configurations and their builders |
//! | `pem` | certificates and keys from files, folders and memory |
//! | `verify` | verifiers that ask for less than rustls' own |
//! | `error` | which file, and what is wrong with it |
//!
//! A configuration is a shared place with rustls' own in it ([`Latest`]); a connection takes what is there when it
//! begins. A builder is kept beside it, so that `reload` can do again what `build` did; when that fails nothing changes.
//! Files are read on the calling thread, which waits for the disk.

pub(crate) mod client;
pub(crate) mod error;
mod pem;
pub(crate) mod server;
mod verify;

use std::sync::Arc;

use rustls::{KeyLogFile, ProtocolVersion, SupportedProtocolVersion};

use crate::shared::latest::Latest;
use error::{ConfigError, Problem};

/// What can be built again: how, and what it gives.
trait Build {
    type Config;

    fn build(&self) -> Result<Self::Config, ConfigError>;
}

/// A configuration that can be replaced.
struct Place<B: Build> {
    /// `None`: it was made of rustls' own, and cannot be made again.
    builder: Option<B>,
    latest: Latest<B::Config>,
}

impl<B: Build> Place<B> {
    fn build(builder: B) -> Result<Arc<Place<B>>, ConfigError> {
        let latest = Latest::new(Arc::new(builder.build()?));
        Ok(Arc::new(Place { builder: Some(builder), latest }))
    }

    fn of(config: Arc<B::Config>) -> Arc<Place<B>> {
        Arc::new(Place { builder: None, latest: Latest::new(config) })
    }

    fn reload(&self) -> Result<(), ConfigError> {
        let builder = self.builder.as_ref().ok_or(ConfigError::new(None, Problem::NotBuilt))?;
        self.latest.replace(Arc::new(builder.build()?));
        Ok(())
    }
}

/// What both builders have.
#[derive(Clone, Debug, Default)]
struct Common {
    alpn: Vec<Vec<u8>>,
    /// Empty: all that there are.
    versions: Vec<ProtocolVersion>,
    key_log: bool,
}

impl Common {
    /// rustls' names of the versions.
    fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
        let wanted = |known: &&SupportedProtocolVersion| {
            self.versions.is_empty() || self.versions.contains(&known.version)
        };
        let unknown = self
            .versions
            .iter()
            .find(|version| !rustls::ALL_VERSIONS.iter().any(|known| known.version == **version));
        match unknown {
            Some(version) => Err(ConfigError::new(None, Problem::Version(*version))),
            None => Ok(rustls::ALL_VERSIONS.iter().copied().filter(wanted).collect()),
        }
    }

    fn key_log(&self) -> Arc<dyn rustls::KeyLog> {
        match super::provider::secrets() {
            Some(theirs) => theirs,
            None if self.key_log => Arc::new(KeyLogFile::new()),
            None => Arc::new(rustls::NoKeyLog),
        }
    }
}

/// The methods that both builders have.
macro_rules! common_methods {
    () => {
        /// The application protocols that are offered or accepted, the preferred one first: `["h2", "http/1.1"]`.
        #[must_use]
        pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
            self.common.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
            self
        }

        /// Only these versions of TLS: 1.2, 1.3. Default: both.
        #[must_use]
        pub fn versions(mut self, versions: &[rustls::ProtocolVersion]) -> Self {
            self.common.versions = versions.to_vec();
            self
        }

        /// Appends the secrets of each connection to the file that the environment variable `SSLKEYLOGFILE` names, for
        /// Wireshark. Whoever reads the file reads the connections.
        #[must_use]
        pub fn key_log(mut self, on: bool) -> Self {
            self.common.key_log = on;
            self
        }

        /// Trusts the certificates of a file in PEM, in addition to others.
        #[must_use]
        pub fn ca_file(mut self, path: impl Into<std::path::PathBuf>) -> Self {
            self.roots.push(super::pem::Roots::File(path.into()));
            self
        }

        /// Trusts the certificates of all files of a folder; files without any are passed over.
        #[must_use]
        pub fn ca_dir(mut self, path: impl Into<std::path::PathBuf>) -> Self {
            self.roots.push(super::pem::Roots::Folder(path.into()));
            self
        }

        /// Trusts certificates that are in memory, in PEM.
        #[must_use]
        pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
            self.roots.push(super::pem::Roots::Text(pem.into()));
            self
        }

        /// Trusts whom the system trusts.
        #[must_use]
        pub fn system_roots(mut self) -> Self {
            self.roots.push(super::pem::Roots::System);
            self
        }
    };
}

use common_methods;
