//! Sockets as users see them, with std's names; and the names of hosts.

mod addresses;
mod ahead;
mod behind;
mod bytes;
mod connect;
#[cfg(any(feature = "tls", feature = "tls-ring"))]
#[allow(private_interfaces, reason = "sealed: nobody outside can name what these methods speak of")]
mod connected;
mod descriptor;
mod detached;
mod direction;
mod dns;
#[allow(private_interfaces, reason = "sealed: nobody outside can name what these methods speak of")]
pub(crate) mod duplex;
mod foreign;
mod listener;
mod option;
mod poll;
mod ready;
mod relay;
mod stream;
mod tcp;
mod udp;
mod unix;
mod unix_datagram;

pub use crate::kernel::Family;
pub use addresses::ToSocketAddrs;
pub use bytes::WriteError;
pub use connect::ConnectError;
#[cfg(any(feature = "tls", feature = "tls-ring"))]
pub use connected::Connected;
pub use detached::{AttachError, DetachedStream, DetachedTcpStream, DetachedUnixStream};
pub use dns::{Lookup, LookupError, LookupFailure, lookup};
pub use duplex::Duplex;
pub use foreign::{Interest, Readiness, wait_fd};
pub use listener::{ListenerBuilder, TcpListener};
pub use ready::{Readable, Writable};
pub use relay::{Flow, Relay, RelayError, Relayed, Side, Step, relay};
pub use stream::{Kind, Stream};
pub use tcp::{Tcp, TcpStream};
pub use udp::UdpSocket;
pub use unix::{Unix, UnixListener, UnixStream};
pub use unix_datagram::UnixDatagram;

pub(crate) use duplex::sealed::Duplex as SealedDuplex;
#[cfg(feature = "hyper")]
pub(crate) use poll::show as poll_show;
#[cfg(any(feature = "tls", feature = "tls-ring"))]
pub(crate) use {
    descriptor::{Descriptor, Socket},
    direction::Turn,
    ready::{Inlet, Look},
};
