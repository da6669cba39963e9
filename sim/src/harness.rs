//! Many seeds of one script: [`check`] for tests, [`Hunt`] for programs.
//!
//! A failing seed is run again with events and choices kept, its record is shrunk, and the seed is tried in a fresh
//! process, since a failure that needs what earlier seeds left behind is a different bug. Then the test fails with one
//! report.
//!
//! | variable | means |
//! |---|---|
//! | `MACHINARIUM_SEED=0x1f3a` | this seed alone |
//! | `MACHINARIUM_SEEDS=1000` | so many seeds, from 1 (the default is 64) |
//! | `MACHINARIUM_BUDGET=30s` | as many seeds as fit into this real time (`s`, `m` or `h`) |
//! | `MACHINARIUM_STRATEGY=pct3` | by what runs decide who goes on ([`Strategy`]) |
//! | `MACHINARIUM_REPLAY=file` | the choices in this file |
//! | `MACHINARIUM_BACKEND=real` | the script once on real Linux, over loopback, as far as that can do what it wants (`real`); `simulated` is the default |
//!
//! `MACHINARIUM_BREAK_AT=1204` stops the run of one of the first and the last before that choice, for a debugger.
//!
//! Without one of these, first comes what earlier runs have left: a seed that ended its process (`ahead`), and the records in
//! `tests/regressions` (`regression`).

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::ahead::{self, Ahead};
use crate::choice::Record;
use crate::confirm::{self, Fresh, confirm};
use crate::explain::{Case, Explanation};
use crate::fault::{Cpu, Faults};
use crate::guard;
use crate::host::Ending;
use crate::journal;
use crate::marks::Marks;
use crate::picture;
use crate::real;
use crate::regression::{self, Fit, Shelf};
use crate::script::World;
use crate::shrink::{self, Shrunk};
use crate::simulation::{Outcome, Simulation, Stats};
use crate::strategy::{Rehearsal, Strategy};

const SEED: &str = "MACHINARIUM_SEED";
/// How many seeds a test runs unless told.
const SEEDS: u64 = 64;
/// How many if every order is to be tried, at most.
const EXHAUSTED: u64 = 10_000;
/// How many events a report shows.
const EVENTS: usize = 40;

#[allow(clippy::disallowed_types)] // budgets are of real time
type Stopwatch = std::time::Instant;

/// Runs `script` with many seeds and stops at the first failure.
///
/// `MACHINARIUM_SEED=0x1f3a` runs one seed, `MACHINARIUM_SEEDS=1000` more of them, `MACHINARIUM_BUDGET=30s` as many as fit into a time.
/// `MACHINARIUM_STRATEGY=pct3` says by what runs decide who goes on ([`Strategy`]), and `MACHINARIUM_REPLAY=file` repeats a
/// record. With `MACHINARIUM_BACKEND=real` the script is run once on real Linux: hosts are threads with addresses of the
/// loopback and directories of their own, names are those of the hosts, and time is real. Faults and links are what Linux makes them; at what only a simulation can do, as
/// [`World::partition`] or [`Host::crash`](crate::Host::crash), the script ends, and a note says so.
///
/// ```
/// use machinarium_sim::Durations;
///
/// machinarium_sim::check(|world| {
///     let host = world.host("sleeper").run(|| ());
///     world.eventually(1.secs(), || host.finished());
/// });
/// ```
///
/// # Panics
/// With a report, if a seed fails.
pub fn check<R: Ending + 'static>(script: impl Fn(&World) -> R + 'static) {
    // The test harness runs a test on a thread of its name.
    let name = std::thread::current().name().filter(|name| *name != "main").map(str::to_owned);
    Check { name, ..Check::default() }.run(script);
}

/// [`check`] for a test whose thread has another name than the test.
///
/// # Panics
/// As [`check`].
pub fn check_named<R: Ending + 'static>(name: &str, script: impl Fn(&World) -> R + 'static) {
    Check { name: Some(name.to_owned()), ..Check::default() }.run(script);
}

/// A check with faults and processors other than a beginner's.
#[derive(Clone, Debug, Default)]
pub struct Check {
    name: Option<String>,
    faults: Faults,
    cpu: Cpu,
    seeds: Option<u64>,
    strategy: Option<Strategy>,
    rehearsal: OnceLock<Arc<Rehearsal>>,
    must_reach: bool,
    regressions: Option<PathBuf>,
    aligned: u8,
}

