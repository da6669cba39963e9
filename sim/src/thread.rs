//! A simulated thread's stack, and the switch between it and its world. The one place of the simulator with unsafe code.
//!
//! The world runs on the stack of the OS thread that called it, which is large. Each simulated thread is a [`Strand`]:
//! a stack of its own, and the library's thread-local slot, which is all the state that a switch exchanges (with the
//! [guard](crate::guard!), all thread-locals are). A thread asks the
//! world for something with [`Strand::ask`]: it leaves its request and switches to the world, which serves it on the
//! world's stack, at once or later, and resumes the thread when it has the answer.
//!
//! | the strand | by | becomes |
//! |---|---|---|
//! | fresh | `resume` | running |
//! | running | `ask` (an `ask` of any coroutine of the thread) | suspended, with a request |
//! | running | its main function returns | ended; its stack goes back to the pool when the strand is dropped |
//! | suspended | `serve` answers `Done` | suspended, without a request |
//! | suspended | `resume` | running |
//! | suspended | the strand is dropped | leaked: its stack stays mapped for ever |
//!
//! **The invariants that the unsafe code rests on.** (1) A strand runs only inside `resume`, which is called on the world's
//! stack while no strand runs; [`Stage::running`] says which one does. (2) A request is there only while its strand is
//! suspended inside `ask`, so the closure it points to is alive. (3) A stack with a suspended strand on it is never
//! released nor unmapped, nor are its thread-locals: what is pinned there may be linked into what others hold.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::rc::Rc;

use machinarium::coroutine::{Context, Stack, StackOptions, Stacks, leave, overflow, prepare, switch};

use crate::guard::locals::Locals;
use crate::outside;
use crate::report::Waiting;
use crate::scheduler::ThreadIndex;
use crate::world::State;
use machinarium::machine::current::{self, Waits};

/// The world's side of the switch. One for each world.
pub(crate) struct Stage {
    /// The world's registers while a strand runs.
    root: UnsafeCell<Context>,
    /// Which strand runs: its address, and null while the world does.
    running: Cell<*const Strand>,
    pool: Rc<Stacks>,
}

/// What the world makes of a request.
pub(crate) enum Step {
    /// It is answered.
    Done,
    /// The thread was put to sleep; ask again when it is woken.
    Asleep,
}

/// What a thread asks of the world.
pub(crate) type Request<'a> = dyn FnMut(&mut State, ThreadIndex) -> Step + 'a;

/// A simulated thread's stack.
pub(crate) struct Strand {
    stage: Rc<Stage>,
    stack: ManuallyDrop<Stack>,
    /// The library's thread-local while this thread does not run.
    slot: Cell<usize>,
    /// Its other thread-locals, if it has any of its own.
    locals: ManuallyDrop<Option<Box<Locals>>>,
    /// Where it stands in a lock of std, if that is wanted: no coroutine waits there, but all of the thread.
    pub(crate) stands: RefCell<Option<Box<Backtrace>>>,
    main: Cell<Option<Box<dyn FnOnce()>>>,
    request: Cell<Option<NonNull<Request<'static>>>>,
    /// The request is to be served at once, whatever it costs (its thread is panicking).
    urgent: Cell<bool>,
    life: Cell<Life>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Fresh,
    Started,
    Ended,
}

/// Bytes of stack of a simulated thread. Coroutines of the library have their own.
const STACK: usize = 1 << 20;

impl Stage {
    /// # Panics
    /// If no stacks can be had.
    pub(crate) fn new() -> Rc<Stage> {
        Rc::new(Stage {
            root: UnsafeCell::new(Context::default()),
            running: Cell::new(std::ptr::null()),
            pool: pool(),
        })
    }

    /// Whether a strand runs, and not the world.
    pub(crate) fn is_busy(&self) -> bool {
        !self.running.get().is_null()
    }
}

fn pool() -> Rc<Stacks> {
    let fresh = || {
        overflow::install();
        let options = StackOptions { size: STACK, ..StackOptions::default() };
        let stacks = Stacks::new(options).unwrap_or_else(|error| panic!("no stacks for threads: {error}"));
        (Rc::new(stacks), overflow::AltStack::new())
    };
    outside::with(|outside| outside.stacks.get_or_init(fresh).0.clone())
}

