//! Streams of this library as the traits of others know them, so that what is written for those runs on machines: in futures, polled by
//! [`block_on`](crate::block_on()).
//!
//! | feature | of which crate | implemented by every stream |
//! |---|---|---|
//! | `futures-io` | futures-io | `AsyncRead`, `AsyncWrite` |
//! | `tokio` | tokio, its traits alone: there is no tokio runtime | `AsyncRead`, `AsyncWrite` |
//! | `hyper` | hyper 1 | `rt::Read`, `rt::Write`; and [`hyper`]'s executor and timer |
//!
//! Synchronous crates over `Read` and `Write` (tungstenite, say) need no adapter. [`ureq`] (feature `ureq`) is ureq 3's connector and resolver.
//! [`tracing`] (feature `tracing`) keeps spans with their coroutines.
//!
//! So hyper-util's servers, tower's services, axum's routers and tokio-postgres (`connect_raw`) run; tests/ecosystem of the repository shows
//! each. What asks for a running tokio (`tokio::spawn`, its sockets and timers, `axum::serve`) does not.
//!
//! Every stream: TCP, Unix, TLS on either, and each of them in a [`Resident`](crate::machine::Resident), where `Send` is asked for. The one task that
//! has a stream may read and write at once.

#[cfg(any(feature = "futures-io", feature = "tokio", feature = "hyper"))]
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
#[cfg(any(feature = "futures-io", feature = "tokio", feature = "hyper"))]
mod streams;
#[cfg(feature = "tokio")]
mod tokio;
#[cfg(feature = "tracing")]
pub mod tracing;
#[cfg(feature = "ureq")]
pub mod ureq;

#[cfg(any(feature = "futures-io", feature = "tokio", feature = "hyper"))]
use streams::Streams;
