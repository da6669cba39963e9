//! Partial order sampling: every call has a priority of its own, and the highest is made first.
//!
//! After a call, those that race with it get new priorities. ("Partial Order Aware Concurrency Sampling", Yuan, Yang and Gu.) Two
//! calls of a process race here if they are of the same kind, and points only one time in two: a point does not say what it is about.
//! If all points raced this would be a walk without weights, and if none did the paper's basic form.

use super::{Born, Kind, Picker, Runner};
use crate::choice::Dice;

#[derive(Default)]
pub(super) struct Pos {
    /// Of each thread's next call.
    priorities: Vec<u64>,
}

impl Picker for Pos {
    fn born(&mut self, _thread: &Born, dice: &mut Dice) {
        self.priorities.push(dice.number());
    }

    fn pick(&mut self, runners: &[Runner], dice: &mut Dice) -> usize {
        let priority = |place: &usize| self.priorities[runners[*place].thread];
        let place = (0..runners.len()).max_by_key(priority).expect("there are at least two");
        let made = runners[place];
        for runner in runners {
            if runner.thread == made.thread || races(*runner, made, dice) {
                self.priorities[runner.thread] = dice.number();
            }
        }
        place
    }
}

fn races(a: Runner, b: Runner, dice: &mut Dice) -> bool {
    let alike = a.process == b.process && a.kind == b.kind;
    alike && (a.kind != Kind::Point || dice.below(2) == 0)
}
