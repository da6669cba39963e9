//! Streams of this library as the traits of others know them, so that what is written for those runs on machines: in futures, polled by
//! [`block_on`](crate::block_on()).
//!
//! | feature | of which crate | implemented by every stream |
//! |---|---|---|
//! | `futures-io` | futures-io | `AsyncRead`, `AsyncWrite` |
//! | `tokio` | tokio, its traits alone: there is no tokio runtime | `AsyncRead`, `AsyncWrite` |
//! | `hyper` | hyper 1 | `rt::Read`, `rt::Write`; and [`hyper`]'s executor and timer |
//!
//! So hyper-util's servers, tower's services, axum's routers and tokio-postgres (`connect_raw`) run; tests/ecosystem of the repository shows
//! each. What asks for a running tokio (`tokio::spawn`, its sockets and timers, `axum::serve`) does not.
//!
//! Every stream: TCP, Unix, TLS on either, and each of them in a [`Resident`], where `Send` is asked for. The one task that
//! has a stream may read and write at once.

macro_rules! for_every_stream {
    ($trait:path { $($body:tt)* }) => {
        impl<K: crate::net::Kind> $trait for crate::net::Stream<K> { $($body)* }
        #[cfg(any(feature = "tls", feature = "tls-ring"))]
        impl<S: crate::net::Connected> $trait for crate::tls::TlsStream<S> { $($body)* }
        impl<D: crate::net::Duplex> $trait for crate::machine::Resident<D> { $($body)* }
    };
}

#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(feature = "hyper")]
pub mod hyper;
#[cfg(feature = "tokio")]
mod tokio;

use crate::error::Misuse;
use crate::machine::Resident;
use crate::net::{Duplex, Kind, Stream};
#[cfg(any(feature = "tls", feature = "tls-ring"))]
use crate::{net::Connected, tls::TlsStream};

/// What has a stream, on the machine of that.
trait Streams {
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
