//! The script of a world: clients of echo (`apps/echo/workload.rs`), a proxy, and an echo server behind it, each link with
//! TLS or without, and some seconds in which links are cut and hosts crash, stall and come back. Then all is well again, and
//! within a minute each client must have had one session from its first byte to its end.

use std::io;
use std::net::SocketAddr;

use machinarium::signal::Signal;
use machinarium_sim::cli::Program;
use machinarium_sim::{Cpu, Durations, Faults, Host, World};

use crate::certificates::PEM;
use crate::common::hunt::{roll, terminate};
use crate::common::init::keep_starting;
use crate::common::place::Certificate;
use crate::config::{Bug, Config, Trust};
use crate::server;
use crate::target;
use crate::workload::{self, Task, Way};

/// What is hunted.
pub(crate) fn program() -> Program<Bug> {
    Program::new("proxy", "cargo run --release --example proxy --", script).faults(Faults::swarm())
}

fn script(world: &World, bug: Option<Bug>) {
    world.cpu([Cpu::Ideal, Cpu::Loaded, Cpu::Loaded, Cpu::Starved][world.random(4) as usize]);
    let [proxy, server] = ["proxy", "server"].map(|name| world.host(name));
    let (front, back) = (SocketAddr::new(proxy.address(), 7000), SocketAddr::new(server.address(), 7001));
    let [front_tls, back_tls] = [0, 1].map(|_| world.random(2) == 0);
    let pair = &PEM.localhost;
    let certificate = Certificate::Pem(pair.certificate.clone(), pair.key.clone());
    let config = Config {
        listen: front,
        accept: front_tls.then(|| certificate.clone()),
        target: back,
        connect: back_tls.then(|| ("localhost".to_owned(), Trust::Pem(PEM.root.clone()))),
        machines: 1 + world.random(3) as usize,
        clients: 100,
        patience: 2.secs(),
        idle: 5.secs(),
        drain: (1 << world.random(12)).millis(),
        say: |_| {},
        bug,
    };
    let proxy = proxy.run(move || keep_starting(|begun| server::serve(&config, |_| begun.set(true))));
    let server = server.run(move || target::serve(back, back_tls.then(|| certificate.clone())));
    let clients: Vec<Host> = (0..1 + world.random(3) as usize)
        .map(|number| {
            let way = if front_tls { Way::Tls(front) } else { Way::Tcp(front) };
            let task = Task { way, seed: world.random(1 << 32), sessions: world.random(6) as usize };
            let main = move || -> io::Result<()> { workload::client(&task) };
            world.host(&format!("client{number}")).run(main)
        })
        .collect();
    disasters(world, &proxy, &server, &clients[0]);
    world.eventually(60.secs(), || clients.iter().all(Host::finished));
    terminate(world, &proxy);
}

/// Some seconds in which things go wrong.
fn disasters(world: &World, proxy: &Host, server: &Host, client: &Host) {
    for _ in 0..world.random(8) {
        world.sleep((1 + world.random(800)).millis());
        let other = if world.random(2) == 0 { server } else { client };
        let dies = [proxy, server][world.random(2) as usize];
        match world.random(10) {
            0 => world.heal(),
            1 => world.partition(proxy, other),
            2 => world.partition_one_way(proxy, other),
            3 => world.partition_one_way(other, proxy),
            4 => proxy.pause((1 + world.random(300)).millis()),
            5 => server.pause((1 + world.random(300)).millis()),
            6 => roll(world, proxy),
            7 => reload(world, proxy),
            _ => {
                dies.crash();
                world.sleep(world.random(300).millis());
                dies.restart();
            }
        }
    }
}

/// One that has only just started knows no signals yet, and dies of this one.
fn reload(world: &World, proxy: &Host) {
    proxy.signal(Signal::Hup);
    world.sleep(200.millis());
    if !proxy.running() {
        proxy.restart();
    }
}
