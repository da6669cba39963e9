//! Machines on several threads.

use std::io;
use std::time::Duration;

use crate::both;
use machinarium::{JoinError, Misuse, machine, run, sleep, spawn};

const LONG: Duration = Duration::from_secs(600);

#[test]
fn a_machine_returns_its_value() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let machines: Vec<_> = (0..4).map(|n| machine::spawn("worker", move || n * n).unwrap()).collect();
            let squares: Vec<i32> = machines.into_iter().map(|machine| machine.join().unwrap()).collect();
            assert_eq!(squares, [0, 1, 4, 9]);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_machine_that_panics_says_so() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let error = machine::spawn("worker", || panic!("on purpose")).unwrap().join().unwrap_err();
            assert_eq!(error.message(), Some("on purpose"));
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn stop_wakes_an_idle_machine() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let worker = machine::spawn("idle", || sleep(LONG))?;
            sleep(Duration::from_millis(2))?;
            worker.stop("enough");
            assert!(worker.join().unwrap().is_err());
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn work_goes_to_another_machine_and_comes_back() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let worker = machine::spawn("worker", || sleep(LONG))?;
            let here = machine::current().unwrap();
            let join =
                worker.remote().spawn(move || (here.is_here(), machine::current().unwrap().is_here()))?;
            assert_eq!(join.join().unwrap(), (false, true));
            let many: Vec<_> = (0..500u64).map(|n| worker.remote().spawn(move || n).unwrap()).collect();
            assert_eq!(many.into_iter().map(|join| join.join().unwrap()).sum::<u64>(), 124_750);
            worker.stop("done");
            let _ = worker.join();
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_sender_that_outlives_its_machine_is_told() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let worker = machine::spawn("short", || ())?;
            let remote = worker.remote();
            worker.join().unwrap();
            // The thread may still be closing its mailbox.
            while let Ok(join) = remote.spawn(|| ()) {
                assert!(matches!(join.join(), Err(JoinError::Unwound)));
            }
            assert_eq!(remote.spawn(|| ()).err(), Some(Misuse::MachineEnded));
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_coroutine_unwound_by_its_machines_end_is_reported_to_the_other() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let worker = machine::spawn("worker", || sleep(Duration::from_millis(5)))?;
            let join = worker.remote().spawn(|| machinarium::shield(|| sleep(LONG)).map_err(|_| ()))?;
            assert!(matches!(join.join(), Err(JoinError::Unwound)));
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn runs_may_follow_each_other_but_not_nest() {
    both(|| {
        for _ in 0..3 {
            let result: io::Result<u8> = run(|| Ok(spawn(|| 1).join().unwrap()));
            assert_eq!(result.unwrap(), 1);
        }
        let nested: io::Result<()> = run(|| run(|| Ok(())));
        assert!(nested.unwrap_err().to_string().contains("run inside a machine"));
    });
}

#[test]
fn many_messages_between_two_machines() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let worker = machine::spawn("worker", || sleep(LONG))?;
            for n in 0..2000u64 {
                assert_eq!(worker.remote().spawn(move || n + 1)?.join().unwrap(), n + 1);
            }
            worker.stop("done");
            let _ = worker.join();
            Ok(())
        });
        result.unwrap();
    });
}