impl Strand {
    /// A thread that will run `main`, which must not panic.
    ///
    /// # Panics
    /// If there is no memory for another stack.
    pub(crate) fn new(stage: &Rc<Stage>, name: &str, main: Box<dyn FnOnce()>) -> Rc<Strand> {
        let stack =
            stage.pool.allocate().unwrap_or_else(|error| panic!("a stack for thread {name}: {error}"));
        let header = stack.header();
        let top = stack.top();
        let strand = Rc::new(Strand {
            stage: stage.clone(),
            stack: ManuallyDrop::new(stack),
            slot: Cell::new(0),
            locals: ManuallyDrop::new(Locals::fresh()),
            stands: RefCell::new(None),
            main: Cell::new(Some(main)),
            request: Cell::new(None),
            urgent: Cell::new(false),
            life: Cell::new(Life::Fresh),
        });
        // SAFETY: the header of a stack just allocated is ours alone, and nothing runs on it yet. The strand stays where
        // its `Rc` put it for as long as its stack can run (invariant 3).
        unsafe {
            (*header).set_name(name);
            // For debuggers: somebody is on it.
            (*header).id = 1;
            prepare(&raw mut (*header).context, top, entry, Rc::as_ptr(&strand).cast::<u8>().cast_mut());
        }
        strand
    }

    /// Runs the thread until it asks for something or ends. Called by the world. Inlined, as `ask` is: each return that follows a switch
    /// is one that the processor has not foreseen.
    #[inline(always)]
    pub(crate) fn resume(&self) {
        assert!(!self.stage.is_busy(), "one simulated thread runs at a time");
        assert!(self.life.get() != Life::Ended && self.request.get().is_none(), "a thread that cannot go on");
        self.life.set(Life::Started);
        self.stage.running.set(self);
        match &*self.locals {
            None => self.run(),
            Some(locals) => self.run_with(locals),
        }
        self.stage.running.set(std::ptr::null());
    }

    /// Not inlined: nobody's idea of where thread-locals are may be moved to between `enter` and `leave`.
    #[inline(never)]
    fn run_with(&self, locals: &Locals) {
        locals.enter();
        self.run();
        locals.leave();
    }

    #[inline(always)]
    fn run(&self) {
        // SAFETY: the slot's value is 0 or came from `swap` below, when this same thread was left. Invariant 1: we are on
        // the world's stack and the strand is suspended (or fresh), so its context is what `prepare` or `switch` saved.
        unsafe {
            let world = current::swap(self.slot.get());
            switch(self.stage.root.get(), &raw const (*self.stack.header()).context);
            self.slot.set(current::swap(world));
        }
    }

    /// Asks the world to serve `request`, and returns when the world resumes the thread, served or not. Called on the
    /// thread itself. `urgent`: no other thread may run before this one goes on.
    #[inline(always)]
    pub(crate) fn ask(&self, urgent: bool, request: &mut Request<'_>) {
        assert!(std::ptr::eq(self.stage.running.get(), self), "only the thread that runs can ask");
        let request: NonNull<Request<'_>> = NonNull::from(request);
        // SAFETY: only the lifetime is changed. Invariant 2: the request is taken out before this function returns.
        let request =
            unsafe { std::mem::transmute::<NonNull<Request<'_>>, NonNull<Request<'static>>>(request) };
        self.request.set(Some(request));
        self.urgent.set(urgent);
        self.leave();
        self.request.set(None);
    }

    /// Serves the request, on the world's stack. `None` if there is none.
    pub(crate) fn serve(&self, state: &mut State, thread: ThreadIndex) -> Option<Step> {
        assert!(!self.stage.is_busy(), "requests are served by the world");
        let mut request = self.request.get()?;
        state.sched.unwinding = self.urgent.get();
        // SAFETY: invariant 2: the strand is suspended inside `ask`, whose caller holds the closure; nothing else can
        // reach it, since the thread does not run.
        let step = unsafe { request.as_mut() }(state, thread);
        if matches!(step, Step::Done) {
            self.request.set(None);
        }
        Some(step)
    }

