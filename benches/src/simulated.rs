//! How fast the simulator is: round trips of an echo between two simulated hosts, each a whole machine of its own.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use machinarium::net::{TcpListener, TcpStream};
use machinarium_sim::{Fault, Faults, Simulation};

use crate::case::{Case, Metric, metric};
use crate::process::pin;

const PORT: u16 = 7000;
const CLIENTS: usize = 16;
const TRIPS: usize = 2_000;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("simulated/echo", "no faults", || simulated(Faults::none())),
        Case::new("simulated/echo", "all faults", || simulated(survivable())),
    ]
}

/// All faults but those that a client which does not try again cannot survive, and those that have the network wait.
fn survivable() -> Faults {
    let others = [Fault::Reset, Fault::Unreachable, Fault::Ports, Fault::Backlog, Fault::Late, Fault::Bandwidth];
    others.into_iter().fold(Faults::all(), Faults::without)
}

fn simulated(faults: Faults) -> Vec<Metric> {
    pin(0);
    let start = Instant::now();
    let outcome = Simulation::new(1).faults(faults).run(|world| {
        let (server, listening) = (world.host("server"), Arc::new(AtomicBool::new(false)));
        let (address, bound) = (SocketAddr::new(server.address(), PORT), listening.clone());
        let _server = server.run(move || machinarium::run(|| serve(address, &bound)));
        // No client before that: should a host's address ever reach the real kernel, the server fails to bind it, the run
        // fails, and nobody has connected to a stranger of that address.
        while !listening.load(Ordering::Relaxed) {
            world.sleep(Duration::from_millis(1));
        }
        let client = world.host("client").run(move || machinarium::run(|| clients(address)));
        while !client.finished() {
            world.sleep(Duration::from_secs(1));
        }
    });
    assert!(outcome.passed(), "{}", outcome.report("cargo run --release -- simulated"));
    let seconds = start.elapsed().as_secs_f64();
    vec![
        metric("round trips/s", (CLIENTS * TRIPS) as f64 / seconds),
        metric("kernel calls/s", outcome.stats.calls as f64 / seconds),
    ]
}

fn serve(address: SocketAddr, bound: &AtomicBool) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    bound.store(true, Ordering::Relaxed);
    loop {
        let (stream, _) = listener.accept()?;
        drop(machinarium::spawn(move || crate::echo::machinarium::echo(&stream)));
    }
}

fn clients(address: SocketAddr) -> std::io::Result<()> {
    let all: Vec<_> = (0..CLIENTS).map(|_| machinarium::spawn(move || client(address))).collect();
    for one in all {
        one.join().expect("no panic, no cancellation")?;
    }
    Ok(())
}

fn client(address: SocketAddr) -> std::io::Result<()> {
    let stream = TcpStream::connect(address)?;
    let mut answer = [0; 64];
    for trip in 0..TRIPS {
        let request = [trip as u8; 64];
        stream.write_all(&request).map_err(std::io::Error::other)?;
        Read::read_exact(&mut &stream, &mut answer)?;
        assert_eq!(request, answer);
    }
    Ok(())
}
