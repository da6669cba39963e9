//! The library itself in a world: its `run`, coroutines, deadlines and sockets, on the simulated kernel.

use std::cell::Cell;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use machinarium::net::{TcpListener, TcpStream};
use machinarium::signal::Signal;
use machinarium::{BlockingError, Builder, Group, Shutdown, Tuning};
use machinarium_sim::{
    Check, Cpu, Durations, FailureKind, Fault, Faults, Outcome, Simulation, World, exhaust,
};

use crate::raw;

/// Echoes for ever.
fn server() -> io::Result<()> {
    machinarium::run(|| {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, raw::PORT)))?;
        loop {
            let (stream, _) = listener.accept()?;
            machinarium::spawn(move || {
                let mut buf = [0; 4096];
                loop {
                    match (&stream).read(&mut buf) {
                        Ok(0) | Err(_) => return,
                        Ok(count) => {
                            if stream.write_all(&buf[..count]).is_err() {
                                return;
                            }
                        }
                    }
                }
            });
        }
    })
}

/// Sends messages of several sizes and wants each back, from several coroutines; a connection that breaks is made again.
fn client() -> io::Result<()> {
    machinarium::run(|| {
        let tasks: Vec<_> = (0..4).map(|task| machinarium::spawn(move || talk(task))).collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        Ok(())
    })
}

fn talk(task: u8) {
    let mut rounds = 20;
    while rounds > 0 {
        if let Err(error) = talk_once(task, &mut rounds) {
            assert_ne!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            machinarium::sleep(Duration::from_millis(20)).unwrap();
        }
    }
}

fn talk_once(task: u8, rounds: &mut u32) -> io::Result<()> {
    let stream = TcpStream::connect_timeout(raw::server(1), Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    while *rounds > 0 {
        let message = vec![task; 1 + (*rounds as usize * 997) % 5000];
        stream.write_all(&message)?;
        let mut answer = vec![0; message.len()];
        stream.read_exact(&mut answer)?;
        if answer != message {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "another's bytes"));
        }
        *rounds -= 1;
    }
    Ok(())
}

fn storm(world: &World) {
    let server = world.host("server").run(server);
    let client = world.host("client").run(client);
    world.sleep(Duration::from_micros(world.random(50_000)));
    match world.random(4) {
        0 => {}
        1 => {
            world.partition(&server, &client);
            world.sleep(3.secs());
            world.heal();
        }
        2 => server.restart(),
        _ => server.pause(5.secs()),
    }
    world.eventually(120.secs(), || client.finished());
}

