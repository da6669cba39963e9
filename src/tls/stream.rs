//! `TlsStream`: the TLS of a connected stream, both of its directions at once.
//!
//! One [`Core`] is shared by all coroutines that use the stream; each borrows it between two waits, never over one. A call takes
//! the turn of its direction of the socket below, so readers, and writers, are served in the order of their calls.
//!
//! | a call | does | and when it may wait |
//! |---|---|---|
//! | read | takes plaintext; else lets rustls use what has come; else reads from the socket | for bytes to come; never for the socket to take some |
//! | write | sends what is left of earlier ones, encrypts at most one record, sends it | for the socket to take bytes; once encrypted, giving up is no error |
//!
//! Ciphertext that is made is handed to the socket (`net/behind`), which sends it whenever it can, whoever is in a call: what a
//! reader had to answer, and what a writer has left that gave up.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::Shutdown;

use rustls::pki_types::CertificateDer;
use rustls::{CommonState, HandshakeKind, ProtocolVersion, SupportedCipherSuite};

use super::core::{Connection, Core, RECORD, Want};
use super::end_point::server_end_point;
use super::error::Error;
use super::resolve::{self, Noted};
use crate::error::{has_gone, is_of_caller};
use crate::io::{Buffer, POOL};
use crate::machine::shield;
use crate::net::{Connected, Socket, TcpStream, Turn};
use crate::time;

/// TLS on a connected stream of this machine.
///
/// Reads and writes go through `&TlsStream` too, so that one coroutine can read while another writes. Every call that waits ends
/// as those of the stream below: by its timeouts (set through [`get_ref`](Self::get_ref)), by a [`timeout`](crate::timeout)
/// around it, by cancellation.
///
/// The end of what the peer sends is `Ok(0)` only if the peer said so (`close_notify`); a connection that just ends is an
/// error of kind `UnexpectedEof`, [`Error::Truncated`](super::Error::Truncated). In the same way the peer learns the end of this side from
/// [`close`](Self::close) or [`close_write`](Self::close_write), and not from a drop: that may be an error on its way.
///
/// A handshake takes up to 48 KiB of the coroutine's stack. On streams for questions and answers `set_nodelay` before it: TLS
/// writes in pieces of its own, and a small one waits up to 40 ms for the acknowledgement of the one before.
///
/// ```no_run
/// use machinarium::net::TcpStream;
/// use machinarium::tls::ClientConfig;
/// use std::io::{Read, Write};
///
/// machinarium::run(|| {
///     let config = ClientConfig::builder().build()?; // the system's roots, chain and name verified
///     let tcp = TcpStream::connect("localhost:443")?;
///     let mut stream = config.connect(tcp, "localhost")?;
///     stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
///     let mut page = String::new();
///     stream.read_to_string(&mut page)?;
///     stream.close()
/// })
/// .unwrap();
/// ```
pub struct TlsStream<S: Connected = TcpStream> {
    pub(super) io: S,
    pub(super) core: RefCell<Core>,
    pub(super) noted: Noted,
}

impl<S: Connected> TlsStream<S> {
    pub(super) fn new(io: S, core: Core, noted: Noted) -> TlsStream<S> {
        TlsStream { io, core: RefCell::new(core), noted }
    }

    /// Agrees with the peer. `io` is closed after an error, of which the peer is told if that is possible without waiting.
    pub(super) fn handshake(io: S, connection: Connection) -> io::Result<TlsStream<S>> {
        io.descriptor().here()?;
        let mut core = Core::new(connection, || Buffer::new(POOL.get()));
        io.move_front(&mut core.incoming);
        let mut stream = TlsStream::new(io, core, Noted::default());
        let noted = stream.shake_hands()?;
        stream.noted = noted;
        Ok(stream)
    }

    fn shake_hands(&self) -> io::Result<Noted> {
        let mut noted = Noted::default();
        let (mut reading, mut writing) = self.turns()?;
        loop {
            resolve::forget();
            let result = self.advance(Want::Nothing);
            resolve::recall(&mut noted, result)?;
            self.drain(&mut writing, 0)?;
            if !self.core.borrow().is_handshaking() {
                return Ok(noted);
            }
            self.fit_before_wait();
            if reading.call(|socket| socket.fill_once(&mut self.core.borrow_mut().incoming))? == 0 {
                self.core.borrow_mut().end()?;
            }
        }
    }

