//! The script of a world: a chat server, members, and some seconds in which links are cut and hosts crash, stall, are rolled and come back.
//! Then all is well again, and within a minute every member must have been heard to the end in one stay.

use std::io;
use std::net::SocketAddr;

use machinarium_sim::cli::Program;
use machinarium_sim::{Cpu, Durations, Faults, Host, World};

use crate::common::hunt::{roll, terminate};
use crate::common::init::keep_starting;
use crate::config::{Bug, Config};
use crate::server;
use crate::workload::{self, Task};

/// What is hunted.
pub(crate) fn program() -> Program<Bug> {
    Program::new("chat", "cargo run --release --example chat --", script).faults(Faults::swarm())
}

fn script(world: &World, bug: Option<Bug>) {
    world.cpu([Cpu::Ideal, Cpu::Loaded, Cpu::Loaded, Cpu::Starved][world.random(4) as usize]);
    let server = world.host("server");
    let address = SocketAddr::new(server.address(), 7000);
    let config = Config {
        listen: address,
        machines: 1 + world.random(3) as usize,
        clients: 100,
        // Some are less than what all say at once: then members are cut off, and come again.
        queue: 1 << (6 + world.random(5)),
        drain: (1 << world.random(12)).millis(),
        say: |_| {},
        bug,
    };
    let main =
        move || -> io::Result<()> { keep_starting(|begun| server::serve(&config, |_| begun.set(true))) };
    let server = server.run(main);
    let clients: Vec<Host> = (0..2 + world.random(4) as usize)
        .map(|number| {
            let lines = 1 + world.random(40) as usize;
            let task = Task { server: address, number, seed: world.random(1 << 32), lines };
            world.host(&format!("client{number}")).run(move || workload::client(&task))
        })
        .collect();
    disasters(world, &server, &clients);
    world.eventually(60.secs(), || clients.iter().all(Host::finished));
    terminate(world, &server);
}

/// Some seconds in which things go wrong.
fn disasters(world: &World, server: &Host, clients: &[Host]) {
    for _ in 0..world.random(8) {
        world.sleep((1 + world.random(600)).millis());
        let client = &clients[world.random(clients.len() as u64) as usize];
        match world.random(8) {
            0 => world.heal(),
            1 => world.partition(server, client),
            2 => world.partition_one_way(server, client),
            3 => world.partition_one_way(client, server),
            4 => server.pause((1 + world.random(300)).millis()),
            5 => client.pause((1 + world.random(300)).millis()),
            6 => roll(world, server),
            _ => {
                server.crash();
                world.sleep(world.random(300).millis());
                server.restart();
            }
        }
    }
}
