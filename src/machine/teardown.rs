//! How a machine ends: always with every coroutine unwound, so that no borrow of a dead stack survives.
//!
//! | phase | what happens | until |
//! |---|---|---|
//! | drain | others go on undisturbed | they have ended, or `Tuning::drain` is over |
//! | cancel | every blocking call fails with the cause "the machine ends" | all ended, or `Tuning::grace` is over |
//! | unwind | each is resumed into an unwinding, children before their parents | all ended |
//!
//! What users' destructors start meanwhile is dropped unrun, so it goes round until nothing is left: coroutines, results, the
//! values of `machine_local!`, those of `process_local!` if it is the last machine of its process, letters. Their panics end with them: nothing may unwind the root stack, on which everything
//! stands, and a panic of the library's own there aborts.
//!
//! An unwinding that is swallowed is thrown again at the next blocking call, `Tuning::swallows` times; after that, and
//! when nothing can be unwound any more, the process aborts with a dump of every coroutine: going on would free stacks
//! that safe code may still borrow from.
//!
//! None of this helps against a coroutine that never waits: the root stack does not run again. With `Tuning::teardown`, `watch`
//! does: another thread prints what all were doing, and aborts.

use std::time::Duration;

use super::observe::print;
use super::task::{Panic, quietly};
use super::wait::OPERATION;
use super::watch::Watch;
use super::{Machine, Main, State, TaskRef, current};
use crate::error::Cause;
use crate::kernel::Instant;

impl Machine {
    /// Runs the machine until its first coroutine has ended.
    pub(super) fn run_main(&self, main: Main<'_>) -> std::io::Result<Result<(), Panic>> {
        // The result goes by a cell of this frame, which outlives the coroutine: this function returns when it has ended.
        let mut result = None;
        let machine = current::machine_rc().expect("the slot was set by the caller");
        let place = &mut result;
        let handle = machine.start("main", None, move || {
            *place = Some(std::panic::catch_unwind(std::panic::AssertUnwindSafe(main)));
            // Here already: who is ready runs before the root stack does, and may keep it from ever running.
            let machine = current::machine().expect("the main coroutine is on its machine");
            machine.shared.ends();
            machine.watch.set(machine.tuning.teardown.and_then(|limit| Watch::start(machine, limit)));
        })?;
        let task = handle.task();
        self.main.set(Some(task));
        self.turn_until(Instant::FAR, |_| task.state.get() == State::Finished);
        self.main.set(None);
        drop(handle);
        Ok(result.expect("the main coroutine writes its result before it ends"))
    }

    /// Ends every coroutine, then whatever else the machine holds.
    pub(crate) fn tear_down(&self) {
        self.drain(self.tuning.drain);
        let parents = self.live().into_iter().filter(|task| task.family.get().is_none());
        parents.for_each(|task| self.cancel(task, Cause::Borrowed("the machine ends")));
        self.drain(self.tuning.grace);
        let mut last = false;
        loop {
            self.unwind();
            self.reap_unjoined();
            self.locals.clear();
            if last {
                self.process().end_locals();
            }
            self.shared.close();
            let process_is_empty = !last || !self.process().has_locals();
            if self.alive.get() == 0 && self.locals.is_empty() && process_is_empty {
                // Users' code of this machine is over. What of the process is left is the last one's to end.
                if last || !self.process().machine_ends() {
                    break;
                }
                last = true;
            }
        }
        self.watch.take().into_iter().for_each(Watch::stop);
        // What destructors have put off.
        self.end_turn();
        self.assert_no_stack_is_lost();
        self.poller.clear();
        self.alarms.clear();
        self.shared.messages.close();
        // The process's own answer to a close that fails is to go on; so is ours.
        let _ = self.kernel.close(self.poller.epoll);
    }

