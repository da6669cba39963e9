//! The script of a world: a backend that speaks PostgreSQL's protocol, the pooler, clients of a session and a transaction pool, an operator at
//! the console, and some seconds in which links are cut, hosts crash, stall, are rolled and come back, and the configuration changes. Then all is
//! well again, and within two minutes each client must have had one good session of each pool, the operator must find the pooler with nothing
//! left of them, and the pooler must end when it is asked to, with no session left at the backend.

mod backend;
mod console;
mod operator;
mod session;
mod sql;
mod steps;
mod talk;
mod workload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use machinarium::signal::Signal;
use machinarium_sim::cli::Program;
use machinarium_sim::{Cpu, Durations, Faults, Host, World};

use crate::certificates::PEM;
use crate::common::hunt::{roll, terminate};
use crate::common::init::keep_starting;
use crate::common::place::Certificate;
use crate::config::{
    Auth, Bug, ClientTls, Config, Database, PoolMode, Roots, ServerTls, Timeouts, TlsMode, User,
};
use crate::scram::Verifier;
use crate::serve;
use backend::Census;
use talk::Door;

/// A pool's connections, at most.
const LARGEST: usize = 4;

/// A SCRAM verifier of `PASSWORD`, of one iteration: a hunt has no secrets, and no time.
const VERIFIER: &str = "SCRAM-SHA-256$1:c2FsdA==$Otk5kdnAo/6UDUcm0KaO+uESed84FVLF7Qg4N9v1MRA=:Uc4DDcQRN5WJ44eNiyKPEO+MJvVo84Ucr4WI9nixz60=";
const PASSWORD: &str = "pencil";

/// What is hunted.
pub(crate) fn program() -> Program<Bug> {
    Program::new("pgpool", "cargo run --release --example pgpool --", script).faults(Faults::swarm())
}

/// What the hosts of a world do and share.
struct Hosts {
    pooler: Host,
    backend: Host,
    clients: Vec<Host>,
    /// Which of the configurations is read.
    edition: Arc<AtomicUsize>,
}

fn script(world: &World, bug: Option<Bug>) {
    world.cpu([Cpu::Ideal, Cpu::Loaded, Cpu::Loaded, Cpu::Starved][world.random(4) as usize]);
    let [pooler, backend] = ["pooler", "backend"].map(|name| world.host(name));
    let (front, back) = (SocketAddr::new(pooler.address(), 6432), SocketAddr::new(backend.address(), 5432));
    let [front_tls, back_tls, with_passwords] = [0, 1, 2].map(|_| world.random(3) == 0);
    let census = Census::default();
    let pair = &PEM.localhost;
    let certificate = Certificate::Pem(pair.certificate.clone(), pair.key.clone());
    let task = backend::Task {
        address: back,
        certificate: back_tls.then(|| certificate.clone()),
        verifier: with_passwords.then(|| Verifier::parse(VERIFIER).expect("a verifier")),
        seed: world.random(1 << 32),
        census: census.clone(),
    };
    let backend = backend.run(move || backend::serve(&task));
    let first =
        config(world, (front, front_tls.then_some(certificate)), (back, back_tls), with_passwords, bug);
    let second = resized(world, &first);
    let edition = Arc::new(AtomicUsize::new(0));
    let configs = [first, second];
    let read = {
        let edition = edition.clone();
        move || configs[edition.load(Relaxed)].clone()
    };
    let pooler = pooler.run(move || {
        let read = read.clone();
        keep_starting(|begun| {
            let again = read.clone();
            serve::serve(read(), Box::new(move || Ok(again())), |_| begun.set(true))
        })
    });
    let user = if with_passwords { "bob" } else { "ada" };
    let door = Door { pooler: front, tls: front_tls, user, password: PASSWORD };
    let clients = clients(world, &door);
    let quiet = Arc::new(AtomicBool::new(false));
    let operator = operator::Task {
        door,
        seed: world.random(1 << 32),
        commands: world.random(8) as usize,
        quiet: quiet.clone(),
        census: census.clone(),
    };
    let operator = world.host("operator").run(move || operator::operate(&operator));
    let hosts = Hosts { pooler, backend, clients, edition };
    disasters(world, &hosts);
    world.eventually(120.secs(), || hosts.clients.iter().all(Host::finished));
    quiet.store(true, Relaxed);
    world.eventually(60.secs(), || operator.finished());
    world.faults(Faults::none());
    terminate(world, &hosts.pooler);
    world.eventually(10.secs(), || census.count() == 0);
}

