//! The server's configuration: which certificates it shows, whose it wants to see, and how it begins a connection.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoClientAuth, NoServerSessionStorage, UnbufferedServerConnection, WebPkiClientVerifier,
};

use super::error::{ConfigError, Problem};
use super::pem::{Identity, Roots, load_identity, load_roots};
use super::{Build, Common, Place, common_methods};
use crate::net::Connected;
use crate::tls::core::Connection;
use crate::tls::provider::{self, KernelTime};
use crate::tls::resolve::{ByName, Noting};
use crate::tls::stream::TlsStream;

/// What a server's TLS is like. A clone is the same one, on any machine.
///
/// ```no_run
/// use machinarium::tls::{ClientAuth, ServerConfig};
///
/// let config = ServerConfig::builder()
///     .certificate_files("server.pem", "server.key")
///     .certificate_files_for("other.example", "other.pem", "other.key")
///     .ca_file("clients.pem")
///     .client_auth(ClientAuth::Optional)
///     .build()?;
/// // When new files are there:
/// config.reload()?;
/// # Ok::<(), machinarium::tls::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct ServerConfig(Arc<Place<ServerBuilder>>);

/// Whether clients must show a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClientAuth {
    /// They are not asked for one.
    #[default]
    None,
    /// They are asked; one that is shown must lead to a root that is trusted.
    Optional,
    /// They must show one that leads to a root that is trusted.
    Required,
}

/// Builds a [`ServerConfig`].
#[derive(Clone, Debug)]
pub struct ServerBuilder {
    common: Common,
    roots: Vec<Roots>,
    identity: Option<Identity>,
    named: BTreeMap<String, Identity>,
    client_auth: ClientAuth,
    resumption: bool,
}

impl ServerConfig {
    /// Begins one, which needs at least a certificate.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            common: Common::default(),
            roots: Vec::new(),
            identity: None,
            named: BTreeMap::new(),
            client_auth: ClientAuth::None,
            resumption: true,
        }
    }

    /// Begins TLS on a connected stream, also on one that has been used for something else (STARTTLS), and shakes hands with
    /// the client.
    ///
    /// A client may take its time: put a [`timeout`](crate::timeout) around this.
    ///
    /// # Errors
    /// An [`Error`](crate::tls::Error) of TLS, the stream's errors, cancellation and deadlines. The stream is closed.
    pub fn accept<S: Connected>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let config = self.0.latest.get();
        provider::check(config.crypto_provider(), "a server's configuration");
        let connection =
            Connection::Server(UnbufferedServerConnection::new(config).map_err(crate::tls::Error::from)?);
        TlsStream::handshake(stream, connection)
    }

    /// Reads all files again: connections that begin from now on are made with what is in them.
    ///
    /// # Errors
    /// As for `build`; nothing has changed then.
    pub fn reload(&self) -> Result<(), ConfigError> {
        self.0.reload()
    }
}

impl From<Arc<rustls::ServerConfig>> for ServerConfig {
    /// rustls' own, but for early data, which is not accepted.
    fn from(config: Arc<rustls::ServerConfig>) -> ServerConfig {
        let mut config = Arc::unwrap_or_clone(config);
        config.max_early_data_size = 0;
        config.cert_resolver = Arc::new(Noting(config.cert_resolver));
        ServerConfig(Place::of(Arc::new(config)))
    }
}

impl ServerBuilder {
    common_methods!();

    /// The server's certificate, with those that lead to its root behind it, and its key: files in PEM.
    #[must_use]
    pub fn certificate_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> ServerBuilder {
        self.identity = Some(Identity::Files(certificate.into(), key.into()));
        self
    }

    /// The same from memory.
    #[must_use]
    pub fn certificate_pem(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> ServerBuilder {
        self.identity = Some(Identity::Text(certificate.into(), key.into()));
        self
    }

    /// Another certificate for clients that ask for this name. Those that ask for none that is known get the first.
    #[must_use]
    pub fn certificate_files_for(
        mut self,
        name: &str,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> ServerBuilder {
        let identity = Identity::Files(certificate.into(), key.into());
        self.named.insert(name.to_ascii_lowercase(), identity);
        self
    }

    /// The same from memory.
    #[must_use]
    pub fn certificate_pem_for(
        mut self,
        name: &str,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> ServerBuilder {
        let identity = Identity::Text(certificate.into(), key.into());
        self.named.insert(name.to_ascii_lowercase(), identity);
        self
    }

    /// Whether clients must show a certificate. Who is trusted to have signed it must be named: never the system's roots
    /// unless these are.
    #[must_use]
    pub fn client_auth(mut self, client_auth: ClientAuth) -> ServerBuilder {
        self.client_auth = client_auth;
        self
    }

    /// Whether clients may come back with a shorter handshake. Default: yes.
    #[must_use]
    pub fn resumption(mut self, on: bool) -> ServerBuilder {
        self.resumption = on;
        self
    }

    /// Reads the files and checks it all.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and what is wrong with it.
    pub fn build(self) -> Result<ServerConfig, ConfigError> {
        Place::build(self).map(ServerConfig)
    }

    fn resolver(&self, provider: &CryptoProvider) -> Result<ByName, ConfigError> {
        if self.identity.is_none() && self.named.is_empty() {
            return Err(ConfigError::new(None, Problem::NothingToShow));
        }
        let load = |identity| load_identity(identity, provider);
        let default = self.identity.as_ref().map(load).transpose()?;
        let named = self.named.iter().map(|(name, identity)| Ok((name.clone(), load(identity)?)));
        Ok(ByName { named: named.collect::<Result<_, ConfigError>>()?, default })
    }

    fn client_verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
        if self.client_auth == ClientAuth::None {
            return Ok(Arc::new(NoClientAuth));
        }
        let builder = WebPkiClientVerifier::builder_with_provider(load_roots(&self.roots)?, provider.clone());
        let builder =
            if self.client_auth == ClientAuth::Optional { builder.allow_unauthenticated() } else { builder };
        builder.build().map_err(|_| ConfigError::new(None, Problem::NoRoots))
    }
}

impl Build for ServerBuilder {
    type Config = rustls::ServerConfig;

    fn build(&self) -> Result<rustls::ServerConfig, ConfigError> {
        let provider = provider::provider();
        let resolver = self.resolver(&provider)?;
        let verifier = self.client_verifier(&provider)?;
        let mut config = rustls::ServerConfig::builder_with_details(provider, Arc::new(KernelTime))
            .with_protocol_versions(&self.common.versions()?)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Noting(Arc::new(resolver))));
        config.alpn_protocols.clone_from(&self.common.alpn);
        config.key_log = self.common.key_log();
        if !self.resumption {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(config)
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerConfig").field(&self.0.builder).finish()
    }
}
