//! What networks, clocks and hosts do to a program: each kind of fault is seen by one that looks, and does what the manual says.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use machinarium::kernel::{Clock, Domain, Errno, Kernel, SocketKind};
use machinarium::net::{TcpListener, TcpStream, UdpSocket, lookup};
use machinarium::tls::{ClientConfig, ServerConfig};
use machinarium::{scope, sleep, spawn, timeout};
use machinarium_sim::{
    Distribution, Durations, Fault, Faults, LinkOptions, Outcome, Ratio, Simulation, exhaust,
};

use crate::certificates::PEM;
use crate::raw::{self, PORT, Program};

/// Echoes for ever.
fn echo() -> io::Result<()> {
    machinarium::run(|| {
        let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT)))?;
        loop {
            let (stream, _) = listener.accept()?;
            spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    })
}

/// Sends `size` bytes to the echo, so many at a time, while it reads them back.
fn exchange(size: usize, piece: usize) -> io::Result<()> {
    let stream = TcpStream::connect(raw::server(1))?;
    let sent: Vec<u8> = (0..=250).cycle().take(size).collect();
    scope(|scope| {
        let writer = scope.spawn(|| {
            sent.chunks(piece).try_for_each(|piece| stream.write_all(piece))?;
            stream.shutdown(std::net::Shutdown::Write)
        });
        let mut got = Vec::new();
        let result = { &stream }.read_to_end(&mut got);
        writer.join()??;
        result?;
        assert!(got == sent, "{} bytes of {size}", got.len());
        Ok(())
    })
}

/// Exchanges at the same time.
fn several(size: usize) -> io::Result<()> {
    let tasks: Vec<_> = (0..4).map(|_| spawn(move || exchange(size / 4, 100))).collect();
    tasks.into_iter().try_for_each(|task| task.join().map_err(io::Error::from)?)
}

