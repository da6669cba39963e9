//! Which certificate a server shows to a client, and a note of the choice: rustls keeps none that can be asked for later.
//!
//! rustls asks a resolver in the midst of a handshake, on the thread of the connection, between two waits. So the note goes to a
//! place of the machine's, which the handshake empties before each step and looks at after it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::error::Error;
use crate::machine::MachineLocal;

static NOTE: MachineLocal<RefCell<Option<Noted>>> = MachineLocal::new(RefCell::default);

/// What was asked for, and what was shown.
#[derive(Clone, Default, Debug)]
pub(crate) struct Noted {
    pub(crate) server_name: Option<Box<str>>,
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

/// Forgets what a handshake that failed may have left.
pub(crate) fn forget() {
    NOTE.with(|note| note.take());
}

/// Takes the note, if there is one, and of a step that has failed what rustls does not say: that there was nothing to show.
pub(crate) fn recall(noted: &mut Noted, result: Result<(), Error>) -> Result<(), Error> {
    let Some(fresh) = NOTE.with(|note| note.take()) else { return result };
    *noted = fresh;
    match result {
        Err(Error::Local(_)) if noted.certificate.is_none() => {
            Err(Error::UnknownName(noted.server_name.clone()))
        }
        result => result,
    }
}

/// Notes what another resolver chooses.
#[derive(Debug)]
pub(crate) struct Noting(pub(crate) Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let server_name = hello.server_name().map(Box::from);
        let key = self.0.resolve(hello);
        let certificate = key.as_ref().and_then(|key| key.cert.first().cloned());
        NOTE.with(|note| note.replace(Some(Noted { server_name, certificate })));
        key
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

/// Chooses by the name that the client asks for.
#[derive(Debug)]
pub(crate) struct ByName {
    pub(crate) named: BTreeMap<String, Arc<CertifiedKey>>,
    /// For every other name, and for none.
    pub(crate) default: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.named.get(&name.to_ascii_lowercase()));
        named.or(self.default.as_ref()).cloned()
    }
}
