//! Starting a coroutine, and what its starter keeps of it.
//!
//! The result lies on the dead coroutine's stack until the handle takes or drops it; only then is the stack reused. If the
//! handle is gone before, the coroutine drops its result itself, as its last act: a destructor may wait. A handle dropped on
//! another machine (they can share an OS thread) only says so in the control block, and its machine reaps the result when it
//! ends.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::block::{Attempt, Case};
use super::delivery::report_unjoined;
use super::seat::Seat;
use super::task::{Family, Panic, Unwound, payload_layout};
use super::{Machine, Reason, State, TaskRef, Waiter, current};
use crate::coroutine::{self, Stack, StackError};
use crate::error::{Cause, JoinError, Misuse};
use crate::kernel::Instant;

/// A coroutine of this machine, from the outside. Dropping it detaches the coroutine, which goes on.
///
/// Not `Send`: a coroutine never leaves its machine, and neither does its handle. It is a future too, of what `join` answers: see
/// [`block_on`](crate::block_on()).
pub struct JoinHandle<T> {
    machine: Rc<Machine>,
    task: TaskRef,
    id: u64,
    taken: bool,
    result: PhantomData<*mut T>,
}

/// Starts a coroutine on this machine. It runs when the present one waits or yields.
///
/// It starts with no deadline and no cancellation, whatever its starter's: see [`scope`](crate::scope()) for children.
///
/// # Panics
/// Outside a machine, and when no stack can be had, as `std::thread::spawn` does; [`try_spawn`] answers an error.
#[inline]
pub fn spawn<T: 'static>(f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    try_spawn("", f).unwrap_or_else(|error| panic!("spawn: {error}"))
}

/// As [`spawn`], with a name for reports (its first 67 bytes).
///
/// # Panics
/// As `spawn`.
pub fn spawn_named<T: 'static>(name: &str, f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    try_spawn(name, f).unwrap_or_else(|error| panic!("spawn: {error}"))
}

/// As [`spawn_named`], with an error where that panics.
///
/// # Errors
/// [`SpawnError`]: no machine, no stack, or a closure or result too large for a stack. The closure is dropped.
#[inline]
pub fn try_spawn<T: 'static>(
    name: &str,
    f: impl FnOnce() -> T + 'static,
) -> Result<JoinHandle<T>, SpawnError> {
    let machine = current::machine_rc().ok_or(SpawnError::Misuse(Misuse::NoMachine))?;
    machine.start(name, None, f)
}

/// Why a coroutine could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnError {
    /// Made outside a machine.
    Misuse(Misuse),
    /// No stack could be had.
    Stack(StackError),
    /// The closure or its result, or the alignment of one, would take more than a quarter of the stack: box it, or raise `stack_size`.
    TooLarge {
        /// Bytes of the largest of them.
        bytes: usize,
    },
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::Misuse(misuse) => misuse.fmt(f),
            SpawnError::Stack(error) => error.fmt(f),
            SpawnError::TooLarge { bytes } => write!(
                f,
                "a closure or result of {bytes} bytes takes more than a quarter of the stack: box it, or raise stack_size"
            ),
        }
    }
}

impl std::error::Error for SpawnError {}

impl From<SpawnError> for io::Error {
    fn from(error: SpawnError) -> io::Error {
        match error {
            SpawnError::Misuse(misuse) => misuse.into(),
            other => io::Error::other(other),
        }
    }
}

impl<T> JoinHandle<T> {
    /// Waits for the coroutine to end and takes what it returned.
    ///
    /// # Errors
    /// [`JoinError::Panicked`] and [`JoinError::Unwound`] say how it ended otherwise; [`JoinError::Wait`] that the caller
    /// was cancelled or its scope's deadline passed first (the coroutine is then detached).
    #[inline]
    pub fn join(mut self) -> Result<T, JoinError> {
        self.join_deadline(Instant::FAR)
    }

    /// As [`join`](Self::join), waiting until `deadline` at most. After a [`JoinError::Wait`] it can be joined again.
    ///
    /// # Errors
    /// As `join`; a passed deadline is a `Wait` error of kind `Expired`. Once the result was taken,
    /// [`Misuse::MachineEnded`] stands for "nothing left".
    #[inline]
    pub fn join_deadline(&mut self, deadline: Instant) -> Result<T, JoinError> {
        self.check().map_err(|misuse| JoinError::Wait(misuse.into()))?;
        self.forget_poller();
        let me = self.machine.operation().map_err(JoinError::Wait)?;
        while self.task.state.get() != State::Finished {
            let reason = Reason::numbered("join coroutine", self.id as i64);
            let register = |waiter| self.task.joiner.set(Some(waiter));
            self.machine.wait(me, reason, deadline, register).map_err(JoinError::Wait)?;
        }
        self.take()
    }

