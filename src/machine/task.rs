//! A coroutine as its machine sees it: the control block at the top of its stack, and what it runs.
//!
//! ```text
//! slot end  +---------------------------+
//!           | colour (0..n cache lines) |
//!           | Control: Header, fields   |  <- TaskRef points here; type-stable while the machine lives
//!           +---------------------------+
//!           | closure, later its result |  <- payload
//!           +---------------------------+
//!           | stack, growing down       |
//! ```
//!
//! All fields are `Cell`s and valid when zero, since a slot that was trimmed reads as zeroes: id 0 belongs to no
//! coroutine. Handles name a coroutine by its control block *and* id, so one that outlives it finds a stranger's id.
//!
//! | state | where it is |
//! |---|---|
//! | Free | the slot is unused, or its coroutine's result was taken |
//! | Ready | in the ready queue, or running |
//! | Parked | in `Scheduler::park`, its cell open |
//! | Finished | its stack is dead; the payload holds the result until the handle takes or drops it |

use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::mem::offset_of;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use super::context;
use super::coroutine_local::Values;
use super::scheduler::{Outcome, Waiter};
use super::seat::Chair;
use super::wakeup::Shared;
use crate::coroutine::Header;
use crate::error::Cause;
use crate::kernel::{Events, Fd, Instant};
use crate::shared::gauges::Gauges;
use crate::shared::park::{self, Ticket};

/// What a panicking coroutine leaves behind.
pub(crate) type Panic = Box<dyn Any + Send>;

/// See the head of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(crate) enum State {
    #[default]
    Free = 0,
    Ready,
    Parked,
    Finished,
}

/// The control block. One for each stack slot.
#[repr(C)]
pub(crate) struct Control {
    pub(crate) header: Header,
    pub(crate) state: Cell<State>,
    /// Nobody will ask for the result.
    pub(crate) detached: Cell<bool>,
    /// The machine is tearing down: the next park throws, and so does a return from the present one.
    pub(crate) unwind: Cell<bool>,
    /// A cancellation was asked for and no shield is up: checked first by every operation.
    pub(crate) cancelled: Cell<bool>,
    /// It waits for its own cancellation: one that a shield keeps off wakes it.
    pub(crate) hears: Cell<bool>,
    /// How many `shield` calls are on the stack.
    pub(crate) shields: Cell<u32>,
    /// How often a forced unwinding was swallowed and thrown again.
    pub(crate) swallowed: Cell<u32>,
    /// Position in the timer heap plus one; 0 is absent.
    pub(crate) timer: Cell<u32>,
    /// The children of its open scopes that have not ended are a list, last started first; these are its head and, in each
    /// child, its neighbours.
    pub(crate) first_child: Cell<Option<TaskRef>>,
    pub(crate) next_sibling: Cell<Option<TaskRef>>,
    previous_sibling: Cell<Option<TaskRef>>,
    /// Whose child it is, if it is one.
    pub(crate) family: Cell<Option<Family>>,
    /// As others see it that wake it; its park cell among it.
    chair: UnsafeCell<Option<Chair>>,
    /// Whether another machine may hold the ticket of the present wait.
    pub(crate) remote: Cell<bool>,
    pub(crate) outcome: Cell<Outcome>,
    pub(crate) ticket: Cell<Ticket>,
    /// The wait in which the idle machine saw it last, and how often: see `trim`.
    pub(super) sighted: Cell<Ticket>,
    pub(super) sightings: Cell<u8>,
    /// When the present wait ends (`FAR` if never): what the timer node is compared with.
    pub(crate) deadline: Cell<Instant>,
    /// The deadline of the nearest enclosing `timeout`, and which one it is.
    pub(crate) scope: Cell<ScopeDeadline>,
    pub(crate) reason: Cell<Reason>,
    pub(crate) joiner: Cell<Option<Waiter>>,
    /// The future that waits for its end; none from its end on.
    pub(crate) polled_by: Cell<Option<Box<Waker>>>,
    pub(crate) cause: RefCell<Option<Cause>>,
    /// Its values of `coroutine_local!`; none from its end on.
    pub(crate) locals: RefCell<Option<Box<Values>>>,
    /// Its context values; none from its end on.
    pub(crate) context: Cell<Option<Rc<context::Node>>>,
    body: Cell<Option<&'static Body>>,
    payload: Cell<usize>,
}

/// Where the fields of a control block are that a debugger is told of: `state`, `deadline`, `reason`, and in that `what`, `number`.
pub(super) const OFFSETS: [usize; 5] = [
    offset_of!(Control, state),
    offset_of!(Control, deadline),
    offset_of!(Control, reason),
    offset_of!(Reason, what),
    offset_of!(Reason, number),
];

