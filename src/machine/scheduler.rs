//! Who runs next: the ready queue, the switch, parking and waking. One thread; no call to the kernel.
//!
//! The queue is an array of control-block pointers. Whoever parks pops the next one and switches straight to it; the
//! line of the one [`AHEAD`] places further on is prefetched meanwhile, and nothing needed for the choice comes from the
//! stack just entered. When none is ready, or `turns` switches are over, the machine's root stack runs instead: it polls.
//!
//! The wait protocol is that of `shared::park`: a wait opens the coroutine's cell and hands out tickets; whoever claims
//! the ticket delivers its outcome, all others lose. In this file the claim, the outcome and the push to the ready
//! queue are one step ([`Scheduler::wake`]), so an outcome is never overwritten.

use std::cell::{Cell, UnsafeCell};
use std::sync::Arc;

use super::task::{Reason, State, TaskRef, Unwound};
use super::wait::OPERATION;
use crate::coroutine::{self, Context, Stacks};
use crate::shared::park::{Cells, Ticket};
use crate::shared::primitive;

/// How many places ahead of the queue's head the prefetch goes: far enough for a miss, near enough to stay in L1.
const AHEAD: usize = 8;

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(crate) enum Outcome {
    /// It has not.
    #[default]
    None = 0,
    /// What it waited for came.
    Woken,
    /// Its deadline came first.
    TimedOut,
    /// A cancellation came first.
    Cancelled,
}

/// The right to wake one wait of one coroutine, once. Stale ones do nothing.
#[derive(Clone, Copy)]
pub(crate) struct Waiter {
    pub(crate) task: TaskRef,
    pub(crate) ticket: Ticket,
}

impl Waiter {
    /// Whether that wait is not over. One that was claimed, and whose coroutine does not know yet, may be called either.
    pub(crate) fn waits(&self) -> bool {
        self.task.state.get() == State::Parked && self.task.ticket.get() == self.ticket
    }
}

pub(crate) struct Scheduler {
    ready: UnsafeCell<Ring>,
    running: Cell<Option<TaskRef>>,
    root: UnsafeCell<Context>,
    /// Switches (and weighted operations) until the root polls.
    turns: Cell<u32>,
    /// Operations until the running coroutine yields.
    budget: Cell<u32>,
    budget_full: Cell<u32>,
    /// Every coroutine that is resumed looks at `interrupted` first. Set for teardown and for a recording.
    interrupt: Cell<bool>,
    /// Whoever asked a parked coroutine for its backtrace, and where it goes.
    visitor: UnsafeCell<Context>,
    recording: Cell<bool>,
    recorded: Cell<Option<std::backtrace::Backtrace>>,
    /// Shuffles the ready queue if not zero: the state of a splitmix generator.
    shuffle: Cell<u64>,
    pub(crate) switches: Cell<u64>,
    pub(crate) cells: Arc<Cells>,
}

impl Scheduler {
    pub(crate) fn new(budget: u32, shuffle: Option<u64>, cells: Arc<Cells>) -> Scheduler {
        Scheduler {
            ready: UnsafeCell::new(Ring::new()),
            running: Cell::new(None),
            root: UnsafeCell::new(Context::default()),
            turns: Cell::new(0),
            budget: Cell::new(budget),
            budget_full: Cell::new(budget.max(1)),
            interrupt: Cell::new(false),
            visitor: UnsafeCell::new(Context::default()),
            recording: Cell::new(false),
            recorded: Cell::new(None),
            // Odd, so never zero, and another one for each seed (below 2^63).
            shuffle: Cell::new(shuffle.map_or(0, |seed| seed << 1 | 1)),
            switches: Cell::new(0),
            cells,
        }
    }

    /// The coroutine that runs, `None` on the root stack.
    #[inline(always)]
    pub(crate) fn running(&self) -> Option<TaskRef> {
        self.running.get()
    }

    /// Whether nobody is ready.
    pub(crate) fn is_idle(&self) -> bool {
        self.ready_len() == 0
    }

    pub(crate) fn ready_len(&self) -> usize {
        // SAFETY: no reference into the ring is held across a call of another method or a switch.
        unsafe { (*self.ready.get()).len() }
    }

    /// On the root stack: lets coroutines run until none is ready or `turns` switches are over.
    pub(crate) fn run(&self, turns: u32) {
        debug_assert!(self.running.get().is_none(), "only the root stack runs the queue");
        self.turns.set(turns);
        let Some(first) = self.pop() else { return };
        self.enter(first);
        // SAFETY: the root context is written here and restored by whoever finds the queue empty, on this thread.
        unsafe { coroutine::switch(self.root.get(), first.context()) };
    }

    /// Puts the running coroutine at the end of the queue and runs the next one.
    #[inline(always)]
    pub(crate) fn yield_now(&self) {
        let Some(me) = self.running.get() else { return };
        self.push(me);
        self.leave(me);
        if self.interrupt.get() {
            self.interrupted(me);
        }
    }

