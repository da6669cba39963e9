//! Who has a stream, among those that are adapted.

use crate::error::Misuse;
use crate::machine::Resident;
use crate::net::{Duplex, Kind, Stream};
#[cfg(any(feature = "tls", feature = "tls-ring"))]
use crate::{net::Connected, tls::TlsStream};

/// What has a stream, on the machine of that.
pub(super) trait Streams {
    type Stream: Duplex;

    fn stream(&self) -> Result<&Self::Stream, Misuse>;
}

impl<K: Kind> Streams for Stream<K> {
    type Stream = Stream<K>;

    fn stream(&self) -> Result<&Stream<K>, Misuse> {
        Ok(self)
    }
}

#[cfg(any(feature = "tls", feature = "tls-ring"))]
impl<S: Connected> Streams for TlsStream<S> {
    type Stream = TlsStream<S>;

    fn stream(&self) -> Result<&TlsStream<S>, Misuse> {
        Ok(self)
    }
}

impl<D: Duplex> Streams for Resident<D> {
    type Stream = D;

    fn stream(&self) -> Result<&D, Misuse> {
        self.get()
    }
}
