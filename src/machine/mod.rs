//! One thread's runtime: coroutines, deadlines, readiness and letters, and the loop that turns among them.
//!
//! The loop runs on the thread's own stack, the *root*; it never runs user code except destructors of what is left at
//! the end. Coroutines switch among each other without it (see `scheduler`), and come back to it when none is ready or
//! it is time to poll. A machine is one thread: all of its state is plain cells. What other threads may touch is
//! `wakeup::Shared`.
//!
//! Every pinned handle (a stream, a `JoinHandle`) holds its machine's `Rc` and compares its address with this thread's
//! machine before it does anything: so a handle carried elsewhere gets an error, and one that outlives its machine
//! keeps the memory its control block is in, and is harmless.

mod alarms;
mod big_stack;
pub(crate) mod block;
pub(crate) mod builder;
mod calls;
mod cancellation;
pub mod context;
pub(crate) mod coroutine_local;
#[allow(unsafe_code)] // the thread-local slot
pub mod current;
mod debugger;
mod delivery;
#[allow(unsafe_code)] // results live on coroutines' stacks
pub(crate) mod handle;
pub(crate) mod local;
pub(crate) mod observe;
mod poller;
mod process;
mod process_local;
mod remote;
#[allow(unsafe_code)] // what other threads may carry, and not touch
mod resident;
#[allow(unsafe_code)] // the switch
mod scheduler;
#[allow(unsafe_code)] // pointers to who waits, in lines that he leaves before he goes
pub(crate) mod seat;
mod start;
pub(crate) mod statistics;
#[allow(unsafe_code)] // control blocks on stacks
mod task;
mod teardown;
mod timers;
mod timing;
mod trim;
pub(crate) mod wait;
mod wait_list;
pub(crate) mod wakeup;
mod watch;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

pub use cancellation::{Cancellation, cancellation};
pub use coroutine_local::{AccessError, CoroutineLocal};
pub use delivery::RemoteJoining;
pub use local::{MachineLocal, at_exit};
pub use observe::CoroutineInfo;
pub use process_local::ProcessLocal;
pub use remote::{Handle, Remote, RemoteJoin, current_remote as current, spawn};
pub use resident::Resident;
pub use statistics::{Histogram, MessageStatistics, Statistics};

pub(crate) use alarms::Alarm;
pub(crate) use big_stack::on_lent_stack;
pub use big_stack::{SpawnOptions, StackClass, on_big_stack, spawn_with, try_on_big_stack};
pub(crate) use builder::{Builder, Tuning};
pub(crate) use delivery::receive;
pub(crate) use handle::{SpawnError, try_spawn};
pub(crate) use wait::{begin_call, shield, yield_now};

pub(crate) use poller::{Key, Source};
pub(crate) use process::Process;
pub(crate) use scheduler::{Outcome, Waiter, throw_unwind};
pub(crate) use task::{Family, Holder, Reason, ScopeDeadline, State, TaskRef, is_unwinding, quietly};
pub(crate) use wait_list::WaitList;

use crate::coroutine::{Stacks, overflow};
use crate::error::Misuse;
use crate::kernel::{self, Clock, Instant, Kernel};
use alarms::Alarms;
use poller::Poller;
use scheduler::Scheduler;
use timers::Timers;
use wakeup::Shared;

/// The number of a machine's main coroutine, which is its first.
const MAIN: u64 = 1;