impl Check {
    /// A check of the test whose thread this is.
    pub fn new() -> Check {
        Check {
            name: std::thread::current().name().filter(|name| *name != "main").map(str::to_owned),
            ..Check::default()
        }
    }

    /// Which faults there are.
    pub fn faults(self, faults: Faults) -> Check {
        Check { faults, ..self }
    }

    /// How processors behave.
    pub fn cpu(self, cpu: Cpu) -> Check {
        Check { cpu, ..self }
    }

    /// How many seeds, unless the environment says otherwise.
    pub fn seeds(self, seeds: u64) -> Check {
        Check { seeds: Some(seeds), ..self }
    }

    /// Where records of failures are kept, and run before the seeds. Unless told, that is `tests/regressions` of the package, if
    /// there is such a directory.
    pub fn regressions(self, directory: impl Into<PathBuf>) -> Check {
        Check { regressions: Some(directory.into()), ..self }
    }

    /// A regression of which fewer than so many choices in a hundred fit fails the test, although its run passes: it is of other
    /// code, and proves nothing. The default is 0, never.
    pub fn aligned(self, percent: u8) -> Check {
        Check { aligned: percent.min(100), ..self }
    }

    /// By what runs decide who goes on, unless the environment says otherwise; [`Strategy::Portfolio`] if nobody says. With [`Strategy::Exhaustive`] there are as many
    /// seeds as it takes, but for a limit of [`seeds`](Check::seeds) or 10,000.
    pub fn strategy(self, strategy: Strategy) -> Check {
        Check { strategy: Some(strategy), ..self }
    }

    /// The check also fails if there are marks that no run has reached ([`Marks::never`]), which it otherwise only tells.
    ///
    /// ```should_panic
    /// machinarium_sim::Check::new().must_reach().run(|world| {
    ///     machinarium::sometimes!(world.random(2) == 2, "two of two");
    /// });
    /// ```
    pub fn must_reach(self) -> Check {
        Check { must_reach: true, ..self }
    }