/// A scope as its children know it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Family {
    /// The coroutine that opened the scope, and does not leave it before they have ended.
    pub(crate) parent: TaskRef,
    /// Which of its scopes.
    pub(crate) id: u64,
    /// Opened inside a `shield`: a cancellation of the parent does not reach them.
    pub(crate) sheltered: bool,
}

/// A deadline with the identity of the `timeout` that set it (0: none).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ScopeDeadline {
    pub(crate) at: Instant,
    pub(crate) id: u64,
}

impl ScopeDeadline {
    pub(crate) const NONE: ScopeDeadline = ScopeDeadline { at: Instant::FAR, id: 0 };
}

/// What a coroutine waits for, in words for the report: "read fd 7".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reason {
    what: Option<&'static str>,
    number: i64,
    /// Any of these ends it: what of a descriptor it waits for.
    ready: Events,
    /// Where that stands who has what it waits for; null if nobody knows. Read only while it waits, and whoever waits borrows it.
    holder: *const Holder,
}

/// Who took something last: the address of its machine, and its number there; zeros: no coroutine.
pub(crate) type Holder = Gauges<2>;

impl Reason {
    pub(crate) const fn of(what: &'static str) -> Reason {
        Reason::numbered(what, -1)
    }

    pub(crate) const fn numbered(what: &'static str, number: i64) -> Reason {
        Reason { what: Some(what), number, ready: Events::NONE, holder: std::ptr::null() }
    }

    /// Waits for what one at a time has, as long as `holder` lives.
    pub(crate) fn held(what: &'static str, holder: &Holder) -> Reason {
        Reason { holder, ..Reason::of(what) }
    }

    /// The machine, by address, and the coroutine that has what it waits for.
    ///
    /// # Safety
    /// The coroutine whose reason this is is parked, and no other thread runs it meanwhile.
    pub(crate) unsafe fn holder(self) -> Option<(usize, u64)> {
        // SAFETY: a coroutine that is parked is inside the call that gave the reason, and that call borrows the holder.
        let [machine, id] = unsafe { self.holder.as_ref() }?.get();
        (id != 0).then_some((machine as usize, id))
    }

    /// Waits for one of `events` of `fd`.
    pub(crate) fn ready(what: &'static str, fd: Fd, events: Events) -> Reason {
        Reason { ready: events, ..Reason::numbered(what, i64::from(fd.raw())) }
    }

    /// In a word, and the number of the thing if it has one.
    pub(crate) fn parts(self) -> (&'static str, i64) {
        (self.what.unwrap_or("-"), self.number)
    }

    /// The descriptor that it waits for, and the events.
    pub(crate) fn readiness(self) -> Option<(Fd, Events)> {
        let fd = i32::try_from(self.number).ok().map(Fd::from_raw)?;
        (!self.ready.is_empty()).then_some((fd, self.ready))
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.what, self.number) {
            (None, _) => f.write_str("-"),
            (Some(what), -1) => f.write_str(what),
            (Some(what), number) => write!(f, "{what} {number}"),
        }
    }
}

/// The operations that know the types of a coroutine's closure and result.
struct Body {
    /// Moves the closure out of the payload and runs it, or drops it if it is not to run, and writes the result.
    run: unsafe fn(*mut u8, drop_only: bool),
    drop_result: unsafe fn(*mut u8),
    panicked: unsafe fn(*mut u8) -> bool,
}

/// Points to a control block of the machine that made it.
///
/// Dereferencing is safe because control blocks stay mapped and hold a valid `Control` (zeroes included) until the
/// machine's stacks are unmapped, which is when the last `Rc<Machine>` goes; whoever keeps a `TaskRef` beyond a call
/// keeps such an `Rc` beside it, or is a field of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TaskRef(NonNull<Control>);

impl Deref for TaskRef {
    type Target = Control;

    #[inline(always)]
    fn deref(&self) -> &Control {
        // SAFETY: see the type.
        unsafe { self.0.as_ref() }
    }
}

