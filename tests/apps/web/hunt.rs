//! The script of a world: a server of one to three machines with its notes on a disk, clients over http and https, and some seconds in which
//! links are cut and hosts crash, stall, lose their power and come back. Then all is well again, and within a minute each client must have
//! seen all of its notes as they must be, and its news on the feed.

use std::io;
use std::net::SocketAddr;

use machinarium_sim::cli::Program;
use machinarium_sim::{Cpu, Durations, Faults, Host, World};

use crate::certificates::PEM;
use crate::common::hunt::{roll, terminate};
use crate::common::init::keep_starting;
use crate::common::place::Certificate;
use crate::config::{Bug, Config};
use crate::server;
use crate::workload::{self, Task};

/// What is hunted.
pub(crate) fn program() -> Program<Bug> {
    Program::new("web", "cargo run --release --example web --", script).faults(Faults::swarm())
}

fn script(world: &World, bug: Option<Bug>) {
    world.cpu([Cpu::Ideal, Cpu::Loaded, Cpu::Loaded, Cpu::Starved][world.random(4) as usize]);
    let server = world.host("server");
    let [http, https] = [8080, 8443].map(|port| SocketAddr::new(server.address(), port));
    let config = config(world, http, https, bug);
    let main =
        move || -> io::Result<()> { keep_starting(|begun| server::serve(&config, |_| begun.set(true))) };
    let server = server.run(main);
    let clients: Vec<Host> = (0..1 + world.random(3) as usize)
        .map(|number| {
            let (seed, steps) = (world.random(1 << 32), world.random(20) as usize);
            let task = Task { http, https: (number % 2 == 0).then_some(https), number, seed, steps };
            world.host(&format!("client{number}")).run(move || workload::client(&task))
        })
        .collect();
    disasters(world, &server, &clients);
    world.eventually(120.secs(), || clients.iter().all(Host::finished));
    // With a disk that fails at every start the server never begins, and between two starts nobody hears a signal.
    world.faults(Faults::none());
    terminate(world, &server);
}

/// A server as a seed wants it: few or many machines, patient or not.
fn config(world: &World, http: SocketAddr, https: SocketAddr, bug: Option<Bug>) -> Config {
    let pair = &PEM.localhost;
    Config {
        listen: Some(http),
        tls: Some((https, Certificate::Pem(pair.certificate.clone(), pair.key.clone()))),
        notes: Some("/tmp/notes".into()),
        machines: 1 + world.random(3) as usize,
        clients: 100,
        patience: (200 << world.random(6)).millis(),
        drain: (1 << world.random(12)).millis(),
        say: |_| {},
        access: |_| {},
        bug,
    }
}

/// Some seconds in which things go wrong.
fn disasters(world: &World, server: &Host, clients: &[Host]) {
    for _ in 0..world.random(8) {
        world.sleep((1 + world.random(600)).millis());
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
