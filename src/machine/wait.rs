//! The two questions that every blocking call asks: may I go on, and how did my wait end.
//!
//! An operation first asks [`Machine::operation`]: is its coroutine cancelled or to unwind, has it used up its budget
//! (then others run, and an expired deadline is noticed). Then it tries its call, and when that would block it waits with
//! [`Machine::wait`]. A call that fails has spent budget like any other, so a loop that ignores errors cannot hold the
//! machine.

use std::task::{Context, Poll};

use super::scheduler::throw_unwind;
use super::task::{Family, ScopeDeadline};
use super::{Machine, Outcome, Reason, TaskRef, Waiter, current};
use crate::error::{Cancelled, Cause, Expired, Misuse, WaitError};
use crate::kernel::Instant;

/// How many switches an operation counts for, when it comes to looking at the descriptors. Most operations are system calls, which
/// take longer than that; but looking too often takes events in small batches: with 16, and 1,000 busy connections, there was an
/// `epoll_wait` for every 32 requests instead of every 128.
pub(super) const OPERATION: u32 = 4;

impl Machine {
    /// What every operation that may block asks first. Gives the running coroutine.
    #[inline(always)]
    pub(crate) fn operation(&self) -> Result<TaskRef, WaitError> {
        let Some(me) = self.scheduler.running() else { return Err(Misuse::NoMachine.into()) };
        let spent = self.scheduler.spend();
        if spent || me.cancelled.get() || me.unwind.get() {
            self.slow_operation(me, spent)?;
        }
        Ok(me)
    }

    #[cold]
    fn slow_operation(&self, me: TaskRef, spent: bool) -> Result<(), WaitError> {
        if std::thread::panicking() {
            // What does not block may still be done by a destructor; it must not switch.
            return Ok(());
        }
        if me.unwind.get() {
            self.unwind_again(me);
        }
        if spent {
            self.scheduler.yield_now();
            let scope = me.scope.get();
            if scope.at != Instant::FAR && scope.at <= self.now() {
                return Err(WaitError::Expired(Expired { scope: scope.id }));
            }
        }
        if me.cancelled.get() { Err(cancelled(me).into()) } else { Ok(()) }
    }