#[test]
fn an_echo_of_the_library() {
    let outcome = Simulation::new(1).keep_events(50).run(|world| {
        let _server = world.host("server").run(server);
        let client = world.host("client").run(client);
        world.eventually(60.secs(), || client.finished());
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    assert_eq!(outcome.leaked, [""; 0]);
}

#[test]
fn an_echo_survives_everything() {
    let faults = Faults::swarm().without(Fault::Emfile).without(Fault::Enfile).without(Fault::Memory);
    Check::new().seeds(200).faults(faults).cpu(Cpu::Loaded).run(storm);
}

pub(crate) fn echo_digest(seed: u64) -> Outcome {
    Simulation::new(seed).faults(Faults::swarm()).cpu(Cpu::Loaded).run(storm)
}

#[test]
fn the_library_repeats_itself() {
    for seed in 1..30 {
        assert_eq!(echo_digest(seed).digest, echo_digest(seed).digest, "seed {seed:#x}");
    }
}

#[test]
fn coroutines_that_wait_are_told_with_what_they_wait_for() {
    let outcome = Simulation::new(1).keep_events(20).run(|world| {
        let server = world.host("server").run(server);
        let _client = world.host("client").run(|| {
            machinarium::run(|| {
                let stream = TcpStream::connect(raw::server(1))?;
                stream.read_exact(&mut [0; 1])
            })
        });
        world.join(&server);
    });
    assert_eq!(outcome.failure.as_ref().unwrap().kind, FailureKind::Deadlock, "{}", outcome.report(""));
    let report = outcome.report("");
    for wanted in ["coroutine 1", "parked", "library.rs", "ESTABLISHED"] {
        assert!(report.contains(wanted), "{wanted} is missing in\n{report}");
    }
}

/// The order in which four coroutines run that are ready at once.
fn order_of_four(seed: u64, faults: Faults) -> Vec<u32> {
    let order = Arc::new([const { AtomicU32::new(u32::MAX) }; 4]);
    let place = order.clone();
    let outcome = Simulation::new(seed).faults(faults).run(move |world| {
        let place = place.clone();
        let host = world.host("host").run(move || {
            machinarium::run(|| {
                let turn = Rc::new(Cell::new(0));
                let start = |number| {
                    let (place, turn) = (place.clone(), turn.clone());
                    machinarium::spawn(move || place[turn.replace(turn.get() + 1)].store(number, SeqCst))
                };
                let tasks: Vec<_> = (0..4).map(start).collect();
                tasks.into_iter().for_each(|task| task.join().unwrap());
                io::Result::Ok(())
            })
        });
        world.join(&host);
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    order.iter().map(|number| number.load(SeqCst)).collect()
}

#[test]
fn limits_are_shrunk_below_a_program_that_did_not_ask() {
    assert!((1..20).all(|seed| order_of_four(seed, Faults::default()) == [0, 1, 2, 3]));
    let orders = (1..20).map(|seed| order_of_four(seed, Faults::none().with(Fault::Limits)));
    let shuffled = orders.filter(|order| *order != [0, 1, 2, 3]).count();
    assert!((2..18).contains(&shuffled), "{shuffled} of 19");
}

/// A host's `run` takes the simulated kernel, never the real one, where the address is a stranger's. It only binds, so that
/// nothing would leave this machine if it did.
#[test]
fn a_run_in_a_host_never_reaches_the_real_kernel() {
    let outcome = Simulation::new(1).run(|world| {
        let host = world.host("alone").run(|| {
            machinarium::run(|| {
                let listener = TcpListener::bind(raw::server(1))?;
                assert_eq!(listener.local_addr()?.ip(), raw::server(1).ip());
                io::Result::Ok(())
            })
        });
        world.eventually(1.secs(), || host.finished());
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
}

/// What a host of [`each_call_of_a_start_fails_once`] has met, of all runs.
#[derive(Default)]
struct Starts {
    runs: AtomicU32,
    refused: AtomicU32,
    served: AtomicU32,
}

/// Starts machines on threads of their own, one after the other and as a group, and has each that it gets do something.
fn start_machines(starts: &Starts) -> io::Result<()> {
    let count = |result: &io::Result<()>| match result {
        Ok(()) => _ = starts.served.fetch_add(1, SeqCst),
        Err(error) => {
            assert!(error.raw_os_error().is_some(), "the system's error comes out: {error}");
            starts.refused.fetch_add(1, SeqCst);
        }
    };
    starts.runs.fetch_add(1, SeqCst);
    machinarium::run(|| {
        let before = lowest_free();
        let one = machinarium::machine::spawn("one", || machinarium::sleep(3600.secs())).map(|worker| {
            assert_eq!(worker.remote().spawn(|| 7).unwrap().join().unwrap(), 7, "who was started serves");
            worker.stop("enough");
            assert!(worker.join().unwrap().is_err());
        });
        count(&one);
        let group = Group::start("worker", 3).map(|group| {
            let all: Vec<_> = (0..3).map(|number| group.spawn(move || number).unwrap()).collect();
            assert_eq!(all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
            group.end("enough").unwrap();
        });
        count(&group);
        // Those of a group that has failed end by themselves.
        machinarium::sleep(Duration::from_millis(10))?;
        if let (Some(before), Some(after)) = (before, lowest_free()) {
            assert_eq!(after, before, "a descriptor is left");
        }
        io::Result::Ok(())
    })
}

/// The number that the next descriptor gets, unless it is this call that fails.
fn lowest_free() -> Option<i32> {
    let kernel = machinarium::machine::current::kernel();
    let fd = kernel.eventfd(0).ok()?;
    kernel.close(fd).unwrap();
    Some(fd.raw())
}

/// Every call that the start of a machine makes, on the thread that starts it and on its own, fails once in each of the ways in
/// which it can: the start says so, or the machine serves. Nothing is left of one that has failed: no descriptor, and no thread that
/// would keep its process.
#[test]
fn each_call_of_a_start_fails_once() {
    let kinds =
        [Fault::Emfile, Fault::Enfile, Fault::Memory, Fault::Spawn, Fault::Eintr, Fault::SpuriousWake];
    let kinds = kinds.into_iter().fold(Faults::none(), Faults::with);
    let starts = Arc::new(Starts::default());
    let seen = starts.clone();
    let runs = exhaust(kinds, move |world| {
        let starts = seen.clone();
        let host = world.host("host").may_fail().run(move || start_machines(&starts));
        world.sleep(1.secs());
        assert!(!host.running(), "a machine is left");
    });
    let [entered, refused, served] =
        [&starts.runs, &starts.refused, &starts.served].map(|count| count.load(SeqCst));
    // Three machines: an eventfd, a thread, an epoll instance and its first entry each, in some ways each.
    assert!(
        u64::from(entered) == runs && refused >= 3 * 8,
        "{runs} runs, {entered} begun, {refused} refused"
    );
    assert!(served > refused && served + refused <= 2 * entered, "{served} of {entered} served");
}

/// A machine that cannot start has been waited for by somebody who was cancelled, or whose machine ends meanwhile.
#[test]
fn a_start_that_fails_meets_the_end_of_its_starter() {
    let faults = Faults::none().rate(Fault::Memory, 3).with(Fault::Preempt);
    Check::new().seeds(300).faults(faults).cpu(Cpu::Loaded).run(|world| {
        let pause = Duration::from_micros(world.random(400));
        let host = world.host("host").may_fail().run(move || {
            Builder::new().grace(Duration::from_micros(20)).run(|| {
                let starters: Vec<_> = (0..3)
                    .map(|_| machinarium::spawn(|| machinarium::machine::spawn("one", || 7).map(drop)))
                    .collect();
                machinarium::sleep(pause)?;
                starters.iter().try_for_each(|starter| starter.cancel("enough"))?;
                io::Result::Ok(())
            })
        });
        world.sleep(1.secs());
        assert!(!host.running(), "a machine is left");
    });
}

/// A call that no thread can be had for gives its place in the queue back.
#[test]
fn blocking_calls_are_refused_without_threads_and_go_on_with_them() {
    for seed in 1..20 {
        let simulation = Simulation::new(seed).faults(Faults::none().rate(Fault::Spawn, 2));
        let outcome = simulation.keep_events(20).run(|world| {
            let host = world.host("host").run(|| {
                let tight = Tuning { pool_queue: 1, ..Tuning::default() };
                Builder::new().tuning(tight).run(|| {
                    let (mut made, mut refused) = (0, 0);
                    for _ in 0..30 {
                        match machinarium::blocking(|| ()) {
                            Ok(()) => made += 1,
                            Err(BlockingError::Thread(_)) => refused += 1,
                            Err(error) => panic!("{error}"),
                        }
                        // The thread that made it ends.
                        machinarium::sleep(11.secs())?;
                    }
                    assert!(made > 0 && refused > 0, "{made} {refused}");
                    io::Result::Ok(())
                })
            });
            world.join(&host);
        });
        assert!(outcome.passed(), "{}", outcome.report(""));
    }
}

/// Callers of several machines meet in a pool that has no thread, or is about to have one that then cannot be made: each is told.
#[test]
fn no_blocking_call_is_forgotten_without_threads() {
    fn call(number: u64) {
        for round in 0..10 {
            match machinarium::blocking(move || round) {
                Ok(answer) => assert_eq!(answer, round),
                Err(error) => assert!(matches!(error, BlockingError::Thread(_)), "{error}"),
            }
            machinarium::sleep(Duration::from_millis(number * round % 3 * 6)).unwrap();
        }
    }
    let faults = Faults::none().rate(Fault::Spawn, 2).with(Fault::Preempt).with(Fault::Limits);
    Check::new().seeds(300).faults(faults).run(|world| {
        let threads = 1 + world.random(2) as usize;
        let host = world.host("host").run(move || {
            let few = Tuning { pool_threads: threads, pool_keep: 5.millis(), ..Tuning::default() };
            Builder::new().tuning(few).run(|| {
                let spawn_machine = |number: u64| loop {
                    let callers = move || {
                        let callers: Vec<_> =
                            (0..3).map(|caller| machinarium::spawn(move || call(number + caller))).collect();
                        callers.into_iter().for_each(|caller| caller.join().unwrap());
                    };
                    // There may be no thread for it, for once.
                    if let Ok(machine) = machinarium::machine::spawn("caller", callers) {
                        break machine;
                    }
                };
                let machines: Vec<_> = (0..3).map(spawn_machine).collect();
                machines.into_iter().for_each(|machine| machine.join().unwrap());
                io::Result::Ok(())
            })
        });
        // Not `eventually`, which turns the faults off.
        world.join(&host);
        assert!(host.finished());
    });
}

/// Ends on SIGTERM: who was let in is served, who comes later is not.
fn polite_server() -> io::Result<()> {
    Builder::new().drain(Duration::from_secs(60)).run(|| {
        let shutdown = Shutdown::new();
        shutdown.on_signals([Signal::Term])?;
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, raw::PORT)))?;
        let ended: io::Result<()> = shutdown.until_begun(|| {
            loop {
                let (stream, _) = listener.accept()?;
                machinarium::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        assert_eq!(shutdown.cause().as_deref(), Some("SIGTERM"), "{ended:?}");
        Ok(())
    })
}

/// Says one word at a time on a connection that it keeps; the number of words that came back.
fn patient_client(words: u32, let_in: &AtomicU32) -> io::Result<u32> {
    machinarium::run(|| {
        let stream = loop {
            match TcpStream::connect(raw::server(1)) {
                Ok(stream) => break stream,
                Err(_) => machinarium::sleep(Duration::from_millis(5))?,
            }
        };
        for word in 0..words {
            let_in.store(word, SeqCst);
            stream.write_all(&word.to_le_bytes())?;
            let mut answer = [0; 4];
            stream.read_exact(&mut answer)?;
            assert_eq!(u32::from_le_bytes(answer), word);
            machinarium::sleep(Duration::from_millis(1))?;
        }
        Ok(words)
    })
}

#[test]
fn sigterm_ends_a_service_when_it_has_served_whom_it_let_in() {
    let faults = Faults::none().rate(Fault::LateSignal, 2).rate(Fault::Eintr, 8).rate(Fault::EpollOrder, 4);
    Check::new().seeds(200).faults(faults).cpu(Cpu::Loaded).run(|world| {
        let server = world.host("server").run(polite_server);
        let let_in = Arc::new(AtomicU32::new(0));
        let word = let_in.clone();
        let client =
            world.host("client").run(move || patient_client(40, &word).map(|words| assert_eq!(words, 40)));
        while let_in.load(SeqCst) == 0 {
            world.sleep(1.millis());
        }
        world.sleep(Duration::from_micros(world.random(60_000)));
        server.signal(Signal::Term);
        world.eventually(30.secs(), || server.finished() && client.finished());
        assert_eq!(server.killed_by(), None);
    });
}
