//! madsim: tokio's names over futures and messages. No kernel; a write is one message, of any size.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use madsim::net::{TcpListener, TcpStream};
use madsim::runtime::{Handle, Runtime};
use peers::{Shape, all, ask, echo, measure};

fn main() {
    measure(world);
}

fn world(shape: Shape, seed: u64) {
    Runtime::with_seed_and_config(seed, madsim::Config::default()).block_on(async move {
        for number in 0..shape.servers {
            let address = address(number);
            drop(Handle::current().create_node().ip(address.ip()).build().spawn(serve(address)));
        }
        madsim::time::sleep(Duration::from_secs(1)).await;
        let client = |number| {
            let own = address(shape.servers + number).ip();
            let server = address(shape.server_of(number));
            let connection = async move || ask(TcpStream::connect(server).await?, shape.trips).await;
            let node = Handle::current().create_node().ip(own).build();
            node.spawn(async move { all((0..shape.connections).map(|_| connection())).await })
        };
        let clients: Vec<_> = (0..shape.clients).map(client).collect();
        for client in clients {
            client.await.expect("no panic").expect("no error");
        }
    });
}

async fn serve(address: SocketAddr) {
    let listener = TcpListener::bind(address).await.expect("a free port");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        drop(madsim::task::spawn(echo(stream)));
    }
}

fn address(number: usize) -> SocketAddr {
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 1));
    SocketAddr::new(Ipv4Addr::from(first + number as u32).into(), 7000)
}
