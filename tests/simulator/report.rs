//! What is said of a run that fails.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use machinarium::kernel::{Kernel, ThreadOptions};
use machinarium::machine;
use machinarium_sim::{Durations, FailureKind, Outcome, Record, Simulation, World};

use crate::raw::{self, Program};

fn failing(script: impl Fn(&World) + 'static) -> Outcome {
    let outcome = Simulation::new(0x1f3a).keep_events(30).record(true).run(script);
    assert!(!outcome.passed());
    outcome
}

#[test]
fn a_panic_is_told_with_host_thread_and_time() {
    let outcome = failing(|world| {
        let _server = world.host("server").run_on_kernel(|kernel: Rc<dyn Kernel>| -> () {
            let program = Program::new(kernel);
            program.wait(Some(1500.millis()));
            panic!("the invariant is gone");
        });
        world.sleep(10.secs());
    });
    let failure = outcome.failure.clone().unwrap();
    assert_eq!(
        (failure.kind, failure.host.as_str(), failure.thread.as_str()),
        (FailureKind::Panic, "server", "main")
    );
    let report = outcome.report("the command");
    for wanted in [
        "the invariant is gone",
        "report.rs:",
        "on server, thread main",
        "after 1.50",
        "reproduce: the command",
    ] {
        assert!(report.contains(wanted), "{wanted} is missing in\n{report}");
    }
}

/// A host whose machine starts a coroutine that panics.
fn with_a_panic(may_fail: bool, joined: bool) -> Outcome {
    Simulation::new(1).keep_events(10).run(move |world| {
        let host = world.host("server");
        let host = if may_fail { host.may_fail() } else { host };
        let host = host.run(move || {
            machinarium::run(|| {
                let task = machinarium::spawn_named("worker", || {
                    machinarium::sleep(250.millis()).unwrap();
                    panic!("a coroutine breaks");
                });
                match joined {
                    true => drop(task.join().unwrap_err()),
                    false => drop(task),
                }
                machinarium::sleep(1.secs())?;
                std::io::Result::Ok(())
            })
        });
        world.join(&host);
    })
}

#[test]
fn a_panic_of_a_coroutine_that_nobody_joins_fails_the_world() {
    let outcome = with_a_panic(false, false);
    let report = outcome.report("");
    assert_eq!(outcome.failure.expect("the panic is lost").kind, FailureKind::Panic);
    for wanted in [
        "nobody joins it: a coroutine breaks",
        "report.rs:",
        "on server, thread main, coroutine 2 'worker'",
        "after 0.25",
    ] {
        assert!(report.contains(wanted), "{wanted} is missing in\n{report}");
    }
    assert!(with_a_panic(true, false).passed(), "such a host may fail");
    let joined = with_a_panic(false, true);
    assert!(joined.passed(), "{}", joined.report(""));
    let note = &joined.panics[0];
    assert_eq!((note.thread.as_str(), note.coroutine.as_str()), ("server/main", "2 'worker'"));
}

type Main = fn() -> io::Result<()>;

/// Runs `body` in a machine; how many panics it has counted a while later.
fn panics_of(may_fail: bool, body: Main) -> (Outcome, u64) {
    let counted = Arc::new(AtomicU64::new(0));
    let count = counted.clone();
    let outcome = Simulation::new(1).run(move |world| {
        let host = world.host("server");
        let host = if may_fail { host.may_fail() } else { host };
        let count = count.clone();
        let host = host.run(move || {
            machinarium::run(|| {
                body()?;
                machinarium::sleep(1.secs())?;
                let machines = machinarium::inspect::statistics()?;
                count.store(machines.iter().map(|machine| machine.panics).sum(), Ordering::Relaxed);
                io::Result::Ok(())
            })
        });
        world.join(&host);
    });
    (outcome, counted.load(Ordering::Relaxed))
}

fn breaks() {
    panic!("something breaks");
}

/// When what it would join has ended.
fn dropped_late<T>(handle: T) -> io::Result<()> {
    machinarium::sleep(1.millis())?;
    drop(handle);
    Ok(())
}

/// The result of what runs elsewhere goes by two ends, and either may be the last: the panic is told of in both cases, and once.
#[test]
fn a_panic_elsewhere_that_nobody_joins_fails_the_world() {
    let bodies: [(Main, u64); 4] = [
        (|| machine::current()?.spawn(breaks).map(drop).map_err(io::Error::from), 1),
        (|| dropped_late(machine::current()?.spawn(breaks)?), 1),
        // Its machine has ended, and counts nothing any more.
        (|| machine::spawn("worker", breaks).map(drop), 0),
        (|| dropped_late(machine::spawn("worker", breaks)?), 1),
    ];
    for (body, counted) in bodies {
        let (outcome, _) = panics_of(false, body);
        let report = outcome.report("");
        assert_eq!(outcome.failure.expect("the panic is lost").kind, FailureKind::Panic);
        assert!(report.contains("nobody joins it: something breaks"), "{report}");
        let (outcome, panics) = panics_of(true, body);
        assert!(outcome.passed(), "such a host may fail: {}", outcome.report(""));
        assert_eq!(panics, counted);
    }
    let (joined, panics) = panics_of(false, || {
        machine::current()?.spawn(breaks)?.join().unwrap_err();
        machine::spawn("worker", breaks)?.join().unwrap_err();
        Ok(())
    });
    assert!(joined.passed(), "{}", joined.report(""));
    assert_eq!(panics, 0);
}

