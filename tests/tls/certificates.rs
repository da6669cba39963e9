//! Certificates for tests: always the same ones, of keys that are Ed25519, so that a seed of the simulator is a run in every process.

use std::sync::LazyLock;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};

const KEYS: [&str; 4] = [
    "MC4CAQAwBQYDK2VwBCIEIE3YU7iAodq59NqLDEfF/VIHbbGWmPBJliVTTKMyaH2V",
    "MC4CAQAwBQYDK2VwBCIEIB32xdlaGhlBOd/Ry5vAIbUZimvMGVTT0YsYBCB6svzL",
    "MC4CAQAwBQYDK2VwBCIEIDAxLIuz3WOwWgUqUKs+hHUvVLNGCuAU13dloj2rG4XB",
    "MC4CAQAwBQYDK2VwBCIEIP8p3VDtDmo2CpeKpn4ELKXqTl7xIp1Bub4GZBb0YVRb",
];

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// What tests need; not each binary all of it.
#[allow(dead_code)]
pub(crate) struct Certificates {
    /// Has signed all but `stranger`.
    pub(crate) root: String,
    /// Has signed `stranger`.
    pub(crate) other_root: String,
    /// For localhost and 127.0.0.1.
    pub(crate) localhost: Pair,
    /// For other.example.
    pub(crate) other: Pair,
    /// For localhost, until 2001.
    pub(crate) expired: Pair,
    /// For localhost, from 3000 on.
    pub(crate) future: Pair,
    /// For localhost, in January of 2026 only: when worlds begin.
    pub(crate) january: Pair,
    pub(crate) client: Pair,
    /// For localhost, signed by another root.
    pub(crate) stranger: Pair,
}

pub(crate) static PEM: LazyLock<Certificates> = LazyLock::new(|| {
    let (root, other_root) = (issuer("root", 0), issuer("another root", 1));
    Certificates {
        localhost: leaf(&["localhost", "127.0.0.1"], &root, 4000),
        other: leaf(&["other.example"], &root, 4000),
        expired: leaf(&["localhost"], &root, 2001),
        future: leaf_between(&["localhost"], &root, (3000, 1), (4000, 1)),
        january: leaf_between(&["localhost"], &root, (1975, 1), (2026, 2)),
        client: leaf(&["client.example"], &root, 4000),
        stranger: leaf(&["localhost"], &other_root, 4000),
        root: root.pem(),
        other_root: other_root.pem(),
    }
});

fn key(index: usize) -> KeyPair {
    let (begin, end) = ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----");
    KeyPair::from_pem(&format!("{begin}\n{}\n{end}\n", KEYS[index])).unwrap()
}

fn issuer(name: &str, index: usize) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, key(index)).unwrap()
}

fn leaf(names: &[&str], root: &CertifiedIssuer<'_, KeyPair>, until: i32) -> Pair {
    leaf_between(names, root, (1975, 1), (until, 1))
}

/// From the first of a month until that of another.
fn leaf_between(
    names: &[&str],
    root: &CertifiedIssuer<'_, KeyPair>,
    from: (i32, u8),
    until: (i32, u8),
) -> Pair {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    // One key for two certificates would not do: the hash of one must differ from the other's.
    let key = key(if names.len() > 1 { 2 } else { 3 });
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(from.0, from.1, 1);
    params.not_after = date_time_ymd(until.0, until.1, 1);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, root).unwrap();
    Pair { certificate: certificate.pem(), key: key.serialize_pem() }
}
