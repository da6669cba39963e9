//! How a machine ends: always with every coroutine unwound, so that no borrow of a dead stack survives.
//!
//! | phase | what happens | until |
//! |---|---|---|
//! | drain | others go on undisturbed | they have ended, or `Tuning::drain` is over |
//! | cancel | every blocking call fails with the cause "the machine ends" | all ended, or `Tuning::grace` is over |
//! | unwind | each is resumed into an unwinding, children before their parents | all ended |
//!
//! An unwinding that is swallowed is thrown again at the next blocking call, `Tuning::swallows` times; after that, and
//! when nothing can be unwound any more, the process aborts with a dump of every coroutine: going on would free stacks
//! that safe code may still borrow from.
//!
//! None of this helps against a coroutine that never waits: the root stack does not run again. With `Tuning::teardown`, `watch`
//! does: another thread prints what all were doing, and aborts.

use std::time::Duration;

use super::task::Panic;
use super::watch::Watch;
use super::{CoroutineInfo, Machine, State, TaskRef, current};
use crate::error::Cause;
use crate::kernel::Instant;

impl Machine {
    /// Runs the machine until its first coroutine has ended.
    pub(crate) fn run_main<T>(&self, main: impl FnOnce() -> T) -> std::io::Result<Result<T, Panic>> {
        // The result goes by a cell of this frame, which outlives the coroutine: this function returns when it has ended.
        let mut result = None;
        let machine = current::machine_rc().expect("the slot was set by the caller");
        let place = &mut result;
        let handle = machine.start("main", None, move || {
            *place = Some(std::panic::catch_unwind(std::panic::AssertUnwindSafe(main)));
            // Here already: who is ready runs before the root stack does, and may keep it from ever running.
            let machine = current::machine().expect("the main coroutine is on its machine");
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
        self.live().into_iter().for_each(|task| self.cancel(task, Cause::Borrowed("the machine ends")));
        self.drain(self.tuning.grace);
        self.unwind();
        self.reap_unjoined();
        self.locals.clear();
        self.poller.clear();
        self.watch.take().into_iter().for_each(Watch::stop);
        self.shared.close();
        // The process's own answer to a close that fails is to go on; so is ours.
        let _ = self.kernel.close(self.poller.epoll);
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
            live.into_iter().for_each(|task| self.cancel(task, Cause::Borrowed("the process is reclaimed")));
            return;
        }
        self.scheduler.set_interrupt();
        live.into_iter().filter(|task| task.children.get() == 0).for_each(|task| self.force(task));
    }

    fn unwind(&self) {
        self.scheduler.set_interrupt();
        let mut rounds = 0;
        while self.alive.get() > 0 {
            let leaves: Vec<TaskRef> =
                self.live().into_iter().filter(|task| task.children.get() == 0).collect();
            leaves.into_iter().for_each(|task| self.force(task));
            self.scheduler.run(self.tuning.turns);
            self.bury();
            self.open_letters();
            if self.await_letter() {
                continue;
            }
            rounds += 1;
            if rounds > self.tuning.swallows {
                self.abort("coroutines that cannot be unwound");
            }
        }
    }

    /// Sleeps until a letter comes, if all that is left are waits that other machines have claimed: theirs come by letter
    /// alone, however long whoever claimed them is kept from writing it. False: there is more to unwind.
    fn await_letter(&self) -> bool {
        let waits = self.scheduler.is_idle()
            && self.live().iter().any(|task| task.state.get() == State::Parked && task.remote.get());
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
    pub(super) fn abort_elsewhere(&self, why: &str) {
        if let Some(starter) = &self.starter {
            starter.abort(why);
        }
    }

    /// Prints what every coroutine is doing, and aborts the process.
    #[cold]
    pub(crate) fn abort(&self, why: &str) -> ! {
        self.abort_elsewhere(why);
        eprintln!("machinarium: {why}; the process aborts");
        self.coroutines().iter().for_each(print);
        std::process::abort()
    }
}

pub(super) fn print(info: &CoroutineInfo) {
    eprintln!("  coroutine {} '{}': {}, {}", info.id, info.name, info.state, info.waits_for);
    if let Some(backtrace) = &info.backtrace {
        eprintln!("{backtrace}");
    }
}
