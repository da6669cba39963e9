//! One world: what all simulated kernels, threads and hosts of one run hang on, and the loop that turns them.
//!
//! [`Shared`] is what kernel objects, handles and the loop hold together; [`State`] is everything that a call may look at
//! or change, and is borrowed for one call at a time. No simulated thread holds that borrow while it runs.
//!
//! | mode | calls | next |
//! |---|---|---|
//! | Running | are served | Teardown, when the script has returned or there is a verdict |
//! | Teardown | answer `ECANCELED`; joins wait | Over, when all threads have ended or refused to |
//! | Over | answer `ECANCELED` | |
//!
//! A kernel object answers only on its own thread: one that was parked in a thread-local of the user and is used by
//! another thread gets `ECANCELED` too, and never a switch.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use machinarium::kernel::{Call, ThreadEnd};

use crate::dns::Names;
use crate::env::HostIndex;
use crate::fault::{Fault, Faults, Injector};
use crate::host::HostState;
use crate::link::{LinkOptions, Ratio};
use crate::marks::Heard;
use crate::monitor::Pulse;
use crate::net::Net;
use crate::oracle::Watch;
use crate::outside;
use crate::panics::{self, PanicNote};
use crate::process::ProcessState;
use crate::report::{Failure, FailureKind};
use crate::scheduler::{Event, Phase, Scheduler, Sleep, ThreadIndex, WaitsFor};
use crate::thread::{Stage, Step, Strand};
use crate::verdict::Progress;

/// What a call is told when it is served.
pub(crate) enum Served<R> {
    /// Its answer.
    Done(R),
    /// To sleep, and to ask again when woken.
    Wait(Sleep),
    /// None: the thread is no more.
    Never,
}

/// See the head of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Running,
    Teardown,
    Over,
}

/// What the loop and everybody in the world hold together.
pub(crate) struct Shared {
    pub(crate) stage: Rc<Stage>,
    pub(crate) mode: Cell<Mode>,
    /// How often all threads were asked to end, after the world's end.
    pub(crate) rounds: Cell<u32>,
    /// Which call the thread that runs makes; `None`: one that cannot fail.
    pub(crate) asking: Cell<Option<Call>>,
    /// Whose thread runs.
    pub(crate) current: Cell<Option<ThreadIndex>>,
    pub(crate) strands: RefCell<Vec<Rc<Strand>>>,
    pub(crate) state: RefCell<State>,
    /// What objects that cross threads compare: lives as long as any of them, so no other world has its address.
    pub(crate) identity: Arc<Identity>,
    pub(crate) pulse: Arc<Pulse>,
}

/// Which world something belongs to.
#[derive(Debug)]
pub(crate) struct Identity {
    /// For messages only.
    pub(crate) seed: u64,
    /// The world has ended, so nothing of it is owned any more. Read by any OS thread.
    pub(crate) over: AtomicBool,
}

/// Everything that calls look at and change.
pub(crate) struct State {
    pub(crate) sched: Scheduler,
    pub(crate) net: Net,
    pub(crate) names: Names,
    pub(crate) hosts: Vec<HostState>,
    pub(crate) processes: Vec<ProcessState>,
    pub(crate) cuts: BTreeSet<(HostIndex, HostIndex)>,
    pub(crate) verdict: Option<Failure>,
    /// Panics in the order in which they happened, whoever caught them.
    pub(crate) panics: Vec<PanicNote>,
    pub(crate) limits: Limits,
    /// What had been done when half of the calls were made that it may make.
    pub(crate) halfway: Progress,
    pub(crate) heard: Heard,
}

/// When a world that goes on and on is stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    pub(crate) calls: u64,
}

/// The world that runs on this OS thread: what [`Wake`](machinarium::kernel::Wake) objects ask.
pub(crate) fn current() -> Option<Rc<Shared>> {
    outside::try_with(|outside| outside.world.borrow().upgrade()).flatten()
}

/// Another world runs from now on; the one that did until now is the answer.
fn enter(world: Weak<Shared>) -> Weak<Shared> {
    outside::with(|outside| outside.world.replace(world))
}

