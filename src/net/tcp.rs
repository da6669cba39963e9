//! `TcpStream`: std's names, and calls that park only their coroutine.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::ahead::Ahead;
use super::descriptor::{Descriptor, Fresh};
use super::direction::Turn;
use super::option::socket_options;
use crate::error::Misuse;
use crate::io::{Buffer, POOL};
use crate::kernel::{Domain, Errno, Fd, OptionName, SocketKind, SocketOption};
use crate::machine::{Machine, current};

/// A TCP connection of this machine.
///
/// Reads and writes go through `&TcpStream` too, so that one coroutine can read while another writes (with
/// [`scope`](crate::scope()), or an `Rc`). Several readers, or several writers, take turns in the order of their calls.
///
/// Every call that waits fails when the coroutine is cancelled, when a [`timeout`](crate::timeout) around it ends, or when
/// the stream's own timeout does. `read`, [`read_exact`](Self::read_exact), [`read_until`](Self::read_until) and `write` have
/// then taken nothing, and [`write_all`](Self::write_all) says how much; std's versions of composed calls cannot.
/// Dropping the stream closes it. On another machine every call is an error: see [`detach`](Self::detach).
pub struct TcpStream {
    pub(crate) descriptor: Descriptor,
    /// What a call has read and not yet taken. The machine reads ahead into the descriptor's own buffer, never into this one.
    pub(super) front: RefCell<Buffer>,
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

    pub(crate) fn register(machine: &Rc<Machine>, fd: Fd) -> io::Result<TcpStream> {
        let descriptor = Descriptor::stream(machine, fd)?;
        Ok(TcpStream { descriptor, front: RefCell::new(Buffer::new(POOL.get())) })
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

    /// Shuts down the reading half, the writing half, or both.
    ///
    /// # Errors
    /// The system's, `NotConnected` above all.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.descriptor.here()?;
        Ok(self.descriptor.kernel().shutdown(self.descriptor.fd(), how)?)
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

    /// How long a read may wait in all; `None`, the default, for ever. A [`timeout`](crate::timeout) that is nearer wins.
    ///
    /// # Errors
    /// `InvalidInput` for zero, as std.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.descriptor.read.timeout, timeout)
    }

    /// What [`set_read_timeout`](Self::set_read_timeout) has set.
    ///
    /// # Errors
    /// None; as std.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.descriptor.read.timeout.get())
    }

    /// How long a write may wait in all; `None`, the default, for ever.
    ///
    /// # Errors
    /// `InvalidInput` for zero, as std.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.descriptor.write.timeout, timeout)
    }

    /// What [`set_write_timeout`](Self::set_write_timeout) has set.
    ///
    /// # Errors
    /// None; as std.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.descriptor.write.timeout.get())
    }

    /// How many bytes the machine reads ahead while nobody reads; 0 is off. Default: `Tuning::readahead`.
    pub fn set_readahead(&self, bytes: usize) {
        self.ahead().limit.set(bytes);
    }

    /// What was read ahead.
    pub(super) fn ahead(&self) -> &Ahead {
        self.descriptor.ahead().expect("streams read ahead")
    }

    /// The pending error of the socket, which this takes away.
    ///
    /// # Errors
    /// The system's.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.descriptor.here()?;
        match self.descriptor.kernel().getsockopt(self.descriptor.fd(), OptionName::Error)? {
            SocketOption::Error(error) => Ok(error.map(io::Error::from)),
            other => unreachable!("the answer to SO_ERROR is {other:?}"),
        }
    }
}

socket_options! { TcpStream, descriptor:
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
    /// `SO_SNDBUF` in bytes; the system answers twice what was set.
    send_buffer_size, set_send_buffer_size: SendBuffer(u32);
    /// `SO_RCVBUF` in bytes; the system answers twice what was set.
    receive_buffer_size, set_receive_buffer_size: ReceiveBuffer(u32);
}

fn set_timeout(place: &std::cell::Cell<Option<Duration>>, timeout: Option<Duration>) -> io::Result<()> {
    if timeout == Some(Duration::ZERO) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a timeout of zero: use None for no timeout",
        ));
    }
    place.set(timeout);
    Ok(())
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream").field("fd", &self.descriptor.fd()).finish()
    }
}
