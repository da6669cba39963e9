//! What a network and a system out of everything do to connecting and accepting: in the simulator, where they can, and on Linux where a
//! process can be given little.

use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::child::{assert_success, in_child};
use crate::limit;
use machinarium::kernel::{Linux, Traced};
use machinarium::machine::current::{self, Starter, Tuning};
use machinarium::net::{TcpListener, TcpStream, UdpSocket};
use machinarium::{now, run, sleep, spawn, timeout};
use machinarium_sim::{Cpu, Durations, Fault, Faults, Outcome, Simulation};

const PORT: u16 = 7000;

/// Accepts and echoes for ever.
fn server() -> io::Result<()> {
    run(|| {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
        loop {
            let (stream, _) = listener.accept()?;
            spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    })
}

/// The same with a wait for connections before each accept.
fn selecting_server() -> io::Result<()> {
    run(|| {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
        loop {
            listener.readable().wait()?;
            let (stream, _) = listener.accept()?;
            spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    })
}

fn passed(outcome: &Outcome) {
    assert!(outcome.passed(), "seed {}: {}", outcome.seed, outcome.report(""));
}

/// Connects to `address`, `count` times in all, and has a byte echoed on each connection.
fn echoes(address: SocketAddr, count: u64, done: &AtomicU64) -> io::Result<()> {
    run(|| {
        let streams = (0..count).map(|_| TcpStream::connect(address)).collect::<io::Result<Vec<_>>>()?;
        for stream in streams {
            stream.write_all(b"x")?;
            stream.read_exact(&mut [0; 1])?;
            done.fetch_add(1, SeqCst);
        }
        Ok(())
    })
}

#[test]
fn accept_waits_for_descriptors_without_spinning() {
    for server in [server, selecting_server] {
        waits_for_descriptors(server);
    }
}

fn waits_for_descriptors(server: fn() -> io::Result<()>) {
    let outcome = Simulation::new(1).keep_events(40).run(move |world| {
        let server = world.host("server").run(server);
        let address = SocketAddr::new(server.address(), PORT);
        world.sleep(1.secs());
        // What it has: an eventfd, an epoll instance, the listener.
        server.limit_descriptors(6);
        let done = Arc::new(AtomicU64::new(0));
        let count = done.clone();
        let client = world.host("client").run(move || echoes(address, 3, &count));
        world.sleep(60.secs());
        assert_eq!(done.load(SeqCst), 0);
        server.limit_descriptors(100);
        world.eventually(2.secs(), || client.finished());
        assert_eq!(done.load(SeqCst), 3);
    });
    passed(&outcome);
    // One try a second after the first few, each of three calls; the rest is the script's.
    assert!(outcome.stats.calls < 600, "{} calls: accept spins", outcome.stats.calls);
}

/// Starts threads whose machines are as they want to be.
struct Plain;

impl Starter for Plain {
    fn retune(&self, _tuning: &mut Tuning) {}

    fn panic_lost(&self, coroutine: u64, _name: &str) {
        panic!("coroutine {coroutine} panicked");
    }

    fn abort(&self, why: &str) -> ! {
        panic!("a machine aborts: {why}");
    }
}

/// The same on Linux, in a process of its own: its limit is down to the descriptors that it has, one is given back, and then the limit.
/// Who has connected meanwhile is served as soon as there is a descriptor for him.
#[test]
fn accept_waits_for_descriptors_of_linux() {
    let output = in_child("refusal::accept_waits_for_descriptors_of_linux", || {
        let accepts = Arc::new(AtomicU64::new(0));
        let count = accepts.clone();
        let sink = move |line: std::fmt::Arguments<'_>| {
            count.fetch_add(u64::from(line.to_string().starts_with("accept4(")), SeqCst);
        };
        let kernel = Rc::new(Traced::new(Rc::new(Linux::new()), Arc::new(sink)));
        current::with_kernel(kernel, Rc::new(Plain), || run(|| starve(&accepts))).unwrap();
    });
    assert_success(&output);
}

fn starve(accepts: &AtomicU64) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let clients = (0..3).map(|_| TcpStream::connect(address)).collect::<io::Result<Vec<_>>>()?;
    let spare = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let kernel = current::kernel();
    let before = limit::get();
    let next = kernel.eventfd(0)?;
    kernel.close(next)?;
    limit::set(next.raw() as u64);
    spawn(move || -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept()?;
            spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
    clients.iter().try_for_each(|client| client.write_all(b"x"))?;
    let served = |client: &TcpStream| timeout(300.millis(), || client.read_exact(&mut [0; 1])).is_ok();
    assert!(!served(&clients[0]), "it was to have no descriptor");
    let tries = accepts.load(SeqCst);
    // After 5, 10, 20 and more milliseconds.
    assert!((3..=8).contains(&tries), "{tries} tries in 300 ms");
    drop(spare);
    // The pause is half a second by now.
    timeout(5.secs(), || clients[0].read_exact(&mut [0; 1]))?;
    assert!(!served(&clients[1]) && !served(&clients[2]), "there was one descriptor");
    limit::set(before);
    clients[1..].iter().try_for_each(|client| timeout(5.secs(), || client.read_exact(&mut [0; 1])))
}

#[test]
fn accept_survives_what_happens_to_connections_and_to_the_system() {
    for seed in 0..20 {
        for server in [server, selecting_server] {
            survives(seed, server);
        }
    }
}

fn survives(seed: u64, server: fn() -> io::Result<()>) {
    let simulation = Simulation::new(seed).cpu(Cpu::Loaded).keep_events(40);
    let outcome = simulation.run(move |world| {
        let server = world.host("server").run(server);
        let address = SocketAddr::new(server.address(), PORT);
        world.sleep(1.secs());
        let kinds = [Fault::ConnAborted, Fault::Eintr, Fault::Emfile, Fault::Memory, Fault::EpollSubset];
        world.faults(kinds.into_iter().fold(Faults::none(), |faults, kind| faults.rate(kind, 3)));
        // Its own calls fail too: it comes back until all is done.
        let client = world.host("client").run(move || {
            let done = AtomicU64::new(0);
            while done.load(SeqCst) < 20 {
                let _ = echoes(address, 20 - done.load(SeqCst), &done);
                let _ = run(|| sleep(10.millis()).map_err(io::Error::from));
            }
        });
        world.sleep(2.secs());
        world.eventually(120.secs(), || client.finished());
        assert!(server.running(), "the listener has ended");
    });
    passed(&outcome);
}

/// How a connection attempt ends that the script has prepared, and how long it took.
fn attempt(address: SocketAddr) -> (io::Error, Duration) {
    let began = now();
    let error = TcpStream::connect(address).unwrap_err();
    (error, now() - began)
}

#[test]
fn a_connect_is_refused_by_a_host_that_does_not_listen() {
    let outcome = Simulation::new(1).run(|world| {
        let server = world.host("server");
        let address = SocketAddr::new(server.address(), PORT);
        let client = world.host("client").run(move || {
            run(|| {
                let (error, took) = attempt(address);
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                assert!(took < Duration::from_millis(10));
                io::Result::Ok(())
            })
        });
        world.join(&client);
    });
    passed(&outcome);
}

#[test]
fn a_connect_to_nowhere_is_unreachable() {
    let outcome = Simulation::new(1).run(|world| {
        let client = world.host("client").run(|| {
            run(|| {
                let (error, _) = attempt((Ipv4Addr::new(198, 19, 255, 1), PORT).into());
                let unreachable = [ErrorKind::NetworkUnreachable, ErrorKind::HostUnreachable];
                assert!(unreachable.contains(&error.kind()), "{error}");
                io::Result::Ok(())
            })
        });
        world.join(&client);
    });
    passed(&outcome);
}

#[test]
fn a_connect_without_an_answer_ends_when_the_system_or_the_caller_gives_up() {
    let outcome = Simulation::new(1).run(|world| {
        let server = world.host("server").run(server);
        let address = SocketAddr::new(server.address(), PORT);
        let client = world.host("client").run(move || {
            run(|| {
                sleep(1.secs())?;
                let (error, took) = attempt(address);
                assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::TimedOut, Some(110)));
                assert!(took > Duration::from_secs(60), "Linux tries for two minutes");
                let began = now();
                let error = TcpStream::connect_timeout(address, 3.secs()).unwrap_err();
                assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::TimedOut, None));
                assert!((3.secs()..4.secs()).contains(&(now() - began)));
                io::Result::Ok(())
            })
        });
        world.sleep(500.millis());
        world.partition(&server, &client);
        world.join(&client);
    });
    passed(&outcome);
}

