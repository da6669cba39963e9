//! Unix streams: connections within a host, by paths and abstract names.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use super::descriptor::{Descriptor, Fresh, Socket};
use super::listener::{accept, look_for_connection};
use super::ready::{Inlet, Look, Readable};
use super::stream::{Kind, Stream};
use crate::error::Misuse;
use crate::kernel::{Credentials, Domain, Errno, OptionName, SocketKind, SocketOption, UnixName};
use crate::machine::current;

/// A connection to another process of this host. See [`Stream`] for what it shares with other streams.
///
/// ```
/// use machinarium::net::UnixStream;
/// use std::io::{Read, Write};
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let (mut ours, mut theirs) = UnixStream::pair()?;
///     ours.write_all(b"hello")?;
///     drop(ours);
///     let mut all = String::new();
///     theirs.read_to_string(&mut all)?;
///     assert_eq!(all, "hello");
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub type UnixStream = Stream<Unix>;

/// The [`Kind`] of Unix streams.
#[derive(Debug)]
pub enum Unix {}

impl Kind for Unix {
    const NAME: &'static str = "UnixStream";
    // A read ends where the ancillary data of a writer begin, whatever follows.
    const SHORT_READ_DRAINS: bool = false;
}

impl Stream<Unix> {
    /// Connects to the socket at `path`.
    ///
    /// Where the listener's queue is full, it tries again after a while, longer each time (`Tuning::accept_backoff`), since no
    /// event tells of room; put a [`timeout`](crate::timeout) around it.
    ///
    /// # Errors
    /// `NotFound` if there is no such file, `ConnectionRefused` if nobody listens there; cancellation and deadlines;
    /// `InvalidInput` for what is no path of a socket (108 bytes at most).
    pub fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&path_name(path.as_ref())?)
    }

    /// As [`connect`](Self::connect), by a name, which may be abstract.
    ///
    /// # Errors
    /// As `connect`.
    pub fn connect_addr(name: &UnixName) -> io::Result<UnixStream> {
        let machine = current::machine_rc().ok_or(Misuse::NoMachine)?;
        machine.operation()?;
        let fresh = Fresh::new(&*machine.kernel, machine.kernel.socket(Domain::Unix, SocketKind::Stream)?);
        let (mut pause, longest) = machine.tuning.accept_backoff;
        loop {
            match machine.kernel.connect(fresh.fd(), &(*name).into()) {
                Ok(()) => break,
                Err(Errno::INTR) => machine.operation().map(drop)?,
                Err(Errno::AGAIN) => {
                    crate::time::sleep(pause)?;
                    pause = (pause * 2).min(longest);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        let stream = UnixStream::register(&machine, fresh.fd())?;
        fresh.keep();
        Ok(stream)
    }

    /// Two streams that are connected to each other.
    ///
    /// # Errors
    /// The system's, if descriptors or memory run out.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let machine = current::machine_rc().ok_or(Misuse::NoMachine)?;
        let (first, second) = machine.kernel.socketpair(SocketKind::Stream)?;
        let [first, second] = [first, second].map(|fd| Fresh::new(&*machine.kernel, fd));
        let ours = UnixStream::register(&machine, first.fd())?;
        first.keep();
        let theirs = UnixStream::register(&machine, second.fd())?;
        second.keep();
        Ok((ours, theirs))
    }

    /// The name of the peer's socket: of one that connected, mostly none.
    ///
    /// # Errors
    /// The system's.
    pub fn peer_addr(&self) -> io::Result<UnixName> {
        self.descriptor.here()?;
        Ok(self.descriptor.kernel().getpeername(self.descriptor.fd())?.unix()?)
    }

    /// The name of this end's socket.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<UnixName> {
        self.descriptor.here()?;
        Ok(self.descriptor.kernel().getsockname(self.descriptor.fd())?.unix()?)
    }

    /// Who the peer was when it connected or listened (`SO_PEERCRED`).
    ///
    /// # Errors
    /// The system's.
    pub fn peer_cred(&self) -> io::Result<Option<Credentials>> {
        self.descriptor.here()?;
        match self.descriptor.kernel().getsockopt(self.descriptor.fd(), OptionName::PeerCredentials)? {
            SocketOption::PeerCredentials(credentials) => Ok(credentials),
            other => unreachable!("the answer to SO_PEERCRED is {other:?}"),
        }
    }
}

/// A listening Unix socket of this machine.
///
/// A path that it is bound to stays when it is dropped, as with std's: remove the file, before the next bind at the latest.
pub struct UnixListener {
    descriptor: Descriptor,
}

/// How many connections may wait to be accepted; the system may cut it (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

impl UnixListener {
    /// Listens at `path`, which is made a socket.
    ///
    /// # Errors
    /// `AddrInUse` if there is a file already; the system's; `InvalidInput` for what is no path of a socket.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        UnixListener::bind_addr(&path_name(path.as_ref())?)
    }

    /// As [`bind`](Self::bind), by a name, which may be abstract: then it goes away with the listener.
    ///
    /// # Errors
    /// As `bind`.
    pub fn bind_addr(name: &UnixName) -> io::Result<UnixListener> {
        let machine = current::machine_rc().ok_or(Misuse::NoMachine)?;
        let kernel = &*machine.kernel;
        let fresh = Fresh::new(kernel, kernel.socket(Domain::Unix, SocketKind::Stream)?);
        kernel.bind(fresh.fd(), &(*name).into())?;
        kernel.listen(fresh.fd(), BACKLOG)?;
        let descriptor = Descriptor::listener(&machine, fresh.fd())?;
        fresh.keep();
        Ok(UnixListener { descriptor })
    }

    /// Waits for a connection; as [`TcpListener::accept`](super::TcpListener::accept).
    ///
    /// # Errors
    /// As there.
    pub fn accept(&self) -> io::Result<(UnixStream, UnixName)> {
        let (stream, peer) = accept(&self.descriptor)?;
        Ok((stream, peer.unix()?))
    }

    /// A case of [`select`](crate::sync::select()) that is chosen when an `accept` would not wait; as
    /// [`TcpListener::readable`](super::TcpListener::readable).
    pub fn readable(&self) -> Readable<'_> {
        Readable::new(self)
    }

    /// The name that it listens on.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<UnixName> {
        self.descriptor.here()?;
        Ok(self.descriptor.kernel().getsockname(self.descriptor.fd())?.unix()?)
    }
}

impl Inlet for UnixListener {
    fn socket(&self) -> &Rc<Socket> {
        &self.descriptor
    }

    fn look(&self) -> Look {
        look_for_connection(&self.descriptor)
    }
}

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixListener").field("fd", &self.descriptor.fd()).finish()
    }
}

fn path_name(path: &Path) -> io::Result<UnixName> {
    Ok(UnixName::path(path.as_os_str().as_bytes())?)
}
