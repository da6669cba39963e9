//! Hash functions, by whichever library rustls has its own from.

use super::end_point::Hash;

#[cfg(feature = "tls")]
use aws_lc_rs::digest;
#[cfg(not(feature = "tls"))]
use ring::digest;

pub(crate) fn of(hash: Hash, bytes: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, bytes).as_ref().to_vec()
}
