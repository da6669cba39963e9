//! Turns: the threads that can run, of which a strategy picks the one that does.
//!
//! With a strategy other than `Random`, the `Run` events of threads are not in the queue of events but here. Events of the
//! network, timers and signals still come at their instants, before any thread that would run then or later. Between two of
//! them, every thread that would run soon can be picked, also one that would be later than another: time jumps to
//! its instant, and those passed over are late. That is what processors do (time is not work-conserving), but none does it for
//! long: a thread that is late by more than [`PATIENCE`] goes on before all others.
//!
//! | | |
//! |---|---|
//! | an event comes before the first thread | the event |
//! | one thread can run, or faults are off | the one that is first in time |
//! | somebody has waited too long | that one |
//! | else | what the strategy picks, or the record: 0 is the thread that ran last, then they stand in line |
//!
//! The stream of a decision is that of the thread that ran last, so that an edit of one thread's code leaves the others' records.

use std::sync::Arc;

use crate::choice::{Choices, Dice, Stream, Subsystem};
use crate::env::ProcessIndex;
use crate::scheduler::{Event, Scheduler, ThreadIndex};
use crate::strategy::{Born, First, Kind, Part, Picker, Rehearsal, Runner, Strategy};

/// How far behind the first one a thread may be to be picked: all that a wake-up costs at most.
const NEAR: u64 = 2_500;
/// For how long others may go on before a thread that can run.
const PATIENCE: u64 = 200_000;

/// See the head of the file.
pub(crate) struct Turns {
    /// In the order in which they came.
    ready: Vec<Ready>,
    last: Option<ThreadIndex>,
    picker: Box<dyn Picker>,
    dice: Dice,
    /// By thread.
    seen: Vec<Seen>,
    decisions: u64,
    /// Of a decision: kept for their memory.
    places: Vec<usize>,
    runners: Vec<Runner>,
}

#[derive(Clone, Copy)]
struct Ready {
    thread: ThreadIndex,
    at: u64,
}

/// What is known of a thread.
struct Seen {
    identity: u64,
    /// `None`: the script, which has no turns.
    process: Option<ProcessIndex>,
    part: Part,
    /// What it does when it goes on.
    kind: Kind,
}

impl Turns {
    /// Those of `strategy`, which has turns, in the run of `seed`.
    pub(crate) fn new(strategy: Strategy, seed: u64, rehearsal: Option<Arc<Rehearsal>>) -> Turns {
        let mut dice = Dice::new(seed);
        let picker = strategy.picker(seed, rehearsal, &mut dice);
        Turns::of(picker, dice)
    }

    /// Those whose strategy is not asked, or picks the first.
    pub(crate) fn plain() -> Turns {
        Turns::of(Box::new(First), Dice::new(0))
    }

    fn of(picker: Box<dyn Picker>, dice: Dice) -> Turns {
        Turns {
            ready: Vec::new(),
            last: None,
            picker,
            dice,
            seen: Vec::new(),
            decisions: 0,
            places: Vec::new(),
            runners: Vec::new(),
        }
    }

    /// A thread comes into the world. Its parent is the one that runs, if that is of the same process.
    pub(crate) fn born(&mut self, thread: ThreadIndex, identity: u64, process: Option<ProcessIndex>) {
        let last = self.last.map(|last| last.0 as usize);
        let parent = last.filter(|last| process.is_some() && self.seen[*last].process == process);
        let part = Part { parent: parent.map(|parent| self.seen[parent].identity), ..Part::default() };
        debug_assert_eq!(self.seen.len(), thread.0 as usize, "threads come in their order");
        self.seen.push(Seen { identity, process, part, kind: Kind::Rest });
        self.picker.born(&Born { identity, process, parent }, &mut self.dice);
    }

    /// The thread can run from `at` on.
    pub(crate) fn ready(&mut self, thread: ThreadIndex, at: u64) {
        self.ready.push(Ready { thread, at });
    }

