//! What TLS costs over a Unix socket pair, whose two ends are on one thread: handshakes of both sides (P-256, TLS 1.3, nothing resumed), and
//! records of 16 KiB, encrypted, written, read and decrypted. The limit is rustls' unbuffered API by hand, with the same calls to the system.

mod by_hand;
mod machinarium;
mod tokio;

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::case::Case;

/// Bytes of a record.
const RECORD: usize = 16 << 10;
/// Records between two looks at the clock.
const RECORDS: u32 = 16;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("tls/record", "by hand", by_hand::records),
        Case::new("tls/record", "machinarium", machinarium::records),
        Case::new("tls/record", "tokio-rustls", tokio::records),
        Case::new("tls/handshake", "by hand", by_hand::handshakes),
        Case::new("tls/handshake", "machinarium", machinarium::handshakes),
        Case::new("tls/handshake", "tokio-rustls", tokio::handshakes),
    ]
}

/// What both sides are configured with, whoever uses it.
pub struct Sides {
    /// The client's configuration, which trusts the server.
    pub client: Arc<ClientConfig>,
    /// The server's.
    pub server: Arc<ServerConfig>,
    /// What the server shows.
    pub certificate: CertificateDer<'static>,
}

impl Sides {
    /// With a certificate of their own.
    pub fn new() -> Sides {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("a key that fits");
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Sides { client: client(certificate.clone()), server: Arc::new(server), certificate }
    }
}

/// Of a client that trusts this certificate.
pub fn client(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    Arc::new(client)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

const NAME: &str = "localhost";

/// Whom the certificate names.
pub fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("a name")
}
