//! `UnixDatagram`: datagrams within a host, by paths and abstract names. None is lost, doubled or late: a full receiver makes its
//! senders wait.
//!
//! A sender with a peer hears when that has room again; to another receiver it tries again after a while, since no event tells.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::descriptor::{Descriptor, Fresh};
use super::stream::set_timeout;
use crate::error::Misuse;
use crate::kernel::{Domain, Errno, Received, RecvFlags, SendFlags, SocketKind, UnixName};
use crate::machine::current;
use crate::time;

/// A Unix socket of datagrams, of this machine. Each comes whole, in order; what is longer than the buffer it is received in loses
/// its end, as with std's.
///
/// A path that it is bound to stays when it is dropped: remove the file.
///
/// ```
/// use machinarium::net::UnixDatagram;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let (ours, theirs) = UnixDatagram::pair()?;
///     ours.send(b"ping")?;
///     let mut buffer = [0; 16];
///     let count = theirs.recv(&mut buffer)?;
///     assert_eq!(&buffer[..count], b"ping");
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub struct UnixDatagram {
    pub(super) descriptor: Descriptor,
}

impl UnixDatagram {
    /// A socket at `path`, which is made one.
    ///
    /// # Errors
    /// `AddrInUse` if there is a file already; the system's; `InvalidInput` for what is no path of a socket.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
        UnixDatagram::bind_addr(&name_of(path.as_ref())?)
    }

    /// As [`bind`](Self::bind), by a name, which may be abstract: then it goes away with the socket.
    ///
    /// # Errors
    /// As `bind`.
    pub fn bind_addr(name: &UnixName) -> io::Result<UnixDatagram> {
        UnixDatagram::make(Some(name))
    }

    /// A socket without a name: it can send, and receives from its peer alone.
    ///
    /// # Errors
    /// The system's, if descriptors or memory run out.
    pub fn unbound() -> io::Result<UnixDatagram> {
        UnixDatagram::make(None)
    }

    fn make(name: Option<&UnixName>) -> io::Result<UnixDatagram> {
        let machine = current::machine_rc().ok_or(Misuse::NoMachine)?;
        let kernel = &*machine.kernel;
        let fresh = Fresh::new(kernel, kernel.socket(Domain::Unix, SocketKind::Datagram)?);
        if let Some(name) = name {
            kernel.bind(fresh.fd(), &(*name).into())?;
        }
        let descriptor = Descriptor::datagrams(&machine, fresh.fd())?;
        fresh.keep();
        Ok(UnixDatagram { descriptor })
    }

    /// Two sockets that are each other's peers.
    ///
    /// # Errors
    /// As [`unbound`](Self::unbound).
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let machine = current::machine_rc().ok_or(Misuse::NoMachine)?;
        let (first, second) = machine.kernel.socketpair(SocketKind::Datagram)?;
        let [first, second] = [first, second].map(|fd| Fresh::new(&*machine.kernel, fd));
        let ours = UnixDatagram { descriptor: Descriptor::datagrams(&machine, first.fd())? };
        first.keep();
        let theirs = UnixDatagram { descriptor: Descriptor::datagrams(&machine, second.fd())? };
        second.keep();
        Ok((ours, theirs))
    }

    /// Makes the socket at `path` the peer: `send` sends there, and of others nothing is received.
    ///
    /// # Errors
    /// `NotFound` if there is no such file, `ConnectionRefused` if no socket is bound there; the system's.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.connect_addr(&name_of(path.as_ref())?)
    }

    /// As [`connect`](Self::connect), by a name, which may be abstract.
    ///
    /// # Errors
    /// As `connect`.
    pub fn connect_addr(&self, name: &UnixName) -> io::Result<()> {
        self.descriptor.here()?;
        Ok(self.descriptor.kernel().connect(self.descriptor.fd(), &(*name).into())?)
    }

    /// Sends a datagram to the peer, waiting for room there.
    ///
    /// # Errors
    /// `NotConnected` without a peer, `ConnectionRefused` if it is gone; cancellation and deadlines, and then nothing was sent.
    pub fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.descriptor
            .writing()?
            .call(|socket| socket.kernel().send(socket.fd(), datagram, SendFlags::default()))
    }

    /// Sends a datagram to the socket at `path`. Where that is full, it tries again after a while, longer each time
    /// (`Tuning::accept_backoff`).
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`connect`](Self::connect).
    pub fn send_to(&self, datagram: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.send_to_addr(datagram, &name_of(path.as_ref())?)
    }

    /// As [`send_to`](Self::send_to), by a name, which may be abstract.
    ///
    /// # Errors
    /// As `send_to`.
    pub fn send_to_addr(&self, datagram: &[u8], name: &UnixName) -> io::Result<usize> {
        let _turn = self.descriptor.writing()?;
        match self.descriptor.write.timeout.get() {
            Some(limit) => time::timeout(limit, || self.send_patiently(datagram, name)),
            None => self.send_patiently(datagram, name),
        }
    }

    fn send_patiently(&self, datagram: &[u8], name: &UnixName) -> io::Result<usize> {
        let machine = self.descriptor.machine();
        let (to, bufs) = ((*name).into(), [IoSlice::new(datagram)]);
        let (mut pause, longest) = machine.tuning.accept_backoff;
        loop {
            let sent = machine.kernel.sendmsg(self.descriptor.fd(), &bufs, SendFlags::default(), Some(&to));
            match sent {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => machine.operation().map(drop)?,
                Err(Errno::AGAIN) => {
                    time::sleep(pause)?;
                    pause = pause.saturating_mul(2).min(longest);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits for a datagram: how much of it is in `buffer`, and who sent it (unnamed, if that has no name).
    ///
    /// # Errors
    /// The system's; cancellation and deadlines, and then none was taken.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, UnixName)> {
        let received = self.receive(buffer, RecvFlags::default())?;
        let from = received.from.map_or(Ok(UnixName::UNNAMED), |from| from.unix())?;
        Ok((received.count, from))
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

    /// This socket's name.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<UnixName> {
        self.descriptor.here()?;
        Ok(self.descriptor.kernel().getsockname(self.descriptor.fd())?.unix()?)
    }

    /// The peer's name.
    ///
    /// # Errors
    /// `NotConnected` without a peer.
    pub fn peer_addr(&self) -> io::Result<UnixName> {
        self.descriptor.here()?;
        Ok(self.descriptor.kernel().getpeername(self.descriptor.fd())?.unix()?)
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
}

fn name_of(path: &Path) -> io::Result<UnixName> {
    Ok(UnixName::path(path.as_os_str().as_bytes())?)
}

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixDatagram").field("fd", &self.descriptor.fd()).finish()
    }
}
