//! Certificates and keys: from files, folders and memory, in PEM.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::error::{ConfigError, Problem};

/// Whom to trust.
#[derive(Clone, Debug)]
pub(super) enum Roots {
    File(PathBuf),
    Folder(PathBuf),
    Text(Vec<u8>),
    System,
}

/// A certificate with those that lead to its root, and its key.
#[derive(Clone, Debug)]
pub(super) enum Identity {
    Files(PathBuf, PathBuf),
    Text(Vec<u8>, Vec<u8>),
}

/// All of them together.
pub(super) fn load_roots(roots: &[Roots]) -> Result<Arc<RootCertStore>, ConfigError> {
    let mut store = RootCertStore::empty();
    for source in roots {
        match source {
            Roots::File(path) => add(&mut store, Some(path), certificates(Some(path), &read(path)?)?)?,
            Roots::Text(text) => add(&mut store, None, certificates(None, text)?)?,
            Roots::Folder(path) => {
                for path in files(path)? {
                    // Folders of certificates also hold what is none.
                    if let Ok(found) = certificates(Some(&path), &read(&path)?) {
                        add(&mut store, Some(&path), found)?;
                    }
                }
            }
            // The system's store may hold what webpki does not understand.
            Roots::System => {
                let _ = store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
    }
    if store.is_empty() { Err(ConfigError::new(None, Problem::NoRoots)) } else { Ok(Arc::new(store)) }
}

/// The certificate and its key, which must be a pair.
pub(super) fn load_identity(
    identity: &Identity,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, ConfigError> {
    let (certificate_file, key_file, chain, key) = match identity {
        Identity::Files(certificate, key) => {
            let chain = certificates(Some(certificate), &read(certificate)?)?;
            (Some(certificate.as_path()), Some(key.as_path()), chain, private_key(Some(key), &read(key)?)?)
        }
        Identity::Text(certificate, key) => {
            (None, None, certificates(None, certificate)?, private_key(None, key)?)
        }
    };
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| ConfigError::new(key_file, Problem::BadKey(error)))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
        }
        Err(rustls::Error::InconsistentKeys(_)) => Err(ConfigError::new(key_file, Problem::OtherKey)),
        Err(error) => Err(ConfigError::new(certificate_file, Problem::BadCertificate(error))),
    }
}

fn add(
    store: &mut RootCertStore,
    file: Option<&Path>,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<(), ConfigError> {
    for certificate in certificates {
        store.add(certificate).map_err(|error| ConfigError::new(file, Problem::BadCertificate(error)))?;
    }
    Ok(())
}

fn certificates(file: Option<&Path>, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(ConfigError::new(file, Problem::NoCertificate)),
        Ok(found) => Ok(found),
        Err(error) => Err(ConfigError::new(file, Problem::NotPem(error.to_string()))),
    }
}

fn private_key(file: Option<&Path>, text: &[u8]) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let encrypted = || text.windows(9).any(|word| word == b"ENCRYPTED");
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        _ if encrypted() => ConfigError::new(file, Problem::EncryptedKey),
        PemError::NoItemsFound => ConfigError::new(file, Problem::NoKey),
        error => ConfigError::new(file, Problem::NotPem(error.to_string())),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|error| ConfigError::new(Some(path), Problem::Unreadable(error)))
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |error| ConfigError::new(Some(folder), Problem::Unreadable(error));
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).map_err(unreadable)?.collect();
    let mut files: Vec<PathBuf> =
        entries.map_err(unreadable)?.into_iter().map(|entry| entry.path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}