impl Shared {
    /// Turns the world until there is a verdict or the script has ended.
    pub(crate) fn run(self: &Rc<Shared>, script: ThreadIndex) {
        let outer = enter(Rc::downgrade(self));
        let mut watch = Watch::default();
        loop {
            if watch.is_time(&self.state.borrow()) {
                self.look_at_sleepers();
            }
            let (thread, from) = {
                let mut state = self.state.borrow_mut();
                (state.next_thread(), state.sched.now)
            };
            match thread {
                Some(thread) => self.turn(thread),
                None => self.stuck(),
            }
            let mut state = self.state.borrow_mut();
            let to = state.sched.now;
            thread.iter().for_each(|thread| state.sched.trace.turn(thread.0, from, to));
            if state.verdict.is_some() || state.sched.thread(script).phase == Phase::Ended {
                break;
            }
        }
        enter(outer);
    }

    /// Reclaims what the world's end finds, and answers the names of threads that refuse to go.
    pub(crate) fn tear_down(self: &Rc<Shared>) -> Vec<String> {
        let outer = enter(Rc::downgrade(self));
        self.mode.set(Mode::Teardown);
        let threads = self.strands.borrow().len();
        // Children first; one that joins another, or waits for its letter, waits for it: so there may be many rounds.
        while (0..threads).rev().filter(|&index| self.reclaim(ThreadIndex(index as u32))).count() > 0 {
            self.rounds.set(self.rounds.get() + 1);
        }
        self.mode.set(Mode::Over);
        // Whoever sees this may also see that the world does nothing any more.
        self.identity.over.store(true, Ordering::Release);
        enter(outer);
        let strands = std::mem::take(&mut *self.strands.borrow_mut());
        let state = self.state.borrow();
        let refused = |strand: &Rc<Strand>| !strand.has_ended() && !strand.is_fresh();
        let named = strands.iter().zip(&state.sched.threads).filter(|(strand, _)| refused(strand));
        named.map(|(_, thread)| format!("{}/{}", state.sched.host_name(thread.host), thread.name)).collect()
    }

    /// Lets a thread run to its end with calls that fail. Whether it got there just now.
    fn reclaim(&self, thread: ThreadIndex) -> bool {
        let strand = self.strands.borrow()[thread.0 as usize].clone();
        if strand.has_ended() || strand.is_fresh() {
            return false;
        }
        // A thread leaves in this mode only to join another one, which may have ended, or because it has used up its calls.
        while !strand.has_ended() {
            let mut state = self.state.borrow_mut();
            state.sched.stay_awake(thread);
            if matches!(strand.serve(&mut state, thread), Some(Step::Asleep)) {
                return false;
            }
            drop(state);
            self.resume(thread, &strand);
        }
        true
    }

    /// Gives the processor to a thread until it sleeps, ends, or others come first.
    fn turn(&self, thread: ThreadIndex) {
        let strand = self.strands.borrow()[thread.0 as usize].clone();
        let mut goes_on = self.serve(&strand, thread);
        while goes_on {
            self.resume(thread, &strand);
            if strand.has_ended() {
                return;
            }
            goes_on = if strand.is_urgent() {
                self.serve_now(&strand, thread);
                true
            } else {
                self.charge(thread) && self.serve(&strand, thread)
            };
        }
    }

    /// Serves what the thread asks for, if it asks. Whether it goes on now.
    fn serve(&self, strand: &Strand, thread: ThreadIndex) -> bool {
        let mut state = self.state.borrow_mut();
        match strand.serve(&mut state, thread) {
            Some(Step::Done) => !state.sched.preempted(thread),
            Some(Step::Asleep) => false,
            None => true,
        }
    }

    /// Serves a thread that must go on before any other: a sleep is not had.
    fn serve_now(&self, strand: &Strand, thread: ThreadIndex) {
        let mut state = self.state.borrow_mut();
        state.sched.thread(thread).inside = false;
        if matches!(strand.serve(&mut state, thread), Some(Step::Asleep)) {
            strand.withdraw();
            state.sched.stay_awake(thread);
        }
    }

