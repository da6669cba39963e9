//! TLS on any connected stream, by rustls: client and server, from the start of a connection or from its middle on (STARTTLS).
//!
//! [`ClientConfig::connect`] and [`ServerConfig::accept`] take a connected stream and give a [`TlsStream`], which is read and
//! written like the stream was, by two coroutines at once if need be. Configurations come from a small builder or from rustls'
//! own types.
//!
//! | file | what |
//! |---|---|
//! | `core` | rustls without a socket, and the three buffers around it |
//! | `stream`, `bytes`, `ready` | the stream; what reads and writes it, and whether that would wait |
//! | `detached` | the stream between two machines |
//! | `config` | what TLS is to be like |
//! | `provider` | where cryptography, chance and time come from |
//! | `resolve` | which certificate a server shows |
//! | `end_point`, `digest` | the hash that binds a login to a connection |
//! | `error` | what went wrong, and who must act |
//!
//! What is not here: early data, which can be replayed; exporters; TLS below 1.2.

mod bytes;
mod config;
mod core;
mod detached;
mod digest;
#[allow(private_interfaces, reason = "sealed: nobody outside can name what these methods speak of")]
mod duplex;
mod end_point;
mod error;
mod provider;
mod ready;
mod resolve;
mod stream;

pub use rustls;

pub use config::client::{ClientBuilder, ClientConfig, Verify};
pub use config::error::{ConfigError, Problem};
pub use config::server::{ClientAuth, ServerBuilder, ServerConfig};
pub use detached::{DetachedTlsStream, TlsAttachError};
pub use end_point::server_end_point;
pub use error::{During, Error, Fault};
pub use provider::provider;
pub use stream::TlsStream;