    /// What every operation asks first that is polled; it never yields. `Pending`: the budget is over, and the future is polled again
    /// when others have run. Cancellation and deadlines are for whoever polls.
    ///
    /// Only one that was ready counts against the budget ([`polled`](Self::polled)). A future asks for many things in the same order each
    /// time: if those that are not ready counted too, the last would never be asked for.
    pub(crate) fn poll_operation(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.may_poll_on() {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the budget is not over. A destructor that a panic runs cannot yield, and goes on.
    pub(crate) fn may_poll_on(&self) -> bool {
        !self.scheduler.is_spent() || std::thread::panicking()
    }

    /// Counts something polled that was ready.
    pub(crate) fn polled(&self) {
        self.scheduler.spend();
    }

    /// Waits until whoever gets the `Waiter` uses it, `deadline` or the scope's deadline passes, or a cancellation comes.
    ///
    /// After an error the waiter is stale: using it does nothing and says so, and its holder then tries the next.
    #[inline(always)]
    pub(crate) fn wait(
        &self,
        me: TaskRef,
        reason: Reason,
        deadline: Instant,
        register: impl FnOnce(Waiter),
    ) -> Result<(), WaitError> {
        self.may_park(me)?;
        let ticket = self.scheduler.open(me, false, reason);
        register(Waiter { task: me, ticket });
        self.finish_wait(me, deadline)
    }

    /// As `wait`, when other machines may hold the right to wake.
    pub(crate) fn wait_remote(
        &self,
        me: TaskRef,
        reason: Reason,
        deadline: Instant,
        register: impl FnOnce(super::wakeup::RemoteWaiter) -> bool,
    ) -> Result<(), WaitError> {
        self.may_park(me)?;
        let ticket = self.scheduler.open(me, true, reason);
        let shared = self.shared.clone();
        let waits = register(super::wakeup::RemoteWaiter { shared, slot: me.header.index, ticket });
        if !waits && self.scheduler.close(me) {
            return Ok(());
        }
        self.finish_wait(me, deadline)
    }

    #[inline(always)]
    pub(super) fn may_park(&self, me: TaskRef) -> Result<(), WaitError> {
        if self.can_park(me) { Ok(()) } else { self.refuse(me) }
    }

    #[inline(always)]
    pub(super) fn can_park(&self, me: TaskRef) -> bool {
        !std::thread::panicking() && !me.unwind.get() && !me.cancelled.get()
    }

    #[cold]
    fn refuse(&self, me: TaskRef) -> Result<(), WaitError> {
        if std::thread::panicking() {
            return Err(Misuse::Unwinding.into());
        }
        if me.unwind.get() {
            self.unwind_again(me);
        }
        Err(cancelled(me).into())
    }

    #[inline(always)]
    pub(super) fn finish_wait(&self, me: TaskRef, deadline: Instant) -> Result<(), WaitError> {
        match self.sleep(me, deadline) {
            Outcome::Woken => Ok(()),
            other => Err(failed(me, other, deadline)),
        }
    }

    /// Sleeps until the wait is ended, at `deadline` or that of the scope at the latest.
    ///
    /// Inlined, as are those that call it, up to the user's code where that is short: a function that returns after a switch returns
    /// elsewhere than the processor has foreseen, which costs more than the switch.
    #[inline(always)]
    pub(super) fn sleep(&self, me: TaskRef, deadline: Instant) -> Outcome {
        let at = deadline.min(me.scope.get().at);
        me.deadline.set(at);
        if at != Instant::FAR {
            self.timers.borrow_mut().arm(me, at);
        }
        self.scheduler.park(me)
    }

    /// Waits for what must really be waited for (the children of a scope): no deadline, cancellation or teardown ends it.
    pub(crate) fn wait_firmly(&self, me: TaskRef, reason: Reason, register: impl FnOnce(Waiter)) {
        let (cancelled, unwind) = (me.cancelled.replace(false), me.unwind.replace(false));
        me.shields.set(me.shields.get() + 1);
        let ticket = self.scheduler.open(me, false, reason);
        register(Waiter { task: me, ticket });
        me.deadline.set(Instant::FAR);
        let outcome = self.scheduler.park(me);
        debug_assert_eq!(outcome, Outcome::Woken, "nothing else ends a firm wait");
        me.shields.set(me.shields.get() - 1);
        me.unwind.set(unwind || me.unwind.get());
        me.cancelled.set(me.shields.get() == 0 && (cancelled || me.cause.borrow().is_some()));
    }

    /// Asks `task` to end: its present wait and all later ones fail with `cause`, unless shielded. The first cause stays.
    /// Goes on to the children of its scopes, and theirs, but for those that a shield covers.
    pub(crate) fn cancel(&self, task: TaskRef, cause: Cause) {
        task.walk(|reached| {
            let open = reached == task || reached.family.get().is_none_or(|family| !family.sheltered);
            if open {
                self.cancel_alone(reached, &cause);
            }
            open
        });
    }

    /// As `cancel`, for all children of one scope.
    pub(crate) fn cancel_family(&self, family: Family, cause: &Cause) {
        let mut next = family.parent.first_child.get();
        while let Some(child) = next {
            next = child.next_sibling.get();
            if child.family.get() == Some(family) {
                self.cancel(child, cause.clone());
            }
        }
    }

    pub(super) fn cancel_alone(&self, task: TaskRef, cause: &Cause) {
        task.cause.borrow_mut().get_or_insert_with(|| cause.clone());
        if task.shields.get() == 0 {
            task.cancelled.set(true);
            self.scheduler.wake(Waiter { task, ticket: task.ticket.get() }, Outcome::Cancelled);
        } else if task.hears.get() {
            self.wake(Waiter { task, ticket: task.ticket.get() });
        }
    }

    /// The coroutine swallowed its unwinding and calls again.
    #[cold]
    fn unwind_again(&self, me: TaskRef) -> ! {
        me.swallowed.set(me.swallowed.get() + 1);
        if me.swallowed.get() > self.tuning.swallows {
            self.abort("a coroutine swallows every attempt to unwind it");
        }
        throw_unwind()
    }

    /// Wakes a waiter of this machine. False: its wait was over.
    #[inline]
    pub(crate) fn wake(&self, waiter: Waiter) -> bool {
        self.scheduler.wake(waiter, Outcome::Woken)
    }
}

/// What a call asks first that may wait and does not if it need not: as every operation. Nothing, of a thread that is no machine.
#[inline]
pub(crate) fn begin_call() -> Result<(), WaitError> {
    current::machine().map_or(Ok(()), |machine| machine.operation().map(drop))
}

/// Why a wait until `deadline` has failed.
#[cold]
pub(super) fn failed(me: TaskRef, outcome: Outcome, deadline: Instant) -> WaitError {
    match outcome {
        Outcome::TimedOut => {
            let scope = me.scope.get();
            let scope = if scope.at <= deadline { scope.id } else { 0 };
            WaitError::Expired(Expired { scope })
        }
        Outcome::Cancelled => cancelled(me).into(),
        Outcome::None | Outcome::Woken => unreachable!("a wait fails by its deadline or a cancellation"),
    }
}

/// Why a wait of a coroutine that is cancelled fails.
pub(super) fn cancelled(me: TaskRef) -> Cancelled {
    let cause = me.cause.borrow().clone().unwrap_or(Cause::Borrowed("no cause given"));
    Cancelled { cause }
}

/// Runs `f` out of reach of the enclosing deadlines and of cancellation, which are felt again after it.
///
/// For what must be finished: give it a [`timeout`](crate::timeout) of its own inside.
pub fn shield<T>(f: impl FnOnce() -> T) -> T {
    let Some(me) = current::machine().and_then(Machine::running) else { return f() };
    let _shield = Shield::raise(me);
    f()
}

/// While it lives, deadlines and cancellation wait.
struct Shield {
    task: TaskRef,
    scope: ScopeDeadline,
}

impl Shield {
    fn raise(task: TaskRef) -> Shield {
        task.shields.set(task.shields.get() + 1);
        task.cancelled.set(false);
        Shield { task, scope: task.scope.replace(ScopeDeadline::NONE) }
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        let Shield { task, scope } = self;
        task.scope.set(*scope);
        task.shields.set(task.shields.get() - 1);
        if task.shields.get() == 0 {
            task.cancelled.set(task.cause.borrow().is_some());
        }
    }
}

/// Lets every other ready coroutine of this machine run once. Outside a machine, and while unwinding, does nothing.
///
/// Neither a deadline nor a cancellation ends it.
#[inline(always)]
pub fn yield_now() {
    let Some(machine) = current::machine() else { return };
    if !std::thread::panicking() {
        machine.scheduler.yield_now();
    }
}
