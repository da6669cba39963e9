//! One run of one seed: [`Simulation`], and what comes out of it.
//!
//! `check` and every hunt are loops around this. A run needs nothing but its seed (or its record), and leaves nothing
//! behind but the stacks it used, for the next one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use machinarium::kernel::Kernel;

use crate::choice::{Alignment, Choices, Mismatch, Record, Stream, Subsystem};
use crate::dns::Names;
use crate::fault::{Cpu, FaultCounts, Faults, Sweep};
use crate::film::{Cast, Film};
use crate::ground::Ground;
use crate::host::Ending;
use crate::journal::{Drawn, Journal};
use crate::marks::{self, Heard, Marks};
use crate::monitor::Pulse;
use crate::net::Net;
use crate::panics::{self, Hook, Keeping, PanicNote};
use crate::process::Life;
use crate::report::{self, Failure, FailureKind};
use crate::scheduler::{Scheduler, Thread};
use crate::script::{SCRIPT, World};
use crate::strategy::{Rehearsal, Strategy};
use crate::thread::Stage;
use crate::trace::{Keep, Line};
use crate::turns::Turns;
use crate::verdict::Progress;
use crate::world::{Identity, Limits, Mode, Shared, State};

/// How a seed is to be run.
#[derive(Clone, Debug)]
pub struct Simulation {
    seed: u64,
    faults: Faults,
    cpu: Cpu,
    keep: Keep,
    recording: bool,
    journal: Option<Option<PathBuf>>,
    film: bool,
    break_at: u64,
    replay: Option<Record>,
    /// After what is replayed, as this seed wants.
    future: Option<u64>,
    limits: Limits,
    sweep: Sweep,
    strategy: Strategy,
    rehearsal: Option<Arc<Rehearsal>>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which run.
    pub seed: u64,
    /// Why it failed; `None`: it passed.
    pub failure: Option<Failure>,
    /// Of all calls, answers and times. Two runs with the same digest did the same.
    pub digest: u64,
    /// How much was done.
    pub stats: Stats,
    /// All choices, if they were recorded.
    pub record: Option<Record>,
    /// By what it decided who goes on. Of a replay: by what it would have.
    pub strategy: Strategy,
    /// How many seeds it takes, from 1 on, until nothing is left to try, as far as this run shows: for [`Strategy::Exhaustive`]. All
    /// is tried when the greatest of these numbers is reached.
    pub needed: Option<u64>,
    /// How well the record that was replayed has fitted.
    pub alignment: Alignment,
    /// Where it did not fit for the first time.
    pub mismatch: Option<Mismatch>,
    /// All choices in their order, if that was wanted.
    pub(crate) journal: Vec<Drawn>,
    /// The events that were kept.
    pub(crate) lines: Vec<Line>,
    pub(crate) film: Film,
    pub(crate) cast: Cast,
    /// What marks of the code have said.
    pub marks: Marks,
    /// The `sometimes!` that held, by number, with how many choices were made until then.
    pub(crate) firsts: Vec<(usize, u64)>,
    /// In how many ways calls could have failed, if [`fail_nth`](Simulation::fail_nth) was asked for.
    pub opportunities: u64,
    /// Panics in their order, also those that somebody caught.
    pub panics: Vec<PanicNote>,
    /// Threads that could not be reclaimed at the end: their memory is lost until the program ends.
    pub leaked: Vec<String>,
    /// The last events, who waits for what, and the sockets, if the run failed and events were kept.
    pub scene: String,
}

/// How much one or many runs have done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Virtual time that has passed.
    pub time: Duration,
    /// Choices made.
    pub choices: u64,
    /// Kernel calls served.
    pub calls: u64,
    /// Payload bytes that programs have sent.
    pub sent: u64,
    /// Events of the network and of processors.
    pub events: u64,
    /// Faults injected, by kind.
    pub faults: FaultCounts,
}

impl Stats {
    /// Adds another run's.
    pub fn add(&mut self, other: &Stats) {
        self.time += other.time;
        self.choices += other.choices;
        self.calls += other.calls;
        self.sent += other.sent;
        self.events += other.events;
        self.faults.add(&other.faults);
    }
}

