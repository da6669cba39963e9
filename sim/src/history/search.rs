//! The search for an order of calls: Wing and Gong's algorithm (1993) with Lowe's cache of what was tried (2017) and, as in Athalye's
//! Porcupine (2017), a list from which calls are lifted and the object taken apart by key.
//!
//! The beginnings and ends of a part's calls stand in a list in their order. A call that stands before the first end may be the
//! next one. If the model answers as it was answered, its two entries are lifted out, and the search goes on with the rest:
//!
//! | the search meets | and |
//! |---|---|
//! | the beginning of a call that fits, which leads to what was not tried | makes the call: lifts it, begins again at the front |
//! | the beginning of another | goes on |
//! | an end | every call that could come before it was tried: takes the last call back, goes on behind it |
//! | no end in the list | has found an order: who was never answered need not have come |
//!
//! What was tried is a pair: the set of calls made, and what the object then remembers. The end that was met last in the list is where
//! the history stops to be explainable: all that ended before it have an order, and with it there is none.

use std::collections::{BTreeMap, BTreeSet};

use super::model::Model;
use super::timeline::Violation;
use super::{Operation, OperationOf};

/// What came of a check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// There is an order of the calls that explains all answers.
    Linearizable,
    /// There is none.
    Violated(Box<Violation>),
    /// The search took too many steps.
    Undecided {
        /// The part of the object on which it did.
        part: String,
    },
}

impl Verdict {
    /// Whether it is [`Verdict::Linearizable`].
    pub fn is_linearizable(&self) -> bool {
        *self == Verdict::Linearizable
    }
}

/// Checks the operations, each part of the object by itself.
pub(super) fn check<M: Model>(model: &M, operations: &[OperationOf<M>], steps: u64) -> Verdict {
    let mut parts: BTreeMap<M::Part, Vec<&OperationOf<M>>> = BTreeMap::new();
    for operation in operations {
        parts.entry(model.part(&operation.call)).or_default().push(operation);
    }
    for (part, operations) in parts {
        let part = format!("{part:?}");
        match Search::new(model, &operations, steps).run() {
            Found::Order => {}
            Found::Nothing(stop) => {
                return Verdict::Violated(Box::new(Violation::new(part, &operations, &stop)));
            }
            Found::TooLittle => return Verdict::Undecided { part },
        }
    }
    Verdict::Linearizable
}

/// Where a search stopped.
pub(super) struct Stop {
    /// The operation whose answer nothing explains.
    pub(super) culprit: usize,
    /// An order of all that were answered before it, and perhaps of others.
    pub(super) order: Vec<usize>,
}

enum Found {
    Order,
    Nothing(Stop),
    TooLittle,
}