impl TaskRef {
    /// Makes a new coroutine's control block in a slot whose header the stack pool has filled.
    ///
    /// # Safety
    /// `header` is of an allocated slot that reserves `size_of::<Control>()` bytes, with `bytes` free below it.
    pub(crate) unsafe fn create<F, T>(header: *mut Header, id: u64, f: F) -> (TaskRef, *mut u8)
    where
        F: FnOnce() -> T,
    {
        let control = header.cast::<Control>();
        let layout = payload_layout::<F, T>();
        let payload = (control as usize - layout.size()) & !(layout.align() - 1) & !15;
        // SAFETY: the slot is ours alone and large enough (checked by the caller with `payload_layout`); every field
        // but those written whole is valid when zeroed, and these were emptied when the last coroutine of the slot ended.
        unsafe {
            (payload as *mut F).write(f);
            (*header).id = id;
            // A slot that was never used or was trimmed is all zeroes, which need not be a valid value of these fields.
            (&raw mut (*control).cause).write(RefCell::new(None));
            (&raw mut (*control).locals).write(RefCell::new(None));
            (&raw mut (*control).context).write(Cell::new(None));
            let control = &*control;
            control.state.set(State::Ready);
            control.detached.set(false);
            control.unwind.set(false);
            control.cancelled.set(false);
            control.hears.set(false);
            control.shields.set(0);
            control.swallowed.set(0);
            control.first_child.set(None);
            control.remote.set(false);
            control.outcome.set(Outcome::None);
            control.deadline.set(Instant::FAR);
            control.scope.set(ScopeDeadline::NONE);
            control.reason.set(Reason::of("its first run"));
            control.joiner.set(None);
            control.family.set(None);
            control.body.set(Some(const { &Body::of::<F, T>() }));
            control.payload.set(payload);
        }
        // SAFETY: `control` points into a mapped slot.
        (TaskRef(unsafe { NonNull::new_unchecked(control) }), payload as *mut u8)
    }

    /// The control block behind an argument of the coroutine's entry.
    ///
    /// # Safety
    /// `argument` came from [`as_ptr`](Self::as_ptr).
    pub(crate) unsafe fn from_ptr(argument: *mut u8) -> TaskRef {
        // SAFETY: the caller's promise.
        TaskRef(unsafe { NonNull::new_unchecked(argument.cast()) })
    }

    pub(crate) fn as_ptr(self) -> *mut Control {
        self.0.as_ptr()
    }

    /// Where it waits.
    #[inline(always)]
    pub(crate) fn cell<'a>(self) -> &'a park::Cell {
        self.chair().cell()
    }

    /// Who it is, to others.
    #[inline(always)]
    pub(super) fn chair<'a>(self) -> &'a Chair {
        // SAFETY: it was set before the coroutine first ran, and does not change until after its end.
        unsafe { &*self.chair.get() }.as_ref().expect("a coroutine has a chair from its start on")
    }

    /// Gives it a chair, before it first runs and before anybody is told of it.
    #[inline(always)]
    pub(super) fn set_chair(self, shared: &Arc<Shared>) {
        // SAFETY: nobody knows the new coroutine, so nobody looks.
        unsafe { self.chair.get().write(Some(Chair::of(shared, self))) };
    }

    /// Whether this is still the coroutine of that id.
    #[inline]
    pub(crate) fn is(self, id: u64) -> bool {
        self.header.id == id && self.state.get() != State::Free
    }

    /// Puts a new child at the head of its parent's list.
    pub(crate) fn join_family(self, family: Family) {
        self.family.set(Some(family));
        let next = family.parent.first_child.replace(Some(self));
        self.next_sibling.set(next);
        self.previous_sibling.set(None);
        next.inspect(|next| next.previous_sibling.set(Some(self)));
    }

    /// Takes a child that has ended off its parent's list.
    pub(crate) fn leave_family(self) {
        let Some(family) = self.family.take() else { return };
        let (previous, next) = (self.previous_sibling.get(), self.next_sibling.get());
        match previous {
            Some(previous) => previous.next_sibling.set(next),
            None => family.parent.first_child.set(next),
        }
        next.inspect(|next| next.previous_sibling.set(previous));
    }

    /// Visits this one, and the children of whomever `visit` says so, parents first. Without recursion: nestings may be as deep
    /// as there are stacks, and whoever walks stands on one of them.
    pub(crate) fn walk(self, mut visit: impl FnMut(TaskRef) -> bool) {
        let mut at = self;
        loop {
            let down = if visit(at) { at.first_child.get() } else { None };
            let Some(next) = down.or_else(|| at.beside(self)) else { return };
            at = next;
        }
    }

    /// The next sibling: its own, or of the nearest of those above it that has one, below `top`.
    fn beside(self, top: TaskRef) -> Option<TaskRef> {
        let mut at = self;
        while at != top {
            let sibling = at.next_sibling.get();
            if sibling.is_some() {
                return sibling;
            }
            at = at.family.get()?.parent;
        }
        None
    }

