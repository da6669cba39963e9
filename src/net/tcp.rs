//! `TcpStream`: what only TCP has. All else is `stream.rs`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::addresses::ToSocketAddrs;
use super::connect::connect;
use super::option::socket_options;
use super::stream::{Kind, Stream};

/// A TCP connection of this machine. See [`Stream`] for what it shares with other streams.
pub type TcpStream = Stream<Tcp>;

/// The [`Kind`] of TCP streams.
#[derive(Debug)]
pub enum Tcp {}

impl Kind for Tcp {
    const NAME: &'static str = "TcpStream";
    const SHORT_READ_DRAINS: bool = true;
}

impl TcpStream {
    /// Connects to `address`; of several addresses, or those of a name, to the first that answers.
    ///
    /// Families are tried in turns, each address when the one before has failed or has not answered for
    /// `Tuning::connect_delay` (RFC 8305); those that lose are closed.
    ///
    /// # Errors
    /// The system's (`ConnectionRefused`, `TimedOut` after the system's own patience, ...), of several addresses a
    /// [`ConnectError`](super::ConnectError) with each one's; of a name, a [`LookupError`](super::LookupError); cancellation and
    /// deadlines, and then nothing is left of any attempt.
    ///
    /// ```
    /// use machinarium::net::{TcpListener, TcpStream};
    ///
    /// let result: std::io::Result<()> = machinarium::run(|| {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let port = listener.local_addr()?.port();
    ///     let stream = TcpStream::connect(("localhost", port))?;
    ///     assert_eq!(stream.peer_addr()?.port(), port);
    ///     Ok(())
    /// });
    /// result.unwrap();
    /// ```
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        connect(address.to_socket_addrs()?)
    }

    /// As [`connect`](Self::connect), within `timeout`, which is for the lookup of a name too.
    ///
    /// # Errors
    /// As for `connect`; `TimedOut`.
    pub fn connect_timeout(address: impl ToSocketAddrs, timeout: Duration) -> io::Result<TcpStream> {
        crate::time::timeout(timeout, || TcpStream::connect(address))
    }

    /// The peer's address.
    ///
    /// # Errors
    /// The system's: `NotConnected` once the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.descriptor.here()?;
        Ok(self.descriptor.kernel().getpeername(self.descriptor.fd())?.ip()?)
    }

    /// This end's address.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.descriptor.here()?;
        Ok(self.descriptor.kernel().getsockname(self.descriptor.fd())?.ip()?)
    }
}

socket_options! { Stream<Tcp>, descriptor:
    /// `TCP_NODELAY`: small writes go out at once.
    nodelay, set_nodelay: NoDelay(bool);
    /// `SO_KEEPALIVE`: an idle connection is probed.
    keepalive, set_keepalive: KeepAlive(bool);
    /// `TCP_KEEPIDLE`: idle time before the first probe, whole seconds.
    keepalive_idle, set_keepalive_idle: KeepIdle(Duration);
    /// `TCP_KEEPINTVL`: time between probes, whole seconds.
    keepalive_interval, set_keepalive_interval: KeepInterval(Duration);
    /// `TCP_KEEPCNT`: how many unanswered probes end the connection.
    keepalive_count, set_keepalive_count: KeepCount(u32);
    /// `TCP_USER_TIMEOUT`: how long written bytes may stay unacknowledged, whole milliseconds; zero is the system's own.
    user_timeout, set_user_timeout: UserTimeout(Duration);
    /// `SO_LINGER`, whole seconds; zero makes the close a reset.
    linger, set_linger: Linger(Option<Duration>);
}
