//! Histories: who called what, when, and what was answered; and whether one order of the calls explains all answers.
//!
//! A [`History`] is written by the clients of a test, in the order in which calls begin and end and with the world's virtual
//! time. [`History::check`] then looks for an order in which the calls could have been made one after another, each at one instant
//! between its beginning and its end, with these answers, on an object that a [`Model`] describes: the history is then *linearizable*
//! (Herlihy and Wing, 1990).
//!
//! | a call | is written as | may have taken effect |
//! |---|---|---|
//! | was answered | [`Pending::answered`] | once, between its beginning and its end |
//! | failed, and certainly did nothing | [`Pending::refused`] | never: it is struck out |
//! | failed, and who knows; or never came back | [`Pending`] is dropped | once at any time after its beginning, or never |
//!
//! A history outlives crashes of the hosts that write it: it is the test's own memory. Writing makes no call of the kernel,
//! so a run with a history is the run without.

mod model;
mod search;
#[cfg(test)]
mod search_tests;
mod timeline;

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub use model::{
    KeyValue, KeyValueAnswer, KeyValueCall, Lock, LockCall, Model, Queue, QueueAnswer, QueueCall, Register,
    RegisterAnswer, RegisterCall,
};
pub use search::Verdict;
pub use timeline::Violation;

use crate::world;

/// How many steps a check takes unless told.
const STEPS: u64 = 5_000_000;

#[allow(clippy::disallowed_types, reason = "locked for a look, never across a call of the kernel")]
type Locked<T> = std::sync::Mutex<T>;
#[allow(clippy::disallowed_types, reason = "the time of histories that are written outside of all worlds")]
type Stopwatch = std::time::Instant;

/// The calls on one object, written by all who make them. Clones write the same history.
///
/// ```
/// use machinarium_sim::history::{History, Register, RegisterAnswer, RegisterCall};
///
/// let history = History::new(Register::new(0));
/// let (alice, bob) = (history.client("alice"), history.client("bob"));
/// let writing = alice.begin(RegisterCall::Write(1));
/// let seen = bob.call(RegisterCall::Read, || RegisterAnswer::Value(1));
/// assert_eq!(seen, RegisterAnswer::Value(1));
/// writing.answered(RegisterAnswer::Done);
/// history.assert_linearizable();
///
/// bob.call(RegisterCall::Read, || RegisterAnswer::Value(0)); // nobody wrote it back
/// assert!(!history.check().is_linearizable());
/// ```
pub struct History<M: Model> {
    shared: Arc<Shared<M>>,
}

struct Shared<M: Model> {
    model: M,
    book: Locked<Book<M>>,
    made: Stopwatch,
}

/// What is written.
struct Book<M: Model> {
    /// How many beginnings and ends.
    moments: usize,
    /// All calls; `None` is one that is struck out.
    calls: Vec<Option<OperationOf<M>>>,
}

/// The operations of a model's history.
type OperationOf<M> = Operation<<M as Model>::Call, <M as Model>::Answer>;

/// A call, by whom, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation<C, A> {
    /// Who made it.
    pub client: Arc<str>,
    /// What was asked.
    pub call: C,
    /// When it began.
    pub began: Moment,
    /// The answer and when it came; `None`: it never did, or what it did is not known.
    pub end: Option<(A, Moment)>,
}

/// A place in a history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment {
    /// Among all beginnings and ends of the history.
    pub order: usize,
    /// Virtual time; outside of worlds, real time since the history was made.
    pub at: Duration,
}

/// One of those who write a history.
pub struct Client<M: Model> {
    history: History<M>,
    name: Arc<str>,
}

/// A call that has begun. Dropped, it stays open: nobody knows what it did.
#[must_use = "a call that is dropped stays open"]
pub struct Pending<M: Model> {
    history: History<M>,
    place: usize,
}

