//! tokio-rustls, on tokio's current-thread runtime.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{RECORD, RECORDS, Sides, name};
use crate::case::Metric;
use crate::window::{on_tokio, timed_async};

type Ends = (client::TlsStream<UnixStream>, server::TlsStream<UnixStream>);

async fn connect(connector: &TlsConnector, acceptor: &TlsAcceptor) -> std::io::Result<Ends> {
    let (ours, theirs) = UnixStream::pair()?;
    smol::future::try_zip(connector.connect(name(), ours), acceptor.accept(theirs)).await
}

pub fn handshakes() -> Vec<Metric> {
    let sides = Sides::new();
    let (connector, acceptor) = (TlsConnector::from(sides.client), TlsAcceptor::from(sides.server));
    on_tokio(timed_async(1, async || drop(connect(&connector, &acceptor).await.expect("a handshake"))))
}

pub fn records() -> Vec<Metric> {
    let sides = Sides::new();
    let (connector, acceptor) = (TlsConnector::from(sides.client), TlsAcceptor::from(sides.server));
    on_tokio(async {
        let (mut client, mut server) = connect(&connector, &acceptor).await.expect("a handshake");
        let (sent, mut received) = (vec![7; RECORD], vec![0; RECORD]);
        timed_async(RECORDS, async || {
            for _ in 0..RECORDS {
                client.write_all(&sent).await.expect("a peer");
                client.flush().await.expect("a peer");
                server.read_exact(&mut received).await.expect("a peer");
            }
        })
        .await
    })
}
