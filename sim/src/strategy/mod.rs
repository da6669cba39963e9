//! Strategies: by what a run decides which of the threads that can run goes on.
//!
//! | strategy | each time | finds | of |
//! |---|---|---|---|
//! | `Random` | time decides: who is ready first, with costs of calls and wake-ups drawn | what depends on times: packets, timers, faults | |
//! | `Pct` | the thread of the highest priority; a few times the one that runs falls to the lowest | what needs `depth` constraints of order, however long the run | Burckhardt et al., ASPLOS 2010 |
//! | `Pos` | the call of the highest priority: each has its own, drawn again when one that races with it was made | orders of single operations | Yuan, Yang and Gu, CAV 2018 |
//! | `Walk` | a thread, as likely as it has calls left | many threads, where each order is to be as likely as any other | Zhao et al., ASPLOS 2025 |
//! | `SelectiveWalk` | the same for calls of some kinds, drawn by the run; the others come at random between them | one kind of conflict among many calls | the same |
//! | `RoundRobin` | the one that runs, until it waits; then the next in line; a few times it is put back | what needs a few switches | Emmi, Qadeer and Rakamarić, POPL 2011 |
//! | `Exhaustive` | what the number of the run says, as digits or as places of delays | everything, in tiny programs | the same |
//!
//! `Random` needs no decision: the queue of events is in order of time. All others work by *turns* (`turns`), and see only the
//! threads among which there is something to decide. What they answer is a choice, recorded like any other, so a replay has no
//! strategy. Each has dice of its own, from the seed, which are not recorded.

mod exhaustive;
mod pct;
mod pos;
mod robin;
mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use machinarium::kernel::Call;

use crate::choice::Dice;
use crate::env::ProcessIndex;

/// By what a run decides which of the threads that can run goes on. `Strategy::Portfolio` if you do not know.
///
/// No strategy finds everything: each is blind to some bugs, or needs a million runs where another one needs ten. With all but
/// `Random`, operations on what machines share are places where another thread may go on, as with `Fault::Preempt`, and a thread that
/// could run waits for at most 200 microseconds of virtual time for others to have their turns, besides what faults do to it.
///
/// ```
/// use machinarium_sim::{Durations, Simulation, Strategy};
///
/// let script = |world: &machinarium_sim::World| world.sleep(1.secs());
/// let outcome = Simulation::new(7).strategy("pct3".parse().unwrap()).run(script);
/// assert_eq!(outcome.strategy, Strategy::Pct { depth: 3 });
/// // A portfolio is the strategy that the seed stands for.
/// let outcome = Simulation::new(7).strategy(Strategy::Portfolio).run(script);
/// assert_ne!(outcome.strategy, Strategy::Portfolio);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Strategy {
    /// By time, with what calls and wake-ups cost drawn at random. Written `random`.
    #[default]
    Random,
    /// Priorities of threads, changed at `depth - 1` random moments. Written `pct3`.
    Pct {
        /// From 1; at most 16.
        depth: u8,
    },
    /// Priorities of single calls. Written `pos`.
    Pos,
    /// All orders about equally likely, from how many calls each thread is expected to make. Written `walk`.
    Walk,
    /// The same for some kinds of calls. Written `selective`.
    SelectiveWalk,
    /// In line, each until it waits, put back at `delays` random moments. Written `robin2`.
    RoundRobin {
        /// At most 16.
        delays: u8,
    },
    /// Every order of a program, one in each seed from 1 on, with everything else boring. Written `all`, or `all2` for those with at
    /// most two delays. [`Outcome::needed`](crate::Outcome::needed) says after how many seeds it is done.
    Exhaustive {
        /// At most so many times is the first in line put back; `None`: any order at all. At most 8.
        delays: Option<u8>,
    },
    /// One of the others, but for `Exhaustive`, by the seed. Written `portfolio`.
    Portfolio,
}

impl Strategy {
    /// What the runs of `seed` do: another strategy for each of eight seeds in a row if this is a portfolio, else itself.
    pub fn of(self, seed: u64) -> Strategy {
        if self != Strategy::Portfolio {
            return self;
        }
        let round = seed / 8;
        match seed % 8 {
            1 => Strategy::Walk,
            2 => Strategy::Pct { depth: 2 + (round % 5) as u8 },
            3 => Strategy::Pos,
            5 => Strategy::SelectiveWalk,
            6 => Strategy::RoundRobin { delays: 1 + (round % 4) as u8 },
            _ => Strategy::Random,
        }
    }

