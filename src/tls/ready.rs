//! Whether a `TlsStream` has something to read, or takes something, as cases of a select.
//!
//! That the socket can be read says little: what comes may be part of a record, or a ticket, and what came before may lie decrypted here.
//! So a look does what a read does, short of waiting and of taking: it reads from the socket and lets rustls use that, until there is
//! plaintext, or an end, or an error. All of it stays where a read looks first.

use std::rc::Rc;

use super::core::Want;
use super::stream::TlsStream;
use crate::net::{Connected, Inlet, Look, Readable, Socket, Writable};

impl<S: Connected> TlsStream<S> {
    /// A case of [`select`](crate::sync::select()) that is chosen when a read would not wait: plaintext, the end or an error is there,
    /// and nobody else is in a read. Part of a record is none of these, nor is what TLS says for itself. On another machine it is
    /// chosen at once, and the read says what is wrong.
    ///
    /// To know that, it reads and decrypts, up to the first plaintext, and answers the peer where TLS must. What it has found is the
    /// next read's, whoever calls it.
    ///
    /// ```
    /// use machinarium::net::{TcpListener, TcpStream};
    /// use machinarium::tls::{ClientConfig, ServerConfig, Verify};
    /// use std::time::Duration;
    ///
    /// let result: std::io::Result<()> = machinarium::run(|| {
    ///     let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    ///     let (certificate, key) = (key.cert.pem(), key.signing_key.serialize_pem());
    ///     let config = ServerConfig::builder().certificate_pem(certificate, key).build()?;
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let tcp = TcpStream::connect(listener.local_addr()?)?;
    ///     let server = machinarium::spawn(move || config.accept(listener.accept()?.0));
    ///     let config = ClientConfig::builder().verify(Verify::Nothing).build()?;
    ///     let client = config.connect(tcp, "localhost")?;
    ///     let server = server.join()??;
    ///
    ///     // The server has sent tickets, which are nothing to read.
    ///     let early = machinarium::select! {
    ///         readable(client) => false,
    ///         after(Duration::from_millis(10)) => true,
    ///     }?;
    ///     assert!(early);
    ///     server.write_all(b"x")?;
    ///     client.readable().wait()?;
    ///     client.read_exact(&mut [0; 1])?;
    ///     client.close()
    /// });
    /// result.unwrap();
    /// ```
    pub fn readable(&self) -> Readable<'_> {
        Readable::new(self)
    }

    /// A case of [`select`](crate::sync::select()) that is chosen when, as far as is known, a write of a record would not wait: what was
    /// encrypted is with the system, which has not refused more since it last said that there is room, and nobody else is in a write.
    pub fn writable(&self) -> Writable<'_> {
        Writable::new(self.io.descriptor())
    }

    /// Whether rustls has made something of what has come that a read would tell of.
    fn has_something_to_tell(&self) -> bool {
        let result = self.advance(Want::Nothing);
        self.send_if_free();
        result.is_err() || self.buffered() > 0 || self.core.borrow().life.peer_closed
    }
}

impl<S: Connected> Inlet for TlsStream<S> {
    fn socket(&self) -> &Rc<Socket> {
        self.io.descriptor()
    }

    fn look(&self) -> Look {
        let socket = self.io.descriptor();
        // A peer that sends records without plaintext must not hold the machine.
        for _ in socket.calls_of_a_look() {
            if self.buffered() > 0 || self.has_something_to_tell() {
                return Look::Ready;
            }
            match socket.read_for_next(|socket| socket.fill_once(&mut self.core.borrow_mut().incoming)) {
                Ok(Ok(1..)) => {}
                // The end below TLS stays where it is.
                Ok(Ok(0)) => return Look::Ready,
                Ok(Err(errno)) => {
                    socket.keep_error(errno);
                    return Look::Ready;
                }
                Err(look) => {
                    self.fit_before_wait();
                    return look;
                }
            }
        }
        Look::Again
    }
}