    /// Takes the time that a call costs. Whether the thread goes on at once.
    fn charge(&self, thread: ThreadIndex) -> bool {
        self.pulse.beat();
        let mut state = self.state.borrow_mut();
        let goes_on = state.sched.charge(thread, self.asking.get());
        if state.sched.calls == state.limits.calls / 2 {
            state.halfway = state.progress();
        }
        if state.sched.calls > state.limits.calls {
            state.endless();
            return false;
        }
        goes_on
    }

    /// Host and name of the thread that runs, for the panic hook: it may be called at any moment.
    pub(crate) fn running_thread(&self) -> Option<String> {
        let thread = self.current.get().filter(|_| self.stage.is_busy())?;
        Some(self.state.try_borrow().ok()?.full_name(thread))
    }

    #[inline(always)] // as `Strand::resume`
    fn resume(&self, thread: ThreadIndex, strand: &Strand) {
        let outer = self.current.replace(Some(thread));
        self.pulse.enter(thread.0);
        strand.resume();
        self.pulse.leave();
        self.current.set(outer);
    }

    /// Serves a call of `thread`, which is the one that runs; `None`: it is not, or the world ends.
    pub(crate) fn ask<R>(
        &self,
        thread: ThreadIndex,
        kind: Asking,
        mut serve: impl FnMut(&mut State, ThreadIndex) -> Served<R>,
    ) -> Option<R> {
        if self.current.get() != Some(thread) || !self.stage.is_busy() {
            return None;
        }
        match self.mode.get() {
            Mode::Running => {}
            Mode::Teardown if kind == Asking::Join && !std::thread::panicking() => {}
            Mode::Teardown => {
                self.count_refusal(thread);
                return None;
            }
            Mode::Over => return None,
        }
        let mut answer = None;
        let mut request = |state: &mut State, thread: ThreadIndex| {
            if self.mode.get() != Mode::Running && kind != Asking::Join {
                return Step::Done;
            }
            if kind == Asking::Call && state.is_last_call(thread) {
                return Step::Asleep;
            }
            match serve(state, thread) {
                Served::Done(value) => {
                    answer = Some(value);
                    Step::Done
                }
                Served::Wait(sleep) => {
                    state.sched.sleep(thread, sleep);
                    Step::Asleep
                }
                Served::Never => Step::Asleep,
            }
        };
        let strand = self.strands.borrow()[thread.0 as usize].clone();
        strand.ask(std::thread::panicking(), &mut request);
        answer
    }

    /// A call made while the world ends. A thread that makes them without end is left until another has ended, which may have
    /// owed it something, and for good if none does.
    fn count_refusal(&self, thread: ThreadIndex) {
        self.pulse.beat();
        let mut state = self.state.borrow_mut();
        state.sched.now += TEARDOWN_STEP;
        let record = state.sched.thread(thread);
        record.refusals += 1;
        if record.refusals > REFUSALS && !std::thread::panicking() {
            record.refusals = 0;
            drop(state);
            let strand = self.strands.borrow()[thread.0 as usize].clone();
            let round = self.rounds.get();
            strand.ask(false, &mut |_, _| if self.rounds.get() == round { Step::Asleep } else { Step::Done });
        }
    }

    /// The process of `thread`, which runs, aborts. Returns only where leaving the thread would take others along: while it
    /// panics, which std counts for the OS thread.
    pub(crate) fn abort(&self, thread: ThreadIndex, why: &str) {
        let panicking = std::thread::panicking();
        if self.current.get() != Some(thread) || !self.stage.is_busy() || panicking {
            return;
        }
        let strand = self.strands.borrow()[thread.0 as usize].clone();
        loop {
            strand.ask(false, &mut |state, thread| {
                if self.mode.get() == Mode::Running {
                    state.abort(thread, why);
                }
                Step::Asleep
            });
        }
    }

    /// Looks at the state without giving anybody else a chance: clocks, getters. Whether the thread may.
    pub(crate) fn glance<R>(&self, thread: ThreadIndex, look: impl FnOnce(&mut State) -> R) -> R {
        self.pulse.beat();
        let mut state = self.state.borrow_mut();
        if self.mode.get() == Mode::Teardown && self.current.get() == Some(thread) {
            state.sched.now += TEARDOWN_STEP;
        }
        look(&mut state)
    }

