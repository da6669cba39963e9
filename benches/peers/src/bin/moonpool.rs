//! moonpool-sim: an executor of its own, and providers in place of tokio's names. The world and the executor alone: what builds worlds of
//! processes and workloads lets half of all connects fail, and flips bits.

use std::io;
use std::net::Ipv4Addr;

use futures::io::{AsyncReadExt, AsyncWriteExt};
use moonpool_sim::executor::{Executor, spawn, until_stalled};
use moonpool_sim::{
    ChaosConfiguration, NetworkConfiguration, NetworkProvider, SimNetworkProvider, SimWorld, TcpListenerTrait,
};
use peers::{Shape, measure};

fn main() {
    measure(world);
}

fn world(shape: Shape, seed: u64) {
    let chaos = ChaosConfiguration::disabled();
    let config = NetworkConfiguration { chaos, ..NetworkConfiguration::default() };
    let mut sim = SimWorld::new_with_network_config_and_seed(config, seed);
    Executor::new(seed).block_on(async move {
        let connections =
            || (0..shape.clients).flat_map(|client| (0..shape.connections).map(move |n| (client, n)));
        let address =
            |(client, n): (usize, usize)| address(shape.server_of(client), client * shape.connections + n);
        for connection in connections() {
            drop(spawn("server", serve(sim.network_provider(), address(connection))));
        }
        settle(&mut sim).await;
        let client = |connection| {
            let (network, server) = (sim.network_provider(), address(connection));
            spawn("client", async move { ask(network.connect(&server).await?, shape.trips).await })
        };
        let clients: Vec<_> = connections().map(client).collect();
        settle(&mut sim).await;
        for client in clients {
            client.await.expect("it has ended").expect("no error");
        }
    });
}

/// Until nothing will ever happen.
async fn settle(sim: &mut SimWorld) {
    loop {
        until_stalled().await;
        if !sim.has_pending_events() {
            return;
        }
        sim.step();
    }
}

/// One connection: a listener to which two connect accepts one of them, and then nothing ever happens.
async fn serve(network: SimNetworkProvider, address: String) -> io::Result<()> {
    let (stream, _) = network.bind(&address).await?.accept().await?;
    echo(stream).await
}

fn address(server: usize, port: usize) -> String {
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 1));
    format!("{}:{}", Ipv4Addr::from(first + server as u32), 1000 + port)
}

async fn echo(mut stream: impl futures::AsyncRead + futures::AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}

async fn ask(
    mut stream: impl futures::AsyncRead + futures::AsyncWrite + Unpin,
    trips: usize,
) -> io::Result<()> {
    let mut answer = [0; 64];
    for trip in 0..trips {
        let request = [trip as u8; 64];
        stream.write_all(&request).await?;
        stream.read_exact(&mut answer).await?;
        assert_eq!(request, answer);
    }
    Ok(())
}
