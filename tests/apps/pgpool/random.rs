//! Random bytes for secrets and nonces: those of TLS, which in a simulated world are the seed's.

use machinarium::tls::provider;

/// Random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    provider().secure_random.fill(&mut bytes).expect("the system has random bytes");
    bytes
}