    fn stuck(&self) {
        self.look_at_sleepers();
        let mut state = self.state.borrow_mut();
        self.standstill(&mut state);
    }

    /// The end of a thread's main function, on that thread.
    pub(crate) fn thread_returned(&self, thread: ThreadIndex, end: ThreadEnd) {
        if self.mode.get() != Mode::Running {
            let mut state = self.state.borrow_mut();
            state.sched.thread(thread).phase = Phase::Ended;
            state.sched.thread(thread).end = Some(end);
            return;
        }
        self.state.borrow_mut().end_thread(thread, end);
    }
}

/// Which calls wait although the world ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asking {
    Call,
    Join,
}

/// What a call made during teardown lets pass, so that patience there has an end.
const TEARDOWN_STEP: u64 = 1_000_000;
/// How many calls a thread may make in a round of the teardown.
const REFUSALS: u32 = 20_000;

/// When nobody sleeps until some time, and the network alone has done something for so long, nothing will come of it: longer than
/// all of TCP's own timeouts, a day.
const SILENCE: u64 = 86_400_000_000_000;

impl State {
    /// Lets time pass until a thread gets the processor. `None`: that will never be.
    fn next_thread(&mut self) -> Option<ThreadIndex> {
        let since = self.sched.now;
        loop {
            match self.sched.next()? {
                Event::Run(thread) => {
                    if self.sched.admit(thread) {
                        return Some(thread);
                    }
                }
                Event::Timer(thread) => self.sched.timer(thread),
                // A window that is shut is asked after for ever.
                Event::Net(_) if self.sched.now - since > SILENCE && self.all_sleep_for_ever() => {
                    return None;
                }
                Event::Net(event) => self.net.deliver(&mut self.sched, event),
                Event::Signal(process, signal) => self.signal_arrives(process, signal),
            }
        }
    }

    /// Whether every thread that has not ended waits for something else than time.
    fn all_sleep_for_ever(&self) -> bool {
        self.sched.threads.iter().all(|thread| match thread.phase {
            Phase::Ended | Phase::Dead => true,
            Phase::Asleep => thread.sleep.is_some_and(|sleep| sleep.until == u64::MAX),
            Phase::Ready | Phase::Running => false,
        })
    }

    /// The verdict, if there is none yet: the first failure is the cause.
    pub(crate) fn fail(&mut self, kind: FailureKind, message: String, thread: Option<ThreadIndex>) {
        if self.verdict.is_some() {
            return;
        }
        let record = thread.map(|thread| &self.sched.threads[thread.0 as usize]);
        self.verdict = Some(Failure {
            kind,
            message,
            host: record.map_or(String::new(), |record| self.sched.host_name(record.host).to_owned()),
            thread: record.map_or(String::new(), |record| record.name.clone()),
            at: Duration::from_nanos(self.sched.now),
            panic: None,
            backtrace: None,
        });
    }

    /// A thread has returned or panicked.
    fn end_thread(&mut self, thread: ThreadIndex, end: ThreadEnd) {
        self.panics.extend(panics::take());
        let panicked = end.is_err();
        let may_fail =
            self.sched.thread(thread).host.is_some_and(|host| self.hosts[host.0 as usize].may_fail);
        let record = self.sched.thread(thread);
        record.phase = Phase::Ended;
        record.end = Some(end);
        let process = record.process;
        if self.sched.trace.is_on() {
            let (host, name) = (self.sched.thread(thread).host, self.sched.thread(thread).name.clone());
            self.sched
                .line(host, format_args!("thread {name} {}", if panicked { "panicked" } else { "ended" }));
        }
        self.sched.trace.fold(u64::from(thread.0) << 8 | u64::from(panicked));
        let is_main = process.is_none_or(|process| self.processes[process.0 as usize].main == thread);
        if is_main && panicked && !may_fail {
            self.fail_by_panic(thread);
        }
        if let Some(process) = process
            && is_main
        {
            let clean = self.processes[process.0 as usize].ends_cleanly(panicked);
            self.exit(process, clean);
        }
        self.wake_joiners(thread);
    }