    /// Waiting for the end, as a case of [`select`](crate::sync::select()). After it was chosen, [`Joining::joined`] tells.
    pub fn joining(&mut self) -> Joining<'_, T> {
        self.forget_poller();
        Joining { handle: self }
    }

    /// Asks the coroutine to end: its present wait and all later ones fail with [`Cancelled`](crate::Cancelled) and this
    /// cause, except inside [`shield`](crate::shield). Cancelling twice keeps the first cause; after its end it does nothing.
    ///
    /// # Errors
    /// On another machine than the coroutine's, or after its machine has ended.
    pub fn cancel(&self, cause: impl Into<Cause>) -> Result<(), Misuse> {
        self.check()?;
        if self.task.state.get() != State::Finished {
            self.machine.cancel(self.task, cause.into());
        }
        Ok(())
    }

    /// Whether the coroutine has ended, so that `join` would not wait.
    pub fn is_finished(&self) -> bool {
        self.check().is_err() || self.task.state.get() == State::Finished
    }

    /// The coroutine's number in its machine.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn task(&self) -> TaskRef {
        self.task
    }

    /// Whoever polled it does so no more. Not while a wait is open: a waker's destructor is its maker's.
    fn forget_poller(&self) {
        if self.check().is_ok() {
            drop(self.task.polled_by.take());
        }
    }

    fn check(&self) -> Result<(), Misuse> {
        if current::machine_address() != Rc::as_ptr(&self.machine) as usize {
            return Err(Misuse::OtherMachine);
        }
        if self.taken || !self.task.is(self.id) { Err(Misuse::MachineEnded) } else { Ok(()) }
    }

    #[inline]
    fn take(&mut self) -> Result<T, JoinError> {
        self.taken = true;
        // SAFETY: the state is `Finished` (the callers waited for it), the id is still ours, so `T` is the type of this
        // coroutine; `taken` keeps anyone from taking it twice.
        let result = unsafe { self.task.take_result::<T>() };
        self.machine.release(self.task);
        result.map_err(
            |panic: Panic| {
                if panic.is::<Unwound>() { JoinError::Unwound } else { JoinError::Panicked(panic) }
            },
        )
    }
}

/// A join that is one case of several: see [`JoinHandle::joining`].
#[derive(Debug)]
pub struct Joining<'a, T> {
    handle: &'a mut JoinHandle<T>,
}

impl<T> Joining<'_, T> {
    /// How the coroutine ended, if this case was chosen.
    ///
    /// # Errors
    /// As for [`JoinHandle::join`]; [`Misuse::NotChosen`] if the coroutine has not ended.
    pub fn joined(self) -> Result<T, JoinError> {
        self.handle.check().map_err(|misuse| JoinError::Wait(misuse.into()))?;
        if self.handle.task.state.get() == State::Finished {
            return self.handle.take();
        }
        Err(JoinError::Wait(Misuse::NotChosen.into()))
    }
}

impl<T> Case for Joining<'_, T> {
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt {
        // A handle of nothing, or of another machine, is an end as well: `joined` says which.
        let over = self.handle.check().is_err() || self.handle.task.state.get() == State::Finished;
        Attempt::of(over, me, |me| {
            let task =
                self.handle.machine.running().expect("who waits for a coroutine of this machine is one");
            self.handle.task.joiner.set(Some(Waiter { task, ticket: me.ticket() }));
            Attempt::Waits
        })
    }

    fn leave(&mut self) -> bool {
        if self.handle.check().is_ok() {
            self.handle.task.joiner.set(None);
        }
        // That it has ended stays true: the next look finds it.
        false
    }
}

/// What [`join`](JoinHandle::join) answers. A future that is dropped, as every handle, detaches the coroutine.
impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Err(misuse) = self.check() {
            return Poll::Ready(Err(JoinError::Wait(misuse.into())));
        }
        ready!(self.machine.poll_operation(context));
        if self.task.state.get() == State::Finished {
            self.machine.polled();
            return Poll::Ready(self.take());
        }
        drop(self.task.polled_by.replace(Some(Box::new(context.waker().clone()))));
        Poll::Pending
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if self.taken || !self.task.is(self.id) {
            return;
        }
        self.forget_poller();
        self.task.detached.set(true);
        if self.task.state.get() == State::Finished && self.check().is_ok() {
            self.machine.reap(self.task);
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id).field("finished", &self.is_finished()).finish()
    }
}

impl Machine {
    pub(crate) fn running(&self) -> Option<TaskRef> {
        self.scheduler.running()
    }

    /// Makes a coroutine and puts it into the ready queue.
    #[inline(always)]
    pub(crate) fn start<F, T>(
        self: Rc<Machine>,
        name: &str,
        family: Option<Family>,
        f: F,
    ) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T,
    {
        let bytes = const { payload_layout::<F, T>().size() };
        if bytes > self.tuning.stack_size / 4 {
            return Err(SpawnError::TooLarge { bytes });
        }
        self.bury();
        let header = self.stacks.allocate().map_err(SpawnError::Stack)?.into_raw();
        let id = self.next_id();
        // SAFETY: the slot was just allocated, with room for a control block (`Tuning::stack_options`) and for the payload
        // (checked above). Its stack begins below the payload, and its context is prepared before it can be popped.
        let task = unsafe {
            if !name.is_empty() {
                (*header).set_name(name);
            }
            let (task, top) = TaskRef::create::<F, T>(header, id, f);
            coroutine::prepare(&raw mut (*header).context, top, entry, task.as_ptr().cast());
            task
        };
        self.enlist(task, family);
        Ok(JoinHandle { machine: self, task, id, taken: false, result: PhantomData })
    }

