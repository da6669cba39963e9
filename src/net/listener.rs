//! `TcpListener`: accepts connections, and survives what the network and the system do to that.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::TcpStream;
use super::addresses::{ToSocketAddrs, first_of};
use super::descriptor::{Descriptor, Fresh, Socket};
use super::option::socket_options;
use super::ready::{Inlet, Look, Readable};
use super::stream::{Kind, Stream};
use crate::error::Misuse;
use crate::kernel::{Address, Domain, Errno, SocketKind, SocketOption};
use crate::machine::{Machine, current};

/// A listening socket of this machine.
pub struct TcpListener {
    descriptor: Descriptor,
}

/// Options of a listener that must be set before it is bound.
#[derive(Clone, Debug)]
pub struct ListenerBuilder {
    reuse_address: bool,
    reuse_port: bool,
    v6_only: Option<bool>,
    receive_buffer: Option<u32>,
    backlog: u32,
}

impl TcpListener {
    /// Listens on `address`, or the first of several that can be had; port 0 lets the system choose. With `SO_REUSEADDR` and a backlog of 4,096, which the system may
    /// cut (`net.core.somaxconn`).
    ///
    /// # Errors
    /// The system's: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`, ...; of several addresses the last one's; of a name that
    /// is looked up, a [`LookupError`](super::LookupError), cancellation and deadlines.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        TcpListener::builder().bind(address)
    }

    /// For options that must be set before binding.
    pub fn builder() -> ListenerBuilder {
        ListenerBuilder {
            reuse_address: true,
            reuse_port: false,
            v6_only: None,
            receive_buffer: None,
            backlog: 4096,
        }
    }

    /// Waits for a connection.
    ///
    /// A connection that died in the queue, and errors of its network, are passed over. When the process or the system
    /// has no descriptors or memory left, the call waits a while, longer each time (`Tuning::accept_backoff`), and tries
    /// again: the listener survives, and does not spin.
    ///
    /// # Errors
    /// Cancellation and deadlines; errors of the listener itself.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = accept(&self.descriptor)?;
        Ok((stream, peer.ip()?))
    }

    /// A case of [`select`](crate::sync::select()) that is chosen when an `accept` would not wait: a connection, or an error of the
    /// listener, is there, and nobody else is in an `accept`. On another machine it is chosen at once, and `accept` says what is wrong.
    ///
    /// To know that, the machine accepts one connection ahead. It is the next `accept`'s, whoever calls it; if the listener is dropped
    /// first, it is closed. When the process or the system is out of descriptors or memory, nothing is there for as long, and the
    /// wait tries again after a while, as `accept` does.
    ///
    /// ```
    /// use machinarium::net::{TcpListener, TcpStream};
    /// use std::time::Duration;
    ///
    /// let result: std::io::Result<()> = machinarium::run(|| {
    ///     let (inside, outside) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    ///     let client = TcpStream::connect(outside.local_addr()?)?;
    ///     let which = machinarium::select! {
    ///         readable(inside) => &inside,
    ///         readable(outside) => &outside,
    ///         after(Duration::from_secs(5)) => panic!("nobody comes"),
    ///     }?;
    ///     let (_stream, peer) = which.accept()?;
    ///     assert_eq!(peer, client.local_addr()?);
    ///     Ok(())
    /// });
    /// result.unwrap();
    /// ```
    pub fn readable(&self) -> Readable<'_> {
        Readable::new(self)
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.descriptor.here()?;
        Ok(self.descriptor.kernel().getsockname(self.descriptor.fd())?.ip()?)
    }
}

impl ListenerBuilder {
    /// `SO_REUSEADDR`, on by default: a port whose old connections linger can be bound.
    pub fn reuse_address(mut self, on: bool) -> ListenerBuilder {
        self.reuse_address = on;
        self
    }

    /// `SO_REUSEPORT`: several listeners, one a machine, share the port.
    pub fn reuse_port(mut self, on: bool) -> ListenerBuilder {
        self.reuse_port = on;
        self
    }

    /// `IPV6_V6ONLY`: whether an IPv6 listener refuses IPv4. Default: the system's.
    pub fn v6_only(mut self, on: bool) -> ListenerBuilder {
        self.v6_only = Some(on);
        self
    }

    /// `SO_RCVBUF` of accepted connections, in bytes.
    pub fn receive_buffer_size(mut self, bytes: u32) -> ListenerBuilder {
        self.receive_buffer = Some(bytes);
        self
    }

    /// How many connections may wait to be accepted.
    pub fn backlog(mut self, count: u32) -> ListenerBuilder {
        self.backlog = count;
        self
    }

    /// Binds and listens.
    ///
    /// # Errors
    /// As for [`TcpListener::bind`].
    pub fn bind(self, address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        first_of(address.to_socket_addrs()?, |address| self.bind_one(address))
    }