    /// Whether it decides by turns, and not by time; of no portfolio.
    pub(crate) fn has_turns(self) -> bool {
        self != Strategy::Random
    }

    /// Whether it is better for a rehearsal.
    pub(crate) fn wants_rehearsal(self) -> bool {
        matches!(
            self,
            Strategy::Walk | Strategy::SelectiveWalk | Strategy::Pct { .. } | Strategy::RoundRobin { .. }
        )
    }

    /// What picks in the run of `seed`.
    pub(crate) fn picker(
        self,
        seed: u64,
        rehearsal: Option<Arc<Rehearsal>>,
        dice: &mut Dice,
    ) -> Box<dyn Picker> {
        let length = rehearsal.as_ref().map(|rehearsal| rehearsal.decisions.max(1));
        // Runs whose length nobody knows are as likely to be short as long.
        let length = length.unwrap_or_else(|| 8 << dice.below(12));
        match self {
            Strategy::Random | Strategy::Portfolio => unreachable!("a strategy with turns"),
            Strategy::Pct { depth } => Box::new(pct::Pct::new(depth, length, dice)),
            Strategy::Pos => Box::new(pos::Pos::default()),
            Strategy::Walk => Box::new(walk::Walk::new(rehearsal, [true; Kind::ALL.len()])),
            Strategy::SelectiveWalk => Box::new(walk::Selective::new(rehearsal, dice)),
            Strategy::RoundRobin { delays } => Box::new(robin::Robin::new(delays, length, dice)),
            Strategy::Exhaustive { delays: None } => Box::new(exhaustive::Digits::new(seed)),
            Strategy::Exhaustive { delays: Some(most) } => Box::new(exhaustive::Delays::new(most, seed)),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Strategy::Random => f.write_str("random"),
            Strategy::Pct { depth } => write!(f, "pct{depth}"),
            Strategy::Pos => f.write_str("pos"),
            Strategy::Walk => f.write_str("walk"),
            Strategy::SelectiveWalk => f.write_str("selective"),
            Strategy::RoundRobin { delays } => write!(f, "robin{delays}"),
            Strategy::Exhaustive { delays: None } => f.write_str("all"),
            Strategy::Exhaustive { delays: Some(most) } => write!(f, "all{most}"),
            Strategy::Portfolio => f.write_str("portfolio"),
        }
    }
}

impl FromStr for Strategy {
    type Err = String;

    /// The names that are written, each with its number.
    ///
    /// # Errors
    /// Which names there are.
    fn from_str(text: &str) -> Result<Strategy, String> {
        let name = text.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let digits = &text[name.len()..];
        let number = |range: std::ops::RangeInclusive<u8>| {
            digits.parse::<u8>().ok().filter(|number| range.contains(number))
        };
        let plain = |strategy| digits.is_empty().then_some(strategy);
        let strategy = match name {
            "random" => plain(Strategy::Random),
            "pct" => number(1..=16).map(|depth| Strategy::Pct { depth }),
            "pos" => plain(Strategy::Pos),
            "walk" => plain(Strategy::Walk),
            "selective" => plain(Strategy::SelectiveWalk),
            "robin" => number(0..=16).map(|delays| Strategy::RoundRobin { delays }),
            "all" if digits.is_empty() => Some(Strategy::Exhaustive { delays: None }),
            "all" => number(0..=8).map(|most| Strategy::Exhaustive { delays: Some(most) }),
            "portfolio" => plain(Strategy::Portfolio),
            _ => None,
        };
        strategy.ok_or_else(|| {
            format!("no strategy {text}: there are random, pct1 to pct16, pos, walk, selective, robin0 to robin16, all, all0 to all8, portfolio")
        })
    }
}

/// What decides who goes on. See the head of the file.
pub(crate) trait Picker {
    /// A thread is there from now on; threads are numbered in the order in which they come.
    fn born(&mut self, thread: &Born, dice: &mut Dice) {
        let _ = (thread, dice);
    }

    /// A thread goes on, with a call of this kind, whether there was a choice or not.
    fn goes_on(&mut self, thread: usize, kind: Kind) {
        let _ = (thread, kind);
    }

