//! This library's TLS.

use machinarium::net::UnixStream;
use machinarium::spawn;
use machinarium::tls::{ClientConfig, ServerConfig, TlsStream};

use super::{RECORD, RECORDS, Sides};
use crate::case::Metric;
use crate::window::{on_machine, timed};

type Tls = TlsStream<UnixStream>;

fn connect(client: &ClientConfig, server: &ServerConfig) -> std::io::Result<(Tls, Tls)> {
    let (ours, theirs) = UnixStream::pair()?;
    let server = server.clone();
    let accepting = spawn(move || server.accept(theirs));
    let ours = client.connect(ours, "localhost")?;
    Ok((ours, accepting.join()??))
}

pub fn handshakes() -> Vec<Metric> {
    let sides = Sides::new();
    on_machine(|| {
        let (client, server) = (ClientConfig::from(sides.client), ServerConfig::from(sides.server));
        timed(1, || drop(connect(&client, &server).expect("a handshake")))
    })
}

pub fn records() -> Vec<Metric> {
    let sides = Sides::new();
    on_machine(|| {
        let (client, server) = (ClientConfig::from(sides.client), ServerConfig::from(sides.server));
        let (client, server) = connect(&client, &server).expect("a handshake");
        let (sent, mut received) = (vec![7; RECORD], vec![0; RECORD]);
        timed(RECORDS, || {
            for _ in 0..RECORDS {
                client.write_all(&sent).expect("a peer");
                server.read_exact(&mut received).expect("a peer");
            }
        })
    })
}
