//! turmoil: a tokio runtime for each host, all of them stepped by ticks of a millisecond. Messages take one tick.

use std::time::Duration;

use peers::{Shape, all, ask, echo, measure};
use turmoil::net::{TcpListener, TcpStream};

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

const TICK: Duration = Duration::from_millis(1);
const PORT: u16 = 7000;

fn main() {
    measure(world);
}

fn world(shape: Shape, seed: u64) {
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .min_message_latency(TICK)
        .max_message_latency(TICK)
        .simulation_duration(Duration::MAX)
        .build();
    for number in 0..shape.servers {
        sim.host(format!("server{number}"), serve);
    }
    for number in 0..shape.clients {
        let server = format!("server{}", shape.server_of(number));
        sim.client(format!("client{number}"), async move {
            let server = (server, PORT);
            let connection = || async { ask(TcpStream::connect(server.clone()).await?, shape.trips).await };
            Ok(all((0..shape.connections).map(|_| connection())).await?)
        });
    }
    sim.run().expect("no error");
}

async fn serve() -> Result {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        drop(tokio::spawn(echo(stream)));
    }
}