/// Nothing tells a reader that its peer's host has gone, unless it asks for that.
#[test]
fn a_silent_peer_is_noticed_by_keepalive_and_by_the_user_timeout() {
    for writes in [false, true] {
        let outcome = Simulation::new(1).run(move |world| {
            let server = world.host("server").run(server);
            let address = SocketAddr::new(server.address(), PORT);
            let client = world.host("client").run(move || {
                run(|| {
                    let stream = TcpStream::connect(address)?;
                    stream.set_keepalive(true)?;
                    stream.set_keepalive_idle(10.secs())?;
                    stream.set_keepalive_interval(1.secs())?;
                    stream.set_keepalive_count(3)?;
                    stream.set_user_timeout(15.secs())?;
                    sleep(2.secs())?;
                    if writes {
                        stream.write_all(b"are you there?")?;
                    }
                    let error = timeout(60.secs(), || (&stream).read(&mut [0; 1])).unwrap_err();
                    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::TimedOut, Some(110)));
                    io::Result::Ok(())
                })
            });
            world.sleep(1.secs());
            server.power_off();
            world.join(&client);
        });
        passed(&outcome);
    }
}

/// Only what makes something can fail for want of memory: a stream that leaves its machine is gone from its epoll instance,
/// and can come back.
#[test]
fn a_stream_moves_while_memory_is_short() {
    for seed in 0..20 {
        let outcome = Simulation::new(seed).keep_events(40).run(|world| {
            let host = world.host("host").run(|| {
                run(|| {
                    let (mut client, server) = crate::tcp::pair()?;
                    sleep(2.secs())?;
                    for round in 0..20u8 {
                        let mut detached = client.detach()?;
                        client = loop {
                            match detached.attach() {
                                Ok(stream) => break stream,
                                Err(error) => {
                                    assert_eq!(error.source.kind(), ErrorKind::OutOfMemory);
                                    detached = error.stream;
                                }
                            }
                        };
                        server.write_all(&[round])?;
                        let mut got = [0xff];
                        client.read_exact(&mut got)?;
                        assert_eq!(got, [round]);
                    }
                    io::Result::Ok(())
                })
            });
            world.sleep(1.secs());
            world.faults(Faults::none().rate(Fault::Memory, 2));
            world.join(&host);
        });
        passed(&outcome);
    }
}
