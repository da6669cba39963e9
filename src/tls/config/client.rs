//! The client's configuration: whom it believes, who it is, and how it begins a connection.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::{Resumption, UnbufferedClientConnection, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;

use super::error::{ConfigError, Problem};
use super::pem::{Identity, Roots, load_identity, load_roots};
use super::verify::AnyName;
use super::{Build, Common, Place, common_methods};
use crate::net::Connected;
use crate::tls::core::Connection;
use crate::tls::provider::{self, KernelTime};
use crate::tls::stream::TlsStream;

/// What a client's TLS is like. A clone is the same one, on any machine.
///
/// ```
/// use machinarium::tls::{ClientConfig, Verify};
///
/// let config = ClientConfig::builder().verify(Verify::Nothing).alpn(["h2"]).build()?;
/// let same = config.clone();
/// same.reload()?; // reads the files again, for both
/// # Ok::<(), machinarium::tls::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct ClientConfig(Arc<Place<ClientBuilder>>);

/// How far a server's certificate is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Verify {
    /// It leads to a root that is trusted, and is for the name that was asked for.
    #[default]
    Strict,
    /// It leads to a root that is trusted; it may be for any name.
    Chain,
    /// It may be anybody's: nothing protects from somebody in the middle.
    Nothing,
}

/// Builds a [`ClientConfig`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    common: Common,
    roots: Vec<Roots>,
    verify: Verify,
    identity: Option<Identity>,
    sni: bool,
    resumption: bool,
}

impl ClientConfig {
    /// Begins one: the system's roots unless others are named, everything verified, no certificate of its own.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            common: Common::default(),
            roots: Vec::new(),
            verify: Verify::Strict,
            identity: None,
            sni: true,
            resumption: true,
        }
    }

    /// Begins TLS on a connected stream, also on one that has been used for something else (STARTTLS), and shakes hands with
    /// the server that calls itself `name`: a DNS name, or an address in digits.
    ///
    /// With TLS 1.3 a server that refuses the client's certificate says so only in answer to the first read.
    ///
    /// # Errors
    /// An [`Error`](crate::tls::Error) of TLS, `InvalidInput` for a name that is none, the stream's errors, cancellation and
    /// deadlines. The stream is closed.
    pub fn connect<S: Connected>(&self, stream: S, name: &str) -> io::Result<TlsStream<S>> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?}: {error}")))?;
        let config = self.0.latest.get();
        provider::check(config.crypto_provider(), "a client's configuration");
        let connection = Connection::Client(
            UnbufferedClientConnection::new(config, name).map_err(crate::tls::Error::from)?,
        );
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

impl From<Arc<rustls::ClientConfig>> for ClientConfig {
    /// rustls' own, as it is; early data is never sent.
    fn from(config: Arc<rustls::ClientConfig>) -> ClientConfig {
        ClientConfig(Place::of(config))
    }
}

impl ClientBuilder {
    common_methods!();

    /// How far the server's certificate is believed.
    #[must_use]
    pub fn verify(mut self, verify: Verify) -> ClientBuilder {
        self.verify = verify;
        self
    }

    /// The client's own certificate, with those that lead to its root behind it, and its key: files in PEM.
    #[must_use]
    pub fn certificate_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> ClientBuilder {
        self.identity = Some(Identity::Files(certificate.into(), key.into()));
        self
    }

    /// The same from memory.
    #[must_use]
    pub fn certificate_pem(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> ClientBuilder {
        self.identity = Some(Identity::Text(certificate.into(), key.into()));
        self
    }

    /// Whether the server is told which name is asked for. Default: yes.
    #[must_use]
    pub fn sni(mut self, on: bool) -> ClientBuilder {
        self.sni = on;
        self
    }

    /// Whether a later connection to the same server may be shorter. Default: yes.
    #[must_use]
    pub fn resumption(mut self, on: bool) -> ClientBuilder {
        self.resumption = on;
        self
    }

    /// Reads the files and checks it all.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and what is wrong with it.
    pub fn build(self) -> Result<ClientConfig, ConfigError> {
        Place::build(self).map(ClientConfig)
    }

    fn roots(&self) -> Result<Arc<rustls::RootCertStore>, ConfigError> {
        if self.roots.is_empty() { load_roots(&[Roots::System]) } else { load_roots(&self.roots) }
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn rustls::client::danger::ServerCertVerifier>, ConfigError> {
        let algorithms = provider.signature_verification_algorithms;
        Ok(match self.verify {
            Verify::Strict => WebPkiServerVerifier::builder_with_provider(self.roots()?, provider.clone())
                .build()
                .map_err(|_| ConfigError::new(None, Problem::NoRoots))?,
            Verify::Chain => Arc::new(AnyName { roots: Some(self.roots()?), algorithms }),
            Verify::Nothing => Arc::new(AnyName { roots: None, algorithms }),
        })
    }
}

impl Build for ClientBuilder {
    type Config = rustls::ClientConfig;

    fn build(&self) -> Result<rustls::ClientConfig, ConfigError> {
        let provider = provider::provider();
        let verifier = self.verifier(&provider)?;
        let identity =
            self.identity.as_ref().map(|identity| load_identity(identity, &provider)).transpose()?;
        let builder = rustls::ClientConfig::builder_with_details(provider, Arc::new(KernelTime))
            .with_protocol_versions(&self.common.versions()?)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(key) => {
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
            }
        };
        config.alpn_protocols.clone_from(&self.common.alpn);
        config.key_log = self.common.key_log();
        config.enable_sni = self.sni;
        if !self.resumption {
            config.resumption = Resumption::disabled();
        }
        Ok(config)
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientConfig").field(&self.0.builder).finish()
    }
}
