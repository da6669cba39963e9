//! What the programs here have in common: five numbers come in, seconds of processor time go out.

use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What a world is like; `../src/simulated` says what each number means.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Hosts that answer.
    pub servers: usize,
    /// Hosts that ask.
    pub clients: usize,
    /// Of each client.
    pub connections: usize,
    /// On each connection.
    pub trips: usize,
    /// One after the other.
    pub worlds: usize,
}

impl Shape {
    /// Which server a client asks.
    pub fn server_of(self, client: usize) -> usize {
        client % self.servers
    }
}

/// Runs what the arguments ask for, and prints what it took. `world` runs one with this seed.
pub fn measure(world: impl Fn(Shape, u64)) {
    measure_all(|shape| (1..=shape.worlds as u64).for_each(|seed| world(shape, seed)));
}

/// The same for those that make one world after the other themselves.
pub fn measure_all(worlds: impl Fn(Shape)) {
    let numbers: Vec<usize> = std::env::args().skip(1).map_while(|word| word.parse().ok()).collect();
    let [servers, clients, connections, trips, count] = numbers[..] else {
        eprintln!("five numbers: servers, clients, connections, trips, worlds");
        std::process::exit(2)
    };
    let before = processor_seconds();
    worlds(Shape { servers, clients, connections, trips, worlds: count });
    println!("{}", processor_seconds() - before);
}

/// What this process has used. Not by a clock: madsim replaces those.
fn processor_seconds() -> f64 {
    // SAFETY: an all-zero rusage is valid, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// A server's side of a connection.
pub async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count]).await?,
        }
        stream.flush().await?;
    }
}

/// A client's.
pub async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, trips: usize) -> io::Result<()> {
    let mut answer = [0; 64];
    for trip in 0..trips {
        let request = [trip as u8; 64];
        stream.write_all(&request).await?;
        stream.flush().await?;
        stream.read_exact(&mut answer).await?;
        assert_eq!(request, answer);
    }
    Ok(())
}

/// All connections of a client at once.
pub async fn all<F: Future<Output = io::Result<()>>>(connections: impl Iterator<Item = F>) -> io::Result<()> {
    futures::future::try_join_all(connections).await.map(drop)
}