    /// Runs the seeds.
    ///
    /// # Panics
    /// As [`check`].
    pub fn run<R: Ending + 'static>(&self, script: impl Fn(&World) -> R + 'static) {
        let strategy = match env::var("MACHINARIUM_STRATEGY") {
            Ok(text) => text.parse().unwrap_or_else(|error| panic!("MACHINARIUM_STRATEGY: {error}")),
            Err(_) => self.strategy.unwrap_or(Strategy::Portfolio),
        };
        if is_real() {
            let seed = *self.plan().0.start();
            return real::run(self.name(), seed, &|world| script(world).ending());
        }
        // Another script has another rehearsal.
        let check = Check { strategy: Some(strategy), rehearsal: OnceLock::new(), ..self.clone() };
        check.run_all(&(Rc::new(move |world: &World| script(world).ending()) as Script));
    }

    fn run_all(&self, script: &Script) {
        if let Ok(path) = env::var("MACHINARIUM_REPLAY") {
            return self.replay(&path, script);
        }
        if let Some(journal) = confirm::asked() {
            return self.answer(journal, script);
        }
        let alone = env::var_os(SEED).is_some();
        if !alone {
            self.left_behind();
            self.kept(script);
        }
        let ahead = Ahead::new(self.name());
        let (seeds, end) = self.plan();
        let last = *seeds.end();
        let mut needed = 0;
        let mut marks = Marks::default();
        for seed in seeds {
            ahead.begin(seed);
            let simulation = self.simulation(seed, script);
            let simulation = if alone { simulation.break_at(break_at()) } else { simulation };
            let outcome = run(&simulation, script);
            if outcome.failure.is_some() {
                self.fail(&outcome, script);
            }
            self.explore(&outcome, &mut marks, script);
            needed = needed.max(outcome.needed.unwrap_or(0));
            if needed > 0 && (seed >= needed || seed == last) {
                println!("{seed} seeds of {needed} that strategy {} needs", self.strategy_of(seed));
                break;
            }
            if end.is_some_and(|end| Stopwatch::now() >= end) {
                break;
            }
        }
        if env::var_os("MACHINARIUM_SEED").is_none() {
            self.tell_of(&marks);
        }
    }

    /// What no run has reached, of the marks of the code.
    fn tell_of(&self, marks: &Marks) {
        if marks.never().is_empty() {
            return;
        }
        let text = format!("no run of {} has reached all of:\n{marks}", self.name());
        assert!(!self.must_reach, "{text}");
        let _ = writeln!(std::io::stderr(), "machinarium-sim: {text}");
    }

    /// In a process that was started to try one seed.
    fn answer(&self, journal: PathBuf, script: &Script) {
        let seed = *self.plan().0.start();
        let outcome = run(&self.simulation(seed, script).journal(Some(journal)), script);
        confirm::answer(outcome.digest);
        assert!(outcome.passed(), "the seed fails here too");
    }

    /// Seeds that ended their processes. They may do it again, so each has one of its own.
    fn left_behind(&self) {
        let Some(name) = &self.name else { return };
        for (path, seed) in ahead::left_behind(name) {
            let fresh = Fresh::run(name, seed)
                .unwrap_or_else(|error| panic!("no process for seed {seed:#x}: {error}"));
            let Some(killed) = fresh.killed() else {
                // It was killed by somebody else, or is repaired. If it fails in another way, its turn will come.
                let _ = std::fs::remove_file(path);
                continue;
            };
            let saved = journal::to_record(seed, &fresh.journal).save(name);
            panic!(
                "seed {seed:#x} has ended an earlier process of this test, and does it again: {killed}\n\nreproduce: \
                 {}\nthe choices until then: {saved}\nforget it: rm {}",
                self.command(seed),
                path.display()
            );
        }
    }

    /// Runs that failed once.
    fn kept(&self, script: &Script) {
        let Some(shelf) = self.shelf() else { return };
        for (path, record) in shelf.records() {
            let fit = self.again(&path, record, script);
            if fit.mismatch.is_some() {
                // Not by `eprintln`, which the test harness swallows where a test passes.
                let _ = writeln!(std::io::stderr(), "machinarium-sim: {}: {fit}", path.display());
            }
        }
    }

    fn shelf(&self) -> Option<Shelf> {
        let name = self.name.as_ref()?;
        self.regressions.as_ref().map_or_else(|| Shelf::of(name), |path| Some(Shelf::below(path, name)))
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("<test>")
    }

    fn command(&self, seed: u64) -> String {
        let strategy = env::var("MACHINARIUM_STRATEGY").map(|text| format!("MACHINARIUM_STRATEGY={text} "));
        let strategy = strategy.unwrap_or_default();
        format!("{strategy}MACHINARIUM_SEED={seed:#x} cargo test {}", self.name())
    }

    /// With all that a report tells.
    pub(crate) fn detailed(&self, simulation: Simulation) -> Simulation {
        simulation.keep_events(EVENTS).record(true).journal(None)
    }

    pub(crate) fn strategy_of(&self, seed: u64) -> Strategy {
        self.strategy.unwrap_or(Strategy::Portfolio).of(seed)
    }

    pub(crate) fn simulation(&self, seed: u64, script: &Script) -> Simulation {
        let strategy = self.strategy_of(seed);
        let simulation = Simulation::new(seed).faults(self.faults).cpu(self.cpu).strategy(strategy);
        if !strategy.wants_rehearsal() {
            return simulation;
        }
        let script = script.clone();
        let rehearse = || Arc::new(simulation.rehearse(move |world| script(world)));
        let rehearsal = self.rehearsal.get_or_init(rehearse).clone();
        simulation.rehearsed(rehearsal)
    }

    /// Which seeds, and until when.
    fn plan(&self) -> (std::ops::RangeInclusive<u64>, Option<Stopwatch>) {
        let number = |name: &str| {
            env::var(name).ok().map(|text| parse_seed(&text).unwrap_or_else(|| bad(name, &text)))
        };
        if let Some(seed) = number(SEED) {
            return (seed..=seed, None);
        }
        if let Ok(text) = env::var("MACHINARIUM_BUDGET") {
            let budget = parse_duration(&text).unwrap_or_else(|| bad("MACHINARIUM_BUDGET", &text));
            return (1..=u64::MAX, Some(Stopwatch::now() + budget));
        }
        let usual =
            if matches!(self.strategy, Some(Strategy::Exhaustive { .. })) { EXHAUSTED } else { SEEDS };
        (1..=number("MACHINARIUM_SEEDS").or(self.seeds).unwrap_or(usual), None)
    }

    /// Explains a failure, and panics with it.
    fn fail(&self, first: &Outcome, script: &Script) -> ! {
        let seed = first.seed;
        let told = run(&self.detailed(self.simulation(seed, script)), script);
        let command = self.command(seed);
        if told.digest != first.digest || told.failure.is_none() {
            panic!(
                "seed {seed:#x} failed, and did something else when it ran again in this process: something outside of \
                 the world (a static, a thread-local, the real clock, HashMap's order) decides{}\n{}",
                guard::advice(),
                first.report(&command)
            );
        }
        let shrunk = self.shrink(&told, script);
        let confirmed = self.name.as_deref().map_or_else(
            || "not tried in a fresh process: the test's name is not known (use check_named)".to_owned(),
            |name| confirm(name, seed, told.digest, &told.journal),
        );
        panic!("seed {seed:#x} failed: {}\n{confirmed}\n{shrunk}", told.report(&command));
    }

    pub(crate) fn shrink(&self, told: &Outcome, script: &Script) -> String {
        let (Some(record), Some(failure)) = (&told.record, &told.failure) else { return String::new() };
        let replay = |record: &Record| {
            let outcome =
                run(&self.simulation(told.seed, script).replay(record.clone()).record(true), script);
            let like = outcome.failure.is_some_and(|other| other.is_like(failure));
            like.then_some(outcome.record).flatten()
        };
        let Some(shrunk) = shrink::shrink(record, PATIENCE, replay) else { return String::new() };
        let run = |simulation: &Simulation| run(simulation, script);
        let case = Case { simulation: self.simulation(told.seed, script), run: &run, failure };
        let explanation = case.explain(&shrunk.record, PATIENCE);
        format!("{}\n{}\n{}", self.describe(&shrunk), explanation.text(), self.pictures(&explanation))
    }

    fn pictures(&self, explanation: &Explanation) -> String {
        let name = format!("{}-{:x}", ahead::slug(self.name()), explanation.run.seed);
        match picture::write(&ahead::directory(), &name, explanation) {
            Ok(paths) => {
                let lines = paths.iter().map(|path| format!("  {}\n", path.display()));
                format!(
                    "pictures, for a browser, ui.perfetto.dev and Wireshark:\n{}",
                    lines.collect::<String>()
                )
            }
            Err(error) => format!("the pictures cannot be written: {error}\n"),
        }
    }

    fn describe(&self, shrunk: &Shrunk) -> String {
        let kept = self.shelf().map(|shelf| shelf.keep(&shrunk.record));
        let kept = match kept {
            Some(Ok(path)) => format!("{} runs first from now on: commit it", path.display()),
            Some(Err(error)) => format!("they cannot be kept as a regression: {error}"),
            None => shrunk.record.save(self.name()),
        };
        format!("{shrunk}\n{kept}\n")
    }

    fn replay(&self, path: &str, script: &Script) {
        let path = Path::new(path);
        println!("{}", self.again(path, regression::load(path), script));
    }

    /// Repeats a record, and says how well it fits.
    ///
    /// # Panics
    /// If the run fails.
    fn again(&self, path: &Path, record: Record, script: &Script) -> Fit {
        let simulation = self.simulation(record.seed, script).break_at(break_at());
        let outcome = run(&simulation.replay(record).keep_events(EVENTS), script);
        let fit = Fit { alignment: outcome.alignment, mismatch: outcome.mismatch };
        let command = format!("MACHINARIUM_REPLAY={} cargo test {}", path.display(), self.name());
        assert!(outcome.passed(), "{}: {fit}\n{}", path.display(), outcome.report(&command));
        assert!(
            fit.percent() >= u64::from(self.aligned),
            "{}: {fit}, and {} in a hundred must: the code has changed too much, so find the failure again with \
             {} or remove the file",
            path.display(),
            self.aligned,
            self.command(outcome.seed)
        );
        fit
    }
}