/// One thread's runtime. See the head of the file.
pub struct Machine {
    pub(crate) kernel: Rc<dyn Kernel>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) tuning: Tuning,
    pub(crate) poller: Poller,
    scheduler: Scheduler,
    timers: RefCell<Timers>,
    pub(crate) alarms: Alarms,
    stacks: Stacks,
    /// Where coroutines go that need more than their own.
    big_stacks: Rc<Stacks>,
    /// After the stacks, which name it.
    _label: Box<debugger::Label>,
    /// How many coroutines have not ended.
    alive: Cell<usize>,
    /// By the index of the stack slot: who uses it, or used it last.
    slots: RefCell<Vec<TaskRef>>,
    /// A coroutine that has ended and could not release the stack it stood on.
    zombie: Cell<Option<TaskRef>>,
    main: Cell<Option<TaskRef>>,
    ids: Cell<u64>,
    /// Who ends the process if this machine's end takes too long.
    watch: Cell<Option<watch::Watch>>,
    /// When unused stacks are next to be swept; `FAR` if nothing is known of it.
    sweep: Cell<Instant>,
    trim: trim::Trim,
    locals: local::Locals,
    /// Everything is being unwound, and what begins now does not run.
    unwinding: Cell<bool>,
    /// Whoever started this thread and wants to know.
    starter: Option<Rc<dyn current::Starter>>,
    /// The kernel has said that it answers nothing any more.
    reclaimed: Cell<bool>,
    spinning: bool,
    counts: statistics::Counts,
    timing: Option<Box<timing::Timing>>,
    /// Bytes in the buffers of its streams.
    pub(crate) buffered: Rc<Cell<usize>>,
    /// Who has left something to be done at the end of this turn. They know the machine, so it does not keep them.
    late: RefCell<Vec<Weak<dyn Late>>>,
}

/// Whoever puts off what many operations of a turn can share.
pub(crate) trait Late {
    /// On the root stack; must not block.
    fn turn_ends(&self, machine: &Machine);
}

/// A coroutine that waits.
#[derive(Clone, Copy, Debug)]
pub struct Waits<'a> {
    /// Its number in its machine.
    pub id: u64,
    /// Its name, or empty.
    pub name: &'a str,
    /// What it waits for, in a word: "read fd", "join coroutine", "lock".
    pub what: &'static str,
    /// Which of those, if they have numbers; else -1.
    pub number: i64,
    /// The descriptor that it waits for, and the events of which any would end the wait.
    pub readiness: Option<(kernel::Fd, kernel::Events)>,
    /// Which of the coroutine's waits it is.
    pub wait: u64,
    /// When it ends by itself, by the machine's clock; `FAR` if never.
    pub deadline: Instant,
    /// Who has what it waits for: the address of the machine, and the number of the coroutine there.
    pub holder: Option<(usize, u64)>,
}

impl Machine {
    fn new(
        kernel: Rc<dyn Kernel>,
        shared: Arc<Shared>,
        tuning: Tuning,
        starter: Option<Rc<dyn current::Starter>>,
    ) -> io::Result<Rc<Machine>> {
        bind(&*kernel, &tuning.affinity)?;
        let spares = starter.as_ref().and_then(|starter| starter.spares());
        let label = debugger::Label::of(&shared);
        let stacks = Stacks::with_spares(tuning.stack_options(label.address()), spares.clone())?;
        let big_stacks = Rc::new(Stacks::with_spares(tuning.big_stack_options(), spares)?);
        let poller = Poller::new(&*kernel, tuning.events)?;
        if let Err(errno) = shared.register(&*kernel, poller.epoll) {
            let _ = kernel.close(poller.epoll);
            return Err(errno.into());
        }
        shared.messages.open(tuning.message_limits());
        let scheduler = Scheduler::new(tuning.budget, tuning.shuffle, shared.cells.clone());
        let timing = tuning.timing.then(Box::default);
        let spinning = !tuning.spin.is_zero() && kernel.sched_getaffinity().len() > 1;
        overflow::install();
        Ok(Rc::new(Machine {
            kernel,
            shared,
            tuning,
            poller,
            scheduler,
            timers: RefCell::default(),
            alarms: Alarms::default(),
            stacks,
            big_stacks,
            _label: label,
            alive: Cell::new(0),
            slots: RefCell::default(),
            zombie: Cell::new(None),
            main: Cell::new(None),
            ids: Cell::new(MAIN),
            watch: Cell::new(None),
            sweep: Cell::new(Instant::FAR),
            trim: trim::Trim::default(),
            locals: local::Locals::default(),
            unwinding: Cell::new(false),
            starter,
            reclaimed: Cell::new(false),
            spinning,
            counts: statistics::Counts::default(),
            timing,
            buffered: Rc::default(),
            late: RefCell::default(),
        }))
    }

