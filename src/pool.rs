//! Threads for calls that block: what has no descriptor to wait for (files, names, somebody else's library).
//!
//! One pool a process. A call takes an idle thread, or a new one as long as there are fewer than `Tuning::pool_threads`, or waits
//! in the queue; when that is full its caller waits to get in, which is back-pressure. A thread that has been idle for a while
//! ends.
//!
//! | `free` | means |
//! |---|---|
//! | above 0 | so many threads are idle, with no call on its way to them |
//! | 0 | every thread has a call |
//! | below 0 | so many calls wait in the queue |
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
use crate::machine::{Machine, current, receive};
use crate::shared::lock::Lock;
use crate::shared::once;
use crate::sync::Semaphore;
use crate::sync::channel::{self, Receiver, RecvError, Sender};

struct Call {
    run: Box<dyn FnOnce() + Send>,
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
    let (setter, mut getter) = once::pair();
    let run = Box::new(move || {
        if setter.is_wanted() {
            setter.set(catch_unwind(AssertUnwindSafe(f)));
        }
    });
    // The thread that takes the call gives the place back.
    pool.places.acquire().map_err(BlockingError::Wait)?.forget();
    if let Err(error) = pool.submit(machine, Call { run, placed: true }) {
        pool.places.add_permits(1);
        return Err(BlockingError::Thread(error.into()));
    }
    match receive(&mut getter, "blocking call", Instant::FAR) {
        Ok(ended) => ended.map_err(BlockingError::Panicked),
        Err(JoinError::Wait(error)) => Err(BlockingError::Wait(error)),
        Err(_) => unreachable!("a call that is waited for is made"),
    }
}

/// Has `f` run on a thread of the pool, whatever becomes of the caller. It does not wait, not even for a place in the queue: for
/// those who bound their calls themselves.
///
/// # Errors
/// There is no thread and none can be had; then it does not run.
pub(crate) fn start(machine: &Machine, f: impl FnOnce() + Send + 'static) -> Result<(), Errno> {
    let pool = machine.process().value(|| Pool::new(machine));
    pool.submit(machine, Call { run: Box::new(f), placed: false })
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
    free: isize,
}

impl Pool {
    fn new(machine: &Machine) -> Pool {
        let tuning = &machine.tuning;
        let (calls, queue) = channel::unbounded();
        let places = Semaphore::new(tuning.pool_queue.max(1));
        let limit = tuning.pool_threads.max(1);
        Pool { calls, queue, places, threads: Lock::new(Threads::default()), limit, keep: tuning.pool_keep }
    }

    fn submit(self: &Arc<Pool>, machine: &Machine, call: Call) -> Result<(), Errno> {
        let grows = self.threads.with(|threads| threads.take(self.limit));
        if grows && let Err(error) = self.grow(machine) {
            // The call is one that waits now, unless nobody would ever come for it.
            if self.threads.with(Threads::grow_failed) == 0 {
                self.threads.with(|threads| threads.free += 1);
                return Err(error);
            }
        }
        let sent = self.calls.try_send(call);
        assert!(sent.is_ok(), "the queue has no bound, and the pool has its other end");
        Ok(())
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
                Ok(call) => {
                    if call.placed {
                        self.places.add_permits(1);
                    }
                    (call.run)();
                    self.threads.with(|threads| threads.free += 1);
                }
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
    /// One more call. Whether a new thread is to be made for it.
    fn take(&mut self, limit: usize) -> bool {
        if self.free <= 0 && self.alive < limit {
            self.alive += 1;
            return true;
        }
        self.free -= 1;
        false
    }

    /// The new thread could not be made: its call waits for another. How many others there are.
    fn grow_failed(&mut self) -> usize {
        self.alive -= 1;
        self.free -= 1;
        self.alive
    }

    /// An idle thread ends, unless a call is on its way to it.
    fn leave(&mut self) -> bool {
        let idle = self.free > 0;
        if idle {
            self.alive -= 1;
            self.free -= 1;
        }
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