    /// A thread will not run again: whoever waits for that looks again.
    pub(crate) fn wake_joiners(&mut self, thread: ThreadIndex) {
        let joins = |on| matches!(on, WaitsFor::Join(other) if other == thread);
        while let Some(joiner) = self.sched.sleeper(joins) {
            self.sched.wake_thread(joiner);
        }
    }

    /// The verdict by the panic that ended `thread`.
    fn fail_by_panic(&mut self, thread: ThreadIndex) {
        let note = self.last_panic(thread).cloned();
        let message =
            note.as_ref().map_or("a panic without a message".to_owned(), |note| note.message.clone());
        self.fail(FailureKind::Panic, message, Some(thread));
        if let Some(verdict) = &mut self.verdict
            && verdict.panic.is_none()
        {
            verdict.panic = note;
        }
    }

    /// A coroutine of this thread has panicked, and nobody will join it.
    pub(crate) fn coroutine_panicked(&mut self, thread: ThreadIndex, coroutine: &str) {
        self.panics.extend(panics::take());
        let may_fail =
            self.sched.thread(thread).host.is_some_and(|host| self.hosts[host.0 as usize].may_fail);
        if may_fail || self.verdict.is_some() {
            return;
        }
        let name = self.full_name(thread);
        // Of another thread, if it is this one where nobody has joined it.
        let its = |note: &&PanicNote| note.coroutine == coroutine;
        let here = |note: &&PanicNote| its(note) && note.thread == name;
        let notes = || self.panics.iter().rev();
        let note = notes().find(here).or_else(|| notes().find(its)).cloned();
        let said = note.as_ref().map_or("", |note| &note.message);
        self.fail(
            FailureKind::Panic,
            format!("coroutine {coroutine} panicked and nobody joins it: {said}"),
            Some(thread),
        );
        self.verdict.iter_mut().for_each(|verdict| verdict.panic = note.clone());
    }

    /// What the thread's last panic said; one that was caught and thrown again was said by another thread.
    pub(crate) fn last_panic(&self, thread: ThreadIndex) -> Option<&PanicNote> {
        let name = self.full_name(thread);
        self.panics.iter().rev().find(|note| note.thread == name).or(self.panics.last())
    }

    /// Host and thread.
    pub(crate) fn full_name(&self, thread: ThreadIndex) -> String {
        let record = &self.sched.threads[thread.0 as usize];
        format!("{}/{}", self.sched.host_name(record.host), record.name)
    }

    /// Lets `faults` have an effect on calls and links from now on.
    pub(crate) fn apply(&mut self, faults: &Faults) {
        for process in 0..self.processes.len() {
            self.sched.injectors[process] = Injector::new(faults, self.processes[process].identity);
        }
        let ratio = |kind| match u32::try_from(faults.once_in(kind)) {
            Ok(0) | Err(_) => Ratio::NEVER,
            Ok(once_in) => Ratio::new(1, once_in),
        };
        let (loss, split) = (ratio(Fault::Loss), ratio(Fault::ShortRead));
        let vary = |options: LinkOptions, most: Duration| LinkOptions {
            latency_max: if faults.has(Fault::Latency) { most } else { options.latency_min },
            split,
            ..options
        };
        let link = LinkOptions::default();
        self.net.set_default_link(LinkOptions {
            loss,
            duplicate: ratio(Fault::Duplicate),
            reorder: ratio(Fault::Reorder),
            late: ratio(Fault::Late),
            reset: ratio(Fault::Reset),
            bandwidth: Some(faults.once_in(Fault::Bandwidth) * BANDWIDTH).filter(|bandwidth| *bandwidth > 0),
            ..vary(link, link.latency_max)
        });
        // Loopback keeps all that it takes, in its order.
        let loopback = vary(LinkOptions::LOOPBACK, Duration::from_micros(20));
        self.net.set_link(HostIndex(0), HostIndex(0), loopback);
    }
}

/// Bytes a second of a link that is slow once in one.
const BANDWIDTH: u64 = 20_000;
