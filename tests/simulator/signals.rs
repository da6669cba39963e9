//! Signals: what they do to a process that catches them, and to one that does not.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use machinarium::kernel::{
    Caught, EpollEvent, Errno, Events, Kernel, SigAction, Signal, SignalSet, ThreadOptions,
};
use machinarium_sim::{Durations, Fault, Faults, Host, Outcome, Simulation, World};

use crate::raw::Program;

fn passes(outcome: &Outcome) {
    assert!(outcome.passed(), "{}", outcome.report(""));
}

/// Where the program notes signals: watched by its epoll instance.
fn place(program: &Program) -> Arc<Caught> {
    let event = program.kernel.eventfd(0).unwrap();
    let events = Events::IN.with(Events::ET);
    let add = machinarium::kernel::EpollOp::Add(EpollEvent { events, data: 1 });
    program.kernel.epoll_ctl(program.epoll, add, event).unwrap();
    Arc::new(Caught::new(program.kernel.share(event)))
}

fn catch(program: &Program, signal: Signal, caught: &Arc<Caught>) {
    program.kernel.sigaction(signal, SigAction::Catch, caught).unwrap();
}

/// Gives the place up, and with it its descriptor.
fn end(program: &Program, caught: Arc<Caught>) {
    for signal in Signal::ALL {
        program.kernel.sigaction(signal, SigAction::Ignore, &caught).unwrap();
    }
    drop(caught);
    program.close(program.epoll);
}

/// A host whose process sleeps for ever, or until it is killed.
fn sleeper(world: &World) -> Host {
    world.host("sleeper").run_on_kernel(|kernel| -> () {
        let program = Program::new(kernel);
        loop {
            program.wait(None);
        }
    })
}

#[test]
fn a_signal_that_nobody_caught_kills_or_is_nothing() {
    for signal in Signal::ALL {
        let ignored = [Signal::Chld, Signal::Cont, Signal::Winch].contains(&signal);
        let outcome = Simulation::new(1).run(move |world| {
            let host = sleeper(world);
            world.sleep(10.millis());
            host.signal(signal);
            world.sleep(10.millis());
            assert_eq!(host.running(), ignored, "{signal}");
            assert_eq!(host.killed_by(), (!ignored).then_some(signal));
            assert!(!host.finished());
            // A new process has not been killed by anything, and one that is dead is sent nothing.
            host.signal(Signal::Term);
            host.restart();
            world.sleep(10.millis());
            assert!(host.running() && host.killed_by().is_none());
        });
        passes(&outcome);
    }
}

/// Whoever waits for the end of a process is told of that by a signal, and its peers see its connections closed.
#[test]
fn sigterm_ends_a_process_as_kill_does() {
    let outcome = Simulation::new(1).run(|world| {
        let server = world.host("server").run_on_kernel(|kernel| {
            struct Loud;
            impl Drop for Loud {
                fn drop(&mut self) {
                    assert!(std::thread::panicking(), "a destructor of a process that was killed");
                }
            }
            let program = Program::new(kernel);
            let listener = program.listen();
            let _fd = program.accept(listener).unwrap();
            let _loud = Loud;
            loop {
                program.wait(None);
                if program.now() > 3600.secs() {
                    std::mem::forget(_loud);
                    return;
                }
            }
        });
        let client = world.host("client").run_on_kernel(|kernel| {
            let program = Program::new(kernel);
            let fd = crate::raw::connect_patiently(&program, crate::raw::server(1)).unwrap();
            assert_eq!(program.recv(fd, 10).unwrap(), [], "the kernel closes what the process had");
            program.close(fd);
            program.close(program.epoll);
        });
        world.sleep(1.secs());
        server.signal(Signal::Term);
        world.join(&server);
        world.eventually(1.secs(), || client.finished());
        assert_eq!(server.killed_by(), Some(Signal::Term));
    });
    passes(&outcome);
}