fn clients(world: &World, door: &Door) -> Vec<Host> {
    let client = |number: usize| {
        let (seed, sessions) = (world.random(1 << 32), world.random(12) as usize);
        let task = workload::Task { door: door.clone(), number, seed, sessions };
        world.host(&format!("client{number}")).run(move || workload::client(&task))
    };
    (0..1 + world.random(4) as usize).map(client).collect()
}

/// A pooler as a seed wants it: few or many machines and connections, patient or not.
fn config(
    world: &World,
    (listen, certificate): (SocketAddr, Option<Certificate>),
    (back, back_tls): (SocketAddr, bool),
    with_passwords: bool,
    bug: Option<Bug>,
) -> Config {
    let database = |name: &str, mode| Database {
        host: back.ip().to_string(),
        port: back.port(),
        name: name.to_owned(),
        user: None,
        password: None,
        mode,
        size: 1 + world.random(LARGEST as u64) as usize,
        min_size: world.random(2) as usize,
        max_waiting: usize::MAX,
        reset_query: "DISCARD ALL".to_owned(),
        reset_always: false,
        tls: ServerTls {
            mode: if back_tls { TlsMode::VerifyFull } else { TlsMode::Disable },
            roots: Roots::Pem(PEM.root.clone()),
            name: Some("localhost".to_owned()),
        },
    };
    let (transaction, session) =
        (database("transaction", PoolMode::Transaction), database("session", PoolMode::Session));
    let verifier = || Verifier::parse(VERIFIER).expect("a verifier");
    let auth = || if with_passwords { Auth::Scram(verifier()) } else { Auth::Trust };
    let user = || User { auth: auth(), password: Some(PASSWORD.to_owned()) };
    Config {
        listen,
        metrics: None,
        machines: 1 + world.random(3) as usize,
        max_clients: 1000,
        admins: vec!["ada".to_owned(), "bob".to_owned()],
        tls: ClientTls {
            mode: if certificate.is_some() { TlsMode::Require } else { TlsMode::Disable },
            certificate,
        },
        timeouts: timeouts(world),
        databases: [("transaction".to_owned(), transaction), ("session".to_owned(), session)].into(),
        users: ["ada", "bob"].map(|name| (name.to_owned(), user())).into(),
        say: |_| {},
        bug,
    }
}

/// What may take for ever must end by itself; so do most things in some worlds, and very soon.
fn timeouts(world: &World) -> Timeouts {
    let some = |least: u64, doublings: u64| {
        (world.random(3) == 2).then(|| Duration::from_millis(least << world.random(doublings)))
    };
    Timeouts {
        query_wait: some(20, 8),
        query: some(100, 5),
        client_idle: some(50, 6),
        idle_in_transaction: some(50, 6),
        server_idle: some(50, 8),
        server_lifetime: some(50, 8),
        keepalive: Some((1 + world.random(8)).secs()),
        cancel: (20 << world.random(9)).millis(),
        drain: (1 << world.random(12)).millis(),
        ..Timeouts::default()
    }
}

/// The same with pools of other sizes, and sometimes at another place that is the same one.
fn resized(world: &World, config: &Config) -> Config {
    let mut other = config.clone();
    for database in other.databases.values_mut() {
        database.size = 1 + world.random(LARGEST as u64) as usize;
    }
    other
}

/// Some seconds in which things go wrong.
fn disasters(world: &World, hosts: &Hosts) {
    let Hosts { pooler, backend, clients, edition } = hosts;
    for _ in 0..world.random(10) {
        world.sleep((1 + world.random(600)).millis());
        let client = &clients[world.random(clients.len() as u64) as usize];
        let other = if world.random(2) == 0 { backend } else { client };
        match world.random(12) {
            0 => world.heal(),
            1 => world.partition(pooler, other),
            2 => world.partition_one_way(pooler, other),
            3 => world.partition_one_way(other, pooler),
            4 => pooler.pause((1 + world.random(300)).millis()),
            5 => other.pause((1 + world.random(300)).millis()),
            6 => roll(world, pooler),
            7 | 8 => {
                edition.store(world.random(2) as usize, Relaxed);
                reload(world, pooler);
            }
            9 => die(world, backend),
            10 => die(world, client),
            _ => die(world, pooler),
        }
    }
}

/// One that has only just started knows no signals yet, and dies of this one.
fn reload(world: &World, pooler: &Host) {
    pooler.signal(Signal::Hup);
    world.sleep(200.millis());
    if !pooler.running() {
        pooler.restart();
    }
}

fn die(world: &World, host: &Host) {
    if host.finished() {
        return;
    }
    host.crash();
    world.sleep(world.random(300).millis());
    host.restart();
}
