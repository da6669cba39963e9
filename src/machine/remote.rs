//! Machines on other threads, and coroutines on other machines.
//!
//! A closure goes there as a letter and must be `Send`; what it returns comes back through a `shared::once` pair. If the
//! machine ends before it has run the closure, the setter is dropped with the letter, and the join says so. How a machine
//! begins is in `start`.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::delivery::{Ended, Joiner, RemoteJoining, Unjoined, poll, receive};
use super::start::{self, Teller};
use super::task::{is_unwinding, quietly};
use super::wakeup::{Letter, RemoteWaiter, Shared};
use super::{MAIN, Machine, Tuning, current, run_machine, with_main};
use crate::error::{Cause, JoinError, Misuse};
use crate::kernel::{Instant, Kernel, Thread, ThreadOptions};
use crate::shared::once::{self, Getter, Setter};

impl once::Waiter for RemoteWaiter {
    fn ready(self) {
        self.wake();
    }
}

/// Starts a machine on a thread of its own, which runs `main` as its first coroutine and ends with it.
///
/// Waits until `main` begins, out of reach of deadlines and cancellation: a thread's start is not left half-way. Where no coroutine
/// could wait (a hook of [`at_exit`](super::at_exit)), the thread does.
///
/// # Errors
/// The system's, if the thread, the machine's descriptors, its first stack or its processors cannot be had: then `main` is dropped,
/// and nothing is left of the machine. [`Misuse::NoMachine`] outside a machine, [`Misuse::Unwinding`] in a destructor that a panic runs.
///
/// ```
/// let answer = machinarium::run(|| {
///     let machine = machinarium::machine::spawn("adder", || 40 + 2)?;
///     machine.join().map_err(std::io::Error::from)
/// });
/// assert_eq!(answer.unwrap(), 42);
/// ```
pub fn spawn<T: Send + 'static>(
    name: &str,
    main: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Handle<T>> {
    let parent = current::machine().ok_or(Misuse::NoMachine)?;
    spawn_tuned(parent, name, parent.tuning.clone(), main)
}

pub(super) fn spawn_tuned<T: Send + 'static>(
    parent: &Machine,
    name: &str,
    tuning: Tuning,
    main: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Handle<T>> {
    if std::thread::panicking() {
        return Err(Misuse::Unwinding.into());
    }
    let shared = Shared::new(&*parent.kernel, parent.shared.process.clone(), name)?;
    let (teller, start) = start::pair();
    let (setter, getter) = once::pair();
    let options = ThreadOptions { name: shared.name.clone(), ..ThreadOptions::default() };
    let theirs = shared.clone();
    let spawned = parent
        .kernel
        .spawn(&options, Box::new(move |kernel| live(kernel, theirs, tuning, main, &teller, setter)));
    let thread = spawned.inspect_err(|_| {
        // Not the last one: this one goes on.
        shared.process.machine_ends();
    })?;
    // From here on, whatever ends this call finds somebody who lets the thread go.
    let mut handle =
        Handle { thread: OwnThread { thread, joined: false }, getter, remote: Remote { shared } };
    match start.wait() {
        Ok(Ok(())) => Ok(handle),
        Ok(Err(error)) => {
            handle.thread.join();
            Err(error)
        }
        Err(error) => {
            handle.stop("its starter could not wait for it");
            Err(error.into())
        }
    }
}

/// The whole of a machine's thread.
fn live<T: Send + 'static>(
    kernel: Rc<dyn Kernel>,
    shared: Arc<Shared>,
    tuning: Tuning,
    main: impl FnOnce() -> T,
    teller: &Teller,
    setter: Setter<Ended<T>, Joiner>,
) {
    let first = || {
        teller.serves();
        main()
    };
    let life = || with_main(first, |main| run_machine(kernel, shared, tuning, main));
    match catch_unwind(AssertUnwindSafe(life)) {
        Ok(Ok(value)) => setter.set(Ok(value)),
        Ok(Err(error)) => teller.fails(error),
        // It never returned, of which the join is told by the setter's end.
        Err(panic) if is_unwinding(&*panic) => {}
        Err(panic) => setter.set(Err(Unjoined::new(panic, MAIN, "main"))),
    }
}

/// A machine on another thread. Dropping it lets the machine go on; a panic that it ends with is reported then. It is a future too, of
/// what `join` answers.
pub struct Handle<T: Send> {
    thread: OwnThread,
    getter: Getter<Ended<T>, Joiner>,
    remote: Remote,
}

/// The thread of a machine, which its starter is to join or to detach.
pub(super) struct OwnThread {
    thread: Thread,
    joined: bool,
}