    /// Turns until `done` says so, or until `latest`.
    fn turn_until(&self, latest: Instant, done: impl Fn(&Machine) -> bool) {
        while !done(self) && (latest == Instant::FAR || self.now() < latest) {
            self.turn(latest, &done);
        }
    }

    /// One turn of the loop; sleeps at most until `latest`.
    fn turn(&self, latest: Instant, done: impl Fn(&Machine) -> bool) {
        self.run_ready();
        self.counts.turned();
        self.bury();
        self.end_turn();
        self.open_letters();
        self.fire_timers();
        // However the turn ends: who spins, or finds a letter before it sleeps, is not held.
        self.show();
        if !self.scheduler.is_idle() {
            self.poll_between();
            return;
        }
        // What just ran may have been all that is waited for, and then no event would end the sleep.
        if done(self) {
            return;
        }
        let wake = self.next_moment().min(latest).min(self.sweep_stacks()).min(self.trim_waiters());
        if self.spinning && self.spin() {
            return;
        }
        if self.shared.sleep() {
            let timeout = (wake != Instant::FAR).then(|| wake - self.now());
            self.shared.shown.set_one(statistics::ASLEEP, 1);
            self.poller.poll(self, timeout);
            self.shared.shown.set_one(statistics::ASLEEP, 0);
            self.shared.awake();
        }
    }

    /// Calls [`Late::turn_ends`] before the machine looks at its descriptors again, of what is still there then.
    pub(crate) fn at_end_of_turn(&self, late: Weak<dyn Late>) {
        self.late.borrow_mut().push(late);
    }

    fn end_turn(&self) {
        if self.late.borrow().is_empty() {
            return;
        }
        let mut late = self.late.take();
        late.drain(..).filter_map(|late| late.upgrade()).for_each(|late| late.turn_ends(self));
        // The memory, for the next turn.
        self.late.replace(late);
    }

    /// Gives back what lies deep in unused stacks, so often and no oftener; says when that is next to be done.
    fn sweep_stacks(&self) -> Instant {
        if self.stacks.unswept() + self.big_stacks.unswept() == 0 {
            return Instant::FAR;
        }
        let (due, now) = (self.sweep.get(), self.now());
        if due == Instant::FAR {
            // Something was used since the last time. It has until then to be used again.
            self.sweep.set(now + self.tuning.stack_sweep);
        } else if due <= now {
            self.stacks.sweep();
            self.big_stacks.sweep();
            self.sweep.set(Instant::FAR);
        }
        self.sweep.get()
    }

    /// Looks for events without sleeping, if there is anything that could have some.
    fn poll_between(&self) {
        if self.poller.len() > 0 {
            self.poller.poll(self, Some(Duration::ZERO));
        }
    }

    /// Looks for work for a while instead of sleeping at once: on another core, someone may be about to send some.
    fn spin(&self) -> bool {
        let end = self.now() + self.tuning.spin;
        loop {
            self.poller.poll(self, Some(Duration::ZERO));
            if !self.scheduler.is_idle() || self.shared.has_letters() {
                return true;
            }
            let now = self.now();
            if now >= end || now >= self.next_moment() {
                return false;
            }
            self.kernel.sched_yield();
        }
    }

    /// When something is due next that only time brings.
    fn next_moment(&self) -> Instant {
        self.timers.borrow().next().min(self.alarms.next())
    }

    /// Ends every wait whose deadline has come, and has every future polled whose moment has.
    fn fire_timers(&self) {
        if self.next_moment() == Instant::FAR {
            return;
        }
        let now = self.now();
        self.alarms.ring(now);
        loop {
            let Some(task) = self.timers.borrow_mut().pop_due(now) else { return };
            let deadline = task.deadline.get();
            if task.state.get() != State::Parked || deadline == Instant::FAR {
                continue;
            }
            if deadline <= now {
                self.counts.late(deadline, now, &self.shared.times);
                // Lost to another machine's claim: its letter is on the way, and the deadline is over.
                self.scheduler.wake(Waiter { task, ticket: task.ticket.get() }, Outcome::TimedOut);
            } else {
                self.timers.borrow_mut().arm(task, deadline);
            }
        }
    }

