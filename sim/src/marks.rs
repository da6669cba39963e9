//! Marks of the code under test: which were reached, how often, and what was never.
//!
//! `always!`, `sometimes!`, `reachable!` and `buggify!` of `machinarium` are heard here, for the world that runs on the OS thread; in no
//! world nobody hears them. What a mark says is no part of the run but for two things: an `always!` that does not hold is the verdict, and
//! whether a `buggify!` goes wrong is drawn.
//!
//! | a run of a process | draws | boring |
//! |---|---|---|
//! | comes to a `buggify!` for the first time | whether this one is on at all, once in four | it is not |
//! | comes to one that is on | whether it goes wrong, once in four | it does not |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use machinarium::mark::{self, Mark, MarkKind, Watcher};

use crate::choice::{Stream, Subsystem};
use crate::report::FailureKind;
use crate::scheduler::ThreadIndex;
use crate::world::{self, Mode, Shared, State};

/// What the marks of a program have said, in one run or many.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// By number in the program's table; empty if nothing was reached.
    tallies: Vec<Tally>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Tally {
    /// How often code came there.
    visits: u64,
    /// How often what it is about held, or a `buggify!` went wrong.
    held: u64,
}

/// What one world has heard.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) marks: Marks,
    /// The numbers of `sometimes!` that held, each with how many choices were made until it first did.
    pub(crate) firsts: Vec<(usize, u64)>,
    /// Which `buggify!` of which process is on.
    on: BTreeMap<(u64, usize), bool>,
}

struct Hearing;

/// Hears of marks from now on.
pub(crate) fn install() {
    mark::watch(&Hearing);
}

impl Watcher for Hearing {
    fn reached(&self, mark: &'static Mark, holds: bool, told: fmt::Arguments<'_>) {
        hear(|state, thread| state.reach(thread, mark, holds, told));
    }

    fn goes_wrong(&self, mark: &'static Mark) -> bool {
        !std::thread::panicking() && hear(|state, thread| state.goes_wrong(thread, mark)).unwrap_or(false)
    }
}

/// Tells the world whose thread has come to a mark, if there is one.
fn hear<R>(tell: impl FnOnce(&mut State, ThreadIndex) -> R) -> Option<R> {
    let shared = world::current()?;
    let Shared { mode, state, current, .. } = &*shared;
    let thread = current.get().filter(|_| mode.get() == Mode::Running)?;
    let mut state = state.try_borrow_mut().ok()?;
    Some(tell(&mut state, thread))
}

impl State {
    fn reach(&mut self, thread: ThreadIndex, mark: &'static Mark, holds: bool, told: fmt::Arguments<'_>) {
        // One that no table has is not counted.
        if let Some(number) = mark::number(mark) {
            let first = self.heard.marks.count(number, holds) && holds;
            if first && mark.kind == MarkKind::Sometimes {
                self.heard.firsts.push((number, self.sched.choices.draws()));
            }
        }
        if mark.kind == MarkKind::Always && !holds {
            let message = format!("always, at {}:{}: {told}", mark.file, mark.line);
            self.fail(FailureKind::Broken, message, Some(thread));
            // Whatever catches panics, this thread comes no further than its next call.
            self.limits.calls = self.sched.calls;
        }
    }

    fn goes_wrong(&mut self, thread: ThreadIndex, mark: &'static Mark) -> bool {
        let Some(process) = self.sched.thread(thread).process else { return false };
        let Some(number) = mark::number(mark).filter(|_| !self.sched.calm) else { return false };
        let process = self.processes[process.0 as usize].identity;
        let stream = Stream::new(Subsystem::Mark, process << 24 | place(mark));
        let choices = &mut self.sched.choices;
        let on = self.heard.on.entry((process, number));
        let on = *on.or_insert_with(|| choices.chance(stream, "buggify here", 1, 4));
        let wrong = on && choices.chance(stream, "buggify", 1, 4);
        self.heard.marks.count(number, wrong);
        wrong
    }
}

/// The stable identity of a mark, of 24 bits: its file, and the how manieth of its file it is.
fn place(mark: &Mark) -> u64 {
    let before = mark::all().iter().filter(|other| other.file == mark.file && other.line < mark.line);
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let file = mark.file.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    hash(file, before.count() as u8) >> 20 & 0xff_ffff
}

impl Marks {
    /// Whether this is the first time that it held, or the first visit if it does not hold.
    fn count(&mut self, number: usize, holds: bool) -> bool {
        if self.tallies.is_empty() {
            self.tallies = vec![Tally::default(); mark::all().len()];
        }
        let tally = &mut self.tallies[number];
        tally.visits += 1;
        tally.held += u64::from(holds);
        if holds { tally.held == 1 } else { tally.visits == 1 }
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Marks) {
        if self.tallies.is_empty() {
            self.tallies.clone_from(&other.tallies);
            return;
        }
        for (tally, more) in self.tallies.iter_mut().zip(&other.tallies) {
            tally.visits += more.visits;
            tally.held += more.held;
        }
    }

    /// Whether the mark of this number ever held.
    pub(crate) fn held(&self, number: usize) -> bool {
        self.tallies.get(number).is_some_and(|tally| tally.held > 0)
    }

    /// Every mark of the files from which any was reached, by file and line.
    fn told(&self) -> Vec<(&'static Mark, Tally)> {
        let all = || mark::all().iter().zip(self.tallies.iter().copied());
        let files: BTreeSet<&str> =
            all().filter(|(_, tally)| tally.visits > 0).map(|(mark, _)| mark.file).collect();
        let mut told: Vec<_> =
            all().filter(|(mark, _)| mark.is_written() && files.contains(mark.file)).collect();
        told.sort_unstable_by_key(|(mark, _)| (mark.file, mark.line));
        told
    }

    /// What no run has reached: a `sometimes!` that never held, a `buggify!` that never went wrong, an `always!` or a `reachable!` to which
    /// nobody came. Of the files from which any mark was reached: a program has others, of which these runs say nothing.
    pub fn never(&self) -> Vec<&'static Mark> {
        let told = self.told().into_iter();
        told.filter(|(mark, tally)| tally.is_missing(mark.kind)).map(|(mark, _)| mark).collect()
    }
}

impl Tally {
    fn is_missing(self, kind: MarkKind) -> bool {
        match kind {
            MarkKind::Always | MarkKind::Reachable => self.visits == 0,
            MarkKind::Sometimes | MarkKind::Buggify => self.held == 0,
        }
    }
}

impl fmt::Display for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (mark, tally) in self.told() {
            let Tally { visits, held } = tally;
            match tally.is_missing(mark.kind) {
                true => writeln!(f, "  NEVER {mark}, {visits} visits")?,
                false => writeln!(f, "  {held} of {visits}: {mark}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Marks(\n{self})")
    }
}