    /// Runs the closure to its end (or drops it unrun), leaving the result in the payload. On its own stack, once.
    ///
    /// # Safety
    /// Called by the coroutine's entry only.
    pub(crate) unsafe fn run(self, drop_only: bool) {
        let body = self.body.get().expect("a coroutine that runs has a body");
        // SAFETY: the payload holds the closure until now: `create` wrote it, and this runs once.
        unsafe { (body.run)(self.payload.get() as *mut u8, drop_only) }
    }

    /// Has whoever polls for its end look, which is there when this coroutine runs no more. A waker is its maker's code, and may wait:
    /// another can have come meanwhile.
    pub(crate) fn wake_poller(self) {
        while let Some(waker) = self.polled_by.take() {
            quietly(|| waker.wake());
        }
    }

    /// Takes the result out of a finished coroutine.
    ///
    /// # Safety
    /// The state is `Finished`, `T` is the type it was spawned with, and nobody took or dropped the result before.
    pub(crate) unsafe fn take_result<T>(self) -> Result<T, Panic> {
        debug_assert_eq!(self.state.get(), State::Finished);
        // SAFETY: `run` wrote a `Result<T, Panic>` there; the caller answers for the rest.
        unsafe { (self.payload.get() as *mut Result<T, Panic>).read() }
    }

    /// Drops the result of a coroutine that nobody takes. The value has left the control block by then: its destructor is free
    /// to wait, and to look for the coroutine.
    ///
    /// # Safety
    /// As for [`take_result`](Self::take_result).
    pub(crate) unsafe fn drop_result(self) {
        let body = self.body.get().expect("a finished coroutine has a body");
        // SAFETY: the caller's promise.
        unsafe { (body.drop_result)(self.payload.get() as *mut u8) }
    }

    /// Whether a coroutine whose closure has returned ended by a panic that is not our own unwinding.
    ///
    /// # Safety
    /// The result is there: nobody took or dropped it.
    pub(crate) unsafe fn panicked(self) -> bool {
        let body = self.body.get().expect("a finished coroutine has a body");
        // SAFETY: the caller's promise.
        unsafe { (body.panicked)(self.payload.get() as *mut u8) }
    }
}

/// What a forced unwinding throws. Not a panic: the hook is not called.
pub(crate) struct Unwound;

/// Whether a caught panic is a forced unwinding, which must go on.
pub(crate) fn is_unwinding(panic: &(dyn Any + Send)) -> bool {
    panic.is::<Unwound>()
}

/// Runs what calls destructors of users and must go on, and takes their panics, which the hook has reported.
pub(crate) fn quietly(f: impl FnOnce()) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(f)) else { return };
    // What was thrown has a destructor too. What that throws is not asked again.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}

impl Body {
    const fn of<F: FnOnce() -> T, T>() -> Body {
        Body { run: run::<F, T>, drop_result: drop_result::<T>, panicked: panicked::<T> }
    }
}

unsafe fn run<F: FnOnce() -> T, T>(payload: *mut u8, drop_only: bool) {
    // SAFETY: the payload holds the closure, and this is the one time that it is moved out.
    let f = unsafe { payload.cast::<F>().read() };
    let result = catch_unwind(AssertUnwindSafe(|| {
        if drop_only {
            drop(f);
            std::panic::resume_unwind(Box::new(Unwound));
        }
        f()
    }));
    // SAFETY: `payload_layout` made room for this type, and the closure is gone from there.
    unsafe { payload.cast::<Result<T, Panic>>().write(result) };
}

unsafe fn drop_result<T>(payload: *mut u8) {
    // SAFETY: the caller's promise: a result is there, and it is dropped once.
    let result = unsafe { payload.cast::<Result<T, Panic>>().read() };
    // A destructor that panics must not tear the scheduler that drops it.
    quietly(|| drop(result));
}

unsafe fn panicked<T>(payload: *mut u8) -> bool {
    // SAFETY: the caller's promise: a result is there.
    match unsafe { &*payload.cast::<Result<T, Panic>>() } {
        Ok(_) => false,
        Err(panic) => !panic.is::<Unwound>(),
    }
}

/// The room that a closure and its result share: no smaller than its alignment, by which its place may move down, since a
/// closure of no size may want any.
pub(crate) const fn payload_layout<F, T>() -> std::alloc::Layout {
    let (closure, result) = (std::alloc::Layout::new::<F>(), std::alloc::Layout::new::<Result<T, Panic>>());
    let size = if closure.size() > result.size() { closure.size() } else { result.size() };
    let align = if closure.align() > result.align() { closure.align() } else { result.align() };
    let size = if size > align { size } else { align };
    match std::alloc::Layout::from_size_align(size, align) {
        Ok(layout) => layout,
        Err(_) => panic!("a closure or result larger than the address space"),
    }
}