    /// What the running thread does next.
    pub(crate) fn about(&mut self, thread: ThreadIndex, kind: Kind) {
        self.seen[thread.0 as usize].kind = kind;
    }

    /// The thread has the processor.
    pub(crate) fn goes_on(&mut self, thread: ThreadIndex) {
        let seen = &mut self.seen[thread.0 as usize];
        seen.part.calls[seen.kind as usize] += 1;
        self.picker.goes_on(thread.0 as usize, seen.kind);
    }

    /// The thread will not run.
    pub(crate) fn forget(&mut self, thread: ThreadIndex) {
        self.ready.retain(|ready| ready.thread != thread);
    }

    /// When the first thread can run.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.ready.iter().map(|ready| ready.at).min()
    }

    /// What this run has shown.
    pub(crate) fn rehearsal(&self) -> Rehearsal {
        let threads = self.seen.iter().map(|seen| (seen.identity, seen.part)).collect();
        Rehearsal { threads, decisions: self.decisions }
    }

    /// See [`Picker::needed`].
    pub(crate) fn needed(&self) -> Option<u64> {
        self.picker.needed()
    }

    /// The place of the thread that is to run, of those that can before `until`.
    fn choose(&mut self, choices: &mut Choices, now: u64, until: u64, fair: bool) -> usize {
        let ready = || self.ready.iter().enumerate();
        let (first, earliest) = ready().min_by_key(|(_, ready)| ready.at).expect("there is one");
        if fair || earliest.at.saturating_add(PATIENCE) < now {
            return first;
        }
        let mut places = std::mem::take(&mut self.places);
        places.clear();
        places.extend(ready().filter(|(_, ready)| ready.at < until).map(|(place, _)| place));
        let place = if places.len() == 1 { first } else { self.decide(choices, &mut places) };
        self.places = places;
        place
    }

    /// One of these.
    fn decide(&mut self, choices: &mut Choices, places: &mut [usize]) -> usize {
        let ran_last = |place: &usize| Some(self.ready[*place].thread) == self.last;
        if let Some(last) = places.iter().position(ran_last) {
            places[..=last].rotate_right(1);
        }
        let seen = |place: &usize| &self.seen[self.ready[*place].thread.0 as usize];
        let stream = Stream::new(Subsystem::Turn, seen(&places[0]).identity);
        self.runners.clear();
        self.runners.extend(places.iter().map(|place| {
            let seen = seen(place);
            Runner { thread: self.ready[*place].thread.0 as usize, process: seen.process, kind: seen.kind }
        }));
        self.decisions += 1;
        let pick = || self.picker.pick(&self.runners, &mut self.dice) as u64;
        places[choices.decide(stream, "turn", places.len() as u64, pick) as usize]
    }
}

impl Scheduler {
    /// What happens next, by turns.
    pub(crate) fn next_turn(&mut self) -> Option<Event> {
        let turns = self.turns.as_mut()?;
        let Some(earliest) = turns.next_at() else { return self.next_event() };
        let from = earliest.max(self.now);
        let event = self.queue.next_at().unwrap_or(u64::MAX);
        if event <= from {
            return self.next_event();
        }
        let place = turns.choose(&mut self.choices, self.now, event.min(from + NEAR), self.calm);
        let Ready { thread, at } = turns.ready.remove(place);
        turns.last = Some(thread);
        self.now = self.now.max(at);
        self.events += 1;
        Some(Event::Run(thread))
    }

    /// The thread gets the processor at this instant, or about then.
    pub(crate) fn run_at(&mut self, thread: ThreadIndex, at: u64) {
        match &mut self.turns {
            // The script runs when it wants to: it is an event for everybody else.
            Some(turns) if self.threads[thread.0 as usize].process.is_some() => turns.ready(thread, at),
            _ => self.queue.push(at, Event::Run(thread)),
        }
    }
}