pub(crate) type Script = Rc<dyn Fn(&World) -> Result<(), String>>;

/// For how long a record is shrunk.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn run(simulation: &Simulation, script: &Script) -> Outcome {
    let script = script.clone();
    simulation.run(move |world| script(world))
}

/// Whether scripts are to be run on real Linux.
pub(crate) fn is_real() -> bool {
    match env::var("MACHINARIUM_BACKEND").as_deref() {
        Err(_) | Ok("simulated") => false,
        Ok("real") => true,
        Ok(other) => panic!("MACHINARIUM_BACKEND={other} makes no sense: real or simulated is wanted"),
    }
}

/// The choice before which a debugger is wanted; 0: none.
pub(crate) fn break_at() -> u64 {
    let text = env::var("MACHINARIUM_BREAK_AT").ok();
    let choice = text.map(|text| parse_seed(&text).unwrap_or_else(|| bad("MACHINARIUM_BREAK_AT", &text)));
    choice.unwrap_or(0)
}

fn bad(name: &str, text: &str) -> ! {
    panic!("{name}={text} makes no sense: a number, also 0x..., or a time as 30s is wanted")
}

/// A seed as people write it: decimal, or hexadecimal after `0x`.
pub fn parse_seed(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let count: u64 = text[..text.len() - unit.len()].parse().ok()?;
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    count.checked_mul(seconds).map(Duration::from_secs)
}

