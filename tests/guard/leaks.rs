//! What the guard refuses, and what is said of runs that differ.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use machinarium_sim::{Check, Durations, FailureKind, Simulation, Strategy};

/// Its name is looked for in the backtrace.
#[inline(never)]
fn starts_a_thread() -> std::io::Result<()> {
    std::thread::Builder::new().spawn(|| ())?.join().unwrap();
    Ok(())
}

#[test]
fn a_stray_thread_is_the_failure_of_its_run() {
    let outcome = Simulation::new(1).keep_events(10).run(|world| {
        let host = world.host("careless").run(starts_a_thread);
        world.join(&host);
    });
    let failure = outcome.failure.clone().expect("threads are not simulated");
    assert_eq!(failure.kind, FailureKind::Undetermined);
    assert_eq!((failure.host.as_str(), failure.thread.as_str()), ("careless", "main"));
    let report = outcome.report("");
    for wanted in ["a thread outside of the world", "machine::spawn", "starts_a_thread"] {
        assert!(report.contains(wanted), "{wanted} is missing in\n{report}");
    }
}

#[test]
fn machines_are_no_strays() {
    machinarium_sim::check(|world| {
        let host = world.host("host").run(|| {
            machinarium::run(|| {
                let machine = machinarium::machine::spawn("other", || std::thread::sleep(1.secs()))?;
                assert_eq!(machinarium::blocking(|| 7).unwrap(), 7);
                machine.join().unwrap();
                std::io::Result::Ok(())
            })
        });
        world.eventually(5.secs(), || host.finished());
    });
}

#[test]
fn a_static_decides_all_the_same() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let said = std::panic::catch_unwind(|| {
        Check::new().strategy(Strategy::Random).seeds(10).run(|world| {
            let spoilt = RUNS.fetch_add(1, SeqCst) >= 5;
            world.random(if spoilt { 11 } else { 13 });
            assert!(!spoilt, "state of earlier seeds");
        });
    });
    let said = *said.unwrap_err().downcast::<String>().unwrap();
    assert!(said.contains("NOT confirmed"), "{said}");
    assert!(!said.contains("guard!()"), "there is one: {said}");
}