    /// The monotonic clock, read now.
    pub(crate) fn now(&self) -> Instant {
        self.kernel.clock_gettime(Clock::Monotonic)
    }

    /// The next of the numbers that name coroutines and deadline scopes of this machine.
    pub(crate) fn next_id(&self) -> u64 {
        let id = self.ids.get();
        self.ids.set(id + 1);
        id
    }

    /// What the whole process shares.
    pub(crate) fn process(&self) -> &Process {
        &self.shared.process
    }

    /// Whether a coroutine's control block is of this machine.
    pub(crate) fn owns(&self, task: TaskRef) -> Result<(), Misuse> {
        let slots = self.slots.borrow();
        let ours = slots.get(task.header.index as usize).is_some_and(|slot| *slot == task);
        if ours { Ok(()) } else { Err(Misuse::OtherMachine) }
    }

    /// Closes a descriptor of this machine from elsewhere: another machine of this OS thread, or after the end.
    pub(crate) fn close_elsewhere(&self, fd: kernel::Fd, key: Key, found: Option<kernel::Fd>) {
        let letter = wakeup::Letter::Run(Box::new(move |machine: &Machine| {
            machine.poller.remove(&*machine.kernel, fd, key);
            let _ = machine.kernel.close(fd);
            let _ = found.map(|fd| machine.kernel.close(fd));
        }));
        if self.shared.post(letter).is_err() {
            // The machine has ended, and its epoll instance with it.
            let _ = self.kernel.close(fd);
            let _ = found.map(|fd| self.kernel.close(fd));
        }
    }

    /// Cancels the main coroutine: its return ends the machine.
    fn stop(&self, cause: crate::error::Cause) {
        if let Some(main) = self.main.get() {
            self.cancel(main, cause);
        }
    }

    /// Every coroutine that has not ended, by slot.
    pub(crate) fn live(&self) -> Vec<TaskRef> {
        let slots = self.slots.borrow();
        slots
            .iter()
            .copied()
            .filter(|task| matches!(task.state.get(), State::Ready | State::Parked))
            .collect()
    }

