//! What is known of names, and what is being asked: plain state, which lies inside one lock.
//!
//! | a question is | means | becomes |
//! |---|---|---|
//! | absent | nothing is known | in flight, by whoever asks |
//! | in flight | one lookup for all who ask; it waits for a worker, or has one | answered, or absent if the answer does not hold |
//! | answered | the answer holds for a while | in flight, by whoever asks after that; absent, as the eldest of too many |
//!
//! A flight ends by its answer alone: no asker owns it. A *worker* is a call on the pool that takes waiting questions until there are
//! none; there are as many as there are lookups at once, and as long as a question waits there is one that will come for it, or
//! [`Table::no_worker`] answers it.
//!
//! Nothing in here waits or calls anybody, and no user's code is dropped.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::error::LookupFailure;
use crate::kernel::{Errno, Family, Instant};
use crate::machine::Tuning;
use crate::sync::Event;

/// All that an answer depends on.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Question {
    /// In small letters, since case does not matter.
    pub(super) host: CString,
    pub(super) family: Family,
    pub(super) address_config: bool,
}

/// Addresses with port 0.
pub(super) type Answer = Result<Arc<[SocketAddr]>, LookupFailure>;

/// One lookup, and those who wait for it.
#[derive(Debug, Default)]
pub(super) struct Flight {
    answer: OnceLock<Answer>,
    pub(super) landed: Event,
}

impl Flight {
    /// What the lookup has answered.
    pub(super) fn answer(&self) -> Option<&Answer> {
        self.answer.get()
    }

    /// Delivers the answer to all who wait. Not inside the lock.
    pub(super) fn land(&self, answer: Answer) {
        let first = self.answer.set(answer).is_ok();
        debug_assert!(first, "a flight lands once");
        self.landed.set();
    }
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Table {
    places: BTreeMap<Arc<Question>, Place>,
    /// The answered, in the order in which they were, by the numbers of their answers.
    eldest: BTreeMap<u64, Arc<Question>>,
    answers: u64,
    /// In flight, without a worker.
    waiting: VecDeque<Arc<Question>>,
    workers: usize,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    ttl: Duration,
    negative_ttl: Duration,
    capacity: usize,
    lookups: usize,
}

#[derive(Debug)]
enum Place {
    InFlight(Arc<Flight>),
    Answered { answer: Answer, until: Instant, number: u64 },
}

/// What there is for whoever asks.
#[derive(Debug)]
pub(super) enum Asked {
    /// The answer.
    Known(Answer),
    /// Somebody asks, or will.
    InFlight(Arc<Flight>),
    /// The same, and the caller starts one more worker.
    Start(Arc<Flight>),
}

impl Table {
    pub(super) fn new(tuning: &Tuning) -> Table {
        let limits = Limits {
            ttl: tuning.dns_ttl,
            negative_ttl: tuning.dns_negative_ttl,
            capacity: tuning.dns_capacity,
            lookups: tuning.dns_lookups.max(1),
        };
        Table {
            places: BTreeMap::new(),
            eldest: BTreeMap::new(),
            answers: 0,
            waiting: VecDeque::new(),
            workers: 0,
            limits,
        }
    }

    /// Somebody asks at `now`.
    pub(super) fn ask(&mut self, question: &Arc<Question>, now: Instant) -> Asked {
        match self.places.get(question) {
            Some(Place::InFlight(flight)) => return Asked::InFlight(flight.clone()),
            Some(Place::Answered { answer, until, .. }) if now < *until => {
                return Asked::Known(answer.clone());
            }
            Some(Place::Answered { number, .. }) => drop(self.eldest.remove(number)),
            None => {}
        }
        let flight = Arc::new(Flight::default());
        self.places.insert(question.clone(), Place::InFlight(flight.clone()));
        self.waiting.push_back(question.clone());
        if self.workers == self.limits.lookups {
            return Asked::InFlight(flight);
        }
        self.workers += 1;
        Asked::Start(flight)
    }

    /// The next question for a worker; without one, it has left.
    pub(super) fn next(&mut self) -> Option<Arc<Question>> {
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.workers -= 1;
        }
        next
    }

    /// A worker has an answer, which holds from `now` on: whom it is for.
    pub(super) fn answered(
        &mut self,
        question: &Arc<Question>,
        answer: &Answer,
        now: Instant,
    ) -> Arc<Flight> {
        let Some(Place::InFlight(flight)) = self.places.remove(question) else {
            unreachable!("a worker's question is in flight")
        };
        let holds = match answer {
            Ok(_) => self.limits.ttl,
            Err(failure) if failure.is_lasting() => self.limits.negative_ttl,
            Err(_) => Duration::ZERO,
        };
        if !holds.is_zero() && self.limits.capacity > 0 {
            let number = self.answers;
            self.answers += 1;
            self.eldest.insert(number, question.clone());
            let place = Place::Answered { answer: answer.clone(), until: now + holds, number };
            self.places.insert(question.clone(), place);
        }
        if self.eldest.len() > self.limits.capacity
            && let Some((_, eldest)) = self.eldest.pop_first()
        {
            self.places.remove(&eldest);
        }
        flight
    }