struct Search<'a, M: Model> {
    model: &'a M,
    operations: &'a [&'a OperationOf<M>],
    list: List,
    state: M::State,
    made: Set,
    tried: BTreeSet<(Set, M::State)>,
    /// The calls made, each with what the object remembered before it.
    path: Vec<(usize, M::State)>,
    /// The moment of the last end that was met.
    furthest: usize,
    stop: Stop,
    steps: u64,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, operations: &'a [&'a OperationOf<M>], steps: u64) -> Search<'a, M> {
        Search {
            model,
            operations,
            list: List::new(operations),
            state: model.start(),
            made: Set::new(operations.len()),
            tried: BTreeSet::new(),
            path: Vec::new(),
            furthest: 0,
            stop: Stop { culprit: 0, order: Vec::new() },
            steps,
        }
    }

    fn run(mut self) -> Found {
        let mut place = self.list.first();
        while self.list.ends > 0 {
            match self.list.entries[place] {
                Entry::Begin(operation) => {
                    if self.steps == 0 {
                        return Found::TooLittle;
                    }
                    self.steps -= 1;
                    place = if self.makes(operation) { self.list.first() } else { self.list.after(place) };
                }
                Entry::End(operation) => {
                    self.note(operation);
                    let Some((last, before)) = self.path.pop() else { return Found::Nothing(self.stop) };
                    self.state = before;
                    self.made.remove(last);
                    self.list.put_back(last);
                    place = self.list.after(self.list.begins[last]);
                }
            }
        }
        Found::Order
    }

    /// Makes the call, if it fits and leads to something new.
    fn makes(&mut self, operation: usize) -> bool {
        let Operation { call, end, .. } = self.operations[operation];
        let answer = end.as_ref().map(|(answer, _)| answer);
        let Some(after) = self.model.step(&self.state, call, answer) else { return false };
        // Who was never answered and changes nothing is not needed.
        if answer.is_none() && after == self.state {
            return false;
        }
        self.made.insert(operation);
        if !self.tried.insert((self.made.clone(), after.clone())) {
            self.made.remove(operation);
            return false;
        }
        self.path.push((operation, std::mem::replace(&mut self.state, after)));
        self.list.lift(operation);
        true
    }

    /// The end of an operation that is not made is met.
    fn note(&mut self, operation: usize) {
        let end = self.operations[operation].end.as_ref().map_or(0, |(_, moment)| moment.order);
        if end > self.furthest {
            self.furthest = end;
            let order = self.path.iter().map(|(operation, _)| *operation).collect();
            self.stop = Stop { culprit: operation, order };
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Entry {
    Begin(usize),
    End(usize),
}

/// Beginnings and ends in their order, linked both ways around one place in front, so that a pair which is lifted can be put back where
/// it was.
struct List {
    entries: Vec<Entry>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Where each operation begins and ends.
    begins: Vec<usize>,
    finishes: Vec<Option<usize>>,
    /// How many ends are in the list.
    ends: usize,
}

impl List {
    fn new<C, A>(operations: &[&Operation<C, A>]) -> List {
        let mut moments = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            moments.push((operation.began.order, Entry::Begin(index)));
            moments.extend(operation.end.as_ref().map(|(_, end)| (end.order, Entry::End(index))));
        }
        moments.sort_unstable_by_key(|(order, _)| *order);
        let count = moments.len();
        let (mut begins, mut finishes) = (vec![0; operations.len()], vec![None; operations.len()]);
        for (place, (_, entry)) in moments.iter().enumerate() {
            match *entry {
                Entry::Begin(operation) => begins[operation] = place,
                Entry::End(operation) => finishes[operation] = Some(place),
            }
        }
        List {
            entries: moments.into_iter().map(|(_, entry)| entry).collect(),
            // The place `count` is in front of the first and behind the last.
            next: (1..=count).chain([0]).collect(),
            previous: [count].into_iter().chain(0..count).collect(),
            begins,
            ends: finishes.iter().flatten().count(),
            finishes,
        }
    }

    fn first(&self) -> usize {
        self.next[self.entries.len()]
    }

    /// What follows, which is there as long as an end is: a search never passes one.
    fn after(&self, place: usize) -> usize {
        self.next[place]
    }

    fn lift(&mut self, operation: usize) {
        self.unlink(self.begins[operation]);
        if let Some(place) = self.finishes[operation] {
            self.unlink(place);
            self.ends -= 1;
        }
    }

    /// The last one that was lifted comes back.
    fn put_back(&mut self, operation: usize) {
        if let Some(place) = self.finishes[operation] {
            self.link(place);
            self.ends += 1;
        }
        self.link(self.begins[operation]);
    }

    fn unlink(&mut self, place: usize) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    fn link(&mut self, place: usize) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = place;
        self.previous[next] = place;
    }
}

/// Numbers below a bound.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Set(Vec<u64>);

impl Set {
    fn new(bound: usize) -> Set {
        Set(vec![0; bound.div_ceil(64)])
    }

    fn insert(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    fn remove(&mut self, number: usize) {
        self.0[number / 64] &= !(1 << (number % 64));
    }
}
