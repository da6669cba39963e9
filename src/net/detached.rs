//! A stream between machines: it owns its descriptor, what was read and not taken, and nothing of a machine.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::TcpStream;
use super::ahead::Unread;
use crate::error::Misuse;
use crate::kernel::Wake;
use crate::machine::current;

/// A [`TcpStream`] taken out of its machine. `Send`: attach it on any machine of the same process.
///
/// Dropping it closes the connection.
pub struct DetachedTcpStream {
    descriptor: Arc<dyn Wake>,
    unread: Unread,
    readahead: usize,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

/// An attach that failed; the stream is still there.
#[derive(Debug)]
pub struct AttachError {
    /// The stream, as it was.
    pub stream: DetachedTcpStream,
    /// Why it could not be attached.
    pub source: io::Error,
}

impl TcpStream {
    /// Takes the stream out of this machine, with every byte that was read ahead.
    ///
    /// # Errors
    /// On another machine than the stream's. The stream is then closed.
    pub fn detach(self) -> io::Result<DetachedTcpStream> {
        self.descriptor.here()?;
        let mut front = self.take_front();
        let ahead = self.ahead();
        let (mut unread, readahead) = (ahead.take_all(), ahead.limit.get());
        front.append(&mut unread.bytes);
        unread.bytes = front;
        let read_timeout = self.descriptor.read.timeout.get();
        let write_timeout = self.descriptor.write.timeout.get();
        let descriptor = self.descriptor.detach()?;
        Ok(DetachedTcpStream { descriptor, unread, readahead, read_timeout, write_timeout })
    }
}

impl DetachedTcpStream {
    /// Makes it a stream of this machine.
    ///
    /// # Errors
    /// [`AttachError`], with the stream: outside a machine, in another process, or when epoll takes no more.
    pub fn attach(self) -> Result<TcpStream, AttachError> {
        let Some(machine) = current::machine_rc() else {
            return Err(AttachError { stream: self, source: Misuse::NoMachine.into() });
        };
        if self.descriptor.process() != machine.kernel.process() {
            return Err(AttachError { stream: self, source: Misuse::OtherProcess.into() });
        }
        let fd = self.descriptor.release();
        match TcpStream::register(&machine, fd) {
            Ok(stream) => {
                stream.ahead().put(&self.unread);
                stream.ahead().limit.set(self.readahead);
                stream.descriptor.read.timeout.set(self.read_timeout);
                stream.descriptor.write.timeout.set(self.write_timeout);
                Ok(stream)
            }
            Err(source) => {
                let descriptor = machine.kernel.share(fd);
                Err(AttachError { stream: DetachedTcpStream { descriptor, ..self }, source })
            }
        }
    }
}

impl fmt::Debug for DetachedTcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fd, unread) = (self.descriptor.fd(), self.unread.bytes.len());
        f.debug_struct("DetachedTcpStream").field("fd", &fd).field("unread", &unread).finish()
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attach: {}", self.source)
    }
}

impl std::error::Error for AttachError {}

impl From<AttachError> for io::Error {
    fn from(error: AttachError) -> io::Error {
        error.source
    }
}
