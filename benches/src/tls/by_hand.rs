//! The limit: rustls' unbuffered API, with one buffer for what comes, decrypted in place, and one for what goes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, UnbufferedConnectionCommon, UnbufferedStatus};

use super::{RECORD, RECORDS, Sides, name};
use crate::case::Metric;
use crate::process::pin;
use crate::window::timed;

/// A record as it is sent, with room to spare.
const SEALED: usize = RECORD + 512;

/// One end of a connection.
struct End<C> {
    connection: C,
    socket: UnixStream,
    incoming: Vec<u8>,
    /// How much of `incoming` is there.
    used: usize,
    outgoing: Vec<u8>,
}

impl<C> End<C> {
    fn new(connection: C, socket: UnixStream) -> End<C> {
        End { connection, socket, incoming: vec![0; 2 * SEALED], used: 0, outgoing: vec![0; SEALED] }
    }

    fn receive(&mut self) {
        let count = self.socket.read(&mut self.incoming[self.used..]).expect("a peer");
        assert!(count > 0, "the peer is there");
        self.used += count;
    }

    fn discard(&mut self, count: usize) {
        self.incoming.copy_within(count..self.used, 0);
        self.used -= count;
    }
}

/// One step of an end, whichever side it is.
macro_rules! end {
    ($data:ident, $connection:ident) => {
        impl End<$connection> {
            /// Shakes hands until the peer has to say something, or until it is done, which is answered.
            fn shake(&mut self) -> bool {
                let mut written = 0;
                loop {
                    let connection: &mut UnbufferedConnectionCommon<$data> = &mut self.connection;
                    let UnbufferedStatus { discard, state } =
                        connection.process_tls_records(&mut self.incoming[..self.used]);
                    let end = match state.expect("a peer that behaves") {
                        ConnectionState::EncodeTlsData(mut data) => {
                            written += data.encode(&mut self.outgoing[written..]).expect("room");
                            None
                        }
                        ConnectionState::TransmitTlsData(data) => {
                            self.socket.write_all(&self.outgoing[..written]).expect("a peer");
                            written = 0;
                            data.done();
                            None
                        }
                        ConnectionState::BlockedHandshake => Some(false),
                        _ => Some(true),
                    };
                    self.discard(discard);
                    if let Some(done) = end {
                        return done;
                    }
                }
            }
        }
    };
}

end!(ClientConnectionData, UnbufferedClientConnection);
end!(ServerConnectionData, UnbufferedServerConnection);

type Ends = (End<UnbufferedClientConnection>, End<UnbufferedServerConnection>);

fn connect(sides: &Sides) -> Ends {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let client = UnbufferedClientConnection::new(sides.client.clone(), name()).expect("a client");
    let server = UnbufferedServerConnection::new(sides.server.clone()).expect("a server");
    let (mut client, mut server) = (End::new(client, ours), End::new(server, theirs));
    let mut done = false;
    while !done {
        client.shake();
        server.receive();
        done = server.shake();
        if !done {
            client.receive();
        }
    }
    (client, server)
}

pub fn handshakes() -> Vec<Metric> {
    pin(0);
    let sides = Sides::new();
    timed(1, || drop(connect(&sides)))
}

pub fn records() -> Vec<Metric> {
    pin(0);
    let (mut client, mut server) = connect(&Sides::new());
    let (sent, mut received) = (vec![7; RECORD], vec![0; RECORD]);
    timed(RECORDS, || {
        for _ in 0..RECORDS {
            send(&mut client, &sent);
            receive(&mut server, &mut received);
        }
    })
}

fn send(client: &mut End<UnbufferedClientConnection>, data: &[u8]) {
    let UnbufferedStatus { state, .. } = client.connection.process_tls_records(&mut []);
    let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else { panic!("it may write") };
    let written = traffic.encrypt(data, &mut client.outgoing).expect("room");
    client.socket.write_all(&client.outgoing[..written]).expect("a peer");
}

fn receive(server: &mut End<UnbufferedServerConnection>, data: &mut [u8]) {
    let mut filled = 0;
    while filled < data.len() {
        server.receive();
        let UnbufferedStatus { mut discard, state } =
            server.connection.process_tls_records(&mut server.incoming[..server.used]);
        match state.expect("a peer that behaves") {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.expect("a peer that behaves");
                    data[filled..filled + record.payload.len()].copy_from_slice(record.payload);
                    filled += record.payload.len();
                    discard += record.discard;
                }
            }
            ConnectionState::WriteTraffic(_) => {}
            other => panic!("{other:?}"),
        }
        server.discard(discard);
    }
}