    fn turns(&self) -> io::Result<(Turn<'_>, Turn<'_>)> {
        let socket = self.io.descriptor();
        Ok((socket.reading()?, socket.writing()?))
    }

    /// Reads until there is more plaintext. 0 is the end.
    pub(super) fn more(&self, reading: &mut Turn<'_>) -> io::Result<usize> {
        let before = self.core.borrow().plain.len();
        loop {
            let result = self.advance(Want::Nothing);
            self.send_if_free();
            let (len, closed) = {
                let core = self.core.borrow();
                (core.plain.len(), core.life.peer_closed)
            };
            // What came before an error is read before it.
            if len > before {
                return Ok(len - before);
            }
            result?;
            if closed || self.receive(reading)? == Some(0) {
                return Ok(self.core.borrow_mut().end()?);
            }
        }
    }

    /// Reads from the socket once. `None`: it had to wait, and then there may be something else to look at.
    fn receive(&self, reading: &mut Turn<'_>) -> io::Result<Option<usize>> {
        let count = reading.attempt(|socket| socket.fill_once(&mut self.core.borrow_mut().incoming))?;
        if count.is_none() {
            self.fit_before_wait();
            reading.sleep()?;
        }
        Ok(count)
    }

    /// Lets rustls use what has come, does what is wanted, and hands over what there is to send.
    pub(super) fn advance(&self, want: Want<'_>) -> Result<(), Error> {
        let mut core = self.core.borrow_mut();
        let result = core.advance(want);
        self.io.descriptor().behind.push(&mut core.outgoing);
        result
    }

    /// After an attach: what was left to be sent goes on.
    pub(super) fn send_left(&self) {
        let socket = self.io.descriptor();
        socket.behind.push(&mut self.core.borrow_mut().outgoing);
        socket.write_behind();
    }

    /// Sends what there is, without waiting, unless a writer does.
    pub(super) fn send_if_free(&self) {
        let socket = self.io.descriptor();
        if !socket.write.is_taken() {
            socket.write_behind();
        }
    }

    /// Part of a record that will have to wait moves to a small block.
    pub(super) fn fit_before_wait(&self) {
        if self.io.descriptor().read_would_block() {
            let mut core = self.core.borrow_mut();
            core.incoming.fit();
            core.plain.fit();
        }
    }

    /// Sends what there is, and waits while more than `allowed` bytes are left. After an error the machine goes on with it.
    fn drain(&self, writing: &mut Turn<'_>, allowed: usize) -> io::Result<()> {
        let behind = &self.io.descriptor().behind;
        while !behind.is_empty() {
            if writing.attempt(Socket::send_behind)?.is_some() {
                continue;
            }
            behind.fit();
            if behind.len() <= allowed {
                break;
            }
            writing.sleep()?;
        }
        Ok(())
    }

    /// Encrypts one record and sends it. How much of `bytes` is in it.
    pub(super) fn send(&self, writing: &mut Turn<'_>, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(RECORD)];
        let behind = &self.io.descriptor().behind;
        self.drain(writing, behind.allowed())?;
        if bytes.is_empty() {
            return Ok(0);
        }
        self.make(Want::Encrypt(bytes))?;
        // With marks it is the next writer who waits.
        match self.drain(writing, behind.high().map_or(0, |_| usize::MAX)) {
            Err(error) if !is_of_caller(&error) => Err(error),
            // What was encrypted is written, whoever sends it.
            _ => Ok(bytes.len()),
        }
    }

    /// Waits until all that was written is with the system.
    pub(super) fn send_rest(&self) -> io::Result<()> {
        self.drain(&mut self.io.descriptor().writing()?, 0)
    }