    /// What another machine has sent, or must send, and this one has not received.
    fn undelivered(&self) -> Option<String> {
        if self.shared.has_letters() {
            return Some("a letter is in its mailbox".to_owned());
        }
        let claimed = |task: &&TaskRef| {
            let cell = self.shared.cells.get(task.header.index);
            task.state.get() == State::Parked && task.remote.get() && cell.is_claimed(task.ticket.get())
        };
        let slots = self.slots.try_borrow().ok()?;
        let header = &slots.iter().find(claimed)?.header;
        Some(format!("the wait of coroutine {} '{}' was ended by another machine", header.id, header.name()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Teardown has emptied it; the last handle that outlived it goes now.
        debug_assert!(self.alive.get() == 0, "a machine ends without coroutines");
    }
}

/// Makes this thread a machine, runs `main` as its first coroutine, and returns what that returns.
///
/// When `main` has returned or panicked, every other coroutine of the machine is cancelled, and what still runs then
/// is unwound, before `run` returns (see [`Builder::drain`] for waiting first). A panic of `main` goes on in the caller.
///
/// # Errors
/// What `main` returns, or the system's error if the machine's descriptors or stacks cannot be had, or
/// [`Misuse::Nested`] inside a machine.
///
/// ```
/// let sum = machinarium::run(|| {
///     let parts: Vec<_> = (1..=3).map(|n| machinarium::spawn(move || n * n)).collect();
///     let squares = parts.into_iter().map(|part| part.join().unwrap());
///     std::io::Result::Ok(squares.sum::<i32>())
/// });
/// assert_eq!(sum.unwrap(), 14);
/// ```
pub fn run<T, E: From<io::Error>>(main: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    Builder::new().run(main)
}

/// `run` with a tuning; the outermost of its process.
fn run_outermost(tuning: Tuning, name: &str, main: Main<'_>) -> io::Result<()> {
    if current::machine().is_some() {
        return Err(Misuse::Nested.into());
    }
    let kernel = current::kernel();
    let process = Arc::new(Process::default());
    let shared = Shared::new(&*kernel, process, name).map_err(as_io)?;
    let before = (!tuning.affinity.is_empty()).then(|| kernel.sched_getaffinity());
    let result = run_machine(kernel.clone(), shared, tuning, main);
    if let Some(before) = before {
        // The thread is its caller's. It ran there before, so it can again.
        let _ = kernel.sched_setaffinity(&before);
    }
    result
}

/// Has this thread run on these processors only; none means all that it may.
fn bind(kernel: &dyn Kernel, processors: &[usize]) -> io::Result<()> {
    if processors.is_empty() {
        return Ok(());
    }
    kernel.sched_setaffinity(&processors.iter().copied().collect()).map_err(|errno| {
        let (error, may) = (io::Error::from(errno), kernel.sched_getaffinity());
        let text = format!("a machine cannot run on processors {processors:?}: {error}; it may on {may:?}");
        io::Error::new(error.kind(), text)
    })
}

/// The main function of a machine, called once, without its types: so the life of a machine is compiled once, and not again for
/// each function that a program has run.
type Main<'a> = &'a mut dyn FnMut();

/// Has `life` call a main function, and passes on what that returned.
fn with_main<T>(main: impl FnOnce() -> T, life: impl FnOnce(Main<'_>) -> io::Result<()>) -> io::Result<T> {
    let (mut main, mut result) = (Some(main), None);
    life(&mut || result = main.take().map(|main| main()))?;
    Ok(result.expect("a life without an error has called its main function"))
}

/// The life of one machine on this thread.
fn run_machine(
    kernel: Rc<dyn Kernel>,
    shared: Arc<Shared>,
    tuning: Tuning,
    main: Main<'_>,
) -> io::Result<()> {
    let mut tuning = tuning;
    let starter = current::retune(&mut tuning);
    // Of several on one OS thread, one that ends would take it from the others.
    let shares = starter.as_ref().is_some_and(|starter| starter.spares().is_some());
    let _alternate = (!shares).then(overflow::AltStack::new);
    // A machine that cannot start sends back the letters that were posted to it, as one that has ended does.
    let machine = Machine::new(kernel, shared.clone(), tuning, starter).inspect_err(|_| {
        shared.close();
        if shared.process.machine_ends() {
            shared.process.end_locals();
        }
    })?;
    let result = current::enter(&machine, || {
        let life = std::panic::AssertUnwindSafe(|| {
            let result = machine.run_main(main);
            machine.tear_down();
            result
        });
        // Coroutines may borrow from the caller's frames, and lend what they borrow to other threads: while one of them is
        // not unwound, this stack must not be.
        std::panic::catch_unwind(life).unwrap_or_else(|_| machine.abort("a panic on the machine's own stack"))
    });
    match result? {
        Ok(()) => Ok(()),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn as_io(errno: kernel::Errno) -> io::Error {
    errno.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PutsOff(Rc<Cell<u32>>);

    impl Late for PutsOff {
        fn turn_ends(&self, _machine: &Machine) {
            self.0.set(self.0.get() + 1);
        }
    }

    /// Sockets hold their machine: one that kept those that put something off would be a cycle until its turn ends.
    #[test]
    fn a_machine_keeps_nobody_who_puts_something_off() {
        let ended = Rc::new(Cell::new(0));
        let [stays, goes] = [(); 2].map(|()| Rc::new(PutsOff(ended.clone())));
        let result: io::Result<()> = run(|| {
            let machine = current::machine().expect("it runs here");
            let [first, second] = [&stays, &goes].map(Rc::downgrade);
            machine.at_end_of_turn(first);
            machine.at_end_of_turn(second);
            drop(goes);
            assert_eq!(Rc::strong_count(&ended), 2);
            crate::sleep(Duration::from_millis(1)).map_err(io::Error::from)
        });
        result.unwrap();
        assert_eq!(ended.get(), 1, "of the one that is still there");
    }
}
