//! The hash of a server's certificate that binds a login to its connection: `tls-server-end-point` of RFC 5929, section 4.
//!
//! The hash is the one of the certificate's own signature, SHA-256 in place of MD5 and SHA-1. It is undefined where that
//! signature has none (Ed25519). Of DER, this reads what it must to find the algorithm: an element's tag, length and contents.

use super::digest;

/// The hash that binds a login to a connection with this certificate, which is in DER. `None`: undefined for it, or no
/// certificate.
///
/// What SCRAM's `-PLUS` mechanisms want; PostgreSQL among others.
///
/// ```
/// assert_eq!(machinarium::tls::server_end_point(b"no certificate"), None);
/// ```
pub fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    Some(digest::of(hash_of(certificate)?, certificate))
}

/// A hash function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
/// `[0]`, the first of the parameters of RSASSA-PSS.
const CONTEXT_0: u8 = 0xa0;

/// The hash in the signature of a certificate: `SEQUENCE { tbsCertificate, SEQUENCE { OID, parameters }, signature }`.
fn hash_of(certificate: &[u8]) -> Option<Hash> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (_, rest) = element(certificate, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    let (oid, parameters) = element(algorithm, OID)?;
    match oid {
        // 1.2.840.113549.1.1: RSA with PKCS #1 v1.5.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last] => match last {
            4 | 5 | 11 => Some(Hash::Sha256),
            12 => Some(Hash::Sha384),
            13 => Some(Hash::Sha512),
            10 => pss_hash(parameters),
            _ => None,
        },
        // 1.2.840.10045.4.1: ECDSA with SHA-1; .4.3: with the others.
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] => Some(Hash::Sha256),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last] => match last {
            2 => Some(Hash::Sha256),
            3 => Some(Hash::Sha384),
            4 => Some(Hash::Sha512),
            _ => None,
        },
        _ => None,
    }
}

/// The hash in the parameters of RSASSA-PSS: `SEQUENCE { [0] { SEQUENCE { OID } } OPTIONAL, .. }`; SHA-1 if it is not there.
fn pss_hash(parameters: &[u8]) -> Option<Hash> {
    let (parameters, _) = element(parameters, SEQUENCE)?;
    let Some((algorithm, _)) = element(parameters, CONTEXT_0) else { return Some(Hash::Sha256) };
    let (algorithm, _) = element(algorithm, SEQUENCE)?;
    match element(algorithm, OID)?.0 {
        // 2.16.840.1.101.3.4.2
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last] => match last {
            1 => Some(Hash::Sha256),
            2 => Some(Hash::Sha384),
            3 => Some(Hash::Sha512),
            _ => None,
        },
        // SHA-1, said although it is the default.
        [0x2b, 0x0e, 0x03, 0x02, 0x1a] => Some(Hash::Sha256),
        _ => None,
    }
}

/// The contents of the first element, which must have this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    let (&length, mut rest) = rest.split_first()?;
    let mut count = usize::from(length);
    if length & 0x80 != 0 {
        let bytes = usize::from(length & 0x7f);
        if bytes == 0 || bytes > 4 {
            return None;
        }
        let (long, after) = rest.split_at_checked(bytes)?;
        count = long.iter().fold(0, |count, byte| count << 8 | usize::from(*byte));
        rest = after;
    }
    let (contents, rest) = rest.split_at_checked(count)?;
    (*first == tag).then_some((contents, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate without contents, signed with the algorithm `oid` and its parameters.
    fn certificate(oid: &[u8], parameters: &[u8]) -> Vec<u8> {
        let sequence = |tag: u8, contents: &[u8]| [&[tag, contents.len() as u8], contents].concat();
        let algorithm = sequence(SEQUENCE, &[&sequence(OID, oid), parameters].concat());
        let contents = [sequence(SEQUENCE, &[]), algorithm, sequence(3, &[0])].concat();
        sequence(SEQUENCE, &contents)
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        let rsa = |last: u8, parameters: &[u8]| {
            hash_of(&certificate(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, last], parameters))
        };
        assert_eq!([4, 5, 11].map(|last| rsa(last, &[5, 0])), [Some(Hash::Sha256); 3]);
        assert_eq!([12, 13].map(|last| rsa(last, &[5, 0])), [Some(Hash::Sha384), Some(Hash::Sha512)]);
        let sha384 = [&[0xa0, 13, 0x30, 11, 6, 9][..], &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2]].concat();
        assert_eq!(rsa(10, &[&[0x30, 15], &sha384[..]].concat()), Some(Hash::Sha384));
        assert_eq!(rsa(10, &[0x30, 0]), Some(Hash::Sha256));
        let ecdsa = |last| hash_of(&certificate(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, last], &[]));
        assert_eq!([2, 3, 4].map(ecdsa), [Some(Hash::Sha256), Some(Hash::Sha384), Some(Hash::Sha512)]);
        assert_eq!(hash_of(&certificate(&[0x2b, 0x65, 0x70], &[])), None, "Ed25519 has no hash of its own");
    }

    #[test]
    fn what_is_cut_or_lies_about_its_length_is_no_certificate() {
        let whole = certificate(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], &[]);
        assert!((0..whole.len()).all(|length| hash_of(&whole[..length]).is_none()));
        for lie in [&[0x30, 0x80][..], &[0x30, 0x85, 0, 0, 0, 0, 1], &[0x30, 0x84, 255, 255, 255, 255]] {
            assert_eq!(hash_of(lie), None);
        }
    }
}
