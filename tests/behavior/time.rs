//! Sleeping, deadlines and their scopes.

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use crate::both;
use machinarium::{JoinError, WaitError, now, random, run, sleep, spawn, system_time, timeout, yield_now};

const LONG: Duration = Duration::from_secs(600);

#[test]
fn sleep_takes_its_time() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let start = now();
            sleep(Duration::from_millis(3))?;
            assert!(now() - start >= Duration::from_millis(3));
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn sleeps_end_in_the_order_of_their_deadlines() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let start = now();
            let handles: Vec<_> = [9u64, 3, 6, 1, 12]
                .into_iter()
                .map(|n| spawn(move || sleep(Duration::from_millis(n)).map(|()| (now() - start, n)).unwrap()))
                .collect();
            let mut ends: Vec<_> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
            ends.sort();
            assert_eq!(ends.iter().map(|end| end.1).collect::<Vec<_>>(), [1, 3, 6, 9, 12]);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn the_nearest_deadline_wins() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let outer = timeout(Duration::from_millis(2), || timeout(LONG, || sleep(LONG)));
            assert!(matches!(outer, Err(WaitError::Expired(_))));
            let inner = timeout(LONG, || {
                let inner = timeout(Duration::from_millis(2), || sleep(LONG));
                (inner, sleep(Duration::from_millis(1)))
            });
            assert!(inner.0.is_err() && inner.1.is_ok());
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn an_error_names_the_scope_that_expired() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let scopes = [(); 2].map(|()| match timeout(Duration::from_millis(1), || sleep(LONG)) {
                Err(WaitError::Expired(expired)) => expired.scope(),
                other => panic!("{other:?}"),
            });
            assert!(scopes[0].is_some() && scopes[0] != scopes[1]);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn yielding_coroutines_do_not_starve_timers() {
    both(|| {
        let result: io::Result<()> = machinarium::Builder::new().grace(Duration::ZERO).run(|| {
            for _ in 0..2 {
                spawn(|| {
                    loop {
                        yield_now();
                    }
                });
            }
            sleep(Duration::from_micros(200))?;
            // They never wait, so nothing but the machine's end stops them.
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_spawned_coroutine_has_no_deadline_and_a_scoped_one_has() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let free = timeout(Duration::from_millis(1), || spawn(|| sleep(Duration::from_millis(4))));
            timeout(Duration::from_millis(1), || {
                machinarium::scope(|scope| {
                    assert!(scope.spawn(|| sleep(LONG)).join().is_err());
                });
            });
            assert_eq!(free.join().unwrap(), Ok(()));
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn join_deadline_leaves_the_coroutine_joinable() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let mut handle = spawn(|| sleep(Duration::from_millis(5)).map(|()| 5));
            assert!(handle.join_deadline(now() + Duration::from_millis(1)).is_err());
            assert_eq!(handle.join().unwrap(), Ok(5));
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_late_timer_does_not_end_the_next_wait() {
    both(|| {
        let result: io::Result<()> = run(|| {
            for _ in 0..10 {
                // Over before its deadline, whose timer is still armed and comes in the middle of the next wait.
                let child = timeout(Duration::from_millis(1), || spawn(yield_now).join());
                assert!(child.is_ok() || child.is_err_and(|error| matches!(error, JoinError::Wait(_))));
                let start = now();
                sleep(Duration::from_millis(3))?;
                assert!(now() - start >= Duration::from_millis(3));
            }
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn the_wall_clock_is_of_this_century_and_goes_on() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let before = system_time();
            let years = before.duration_since(UNIX_EPOCH).unwrap().as_secs() / (365 * 86_400);
            assert!((50..130).contains(&years), "{years} years since 1970");
            sleep(Duration::from_millis(20))?;
            let passed = system_time().duration_since(before).unwrap();
            assert!(passed >= Duration::from_millis(10), "{passed:?} passed in 20 ms");
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn random_bytes_fill_all_that_is_to_be_filled() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let mut long = [0; 1000];
            random::fill(&mut long);
            for part in long.chunks(50) {
                assert_ne!(part, [0; 50]);
            }
            assert_ne!(random::u64(), random::u64());
            Ok(())
        });
        result.unwrap();
    });
}