impl OwnThread {
    pub(super) fn join(&mut self) {
        if let Some(machine) = current::machine()
            && !std::mem::replace(&mut self.joined, true)
        {
            let _ = machine.kernel.join(self.thread);
        }
    }
}

impl<T: Send> Handle<T> {
    /// Waits for the machine to end and takes what its main closure returned.
    ///
    /// # Errors
    /// As for [`JoinHandle::join`](crate::JoinHandle::join).
    pub fn join(mut self) -> Result<T, JoinError> {
        self.join_deadline(Instant::FAR)
    }

    /// Waits for its thread on the root stack, where nothing can park.
    pub(super) fn join_firmly(mut self) {
        self.thread.join();
    }

    /// As `join`, waiting until `deadline` at most; after a `Wait` error it can be called again.
    ///
    /// # Errors
    /// As for `join`.
    pub fn join_deadline(&mut self, deadline: Instant) -> Result<T, JoinError> {
        let ended = receive(&mut self.getter, "join machine", deadline)?;
        // The thread has delivered its result and is about to return: this waits for no coroutine.
        self.thread.join();
        ended.map_err(Unjoined::joined)
    }

    /// Waiting for the machine's end, as a case of [`select`](crate::sync::select()). After it was chosen,
    /// [`RemoteJoining::joined`] has what its main closure returned.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let answer = machinarium::run(|| {
    ///     let mut machine = machinarium::machine::spawn("adder", || 40 + 2)?;
    ///     machinarium::select! {
    ///         join(machine) -> sum => sum.map_err(std::io::Error::from),
    ///         after(Duration::from_secs(60)) => Err(std::io::ErrorKind::TimedOut.into()),
    ///     }?
    /// });
    /// assert_eq!(answer.unwrap(), 42);
    /// ```
    pub fn joining(&mut self) -> RemoteJoining<'_, T> {
        RemoteJoining::new(&mut self.getter, Some(&mut self.thread))
    }

    /// Cancels the machine's main coroutine with this cause; when that returns, the machine ends.
    pub fn stop(&self, cause: impl Into<Cause>) {
        self.remote.stop(cause);
    }

    /// Whether `join` would not wait.
    pub fn is_finished(&self) -> bool {
        self.getter.is_ready()
    }

    /// The machine as other threads see it.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }
}

/// What [`join`](Handle::join) answers.
impl<T: Send> Future for Handle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = ready!(poll(&mut self.getter, context));
        // As in `join_deadline`.
        self.thread.join();
        Poll::Ready(ended)
    }
}

impl<T: Send> Drop for Handle<T> {
    fn drop(&mut self) {
        // On a thread that is no machine of its process, nobody knows which thread is meant.
        if !self.thread.joined
            && let Some(machine) = current::machine()
            && Arc::ptr_eq(&machine.shared.process, &self.remote.shared.process)
        {
            machine.kernel.detach(self.thread.thread);
        }
    }
}

/// A machine, from any thread of its process: somewhere to send work.
#[derive(Clone)]
pub struct Remote {
    shared: Arc<Shared>,
}

/// This thread's machine, to give to other threads.
///
/// # Errors
/// [`Misuse::NoMachine`] outside a machine.
pub fn current_remote() -> Result<Remote, Misuse> {
    let machine = current::machine().ok_or(Misuse::NoMachine)?;
    Ok(Remote { shared: machine.shared.clone() })
}

impl Remote {
    /// Starts a coroutine there.
    ///
    /// # Errors
    /// [`Misuse::MachineEnded`]; the closure is dropped. If the machine ends before the coroutine does, or has no stack for
    /// it, the join says [`JoinError::Unwound`].
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<RemoteJoin<T>, Misuse> {
        let (setter, getter) = once::pair();
        let start = move |_: &Machine| start_here(f, setter);
        self.shared.post(Letter::Run(Box::new(start))).map_err(|_| Misuse::MachineEnded)?;
        Ok(RemoteJoin { getter })
    }

    /// Cancels the machine's main coroutine with this cause; when that returns, the machine ends.
    pub fn stop(&self, cause: impl Into<Cause>) {
        // A machine that has ended is stopped.
        let _ = self.shared.post(Letter::Stop(cause.into()));
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The machine's number in its process, from 0.
    pub fn number(&self) -> u64 {
        self.shared.number
    }

    /// Whether it opens no letters any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.thread().is_none()
    }

    /// Whether its main closure has returned.
    pub(crate) fn is_ending(&self) -> bool {
        self.shared.is_ending()
    }

    /// Whether that is the machine this is called on.
    pub fn is_here(&self) -> bool {
        current::machine().is_some_and(|machine| Arc::ptr_eq(&machine.shared, &self.shared))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("number", &self.number()).field("name", &self.name()).finish()
    }
}