/// Waits for SIGTERM as a hub does, while signals come at any instant. In the right order nothing is lost.
fn waits_for_all(seed: u64, clears_first: bool) -> bool {
    let ended = Arc::new(AtomicU64::new(0));
    let place_of_end = ended.clone();
    let outcome = Simulation::new(seed).run(move |world| {
        let told = place_of_end.clone();
        let host = world.host("host").run_on_kernel(move |kernel| {
            let program = Program::new(kernel);
            let caught = place(&program);
            for signal in [Signal::Hup, Signal::Usr1, Signal::Term] {
                catch(&program, signal, &caught);
            }
            let mut seen = SignalSet::EMPTY;
            while !seen.contains(Signal::Term) {
                let clear = || program.kernel.read(caught.fd(), &mut [0; 8]).unwrap_or(0);
                if clears_first {
                    clear();
                }
                seen = caught.take().iter().fold(seen, SignalSet::with);
                if !clears_first {
                    program.kernel.sched_yield();
                    clear();
                }
                if !seen.contains(Signal::Term) {
                    program.wait(None);
                }
            }
            assert!(seen.contains(Signal::Hup) && seen.contains(Signal::Usr1));
            end(&program, caught);
            told.store(1, SeqCst);
        });
        world.sleep(1.millis());
        for signal in [Signal::Hup, Signal::Usr1, Signal::Hup, Signal::Term] {
            host.signal(signal);
            world.sleep(Duration::from_nanos(world.random(2_000)));
        }
        world.sleep(10.secs());
    });
    passes(&outcome);
    ended.load(SeqCst) == 1
}

#[test]
fn nothing_is_lost_by_who_clears_the_eventfd_first() {
    assert!((1..100).all(|seed| waits_for_all(seed, true)));
    let lost = (1..100).filter(|seed| !waits_for_all(*seed, false)).count();
    assert!(lost > 0, "a signal between the set and the eventfd is never reached");
}

#[test]
fn a_caught_signal_interrupts_the_sleep_of_the_main_thread_alone() {
    let outcome = Simulation::new(1).faults(Faults::none()).run(|world| {
        let host = world.host("host").run_on_kernel(|kernel| {
            let program = Program::new(kernel);
            let caught = place(&program);
            catch(&program, Signal::Usr1, &caught);
            let other = |kernel: Rc<dyn Kernel>| {
                let epoll = kernel.epoll_create1().unwrap();
                let slept = kernel.epoll_wait(epoll, &mut [EpollEvent::default()], Some(2.secs()));
                assert_eq!(slept, Ok(0), "only the main thread handles signals");
                kernel.close(epoll).unwrap();
            };
            let other = program.kernel.spawn(&ThreadOptions::default(), Box::new(other)).unwrap();
            let mut events = [EpollEvent::default(); 2];
            let wait =
                |events: &mut [EpollEvent]| program.kernel.epoll_wait(program.epoll, events, Some(10.secs()));
            assert_eq!(wait(&mut events), Err(Errno::INTR));
            assert!(program.now() < 2500.millis(), "at once");
            assert_eq!(wait(&mut events), Ok(1), "the eventfd's edge comes after it");
            let word = std::sync::atomic::AtomicU32::new(0);
            assert_eq!(program.kernel.futex_wait(&word, 0, Some(10.secs())), Err(Errno::INTR));
            // Not the sleep of a join.
            program.kernel.join(other).unwrap();
            assert_eq!(caught.take(), SignalSet::EMPTY.with(Signal::Usr1));
            end(&program, caught);
        });
        for _ in 0..3 {
            world.sleep(500.millis());
            host.signal(Signal::Usr1);
        }
        world.eventually(10.secs(), || host.finished());
    });
    passes(&outcome);
}

