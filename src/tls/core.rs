//! The TLS of one stream without its socket: rustls' unbuffered connection, and three buffers around it.
//!
//! ```text
//!  socket -> incoming -> | rustls | -> plain -> reader
//!  socket <- outgoing <- | rustls | <- writer
//! ```
//!
//! Both directions run the same loop, [`Core::advance`]: it gives rustls all that has come, puts the plaintext of it behind
//! `plain`, and what rustls wants to say behind `outgoing`, until rustls wants more; then it does the one thing that the
//! caller is after: nothing, encrypt, or say goodbye. So a writer may uncover plaintext, which waits for the reader, and a
//! reader may make ciphertext, which goes out before any that is made later.
//!
//! | buffer | holds | gives its memory back |
//! |---|---|---|
//! | incoming | part of a record, or of a handshake message, decrypted in place | when rustls has used it |
//! | plain | what a reader has not taken | when a reader has |
//! | outgoing | what the socket has not taken | when the socket has |
//!
//! rustls remembers places in `incoming` (fragments of a message), so it is always given this buffer, as it was left.
//! Nothing here waits, and whoever borrows a `Core` does not either.

use std::panic::AssertUnwindSafe;

use rustls::CommonState;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use super::error::{During, Error};
use crate::io::Buffer;

/// One end of a connection.
pub(crate) enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// See the head of the file.
pub(crate) struct Core {
    pub(crate) connection: Box<Connection>,
    pub(crate) incoming: Buffer,
    pub(crate) plain: Buffer,
    pub(crate) outgoing: Buffer,
    pub(crate) life: Life,
}

/// How far the connection is.
#[derive(Clone, Default, Debug)]
pub(crate) struct Life {
    /// The peer has said that it sends nothing more.
    pub(crate) peer_closed: bool,
    /// We have said so.
    pub(crate) closed: bool,
    /// Nothing more can be read or written.
    pub(crate) failed: Option<Error>,
}

/// What a caller is after.
#[derive(Clone, Copy)]
pub(crate) enum Want<'a> {
    /// That what has come is used.
    Nothing,
    Encrypt(&'a [u8]),
    CloseNotify,
}

/// The most that a message of a handshake may need: 64 KiB, which rustls checks, in records of their own.
const MOST_INCOMING: usize = 256 << 10;

/// How many bytes of plaintext go into one record: as many as may. With what is added, they fit a block of the pool.
pub(crate) const RECORD: usize = 16 << 10;

/// The most that a record, and what may have to go before it, adds to its plaintext.
const OVERHEAD: usize = 96;