fn start_here<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static, setter: Setter<Ended<T>, Joiner>) {
    let run = move || {
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(value) => setter.set(Ok(value)),
            // The machine is being torn down: the setter is dropped, and the unwinding goes on.
            Err(panic) if is_unwinding(&*panic) => std::panic::resume_unwind(panic),
            Err(panic) => {
                let ended = current::with_coroutine(|id, name| Unjoined::new(panic, id, name));
                setter.set(Err(ended.expect("a coroutine runs this")));
            }
        }
    };
    // No stack: the closure and its setter are dropped, which the join reports. This is the root stack.
    quietly(|| drop(super::try_spawn("remote", run)));
}

/// A coroutine that was started on another machine. `Send`: it can be joined on any. Dropping it detaches; a
/// panic that it ends with is reported then, as of every coroutine.
pub struct RemoteJoin<T: Send> {
    getter: Getter<Ended<T>, Joiner>,
}

impl<T: Send> RemoteJoin<T> {
    /// Waits for the coroutine to end and takes what it returned.
    ///
    /// # Errors
    /// As for [`JoinHandle::join`](crate::JoinHandle::join).
    pub fn join(mut self) -> Result<T, JoinError> {
        self.join_deadline(Instant::FAR)
    }

    /// As `join`, waiting until `deadline` at most; after a `Wait` error it can be called again.
    ///
    /// # Errors
    /// As for `join`.
    pub fn join_deadline(&mut self, deadline: Instant) -> Result<T, JoinError> {
        receive(&mut self.getter, "join remote coroutine", deadline)?.map_err(Unjoined::joined)
    }

    /// Waiting for the coroutine's end, as a case of [`select`](crate::sync::select()). After it was chosen,
    /// [`RemoteJoining::joined`] has what it returned.
    pub fn joining(&mut self) -> RemoteJoining<'_, T> {
        RemoteJoining::new(&mut self.getter, None)
    }

    /// Whether `join` would not wait.
    pub fn is_finished(&self) -> bool {
        self.getter.is_ready()
    }
}

/// What [`join`](RemoteJoin::join) answers. It can be polled on any thread, one that is no machine too.
impl<T: Send> Future for RemoteJoin<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        poll(&mut self.getter, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Linux, Traced};
    use crate::shared::primitive::{AtomicU64, Ordering};
    use std::rc::Rc;

    struct Plain;

    impl current::Starter for Plain {
        fn retune(&self, _tuning: &mut Tuning) {}
        fn panic_lost(&self, coroutine: u64, _name: &str) {
            panic!("coroutine {coroutine} panicked");
        }
        fn abort(&self, why: &str) -> ! {
            panic!("a machine aborts: {why}");
        }
    }

    /// How often `body` joins threads, and how often it detaches them.
    fn ends_of(body: impl FnOnce() -> io::Result<()>) -> (u64, u64) {
        let count = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let seen = count.clone();
        let sink = move |line: fmt::Arguments<'_>| {
            let line = line.to_string();
            for (word, count) in ["join(", "detach("].into_iter().zip(&*seen) {
                count.fetch_add(u64::from(line.contains(word)), Ordering::Relaxed);
            }
        };
        let kernel = Rc::new(Traced::new(Rc::new(Linux::new()), Arc::new(sink)));
        current::with_kernel(kernel, Rc::new(Plain), || crate::run(body)).unwrap();
        (count[0].load(Ordering::Relaxed), count[1].load(Ordering::Relaxed))
    }

    /// A thread that is neither joined nor detached keeps its stack for ever.
    #[test]
    fn every_thread_is_joined_or_detached_once() {
        assert_eq!(ends_of(|| spawn("dropped", || ()).map(drop)), (0, 1));
        assert_eq!(ends_of(|| crate::blocking(|| ()).map_err(io::Error::from)), (0, 1));
        assert_eq!(ends_of(|| spawn("joined", || ())?.join().map_err(io::Error::from)), (1, 0));
        let joined_late = || {
            let (go, waits) = crate::sync::channel::bounded::<()>(1);
            let mut handle = spawn("joined late", move || waits.recv().is_err())?;
            assert!(handle.join_deadline(Instant::from_nanos(0)).is_err());
            drop(go);
            let _ = handle.join_deadline(Instant::FAR);
            assert!(handle.join_deadline(Instant::FAR).is_err(), "nothing is left");
            Ok(())
        };
        assert_eq!(ends_of(joined_late), (1, 0));
        let cannot_start = || {
            let nowhere = crate::Builder::new().affinity([8_000]).spawn(|| ());
            assert!(nowhere.is_err());
            Ok(())
        };
        assert_eq!(ends_of(cannot_start), (1, 0));
    }
}