/// Seeds run by a program, on several OS threads: each world is on one of them.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The first seed.
    pub first: u64,
    /// How far the next one is from each: 1 for all of them.
    pub step: u64,
    /// How many seeds.
    pub seeds: u64,
    /// On how many OS threads.
    pub jobs: usize,
    /// No seed begins after so much real time.
    pub budget: Option<Duration>,
}

impl Default for Hunt {
    /// The first thousand seeds, one after the other, for as long as they take.
    fn default() -> Hunt {
        Hunt { first: 1, step: 1, seeds: 1000, jobs: 1, budget: None }
    }
}

/// What a hunt has found until now.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Seeds that are done.
    pub seeds: u64,
    /// What they did together.
    pub stats: Stats,
    /// What marks of the code have said.
    pub marks: Marks,
    /// The failure of the lowest seed.
    pub failure: Option<Outcome>,
}

impl Hunt {
    /// Runs `one` for each seed until one fails; all seeds below that one are finished then. `progress` is told now and then.
    pub fn run(&self, one: impl Fn(u64) -> Outcome + Sync, progress: impl Fn(&Found) + Sync) -> Found {
        use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
        #[allow(clippy::disallowed_types)] // of real threads, outside of all worlds
        let found = std::sync::Mutex::new(Found::default());
        let name = ahead::program();
        let until = self.budget.map(|budget| Stopwatch::now() + budget);
        let next = AtomicU64::new(0);
        // Places in the line of seeds from here on need not be run. Relaxed: a seed too many does no harm.
        let end = AtomicU64::new(self.seeds);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    let ahead = Ahead::new(&name);
                    loop {
                        let place = next.fetch_add(1, Relaxed);
                        if place >= end.load(Relaxed) || until.is_some_and(|until| Stopwatch::now() >= until)
                        {
                            return;
                        }
                        let seed = self.first.wrapping_add(place.wrapping_mul(self.step));
                        ahead.begin(seed);
                        let outcome = one(seed);
                        if outcome.failure.is_some() {
                            end.fetch_min(place, Relaxed);
                        }
                        let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        found.add(outcome);
                        progress(&found);
                    }
                });
            }
        });
        found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Found {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.stats.add(&outcome.stats);
        self.marks.add(&outcome.marks);
        let lowest = self.failure.as_ref().is_none_or(|other| outcome.seed < other.seed);
        if outcome.failure.is_some() && lowest {
            self.failure = Some(outcome);
        }
    }

    /// How a program of this result exits.
    pub fn exit_code(&self) -> ExitCode {
        if self.failure.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_times_as_people_write_them() {
        assert_eq!(parse_seed("0x1f3a"), Some(0x1f3a));
        assert_eq!(parse_seed("17"), Some(17));
        assert_eq!(parse_seed("seventeen"), None);
        assert_eq!(parse_duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(parse_duration("2 weeks"), None);
    }
}