    /// Makes a coroutine ready.
    #[inline(always)]
    pub(crate) fn push(&self, task: TaskRef) {
        // SAFETY: as in `ready_len`.
        let ring = unsafe { &mut *self.ready.get() };
        ring.push(task);
        if self.shuffle.get() != 0 {
            self.shuffle_last(ring);
        }
    }

    #[cold]
    fn shuffle_last(&self, ring: &mut Ring) {
        let state = self.shuffle.get().wrapping_add(0x9e37_79b9_7f4a_7c15) | 1;
        self.shuffle.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ring.swap_last((mixed >> 33) as usize % ring.len());
    }

    #[inline(always)]
    fn pop(&self) -> Option<TaskRef> {
        // SAFETY: as in `ready_len`.
        unsafe { (*self.ready.get()).pop() }
    }

    /// Opens a wait of the running coroutine. With `remote`, its ticket may go to other machines.
    #[inline]
    pub(crate) fn open(&self, me: TaskRef, remote: bool, reason: Reason) -> Ticket {
        debug_assert!(self.running.get() == Some(me), "only the running coroutine can wait");
        let cell = me.cell();
        let ticket = if remote { cell.open() } else { cell.open_local() };
        me.remote.set(remote);
        me.ticket.set(ticket);
        me.reason.set(reason);
        me.outcome.set(Outcome::None);
        ticket
    }

    /// Sleeps until the wait that `open` began is claimed, by a waker, at `me.deadline`, or by a cancellation.
    #[inline(always)]
    pub(crate) fn park(&self, me: TaskRef) -> Outcome {
        me.state.set(State::Parked);
        self.leave(me);
        if self.interrupt.get() {
            self.interrupted(me);
        }
        me.cell().finish(me.ticket.get());
        me.outcome.get()
    }

    /// Takes back a wait that nobody has claimed. False: someone has, and the outcome is on its way (park for it).
    pub(crate) fn close(&self, me: TaskRef) -> bool {
        primitive::point();
        me.cell().close(me.ticket.get())
    }

    /// Ends a wait whose effect the running coroutine has found itself, without having parked.
    pub(crate) fn finish(&self, me: TaskRef) {
        me.cell().finish(me.ticket.get());
    }

    /// Claims the wait behind `waiter` for `outcome`; the coroutine is made ready. False: it was over already.
    #[inline]
    pub(crate) fn wake(&self, waiter: Waiter, outcome: Outcome) -> bool {
        let task = waiter.task;
        if task.state.get() != State::Parked {
            return false;
        }
        let cell = task.cell();
        let won =
            if task.remote.get() { cell.claim(waiter.ticket).won() } else { cell.claim_local(waiter.ticket) };
        if won {
            self.deliver(task, outcome);
        }
        won
    }

    /// Delivers the outcome of a claim that was already won, here or by another machine.
    #[inline]
    pub(crate) fn deliver(&self, task: TaskRef, outcome: Outcome) {
        debug_assert_eq!(task.state.get(), State::Parked);
        task.outcome.set(outcome);
        task.state.set(State::Ready);
        self.push(task);
    }

    /// Gives back what a parked coroutine has touched of its stack below where it waits.
    pub(crate) fn trim(&self, task: TaskRef, stacks: &Stacks) {
        assert!(task.state.get() == State::Parked && self.running.get().is_none(), "it is suspended");
        // SAFETY: nobody runs, so its context is whole, as its last `leave` has written it.
        let used_low = unsafe { (*task.context()).stack_pointer() };
        // One that is on a big stack has gone from its own somewhere that this does not say.
        if (task.header.low..task.header.high).contains(&used_low) {
            // SAFETY: it is suspended there, and a coroutine's stack is of its machine's pool.
            unsafe { stacks.trim(&task.header, used_low) };
        }
    }

    /// Counts one operation against the running coroutine's budget; true when it has none left. What it has spent is counted
    /// against the turns when it leaves.
    #[inline(always)]
    pub(crate) fn spend(&self) -> bool {
        let left = self.budget.get();
        // Not below zero: what ends while a destructor unwinds, which cannot yield, is still over after it.
        self.budget.set(left.saturating_sub(1));
        left <= 1
    }

    /// Whether the running coroutine's budget is over, and it has not yielded since.
    pub(crate) fn is_spent(&self) -> bool {
        self.budget.get() == 0
    }

    /// Ends the running coroutine: its stack is never entered again.
    pub(crate) fn exit(&self, me: TaskRef) -> ! {
        self.leave(me);
        unreachable!("a finished coroutine was resumed");
    }

    /// From now on, every coroutine that is resumed looks whether it is to unwind.
    pub(crate) fn set_interrupt(&self) {
        self.interrupt.set(true);
    }