    /// A worker could not be started. If there is no other, these questions have nobody who would come for them.
    pub(super) fn no_worker(&mut self) -> Vec<Arc<Flight>> {
        self.workers -= 1;
        if self.workers > 0 {
            return Vec::new();
        }
        let stranded = std::mem::take(&mut self.waiting);
        let flights = stranded.iter().filter_map(|question| match self.places.remove(question) {
            Some(Place::InFlight(flight)) => Some(flight),
            _ => None,
        });
        flights.collect()
    }
}

/// What those are told for whom there is no worker.
pub(super) fn no_thread(errno: Errno) -> Answer {
    Err(LookupFailure::Thread(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(tuning: Tuning) -> Table {
        Table::new(&tuning)
    }

    fn question(host: &str) -> Arc<Question> {
        Arc::new(Question { host: CString::new(host).unwrap(), family: Family::Any, address_config: false })
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn address(last: u8) -> Answer {
        Ok(Arc::new([SocketAddr::from(([198, 18, 0, last], 0))]))
    }

    fn know(table: &mut Table, host: &str, answer: &Answer, now: Instant) {
        let question = question(host);
        assert!(matches!(table.ask(&question, now), Asked::Start(_)), "{host}");
        assert_eq!(table.next().as_ref(), Some(&question));
        table.answered(&question, answer, now).land(answer.clone());
        assert!(table.next().is_none());
    }

    fn knows(table: &mut Table, host: &str, now: Instant) -> bool {
        matches!(table.places.get(&question(host)), Some(Place::Answered { until, .. }) if now < *until)
    }

    #[test]
    fn an_answer_holds_as_long_as_its_kind_does() {
        let mut table = table(Tuning::default());
        know(&mut table, "is", &address(1), at(0));
        know(&mut table, "is not", &Err(LookupFailure::NoSuchName), at(0));
        know(&mut table, "fails", &Err(LookupFailure::TryAgain), at(0));
        let known = |table: &mut Table, now| ["is", "is not", "fails"].map(|host| knows(table, host, now));
        assert_eq!(known(&mut table, at(4)), [true, true, false]);
        assert_eq!(known(&mut table, at(5)), [true, false, false]);
        assert_eq!(known(&mut table, at(29)), [true, false, false]);
        assert_eq!(known(&mut table, at(30)), [false, false, false]);
        assert!(matches!(table.ask(&question("is"), at(29)), Asked::Known(Ok(_))));
        know(&mut table, "is", &address(2), at(30));
        assert!(matches!(table.ask(&question("is"), at(59)), Asked::Known(answer) if answer == address(2)));
        assert_eq!((table.places.len(), table.eldest.len()), (2, 2));
    }

    #[test]
    fn of_too_many_answers_the_eldest_goes() {
        let mut table = table(Tuning { dns_capacity: 2, ..Tuning::default() });
        for host in ["a", "b", "c"] {
            know(&mut table, host, &address(1), at(0));
        }
        assert_eq!(["a", "b", "c"].map(|host| knows(&mut table, host, at(1))), [false, true, true]);
        let mut none = self::table(Tuning { dns_capacity: 0, ..Tuning::default() });
        know(&mut none, "a", &address(1), at(0));
        assert!(none.places.is_empty() && none.eldest.is_empty());
    }

    #[test]
    fn equal_questions_are_one_flight_and_workers_have_a_limit() {
        let mut table = table(Tuning { dns_lookups: 1, ..Tuning::default() });
        let Asked::Start(first) = table.ask(&question("a"), at(0)) else { panic!("nobody asks yet") };
        let Asked::InFlight(second) = table.ask(&question("a"), at(0)) else { panic!("somebody asks") };
        assert!(Arc::ptr_eq(&first, &second));
        assert!(matches!(table.ask(&question("b"), at(0)), Asked::InFlight(_)), "the one worker will come");
        let a = table.next().unwrap();
        table.answered(&a, &address(1), at(0)).land(address(1));
        assert_eq!(second.answer(), Some(&address(1)));
        assert_eq!(*table.next().unwrap(), *question("b"));
    }

    #[test]
    fn questions_without_a_worker_are_answered_and_others_wait() {
        let mut table = table(Tuning::default());
        let start = |table: &mut Table, host: &str| match table.ask(&question(host), at(0)) {
            Asked::Start(flight) => flight,
            other => panic!("{other:?}"),
        };
        start(&mut table, "a");
        assert!(table.next().is_some(), "the worker of a");
        start(&mut table, "b");
        assert!(table.no_worker().is_empty(), "the worker of a will come for b");
        assert!(table.next().is_some());
        assert!(table.next().is_none(), "it has left");
        let flight = start(&mut table, "c");
        let stranded = table.no_worker();
        assert!(matches!(&stranded[..], [one] if Arc::ptr_eq(one, &flight)));
        assert!(matches!(table.ask(&question("c"), at(0)), Asked::Start(_)), "the next who asks tries");
    }
}
