//! PCT: the highest priority goes on, and a few times it loses it.
//!
//! A bug that needs `depth` constraints among the events of n threads is found with a probability of at least one in
//! n * length^(depth - 1), whatever the program does otherwise. ("A Randomized Scheduler with Probabilistic Guarantees of Finding
//! Bugs", Burckhardt, Kothari, Musuvathi and Nagarakatte.) Only decisions count as steps: where nobody else can run, nothing changes.

use super::{Born, Picker, Runner};
use crate::choice::Dice;

pub(super) struct Pct {
    /// By thread. Those of threads that have lost theirs are below `depth`.
    priorities: Vec<u64>,
    /// At which decisions the priority of the highest is lost, each with what it becomes.
    changes: Vec<(u64, u64)>,
    decision: u64,
    depth: u64,
}

impl Pct {
    /// For runs of about `length` decisions.
    pub(super) fn new(depth: u8, length: u64, dice: &mut Dice) -> Pct {
        let changes = (1..u64::from(depth)).map(|priority| (dice.below(length), priority)).collect();
        Pct { priorities: Vec::new(), changes, decision: 0, depth: depth.into() }
    }

    fn highest(&self, runners: &[Runner]) -> usize {
        let priority = |place: &usize| self.priorities[runners[*place].thread];
        (0..runners.len()).max_by_key(priority).expect("there are at least two")
    }
}

impl Picker for Pct {
    fn born(&mut self, _thread: &Born, dice: &mut Dice) {
        self.priorities.push(self.depth + dice.below(1 << 40));
    }

    fn pick(&mut self, runners: &[Runner], _dice: &mut Dice) -> usize {
        for (at, priority) in &self.changes {
            if *at == self.decision {
                let falls = runners[self.highest(runners)].thread;
                self.priorities[falls] = *priority;
            }
        }
        self.decision += 1;
        self.highest(runners)
    }
}
