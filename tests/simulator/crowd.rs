//! Large worlds: many hosts, and more connections to one host than may wait at its listener.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use machinarium::net::{TcpListener, TcpStream};
use machinarium::spawn;
use machinarium_sim::{Durations, Host, Simulation, World};

const PORT: u16 = 7000;

/// Gives back what each connection says first.
fn server(world: &World) -> Host {
    world.host("server").run(serve)
}

fn serve() -> io::Result<()> {
    machinarium::run(|| {
        let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT)))?;
        loop {
            let (stream, _) = listener.accept()?;
            drop(spawn(move || echo(&stream)));
        }
    })
}

fn echo(stream: &TcpStream) -> io::Result<()> {
    let mut message = [0; 5];
    stream.read_exact(&mut message)?;
    stream.write_all(&message).map_err(io::Error::other)
}

/// Asks a server on several connections at once, and counts answers.
fn client(world: &World, server: &Host, connections: usize, answers: &Arc<AtomicUsize>) -> Host {
    let (address, answers) = (SocketAddr::new(server.address(), PORT), answers.clone());
    world.host("client").run(move || {
        machinarium::run(|| {
            let ask = |_| {
                let answers = answers.clone();
                spawn(move || {
                    let stream = TcpStream::connect(address)?;
                    stream.write_all(b"hello").map_err(io::Error::other)?;
                    let mut answer = [0; 5];
                    stream.read_exact(&mut answer)?;
                    assert_eq!(&answer, b"hello");
                    answers.fetch_add(1, SeqCst);
                    io::Result::Ok(())
                })
            };
            let all: Vec<_> = (0..connections).map(ask).collect();
            all.into_iter().try_for_each(|one| one.join().map_err(io::Error::from)?)
        })
    })
}

/// A world of so many hosts that answer and that ask, each of these on so many connections: how many answers they see.
fn answers(servers: usize, clients: usize, connections: usize) -> usize {
    let answers = Arc::new(AtomicUsize::new(0));
    let seen = answers.clone();
    let outcome = Simulation::new(1).run(move |world| {
        let servers: Vec<Host> = (0..servers).map(|_| server(world)).collect();
        world.sleep(1.secs());
        let ask = |number| client(world, &servers[number % servers.len()], connections, &answers);
        let clients: Vec<Host> = (0..clients).map(ask).collect();
        clients.iter().for_each(|client| world.join(client));
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    seen.load(SeqCst)
}

#[test]
fn two_thousand_hosts() {
    assert_eq!(answers(1_000, 1_000, 1), 1_000);
}

/// What is dropped at a full listener is sent again, by timers that are late when thousands look at their clocks.
#[test]
fn eight_thousand_connections_to_one_host() {
    assert_eq!(answers(1, 4, 2_000), 8_000);
}
