//! `UdpSocket`: datagrams, with std's names.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::time::Duration;

use super::addresses::{ToSocketAddrs, first_of, no_address};
use super::descriptor::{Descriptor, Fresh};
use super::option::socket_options;
use super::stream::set_timeout;
use crate::error::Misuse;
use crate::kernel::{Domain, OptionName, Received, RecvFlags, SendFlags, SocketKind, SocketOption};
use crate::machine::current;

/// A UDP socket of this machine. Datagrams may be lost, doubled, and come in another order; each comes whole, or not at all.
///
/// What is longer than the buffer it is received in loses its end, as with std's. A connected socket hears only its peer, and
/// of some failures: `ConnectionRefused` when nobody listens there.
///
/// ```
/// use machinarium::net::UdpSocket;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let server = UdpSocket::bind("127.0.0.1:0")?;
///     let client = UdpSocket::bind("127.0.0.1:0")?;
///     client.send_to(b"ping", server.local_addr()?)?;
///     let mut buffer = [0; 16];
///     let (count, from) = server.recv_from(&mut buffer)?;
///     assert_eq!((&buffer[..count], from), (&b"ping"[..], client.local_addr()?));
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub struct UdpSocket {
    pub(super) descriptor: Descriptor,
}

impl UdpSocket {
    /// A socket at `address`, or the first of several that can be had; port 0 lets the system choose.
    ///
    /// # Errors
    /// The system's: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`, ...; of several addresses the last one's; of a name that
    /// is looked up, a [`LookupError`](super::LookupError), cancellation and deadlines.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        first_of(address.to_socket_addrs()?, UdpSocket::bind_one)
    }

    fn bind_one(address: SocketAddr) -> io::Result<UdpSocket> {
        let machine = current::machine_rc().ok_or(Misuse::NoMachine)?;
        let kernel = &*machine.kernel;
        let fresh = Fresh::new(kernel, kernel.socket(Domain::of(&address), SocketKind::Datagram)?);
        kernel.bind(fresh.fd(), &address.into())?;
        let descriptor = Descriptor::datagrams(&machine, fresh.fd())?;
        fresh.keep();
        Ok(UdpSocket { descriptor })
    }

    /// Makes `address`, or the first of several to which there is a way, the one peer: `send` sends there, and nothing else is
    /// received.
    ///
    /// # Errors
    /// The system's; of a name, as for [`bind`](Self::bind).
    pub fn connect(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        self.descriptor.here()?;
        let (kernel, fd) = (self.descriptor.kernel(), self.descriptor.fd());
        first_of(address.to_socket_addrs()?, |address| Ok(kernel.connect(fd, &address.into())?))
    }

    /// Sends a datagram to `address`, or the first of several of this socket's family, waiting for room in the socket's buffer.
    ///
    /// # Errors
    /// The system's; cancellation and deadlines, and then nothing was sent; of a name, as for [`bind`](Self::bind).
    pub fn send_to(&self, datagram: &[u8], address: impl ToSocketAddrs) -> io::Result<usize> {
        let to = self.choose(address.to_socket_addrs()?)?.into();
        self.descriptor.writing()?.call(|socket| {
            let bufs = [IoSlice::new(datagram)];
            socket.kernel().sendmsg(socket.fd(), &bufs, SendFlags::default(), Some(&to))
        })
    }

    /// Of one address that one, whatever it is. Of several, the first of this socket's family: a name has both.
    fn choose(&self, mut addresses: impl Iterator<Item = SocketAddr>) -> io::Result<SocketAddr> {
        let first = addresses.next().ok_or_else(no_address)?;
        let Some(second) = addresses.next() else { return Ok(first) };
        let is_ipv4 = self.local_addr()?.is_ipv4();
        let mut all = [first, second].into_iter().chain(addresses);
        Ok(all.find(|address| address.is_ipv4() == is_ipv4).unwrap_or(first))
    }

    /// Sends a datagram to the peer.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to); the system refuses it without a peer (`EDESTADDRREQ`).
    pub fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.descriptor
            .writing()?
            .call(|socket| socket.kernel().send(socket.fd(), datagram, SendFlags::default()))
    }

    /// Waits for a datagram: how much of it is in `buffer`, and who sent it.
    ///
    /// # Errors
    /// The system's; cancellation and deadlines, and then none was taken.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        sender(self.receive(buffer, RecvFlags::default())?)
    }

    /// As [`recv_from`](Self::recv_from), and leaves the datagram for the next call.
    ///
    /// # Errors
    /// As `recv_from`.
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        sender(self.receive(buffer, RecvFlags { peek: true, ..RecvFlags::default() })?)
    }

    /// Waits for a datagram, of whomever.
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.receive(buffer, RecvFlags::default())?.count)
    }

    /// As [`recv`](Self::recv), and leaves the datagram for the next call.
    ///
    /// # Errors
    /// As `recv`.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.receive(buffer, RecvFlags { peek: true, ..RecvFlags::default() })?.count)
    }

    fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<Received> {
        self.descriptor
            .reading()?
            .call(|socket| socket.kernel().recvmsg(socket.fd(), &mut [IoSliceMut::new(buffer)], flags))
    }

    /// This socket's address.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.descriptor.here()?;
        Ok(self.descriptor.kernel().getsockname(self.descriptor.fd())?.ip()?)
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` without a peer.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.descriptor.here()?;
        Ok(self.descriptor.kernel().getpeername(self.descriptor.fd())?.ip()?)
    }

    /// How long a receive may wait in all; `None`, the default, for ever.
    ///
    /// # Errors
    /// `InvalidInput` for zero, as std.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.descriptor.read.timeout, timeout)
    }

    /// How long a send may wait in all; `None`, the default, for ever.
    ///
    /// # Errors
    /// `InvalidInput` for zero, as std.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.descriptor.write.timeout, timeout)
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

socket_options! { UdpSocket, descriptor:
    /// `SO_BROADCAST`: datagrams may go to broadcast addresses.
    broadcast, set_broadcast: Broadcast(bool);
    /// `SO_SNDBUF` in bytes; the system answers twice what was set.
    send_buffer_size, set_send_buffer_size: SendBuffer(u32);
    /// `SO_RCVBUF` in bytes; the system answers twice what was set. What comes when it is full is lost.
    receive_buffer_size, set_receive_buffer_size: ReceiveBuffer(u32);
}

fn sender(received: Received) -> io::Result<(usize, SocketAddr)> {
    let from = received.from.ok_or_else(|| io::Error::other("a datagram of nobody"))?;
    Ok((received.count, from.ip()?))
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket").field("fd", &self.descriptor.fd()).finish()
    }
}