#[test]
fn a_process_that_signals_itself_dies_in_the_call() {
    for from_main in [true, false] {
        let after = Arc::new(AtomicU64::new(0));
        let counter = after.clone();
        let outcome = Simulation::new(1).run(move |world| {
            let counter = counter.clone();
            let host = world.host("host").run_on_kernel(move |kernel| {
                let counter = counter.clone();
                let suicide = move |kernel: Rc<dyn Kernel>| {
                    kernel.kill(Signal::Int).unwrap();
                    counter.fetch_add(1, SeqCst);
                    let _ = kernel.futex_wait(&Default::default(), 0, None);
                };
                if from_main {
                    suicide(kernel);
                } else {
                    let thread = kernel.spawn(&ThreadOptions::default(), Box::new(suicide)).unwrap();
                    kernel.join(thread).unwrap();
                }
            });
            world.join(&host);
            assert_eq!(host.killed_by(), Some(Signal::Int));
        });
        passes(&outcome);
        // Another thread may go on until the main thread gets the processor.
        assert!(after.load(SeqCst) <= u64::from(!from_main));
    }
}

/// A thread that panics finishes first.
#[test]
fn no_signal_kills_inside_of_an_unwinding() {
    struct Killer(Rc<dyn Kernel>, Arc<AtomicU64>);
    impl Drop for Killer {
        fn drop(&mut self) {
            self.0.kill(Signal::Term).unwrap();
            self.1.fetch_add(1, SeqCst);
        }
    }
    let steps = Arc::new(AtomicU64::new(0));
    let counter = steps.clone();
    let outcome = Simulation::new(1).run(move |world| {
        let host = world.host("host").run_on_kernel(move |kernel| {
            let killer = Killer(kernel.clone(), counter.clone());
            let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                let _killer = killer;
                panic!("on purpose");
            }));
            assert!(panic.is_err());
            let slept = kernel.futex_wait(&Default::default(), 0, None);
            // It is reclaimed when the world has ended.
            counter.fetch_add(u64::from(slept != Err(Errno::CANCELED)) * 10, SeqCst);
        });
        world.join(&host);
        assert_eq!(host.killed_by(), Some(Signal::Term));
    });
    passes(&outcome);
    assert_eq!(steps.load(SeqCst), 1);
}

#[test]
fn late_signals_come_and_equal_ones_are_one() {
    let outcome = Simulation::new(3).faults(Faults::none().rate(Fault::LateSignal, 1)).run(|world| {
        let host = world.host("host").run_on_kernel(|kernel| {
            let program = Program::new(kernel);
            let caught = place(&program);
            catch(&program, Signal::Usr1, &caught);
            let (mut counted, mut last) = (0, [0; 8]);
            while program.now() < 3.secs() {
                program.wait(Some(100.millis()));
                if program.kernel.read(caught.fd(), &mut last).is_ok() {
                    counted += u64::from_ne_bytes(last);
                }
            }
            assert_eq!(caught.take(), SignalSet::EMPTY.with(Signal::Usr1));
            assert!((1..40).contains(&counted), "{counted} of 40");
            end(&program, caught);
        });
        world.sleep(100.millis());
        for _ in 0..40 {
            host.signal(Signal::Usr1);
            world.sleep(100.micros());
        }
        world.eventually(10.secs(), || host.finished());
    });
    passes(&outcome);
    assert!(outcome.stats.faults.of(Fault::LateSignal) > 3);
}

#[test]
fn a_place_of_another_process_is_refused() {
    static STRANGER: OnceLock<Arc<Caught>> = OnceLock::new();
    let outcome = Simulation::new(1).run(|world| {
        let owner = world.host("owner").run_on_kernel(|kernel| {
            let wake = kernel.share(kernel.eventfd(0).unwrap());
            assert!(STRANGER.set(Arc::new(Caught::new(wake))).is_ok());
            let _ = kernel.futex_wait(&Default::default(), 0, Some(1.secs()));
        });
        let other = world.host("other").run_on_kernel(|kernel| {
            let _ = kernel.futex_wait(&Default::default(), 0, Some(1.millis()));
            let stranger = STRANGER.get().expect("made a millisecond ago");
            let answer = kernel.sigaction(Signal::Hup, SigAction::Catch, stranger);
            assert_eq!(answer, Err(Errno::INVAL));
        });
        world.join(&other);
        assert!(other.finished());
        owner.crash();
    });
    passes(&outcome);
}
