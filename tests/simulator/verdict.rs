//! What keeps a world from getting where it should is told apart.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use machinarium::kernel::Kernel;
use machinarium::net::{TcpListener, TcpStream};
use machinarium::sync::Mutex;
use machinarium_sim::{Durations, FailureKind, Outcome, Simulation, World};

use crate::raw;

fn verdict(script: impl Fn(&World) + 'static) -> (FailureKind, String) {
    let outcome: Outcome = Simulation::new(1).keep_events(20).run(script);
    let failure = outcome.failure.as_ref().expect("it should fail");
    (failure.kind, outcome.report(""))
}

#[track_caller]
fn assert_told(report: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(report.contains(wanted), "{wanted} is missing in\n{report}");
    }
}

/// Waits for a question, which the client has forgotten to ask.
fn server() -> io::Result<()> {
    machinarium::run(|| {
        let listener = TcpListener::bind("0.0.0.0:7000")?;
        let (stream, _) = listener.accept()?;
        machinarium::spawn_named("answers", move || stream.read_exact(&mut [0; 1])).join()?
    })
}

fn client() -> io::Result<()> {
    machinarium::run(|| {
        machinarium::sleep(10.millis())?;
        let stream = TcpStream::connect(raw::server(1))?;
        machinarium::spawn_named("asks", move || stream.read_exact(&mut [0; 1])).join()?
    })
}

#[test]
fn two_that_wait_for_each_other_are_a_deadlock_with_its_circle() {
    let (kind, report) = verdict(|world| {
        let _server = world.host("server").run(server);
        let client = world.host("client").run(client);
        world.join(&client);
    });
    assert_eq!(kind, FailureKind::Deadlock, "{report}");
    assert_told(
        &report,
        &[
            "who waits for whom:",
            "client/main, coroutine 1 'main': join coroutine 2 -> client/main, coroutine 2 'asks'",
            "which waits (",
            "for server/main, coroutine 2 'answers'",
            "a circle: ",
            "verdict.rs",
        ],
    );
}

/// Takes two locks in one order, and in the other on another machine.
fn crosswise() -> io::Result<()> {
    machinarium::run(|| {
        let locks = [(), ()].map(|()| Arc::new(Mutex::new(())));
        let [mine, yours] = locks.clone();
        let other = machinarium::machine::spawn("other", move || {
            let _first = yours.lock()?;
            machinarium::sleep(10.millis())?;
            mine.lock().map(drop)
        })?;
        machinarium::sleep(1.millis())?;
        let _first = locks[0].lock()?;
        machinarium::sleep(10.millis())?;
        drop(locks[1].lock()?);
        other.join()?.map_err(io::Error::from)
    })
}

#[test]
fn locks_taken_in_two_orders_are_a_deadlock_of_those_who_hold_them() {
    let (kind, report) = verdict(|world| {
        let host = world.host("host").run(crosswise);
        world.join(&host);
    });
    assert_eq!(kind, FailureKind::Deadlock, "{report}");
    assert_told(
        &report,
        &[
            "a circle: host/main, coroutine 1 'main' waits (lock) for host/other, coroutine 1",
            "which waits (lock) for host/main, coroutine 1 'main'",
        ],
    );
}

#[test]
fn a_deadlock_is_told_although_clocks_go_on() {
    let (kind, report) = verdict(|world| {
        let _server = world.host("server").run(server);
        let client = world.host("client").run(client);
        world.eventually(1.secs(), || client.finished());
    });
    assert_eq!(kind, FailureKind::Deadlock, "{report}");
    assert_told(&report, &["not within 1s without faults", "A deadlock: ", "'asks'"]);
}

#[test]
fn what_holds_later_is_too_slow() {
    let (kind, report) = verdict(|world| {
        let host = world
            .host("host")
            .run(|| machinarium::run(|| Ok::<(), io::Error>(machinarium::sleep(5.secs())?)));
        world.eventually(3.secs(), || host.finished());
    });
    assert_eq!(kind, FailureKind::TooSlow, "{report}");
    assert_told(&report, &["not within 3s", "It holds 2.0"]);
}

#[test]
fn what_nobody_does_is_unmet() {
    let (kind, report) = verdict(|world| {
        let _host = world
            .host("host")
            .run(|| machinarium::run(|| Ok::<(), io::Error>(machinarium::sleep(1.secs())?)));
        world.eventually(1.secs(), || false);
    });
    assert_eq!(kind, FailureKind::Unmet, "{report}");
}

fn spin(kernel: Rc<dyn Kernel>) {
    loop {
        kernel.sched_yield();
    }
}

#[test]
fn calls_by_which_nothing_moves_are_a_livelock() {
    let (kind, report) = verdict(|world| {
        let _host = world.host("host").run_on_kernel(spin);
        world.eventually(1.millis(), || false);
    });
    assert_eq!(kind, FailureKind::Livelock, "{report}");
    let outcome = Simulation::new(1).limit_calls(10_000).run(|world| {
        let _host = world.host("host").run_on_kernel(spin);
        world.sleep(1_000_000.secs());
    });
    assert_eq!(outcome.failure.unwrap().kind, FailureKind::Livelock);
}

/// Talks to itself for ever, with a lock in its hand for which another waits.
fn selfish() -> io::Result<()> {
    machinarium::run(|| {
        let listener = TcpListener::bind("127.0.0.1:7000")?;
        let one = TcpStream::connect(([127, 0, 0, 1], 7000))?;
        let (other, _) = listener.accept()?;
        let lock = Arc::new(Mutex::new(()));
        let theirs = lock.clone();
        let held = lock.lock()?;
        machinarium::spawn_named("hungry", move || theirs.lock().map(drop));
        loop {
            one.write_all(b"x")?;
            other.read_exact(&mut [0; 1])?;
            machinarium::sleep(1.millis())?;
            let _ = &held;
        }
    })
}

#[test]
fn one_that_never_has_its_turn_starves() {
    let (kind, report) = verdict(|world| {
        let _host = world.host("host").run(selfish);
        world.eventually(1.secs(), || false);
    });
    assert_eq!(kind, FailureKind::Starvation, "{report}");
    assert_told(&report, &["'hungry' waits for its lock", "lock -> host/main, coroutine 1 'main'"]);
}

#[test]
fn payload_without_end_is_no_livelock() {
    let outcome = Simulation::new(1).limit_calls(20_000).run(|world| {
        let _host = world.host("host").run(selfish);
        world.sleep(1_000_000.secs());
    });
    assert_eq!(outcome.failure.unwrap().kind, FailureKind::Endless);
}
