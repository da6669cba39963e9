//! The script of a world: a server of one to three machines, clients over TCP and TLS on their own hosts and one over a
//! Unix socket on the server's, and some seconds in which links are cut and hosts crash, stall and come back. Then all is
//! well again, and within a minute each client must have had one session from its first byte to its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use machinarium_sim::cli::Program;
use machinarium_sim::{Cpu, Durations, Faults, Host, World};

use crate::certificates::PEM;
use crate::common::hunt::{roll, terminate};
use crate::common::init::keep_starting;
use crate::common::place::{Certificate, UnixAddress};
use crate::config::{Bug, Config};
use crate::server;
use crate::workload::{self, Task, Way};

/// What is hunted.
pub(crate) fn program() -> Program<Bug> {
    Program::new("echo", "cargo run --release --example echo --", script).faults(Faults::swarm())
}

fn script(world: &World, bug: Option<Bug>) {
    world.cpu([Cpu::Ideal, Cpu::Loaded, Cpu::Loaded, Cpu::Starved][world.random(4) as usize]);
    let server = world.host("server");
    let [tcp, tls] = [7000, 7443].map(|port| SocketAddr::new(server.address(), port));
    let config = config(world, tcp, tls, bug);
    let local = Arc::new(AtomicBool::new(false));
    let local_task = task(world, Way::Unix(UnixAddress::parse("@echo")));
    let done = local.clone();
    let server = server.run(move || serve(&config, &local_task, &done));
    let clients: Vec<Host> = (0..2 + world.random(3) as usize)
        .map(|number| {
            let task = task(world, if number % 2 == 0 { Way::Tls(tls) } else { Way::Tcp(tcp) });
            world.host(&format!("client{number}")).run(move || workload::client(&task))
        })
        .collect();
    disasters(world, &server, &clients);
    world.eventually(60.secs(), || clients.iter().all(Host::finished) && local.load(Relaxed));
    terminate(world, &server);
}

fn task(world: &World, way: Way) -> Task {
    Task { way, seed: world.random(1 << 32), sessions: world.random(6) as usize }
}

/// A server as a seed wants it: few or many machines, patient or not.
fn config(world: &World, tcp: SocketAddr, tls: SocketAddr, bug: Option<Bug>) -> Config {
    let pair = &PEM.localhost;
    Config {
        tcp: Some(tcp),
        tls: Some((tls, Certificate::Pem(pair.certificate.clone(), pair.key.clone()))),
        unix: Some(UnixAddress::parse("@echo")),
        machines: 1 + world.random(3) as usize,
        clients: 100,
        idle: (world.random(4) == 3).then(|| (200 << world.random(4)).millis()),
        drain: (1 << world.random(12)).millis(),
        say: |_| {},
        bug,
    }
}

/// The main function of the server's host. What has begun to serve must go on.
fn serve(config: &Config, task: &Task, done: &Arc<AtomicBool>) -> io::Result<()> {
    keep_starting(|begun| {
        server::serve(config, |_| {
            begun.set(true);
            let (task, done) = (task.clone(), done.clone());
            machinarium::spawn_named("unix client", move || {
                // It is cancelled with its server, and begins again with the next.
                done.fetch_or(workload::work(&task).is_ok(), Relaxed);
            });
        })
    })
}

/// Some seconds in which things go wrong.
fn disasters(world: &World, server: &Host, clients: &[Host]) {
    for _ in 0..world.random(8) {
        world.sleep((1 + world.random(800)).millis());
        let client = &clients[world.random(clients.len() as u64) as usize];
        match world.random(10) {
            0 => world.heal(),
            1 => world.partition(server, client),
            2 => world.partition_one_way(server, client),
            3 => world.partition_one_way(client, server),
            4 => server.pause((1 + world.random(300)).millis()),
            5 => client.pause((1 + world.random(300)).millis()),
            6 => die(world, client, Host::crash),
            7 => die(world, server, Host::power_off),
            8 => roll(world, server),
            _ => die(world, server, Host::crash),
        }
    }
}

fn die(world: &World, host: &Host, how: fn(&Host)) {
    if host.finished() {
        return;
    }
    how(host);
    world.sleep(world.random(300).millis());
    host.restart();
}