impl<M: Model> History<M> {
    /// An empty history of an object that behaves as `model`.
    pub fn new(model: M) -> History<M> {
        let book = Locked::new(Book { moments: 0, calls: Vec::new() });
        History { shared: Arc::new(Shared { model, book, made: Stopwatch::now() }) }
    }

    /// One who writes it. Names are for the report; two clients may have the same.
    pub fn client(&self, name: &str) -> Client<M> {
        Client { history: self.clone(), name: name.into() }
    }

    /// All calls in the order in which they began, without those that were refused.
    pub fn operations(&self) -> Vec<Operation<M::Call, M::Answer>> {
        self.write(|book| book.calls.iter().flatten().cloned().collect())
    }

    /// Whether some order of the calls explains all answers.
    pub fn check(&self) -> Verdict {
        self.check_within(STEPS)
    }

    /// The same with a limit of its own: how often a call may be tried as the next one. A search that needs more is undecided.
    /// The need rises steeply with the number of calls that are open or overlap, on one part of the object.
    pub fn check_within(&self, steps: u64) -> Verdict {
        search::check(&self.shared.model, &self.operations(), steps)
    }

    /// Fails the test, with a timeline, if no order of the calls explains all answers.
    ///
    /// # Panics
    /// If there is none, or if the search takes too many steps to say: then the history is too long, or too much of it is open.
    #[track_caller]
    pub fn assert_linearizable(&self) {
        match self.check() {
            Verdict::Linearizable => {}
            Verdict::Violated(violation) => panic!("{violation}"),
            Verdict::Undecided { part } => {
                panic!("the calls on {part} are too many to be checked in {STEPS} steps")
            }
        }
    }

    fn write<R>(&self, f: impl FnOnce(&mut Book<M>) -> R) -> R {
        f(&mut self.shared.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The time of what is about to be written.
    fn now(&self) -> Duration {
        let virtual_time = world::current().and_then(|world| {
            let state = world.state.try_borrow().ok()?;
            Some(Duration::from_nanos(state.sched.now))
        });
        virtual_time.unwrap_or_else(|| self.shared.made.elapsed())
    }
}

impl<M: Model> Client<M> {
    /// Writes that a call begins.
    pub fn begin(&self, call: M::Call) -> Pending<M> {
        let at = self.history.now();
        let place = self.history.write(|book| {
            let began = book.moment(at);
            book.calls.push(Some(Operation { client: self.name.clone(), call, began, end: None }));
            book.calls.len() - 1
        });
        Pending { history: self.history.clone(), place }
    }

    /// Makes a call that is always answered. If it unwinds instead, it stays open.
    pub fn call(&self, call: M::Call, make: impl FnOnce() -> M::Answer) -> M::Answer {
        let pending = self.begin(call);
        let answer = make();
        pending.answered(answer.clone());
        answer
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<M: Model> Pending<M> {
    /// It was answered now.
    pub fn answered(self, answer: M::Answer) {
        let at = self.history.now();
        self.history.write(|book| {
            let end = book.moment(at);
            let operation = book.calls[self.place].as_mut().expect("a pending call is not struck out");
            operation.end = Some((answer, end));
        });
    }

    /// It certainly did nothing, and never will.
    pub fn refused(self) {
        self.history.write(|book| book.calls[self.place] = None);
    }
}

impl<M: Model> Book<M> {
    fn moment(&mut self, at: Duration) -> Moment {
        self.moments += 1;
        Moment { order: self.moments, at }
    }
}

impl<M: Model> Clone for History<M> {
    fn clone(&self) -> History<M> {
        History { shared: self.shared.clone() }
    }
}

impl<M: Model> Clone for Client<M> {
    fn clone(&self) -> Client<M> {
        Client { history: self.history.clone(), name: self.name.clone() }
    }
}

impl<M: Model> fmt::Debug for History<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.operations()).finish()
    }
}

impl<M: Model> fmt::Debug for Client<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.name)
    }
}

impl<M: Model> fmt::Debug for Pending<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pending({})", self.place)
    }
}