    /// Takes the request away: `ask` returns without an answer when the thread is resumed.
    pub(crate) fn withdraw(&self) {
        self.request.set(None);
    }

    /// Whether its request may not wait.
    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent.get()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.life.get() == Life::Ended
    }

    /// Whether it was never resumed.
    pub(crate) fn is_fresh(&self) -> bool {
        self.life.get() == Life::Fresh
    }

    /// What the library's coroutines on this thread are doing.
    pub(crate) fn describe(&self) -> Vec<Waiting> {
        assert!(!self.stage.is_busy(), "only a suspended thread can be described");
        // SAFETY: the slot came from `swap` when this thread was left; what it points to is on the thread's stack or held
        // by a frame there, and stacks of suspended threads stay (invariant 3). An ended thread's slot is what it was at
        // the thread's start, 0.
        let coroutines = unsafe { current::describe(self.slot.get()) };
        let waiting = coroutines.into_iter().map(|info| Waiting {
            id: info.id,
            name: info.name,
            state: info.state,
            waits_for: info.waits_for,
            deadline: info.deadline,
            backtrace: info.backtrace,
        });
        waiting.collect()
    }

    /// Tells of each coroutine of this thread that waits.
    pub(crate) fn for_each_wait(&self, tell: &mut dyn FnMut(Waits<'_>)) {
        assert!(!self.stage.is_busy(), "only a suspended thread can be looked at");
        // SAFETY: as in `describe`; the world's closures run nothing of a machine.
        unsafe { current::for_each_wait(self.slot.get(), tell) };
    }

    /// What tells this thread's machine from others, while it is suspended.
    pub(crate) fn machine(&self) -> usize {
        self.slot.get()
    }

    /// What other machines have sent to this thread's and it has not received.
    pub(crate) fn undelivered(&self) -> Option<String> {
        assert!(!self.stage.is_busy(), "only a suspended thread can be looked at");
        // SAFETY: as in `describe`.
        unsafe { current::undelivered(self.slot.get()) }
    }

    /// Switches to the world, from the strand or any coroutine on it.
    #[inline(always)]
    fn leave(&self) {
        // SAFETY: invariant 1: the world is suspended in `resume`, whose context is in `root`. Ours is saved in the
        // header, from where the next `resume` continues, on whichever stack of this thread we are. If this thread is
        // unwinding, the world serves it and resumes it before any other (`Shared::turn`), and catches nothing meanwhile.
        unsafe { switch(&raw mut (*self.stack.header()).context, self.stage.root.get()) };
    }
}

/// Stops for a debugger, like a breakpoint here: without one, the signal SIGTRAP ends the process.
pub(crate) fn breakpoint() {
    // SAFETY: the instruction changes no register and no memory.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("int3", options(nomem, nostack, preserves_flags));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("brk #0", options(nomem, nostack, preserves_flags));
    }
}

impl Drop for Strand {
    fn drop(&mut self) {
        if self.life.get() == Life::Started {
            // Invariant 3: a pool of which a stack was not released leaves everything mapped.
            return;
        }
        // SAFETY: both are taken once, here. Nothing runs or is suspended on the stack: its strand is fresh or has ended.
        unsafe {
            (*self.stack.header()).id = 0;
            self.stage.pool.release(ManuallyDrop::take(&mut self.stack));
            drop(ManuallyDrop::take(&mut self.locals));
        }
    }
}

/// Where a strand starts. Panics must not come this far: unwinding out of an `extern "C"` function aborts.
unsafe extern "C" fn entry(argument: *mut u8) -> ! {
    // SAFETY: `Strand::new` passed the strand's address, and the world holds the `Rc` while the thread runs.
    let strand = unsafe { &*argument.cast::<Strand>() };
    let main = strand.main.take().expect("a thread starts once");
    main();
    strand.life.set(Life::Ended);
    // SAFETY: invariant 1: the world is suspended in `resume`. Nothing is left on this stack: `main` was consumed.
    unsafe {
        (*strand.stack.header()).id = 0;
        leave(strand.stage.root.get())
    }
}