impl Core {
    pub(crate) fn new(connection: Connection, buffer: impl Fn() -> Buffer) -> Core {
        Core {
            connection: Box::new(connection),
            incoming: buffer(),
            plain: buffer(),
            outgoing: buffer(),
            life: Life::default(),
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// Uses what has come, then does what is wanted. After an error the connection is over, and its alert is in `outgoing`.
    pub(crate) fn advance(&mut self, want: Want<'_>) -> Result<(), Error> {
        if let Some(error) = &self.life.failed {
            return Err(error.clone());
        }
        let result = self.turn(want);
        if let Err(error) = &result {
            self.life.failed = Some(error.clone());
            self.last_words();
        }
        result
    }

    fn turn(&mut self, mut want: Want<'_>) -> Result<(), Error> {
        while if self.life.closed { self.guarded_step(&mut want) } else { self.step(&mut want) }? {}
        if self.life.peer_closed {
            // What comes after the peer's last word is nobody's.
            self.incoming.consume(self.incoming.len());
        }
        if self.incoming.len() > MOST_INCOMING {
            return Err(Error::Misbehaved(rustls::InvalidMessage::MessageTooLarge.into()));
        }
        Ok(())
    }

    /// A step after our goodbye. To rustls with debug assertions, an alert about what the peer sends then is one too many, and it
    /// panics: a peer could do that at any time.
    fn guarded_step(&mut self, want: &mut Want<'_>) -> Result<bool, Error> {
        let step = AssertUnwindSafe(|| self.step(want));
        let panicked = rustls::Error::General("rustls has panicked over it, after close_notify".to_owned());
        // What was in the middle of something is not used again: the connection has failed.
        std::panic::catch_unwind(step).unwrap_or(Err(Error::Misbehaved(panicked)))
    }

    /// One state of rustls. Whether there is another.
    fn step(&mut self, want: &mut Want<'_>) -> Result<bool, Error> {
        let Core { connection, incoming, plain, outgoing, life } = self;
        let bytes = incoming.bytes_mut();
        let (discard, more) = match &mut **connection {
            Connection::Client(client) => {
                handle(client.process_tls_records(bytes), plain, outgoing, life, want)
            }
            Connection::Server(server) => {
                handle(server.process_tls_records(bytes), plain, outgoing, life, want)
            }
        };
        incoming.consume(discard);
        more
    }

    /// Collects the alert that rustls has made with its error, and no more: to use what has come after an error once more would
    /// make a second alert, which is a bug to rustls, and it panics.
    fn last_words(&mut self) {
        while self.common().wants_write() && self.step(&mut Want::Nothing).is_ok() {}
        self.incoming.consume(self.incoming.len());
    }

    pub(crate) fn common(&self) -> &CommonState {
        match &*self.connection {
            Connection::Client(client) => client,
            Connection::Server(server) => server,
        }
    }

    /// The connection has ended below TLS. 0 if TLS had ended before.
    pub(crate) fn end(&mut self) -> Result<usize, Error> {
        if self.life.peer_closed {
            return Ok(0);
        }
        let during = match (self.is_handshaking(), self.incoming.is_empty()) {
            (true, _) => During::Handshake,
            (false, false) => During::Record,
            (false, true) => During::Data,
        };
        Err(Error::Truncated(during))
    }
}

/// Does what a state of rustls asks for. How much of `incoming` is used, and whether there is another state to come.
fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut Buffer,
    outgoing: &mut Buffer,
    life: &mut Life,
    want: &mut Want<'_>,
) -> (usize, Result<bool, Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let more = match state {
        Err(error) => Err(error.into()),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Ok(true),
                Some(Err(error)) => break Err(error.into()),
                Some(Ok(record)) => {
                    discard += record.discard;
                    plain.extend(record.payload);
                }
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            write(outgoing, OVERHEAD, |room| data.encode(room).map_err(Short::from)).map(|()| true)
        }
        // It is in `outgoing`, from which nothing is lost but with the connection.
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(true)
        }
        Ok(ConnectionState::PeerClosed) => {
            life.peer_closed = true;
            Ok(true)
        }
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match std::mem::replace(want, Want::Nothing) {
            Want::Nothing => Ok(false),
            Want::Encrypt(bytes) => write(outgoing, bytes.len() + OVERHEAD, |room| {
                traffic.encrypt(bytes, room).map_err(Short::from)
            })
            .map(|()| false),
            Want::CloseNotify => {
                life.closed = true;
                write(outgoing, OVERHEAD, |room| traffic.queue_close_notify(room).map_err(Short::from))
                    .map(|()| false)
            }
        },
        // Early data is refused by every configuration that comes here; the handshake waits; both have closed; what later
        // versions of rustls may add has no effect that is known.
        Ok(_) => Ok(false),
    };
    (discard, more)
}

/// Why rustls did not write into the room that it was given.
enum Short {
    /// It needs so much.
    Room(usize),
    Failed(Error),
}

impl From<EncodeError> for Short {
    fn from(error: EncodeError) -> Short {
        match error {
            EncodeError::InsufficientSize(short) => Short::Room(short.required_size),
            EncodeError::AlreadyEncoded => {
                Short::Failed(Error::Local(rustls::Error::General(error.to_string())))
            }
        }
    }
}

impl From<EncryptError> for Short {
    fn from(error: EncryptError) -> Short {
        match error {
            EncryptError::InsufficientSize(short) => Short::Room(short.required_size),
            EncryptError::EncryptExhausted => Short::Failed(Error::Local(rustls::Error::EncryptError)),
        }
    }
}