    /// Switches away from `me`, to the next ready coroutine or to the root.
    #[inline(always)]
    fn leave(&self, me: TaskRef) {
        let spent = self.budget_full.get() - self.budget.get();
        let turns = self.turns.get().saturating_sub(OPERATION * spent);
        if turns != 0
            && let Some(next) = self.pop()
        {
            self.turns.set(turns - 1);
            self.enter(next);
            if next != me {
                // SAFETY: `next` was pushed when it was ready, so its context is that of its last `leave` (or of
                // `prepare`), on this thread; `me` is saved before anyone can pop it.
                unsafe { coroutine::switch(me.context(), next.context()) };
            }
        } else {
            self.running.set(None);
            // SAFETY: the root stack waits in `run`.
            unsafe { coroutine::switch(me.context(), self.root.get()) };
        }
    }

    #[inline(always)]
    fn enter(&self, next: TaskRef) {
        // SAFETY: as in `ready_len`.
        if let Some(later) = unsafe { (*self.ready.get()).peek(AHEAD) } {
            coroutine::prefetch(later.as_ptr().cast());
        }
        self.running.set(Some(next));
        self.budget.set(self.budget_full.get());
        self.switches.set(self.switches.get() + 1);
    }

    /// The slow way out of a switch: someone wants this coroutine to record its backtrace, or to unwind.
    #[cold]
    #[inline(never)]
    fn interrupted(&self, me: TaskRef) {
        self.visited(me);
        if me.unwind.get() {
            me.cell().finish(me.ticket.get());
            throw_unwind();
        }
    }

    /// Records the running coroutine's backtrace for as long as it is resumed for nothing else.
    pub(crate) fn visited(&self, me: TaskRef) {
        while self.recording.take() {
            self.recorded.set(Some(std::backtrace::Backtrace::force_capture()));
            // SAFETY: the visitor saved its context in `record` just before it switched here.
            unsafe { coroutine::switch(me.context(), self.visitor.get()) };
        }
    }

    /// The backtrace of a coroutine that is parked or ready, taken by resuming it for just that.
    pub(crate) fn record(&self, task: TaskRef) -> Option<std::backtrace::Backtrace> {
        let interrupt = self.interrupt.replace(true);
        self.recording.set(true);
        let running = self.running.replace(Some(task));
        // SAFETY: the task is suspended in `leave`, after which it sees the interrupt, records, and comes back here.
        unsafe { coroutine::switch(self.visitor.get(), task.context()) };
        self.running.set(running);
        self.recording.set(false);
        self.interrupt.set(interrupt);
        self.recorded.take()
    }
}

/// Unwinds the running coroutine to its base.
pub(crate) fn throw_unwind() -> ! {
    std::panic::resume_unwind(Box::new(Unwound))
}

impl TaskRef {
    #[inline(always)]
    fn context(self) -> *mut Context {
        // SAFETY: the control block is mapped (see `TaskRef`); this only computes the field's address.
        unsafe { &raw mut (*self.as_ptr()).header.context }
    }
}

/// A ring of control-block pointers, a power of two long, that doubles when full and never shrinks.
struct Ring {
    buffer: Vec<Option<TaskRef>>,
    head: usize,
    tail: usize,
}

impl Ring {
    fn new() -> Ring {
        Ring { buffer: vec![None; 64], head: 0, tail: 0 }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.tail.wrapping_sub(self.head)
    }

    #[inline(always)]
    fn push(&mut self, task: TaskRef) {
        if self.len() == self.buffer.len() {
            self.grow();
        }
        let mask = self.buffer.len() - 1;
        self.buffer[self.tail & mask] = Some(task);
        self.tail = self.tail.wrapping_add(1);
    }

    #[inline(always)]
    fn pop(&mut self) -> Option<TaskRef> {
        if self.head == self.tail {
            return None;
        }
        let mask = self.buffer.len() - 1;
        let task = self.buffer[self.head & mask];
        self.head = self.head.wrapping_add(1);
        task
    }

    #[inline(always)]
    fn peek(&self, ahead: usize) -> Option<TaskRef> {
        let mask = self.buffer.len() - 1;
        // Past the tail stands what was there before: an old pointer, harmless to prefetch.
        self.buffer[self.head.wrapping_add(ahead) & mask]
    }

    fn swap_last(&mut self, back: usize) {
        let mask = self.buffer.len() - 1;
        self.buffer.swap(self.tail.wrapping_sub(1) & mask, self.tail.wrapping_sub(1 + back) & mask);
    }

    #[cold]
    fn grow(&mut self) {
        let mask = self.buffer.len() - 1;
        let mut larger = vec![None; self.buffer.len() * 2];
        let len = self.len();
        for (place, slot) in larger.iter_mut().take(len).enumerate() {
            *slot = self.buffer[self.head.wrapping_add(place) & mask];
        }
        self.buffer = larger;
        self.head = 0;
        self.tail = len;
    }
}