    /// Has rustls make a record. The caller has the turn to write.
    pub(super) fn make(&self, want: Want<'_>) -> io::Result<()> {
        if self.core.borrow().life.closed {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "TLS: written after close_write"));
        }
        // A reader that waits has used all that had come, so there is nothing to uncover that it would have to be told of.
        let result = self.advance(want);
        if result.is_err() {
            let socket = self.io.descriptor();
            socket.write_behind();
            // A read has an error to tell of too.
            socket.read.wake_watchers(socket.machine());
        }
        Ok(result?)
    }

    /// Tells the peer that nothing more comes (`close_notify`, then the end of the stream below); reading goes on.
    ///
    /// Out of reach of deadlines and cancellation, but for at most `Tuning::tls_close`. A second time does nothing.
    ///
    /// # Errors
    /// The socket's, but not that the peer has gone after its own last word; `TimedOut` if it takes nothing for that long.
    pub fn close_write(&self) -> io::Result<()> {
        self.io.descriptor().here()?;
        let limit = self.io.descriptor().machine().tuning.tls_close;
        shield(|| time::timeout(limit, || self.say_goodbye()))
    }

    fn say_goodbye(&self) -> io::Result<()> {
        let socket = self.io.descriptor();
        let mut writing = socket.writing()?;
        self.drain(&mut writing, 0)?;
        let closed = self.core.borrow().life.closed;
        if !closed {
            self.make(Want::CloseNotify)?;
        }
        let said = self.drain(&mut writing, 0);
        match said.and_then(|()| Ok(socket.kernel().shutdown(socket.fd(), Shutdown::Write)?)) {
            // The peer had said its last word and has gone: nobody is left to hear ours.
            Err(error) if self.core.borrow().life.peer_closed && has_gone(&error) => Ok(()),
            result => result,
        }
    }

    /// [`close_write`](Self::close_write), and the end of the connection. What has come and was not read is thrown away.
    ///
    /// It does not wait for the peer. As on TCP, what the peer sends afterwards resets the connection, and may cost it what it has
    /// not read yet (a TLS 1.3 server sends tickets after each handshake): who must be sure calls `close_write` and reads
    /// to the end.
    ///
    /// # Errors
    /// As `close_write`.
    pub fn close(self) -> io::Result<()> {
        let result = self.close_write();
        // A socket that is closed with bytes unread resets the connection, and the peer may lose what it has not read.
        let socket = self.io.descriptor();
        let mut rest = Buffer::new(POOL.get());
        if let Some(mut reading) = Turn::if_free(socket, &socket.read) {
            while let Ok(Some(1..)) = reading.attempt(|socket| socket.fill_once(&mut rest)) {
                rest.consume(rest.len());
            }
        }
        result
    }

    /// The stream below: for its addresses, options and timeouts. Bytes read or written there break the connection.
    pub fn get_ref(&self) -> &S {
        &self.io
    }

    /// The peer's certificates, its own first; empty if it has shown none.
    pub fn peer_certificates(&self) -> Vec<CertificateDer<'static>> {
        self.common(|common| common.peer_certificates().unwrap_or_default().to_vec())
    }

    /// The application protocol that was agreed on.
    pub fn alpn(&self) -> Option<Vec<u8>> {
        self.common(|common| common.alpn_protocol().map(<[u8]>::to_vec))
    }

    /// Which TLS it is.
    pub fn protocol_version(&self) -> ProtocolVersion {
        self.common(CommonState::protocol_version).expect("agreed on in the handshake")
    }

    /// How it is encrypted.
    pub fn cipher_suite(&self) -> SupportedCipherSuite {
        self.common(CommonState::negotiated_cipher_suite).expect("agreed on in the handshake")
    }

    /// Whether it was agreed on anew or resumed.
    pub fn handshake_kind(&self) -> HandshakeKind {
        self.common(CommonState::handshake_kind).expect("agreed on in the handshake")
    }

    /// On a server: the name that the client has asked for (SNI).
    pub fn server_name(&self) -> Option<&str> {
        self.noted.server_name.as_deref()
    }

    /// What binds a login to this connection, `tls-server-end-point`: see [`server_end_point`]. The same on both sides.
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        match &self.noted.certificate {
            Some(own) => server_end_point(own),
            None => self.common(|common| {
                common.peer_certificates()?.first().and_then(|first| server_end_point(first))
            }),
        }
    }

    fn common<R>(&self, look: impl FnOnce(&CommonState) -> R) -> R {
        look(self.core.borrow().common())
    }
}

impl<S: Connected> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = self.core.borrow().life.clone();
        f.debug_struct("TlsStream").field("io", &self.io).field("life", &life).finish()
    }
}
