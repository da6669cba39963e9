//! What servers are in these tests: certificates signed by ECDSA, since for Ed25519, which the other tests have, RFC 5929 knows no channel
//! binding, and PostgreSQL 15 fails on it.

use std::sync::LazyLock;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// A certificate for localhost and 127.0.0.1, in PEM, and its root's.
pub(crate) struct Identity {
    pub(crate) root: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The one of all servers here.
pub(crate) static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "the root of the tests");
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &root).unwrap();
    Identity { root: root.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
});