/// The echo and a client that says how its exchange went, in a world with this fault alone.
fn with(
    fault: Fault,
    seed: u64,
    client: impl Fn() -> io::Result<()> + Copy + Send + Sync + 'static,
) -> Outcome {
    let faults = Faults::none().rate(fault, if fault == Fault::Backlog { 1 } else { 5 });
    let outcome = Simulation::new(seed).faults(faults).keep_events(40).run(move |world| {
        let _server = world.host("server").run(echo);
        let client = world.host("client").run(move || machinarium::run(client));
        world.join(&client);
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    outcome
}

/// A program that does nothing about these faults sees nothing of them but the time they take.
#[test]
fn what_costs_time_alone_changes_no_byte() {
    for fault in [Fault::Late, Fault::Bandwidth, Fault::ShortWrite, Fault::StaleEvent, Fault::Backlog] {
        let count: u64 =
            (0..10).map(|seed| with(fault, seed, || several(20_000)).stats.faults.of(fault)).sum();
        assert!(count > 0 || fault == Fault::Bandwidth, "{fault:?} never happens");
    }
}

/// A machine that looks for work for a while before it sleeps asks many times, and would be told of something stale in each such while.
#[test]
fn stale_events_let_a_machine_sleep_that_spins() {
    let outcome = Simulation::new(1).faults(Faults::none().rate(Fault::StaleEvent, 5)).run(|world| {
        let _server = world.host("server").run(echo);
        let client = world.host("client").run(|| {
            machinarium::Builder::new().spin(Duration::from_micros(10)).run(|| {
                let stream = TcpStream::connect(raw::server(1))?;
                let read = timeout(Duration::from_secs(1), || { &stream }.read(&mut [0]));
                assert_eq!(read.unwrap_err().kind(), ErrorKind::TimedOut);
                io::Result::Ok(())
            })
        });
        world.join(&client);
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    assert!(outcome.stats.faults.of(Fault::StaleEvent) > 0, "nothing was stale");
    assert!(outcome.stats.calls < 1_000, "{} calls in a second of silence", outcome.stats.calls);
}

#[test]
fn a_slow_link_takes_as_long_as_its_bandwidth_says() {
    const SIZE: u64 = 1_000_000;
    let seconds = |bandwidth| {
        let outcome = Simulation::new(1).faults(Faults::none()).run(move |world| {
            let server = world.host("server").run(echo);
            let client =
                world.host("client").run(|| machinarium::run(|| exchange(SIZE as usize, SIZE as usize)));
            world.link(&server, &client, LinkOptions { bandwidth, ..LinkOptions::default() });
            world.eventually(300.secs(), || client.finished());
            assert!(bandwidth.is_none() || world.now() > Duration::from_secs(9), "{:?}", world.now());
        });
        assert!(outcome.passed(), "{}", outcome.report(""));
        outcome.stats.time.as_secs_f64()
    };
    assert!(seconds(None) < 0.5);
    let slow = seconds(Some(SIZE / 10));
    assert!((10.0..13.0).contains(&slow), "{slow} s for ten seconds of bytes");
}

/// A link that was cut has the faults of the others again, and in a calm world none.
#[test]
fn a_calm_link_has_no_faults_whatever_it_was_before() {
    for cut in [false, true] {
        let outcome = Simulation::new(1).faults(Faults::none().rate(Fault::Loss, 1)).run(move |world| {
            let server = world.host("server").run(echo);
            let client = world.host("client").run(|| machinarium::run(|| exchange(20_000, 100)));
            match cut {
                true => world.partition(&server, &client),
                false => world.link(
                    &server,
                    &client,
                    LinkOptions { reset: Ratio::new(1, 1), ..LinkOptions::default() },
                ),
            }
            world.eventually(10.secs(), || client.finished());
        });
        assert!(outcome.passed(), "{}", outcome.report(""));
        assert_eq!(outcome.stats.faults.of(Fault::Loss) + outcome.stats.faults.of(Fault::Reset), 0);
    }
}

/// A datagram that would wait for more than a second is lost, and the books know.
#[test]
fn a_slow_link_drops_datagrams_that_come_too_fast() {
    let outcome = Simulation::new(1).faults(Faults::none()).run(|world| {
        let got = Arc::new(AtomicU64::new(0));
        let count = got.clone();
        let receiver = world.host("receiver").run(move || {
            machinarium::run(|| {
                let socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], PORT)))?;
                let receive = || socket.recv_from(&mut [0; 2_000]);
                while timeout(Duration::from_secs(5), receive).is_ok() {
                    count.fetch_add(1, SeqCst);
                }
                io::Result::Ok(())
            })
        });
        let sender = world.host("sender").run(|| {
            machinarium::run(|| {
                let socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0)))?;
                sleep(Duration::from_millis(10))?;
                (0..100).try_for_each(|_| socket.send_to(&[7; 934], raw::server(1)).map(drop))
            })
        });
        world.link(&receiver, &sender, LinkOptions { bandwidth: Some(20_000), ..LinkOptions::default() });
        world.sleep(20.secs());
        // A second of them, and the one that was the last to find less before it.
        assert_eq!(got.load(SeqCst), 21);
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    assert_eq!(outcome.stats.faults.of(Fault::Bandwidth), 79);
}

