//! Safe code that must not break: what would be a use after free, or a poisoned stranger, if the library were careless.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::both;
use machinarium::net::{TcpListener, TcpStream};
use machinarium::{
    Builder, JoinError, JoinHandle, Misuse, WaitError, machine, now, run, scope, sleep, spawn,
};
use machinarium_sim::{Durations, Simulation};

const LONG: Duration = Duration::from_secs(600);

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A coroutine stands inside `LocalKey::with`, so it holds a reference into its thread's storage. Its handle is forgotten
/// and its machine ends: it must be unwound while the thread, and what it borrows, is still there.
#[test]
fn one_forgotten_inside_a_thread_local_is_unwound_before_its_thread_ends() {
    static GONE: AtomicBool = AtomicBool::new(false);
    static SEEN: AtomicU32 = AtomicU32::new(0);
    struct Value(Cell<u32>);
    impl Drop for Value {
        fn drop(&mut self) {
            GONE.store(true, Ordering::SeqCst);
        }
    }
    thread_local!(static VALUE: Value = const { Value(Cell::new(7)) });
    struct Peek<'a>(&'a Value);
    impl Drop for Peek<'_> {
        fn drop(&mut self) {
            assert!(!GONE.load(Ordering::SeqCst), "the thread's storage is gone, and borrowed");
            SEEN.fetch_add(self.0.0.get(), Ordering::SeqCst);
        }
    }
    thread_local!(static LOST: Cell<Option<JoinHandle<()>>> = const { Cell::new(None) });
    fn body(lose: fn(JoinHandle<()>)) {
        GONE.store(false, Ordering::SeqCst);
        SEEN.store(0, Ordering::SeqCst);
        let result: io::Result<()> = run(|| {
            let worker = machine::spawn("short", move || {
                lose(spawn(|| {
                    VALUE.with(|value| {
                        let _peek = Peek(value);
                        let _ = machinarium::shield(|| sleep(LONG));
                    });
                }));
                sleep(Duration::from_micros(10))
            })?;
            let _ = worker.join().unwrap();
            Ok(())
        });
        result.unwrap();
        assert_eq!(SEEN.load(Ordering::SeqCst), 7, "its destructor ran once");
        LOST.take();
    }
    // A forgotten handle keeps its machine's memory and eventfd for ever, which a simulation rightly calls a leak: there it is
    // only out of everybody's reach.
    body(std::mem::forget);
    both(|| body(|handle| LOST.set(Some(handle))));
}

/// What a coroutine of a machine left in the thread's storage: they may share an OS thread, so it may be found there by another.
struct Left {
    handle: JoinHandle<u8>,
    stream: TcpStream,
}

/// A stream that outlives its machine is refused by the next, and keeps neither the machine nor a descriptor when it goes.
#[test]
fn a_stream_that_outlives_its_machine_leaves_nothing_behind() {
    both(|| {
        let mut kept = None;
        let result: io::Result<()> = run(|| {
            kept = Some(crate::tcp::pair()?);
            Ok(())
        });
        result.unwrap();
        let (stream, _other) = kept.unwrap();
        let result: io::Result<()> = run(|| {
            let error = (&stream).read(&mut [0; 4]).unwrap_err();
            assert!(error.to_string().contains("another machine"), "{error}");
            Ok(())
        });
        result.unwrap();
    });
}

/// Two machines that live at the same time: in a simulation they share an OS thread, and so its thread-locals.
#[test]
fn handles_carried_by_a_thread_local_to_a_machine_that_lives_too_are_refused() {
    thread_local!(static LEFT: RefCell<Option<Left>> = const { RefCell::new(None) });
    static FOUND: AtomicU32 = AtomicU32::new(0);
    fn stranger() {
        let Some(left) = LEFT.take() else { return };
        FOUND.fetch_add(1, Ordering::SeqCst);
        assert_eq!(left.handle.cancel("stray"), Err(Misuse::OtherMachine));
        let error = (&left.stream).read(&mut [0; 4]).unwrap_err();
        assert!(error.to_string().contains("another machine"), "{error}");
        let join = left.handle.join();
        assert!(matches!(join, Err(JoinError::Wait(WaitError::Misuse(Misuse::OtherMachine)))), "{join:?}");
        // The stream is dropped here, on a machine that is not its own.
    }
    both(|| {
        let result: io::Result<()> = run(|| {
            let listener = TcpListener::bind(loopback())?;
            let stream = TcpStream::connect(listener.local_addr()?)?;
            let (mut peer, _) = listener.accept()?;
            let handle = spawn(|| sleep(Duration::from_millis(3)).map_or(0, |()| 7));
            LEFT.set(Some(Left { handle, stream }));
            machine::spawn("stranger", stranger)?.join().unwrap();
            if LEFT.take().is_none() {
                // The stranger has dropped the stream: its own machine closes it, and the peer sees that.
                assert_eq!(Read::read(&mut peer, &mut [0; 1])?, 0);
            }
            Ok(())
        });
        result.unwrap();
    });
    let seeds = u32::try_from(crate::SEEDS + crate::HARSH_SEEDS).unwrap();
    assert_eq!(FOUND.load(Ordering::SeqCst), seeds, "on each seed, and never on Linux");
}

