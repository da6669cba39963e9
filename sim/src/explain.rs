//! Why a run fails: the choices that matter in words, the last of them without which it passes, and how its failure became likely.
//!
//! *The critical choice.* In a shrunk record each choice that is not boring is needed. Made boring alone, from the last one
//! backwards, the first that lets the run pass divides the failing run from a passing one that is like it for as long as any: both
//! are shown from there on.
//!
//! *The curve.* From points along the shrunk run, many futures: the choices up to the point are the run's, those after it are another
//! seed's. How many of them fail says how much was decided by then (as in Antithesis' analysis of causality); where the share jumps, it
//! happened. The steepest step is divided until it is a few choices wide.

use std::fmt::Write as _;
use std::time::Duration;

use crate::choice::Record;
use crate::journal;
use crate::report::Failure;
use crate::simulation::{Outcome, Simulation};
use crate::words::{self, Told};

#[allow(clippy::disallowed_types)] // patience is of real time
type Stopwatch = std::time::Instant;

/// How a simulation is run, and what fails in it.
pub(crate) struct Case<'a> {
    /// Without seed or record: faults and processors.
    pub(crate) simulation: Simulation,
    pub(crate) run: &'a dyn Fn(&Simulation) -> Outcome,
    pub(crate) failure: &'a Failure,
}

/// What is known of a failure.
pub(crate) struct Explanation {
    /// The run of the shrunk record, with everything that was to be seen.
    pub(crate) run: Outcome,
    pub(crate) told: Vec<Told>,
    pub(crate) critical: Option<Critical>,
    pub(crate) curve: Vec<Point>,
}

/// What divides the failing run from a passing one.
pub(crate) struct Critical {
    pub(crate) told: Told,
    /// The run in which that choice is boring.
    pub(crate) passing: Outcome,
}

/// A place in the failing run, and what becomes of it from there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Point {
    /// How many choices are the run's.
    pub(crate) draws: u64,
    /// World time.
    pub(crate) at: u64,
    pub(crate) failed: u32,
    pub(crate) futures: u32,
}

/// How many points the curve has at first, and futures each.
const POINTS: u64 = 16;
const FUTURES: u32 = 24;
/// How many choices are told.
const TOLD: usize = 30;
/// How many events are shown on each side of the critical choice.
const SIDES: usize = 12;

impl Case<'_> {
    /// Explains `record`, which was shrunk, for at most about `patience` and half of it.
    pub(crate) fn explain(&self, record: &Record, patience: Duration) -> Explanation {
        let run = self.watched(self.simulation.clone().replay(record.clone()));
        let told = words::tell(&run);
        let critical = self.critical(record, &told, patience / 2);
        let curve = self.curve(record, &run, patience);
        Explanation { run, told, critical, curve }
    }

    /// Runs it with everything kept.
    fn watched(&self, simulation: Simulation) -> Outcome {
        (self.run)(&simulation.keep_events(usize::MAX).journal(None).film())
    }

    fn fails(&self, outcome: &Outcome) -> bool {
        outcome.failure.as_ref().is_some_and(|failure| failure.is_like(self.failure))
    }

    fn critical(&self, record: &Record, told: &[Told], patience: Duration) -> Option<Critical> {
        let end = Stopwatch::now() + patience;
        for told in told.iter().rev() {
            let mut other = record.clone();
            other.streams.get_mut(&told.drawn.stream)?.get_mut(told.drawn.ordinal)?.answer = 0;
            let simulation = self.simulation.clone().replay(other);
            if (self.run)(&simulation).passed() {
                return Some(Critical { told: told.clone(), passing: self.watched(simulation) });
            }
            if Stopwatch::now() >= end {
                break;
            }
        }
        None
    }

    fn curve(&self, record: &Record, run: &Outcome, patience: Duration) -> Vec<Point> {
        let end = Stopwatch::now() + patience;
        let journal = &run.journal;
        let last = journal.len() as u64;
        let at = |draws: u64| journal.get(draws as usize).or(journal.last()).map_or(0, |drawn| drawn.at);
        // A curve has two points, however long they take.
        let point = |draws: u64, patient: bool| {
            let prefix = journal::to_record(record.seed, &journal[..draws as usize]);
            let mut point = Point { draws, at: at(draws), failed: 0, futures: 0 };
            for number in 0..FUTURES {
                if !patient && Stopwatch::now() >= end {
                    return None;
                }
                let seed = record.seed ^ (u64::from(number) + 1) << 40 ^ draws;
                let simulation = self.simulation.clone().future(prefix.clone(), seed);
                point.futures += 1;
                point.failed += u32::from(self.fails(&(self.run)(&simulation)));
            }
            Some(point)
        };
        // The ends first: a curve whose time is up early has them.
        let mut order: Vec<u64> = (0..=POINTS).map(|place| last * place / POINTS).collect();
        order.dedup();
        let middle = order.pop();
        let mut curve: Vec<Point> = Vec::new();
        for draws in middle.into_iter().chain(order) {
            let Some(point) = point(draws, curve.len() < 2) else { break };
            curve.push(point);
        }
        curve.sort_by_key(|point| point.draws);
        while let Some(place) = steepest(&curve).filter(|place| width(&curve, *place) > 1) {
            let middle = (curve[place].draws + curve[place + 1].draws) / 2;
            let Some(point) = point(middle, false) else { break };
            curve.insert(place + 1, point);
        }
        curve
    }
}

