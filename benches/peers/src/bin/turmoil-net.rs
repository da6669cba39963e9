//! turmoil-net: sockets with TCP's states below tokio's names, by its own fixture, which has one client host and many servers.

use std::io;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use peers::{Shape, all, ask, echo, measure};
use turmoil_net::fixture::ClientServer;
use turmoil_net::shim::tokio::net::{TcpListener, TcpStream};

const PORT: u16 = 7000;

fn main() {
    measure(|shape, _| world(shape));
}

fn world(shape: Shape) {
    let mut world = ClientServer::new();
    for number in 0..shape.servers {
        world = world.server(format!("server{number}"), async { serve().await.expect("no error") });
    }
    let connection = move |number: usize| async move {
        let server = format!("server{}:{PORT}", shape.server_of(number));
        ask(TcpStream::connect(server).await?, shape.trips).await
    };
    let connections = (0..shape.clients).flat_map(move |client| vec![client; shape.connections]);
    world.run("client", async move { all(connections.map(connection)).await.expect("no error") });
}

/// In one future: its host is the one that the fixture polls.
async fn serve() -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let mut echoes = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => echoes.push(echo(accepted?.0)),
            Some(ended) = echoes.next() => ended?,
        }
    }
}