    #[inline]
    fn enlist(&self, task: TaskRef, family: Option<Family>) {
        if self.slots.borrow().len() <= task.header.index as usize {
            self.first_use(task);
        }
        task.set_chair(&self.shared);
        if let Some(family) = family {
            self.adopt(family, task);
        }
        if let Some(starter) = self.scheduler.running() {
            task.inherit(starter);
        }
        // What begins when all others are being unwound does not run.
        task.unwind.set(self.unwinding.get());
        self.alive.set(self.alive.get() + 1);
        self.scheduler.push(task);
    }

    /// A child has the deadline of whoever starts it, its parent or a sibling, and its parent's cancellation.
    fn adopt(&self, family: Family, child: TaskRef) {
        let Family { parent, sheltered, .. } = family;
        child.join_family(family);
        child.scope.set(self.scheduler.running().unwrap_or(parent).scope.get());
        if !sheltered && let Some(cause) = &*parent.cause.borrow() {
            *child.cause.borrow_mut() = Some(cause.clone());
            child.cancelled.set(true);
        }
    }

    /// A slot's control block is where it is, and its park cell too, for as long as the machine lives.
    #[cold]
    fn first_use(&self, task: TaskRef) {
        let index = task.header.index;
        self.scheduler.cells.ensure(index);
        let mut slots = self.slots.borrow_mut();
        debug_assert_eq!(slots.len(), index as usize, "slots are used one after the other at first");
        slots.push(task);
    }

    /// The running coroutine has returned: hands its result on and never comes back. No user's code runs from here on.
    #[inline]
    fn finish(&self, me: TaskRef) -> ! {
        self.alive.set(self.alive.get() - 1);
        let values = me.locals.take();
        debug_assert!(values.is_none_or(|values| values.is_empty()), "values end where destructors may wait");
        if me.family.get().is_some() {
            me.leave_family();
        }
        // A scope is over when nothing of it is borrowed any more, which is a little before its children are.
        while let Some(child) = me.first_child.get() {
            child.leave_family();
        }
        if me.detached.get() {
            // Its result is gone, so the slot is free as soon as nobody stands on it.
            me.state.set(State::Free);
            self.bury();
            self.zombie.set(Some(me));
        } else {
            me.state.set(State::Finished);
            if let Some(waiter) = me.joiner.take() {
                self.wake(waiter);
            }
        }
        self.scheduler.exit(me)
    }

    /// Frees the stack of the coroutine that ended last, now that nobody stands on it.
    #[inline]
    pub(crate) fn bury(&self) {
        if let Some(task) = self.zombie.take() {
            self.release(task);
        }
    }

    /// Drops the result of a finished coroutine that nobody asks for, and frees its stack.
    pub(crate) fn reap(&self, task: TaskRef) {
        debug_assert_eq!(task.state.get(), State::Finished);
        // Before the destructor runs: what it drops may hold the handle, for which nothing is left here.
        task.state.set(State::Free);
        // SAFETY: it was `Finished`, and nobody else can take it: its handle is gone, is being dropped, or finds it `Free`.
        unsafe { self.drop_unjoined(task) };
        self.release(task);
    }

    /// Drops a result, and reports a panic that nobody will see.
    ///
    /// # Safety
    /// As for [`TaskRef::drop_result`].
    #[cold]
    unsafe fn drop_unjoined(&self, task: TaskRef) {
        // SAFETY: the caller's promise.
        if unsafe { task.panicked() } {
            report_unjoined(task.header.id, task.header.name());
        }
        // SAFETY: the caller's promise.
        unsafe { task.drop_result() };
    }

    /// Gives the stack of an ended coroutine back to the pool.
    #[inline]
    pub(crate) fn release(&self, task: TaskRef) {
        task.cause.take();
        task.state.set(State::Free);
        if task.timer.get() != 0 && self.stacks.cached() >= self.tuning.stack_cache {
            // The pool will trim this slot, which zeroes the control block.
            self.timers.borrow_mut().forget(task);
        }
        // SAFETY: nobody stands on that stack (the caller is on another), and its payload was moved out or dropped.
        unsafe { self.stacks.release(Stack::from_raw(task.as_ptr().cast())) };
    }
}

/// The first and last frame of every coroutine.
unsafe extern "C" fn entry(argument: *mut u8) -> ! {
    // SAFETY: `start` gave the control block's address.
    let me = unsafe { TaskRef::from_ptr(argument) };
    let machine = current::machine().expect("a coroutine runs on its machine");
    machine.scheduler.visited(me);
    // SAFETY: this is the coroutine's entry.
    unsafe { me.run(me.unwind.get()) };
    me.end_values();
    if me.detached.get() {
        // SAFETY: `run` wrote the result, and there is no handle any more that could take it.
        unsafe { machine.drop_unjoined(me) };
        me.end_values();
    }
    me.wake_poller();
    machine.finish(me)
}