/// The waker comes from another machine at about the time at which the wait ends by its deadline. The coroutine ends, its
/// stack is trimmed and used by the next, whose own wait nobody may end.
#[test]
fn a_late_waker_meets_the_next_coroutine_of_a_trimmed_stack() {
    both(|| {
        let mut tuning = machinarium::Tuning::default();
        (tuning.stack_cache, tuning.stack_limit) = (0, 2);
        let result: io::Result<()> = Builder::new().tuning(tuning).run(|| {
            let worker = machine::spawn("worker", || sleep(LONG))?;
            for round in 0..60 {
                let span = Duration::from_micros(40 + 7 * round);
                let remote = worker.remote().spawn(move || sleep(Duration::from_micros(180)))?;
                let first = spawn(move || {
                    let mut remote = remote;
                    let _ = remote.join_deadline(now() + span);
                });
                first.join().unwrap();
                let second = spawn(move || {
                    let start = now();
                    sleep(Duration::from_micros(300)).unwrap();
                    now() - start
                });
                assert!(second.join().unwrap() >= Duration::from_micros(300));
            }
            worker.stop("done");
            let _ = worker.join();
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn an_accept_loop_that_ignores_every_error_holds_nobody_up() {
    both(|| {
        let result: io::Result<()> = Builder::new().grace(Duration::from_millis(2)).run(|| {
            let listener = Rc::new(TcpListener::bind(loopback())?);
            let deaf = listener.clone();
            let looping = spawn(move || {
                loop {
                    drop(deaf.accept());
                }
            });
            sleep(Duration::from_micros(50))?;
            looping.cancel("not heard").unwrap();
            let others: Vec<_> = (0..3).map(|_| spawn(|| sleep(Duration::from_micros(300)))).collect();
            others.into_iter().for_each(|other| other.join().unwrap().unwrap());
            Ok(())
        });
        result.unwrap();
    });
}

/// A child's destructor borrows from the parent's frame, which another machine's stop has begun to take down.
#[test]
fn a_scope_whose_machine_is_stopped_keeps_its_frame_until_the_children_ended() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let worker = machine::spawn("worker", || {
                let frame = Cell::new(0u32);
                struct Count<'a>(&'a Cell<u32>);
                impl Drop for Count<'_> {
                    fn drop(&mut self) {
                        self.0.set(self.0.get() + 1);
                    }
                }
                let inner = &frame;
                scope(|scope| {
                    for _ in 0..3 {
                        scope.spawn(move || {
                            let _count = Count(inner);
                            let _ = sleep(LONG);
                        });
                    }
                    let _ = sleep(LONG);
                    inner.set(inner.get() + 10);
                });
                frame.get()
            })?;
            sleep(Duration::from_micros(200))?;
            worker.stop("enough");
            assert_eq!(worker.join().unwrap(), 13);
            Ok(())
        });
        result.unwrap();
    });
}

/// Destructors that ran in the process that crashes.
static DROPPED: AtomicU32 = AtomicU32::new(0);
struct Counted;
impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

/// Two coroutines that exchange bytes and of which one panics, again and again.
fn panics_while_holding_streams() -> io::Result<()> {
    run(|| {
        let listener = TcpListener::bind(loopback())?;
        let address = listener.local_addr()?;
        let held = spawn(move || {
            let _counted = Counted;
            let (stream, _) = listener.accept()?;
            let mut word = [0; 4];
            stream.read_exact(&mut word)?;
            stream.write_all(&word)?;
            assert_ne!(&word, b"ping", "on purpose, with a stream and a listener in hand");
            io::Result::Ok(())
        });
        let _counted = Counted;
        let stream = TcpStream::connect(address)?;
        stream.write_all(b"ping")?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        assert!(held.join().is_err(), "it panicked");
        assert_eq!((&stream).read(&mut answer)?, 0);
        Ok(())
    })
}

/// A crash in the place of each call around the panic: nothing aborts, nothing leaks, and no destructor of the dead process
/// runs by it.
#[test]
fn a_crash_at_every_call_around_a_panic_with_streams() {
    for seed in 0..3 {
        let mut calls = 0;
        while !ends_within(seed, calls) {
            calls += 1;
        }
        assert!(calls > 30, "{calls}");
    }
}

/// Whether the process ends before it is killed, after so many calls.
fn ends_within(seed: u64, calls: u64) -> bool {
    let ended = Rc::new(Cell::new(false));
    let end = ended.clone();
    let outcome = Simulation::new(seed).run(move |world| {
        let host = world.host("host").run(panics_while_holding_streams);
        host.crash_after(calls);
        while host.running() {
            world.sleep(1.micros());
        }
        end.set(host.finished());
        let before = DROPPED.load(Ordering::SeqCst);
        world.sleep(1.secs());
        assert_eq!(
            DROPPED.load(Ordering::SeqCst),
            before,
            "kill -9 runs no destructor, nor does anything after it"
        );
    });
    assert!(outcome.passed(), "after {calls} calls:\n{}", outcome.report(""));
    assert!(outcome.leaked.is_empty(), "after {calls} calls seed {seed} leaks {:?}", outcome.leaked);
    ended.get()
}