impl Outcome {
    /// Whether nothing failed.
    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }

    /// The failure with everything that explains it; `reproduce` is the command that shows it again.
    pub fn report(&self, reproduce: &str) -> String {
        let Some(failure) = &self.failure else { return format!("seed {:#x} passed", self.seed) };
        let mut text = format!("{failure}\n\nreproduce: {reproduce}\ndigest: {:016x}\n", self.digest);
        text += &format!(
            "found by strategy {}, {} choices, {} calls, faults: {}\n",
            self.strategy, self.stats.choices, self.stats.calls, self.stats.faults
        );
        let of_panic = failure.panic.as_ref().and_then(|panic| panic.backtrace.as_ref());
        if let Some(backtrace) = of_panic.or(failure.backtrace.as_ref()) {
            text += &format!("\n{backtrace}");
        }
        let others = self.panics.iter().filter(|note| failure.panic.as_ref() != Some(note));
        for note in others {
            text += &format!("\nearlier, and caught: {note}\n");
        }
        text += &self.scene;
        if !self.leaked.is_empty() {
            text += &format!("\nthreads that could not be reclaimed: {}\n", self.leaked.join(", "));
        }
        text
    }
}

impl Simulation {
    /// A run of `seed` as a beginner wants it: [`Faults::default`], [`Cpu::Ideal`], no trace.
    pub fn new(seed: u64) -> Simulation {
        Simulation {
            seed,
            faults: Faults::default(),
            cpu: Cpu::Ideal,
            keep: Keep::Nothing,
            recording: false,
            journal: None,
            film: false,
            break_at: 0,
            replay: None,
            future: None,
            limits: Limits { calls: 50_000_000 },
            sweep: Sweep::default(),
            strategy: Strategy::Random,
            rehearsal: None,
        }
    }

    /// Which faults there are.
    pub fn faults(mut self, faults: Faults) -> Simulation {
        self.faults = faults;
        self
    }

    /// How processors behave.
    pub fn cpu(mut self, cpu: Cpu) -> Simulation {
        self.cpu = cpu;
        self
    }

    /// Prints every event.
    pub fn trace(mut self, on: bool) -> Simulation {
        self.keep = if on { Keep::Printed } else { Keep::Nothing };
        self
    }

    /// Keeps the last so many events, and backtraces, for the report.
    pub fn keep_events(mut self, count: usize) -> Simulation {
        self.keep = Keep::Last(count);
        self
    }

    /// Records every choice.
    pub fn record(mut self, on: bool) -> Simulation {
        self.recording = on;
        self
    }

    /// Keeps the order of all choices, and writes each to the file before it is used.
    pub(crate) fn journal(mut self, ahead: Option<PathBuf>) -> Simulation {
        self.journal = Some(ahead);
        self
    }

    /// Answers choices from a record, whose seed is also this run's.
    pub fn replay(mut self, record: Record) -> Simulation {
        self.seed = record.seed;
        self.replay = Some(record);
        self
    }

    /// Keeps what pictures are made of.
    pub(crate) fn film(mut self) -> Simulation {
        self.film = true;
        self
    }

    /// Stops before the choice of this number, the first of which is 1: for a debugger, which this process should run under. The
    /// signal is SIGTRAP.
    pub fn break_at(mut self, choice: u64) -> Simulation {
        self.break_at = choice;
        self
    }

    /// By what it decides who goes on; [`Strategy::Random`] unless told.
    pub fn strategy(mut self, strategy: Strategy) -> Simulation {
        self.strategy = strategy;
        self
    }

    /// With what a rehearsal has shown. It is a part of the run like its seed: with another one, some strategies do something else.
    pub fn rehearsed(mut self, rehearsal: Arc<Rehearsal>) -> Simulation {
        self.rehearsal = Some(rehearsal);
        self
    }

    /// Runs the script with nothing but boring answers, and tells what its threads have done, also if it fails. `script` is one that can
    /// be run again, and this is the same for all seeds.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use machinarium_sim::{Durations, Simulation, Strategy};
    ///
    /// let script = |world: &machinarium_sim::World| {
    ///     let host = world.host("sleeper").run(|| ());
    ///     world.eventually(1.secs(), || host.finished());
    /// };
    /// let rehearsal = Arc::new(Simulation::new(1).rehearse(script));
    /// for seed in 1..10 {
    ///     let run = Simulation::new(seed).strategy(Strategy::Walk).rehearsed(rehearsal.clone());
    ///     assert!(run.run(script).passed());
    /// }
    /// ```
    pub fn rehearse<R: Ending>(&self, script: impl FnOnce(&World) -> R + 'static) -> Rehearsal {
        let _keeping = Keeping::begin(self.seed, Hook::Keep);
        let shared = self.build_with(Choices::dull(), Some(Turns::plain()));
        start_script(&shared, self.seed, script);
        shared.run(SCRIPT);
        let rehearsal = shared.state.borrow().sched.turns.as_ref().map(|turns| turns.rehearsal());
        shared.tear_down();
        rehearsal.expect("it has turns")
    }

