//! Threads for calls that block: what has no descriptor to wait for (files, names, somebody else's library).
//!
//! One pool a process. A call takes an idle thread, or a new one as long as there are fewer than `Tuning::pool_threads`, or waits
//! in the queue; when that is full its caller waits to get in, which is back-pressure. A thread that has been idle for a while
//! ends.
//!
//! Two numbers decide: how many threads are `alive` (or being made), and how many `calls` are not dealt with.
//!
//! | step | `calls` | `alive` |
//! |---|---|---|
//! | a call comes | + 1 | + 1 if there are more calls than threads, and fewer threads than may be: one is made |
//! | a call is dealt with | - 1 | |
//! | the thread cannot be made | | - 1; at 0, all that is in the queue is refused |
//! | a thread is idle for `Tuning::pool_keep` | | - 1 and it ends, if there are more threads than calls |
//!
//! A call is counted, then put into the queue, and then its caller looks whether there is a thread. So a call that is in the queue
//! has a thread that will come for it, or one whose making fails after that, or a caller who is about to look.
//!
//! A caller who is cancelled, or whose deadline passes, leaves: a call that no thread has begun is not made then, and one that was
//! begun goes on, its result dropped. The threads are detached: no machine waits for one at its end.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{JoinError, Misuse, WaitError};
use crate::kernel::{Errno, Instant, ThreadOptions};
use crate::machine::wakeup::RemoteWaiter;
use crate::machine::{Machine, current, receive};
use crate::shared::lock::Lock;
use crate::shared::once;
use crate::sync::Semaphore;
use crate::sync::channel::{self, Receiver, RecvError, Sender};

struct Call {
    /// Is told whether there is a thread, on which it then is.
    run: Box<dyn FnOnce(Result<(), Errno>) + Send>,
    /// Whether it has taken a place of the queue, which whoever takes it gives back.
    placed: bool,
}

/// Runs `f` on a thread for blocking calls and waits for what it returns; only this coroutine waits.
///
/// `f` is on a thread that is no machine: it may block, and cannot use streams.
///
/// # Errors
/// [`BlockingError::Wait`] when the caller is cancelled or a deadline passes: if `f` has begun, it goes on, and its result is
/// dropped. [`BlockingError::Panicked`] with the panic of `f`. [`BlockingError::Thread`] if there is no thread and none can be had.
///
/// ```
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let contents = machinarium::blocking(|| std::fs::read("/proc/self/comm"))??;
///     assert!(!contents.is_empty());
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, BlockingError> {
    let machine = current::machine().ok_or(BlockingError::Wait(Misuse::NoMachine.into()))?;
    let pool = machine.process().value(|| Pool::new(machine));
    let (setter, mut getter) = once::pair::<_, RemoteWaiter>();
    let run = Box::new(move |thread: Result<(), Errno>| match thread {
        Ok(()) if !setter.is_wanted() => {}
        Ok(()) => setter.set(Ok(catch_unwind(AssertUnwindSafe(f)))),
        Err(errno) => setter.set(Err(errno)),
    });
    // Whoever takes the call out of the queue gives the place back.
    pool.places.acquire().map_err(BlockingError::Wait)?.forget();
    pool.submit(machine, Call { run, placed: true });
    match receive(&mut getter, "blocking call", Instant::FAR) {
        Ok(Ok(ended)) => ended.map_err(BlockingError::Panicked),
        Ok(Err(errno)) => Err(BlockingError::Thread(errno.into())),
        Err(JoinError::Wait(error)) => Err(BlockingError::Wait(error)),
        Err(_) => unreachable!("a call that is waited for is made, or refused"),
    }
}

/// Has `f` run on a thread of the pool, whatever becomes of the caller. It does not wait, not even for a place in the queue: for
/// those who bound their calls themselves. If there is no thread and none can be had, `f` is told so, on whichever thread, and
/// must not block.
pub(crate) fn start(machine: &Machine, f: impl FnOnce(Result<(), Errno>) + Send + 'static) {
    let pool = machine.process().value(|| Pool::new(machine));
    pool.submit(machine, Call { run: Box::new(f), placed: false });
}

