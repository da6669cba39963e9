//! The hunt: the server's own entry point in simulated worlds, one for each seed, with clients that check it.
//!
//! A world has a server of one to three machines, a few clients (`workload.rs`), and a script that for some seconds cuts
//! links, crashes and restarts the server or its whole host, and stalls it, on top of the faults that the swarm of its
//! seed has. Then all is well again: within a minute every client must have read all that it wrote, and the server must
//! stop cleanly when it is asked to. In the end, one order must explain what the clients did to the keys that all of them
//! write (`together.rs`).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use machinarium::net::TcpStream;
use machinarium::{sleep, timeout};
use machinarium_sim::cli::Program;
use machinarium_sim::{Cpu, Durations, Faults, Host, World};

use crate::certificates::PEM;
use crate::client::Client;
use crate::common::hunt::roll;
use crate::common::init::keep_starting;
use crate::common::place::Certificate;
use crate::config::{Bug, Config};
use crate::feed::{self, Published};
use crate::hub::QueueLimits;
use crate::server;
use crate::together::Together;
use crate::workload::{self, Tally, Task};

/// What is hunted.
pub(crate) fn program() -> Program<Bug> {
    Program::new("kv", "cargo run --release --example kv --", script).faults(Faults::swarm())
}

/// What happens in a world.
fn script(world: &World, bug: Option<Bug>) {
    let (tally, together) = (Tally::default(), Together::default());
    world.cpu([Cpu::Ideal, Cpu::Loaded, Cpu::Loaded, Cpu::Starved][world.random(4) as usize]);
    let server = world.host("server");
    let address = SocketAddr::new(server.address(), 6380);
    let encrypted = SocketAddr::new(server.address(), 6381);
    let config = config(world, address, encrypted, bug);
    let server = server.run(move || serve(&config));
    let clients: Vec<Host> = (0..2 + world.random(3) as usize)
        .map(|number| {
            let (seed, sessions) = (world.random(1 << 32), 3 + world.random(10) as usize);
            let tls = number % 3 == 1;
            let server = if tls { encrypted } else { address };
            let (tally, together) = (tally.clone(), together.clone());
            let task = Task { server, tls, number, seed, sessions, tally, together };
            world.host(&format!("client{number}")).run(move || workload::client(&task))
        })
        .collect();
    let published = Published::default();
    let readers = feed(world, [address, encrypted], &published);
    let starts = 1 + disasters(world, &server, &clients);
    world.eventually(60.secs(), || clients.iter().chain(&readers).all(Host::finished));
    let last = world.host("operator").run(move || shut_down(address));
    world.eventually(60.secs(), || last.finished() && server.finished());
    let runs = tally.runs();
    assert!(runs <= starts, "clients met {runs} servers, but it was started {starts} times");
    together.check();
}

/// In some worlds, subscribers and one who publishes.
fn feed(world: &World, [plain, encrypted]: [SocketAddr; 2], published: &Published) -> Vec<Host> {
    if world.random(3) != 0 {
        return Vec::new();
    }
    let enough = 1 + world.random(100) as usize;
    let reader = |number: usize| {
        let tls = number == 2;
        let (server, seed) = (if tls { encrypted } else { plain }, world.random(1 << 32));
        let (tally, together) = (Tally::default(), Together::default());
        let task = Task { server, tls, number, seed, sessions: 0, tally, together };
        let published = published.clone();
        let run = if number == 0 { feed::publisher } else { feed::subscriber };
        world.host(&format!("feed{number}")).run(move || run(&task, &published, enough))
    };
    (0..3).map(reader).collect()
}

/// A server as a seed wants it: few or many machines, patient or not.
fn config(world: &World, address: SocketAddr, encrypted: SocketAddr, bug: Option<Bug>) -> Config {
    let pair = PEM.localhost.clone();
    Config {
        tls: Some((encrypted, Certificate::Pem(pair.certificate, pair.key))),
        machines: 1 + world.random(3) as usize,
        // Small, so that it is met.
        queue: QueueLimits { messages: 1 << world.random(8), bytes: 1 << (8 + world.random(10)) },
        write_timeout: (20 << world.random(6)).millis(),
        peer_timeout: (50 << world.random(6)).millis(),
        idle_timeout: (world.random(4) == 3).then(|| (100 << world.random(4)).millis()),
        hash_seed: world.random(1 << 32),
        bug,
        ..Config::new(address)
    }
}

/// The main function of the server's host. What has begun to serve must end well.
fn serve(config: &Config) -> io::Result<()> {
    keep_starting(|begun| server::serve(config.clone(), |_| begun.set(true)))
}

/// Some seconds in which things go wrong. Returns how often the server was started again.
fn disasters(world: &World, server: &Host, clients: &[Host]) -> usize {
    let mut starts = 0;
    for _ in 0..world.random(8) {
        world.sleep((1 + world.random(800)).millis());
        let client = &clients[world.random(clients.len() as u64) as usize];
        match world.random(9) {
            0 => world.heal(),
            1 => world.partition(server, client),
            2 => world.partition_one_way(server, client),
            3 => world.partition_one_way(client, server),
            4 => server.pause((1 + world.random(300)).millis()),
            5 => client.pause((1 + world.random(300)).millis()),
            6 => {
                roll(world, server);
                starts += 1;
            }
            death => {
                if death == 7 {
                    server.crash();
                } else {
                    server.power_off();
                }
                world.sleep(world.random(300).millis());
                server.restart();
                starts += 1;
            }
        }
    }
    starts
}

/// The main function of the host that ends the server.
fn shut_down(server: SocketAddr) -> io::Result<()> {
    machinarium::run(|| {
        timeout(Duration::from_secs(30), || {
            // The server may have been started again a moment ago, and not listen yet.
            let stream = loop {
                match TcpStream::connect(server) {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => sleep(10.millis())?,
                    other => break other?,
                }
            };
            let mut client = Client::new(stream);
            client.send(&[&[b"SHUTDOWN"]])?;
            // It answers by closing the connection.
            match client.receive() {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                Err(error) => Err(error),
                Ok(answer) => Err(io::Error::other(format!("SHUTDOWN was answered {answer:?}"))),
            }
        })
    })
}
