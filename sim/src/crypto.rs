//! The provider of cryptography for TLS in simulated processes: the stock one, with all that it draws from the seed.
//!
//! | what | stock | here |
//! |---|---|---|
//! | randoms, session ids, tickets' nonces | the system's | `getrandom` of the thread's simulated kernel |
//! | ephemeral keys | the library's own generator | made of such bytes: X25519 and P-256, no post-quantum group |
//! | how long a key is used in TLS 1.3 | 2^24 records, or for ever | the same, or a few records ([`Fault::KeyUpdate`](crate::fault::Fault)) |
//! | signatures | the library's own generator for ECDSA and RSA-PSS | keys are Ed25519, whose signatures need no chance |
//! | ciphers, hashes, verification | | as stock |
//!
//! Nothing of it works outside of a world, so a configuration that is carried out of one fails instead of using known keys.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::agreement::{self, Algorithm, PrivateKey, UnparsedPublicKey};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, SharedSecret,
    SupportedKxGroup, aws_lc_rs as stock,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use rustls::{CipherSuiteCommon, Error, NamedGroup, PeerMisbehaved, SupportedCipherSuite, Tls13CipherSuite};

use crate::tuning::RECORDS;
use crate::world;
use machinarium::machine::current;

/// What simulated processes get when they ask for their provider. After so many `records` TLS 1.3 changes its keys.
pub(crate) fn provider(records: Option<u64>) -> Arc<CryptoProvider> {
    let mut provider = CryptoProvider {
        kx_groups: vec![&X25519, &P256],
        secure_random: &RANDOM,
        key_provider: &KEYS,
        ..stock::default_provider()
    };
    if let Some(place) = records.and_then(|records| RECORDS.iter().position(|other| *other == records)) {
        provider.cipher_suites.clone_from(&short_lived()[place]);
    }
    Arc::new(provider)
}

/// By the place in [`RECORDS`]: the suites with keys that are used for so many records only. TLS 1.2 cannot change keys, and keeps
/// its own. A suite lives for ever, so they are made once.
fn short_lived() -> &'static [Vec<SupportedCipherSuite>; RECORDS.len()] {
    static SUITES: OnceLock<[Vec<SupportedCipherSuite>; RECORDS.len()]> = OnceLock::new();
    let limited = |suite: &SupportedCipherSuite, records| match suite {
        SupportedCipherSuite::Tls13(stock) => {
            let common = CipherSuiteCommon {
                suite: stock.common.suite,
                hash_provider: stock.common.hash_provider,
                confidentiality_limit: records,
            };
            let Tls13CipherSuite { hkdf_provider, aead_alg, quic, .. } = **stock;
            let suite = Tls13CipherSuite { common, hkdf_provider, aead_alg, quic };
            SupportedCipherSuite::Tls13(Box::leak(Box::new(suite)))
        }
        other => *other,
    };
    let suites = stock::default_provider().cipher_suites;
    SUITES.get_or_init(|| RECORDS.map(|records| suites.iter().map(|suite| limited(suite, records)).collect()))
}

// Their addresses are compared, so they must have some of their own: no type of these is empty.
static RANDOM: Seeded = Seeded("random");
static KEYS: Keys = Keys("keys");
static X25519: Group = Group { name: NamedGroup::X25519, algorithm: &agreement::X25519 };
static P256: Group = Group { name: NamedGroup::secp256r1, algorithm: &agreement::ECDH_P256 };

#[derive(Debug)]
struct Seeded(#[allow(dead_code, reason = "gives it an address")] &'static str);

impl SecureRandom for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        let inside = world::current().is_some_and(|shared| shared.current.get().is_some());
        if !inside {
            return Err(GetRandomFailed);
        }
        let kernel = current::kernel();
        // The most that one call gives.
        bytes.chunks_mut(256).for_each(|chunk| kernel.getrandom(chunk));
        Ok(())
    }
}

/// A group of elliptic curve Diffie-Hellman with keys of 32 bytes.
struct Group {
    name: NamedGroup,
    algorithm: &'static Algorithm,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seeded {:?}", self.name)
    }
}

impl SupportedKxGroup for Group {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        // Nearly every 32 bytes are a key.
        for _ in 0..8 {
            let mut bytes = [0; 32];
            RANDOM.fill(&mut bytes)?;
            let Ok(key) = PrivateKey::from_private_key(self.algorithm, &bytes) else { continue };
            let public = key.compute_public_key().map_err(|_| GetRandomFailed)?;
            return Ok(Box::new(Exchange {
                name: self.name,
                algorithm: self.algorithm,
                key,
                public: public.as_ref().to_vec(),
            }));
        }
        Err(GetRandomFailed.into())
    }

    fn name(&self) -> NamedGroup {
        self.name
    }
}

struct Exchange {
    name: NamedGroup,
    algorithm: &'static Algorithm,
    key: PrivateKey,
    public: Vec<u8>,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = UnparsedPublicKey::new(self.algorithm, peer);
        let refused = Error::from(PeerMisbehaved::InvalidKeyShare);
        agreement::agree(&self.key, peer, refused, |secret| Ok(SharedSecret::from(secret)))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        self.name
    }
}

#[derive(Debug)]
struct Keys(#[allow(dead_code, reason = "gives it an address")] &'static str);

impl KeyProvider for Keys {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        let signing = match &key {
            PrivateKeyDer::Pkcs8(key) => stock::sign::any_eddsa_type(key).ok(),
            _ => None,
        };
        signing.ok_or_else(|| {
            Error::General("a simulated process signs with Ed25519 only, as a seed must repeat".to_owned())
        })
    }
}