/// Why a blocking call has no result.
pub enum BlockingError {
    /// It panicked; the value is the panic's.
    Panicked(Box<dyn Any + Send>),
    /// The caller's wait ended first.
    Wait(WaitError),
    /// No thread could be had for it.
    Thread(io::Error),
}

struct Pool {
    calls: Sender<Call>,
    queue: Receiver<Call>,
    /// How many calls more may wait in the queue.
    places: Semaphore,
    threads: Lock<Threads>,
    limit: usize,
    keep: Duration,
}

/// See the head of the file.
#[derive(Default)]
struct Threads {
    alive: usize,
    calls: usize,
}

impl Pool {
    fn new(machine: &Machine) -> Pool {
        let tuning = &machine.tuning;
        let (calls, queue) = channel::unbounded();
        let places = Semaphore::new(tuning.pool_queue.max(1));
        let limit = tuning.pool_threads.max(1);
        Pool { calls, queue, places, threads: Lock::new(Threads::default()), limit, keep: tuning.pool_keep }
    }

    fn submit(self: &Arc<Pool>, machine: &Machine, call: Call) {
        let mut grows = self.threads.with(|threads| threads.count(self.limit));
        let sent = self.calls.try_send(call);
        assert!(sent.is_ok(), "the queue has no bound, and the pool has its other end");
        if !grows {
            // The thread that was to come for it may have failed before it was there to be refused.
            grows = self.threads.with(Threads::is_abandoned);
        }
        if grows && let Err(errno) = self.grow(machine) {
            let is_last = self.threads.with(Threads::grow_failed);
            while is_last && let Ok(call) = self.queue.try_recv() {
                self.deal_with(call, Err(errno));
            }
        }
    }

    fn deal_with(&self, call: Call, thread: Result<(), Errno>) {
        if call.placed {
            self.places.add_permits(1);
        }
        (call.run)(thread);
        self.threads.with(|threads| threads.calls -= 1);
    }

    fn grow(self: &Arc<Pool>, machine: &Machine) -> Result<(), Errno> {
        let pool = self.clone();
        let options = ThreadOptions { name: "blocking".to_owned(), ..ThreadOptions::default() };
        let thread = machine.kernel.spawn(&options, Box::new(move |_kernel| pool.work()))?;
        machine.kernel.detach(thread);
        Ok(())
    }

    /// The life of a thread.
    fn work(&self) {
        loop {
            match self.queue.recv_timeout(self.keep) {
                Ok(call) => self.deal_with(call, Ok(())),
                Err(RecvError::Wait(WaitError::Expired(_))) => {
                    if self.threads.with(Threads::leave) {
                        return;
                    }
                }
                // The process is at its end.
                Err(_) => return,
            }
        }
    }
}

impl Threads {
    /// One more call. Whether a new thread is to be made.
    fn count(&mut self, limit: usize) -> bool {
        self.calls += 1;
        let grows = self.calls > self.alive && self.alive < limit;
        self.alive += usize::from(grows);
        grows
    }

    /// Whether there is no thread at all, and so one is to be made.
    fn is_abandoned(&mut self) -> bool {
        let abandoned = self.alive == 0;
        self.alive += usize::from(abandoned);
        abandoned
    }

    /// The new thread could not be made. Whether there is no other.
    fn grow_failed(&mut self) -> bool {
        self.alive -= 1;
        self.alive == 0
    }

    /// An idle thread ends, unless a call is on its way to it.
    fn leave(&mut self) -> bool {
        let idle = self.alive > self.calls;
        self.alive -= usize::from(idle);
        idle
    }
}

impl fmt::Display for BlockingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockingError::Panicked(_) => f.write_str("the blocking call panicked"),
            BlockingError::Wait(error) => write!(f, "blocking call: {error}"),
            BlockingError::Thread(error) => write!(f, "no thread for a blocking call: {error}"),
        }
    }
}

impl fmt::Debug for BlockingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockingError({self})")
    }
}

impl std::error::Error for BlockingError {}

impl From<BlockingError> for io::Error {
    fn from(error: BlockingError) -> io::Error {
        match error {
            BlockingError::Wait(error) => error.into(),
            // Its kind is `WouldBlock`, on which others spin.
            BlockingError::Thread(_) => io::Error::other(error.to_string()),
            BlockingError::Panicked(_) => io::Error::other(error.to_string()),
        }
    }
}
