//! The worlds of this simulator: every host runs a machine, as a program in production would.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use machinarium::net::{TcpListener, TcpStream};
use machinarium_sim::{Fault, Faults, Host, Outcome, Simulation, World};

use super::Shape;
use crate::case::{Case, Metric, metric};
use crate::process::{memory, pin, processor_time};

const PORT: u16 = 7000;

/// As a check runs its seeds: latencies and orders differ.
pub(super) fn case(group: &str, shape: Shape) -> Case {
    Case::new(group, "machinarium", move || vec![measure(shape, Faults::default())])
}

/// The same, and with no chance at all, and with all faults.
pub(super) fn with_faults(group: &str, shape: Shape) -> Vec<Case> {
    let same = |peer, faults: fn() -> Faults| Case::new(group, peer, move || vec![measure(shape, faults())]);
    vec![case(group, shape), same("no faults", Faults::none), same("all faults", survivable)]
}

/// A world for which it is a question whether it fits at all.
pub(super) fn large(group: &str, shape: Shape) -> Case {
    let measure = move || {
        let mut metrics = vec![measure(shape, Faults::default())];
        metrics.push(metric("MB", memory() / 1e6));
        metrics
    };
    Case::new(group, "machinarium", measure).at_most(3)
}

/// All faults but those that a client which does not try again cannot survive, and those that have the network wait.
fn survivable() -> Faults {
    let others = [
        Fault::Reset,
        Fault::Unreachable,
        Fault::Ports,
        Fault::Emfile,
        Fault::Enfile,
        Fault::Memory,
        Fault::Backlog,
        Fault::Late,
        Fault::Bandwidth,
    ];
    others.into_iter().fold(Faults::all(), Faults::without)
}

pub(super) fn measure(shape: Shape, faults: Faults) -> Metric {
    pin(0);
    let used = || processor_time(std::process::id());
    let before = used();
    for seed in 1..=shape.worlds {
        let outcome = run(shape, seed as u64, faults);
        assert!(outcome.passed(), "{}", outcome.report("cargo run --release -- simulated"));
    }
    shape.rate((used() - before) / 1e9)
}

fn run(shape: Shape, seed: u64, faults: Faults) -> Outcome {
    Simulation::new(seed).faults(faults).run(move |world| {
        let servers = servers(world, shape.servers);
        let client = |number: usize| {
            let address = servers[number % servers.len()];
            world.host("client").run(move || machinarium::run(|| converse(address, shape)))
        };
        let clients: Vec<Host> = (0..shape.clients).map(client).collect();
        clients.iter().for_each(|client| world.join(client));
    })
}

/// Where they listen. No client before that: should a host's address ever reach the real kernel, the server fails to bind it, the
/// run fails, and nobody has connected to a stranger of that address.
fn servers(world: &World, count: usize) -> Vec<SocketAddr> {
    let listening = Arc::new(AtomicUsize::new(0));
    let server = |_| {
        let (host, listening) = (world.host("server"), listening.clone());
        let address = SocketAddr::new(host.address(), PORT);
        let _runs = host.run(move || machinarium::run(|| serve(address, &listening)));
        address
    };
    let addresses = (0..count).map(server).collect();
    while listening.load(Ordering::Relaxed) < count {
        world.sleep(Duration::from_millis(1));
    }
    addresses
}

fn serve(address: SocketAddr, listening: &AtomicUsize) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    listening.fetch_add(1, Ordering::Relaxed);
    loop {
        let (stream, _) = listener.accept()?;
        drop(machinarium::spawn(move || crate::echo::machinarium::echo(&stream)));
    }
}

fn converse(address: SocketAddr, shape: Shape) -> std::io::Result<()> {
    let all: Vec<_> =
        (0..shape.connections).map(|_| machinarium::spawn(move || ask(address, shape.trips))).collect();
    for one in all {
        one.join().expect("no panic, no cancellation")?;
    }
    Ok(())
}

fn ask(address: SocketAddr, trips: usize) -> std::io::Result<()> {
    let stream = TcpStream::connect(address)?;
    let mut answer = [0; 64];
    for trip in 0..trips {
        let request = [trip as u8; 64];
        stream.write_all(&request).map_err(std::io::Error::other)?;
        Read::read_exact(&mut &stream, &mut answer)?;
        assert_eq!(request, answer);
    }
    Ok(())
}