    /// Which of these threads goes on, by its place. There are at least two: the one that ran last comes first if it is among
    /// them, the others in the order in which they became ready.
    fn pick(&mut self, runners: &[Runner], dice: &mut Dice) -> usize;

    /// How many seeds have to be run until nothing is left that was not tried, as far as this run shows.
    fn needed(&self) -> Option<u64> {
        None
    }
}

/// A thread that comes into the world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Born {
    /// Stable.
    pub(crate) identity: u64,
    /// `None`: the script, which never has a turn.
    pub(crate) process: Option<ProcessIndex>,
    /// The thread that made it, if one with turns did.
    pub(crate) parent: Option<usize>,
}

/// A thread that can run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runner {
    pub(crate) thread: usize,
    pub(crate) process: Option<ProcessIndex>,
    /// What it does when it goes on.
    pub(crate) kind: Kind,
}

/// What a thread does when it goes on, as far as strategies tell calls apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// An operation on what threads share.
    Point,
    /// It waits for others, or wakes them.
    Meeting,
    /// Bytes of sockets and files.
    Bytes,
    /// Everything else: descriptors, threads and names come and go.
    Rest,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::Point, Kind::Meeting, Kind::Bytes, Kind::Rest];

    /// `None` is `sched_yield`, which is what a point calls.
    pub(crate) fn of(call: Option<Call>) -> Kind {
        match call {
            None => Kind::Point,
            Some(Call::FutexWait | Call::EpollWait | Call::EpollCtl | Call::Eventfd | Call::Kill) => {
                Kind::Meeting
            }
            Some(
                Call::Read
                | Call::Readv
                | Call::Write
                | Call::Recv
                | Call::Recvmsg
                | Call::Send
                | Call::Sendmsg
                | Call::Pread
                | Call::Pwrite
                | Call::Fsync
                | Call::Fdatasync,
            ) => Kind::Bytes,
            Some(_) => Kind::Rest,
        }
    }
}

/// What a run with nothing but boring answers has shown: how many calls of which kinds each thread makes. Some strategies
/// guess better with it. See [`Simulation::rehearse`](crate::Simulation::rehearse).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rehearsal {
    /// By identity.
    pub(crate) threads: BTreeMap<u64, Part>,
    pub(crate) decisions: u64,
}

/// What one thread does in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Part {
    /// By kind.
    pub(crate) calls: [u64; Kind::ALL.len()],
    /// The identity of the thread that made it.
    pub(crate) parent: Option<u64>,
}

impl Rehearsal {
    /// How often there was a choice of who goes on.
    pub fn decisions(&self) -> u64 {
        self.decisions
    }

    /// How many calls a thread makes, with all that come from it; of some kinds.
    pub(crate) fn weight(&self, identity: u64, kinds: &[bool; Kind::ALL.len()]) -> Option<u64> {
        let part = self.threads.get(&identity)?;
        let own: u64 =
            part.calls.iter().zip(kinds).filter(|(_, wanted)| **wanted).map(|(calls, _)| calls).sum();
        // Identities of threads grow in the order of a process's threads, so this ends.
        let children = self.threads.iter().filter(|(_, child)| child.parent == Some(identity));
        Some(own + children.filter_map(|(child, _)| self.weight(*child, kinds)).sum::<u64>())
    }
}

/// Picks the first: the rehearsal.
pub(crate) struct First;

impl Picker for First {
    fn pick(&mut self, _runners: &[Runner], _dice: &mut Dice) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in ["random", "pct2", "pos", "walk", "selective", "robin3", "all", "all2", "portfolio"] {
            assert_eq!(text.parse::<Strategy>().unwrap().to_string(), text);
        }
        for text in ["", "pct", "pct0", "pct17", "pos1", "all9", "best"] {
            assert!(text.parse::<Strategy>().unwrap_err().contains("there are random"), "{text}");
        }
    }

    #[test]
    fn a_portfolio_has_all_but_the_exhaustive_one() {
        let names: std::collections::BTreeSet<String> =
            (1..=160).map(|seed| Strategy::Portfolio.of(seed).to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let expected = "pct2 pct3 pct4 pct5 pct6 pos random robin1 robin2 robin3 robin4 selective walk";
        assert_eq!(names.join(" "), expected);
    }
}
