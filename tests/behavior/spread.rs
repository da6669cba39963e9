//! Work over several machines: the least loaded gets it, processors are given, and what is to be done at a machine's end is done.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::{both, both_with_kernel};
use machinarium::machine::at_exit;
use machinarium::sync::Event;
use machinarium::{
    Builder, Group, JoinError, Misuse, cancelled, machine, run, shield, sleep, spawn, timeout, yield_now,
};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(20);

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

#[test]
fn who_has_least_gets_the_next() {
    both(|| {
        assert!(Group::start("worker", 2).is_err(), "outside of a machine");
        in_a_machine(|| {
            let group = Group::start("worker", 3)?;
            let names: Vec<_> = group.machines().map(|remote| remote.name().to_owned()).collect();
            assert_eq!(names, ["machine-0", "worker-1", "worker-2"]);
            let release: [Event; 9] = std::array::from_fn(|_| Event::new());
            let waits = |place: usize| {
                let event = release[place].clone();
                group.spawn(move || {
                    event.wait().unwrap();
                    machine::current().unwrap().number()
                })
            };
            let mut all: Vec<_> = (0..9).map(waits).collect::<Result<_, _>>()?;
            assert_eq!(group.loads(), [3, 3, 3], "they are spread before any has run");
            // The second machine's end.
            let first = all.remove(1);
            let second = all.remove(3);
            release[1].set();
            release[4].set();
            assert_eq!((first.join()?, second.join()?), (1, 1));
            assert_eq!(group.loads(), [3, 1, 3]);
            assert_eq!(group.spawn(|| machine::current().unwrap().number())?.join()?, 1);
            release.iter().for_each(|event| _ = event.set());
            let numbers: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
            assert_eq!(numbers, [0, 2, 0, 2, 0, 1, 2]);
            group.end("enough")
        });
    });
}

#[test]
fn a_group_ends_by_cancelling_what_runs() {
    both(|| {
        in_a_machine(|| {
            let group = Group::start("worker", 2)?;
            let left: Vec<_> =
                (0..4).map(|_| group.spawn(|| sleep(LONG).is_err())).collect::<Result<_, _>>()?;
            sleep(SHORT)?;
            group.end("enough")?;
            for (place, one) in left.into_iter().enumerate() {
                // Those of this machine go on.
                if place % 2 == 1 {
                    assert!(matches!(one.join(), Ok(true) | Err(JoinError::Unwound)));
                } else {
                    assert!(!one.is_finished());
                }
            }
            // One that is dropped ends too, and nobody waits for it.
            let group = Group::start("worker", 2)?;
            let seen = group.machines().nth(1).unwrap().clone();
            drop(group);
            while seen.spawn(|| ()).is_ok() {
                sleep(SHORT)?;
            }
            Ok(())
        });
    });
}

#[test]
fn a_start_is_not_left_half_way() {
    both(|| {
        in_a_machine(|| {
            let starter = spawn(|| {
                let group = timeout(Duration::ZERO, || Group::start("worker", 3))?;
                // What came meanwhile is felt now.
                let error = sleep(LONG).unwrap_err().into();
                assert!(cancelled(&error).is_some(), "{error}");
                shield(|| group.end("enough"))
            });
            yield_now();
            starter.cancel("enough")?;
            starter.join()?
        });
    });
}

/// Where no coroutine could wait for a machine to start, the thread does; a destructor that a panic runs is refused.
#[test]
fn a_machine_is_started_by_a_hook_and_not_while_unwinding() {
    struct Starts;
    impl Drop for Starts {
        fn drop(&mut self) {
            let error = machine::spawn("late", || ()).map(drop).unwrap_err();
            assert_eq!(error.kind(), machine_error(Misuse::Unwinding).kind());
            assert_eq!(error.to_string(), machine_error(Misuse::Unwinding).to_string());
        }
    }
    both(|| {
        let started = Arc::new(AtomicBool::new(false));
        let seen = started.clone();
        in_a_machine(|| {
            at_exit(move || seen.store(machine::spawn("late", || ()).is_ok(), Ordering::SeqCst))?;
            let unwound = spawn(|| {
                let _starts = Starts;
                std::panic::resume_unwind(Box::new("on purpose"));
            });
            assert!(matches!(unwound.join(), Err(JoinError::Panicked(_))));
            Ok(())
        });
        assert!(started.load(Ordering::SeqCst));
    });
}

fn machine_error(misuse: Misuse) -> io::Error {
    misuse.into()
}

#[test]
fn machines_run_on_the_processors_that_they_are_given() {
    both_with_kernel(|kernel| {
        let before = kernel.sched_getaffinity();
        let processor = before.iter().last().unwrap();
        let bound = || -> Vec<usize> { machine::current::kernel().sched_getaffinity().iter().collect() };
        let seen: io::Result<_> = Builder::new().affinity([processor]).run(|| {
            let inherits = machine::spawn("other", bound)?.join()?;
            let first = before.iter().next().unwrap();
            let own = Builder::new().affinity([first]).spawn(bound)?.join()?;
            let nowhere = Builder::new().affinity([8_000]).spawn(bound);
            assert!(nowhere.is_err_and(|error| error.to_string().contains("[8000]")));
            assert_eq!(own, [first]);
            Ok([bound(), inherits])
        });
        assert_eq!(seen.unwrap(), [[processor], [processor]]);
        assert_eq!(kernel.sched_getaffinity(), before);
        let refused: io::Result<()> = Builder::new().affinity([8_000]).run(|| Ok(()));
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("[8000]"), "{error}");
    });
}

#[test]
fn hooks_run_at_a_machines_end_the_last_one_first() {
    struct Says(&'static str, Rc<RefCell<Vec<&'static str>>>);
    impl Drop for Says {
        fn drop(&mut self) {
            self.1.borrow_mut().push(self.0);
        }
    }
    both(|| {
        assert!(at_exit(|| ()).is_err(), "outside of a machine");
        let said = Rc::new(RefCell::new(Vec::new()));
        let result: io::Result<()> = run(|| {
            let says = |word| {
                let said = said.clone();
                at_exit(move || said.borrow_mut().push(word))
            };
            says("first")?;
            let late = said.clone();
            at_exit(move || {
                late.borrow_mut().push("second");
                let later = late.clone();
                at_exit(move || later.borrow_mut().push("asked for at the end")).unwrap();
            })?;
            says("third")?;
            let unwound = Says("the last coroutine", said.clone());
            spawn(move || {
                let _unwound = unwound;
                shield(|| sleep(LONG))
            });
            sleep(SHORT)?;
            Ok(())
        });
        result.unwrap();
        assert_eq!(
            *said.borrow(),
            ["the last coroutine", "third", "second", "asked for at the end", "first"]
        );
    });
}

#[test]
fn a_hook_that_panics_or_wants_to_wait_ends_no_other() {
    both(|| {
        let count = Arc::new(AtomicUsize::new(0));
        let refused = Arc::new(AtomicBool::new(false));
        let (theirs, tells) = (count.clone(), refused.clone());
        in_a_machine(|| {
            let other = machine::spawn("other", move || {
                at_exit(move || _ = theirs.fetch_add(1, Ordering::SeqCst)).unwrap();
                at_exit(move || tells.store(sleep(SHORT).is_err(), Ordering::SeqCst)).unwrap();
                at_exit(|| std::panic::resume_unwind(Box::new("on purpose"))).unwrap();
            })?;
            Ok(other.join()?)
        });
        assert_eq!((count.load(Ordering::SeqCst), refused.load(Ordering::SeqCst)), (1, true));
    });
}
