//! What the simulator watches by itself: wake-ups that are lost.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use machinarium::kernel::{EpollEvent, Fd, Kernel, ThreadOptions};
use machinarium::net::{TcpListener, TcpStream};
use machinarium_sim::{Durations, FailureKind, Outcome, Simulation, World};

use crate::raw;

/// The first descriptors of a process that is a machine: its eventfd and its epoll instance.
const EPOLL: Fd = Fd::from_raw(4);

/// Takes what the machine's epoll instance has to tell, now and then before the machine does.
fn steal(kernel: Rc<dyn Kernel>) {
    for _ in 0..20 {
        let _ = kernel.epoll_wait(EPOLL, &mut [EpollEvent::default()], Some(10.millis()));
    }
}

/// A server of one connection. With a thief in another thread of its process.
fn server(kernel: &Rc<dyn Kernel>, thief: bool) -> io::Result<()> {
    let kernel = kernel.clone();
    machinarium::run(|| {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, raw::PORT)))?;
        let (stream, _) = listener.accept()?;
        if thief {
            kernel.spawn(&ThreadOptions::default(), Box::new(steal))?;
        }
        let reader = machinarium::spawn_named("reader", move || stream.read_exact(&mut [0; 100]));
        reader.join().unwrap()
    })
}

/// Sends a byte a time, and closes with the last.
fn client() -> io::Result<()> {
    machinarium::run(|| {
        let stream = TcpStream::connect(raw::server(1))?;
        for _ in 0..100 {
            stream.write_all(b"x")?;
            machinarium::sleep(5.millis())?;
        }
        Ok(())
    })
}

fn run(seed: u64, thief: bool, ending: fn(&World)) -> Outcome {
    Simulation::new(seed).keep_events(20).run(move |world| {
        let _server = world.host("server").run_on_kernel(move |kernel| server(&kernel, thief));
        let _client = world.host("client").run(client);
        ending(world);
    })
}

fn is_told(outcome: &Outcome) {
    let failure = outcome.failure.as_ref().expect("a wake-up is lost");
    assert_eq!(failure.kind, FailureKind::LostWakeUp, "{}", outcome.report(""));
    assert_eq!((failure.host.as_str(), failure.thread.as_str()), ("server", "main"));
    for wanted in ["'reader' waits for descriptor", "it has IN", "no event to come"] {
        assert!(failure.message.contains(wanted), "{wanted} is missing in\n{}", outcome.report(""));
    }
}

#[test]
fn a_coroutine_that_waits_after_its_edge_was_taken_is_found_at_once() {
    let outcomes: Vec<Outcome> =
        (1..20).map(|seed| run(seed, true, |world| world.sleep(10.secs()))).collect();
    let lost: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.passed()).collect();
    assert!(lost.len() > 5, "the thief was never first");
    for outcome in lost {
        is_told(outcome);
        assert!(outcome.failure.as_ref().unwrap().at < 250.millis(), "long after the thief");
    }
}

#[test]
fn without_a_thief_no_wake_up_is_lost() {
    for seed in 1..20 {
        let outcome = run(seed, false, |world| world.sleep(10.secs()));
        assert!(outcome.passed(), "{}", outcome.report(""));
    }
}

/// The last bytes of all, after which nothing would ever happen: the verdict is not that the world is stuck.
#[test]
fn a_world_that_cannot_move_is_asked_for_its_lost_wake_ups() {
    let script = |world: &World| {
        let server = world.host("server").run_on_kernel(|kernel| server(&kernel, true));
        let _client = world.host("client").run(|| {
            machinarium::run(|| {
                let stream = TcpStream::connect(raw::server(1))?;
                machinarium::sleep(20.millis())?;
                stream.write_all(b"x")?;
                (&stream).read(&mut [0; 1]).map(drop)
            })
        });
        world.join(&server);
    };
    let kinds: Vec<FailureKind> = (1..40)
        .map(|seed| Simulation::new(seed).run(script).failure.expect("the reader waits for ever").kind)
        .collect();
    assert!(kinds.contains(&FailureKind::Deadlock) && kinds.contains(&FailureKind::LostWakeUp), "{kinds:?}");
}

/// A machine that another one sends letters, with a thief in a third thread.
fn receiver(kernel: &Rc<dyn Kernel>, thief: bool) -> io::Result<()> {
    let kernel = kernel.clone();
    machinarium::run(|| {
        if thief {
            kernel.spawn(&ThreadOptions::default(), Box::new(steal))?;
        }
        let home = machinarium::machine::current()?;
        let worker = machinarium::machine::spawn("worker", move || {
            for _ in 0..20 {
                machinarium::sleep(5.millis())?;
                home.spawn(|| ())?;
            }
            io::Result::Ok(())
        })?;
        worker.join()?
    })
}

#[test]
fn a_letter_whose_wake_up_was_taken_is_found_at_once() {
    let run = |seed: u64, thief: bool| {
        Simulation::new(seed).keep_events(20).run(move |world| {
            let host = world.host("host").run_on_kernel(move |kernel| receiver(&kernel, thief));
            world.join(&host);
        })
    };
    let lost: Vec<Outcome> =
        (1..20).map(|seed| run(seed, true)).filter(|outcome| !outcome.passed()).collect();
    assert!(lost.len() > 5, "the thief was never first");
    for outcome in lost {
        let failure = outcome.failure.as_ref().unwrap();
        assert_eq!(failure.kind, FailureKind::LostWakeUp, "{}", outcome.report(""));
        assert!(failure.message.contains("a letter is in its mailbox"), "{}", outcome.report(""));
        assert!(failure.at < 250.millis(), "long after the thief");
    }
    for seed in 1..20 {
        let outcome = run(seed, false);
        assert!(outcome.passed(), "{}", outcome.report(""));
    }
}
