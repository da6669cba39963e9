//! A TLS stream between machines: the stream below, rustls' state, and every byte on its way through.

use std::fmt;
use std::io;

use super::core::{Connection, Core, Life};
use super::resolve::Noted;
use super::stream::TlsStream;
use crate::error::Misuse;
use crate::io::{Buffer, POOL};
use crate::machine::current;
use crate::net::{Connected, TcpStream};

/// A [`TlsStream`] taken out of its machine. `Send`: attach it on any machine of the same process.
///
/// Dropping it closes the connection.
pub struct DetachedTlsStream<S: Connected = TcpStream> {
    io: S::Detached,
    above: Box<Above>,
}

/// All but the stream below.
struct Above {
    connection: Box<Connection>,
    incoming: Vec<u8>,
    plain: Vec<u8>,
    outgoing: Vec<u8>,
    life: Life,
    noted: Noted,
}

/// An attach that failed; the stream is still there.
pub struct TlsAttachError<S: Connected = TcpStream> {
    /// The stream, as it was.
    pub stream: DetachedTlsStream<S>,
    /// Why it could not be attached.
    pub source: io::Error,
}

impl<S: Connected> TlsStream<S> {
    /// Takes the stream out of this machine, with the state of its TLS.
    ///
    /// # Errors
    /// On another machine than the stream's. The stream is then closed.
    pub fn detach(self) -> io::Result<DetachedTlsStream<S>> {
        let TlsStream { io, core, noted } = self;
        let Core { connection, incoming, plain, life, .. } = core.into_inner();
        io.descriptor().here()?;
        let outgoing = io.descriptor().behind.take_all();
        let io = io.detach()?;
        let [incoming, plain] = [&incoming, &plain].map(|buffer| buffer.bytes().to_vec());
        let above = Box::new(Above { connection, incoming, plain, outgoing, life, noted });
        Ok(DetachedTlsStream { io, above })
    }
}

impl<S: Connected> DetachedTlsStream<S> {
    /// Makes it a stream of this machine.
    ///
    /// # Errors
    /// [`TlsAttachError`], with the stream: outside a machine, in another process, or when epoll takes no more.
    pub fn attach(self) -> Result<TlsStream<S>, TlsAttachError<S>> {
        if current::machine().is_none() {
            return Err(TlsAttachError { stream: self, source: Misuse::NoMachine.into() });
        }
        let io = match S::attach(self.io) {
            Ok(io) => io,
            Err((io, source)) => {
                return Err(TlsAttachError { stream: DetachedTlsStream { io, ..self }, source });
            }
        };
        let Above { connection, incoming, plain, outgoing, life, noted } = *self.above;
        let [incoming, plain, outgoing] = [incoming, plain, outgoing].map(|bytes| {
            let mut buffer = Buffer::new(POOL.get());
            buffer.extend(&bytes);
            buffer.fit();
            buffer
        });
        let core = Core { connection, incoming, plain, outgoing, life };
        let stream = TlsStream::new(io, core, noted);
        stream.send_left();
        Ok(stream)
    }
}

impl<S: Connected> fmt::Debug for DetachedTlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachedTlsStream").field("io", &self.io).field("life", &self.above.life).finish()
    }
}

impl<S: Connected> fmt::Debug for TlsAttachError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAttachError").field("stream", &self.stream).field("source", &self.source).finish()
    }
}

impl<S: Connected> fmt::Display for TlsAttachError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attach: {}", self.source)
    }
}

impl<S: Connected> std::error::Error for TlsAttachError<S> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl<S: Connected> From<TlsAttachError<S>> for io::Error {
    fn from(error: TlsAttachError<S>) -> io::Error {
        error.source
    }
}
