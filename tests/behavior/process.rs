//! Values of processes: one for all machines of a process, another for another process, and their end.

use std::io;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::both;
use machinarium::sync::channel;
use machinarium::{blocking, machine, run, sleep, spawn, yield_now};
use machinarium_sim::Simulation;

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(600);

machinarium::process_local! {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static SLOWLY: AtomicU32 = { let _ = sleep(SHORT); AtomicU32::new(0) };
    static FIRST: Noted = Noted::default();
    static SECOND: Noted = Noted::default();
}

machinarium::machine_local! {
    static LATE: Noted = Noted::default();
}

/// Does something when dropped, and sends its name. On the root stack nothing can wait, so that is tried.
#[derive(Default)]
struct Noted(std::sync::OnceLock<Note>);

type Note = (&'static str, Arc<channel::Sender<&'static str>>, Option<fn()>);

impl Noted {
    fn set(&self, name: &'static str, notes: &Arc<channel::Sender<&'static str>>, act: Option<fn()>) {
        let _ = self.0.set((name, notes.clone(), act));
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if let Some((name, notes, act)) = self.0.take() {
            act.into_iter().for_each(|act| act());
            let _ = notes.try_send(name);
        }
    }
}

fn count() -> u32 {
    COUNT.with(|count| count.fetch_add(1, Ordering::Relaxed)) + 1
}

#[test]
fn all_machines_of_a_process_have_one_value_and_the_next_process_another() {
    both(|| {
        for _ in 0..2 {
            let result: io::Result<()> = run(|| {
                let machines: Vec<_> = (0..3).map(|_| machine::spawn("counter", count).unwrap()).collect();
                let mut counts: Vec<u32> =
                    machines.into_iter().map(|machine| machine.join().unwrap()).collect();
                counts.push(spawn(count).join()?);
                counts.sort_unstable();
                assert_eq!(counts, [1, 2, 3, 4]);
                Ok(())
            });
            result.unwrap();
        }
    });
}

/// In one program, on one thread of the system.
#[test]
fn two_simulated_processes_each_have_their_own() {
    for seed in 0..50 {
        let outcome = Simulation::new(seed).run(|world| {
            let body = || {
                let counted: io::Result<()> = run(|| {
                    for turn in 1..5 {
                        assert_eq!(count(), turn);
                        sleep(SHORT)?;
                    }
                    Ok(())
                });
                counted.unwrap();
            };
            let hosts: Vec<_> = ["a", "b"].into_iter().map(|name| world.host(name).run(body)).collect();
            hosts.iter().for_each(|host| world.join(host));
        });
        assert!(outcome.passed(), "{}", outcome.report(""));
    }
}

#[test]
fn of_two_that_are_made_at_once_one_stays() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let others: Vec<_> = (0..4).map(|_| spawn(|| SLOWLY.get())).collect();
            let theirs = machine::spawn("another", || SLOWLY.get())?.join()?;
            for other in others {
                assert!(Arc::ptr_eq(&other.join()?, &theirs));
            }
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn values_end_with_the_last_machine_last_made_first() {
    both(|| {
        let (notes, noted) = channel::unbounded();
        let notes = Arc::new(notes);
        let theirs = notes.clone();
        let result: io::Result<()> = run(move || {
            FIRST.with(|first| first.set("first", &theirs, None));
            // Its destructor uses one that is still there, makes another one, and starts what will not run.
            let act = || {
                FIRST.with(|first| assert!(first.0.get().is_some()));
                count();
                drop(spawn(|| panic!("the process is at its end")));
            };
            SECOND.with(|second| second.set("second", &theirs, Some(act)));
            LATE.with(|late| {
                late.set("machine", &theirs, Some(|| FIRST.with(|first| assert!(first.0.get().is_some()))))
            });
            machine::spawn("another", count).unwrap().join()?;
            assert!(theirs.is_empty(), "a machine has ended, and others have not");
            Ok(())
        });
        result.unwrap();
        assert!(noted.try_iter().eq(["machine", "second", "first"]));
    });
}

#[test]
fn a_machine_that_outlives_the_first_one_has_the_values() {
    both(|| {
        let (notes, noted) = channel::unbounded();
        let (go, gone) = channel::unbounded::<()>();
        let notes = Arc::new(notes);
        let theirs = notes.clone();
        let result: io::Result<()> = run(move || {
            FIRST.with(|first| first.set("first", &theirs, None));
            drop(machine::spawn("another", move || {
                let _ = gone.recv();
                FIRST.with(|first| assert!(first.0.get().is_some()));
            })?);
            Ok(())
        });
        result.unwrap();
        assert!(noted.is_empty(), "its last machine goes on");
        drop(go);
        assert_eq!(noted.recv(), Ok("first"));
    });
}

#[test]
fn a_value_goes_where_there_is_no_machine_by_an_arc_of_it() {
    both(|| {
        assert!(catch_unwind(count).is_err());
        let result: io::Result<()> = run(|| {
            let value = COUNT.get();
            blocking(move || value.store(7, Ordering::Relaxed))?;
            assert_eq!(count(), 8);
            assert!(matches!(blocking(|| catch_unwind(count).is_err()), Ok(true)));
            drop(spawn(|| sleep(LONG)));
            yield_now();
            Ok(())
        });
        result.unwrap();
    });
}
