//! What others have written for other runtimes, on machines: each body runs on Linux, then on seeds of a simulated host, twice on each,
//! which must be the same run.
//!
//! Such crates read std's clock and the seeds of its hash maps, so this binary has the guard; what they start by themselves (a thread, a
//! timer of another runtime) would be seen here.
#![allow(unreachable_pub)] // a test binary has no public names

machinarium_sim::guard!();

#[path = "../tls/certificates.rs"]
mod certificates;
mod hyper;
mod io;
mod postgres;
mod spans;
mod synchronous;
mod web;

use std::sync::Arc;
use std::time::Duration;

use certificates::PEM;
use machinarium::net::{TcpListener, TcpStream, UnixStream};
use machinarium::tls::{ClientConfig, ServerConfig, TlsStream};
use machinarium::{block_on, run, spawn, timeout};
use machinarium_sim::{Cpu, Durations, Fault, Faults, LinkOptions, Ratio, Simulation};

const SEEDS: u64 = 10;

/// What a panic has thrown may be of one thread, so these errors are.
type Error = Box<dyn std::error::Error>;

/// Runs a body on both kernels. Calls are interrupted, and writes cut short, on every other seed.
#[track_caller]
fn both(body: impl Fn() -> Result<(), Error> + Send + Sync + 'static) {
    // Nothing here takes that long: what hangs fails.
    let in_machine = move || {
        let result: std::io::Result<Result<(), Error>> = run(|| Ok(timeout(60.secs(), &body)));
        result.unwrap().unwrap();
    };
    in_machine();
    let body = Arc::new(in_machine);
    for seed in 0..SEEDS {
        let [first, second] = [(); 2].map(|()| on_seed(seed, body.clone()));
        assert_eq!(first, second, "seed {seed} is two runs");
    }
}

#[track_caller]
fn on_seed(seed: u64, body: Arc<impl Fn() + Send + Sync + 'static>) -> u64 {
    let mut simulation = Simulation::new(seed).keep_events(40);
    if !seed.is_multiple_of(2) {
        let hidden = [Fault::Eintr, Fault::ShortWrite, Fault::EpollSubset, Fault::SpuriousWake];
        let faults = hidden.into_iter().fold(Faults::none(), |faults, kind| faults.rate(kind, 4));
        simulation = simulation.faults(faults).cpu(Cpu::Loaded);
    }
    let outcome = simulation.run(move |world| {
        let host = world.host("host").run(move || body());
        let loopback =
            LinkOptions { latency_max: 2.millis(), split: Ratio::new(1, 4), ..LinkOptions::LOOPBACK };
        world.link(&host, &host, loopback);
        world.join(&host);
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    assert!(outcome.leaked.is_empty(), "seed {} leaks {:?}", outcome.seed, outcome.leaked);
    outcome.digest
}

/// Both ends of a connection.
fn tcp() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let accepted = spawn(move || listener.accept());
    let client = TcpStream::connect(address)?;
    Ok((client, accepted.join()??.0))
}

/// Both ends of a connection with TLS, which agree on one of `protocols`.
fn tls(protocols: &[&str]) -> std::io::Result<(TlsStream, TlsStream)> {
    let key = &PEM.localhost;
    let server = ServerConfig::builder()
        .certificate_pem(key.certificate.as_str(), key.key.as_str())
        .alpn(protocols)
        .build()?;
    let client = ClientConfig::builder().ca_pem(PEM.root.as_str()).alpn(protocols).build()?;
    let (ours, theirs) = tcp()?;
    let accepted = spawn(move || server.accept(theirs));
    Ok((client.connect(ours, "localhost")?, accepted.join()??))
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count as u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

const SHORT: Duration = Duration::from_millis(1);