    /// Every coroutine has ended, and its stack is in use only where somebody still has its handle, in another machine or in leaked
    /// memory.
    fn assert_no_stack_is_lost(&self) {
        let ended = self.slots.borrow().iter().filter(|task| task.state.get() == State::Finished).count();
        debug_assert_eq!(self.stacks.live(), ended, "a stack has no coroutine");
        debug_assert_eq!(self.big_stacks.live(), 0, "a big stack was not given back");
    }

    fn drain(&self, patience: Duration) {
        let done = |machine: &Machine| machine.alive.get() == 0 || machine.reclaimed.get();
        self.turn_until(self.now() + patience, done);
    }

    /// The kernel answers no call any more: cancels every coroutine at the first such answer, and unwinds what is left at
    /// each later one, since neither events nor time will end a wait.
    #[cold]
    pub(crate) fn reclaim(&self) {
        let live = self.live();
        if !self.reclaimed.replace(true) {
            let cause = Cause::Borrowed("the process is reclaimed");
            live.into_iter().for_each(|task| self.cancel_alone(task, &cause));
            return;
        }
        self.scheduler.set_interrupt();
        live.into_iter().filter(|task| task.first_child.get().is_none()).for_each(|task| self.force(task));
    }

    fn unwind(&self) {
        self.unwinding.set(true);
        self.scheduler.set_interrupt();
        // Rounds in which everyone ran and nobody ended.
        let mut vain = 0;
        while self.alive.get() > 0 {
            let alive = self.alive.get();
            let live = self.live().into_iter();
            live.filter(|task| task.first_child.get().is_none()).for_each(|task| self.force(task));
            self.open_letters();
            // Enough for each of them to run, and to try an operation.
            let ready = u32::try_from(self.scheduler.ready_len()).unwrap_or(u32::MAX);
            self.scheduler.run(ready.saturating_mul(1 + OPERATION));
            self.bury();
            if self.await_letter() {
                continue;
            }
            vain = if self.alive.get() < alive { 0 } else { vain + 1 };
            if vain > self.tuning.swallows {
                self.abort("coroutines that cannot be unwound");
            }
        }
    }

    /// Sleeps until a letter comes, if all that can be unwound now are waits that other machines have claimed: theirs come by
    /// letter alone, however long whoever claimed them is kept from writing it. False: there is more to unwind.
    ///
    /// A wait that was to be unwound, and is one still, was claimed. One of a parent whose children have only just ended was
    /// not asked yet.
    fn await_letter(&self) -> bool {
        let claimed = |task: &TaskRef| {
            let cell = self.shared.cells.get(task.header.index);
            task.state.get() == State::Parked && task.unwind.get() && cell.is_claimed(task.ticket.get())
        };
        let leaf = |task: &TaskRef| task.first_child.get().is_none();
        let live = self.live();
        let waits = self.scheduler.is_idle()
            && live.iter().any(claimed)
            && live.iter().all(|task| claimed(task) || !leaf(task));
        if waits && self.shared.sleep() {
            self.poller.poll(self, None);
            self.shared.awake();
        }
        waits
    }

    /// Has a coroutine unwound when it runs next, which is soon.
    fn force(&self, task: TaskRef) {
        task.unwind.set(true);
        self.scheduler.wake(super::Waiter { task, ticket: task.ticket.get() }, super::Outcome::Cancelled);
    }

    /// The results that nobody joined, whose handles lie in other machines or in leaked memory.
    fn reap_unjoined(&self) {
        let slots = self.slots.borrow().clone();
        for task in slots {
            if task.state.get() == State::Finished {
                self.reap(task);
            }
        }
    }

    /// Does not return if whoever started this machine's thread ends processes in another way.
    pub(crate) fn abort_elsewhere(&self, why: &str) {
        if let Some(starter) = &self.starter {
            starter.abort(why);
        }
    }

    /// Prints what every coroutine is doing, and aborts the process.
    #[cold]
    pub(crate) fn abort(&self, why: &str) -> ! {
        self.abort_elsewhere(why);
        quietly(|| eprintln!("machinarium: {why}; the process aborts"));
        self.coroutines().iter().for_each(print);
        std::process::abort()
    }
}