/// How long messages take, shortest first, in nanoseconds.
fn latencies(distribution: Distribution) -> Vec<u64> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let outcome = Simulation::new(1).faults(Faults::none()).run(move |world| {
        let server = world.host("server").run_on_kernel(|kernel| raw::echo_server(kernel, 1));
        let client = world.host("client").run_on_kernel(move |kernel| {
            let program = Program::new(kernel);
            let fd = raw::connect_patiently(&program, raw::server(1)).unwrap();
            for _ in 0..400 {
                let begun = program.now();
                program.send_all(fd, b"x").unwrap();
                program.recv(fd, 1).unwrap();
                sender.send((program.now() - begun).as_nanos() as u64).unwrap();
            }
            [fd, program.epoll].into_iter().for_each(|fd| program.close(fd));
        });
        let (latency_min, latency_max) = (Duration::from_millis(10), Duration::from_millis(90));
        let options = LinkOptions { latency_min, latency_max, distribution, ..LinkOptions::default() };
        world.link(&server, &client, options);
        world.eventually(300.secs(), || client.finished());
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    let mut all: Vec<u64> = receiver.try_iter().collect();
    all.sort_unstable();
    all
}

#[test]
fn latencies_are_distributed_as_a_link_says() {
    let millis = |distribution| {
        let all = latencies(distribution);
        [0, 200, 399].map(|place| all[place] / 1_000_000)
    };
    // Of the sums of two: the least, the middle and the most.
    let [least, middle, most] = millis(Distribution::Uniform);
    assert!(least < 40 && (80..120).contains(&middle) && most > 160, "{least} {middle} {most}");
    let [least, middle, most] = millis(Distribution::Tailed);
    assert!(least < 22 && (30..60).contains(&middle) && most > 120, "{least} {middle} {most}");
    let [least, middle, most] = millis(Distribution::Bimodal);
    assert!(least < 24 && (25..40).contains(&middle) && most > 110, "{least} {middle} {most}");
}

/// RST in every state: of the handshake, while bytes flow, and at the end.
#[test]
fn a_reset_on_the_way_is_heard_at_both_ends() {
    let refused = Arc::new(AtomicU64::new(0));
    let reset = Arc::new(AtomicU64::new(0));
    for seed in 0..60 {
        let (counters, faults) = ((refused.clone(), reset.clone()), Faults::none().rate(Fault::Reset, 20));
        let outcome = Simulation::new(seed).faults(faults).keep_events(40).run(move |world| {
            let _server = world.host("server").run(echo);
            let client = world.host("client").run(move || {
                let (refused, reset) = &counters;
                machinarium::run(|| {
                    let failed = match exchange(2_000, 100) {
                        Ok(()) => return Ok(()),
                        Err(error) => error,
                    };
                    match failed.kind() {
                        ErrorKind::ConnectionRefused => refused.fetch_add(1, SeqCst),
                        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => reset.fetch_add(1, SeqCst),
                        // A reset of what was waiting to be accepted, or an end that came before it.
                        _ => return Err(failed),
                    };
                    Ok(())
                })
            });
            world.join(&client);
        });
        assert!(outcome.passed(), "{}", outcome.report(""));
    }
    assert!(refused.load(SeqCst) > 0 && reset.load(SeqCst) > 10, "{refused:?} refused, {reset:?} reset");
}

/// What was on its way when a connection was reset may come between the reset of one end and that of the other. It is acknowledged then,
/// which nobody hears.
#[test]
fn an_end_that_has_failed_hears_of_nothing_any_more() {
    let faults = Faults::none().rate(Fault::Reset, 4).rate(Fault::ShortRead, 2);
    for seed in 0..200 {
        let outcome = Simulation::new(seed).faults(faults).keep_events(40).run(move |world| {
            let _server = world.host("server").run(echo);
            let client = world.host("client").run(|| machinarium::run(write_until_it_fails));
            world.join(&client);
        });
        assert!(outcome.passed(), "{}", outcome.report(""));
    }
}

fn write_until_it_fails() -> io::Result<()> {
    let Ok(stream) = TcpStream::connect(raw::server(1)) else { return Ok(()) };
    while stream.write_all(&[1; 100]).is_ok() {
        sleep(Duration::from_micros(50))?;
    }
    Ok(sleep(Duration::from_millis(5))?)
}

/// The errors that these faults make a program see, by the name of each.
#[test]
fn calls_of_the_network_fail_as_their_manuals_say() {
    let errors = |fault: Fault, call: fn(&dyn Kernel) -> Result<(), Errno>| {
        let simulation = Simulation::new(7).faults(Faults::none().rate(fault, 2));
        let mut all = machinarium_sim::with_kernel(&simulation, move |kernel| {
            (0..200).filter_map(|_| call(&*kernel).err()).collect::<Vec<Errno>>()
        });
        all.sort_unstable();
        all.dedup();
        all
    };
    let connect: fn(&dyn Kernel) -> Result<(), Errno> = |kernel| {
        let fd = kernel.socket(Domain::Inet, SocketKind::Stream)?;
        let answer = kernel.connect(fd, &SocketAddr::from(([198, 18, 0, 1], 9)).into());
        kernel.close(fd)?;
        answer.or_else(|errno| if errno == Errno::INPROGRESS { Ok(()) } else { Err(errno) })
    };
    let bind: fn(&dyn Kernel) -> Result<(), Errno> = |kernel| {
        let fd = kernel.socket(Domain::Inet, SocketKind::Stream)?;
        let answer = kernel.bind(fd, &SocketAddr::from(([127, 0, 0, 1], 0)).into());
        kernel.close(fd)?;
        answer
    };
    assert_eq!(errors(Fault::Unreachable, connect), sorted([Errno::NETUNREACH, Errno::HOSTUNREACH]));
    assert_eq!(errors(Fault::Ports, connect), [Errno::ADDRNOTAVAIL]);
    assert_eq!(errors(Fault::Ports, bind), [Errno::ADDRINUSE]);
    assert_eq!(errors(Fault::Enfile, bind), [Errno::NFILE]);
    assert_eq!(errors(Fault::Unreachable, bind), []);
}

fn sorted<const N: usize>(mut errors: [Errno; N]) -> [Errno; N] {
    errors.sort_unstable();
    errors
}

/// The errors of `accept4` that are no reason to end: nobody who waits is lost.
#[test]
fn a_listener_survives_what_accept_tells_of() {
    for seed in 0..20 {
        let outcome = with(Fault::AcceptError, seed, || (0..10).try_for_each(|_| exchange(100, 100)));
        assert!(outcome.stats.faults.of(Fault::AcceptError) > 0);
    }
}

#[test]
fn a_wall_clock_jumps_and_the_monotonic_one_does_not() {
    let simulation = Simulation::new(3).faults(Faults::none().rate(Fault::ClockJump, 4));
    let (back, forward) = machinarium_sim::with_kernel(&simulation, |kernel| {
        let (mut back, mut forward, mut last) = (0, 0, kernel.clock_gettime(Clock::Realtime));
        for _ in 0..200 {
            let monotonic = kernel.clock_gettime(Clock::Monotonic);
            let wall = kernel.clock_gettime(Clock::Realtime);
            assert!(kernel.clock_gettime(Clock::Monotonic) - monotonic < Duration::from_millis(1));
            back += u32::from(wall < last);
            forward += u32::from(wall > last + Duration::from_millis(1));
            last = wall;
        }
        (back, forward)
    });
    assert!(back > 5 && forward > 5, "{back} jumps back, {forward} forward");
}

/// A host whose clock is a year ahead finds that the server's certificate has expired; back in time it is not yet one.
#[test]
fn certificates_expire_by_the_clock_of_the_host() {
    let year = Duration::from_secs(86_400 * 365);
    for (forward, by) in [(true, year), (false, year * 100)] {
        let outcome = Simulation::new(1).keep_events(40).run(move |world| {
            let _server = world.host("server").run(|| -> io::Result<()> {
                machinarium::run(|| {
                    let pair = &PEM.january;
                    let builder = ServerConfig::builder();
                    let config =
                        builder.certificate_pem(pair.certificate.as_str(), pair.key.as_str()).build()?;
                    let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT)))?;
                    loop {
                        let (stream, _) = listener.accept()?;
                        assert!(config.accept(stream).is_err(), "the client has refused it");
                    }
                })
            });
            let client = world.host("client");
            if forward {
                client.set_clock_forward(by)
            } else {
                client.set_clock_back(by)
            }
            let client = client.run(move || {
                machinarium::run(|| {
                    let config = ClientConfig::builder().ca_pem(PEM.root.as_str()).build()?;
                    let error = config.connect(TcpStream::connect(raw::server(1))?, "localhost").err();
                    let said = format!("{:?}", error.expect("its time is not now"));
                    let expected = if forward { "Expired" } else { "NotValidYet" };
                    assert!(said.contains(expected), "{said}");
                    io::Result::Ok(())
                })
            });
            world.eventually(60.secs(), || client.finished());
        });
        assert!(outcome.passed(), "{}", outcome.report(""));
    }
}