/// Appends to `outgoing` what `make` writes, in as much room as it turns out to need.
fn write(
    outgoing: &mut Buffer,
    room: usize,
    mut make: impl FnMut(&mut [u8]) -> Result<usize, Short>,
) -> Result<(), Error> {
    let needed = match outgoing.fill_room(room, &mut make) {
        Ok(_) => return Ok(()),
        Err(Short::Failed(error)) => return Err(error),
        Err(Short::Room(needed)) => needed,
    };
    match outgoing.fill_room(needed, &mut make) {
        Ok(_) => Ok(()),
        Err(Short::Failed(error)) => Err(error),
        Err(Short::Room(_)) => Err(Error::Local(rustls::Error::General("no room is enough".to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::POOL;
    use crate::net::{TcpListener, TcpStream};
    use crate::tls::{ClientConfig, ServerConfig, TlsStream, Verify};

    /// Both ends of a connection, after a byte has gone each way.
    fn pair() -> (TlsStream, TlsStream) {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let server = ServerConfig::builder()
            .certificate_pem(key.cert.pem(), key.signing_key.serialize_pem())
            .build()
            .unwrap();
        let client = ClientConfig::builder().verify(Verify::Nothing).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = crate::spawn(move || server.accept(listener.accept().unwrap().0).unwrap());
        let client = client.connect(TcpStream::connect(address).unwrap(), "localhost").unwrap();
        let server = accepted.join().unwrap();
        for (from, to) in [(&client, &server), (&server, &client)] {
            from.write_all(b"x").unwrap();
            to.read_exact(&mut [0; 1]).unwrap();
        }
        (client, server)
    }

    fn in_machine(body: impl FnOnce()) {
        let result: std::io::Result<()> = crate::run(|| {
            body();
            Ok(())
        });
        result.unwrap();
    }

    #[test]
    fn an_idle_stream_holds_no_buffers() {
        in_machine(|| {
            let streams: Vec<_> = (0..3).map(|_| pair()).collect();
            assert_eq!(POOL.get().out(), 0);
            drop(streams);
        });
    }

    /// What a peer pins by stopping is about what it has sent.
    #[test]
    fn part_of_a_record_is_in_a_small_block() {
        in_machine(|| {
            for (part, most) in [(1, 64), (5, 64), (1000, 1024), (2000, 2048)] {
                let (client, server) = pair();
                server.get_ref().set_nodelay(true).unwrap();
                server
                    .get_ref()
                    .write_all(&[&[23, 3, 3, 0x40, 0][..], &vec![0; part - 1]].concat()[..part])
                    .unwrap();
                let mut nothing = [0; 1];
                let waited =
                    crate::timeout(std::time::Duration::from_millis(20), || client.read_exact(&mut nothing));
                assert_eq!(waited.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
                assert_eq!(client.core.borrow().incoming.len(), part);
                assert!(POOL.get().out() <= most, "{part} bytes hold {}", POOL.get().out());
            }
        });
    }

    /// A message of a handshake that goes on and on is refused before it is long.
    #[test]
    fn an_endless_message_is_refused() {
        in_machine(|| {
            let (client_end, server_end) = {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                (client, listener.accept().unwrap().0)
            };
            let client = ClientConfig::builder().verify(Verify::Nothing).build().unwrap();
            let connecting = crate::spawn(move || client.connect(client_end, "localhost"));
            // The hello of a server, nearly as long as rustls takes one, in records of one byte.
            let message = [2, 0, 0xff, 0xf0].into_iter().chain(std::iter::repeat(0));
            for byte in message.take(0xffff) {
                if server_end.write_all(&[22, 3, 3, 0, 1, byte]).is_err() {
                    break;
                }
            }
            let error = connecting.join().unwrap().unwrap_err();
            let error = crate::tls::Error::of(&error).expect("an error of TLS");
            assert_eq!(*error, Error::Misbehaved(rustls::InvalidMessage::MessageTooLarge.into()));
        });
    }
}