/// A machine one of whose coroutines swallows every attempt to unwind it.
fn stubborn() -> std::io::Result<()> {
    let tuning = machinarium::Tuning { swallows: 5, grace: 0.secs(), ..Default::default() };
    machinarium::Builder::new().tuning(tuning).run(|| {
        machinarium::spawn_named("stubborn", || {
            loop {
                let _ = std::panic::catch_unwind(|| machinarium::sleep(1000.secs()));
            }
        });
        Ok(machinarium::sleep(1.secs())?)
    })
}

#[test]
fn a_machine_that_aborts_fails_its_seed_and_not_the_test_process() {
    let outcome = failing(|world| {
        let host = world.host("host").run(stubborn);
        world.join(&host);
    });
    let (failure, report) = (outcome.failure.as_ref().unwrap(), outcome.report(""));
    assert_eq!((failure.kind, failure.host.as_str()), (FailureKind::Aborted, "host"), "{report}");
    for wanted in ["swallows every attempt to unwind it", "after 1.00", "'stubborn'"] {
        assert!(report.contains(wanted), "{wanted} is missing in\n{report}");
    }
    // The same in a world that ends before the machine does.
    let outcome = Simulation::new(1).run(|world| {
        let _host = world.host("host").run(stubborn);
        world.sleep(100.millis());
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    assert_eq!(outcome.leaked, ["host/main"]);
}

#[test]
fn a_stuck_world_tells_who_waits_for_what() {
    let outcome = failing(|world| {
        let _server = world.host("server").run_on_kernel(|kernel: Rc<dyn Kernel>| {
            let program = Program::new(kernel);
            let listener = program.listen();
            let _ = program.accept(listener);
        });
        let client = world.host("client").run_on_kernel(|kernel: Rc<dyn Kernel>| {
            let main = |kernel: Rc<dyn Kernel>| kernel.futex_wait(&0.into(), 0, None).unwrap_or(());
            let options = ThreadOptions { name: "waiter".to_owned(), ..Default::default() };
            let thread = kernel.spawn(&options, Box::new(main)).unwrap();
            drop(kernel.join(thread));
        });
        world.sleep(1.secs());
        world.join(&client);
    });
    assert_eq!(outcome.failure.as_ref().unwrap().kind, FailureKind::Stuck);
    let report = outcome.report("");
    for wanted in [
        "server/main: epoll_wait, for ever",
        "client/main: join of thread",
        "client/waiter: futex_wait, for ever",
        "LISTEN",
        "accept4(",
        "| client",
    ] {
        assert!(report.contains(wanted), "{wanted} is missing in\n{report}");
    }
}

#[test]
fn a_coroutine_that_has_not_begun_is_told_too() {
    let outcome = failing(|world| {
        let _host = world.host("host").run(|| {
            machinarium::run(|| {
                for _ in 0..1_000_000 {
                    machinarium::spawn(|| ());
                    // A call, which lets the world end while the coroutine waits to begin.
                    drop(machinarium::net::UdpSocket::bind("127.0.0.1:0")?);
                }
                std::io::Result::Ok(())
            })
        });
        world.sleep(10.micros());
        panic!("it ends just now");
    });
    let report = outcome.report("");
    assert!(report.contains("ready, its first run"), "{report}");
}

#[test]
fn a_world_without_end_is_stopped() {
    let outcome = Simulation::new(1).limit_calls(10_000).run(|world| {
        let _busy = world.host("busy").run_on_kernel(|kernel: Rc<dyn Kernel>| -> () {
            loop {
                kernel.sched_yield();
            }
        });
        world.sleep(1_000_000.secs());
    });
    assert_eq!(outcome.failure.unwrap().kind, FailureKind::Livelock);
    assert_eq!(outcome.leaked, ["busy/main"], "what does not end is left");
}

#[test]
fn an_error_of_a_main_function_fails_unless_it_may() {
    let run = |may_fail: bool| {
        Simulation::new(1).run(move |world| {
            let host = world.host("host");
            let host = if may_fail { host.may_fail() } else { host };
            let host = host.run(|| Err::<(), _>("out of luck"));
            world.eventually(1.secs(), || host.finished());
        })
    };
    assert!(run(true).passed());
    let failure = run(false).failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Failed);
    assert!(failure.message.contains("out of luck"));
}

#[test]
fn eventually_says_where_and_what() {
    let outcome = failing(|world| {
        let _server = world.host("server").run_on_kernel(|kernel| raw::echo_server(kernel, 1));
        world.eventually(3.secs(), || false);
    });
    let report = outcome.report("");
    assert!(report.contains("not within 3s without faults") && report.contains("report.rs"), "{report}");
}

#[test]
fn a_record_replays_the_run_and_survives_a_file() {
    let script = |world: &World| {
        let server = world.host("server").run_on_kernel(|kernel| raw::echo_server(kernel, 1));
        let client =
            world.host("client").run_on_kernel(|kernel| raw::echo_client(kernel, raw::server(1), 20));
        world.eventually(60.secs(), || client.finished() && server.finished());
    };
    let run = Simulation::new(9).record(true).run(script);
    let record = run.record.as_ref().unwrap();
    for site in ["cost", "latency"] {
        let drawn = record.streams.values().flatten().any(|choice| choice.site == site && choice.answer != 0);
        assert!(drawn, "nothing draws {site}");
    }
    let text = record.to_text();
    let again = Simulation::new(0).replay(Record::from_text(&text).unwrap()).run(script);
    assert_eq!(again.digest, run.digest);
    assert_eq!(again.alignment.missed, 0);
}
