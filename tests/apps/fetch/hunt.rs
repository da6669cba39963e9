//! The script of a world: a server whose files change and which does much that it should not (`origin.rs`), a client that downloads them, and
//! some seconds in which links are cut and hosts crash, stall, lose their power, are stopped and come back. The client runs until all is
//! there; then the server is as it should be, and within two minutes it must be so.
//!
//! At every moment each file that has its name is one version of what the server had, from its first byte to its last.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use machinarium::signal::Signal;
use machinarium::sleep;
use machinarium_sim::cli::Program;
use machinarium_sim::{Cpu, Durations, Faults, Host, World};

use crate::certificates::PEM;
use crate::common::init::keep_starting;
use crate::common::place::Certificate;
use crate::config::{Bug, Config, Target, Trust};
use crate::origin::{Mark, Origin, OriginFile};
use crate::run::fetch;
use crate::screen::Screen;

/// For which there is a certificate.
const SERVER: &str = "other.example";

/// What is hunted.
pub(crate) fn program() -> Program<Bug> {
    Program::new("fetch", "cargo run --release --example fetch --", script).faults(Faults::swarm())
}

fn script(world: &World, bug: Option<Bug>) {
    world.cpu([Cpu::Ideal, Cpu::Loaded, Cpu::Loaded, Cpu::Starved][world.random(4) as usize]);
    let origin = Arc::new(origin(world));
    let server = world.host(SERVER);
    let address = SocketAddr::new(server.address(), 8443);
    let certificate = Certificate::Pem(PEM.other.certificate.clone(), PEM.other.key.clone());
    let certificate = (world.random(2) == 0).then_some(certificate);
    let config = config(world, &origin, certificate.is_some(), bug);
    let serving = origin.clone();
    let server = server.run(move || serving.serve(address, certificate.as_ref()));
    let client = world.host("client").run(move || download_all(&config));
    for _ in 0..world.random(10) {
        world.sleep((1 + world.random(600)).millis());
        disaster(world, &server, &client);
        check(&origin, &client);
    }
    world.sleep(world.random(2000).millis());
    origin.calm_down();
    world.eventually(120.secs(), || client.finished());
    let there = check(&origin, &client);
    assert!(there >= origin.files.len(), "{there} files are there, of {}", origin.files.len());
}

/// The main function of the client's host: the same command again and again, until everything is there.
fn download_all(config: &Config) -> io::Result<()> {
    keep_starting(|_| {
        while fetch(config, &Screen::silent(config.targets.len()))?.whole < config.targets.len() {
            machinarium::run(|| sleep(50.millis()).map_err(io::Error::from))?;
        }
        Ok(())
    })
}

fn origin(world: &World) -> Origin {
    const MARKS: [Mark; 6] =
        [Mark::Strong, Mark::Strong, Mark::Dated, Mark::Weak, Mark::Nothing, Mark::Fixed];
    let files = (0..1 + world.random(4) as usize).map(|number| {
        let size = [0, 1, 100, 2000, 4000, 16_000][world.random(6) as usize];
        let mark = MARKS[world.random(6) as usize];
        let called = (world.random(3) == 0).then(|| "called".to_owned());
        OriginFile::new(number, size, mark, called, world.random(1 << 32))
    });
    Origin::new(files.collect(), world.random(1 << 32))
}

/// Downloads as a seed wants them: few or many at once, patient or not.
fn config(world: &World, origin: &Origin, tls: bool, bug: Option<Bug>) -> Config {
    let scheme = if tls { "https" } else { "http" };
    let mut targets: Vec<Target> = Vec::new();
    for file in &origin.files {
        let sum = || digest(&SHA256, &file.bytes(0)).as_ref().try_into().expect("32 bytes");
        let url = format!("{scheme}://{SERVER}:8443/{}", file.number).parse().expect("a URL");
        targets.push(Target { url, sha256: file.is_fixed().then(sum) });
    }
    if world.random(4) == 0 {
        targets.push(targets[0].clone());
    }
    Config {
        targets,
        directory: PathBuf::from("/tmp"),
        jobs: 1 + world.random(4) as usize,
        tries: 1 + world.random(6) as u32,
        pause: (1 << world.random(10)).millis(),
        connect: 2.secs(),
        idle: (200 << world.random(5)).millis(),
        whole: (world.random(3) == 0).then(|| 8.secs()),
        checkpoint: (1 << world.random(12)).millis(),
        trust: Trust::Pem(PEM.root.clone()),
        server_names: world.random(3) == 0,
        bug,
    }
}

fn disaster(world: &World, server: &Host, client: &Host) {
    match world.random(10) {
        0 => world.heal(),
        1 => world.partition(server, client),
        2 => world.partition_one_way(server, client),
        3 => world.partition_one_way(client, server),
        4 => server.pause((1 + world.random(300)).millis()),
        5 => client.pause((1 + world.random(300)).millis()),
        6 => die(world, server, Host::crash),
        7 => die(world, client, Host::crash),
        8 => die(world, client, Host::power_off),
        // One that has only just started knows no signals yet, and dies of this one.
        _ => die(world, client, |client| client.signal(Signal::Int)),
    }
}

/// Starts it again, unless it goes on.
fn die(world: &World, host: &Host, how: fn(&Host)) {
    if host.finished() {
        return;
    }
    how(host);
    world.sleep(world.random(300).millis());
    if !host.running() && !host.finished() {
        host.restart();
    }
}

/// Every file that is whole is what the server had at some time; how many there are.
fn check(origin: &Origin, client: &Host) -> usize {
    let mut there = 0;
    for file in &origin.files {
        let names = [Some(file.number.to_string()), file.called.clone()];
        for name in names.into_iter().flatten().flat_map(|name| [name.clone(), format!("{name}.1")]) {
            let Some(bytes) = client.read_file(&format!("/tmp/{name}")) else { continue };
            there += 1;
            let is_one = |file: &OriginFile| (0..=file.version()).any(|version| file.bytes(version) == bytes);
            // Of those that are called alike, any may have that name.
            let may_be = |other: &&OriginFile| {
                other.number == file.number || file.called.is_some() && other.called == file.called
            };
            let known = origin.files.iter().filter(may_be).any(is_one);
            assert!(known, "{name}, of {} bytes, is no version of what the server had", bytes.len());
        }
    }
    there
}
