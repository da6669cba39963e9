//! Ten megabytes of TLS both ways at once, between two machines of each host, while whoever reads or writes is cancelled again and again:
//! every byte arrives, once and in its place, and a seed is one run.
//!
//! `MACHINARIUM_TRANSFERS` says how many seeds; each is run twice.

use std::cell::Cell;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use machinarium::net::{TcpListener, TcpStream};
use machinarium::tls::{ClientConfig, ServerConfig, TlsStream};
use machinarium::{cancelled, machine, sleep, spawn, timeout};
use machinarium_sim::{Cpu, Fault, Faults, Outcome, Simulation, World};

use crate::certificates::PEM;

const PORT: u16 = 7000;
const ALL: usize = 10 << 20;
/// What one call reads or writes, at most.
const PIECE: usize = 100_000;

fn byte(place: usize, salt: u64) -> u8 {
    ((place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(salt << 40) >> 45) as u8
}

/// The numbers of one coroutine: an LCG's upper bits.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Both directions of one side; `salts` are of what it writes and of what it reads.
fn exchange(stream: TlsStream, seed: u64, salts: [u64; 2]) -> io::Result<()> {
    let stream = Rc::new(stream);
    let (writer, reader) = (stream.clone(), stream.clone());
    let writing = spawn(move || persist(seed, move |done| write(&writer, done, salts[0])));
    let reading = spawn(move || persist(!seed, move |done| read(&reader, done, salts[1])));
    writing.join()??;
    stream.close_write()?;
    reading.join()??;
    assert_eq!((&*stream).read(&mut [0; 1])?, 0, "the end is where it should be");
    Ok(())
}

/// Does `step` until it has done all, in one coroutine after another: each is cancelled when some time is over.
fn persist(seed: u64, step: impl Fn(&Cell<usize>) -> io::Result<()> + Clone + 'static) -> io::Result<()> {
    let (mut random, done) = (Random(seed), Rc::new(Cell::new(0)));
    while done.get() < ALL {
        let (theirs, step) = (done.clone(), step.clone());
        let worker = spawn(move || {
            while theirs.get() < ALL {
                step(&theirs)?;
            }
            Ok(())
        });
        sleep(Duration::from_micros(1 + random.below(1_000)))?;
        worker.cancel("that was long enough")?;
        match worker.join()? {
            Err(error) if cancelled(&error).is_none() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn write(stream: &TlsStream, done: &Cell<usize>, salt: u64) -> io::Result<()> {
    let start = done.get();
    let bytes: Vec<u8> = (start..ALL.min(start + PIECE)).map(|place| byte(place, salt)).collect();
    let written = match stream.write_all(&bytes) {
        Ok(()) => bytes.len(),
        Err(error) => {
            done.set(start + error.written);
            return Err(error.source);
        }
    };
    done.set(start + written);
    Ok(())
}

fn read(mut stream: &TlsStream, done: &Cell<usize>, salt: u64) -> io::Result<()> {
    let mut bytes = vec![0; PIECE.min(ALL - done.get())];
    let count = stream.read(&mut bytes)?;
    assert!(count > 0, "the end comes after {} bytes", done.get());
    for (place, found) in (done.get()..).zip(&bytes[..count]) {
        assert_eq!(*found, byte(place, salt), "byte {place}");
    }
    done.set(done.get() + count);
    Ok(())
}

/// Accepts on one machine, shakes hands there, and exchanges on another.
fn server(seed: u64) -> io::Result<()> {
    machinarium::run(|| {
        let pair = &PEM.localhost;
        let config = ServerConfig::builder();
        let config = config.certificate_pem(pair.certificate.as_str(), pair.key.as_str()).build()?;
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)))?;
        let worker = machine::spawn("worker", || drop(sleep(Duration::from_secs(3600))))?;
        let stream: TlsStream = config.accept(listener.accept()?.0)?;
        let detached = stream.detach()?;
        worker.remote().spawn(move || exchange(detached.attach()?, seed, [1, 2]))?.join()??;
        worker.stop("all is done");
        worker.join().map_err(io::Error::from)
    })
}

fn client(address: SocketAddr, seed: u64) -> io::Result<()> {
    machinarium::run(|| {
        let config = ClientConfig::builder().ca_pem(PEM.root.as_str()).build()?;
        let worker = machine::spawn("worker", move || -> io::Result<()> {
            let tcp = timeout(Duration::from_secs(10), || {
                loop {
                    match TcpStream::connect(address) {
                        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                            sleep(Duration::from_millis(1))?;
                        }
                        other => return other,
                    }
                }
            })?;
            exchange(config.connect(tcp, "localhost")?, seed, [2, 1])
        })?;
        worker.join()?
    })
}

fn script(world: &World) {
    let host = world.host("server");
    let address = SocketAddr::new(host.address(), PORT);
    let seeds = [0; 2].map(|_| world.random(u64::MAX >> 1));
    let server = host.run(move || server(seeds[0]));
    let client = world.host("client").run(move || client(address, seeds[1]));
    world.join(&client);
    world.join(&server);
    assert!(client.finished() && server.finished());
}

fn transfer(seed: u64) -> Outcome {
    let rates = [(Fault::EpollOrder, 4), (Fault::EpollSubset, 8), (Fault::ShortWrite, 8), (Fault::Eintr, 16)];
    let faults = rates.into_iter().fold(Faults::none(), |faults, (fault, one_in)| faults.rate(fault, one_in));
    let faults = faults.rate(Fault::SpuriousWake, 8);
    let cpu = [Cpu::Ideal, Cpu::Loaded][(seed % 2) as usize];
    Simulation::new(seed).faults(faults).cpu(cpu).run(script)
}

#[test]
fn ten_megabytes_both_ways_are_the_same_run_for_the_same_seed() {
    let seeds = std::env::var("MACHINARIUM_TRANSFERS").map_or(2, |count| count.parse().expect("a number"));
    let mut digests = std::collections::BTreeSet::new();
    for seed in 0..seeds {
        let [first, second] = [transfer(seed), transfer(seed)];
        assert!(first.passed(), "{}", first.report(""));
        assert!(first.leaked.is_empty(), "seed {seed} leaks {:?}", first.leaked);
        assert_eq!(first.digest, second.digest, "seed {seed} is two runs");
        assert!(first.stats.sent > 2 * ALL as u64, "{} bytes", first.stats.sent);
        digests.insert(first.digest);
    }
    assert_eq!(digests.len() as u64, seeds, "each seed is a run of its own");
}
