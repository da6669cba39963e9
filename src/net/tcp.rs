//! `TcpStream`: what only TCP has. All else is `stream.rs`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::descriptor::Fresh;
use super::direction::Turn;
use super::option::socket_options;
use super::stream::{Kind, Stream};
use crate::error::Misuse;
use crate::kernel::{Domain, Errno, SocketKind};
use crate::machine::current;

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
    /// Connects to `address`.
    ///
    /// # Errors
    /// The system's (`ConnectionRefused`, `TimedOut` after the system's own patience, ...); cancellation and deadlines.
    pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let machine = current::machine_rc().ok_or(Misuse::NoMachine)?;
        machine.operation()?;
        let fresh =
            Fresh::new(&*machine.kernel, machine.kernel.socket(Domain::of(&address), SocketKind::Stream)?);
        let pending = match machine.kernel.connect(fresh.fd(), &address.into()) {
            Ok(()) => false,
            // Interrupted: the attempt goes on, as if in progress.
            Err(Errno::INPROGRESS | Errno::INTR) => true,
            Err(errno) => return Err(errno.into()),
        };
        // Registered only now: an unconnected socket has events of its own.
        let stream = TcpStream::register(&machine, fresh.fd())?;
        fresh.keep();
        if pending {
            stream.finish_connect()?;
        }
        Ok(stream)
    }

    /// As [`connect`](Self::connect), within `timeout`.
    ///
    /// # Errors
    /// As for `connect`; `TimedOut`.
    pub fn connect_timeout(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        crate::time::timeout(timeout, || TcpStream::connect(address))
    }

    fn finish_connect(&self) -> io::Result<()> {
        // Nobody reads, ahead or otherwise: that would take the error of a connection that is being made. And nothing yields
        // from the registration until the sleep, or the edge would come before it is waited for.
        let _reading = Turn::first(&self.descriptor, &self.descriptor.read);
        let mut writing = Turn::first(&self.descriptor, &self.descriptor.write);
        loop {
            self.descriptor.write.drained();
            writing.sleep()?;
            let kernel = self.descriptor.kernel();
            if let Some(error) = self.take_error()? {
                return Err(error);
            }
            match kernel.getpeername(self.descriptor.fd()) {
                Ok(_) => return Ok(()),
                // A wake-up without a result.
                Err(Errno::NOTCONN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
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