    /// Answers choices from the beginning of a record, and goes on from there as the seed `future` wants.
    pub(crate) fn future(mut self, prefix: Record, future: u64) -> Simulation {
        self.future = Some(future);
        self.replay(prefix)
    }

    /// Fails a run that makes more kernel calls than this (the default is 50 million).
    pub fn limit_calls(mut self, calls: u64) -> Simulation {
        self.limits.calls = calls;
        self
    }

    /// Lets one call fail: of all ways in which calls of the run could fail by these kinds of faults, the one with this number, from
    /// 0. See [`exhaust`](crate::exhaust()).
    pub fn fail_nth(mut self, kinds: Faults, number: u64) -> Simulation {
        self.sweep = Sweep { kinds, taken: Some(number), seen: 0 };
        self
    }

    /// Runs it.
    pub fn run<R: Ending>(&self, script: impl FnOnce(&World) -> R + 'static) -> Outcome {
        let hook = if self.keep == Keep::Nothing { Hook::Keep } else { Hook::KeepBacktrace };
        let _keeping = Keeping::begin(self.seed, hook);
        marks::install();
        let shared = self.build();
        start_script(&shared, self.seed, script);
        shared.run(SCRIPT);
        self.judge(&shared)
    }

    fn build(&self) -> Rc<Shared> {
        let strategy = self.strategy.of(self.seed);
        let has_turns = self.replay.as_ref().map_or(strategy.has_turns(), Record::has_turns);
        let mut choices = match (&self.replay, self.future) {
            (Some(record), Some(future)) => Choices::future(record.clone(), future),
            (Some(record), None) => Choices::replay(record.clone()),
            (None, _) if matches!(strategy, Strategy::Exhaustive { .. }) => Choices::dull(),
            (None, _) => Choices::new(self.seed),
        };
        choices.record(self.recording);
        choices.break_at(self.break_at);
        if let Some(ahead) = &self.journal {
            choices.journal = Journal::new(ahead.as_ref().and_then(|path| File::create(path).ok()));
        }
        // That there are turns is a choice as well, the first of a record that has them. The boring answer is that there are none.
        let stream = Stream::new(Subsystem::Turn, 0);
        if !has_turns || choices.decide(stream, "turns", 2, || 1) == 0 {
            return self.build_with(choices, None);
        }
        let turns = match self.replay {
            Some(_) if self.future.is_none() => Turns::plain(),
            _ => Turns::new(strategy, self.future.unwrap_or(self.seed), self.rehearsal.clone()),
        };
        self.build_with(choices, Some(turns))
    }

    fn build_with(&self, choices: Choices, turns: Option<Turns>) -> Rc<Shared> {
        let mut sched = Scheduler::new(choices, self.faults, self.cpu, self.keep);
        sched.turns = turns.map(Box::new);
        sched.sweep = self.sweep;
        sched.trace.film = self.film.then(Film::default);
        let faults = sched.faults;
        let mut state = State {
            sched,
            net: Net::new(),
            names: Names::default(),
            hosts: Vec::new(),
            processes: Vec::new(),
            cuts: BTreeSet::new(),
            verdict: None,
            panics: Vec::new(),
            limits: self.limits,
            halfway: Progress::default(),
            heard: Heard::default(),
        };
        state.apply(&faults);
        Rc::new(Shared {
            stage: Stage::new(),
            mode: Cell::new(Mode::Running),
            rounds: Cell::new(0),
            asking: Cell::new(None),
            current: Cell::new(None),
            strands: RefCell::default(),
            state: RefCell::new(state),
            identity: Arc::new(Identity { seed: self.seed, over: AtomicBool::new(false) }),
            pulse: Pulse::of_this_thread(self.seed),
        })
    }

