//! Round robin with delays: each thread until it waits, and then the next in line; a few times one is put back.
//!
//! With so few switches that are not needed, what is found is short. ("Delay-bounded Scheduling", Emmi, Qadeer and
//! Rakamarić.) In one of two runs a thread also has only so many turns in a row.

use super::{Picker, Runner};
use crate::choice::Dice;

pub(super) struct Robin {
    /// At which decisions the first in line is put back.
    delays: Vec<u64>,
    decision: u64,
    /// How many turns one has in a row; `u64::MAX`: as many as it wants.
    most: u64,
    turns: u64,
    last: Option<usize>,
}

impl Robin {
    /// For runs of about `length` decisions.
    pub(super) fn new(delays: u8, length: u64, dice: &mut Dice) -> Robin {
        let most = if dice.below(2) == 0 { u64::MAX } else { 1 << dice.below(6) };
        let delays = (0..delays).map(|_| dice.below(length)).collect();
        Robin { delays, decision: 0, most, turns: 0, last: None }
    }
}

impl Picker for Robin {
    fn pick(&mut self, runners: &[Runner], _dice: &mut Dice) -> usize {
        let put_back = self.delays.iter().filter(|delay| **delay == self.decision).count();
        self.decision += 1;
        let tired = self.last == Some(runners[0].thread) && self.turns >= self.most;
        let place = (put_back + usize::from(tired)) % runners.len();
        let thread = runners[place].thread;
        self.turns = if self.last == Some(thread) { self.turns + 1 } else { 1 };
        self.last = Some(thread);
        place
    }
}
