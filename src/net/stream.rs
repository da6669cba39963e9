//! A connected stream of bytes, as TCP and Unix sockets are: std's names, and calls that park only their coroutine.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use super::ahead::Ahead;
use super::descriptor::Descriptor;
use super::option::socket_options;
use crate::io::{Buffer, POOL};
use crate::kernel::{Fd, OptionName, SocketOption};
use crate::machine::Machine;

/// A connection of this machine: a [`TcpStream`](super::TcpStream) or a [`UnixStream`](super::UnixStream).
///
/// Reads and writes go through `&Stream` too, so that one coroutine can read while another writes (with
/// [`scope`](crate::scope()), or an `Rc`). Several readers, or several writers, take turns in the order of their calls.
///
/// Every call that waits fails when the coroutine is cancelled, when a [`timeout`](crate::timeout) around it ends, or when
/// the stream's own timeout does. `read`, [`read_exact`](Self::read_exact), [`read_until`](Self::read_until) and `write` have
/// then taken nothing, and [`write_all`](Self::write_all) says how much; std's versions of composed calls cannot.
/// Dropping the stream closes it. On another machine every call is an error: see [`detach`](Self::detach).
pub struct Stream<K: Kind> {
    pub(crate) descriptor: Descriptor,
    /// What a call has read and not yet taken. The machine reads ahead into the descriptor's own buffer, never into this one.
    pub(super) front: RefCell<Buffer>,
    kind: PhantomData<K>,
}

/// Which sockets a [`Stream`] is of. Only the two kinds of this crate.
pub trait Kind: fmt::Debug {
    /// What its `Debug` says.
    #[doc(hidden)]
    const NAME: &'static str;
    /// Whether a read of less than was asked for means that nothing is left: a system may end one between two writes
    /// of a peer.
    #[doc(hidden)]
    const SHORT_READ_DRAINS: bool;
}

impl<K: Kind> Stream<K> {
    pub(crate) fn register(machine: &Rc<Machine>, fd: Fd) -> io::Result<Stream<K>> {
        let descriptor = Descriptor::stream(machine, fd, K::SHORT_READ_DRAINS)?;
        Ok(Stream { descriptor, front: RefCell::new(Buffer::new(POOL.get())), kind: PhantomData })
    }

    /// Shuts down the reading half, the writing half, or both. What writes have put off is sent before the writing half ends, for
    /// which this may wait.
    ///
    /// # Errors
    /// The system's, `NotConnected` above all.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.descriptor.here()?;
        if how != Shutdown::Read && self.descriptor.behind.is_asked_for() {
            self.send_gathered()?;
        }
        Ok(self.descriptor.kernel().shutdown(self.descriptor.fd(), how)?)
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

    /// Has small writes gather, up to so many bytes, and leave in one system call: when more come than that, at a
    /// [`flush`](std::io::Write::flush), and at the latest before the machine sleeps or looks for events, so that nobody waits for
    /// what was put off. 0, the default, is off: what was gathered leaves with the next write or flush, or as above.
    ///
    /// A write that was gathered has succeeded, as one has that lies in the system's buffer: if the connection fails before it is sent,
    /// the next write or flush says so. Dropping the stream sends as much as the system takes at once; `flush` or
    /// [`shutdown`](Self::shutdown) before it to be sure. [`detach`](Self::detach) takes along what was gathered. It is the bytes
    /// of this stream alone that gather: TLS sends each of its records at once.
    ///
    /// ```
    /// use machinarium::net::TcpListener;
    /// use std::io::Write;
    ///
    /// let result: std::io::Result<()> = machinarium::run(|| {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let mut client = machinarium::net::TcpStream::connect(listener.local_addr()?)?;
    ///     client.set_nodelay(true)?;
    ///     client.set_coalescing(4 << 10);
    ///     for number in 0..100 {
    ///         write!(client, "{number}\n")?;
    ///     }
    ///     client.flush()
    /// });
    /// result.unwrap();
    /// ```
    pub fn set_coalescing(&self, bytes: usize) {
        self.descriptor.behind.limit.set(bytes);
    }

    /// Lets writes go on when the system takes nothing for now: what it does not take is left here, up to `high` bytes, and the machine
    /// sends it when it can. A write that finds `high` bytes waits until at most `low` are left. 0 and 0, the default, is off: writes
    /// wait for the system alone. `low` is less than `high`; more counts as the most that it may be.
    ///
    /// So one slow peer of many holds nobody up, for as long as it is no further behind than that. What was left here has been
    /// written, as with [`set_coalescing`](Self::set_coalescing), and the same holds for failures, for [`flush`](std::io::Write::flush) and
    /// for the stream's ends. With both, small writes gather first. On TLS it is set on the stream below, of encrypted bytes; a record
    /// begun below the mark is left as a whole.
    ///
    /// ```
    /// use machinarium::net::UnixStream;
    /// use std::io::Write;
    ///
    /// let result: std::io::Result<()> = machinarium::run(|| {
    ///     let (mut stream, slow) = UnixStream::pair()?;
    ///     stream.set_high_water(1 << 20, 1 << 18);
    ///     stream.write_all(&[0; 1 << 20])?; // more than the system takes, and nobody reads
    ///     assert!(stream.unsent() > 0);
    ///     drop(slow);
    ///     assert!(stream.flush().is_err());
    ///     Ok(())
    /// });
    /// result.unwrap();
    /// ```
    pub fn set_high_water(&self, high: usize, low: usize) {
        self.descriptor.behind.marks.set((high, low.min(high.saturating_sub(1))));
    }

    /// How many bytes were written and have not been given to the system.
    pub fn unsent(&self) -> usize {
        self.descriptor.behind.len()
    }

    /// How many bytes can be read now: what this machine has of them, and what the system has.
    ///
    /// # Errors
    /// On another machine; the system's.
    pub fn pending(&self) -> io::Result<usize> {
        self.descriptor.here()?;
        Ok(self.buffered() + self.descriptor.kernel().ioctl_fionread(self.descriptor.fd())?)
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

socket_options! { Stream<K> [K: Kind], descriptor:
    /// `SO_SNDBUF` in bytes; the system answers twice what was set.
    send_buffer_size, set_send_buffer_size: SendBuffer(u32);
    /// `SO_RCVBUF` in bytes; the system answers twice what was set.
    receive_buffer_size, set_receive_buffer_size: ReceiveBuffer(u32);
}

/// What all timeouts of sockets are set by.
pub(super) fn set_timeout(place: &Cell<Option<Duration>>, timeout: Option<Duration>) -> io::Result<()> {
    if timeout == Some(Duration::ZERO) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a timeout of zero: use None for no timeout",
        ));
    }
    place.set(timeout);
    Ok(())
}

impl<K: Kind> fmt::Debug for Stream<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(K::NAME).field("fd", &self.descriptor.fd()).finish()
    }
}
