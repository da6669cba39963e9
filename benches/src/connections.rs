//! What an idle connection costs its server: resident memory and page tables of the process for each of 2,000 that have echoed one request
//! and then say nothing for four seconds, plain and with TLS. What the system keeps for a socket is not in it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use machinarium::net::TcpListener;
use rustls::{ClientConnection, StreamOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::case::{Case, Metric, metric};
use crate::process::{memory_of, pin};
use crate::server::{Server, announce_with};
use crate::tls::{self, Sides};

const COUNT: usize = 2_000;
/// After which a machine has given back what a handshake took of stacks (`Tuning::stack_trim`).
const SETTLED: Duration = Duration::from_secs(4);
/// Before counting begins: what is made once.
const WARM_UP: usize = 64;

/// All cases.
pub fn cases() -> Vec<Case> {
    let plain = ["epoll", "machinarium", "tokio"];
    let tls = ["machinarium", "tokio"];
    let plain =
        plain.map(|peer| Case::new("connection/plain", peer, move || measure(&["--server", peer], plainly)));
    let tls =
        tls.map(|peer| Case::new("connection/tls", peer, move || measure(&["--tls-server", peer], with_tls)));
    plain.into_iter().chain(tls).map(|case| case.at_most(3)).collect()
}

fn measure<C>(arguments: &[&str], connect: fn(&Server) -> io::Result<C>) -> Vec<Metric> {
    let server = Server::start(arguments);
    let connect = |_| connect(&server).expect("a server that answers");
    let mut open: Vec<C> = (0..WARM_UP).map(connect).collect();
    let before = memory_of(server.id());
    open.extend((0..COUNT).map(connect));
    thread::sleep(SETTLED);
    vec![metric("bytes each", (memory_of(server.id()) - before) / COUNT as f64)]
}

fn connect(server: &Server) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server.address)?;
    // Else the end of a handshake waits for an acknowledgement that is delayed.
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn plainly(server: &Server) -> io::Result<TcpStream> {
    let mut stream = connect(server)?;
    say(&mut stream)?;
    Ok(stream)
}

fn with_tls(server: &Server) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let config = tls::client(server.certificate.clone().expect("a server with TLS"));
    let client = ClientConnection::new(config, tls::name()).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(client, connect(server)?);
    say(&mut stream)?;
    Ok(stream)
}

fn say(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(&[7; 64])?;
    stream.read_exact(&mut [0; 64])
}

/// Is the server with TLS, until killed.
pub fn serve(peer: &str) -> ExitCode {
    pin(0);
    let end = match peer {
        "machinarium" => machinarium(),
        "tokio" => tokio(),
        _ => Err(io::Error::other("no such server")),
    };
    eprintln!("the {peer} server has ended: {end:?}");
    ExitCode::FAILURE
}

fn machinarium() -> io::Result<()> {
    machinarium::run(|| {
        let sides = Sides::new();
        let config = machinarium::tls::ServerConfig::from(sides.server);
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        announce_with(listener.local_addr()?, &sides.certificate);
        loop {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            let config = config.clone();
            machinarium::spawn(move || -> io::Result<()> {
                let stream = config.accept(stream)?;
                let mut buffer = [0; 1024];
                loop {
                    match Read::read(&mut &stream, &mut buffer)? {
                        0 => return Ok(()),
                        count => stream.write_all(&buffer[..count]).map_err(io::Error::other)?,
                    }
                }
            });
        }
    })
}

fn tokio() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let sides = Sides::new();
    let acceptor = tokio_rustls::TlsAcceptor::from(sides.server);
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        announce_with(listener.local_addr()?, &sides.certificate);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut buffer = [0; 1024];
                loop {
                    match stream.read(&mut buffer).await? {
                        0 => return io::Result::Ok(()),
                        count => stream.write_all(&buffer[..count]).await?,
                    }
                }
            });
        }
    })
}
