//! Where TLS gets its cryptography, its chance and its time from: the one place that asks who started this thread.
//!
//! On Linux nobody answers, and it is the stock provider. A simulation answers with one that draws from its seed. Time is the
//! kernel's realtime clock, asked for on whatever thread rustls wants it.

use std::sync::Arc;
use std::time::Duration;

use rustls::KeyLog;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::kernel::Clock;
use crate::machine::current;

/// The provider of configurations made on this thread, for those who make rustls' own: in a simulation, one that draws from the
/// seed.
///
/// ```
/// use machinarium::tls::{provider, rustls};
///
/// let config = rustls::ClientConfig::builder_with_provider(provider())
///     .with_safe_default_protocol_versions()?
///     .with_root_certificates(rustls::RootCertStore::empty())
///     .with_no_client_auth();
/// let config = machinarium::tls::ClientConfig::from(std::sync::Arc::new(config));
/// # Ok::<(), rustls::Error>(())
/// ```
pub fn provider() -> Arc<CryptoProvider> {
    seeded().unwrap_or_else(|| Arc::new(stock()))
}

fn seeded() -> Option<Arc<CryptoProvider>> {
    let answer = current::starter()?.crypto()?;
    Some(answer.downcast().expect("whoever started this thread knows the same rustls"))
}

#[cfg(feature = "tls")]
fn stock() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(not(feature = "tls"))]
fn stock() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// Where the secrets of connections go, if whoever started this thread wants them.
pub(crate) fn secrets() -> Option<Arc<dyn KeyLog>> {
    current::starter()?.wants_secrets().then(|| Arc::new(Secrets) as Arc<dyn KeyLog>)
}

/// Tells the starter of the thread that shakes hands.
#[derive(Debug)]
struct Secrets;

impl KeyLog for Secrets {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        if let Some(starter) = current::starter() {
            starter.secret(&format!("{label} {} {}\n", hex(client_random), hex(secret)));
        }
    }
}

/// A configuration is to be used on this thread: if the thread is to be given its chance from below, it must be the one for it.
pub(crate) fn check(provider: &CryptoProvider, what: &str) {
    let Some(seeded) = seeded() else { return };
    let same = std::ptr::addr_eq(provider.secure_random, seeded.secure_random)
        && std::ptr::addr_eq(provider.key_provider, seeded.key_provider)
        && provider
            .kx_groups
            .iter()
            .all(|group| seeded.kx_groups.iter().any(|known| std::ptr::addr_eq(*group, *known)));
    if let Some(starter) = current::starter().filter(|_| !same) {
        starter.foreign_crypto(what);
    }
}

/// The kernel's realtime clock.
#[derive(Debug)]
pub(crate) struct KernelTime;

impl TimeProvider for KernelTime {
    fn current_time(&self) -> Option<UnixTime> {
        let now = current::kernel().clock_gettime(Clock::Realtime);
        Some(UnixTime::since_unix_epoch(Duration::from_nanos(now.as_nanos())))
    }
}