#[test]
fn a_paused_thread_stands_still_and_others_do_not() {
    let outcome = Simulation::new(1).keep_events(40).run(|world| {
        let turns: Arc<[AtomicU64; 2]> = Arc::default();
        let counters = turns.clone();
        let host = world.host("host").run(move || {
            let (own, others) = (counters.clone(), counters.clone());
            let count = move |counters: &[AtomicU64; 2], place: usize| -> io::Result<()> {
                while counters[place].fetch_add(1, SeqCst) < 1_000 {
                    sleep(Duration::from_millis(1))?;
                }
                Ok(())
            };
            machinarium::run(|| {
                let worker = machinarium::machine::spawn("worker", move || count(&others, 1))?;
                count(&own, 0)?;
                worker.join().map_err(io::Error::from)?
            })
        });
        world.sleep(100.millis());
        assert!(host.pause_thread("worker", 10.secs()) && !host.pause_thread("nobody", 10.secs()));
        let (main, worker) = (turns[0].load(SeqCst), turns[1].load(SeqCst));
        world.sleep(200.millis());
        assert!(turns[0].load(SeqCst) > main + 100 && turns[1].load(SeqCst) <= worker + 1);
        world.eventually(30.secs(), || host.finished());
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
}

#[test]
fn a_name_has_fewer_addresses_than_it_has() {
    let outcome = Simulation::new(1).faults(Faults::none().rate(Fault::NameSubset, 2)).run(|world| {
        let ips: Vec<_> = (1..=8).map(|n| [198, 18, 1, n].into()).collect();
        world.dns().set("many", &ips);
        let host = world.host("host").run(|| {
            let mut counts: Vec<usize> = (0..40)
                .map(|_| machinarium::run(|| io::Result::Ok(lookup("many", 80)?.len())).unwrap())
                .collect();
            assert!(counts.iter().all(|count| (1..=8).contains(count)));
            counts.sort_unstable();
            counts.dedup();
            assert!(counts.len() > 3, "{counts:?}");
        });
        world.join(&host);
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
}

/// Every call of a server and of its client fails once in each of the ways in which it can, and what comes out is an error, never a
/// hang, a panic or a leak.
#[test]
fn each_call_fails_once() {
    let kinds = Faults::all().without(Fault::Spawn);
    let runs = exhaust(kinds, |world| {
        let server = world.host("server").may_fail().run(|| {
            machinarium::run(|| {
                let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT)))?;
                let (mut stream, _) = timeout(Duration::from_secs(20), || listener.accept())?;
                let mut byte = [0];
                timeout(Duration::from_secs(5), || stream.read_exact(&mut byte))?;
                Write::write_all(&mut stream, &byte)
            })
        });
        let client = world.host("client").may_fail().run(|| {
            machinarium::run(|| {
                sleep(Duration::from_millis(5))?;
                let stream = TcpStream::connect_timeout(raw::server(1), Duration::from_secs(5))?;
                stream.write_all(b"x")?;
                timeout(Duration::from_secs(5), || stream.read_exact(&mut [0]))
            })
        });
        world.eventually(60.secs(), || !server.running() && !client.running());
    });
    assert!(runs > 60, "{runs} runs");
}

/// Both ends only write, and wait for room for ever. The probes of their shut windows go on, but nothing will come of them.
#[test]
fn probes_of_a_shut_window_do_not_hide_that_a_world_is_stuck() {
    fn pour(stream: &TcpStream) -> io::Result<()> {
        Ok(stream.write_all(&vec![0; 4_000_000])?)
    }
    let outcome = Simulation::new(1).run(|world| {
        let server = world.host("server").run(|| {
            machinarium::run(|| pour(&TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT)))?.accept()?.0))
        });
        let _client = world.host("client").run(|| {
            machinarium::run(|| {
                sleep(Duration::from_millis(5))?;
                pour(&TcpStream::connect(raw::server(1))?)
            })
        });
        world.join(&server);
    });
    assert!(outcome.report("").contains("nothing will ever happen"), "{}", outcome.report(""));
    assert!(outcome.stats.time > 86_400.secs() && outcome.stats.events < 100_000, "{}", outcome.stats);
}

/// A minute has room for twelve thousand tries at the first pause, and for seventy at pauses that grow.
#[test]
fn a_listener_without_descriptors_tries_less_and_less_often() {
    let outcome = Simulation::new(1).run(|world| {
        let server = world.host("server").run(|| {
            machinarium::run(|| {
                let (stream, _) = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT)))?.accept()?;
                io::Result::Ok(stream.write_all(b"x")?)
            })
        });
        let client = world.host("client").run(|| {
            machinarium::run(|| {
                sleep(Duration::from_millis(100))?;
                TcpStream::connect(raw::server(1))?.read_exact(&mut [0])
            })
        });
        world.sleep(50.millis());
        server.limit_descriptors(1);
        world.sleep(60.secs());
        assert!(client.running(), "it was let in");
        server.limit_descriptors(100);
        world.join(&client);
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    assert!(outcome.stats.calls < 3_000, "{}", outcome.stats);
}