    /// The verdict with everything that explains it; then the world is reclaimed.
    fn judge(&self, shared: &Rc<Shared>) -> Outcome {
        let (failed, digest, stats) = {
            let mut state = shared.state.borrow_mut();
            state.last_oracles();
            (state.verdict.is_some(), state.sched.trace.digest(), state.stats())
        };
        let wanted = failed && matches!(self.keep, Keep::Last(_));
        let lines = shared.state.borrow_mut().sched.trace.take_lines();
        let scene = if wanted { report::scene(shared, &lines) } else { String::new() };
        let leaked = shared.tear_down();
        let mut guard = shared.state.borrow_mut();
        let state = &mut *guard;
        // What panics while it is reclaimed is no failure: its world was over.
        drop(panics::take());
        Outcome {
            seed: self.seed,
            failure: state.verdict.take(),
            digest,
            stats,
            record: self.recording.then(|| state.sched.choices.take_record()),
            strategy: self.strategy.of(self.seed),
            needed: state.sched.turns.as_ref().and_then(|turns| turns.needed()),
            alignment: state.sched.choices.alignment(),
            mismatch: state.sched.choices.mismatch(),
            journal: state.sched.choices.journal.take(),
            lines,
            film: state.sched.trace.film.take().unwrap_or_default(),
            cast: state.cast(),
            marks: std::mem::take(&mut state.heard.marks),
            firsts: std::mem::take(&mut state.heard.firsts),
            opportunities: state.sched.sweep.seen,
            panics: std::mem::take(&mut state.panics),
            leaked,
            scene,
        }
    }
}

impl State {
    /// Who is who. Cheap for a run that nobody tells of.
    fn cast(&self) -> Cast {
        if !self.sched.trace.is_on() {
            return Cast::default();
        }
        let name = |thread: &Thread| format!("{}/{}", self.sched.host_name(thread.host), thread.name);
        Cast {
            hosts: self.sched.hosts.iter().map(|host| host.name.clone()).collect(),
            threads: self.sched.threads.iter().map(|thread| (thread.identity, name(thread))).collect(),
        }
    }

    fn stats(&self) -> Stats {
        Stats {
            time: Duration::from_nanos(self.sched.now),
            choices: self.sched.choices.draws(),
            calls: self.sched.calls,
            sent: self.net.books().sent,
            events: self.sched.events,
            faults: self.sched.injected,
        }
    }

    /// What must hold at the end of every run.
    fn last_oracles(&mut self) {
        self.panics.extend(panics::take());
        for process in 0..self.processes.len() {
            if self.processes[process].life == Life::Running {
                self.check_joined(crate::env::ProcessIndex(process as u32));
            }
        }
        let conserved =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.net.check_conservation()));
        if conserved.is_err() {
            let note = panics::take().pop();
            let message = note.map_or(String::new(), |note| note.message);
            self.fail(
                FailureKind::Leak,
                format!("the simulator lost bytes, which is its own bug: {message}"),
                None,
            );
        }
    }
}

fn start_script<R: Ending>(shared: &Rc<Shared>, seed: u64, script: impl FnOnce(&World) -> R + 'static) {
    let thread = shared.state.borrow_mut().sched.add_thread("script".to_owned(), None, u64::MAX);
    let world = World { ground: Ground::Simulated(shared.clone()), seed };
    let of_world = shared.clone();
    let body = move || {
        if let Err(error) = script(&world).ending() {
            let message = format!("the script returned an error: {error}");
            of_world.state.borrow_mut().fail(FailureKind::Failed, message, Some(thread));
        }
    };
    shared.add_strand(&shared.state.borrow(), thread, body);
}

/// Runs `body` as the main function of the only process of a world with one host, directly on the simulated kernel, and
/// answers what it answers.
///
/// # Panics
/// If the world fails: `body` panics, or sleeps for ever.
#[track_caller]
pub fn with_kernel<T: 'static>(
    simulation: &Simulation,
    body: impl FnOnce(Rc<dyn Kernel>) -> T + 'static,
) -> T {
    let result = Rc::new(Cell::new(None));
    let place = result.clone();
    let outcome = simulation.run(move |world| {
        let host = world.host("host");
        world.run_main(&host, move |kernel| place.set(Some(body(kernel))));
        while host.running() {
            world.sleep(Duration::from_millis(10));
        }
    });
    if let Some(failure) = outcome.failure {
        panic!("seed {:#x}: {failure}", outcome.seed);
    }
    result.take().expect("a main function that has ended has answered")
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { time, choices, calls, sent, events, faults } = self;
        let time = report::seconds(*time);
        write!(
            f,
            "{time} s of virtual time, {choices} choices, {calls} calls, {sent} bytes, {events} events, faults: {faults}"
        )
    }
}
