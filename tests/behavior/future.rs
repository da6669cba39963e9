//! Futures inside coroutines: who polls, who wakes, and what ends a wait. What they can poll of streams is in `poll.rs`.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn, ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::{both, on_some};
use machinarium::sync::{Mutex, channel};
use machinarium::{
    Builder, JoinError, JoinHandle, Misuse, Tuning, WaitError, block_on, future, inspect, machine, now, run,
    scope, sleep, spawn, timeout, yield_now,
};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

fn in_machine(body: impl FnOnce() -> io::Result<()>) {
    run(|| timeout(LONG, body)).unwrap();
}

/// A future, and the hand that makes it ready.
#[derive(Default)]
struct Flag {
    set: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Flag {
    fn set(&self) {
        self.set.store(true, Ordering::SeqCst);
        let waker = self.waker.lock().unwrap().take();
        waker.into_iter().for_each(Waker::wake);
    }

    async fn wait(&self) {
        poll_fn(|context| {
            *self.waker.lock().unwrap() = Some(context.waker().clone());
            if self.set.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// All of them, in their order.
async fn all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let Poll::Ready(value) = Pin::new(future).poll(context)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

/// Says that it was dropped, after a wait.
struct Ends(Rc<Cell<bool>>);

impl Drop for Ends {
    fn drop(&mut self) {
        // A coroutine that is cancelled or unwound may still yield.
        yield_now();
        self.0.set(true);
    }
}

#[test]
fn a_future_is_polled_until_it_is_ready() {
    both(|| {
        in_machine(|| {
            assert_eq!(block_on(ready(7)), Ok(7));
            // Woken during its poll, many times, and not only once.
            let mut left = 1000;
            let counted = block_on(poll_fn(|context| {
                left -= 1;
                (0..3).for_each(|_| context.waker().wake_by_ref());
                if left == 0 { Poll::Ready("counted") } else { Poll::Pending }
            }));
            assert_eq!((counted, left), (Ok("counted"), 0));
            Ok(())
        });
    });
}

#[test]
fn it_is_woken_by_a_coroutine_and_by_another_machine() {
    both(|| {
        in_machine(|| {
            for elsewhere in [false, true] {
                for pause in [Duration::ZERO, SHORT] {
                    let flag = Arc::new(Flag::default());
                    let theirs = flag.clone();
                    let set = move || {
                        if !pause.is_zero() {
                            sleep(pause).unwrap();
                        }
                        theirs.set();
                    };
                    if elsewhere {
                        let other = machine::spawn("other", set)?;
                        block_on(flag.wait())?;
                        other.join()?;
                    } else {
                        let other = spawn(set);
                        block_on(flag.wait())?;
                        other.join()?;
                    }
                }
            }
            Ok(())
        });
    });
}

/// On Linux alone: a world has no threads but its own.
#[test]
#[allow(clippy::disallowed_methods, reason = "a thread that is no machine")]
fn it_is_woken_by_any_thread() {
    in_machine(|| {
        let (wakers, theirs) = std::sync::mpsc::channel::<Waker>();
        let thread = std::thread::spawn(move || {
            theirs.into_iter().for_each(|waker| {
                waker.wake_by_ref();
                // The last of them go here, after the end of what they woke.
                drop(waker);
            });
        });
        for _ in 0..100 {
            let mut polls = 0;
            block_on(poll_fn(|context| {
                polls += 1;
                wakers.send(context.waker().clone()).unwrap();
                if polls > 3 { Poll::Ready(()) } else { Poll::Pending }
            }))?;
        }
        drop(wakers);
        thread.join().unwrap();
        Ok(())
    });
}

#[test]
fn a_waker_that_outlives_what_it_woke_is_harmless() {
    both(|| {
        let kept = Arc::new(Flag::default());
        let theirs = kept.clone();
        in_machine(move || {
            for _ in 0..3 {
                let waited = timeout(SHORT, || block_on(theirs.wait()));
                assert!(matches!(waited, Err(WaitError::Expired(_))));
                // Of a coroutine that waits for something else.
                let waker = theirs.waker.lock().unwrap().clone().unwrap();
                let sleeper = spawn(|| sleep(SHORT));
                yield_now();
                waker.wake_by_ref();
                let begun = now();
                sleep(SHORT)?;
                assert!(now() - begun >= SHORT);
                sleeper.join()??;
            }
            Ok(())
        });
        // Of a machine that has ended.
        kept.set();
    });
}

#[test]
fn one_is_in_another() {
    both(|| {
        in_machine(|| {
            let (sender, receiver) = channel::bounded(1);
            let sum = block_on(async {
                let inner = block_on(async {
                    future::sleep(SHORT).await.unwrap();
                    // What parks may be called here.
                    sleep(SHORT).unwrap();
                    scope(|scope| {
                        let child = scope.spawn(|| block_on(future::sleep(SHORT)));
                        child.join()
                    })
                    .unwrap()
                    .unwrap()
                    .unwrap();
                    1
                });
                let sent = spawn(move || sender.send(20));
                let received = receiver.recv().unwrap();
                sent.await.unwrap().unwrap();
                inner.unwrap() + received
            });
            assert_eq!(sum, Ok(21));
            Ok(())
        });
    });
}

/// Pending until `flag` is set, and deeper than a small stack is.
async fn deep(flag: Rc<Flag>) -> u8 {
    flag.wait().await;
    poll_fn(|_| {
        let frame = std::hint::black_box([7_u8; 200 << 10]);
        Poll::Ready(frame[4711])
    })
    .await
}

#[test]
fn polls_take_turns_on_a_big_stack() {
    both(|| {
        let small = Builder::new().stack_size(64 << 10).big_stack_size(1 << 20);
        let result: io::Result<()> = small.run(|| {
            let flags: Vec<_> = (0..20).map(|_| Rc::new(Flag::default())).collect();
            let waiting: Vec<_> =
                flags.iter().cloned().map(|flag| spawn(move || block_on(deep(flag)))).collect();
            sleep(SHORT)?;
            let seen = inspect::statistics()?.remove(0);
            assert_eq!(
                (seen.coroutines, seen.big_stacks),
                (21, 0),
                "who waits between two polls has its own stack alone"
            );
            flags.iter().for_each(|flag| flag.set());
            for handle in waiting {
                assert_eq!(handle.join()?, Ok(7));
            }
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn without_a_big_stack_it_is_polled_where_it_is() {
    both(|| {
        let tuning = Tuning { big_stack_limit: 1, ..Tuning::default() };
        let result: io::Result<()> = Builder::new().tuning(tuning).run(|| {
            let sum = block_on(async {
                // The poll around this one has the only big stack.
                let inner = block_on(future::sleep(SHORT)).map(|slept| slept.map(|()| 1));
                inner.unwrap().unwrap() + 1
            });
            assert_eq!(sum, Ok(2));
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_deadline_and_a_cancellation_drop_it_on_its_coroutine() {
    both(|| {
        in_machine(|| {
            let ended = Rc::new(Cell::new(false));
            let end = Ends(ended.clone());
            let waited = timeout(SHORT, || {
                block_on(async move {
                    let _end = end;
                    pending::<()>().await;
                })
            });
            assert!(matches!(waited, Err(WaitError::Expired(_))) && ended.take());

            let end = Ends(ended.clone());
            let waits = spawn(move || {
                block_on(async move {
                    let _end = end;
                    pending::<()>().await;
                })
            });
            yield_now();
            waits.cancel("enough")?;
            let Err(WaitError::Cancelled(cancelled)) = waits.join()? else { panic!("it was cancelled") };
            assert_eq!(cancelled.cause(), "enough");
            assert!(ended.get());
            Ok(())
        });
    });
}

/// A wait and its deadline end at the same moment: what has come is had.
#[test]
fn what_is_ready_at_its_deadline_is_had() {
    both(|| {
        in_machine(|| {
            for _ in 0..20 {
                let at = now() + SHORT;
                let slept = machinarium::deadline(at, || block_on(future::sleep_until(at)));
                assert_eq!(slept, Ok(Ok(())));
            }
            Ok(())
        });
    });
}

#[test]
fn outside_of_a_machine_it_is_an_error() {
    both(|| {
        assert_eq!(block_on(ready(1)), Err(WaitError::Misuse(Misuse::NoMachine)));
        let mut sleep = pin!(future::sleep(SHORT));
        let polled = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(polled, Poll::Ready(Err(Misuse::NoMachine)));
    });
}

/// Each of these is ready, or woken, at every poll, and none keeps the others from running or the deadline from being seen.
#[test]
fn who_is_always_ready_starves_nobody() {
    on_some(5, 5, |_| {
        in_machine(|| {
            let flag = Rc::new(Cell::new(false));
            for kind in 0..3 {
                let theirs = flag.clone();
                let other = spawn(move || {
                    sleep(SHORT).unwrap();
                    theirs.set(true);
                });
                let round = async || match kind {
                    0 => {
                        poll_fn(|context| {
                            context.waker().wake_by_ref();
                            if flag.get() { Poll::Ready(()) } else { Poll::Pending }
                        })
                        .await
                    }
                    1 => future::sleep(Duration::ZERO).await.unwrap(),
                    _ => {
                        let _ = block_on(future::sleep(Duration::ZERO));
                    }
                };
                block_on(async {
                    while !flag.get() {
                        round().await;
                    }
                })?;
                other.join()?;
                flag.set(false);
            }
            let endless = timeout(SHORT, || {
                block_on(async {
                    loop {
                        future::sleep(Duration::ZERO).await.unwrap();
                    }
                })
            });
            assert!(matches!(endless, Err::<(), _>(WaitError::Expired(_))));
            Ok(())
        });
    });
}

#[test]
fn coroutines_are_awaited() {
    both(|| {
        in_machine(|| {
            let sleepers: Vec<JoinHandle<u64>> = (0..20)
                .map(|number| {
                    spawn(move || {
                        sleep(Duration::from_micros(number * 37 % 200)).unwrap();
                        number
                    })
                })
                .collect();
            let numbers: Vec<u64> = block_on(all(sleepers))?.into_iter().map(Result::unwrap).collect();
            assert!(numbers.into_iter().eq(0..20));

            // One that has ended before; one that was polled first and then joined; one that was polled and dropped.
            let ended = spawn(|| 1);
            yield_now();
            assert_eq!(block_on(ended)?.unwrap(), 1);
            let mut joined = spawn(|| sleep(SHORT).map(|()| 2));
            let polled =
                block_on(poll_fn(|context| Poll::Ready(Pin::new(&mut joined).poll(context).is_ready())));
            assert_eq!(polled, Ok(false));
            assert_eq!(joined.join()?, Ok(2));
            let done = Rc::new(Cell::new(false));
            let theirs = done.clone();
            let detached = spawn(move || {
                sleep(SHORT).unwrap();
                theirs.set(true);
            });
            assert!(timeout(Duration::ZERO, || block_on(detached)).is_err());
            sleep(SHORT * 2)?;
            assert!(done.get(), "it goes on");
            Ok(())
        });
    });
}

#[test]
fn a_join_that_is_polled_again_has_nothing_left() {
    both(|| {
        in_machine(|| {
            let mut handle = spawn(|| 1);
            assert_eq!(block_on(&mut handle)?.unwrap(), 1);
            let again = block_on(&mut handle)?;
            assert!(matches!(again, Err(JoinError::Wait(WaitError::Misuse(Misuse::MachineEnded)))));
            Ok(())
        });
    });
}

#[test]
fn machines_and_their_coroutines_are_awaited() {
    both(|| {
        in_machine(|| {
            let (stop, stopped) = channel::bounded::<()>(1);
            let other = machine::spawn("other", move || stopped.recv().is_err())?;
            let remote = other.remote();
            let there = (0..3).map(|number| remote.spawn(move || sleep(SHORT).map(|()| number)));
            let there = there.collect::<Result<Vec<_>, _>>()?;
            let numbers: Vec<_> = block_on(all(there))?.into_iter().map(|number| number.unwrap()).collect();
            assert_eq!(numbers, [Ok(0), Ok(1), Ok(2)]);
            // Given up, and then joined.
            let mut slow = remote.spawn(|| sleep(SHORT))?;
            assert!(timeout(Duration::from_micros(1), || block_on(&mut slow)).is_err());
            slow.join()?.unwrap();
            drop(stop);
            assert!(block_on(other)?.unwrap());
            Ok(())
        });
    });
}

#[test]
fn sleeps_end_in_their_order_and_not_before() {
    both(|| {
        in_machine(|| {
            let begun = now();
            let order = RefCell::new(Vec::new());
            let sleepers = [5, 1, 3].map(|millis| {
                let order = &order;
                Box::pin(async move {
                    let pause = SHORT * millis;
                    future::sleep(pause).await.unwrap();
                    assert!(now() - begun >= pause);
                    order.borrow_mut().push(millis);
                })
            });
            block_on(all(sleepers.into()))?;
            assert_eq!(*order.borrow(), [1, 3, 5]);

            let mut sleep = future::sleep(LONG * 2);
            assert!(timeout(SHORT, || block_on(&mut sleep)).is_err());
            sleep.reset(now() + SHORT);
            assert_eq!(block_on(&mut sleep), Ok(Ok(())));
            assert!(sleep.deadline() <= now());
            Ok(())
        });
    });
}

/// It sets its alarm where it is polled.
#[test]
fn a_sleep_goes_on_on_another_machine() {
    both(|| {
        in_machine(|| {
            let mut sleep = future::sleep(SHORT * 3);
            assert!(timeout(SHORT, || block_on(&mut sleep)).is_err());
            let other = machine::spawn("other", move || block_on(sleep))?;
            assert_eq!(other.join()?, Ok(Ok(())));
            Ok(())
        });
    });
}

/// Teardown finds coroutines in futures: one that waits, one that waits in a call inside of a poll, one that swallows errors.
#[test]
fn a_machine_ends_with_futures_unwound_and_dropped() {
    both(|| {
        let ended: [Rc<Cell<bool>>; 3] = Default::default();
        let ends: Vec<Ends> = ended.iter().cloned().map(Ends).collect();
        let ended_machine: io::Result<()> = Builder::new().grace(SHORT).run(move || {
            let [waits, parks, ignores] = <[Ends; 3]>::try_from(ends).ok().unwrap();
            spawn(move || {
                block_on(async move {
                    let _end = waits;
                    pending::<()>().await;
                })
            });
            spawn(move || {
                block_on(async move {
                    let _end = parks;
                    sleep(LONG * 2)
                })
            });
            spawn(move || {
                let _end = ignores;
                while timeout(SHORT, || block_on(pending::<()>())).is_err() {}
            });
            yield_now();
            Ok(())
        });
        ended_machine.unwrap();
        assert!(ended.iter().all(|ended| ended.get()));
    });
}

#[test]
fn a_panic_of_a_poll_is_the_coroutines() {
    both(|| {
        in_machine(|| {
            let ended = Rc::new(Cell::new(false));
            let end = Ends(ended.clone());
            let panics = spawn(move || {
                block_on(async move {
                    let _end = end;
                    future::sleep(SHORT).await.unwrap();
                    std::panic::resume_unwind(Box::new("in a poll"));
                })
            });
            let error = block_on(panics)?.unwrap_err();
            assert_eq!(error.message(), Some("in a poll"));
            assert!(ended.get());
            // And one that is caught leaves the coroutine able to wait.
            let caught = catch_unwind(AssertUnwindSafe(|| {
                block_on(async { std::panic::resume_unwind(Box::new("caught")) })
            }));
            assert!(caught.is_err());
            block_on(future::sleep(SHORT))?.unwrap();
            Ok(())
        });
    });
}

/// A destructor that a panic runs must not wait; one that waits for nothing may.
#[test]
fn in_an_unwinding_it_fails_and_does_not_spin() {
    type Answer = Result<Result<(), Misuse>, WaitError>;
    struct Waits(Rc<RefCell<Vec<Answer>>>);
    impl Drop for Waits {
        fn drop(&mut self) {
            let answers = [block_on(future::sleep(SHORT)), block_on(future::sleep(Duration::ZERO))];
            self.0.borrow_mut().extend(answers);
        }
    }
    both(|| {
        in_machine(|| {
            let answers = Rc::new(RefCell::new(Vec::new()));
            let waits = Waits(answers.clone());
            let caught = catch_unwind(AssertUnwindSafe(move || {
                let _waits = waits;
                std::panic::resume_unwind(Box::new("unwinds"));
            }));
            assert!(caught.is_err());
            assert_eq!(*answers.borrow(), [Err(WaitError::Misuse(Misuse::Unwinding)), Ok(Ok(()))]);
            Ok(())
        });
    });
}

/// Wakers are their makers' code. One that panics, or that wakes by way of a call that waits, ends no machine and loses no wake-up.
#[test]
fn wakers_that_misbehave_end_nothing() {
    struct Panics(AtomicU64);
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            yield_now();
            std::panic::resume_unwind(Box::new("a waker"));
        }
    }
    both(|| {
        in_machine(|| {
            let panics = Arc::new(Panics(AtomicU64::new(0)));
            let waker = Waker::from(panics.clone());
            let mut context = Context::from_waker(&waker);
            let mut joined = spawn(|| 7);
            let mut slept = future::sleep(SHORT);
            assert!(Pin::new(&mut joined).poll(&mut context).is_pending());
            assert!(Pin::new(&mut slept).poll(&mut context).is_pending());
            let mut elsewhere = machine::spawn("other", || sleep(SHORT))?;
            assert!(Pin::new(&mut elsewhere).poll(&mut context).is_pending());
            while panics.0.load(Ordering::SeqCst) < 3 {
                sleep(SHORT)?;
            }
            assert_eq!(joined.join()?, 7);
            assert_eq!(block_on(slept)?, Ok(()));
            elsewhere.join()?.unwrap();
            Ok(())
        });
    });
}
