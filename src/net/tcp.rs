//! `TcpStream`: std's names, and calls that park only their coroutine.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::descriptor::{Descriptor, Fresh};
use super::option::socket_options;
use crate::error::Misuse;
use crate::io::{Buffer, POOL};
use crate::kernel::{Domain, Errno, Fd, OptionName, SendFlags, SocketKind, SocketOption};
use crate::machine::{Machine, current};

/// A TCP connection of this machine.
///
/// Reads and writes go through `&TcpStream` too, so that one coroutine can read while another writes (with
/// [`scope`](crate::scope()), or an `Rc`). Several readers, or several writers, take turns in the order of their calls.
///
/// Every call that waits fails when the coroutine is cancelled, when a [`timeout`](crate::timeout) around it ends, or when
/// the stream's own timeout does; a read that fails so has taken nothing, and a write nothing of what it reports.
/// Dropping the stream closes it. On another machine every call is an error: see [`detach`](Self::detach).
pub struct TcpStream {
    pub(crate) descriptor: Descriptor,
    /// What was read and not yet taken. The machine reads ahead into the descriptor's own buffer, never into this one.
    front: RefCell<Buffer>,
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
        let pending = match machine.kernel.connect(fresh.fd(), &address) {
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
        let _nobody_reads = self.descriptor.hold_reading();
        loop {
            self.descriptor.connected()?;
            let kernel = self.descriptor.kernel();
            if let SocketOption::Error(Some(errno)) =
                kernel.getsockopt(self.descriptor.fd(), OptionName::Error)?
            {
                return Err(errno.into());
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
        Ok(self.descriptor.kernel().getpeername(self.descriptor.fd())?)
    }

    /// This end's address.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.descriptor.here()?;
        Ok(self.descriptor.kernel().getsockname(self.descriptor.fd())?)
    }

    /// How long a read may wait; `None`, the default, for ever. A [`timeout`](crate::timeout) that is nearer wins.
    ///
    /// # Errors
    /// `InvalidInput` for zero, as std.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.descriptor.read.timeout, timeout)
    }

    /// How long a write may wait; `None`, the default, for ever.
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

    /// Fills `buf`, or takes nothing: after an error the bytes that had come are still there to read.
    ///
    /// # Errors
    /// `UnexpectedEof` if the peer ends before; otherwise as every read.
    pub fn read_exact(&self, buf: &mut [u8]) -> io::Result<()> {
        while self.front.borrow().len() < buf.len() {
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.front.borrow_mut().copy_to(buf);
        Ok(())
    }

    /// Writes all of `buf`.
    ///
    /// # Errors
    /// [`WriteError`] says how many bytes had been written when it failed.
    pub fn write_all(&self, buf: &[u8]) -> Result<(), WriteError> {
        let mut written = 0;
        while written < buf.len() {
            match self.send(&buf[written..]) {
                Ok(count) => written += count,
                Err(source) => return Err(WriteError { written, source }),
            }
        }
        Ok(())
    }

    /// Bytes that have been read from the socket and wait here to be taken.
    pub fn buffered(&self) -> usize {
        self.front.borrow().len()
    }

    /// Reads more into `front`. 0 is the end.
    fn fill(&self) -> io::Result<usize> {
        self.descriptor.call(&self.descriptor.read, |socket| socket.fill_once(&mut self.front.borrow_mut()))
    }

    fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.descriptor.here()?;
        if buf.is_empty() {
            return Ok(0);
        }
        let mut front = self.front.borrow_mut();
        if !front.is_empty() {
            // Budget and cancellation as for a read that asks the system.
            drop(front);
            self.descriptor.machine().operation()?;
            front = self.front.borrow_mut();
            if !front.is_empty() {
                return Ok(front.copy_to(buf));
            }
        }
        drop(front);
        self.descriptor.call(&self.descriptor.read, |socket| socket.read_once(buf))
    }

    fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.descriptor.call(&self.descriptor.write, |socket| {
            socket.kernel().send(socket.fd(), buf, SendFlags::default())
        })
    }

    fn send_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bufs = &bufs[..bufs.len().min(1024)];
        self.descriptor.call(&self.descriptor.write, |socket| {
            socket.kernel().sendmsg(socket.fd(), bufs, SendFlags::default())
        })
    }

    pub(crate) fn take_front(&self) -> Vec<u8> {
        let mut front = self.front.borrow_mut();
        let bytes = front.bytes().to_vec();
        front.consume(bytes.len());
        bytes
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

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(buf)
    }
}

impl Read for TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(buf)
    }
}

impl BufRead for TcpStream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.front.get_mut().is_empty() {
            self.fill()?;
        }
        Ok(self.front.get_mut().bytes())
    }

    fn consume(&mut self, count: usize) {
        self.front.get_mut().consume(count);
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.send(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_vectored(bufs)
    }

    /// Nothing is held back, so there is nothing to do.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.send(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_vectored(bufs)
    }

    /// Nothing is held back, so there is nothing to do.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream").field("fd", &self.descriptor.fd()).finish()
    }
}

/// A `write_all` that failed part of the way.
#[derive(Debug)]
pub struct WriteError {
    /// Bytes that had been written.
    pub written: usize,
    /// Why no more were.
    pub source: io::Error,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} bytes: {}", self.written, self.source)
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> io::Error {
        error.source
    }
}