/// The step of the curve that rises most, if it is a jump at all.
fn steepest(curve: &[Point]) -> Option<usize> {
    let rise = |place: &usize| i64::from(curve[place + 1].failed) - i64::from(curve[*place].failed);
    let place =
        (0..curve.len().saturating_sub(1)).max_by_key(|place| (rise(place), std::cmp::Reverse(*place)))?;
    (rise(&place) >= i64::from(FUTURES) / 4).then_some(place)
}

fn width(curve: &[Point], place: usize) -> u64 {
    curve[place + 1].draws - curve[place].draws
}

impl Explanation {
    /// All of it as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.choices(&mut text);
        self.sides(&mut text);
        self.chances(&mut text);
        text
    }

    fn choices(&self, text: &mut String) {
        let _ = writeln!(text, "the choices that matter, of {} in the run:", self.run.journal.len());
        for told in self.told.iter().take(TOLD) {
            let _ = writeln!(text, "  {:>8}  {}  {}", told.number, words::moment(told.drawn.at), told.words);
        }
        if self.told.len() > TOLD {
            let _ = writeln!(text, "  and {} more", self.told.len() - TOLD);
        }
        if self.told.is_empty() {
            let _ = writeln!(text, "  none: it fails however the world is");
        }
    }

    /// What follows the critical choice, and what would have.
    fn sides(&self, text: &mut String) {
        let Some(Critical { told, passing }) = &self.critical else { return };
        let _ = writeln!(
            text,
            "\nwithout choice {} it passes: {}. From there on it fails as on the left, and passes as on the right:",
            told.number, told.words
        );
        let events = |outcome: &Outcome| -> Vec<String> {
            let from = outcome.lines.partition_point(|line| line.draws < told.number as u64);
            let lines = outcome.lines[from..].iter().take(SIDES);
            lines
                .map(|line| {
                    let host = line.host.map_or("script", |host| outcome.cast.host(u64::from(host.0)));
                    format!("{} {host}: {}", words::moment(line.at), line.text)
                })
                .collect()
        };
        let (left, right) = (events(&self.run), events(passing));
        for place in 0..left.len().max(right.len()) {
            let cell = |side: &[String]| {
                side.get(place).map_or(String::new(), |line| line.chars().take(70).collect())
            };
            let _ = writeln!(text, "  {:<70} | {}", cell(&left), cell(&right));
        }
    }

    fn chances(&self, text: &mut String) {
        if self.curve.len() < 2 {
            return;
        }
        let _ =
            writeln!(text, "\nhow many of {FUTURES} random futures fail, from points along the failing run:");
        for point in &self.curve {
            let Point { draws, at, failed, futures } = *point;
            let bar = "#".repeat((failed * 40 / futures.max(1)) as usize);
            let _ = writeln!(text, "  after choice {draws:>8}  {}  {failed:>3}  {bar}", words::moment(at));
        }
        if let Some(place) = steepest(&self.curve) {
            let (before, after) = (self.curve[place], self.curve[place + 1]);
            let by = match width(&self.curve, place) {
                1 => format!("by choice {}", after.draws),
                _ => format!("between choices {} and {}", before.draws, after.draws),
            };
            let Point { failed, futures, .. } = before;
            let (then, at) = (after.failed, words::moment(after.at));
            let _ = writeln!(
                text,
                "it was decided {by}, at {at}: before, {failed} of {futures} futures fail, and then {then}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jump_is_the_steepest_step() {
        let point = |draws, failed| Point { draws, at: 0, failed, futures: FUTURES };
        let curve = [point(0, 1), point(10, 2), point(20, 20), point(30, 24)];
        assert_eq!(steepest(&curve), Some(1));
        assert_eq!(steepest(&curve[..2]), None, "what does not jump has no moment");
        assert_eq!(steepest(&[]), None);
    }
}