    fn bind_one(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let machine = current::machine_rc().ok_or(Misuse::NoMachine)?;
        let kernel = &*machine.kernel;
        let fresh = Fresh::new(kernel, kernel.socket(Domain::of(&address), SocketKind::Stream)?);
        let options = [
            Some(SocketOption::ReuseAddr(self.reuse_address)),
            self.reuse_port.then_some(SocketOption::ReusePort(true)),
            self.v6_only.filter(|_| address.is_ipv6()).map(SocketOption::V6Only),
            self.receive_buffer.map(SocketOption::ReceiveBuffer),
        ];
        for option in options.into_iter().flatten() {
            kernel.setsockopt(fresh.fd(), option)?;
        }
        kernel.bind(fresh.fd(), &address.into())?;
        kernel.listen(fresh.fd(), self.backlog)?;
        let descriptor = Descriptor::listener(&machine, fresh.fd())?;
        fresh.keep();
        Ok(TcpListener { descriptor })
    }
}

socket_options! { TcpListener, descriptor:
    /// `SO_REUSEPORT`: whether the port is shared, from now on, with the other listeners on it that have this too. One that
    /// was bound without it was alone then, so whoever sets it later has the port and no stranger on it.
    reuse_port, set_reuse_port: ReusePort(bool);
}

impl Inlet for TcpListener {
    fn socket(&self) -> &Rc<Socket> {
        &self.descriptor
    }

    fn look(&self) -> Look {
        look_for_connection(&self.descriptor)
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener").field("fd", &self.descriptor.fd()).finish()
    }
}

/// Waits for a connection of a listener, and makes it a stream of its machine.
pub(super) fn accept<K: Kind>(listener: &Descriptor) -> io::Result<(Stream<K>, Address)> {
    let machine = listener.machine();
    let (fd, peer) = patiently(machine, || listener.reading()?.call(Socket::accept_once))?;
    let fresh = Fresh::new(&*machine.kernel, fd);
    let stream = patiently(machine, || Stream::register(machine, fd))?;
    fresh.keep();
    Ok((stream, peer))
}

/// Accepts a connection for whoever calls `accept` next: only that proves that there is one.
pub(super) fn look_for_connection(listener: &Socket) -> Look {
    for _ in listener.calls_of_a_look() {
        match listener.read_for_next(|socket| socket.kernel().accept4(socket.fd())) {
            Err(look) => return look,
            Ok(Ok((fd, peer))) => {
                listener.keep_connection(fd, peer);
                return Look::Ready;
            }
            Ok(Err(errno)) => match Failure::of(errno) {
                Failure::Connection => {}
                Failure::Exhausted => return Look::Exhausted,
                Failure::Listener => {
                    listener.keep_error(errno);
                    return Look::Ready;
                }
            },
        }
    }
    Look::Again
}

/// Tries again after every failure that is not the listener's own: at once when it was a connection's, after a pause when
/// the process or the system is out of something.
fn patiently<T>(machine: &Machine, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let (mut pause, longest) = machine.tuning.accept_backoff;
    loop {
        let error = match attempt() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        match error.raw_os_error().map_or(Failure::Listener, |code| Failure::of(Errno::from_raw(code))) {
            Failure::Connection => machine.operation().map(drop)?,
            Failure::Exhausted => {
                crate::time::sleep(pause)?;
                pause = pause.saturating_mul(2).min(longest);
            }
            Failure::Listener => return Err(error),
        }
    }
}

/// Who a failed accept is about.
enum Failure {
    /// The connection that would have been accepted: take the next.
    Connection,
    /// The process or the system: wait until it has room.
    Exhausted,
    /// The listener: nothing will come any more.
    Listener,
}

impl Failure {
    fn of(errno: Errno) -> Failure {
        match errno {
            // accept(2): pending errors of the new connection are answered by accept; "treat them like EAGAIN".
            Errno::CONNABORTED
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::PERM
            | Errno::TIMEDOUT => Failure::Connection,
            // ENOSPC: epoll_ctl, where /proc/sys/fs/epoll/max_user_watches are in use.
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC => Failure::Exhausted,
            _ => Failure::Listener,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Call, errno};

    /// Of all that accept4 may answer, only what is wrong with the listener itself ends it.
    #[test]
    fn only_its_own_errors_end_a_listener() {
        let fatal = |errno: &&Errno| matches!(Failure::of(**errno), Failure::Listener);
        let of_accept: Vec<Errno> = errno::of(Call::Accept4).iter().filter(fatal).copied().collect();
        // EAGAIN and EINTR are dealt with before.
        assert_eq!(of_accept, [Errno::AGAIN, Errno::BADF, Errno::INTR, Errno::INVAL, Errno::NOTSOCK]);
        let of_epoll: Vec<Errno> = errno::of(Call::EpollCtl).iter().filter(fatal).copied().collect();
        assert!(!of_epoll.contains(&Errno::NOMEM) && !of_epoll.contains(&Errno::NOSPC));
    }
}
