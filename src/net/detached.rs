//! A stream between machines: it owns its descriptor, what was read and not taken, and nothing of a machine.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::ahead::Unread;
use super::listener::patiently;
use super::stream::{Kind, Stream};
use super::tcp::Tcp;
use super::unix::Unix;
use crate::error::Misuse;
use crate::kernel::Wake;
use crate::machine::current;

/// A [`Stream`] taken out of its machine. `Send`: attach it on any machine of the same process.
///
/// Dropping it closes the connection.
pub struct DetachedStream<K: Kind> {
    descriptor: Arc<dyn Wake>,
    kept: Box<Kept>,
    /// Which stream it is; whatever that is, this is `Send`.
    kind: PhantomData<fn() -> K>,
}

/// What a stream has besides its descriptor.
struct Kept {
    unread: Unread,
    readahead: usize,
    unsent: Vec<u8>,
    coalescing: usize,
    marks: (usize, usize),
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

/// A [`TcpStream`](super::TcpStream) taken out of its machine.
pub type DetachedTcpStream = DetachedStream<Tcp>;

/// A [`UnixStream`](super::UnixStream) taken out of its machine.
pub type DetachedUnixStream = DetachedStream<Unix>;

/// An attach that failed; the stream is still there.
#[derive(Debug)]
pub struct AttachError<K: Kind> {
    /// The stream, as it was.
    pub stream: DetachedStream<K>,
    /// Why it could not be attached.
    pub source: io::Error,
}

impl<K: Kind> Stream<K> {
    /// Takes the stream out of this machine, with every byte that was read ahead.
    ///
    /// # Errors
    /// On another machine than the stream's. The stream is then closed.
    pub fn detach(self) -> io::Result<DetachedStream<K>> {
        self.descriptor.here()?;
        let mut front = self.take_front();
        let ahead = self.ahead();
        if let Some(errno) = self.descriptor.take_error() {
            ahead.put_error(errno);
        }
        let (mut unread, readahead) = (ahead.take_all(), ahead.limit.get());
        front.append(&mut unread.bytes);
        unread.bytes = front;
        let behind = &self.descriptor.behind;
        let (unsent, coalescing, marks) = (behind.take_all(), behind.limit.get(), behind.marks.get());
        let read_timeout = self.descriptor.read.timeout.get();
        let write_timeout = self.descriptor.write.timeout.get();
        let descriptor = self.descriptor.detach()?;
        let kept = Kept { unread, readahead, unsent, coalescing, marks, read_timeout, write_timeout };
        Ok(DetachedStream { descriptor, kept: Box::new(kept), kind: PhantomData })
    }
}

impl<K: Kind> DetachedStream<K> {
    /// Makes it a stream of this machine.
    ///
    /// # Errors
    /// [`AttachError`], with the stream: outside a machine, in another process, or when epoll takes no more.
    pub fn attach(self) -> Result<Stream<K>, AttachError<K>> {
        let Some(machine) = current::machine_rc() else {
            return Err(AttachError { stream: self, source: Misuse::NoMachine.into() });
        };
        if self.descriptor.process() != machine.kernel.process() {
            return Err(AttachError { stream: self, source: Misuse::OtherProcess.into() });
        }
        let (fd, kept) = (self.descriptor.release(), &self.kept);
        match Stream::register(&machine, fd) {
            Ok(stream) => {
                stream.ahead().put(&kept.unread);
                stream.ahead().limit.set(kept.readahead);
                stream.descriptor.behind.limit.set(kept.coalescing);
                stream.descriptor.behind.marks.set(kept.marks);
                if !kept.unsent.is_empty() {
                    stream.gather(&kept.unsent);
                }
                stream.descriptor.read.timeout.set(kept.read_timeout);
                stream.descriptor.write.timeout.set(kept.write_timeout);
                Ok(stream)
            }
            Err(source) => {
                let descriptor = machine.kernel.share(fd);
                Err(AttachError { stream: DetachedStream { descriptor, ..self }, source })
            }
        }
    }
}

impl<K: Kind> DetachedStream<K> {
    /// As [`attach`](Self::attach), of a connection that has come just now: waits while the system is out of memory, as accepting does.
    pub(crate) fn attach_patiently(self) -> io::Result<Stream<K>> {
        let machine = current::machine_rc().ok_or(Misuse::NoMachine)?;
        let mut kept = Some(self);
        patiently(&machine, || {
            let stream = kept.take().expect("an attach that fails gives the stream back");
            stream.attach().map_err(|AttachError { stream, source }| {
                kept = Some(stream);
                source
            })
        })
    }
}

impl<K: Kind> fmt::Debug for DetachedStream<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fd, unread) = (self.descriptor.fd(), self.kept.unread.bytes.len());
        f.debug_struct("Detached").field("of", &K::NAME).field("fd", &fd).field("unread", &unread).finish()
    }
}

impl<K: Kind> fmt::Display for AttachError<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attach: {}", self.source)
    }
}

impl<K: Kind> std::error::Error for AttachError<K> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl<K: Kind> From<AttachError<K>> for io::Error {
    fn from(error: AttachError<K>) -> io::Error {
        error.source
    }
}
