//! Walks for which every order of the threads' calls is about as likely as any other.
//!
//! A thread goes on as likely as it has calls left, among all that are left; a thread that has not made its children yet has
//! theirs as well. How many there will be is known from the rehearsal; where there was none, each thread gets a speed by chance.
//!
//! The selective walk does that for the calls of some kinds. The thread that makes the next of these is drawn before, and all
//! others wait in front of theirs, while calls of other kinds come in any order. So the order of a few calls that matter does
//! not depend on how many others lie between them. ("Selectively Uniform Concurrency Testing", Zhao, Wolff, Mathur and Roychoudhury.)

use std::sync::Arc;

use super::{Born, Kind, Part, Picker, Rehearsal, Runner};
use crate::choice::Dice;

type Kinds = [bool; Kind::ALL.len()];

pub(super) struct Walk {
    rehearsal: Option<Arc<Rehearsal>>,
    /// Which calls count.
    kinds: Kinds,
    /// By thread: how many calls it is expected to make, those of children that it has not made yet among them.
    left: Vec<u64>,
}

impl Walk {
    pub(super) fn new(rehearsal: Option<Arc<Rehearsal>>, kinds: Kinds) -> Walk {
        Walk { rehearsal, kinds, left: Vec::new() }
    }

    /// One of these, as likely as it has calls left; one that has none left is wrong about that, and counts as if it had one.
    fn draw(&self, runners: &[Runner], dice: &mut Dice) -> usize {
        let weight = |runner: &Runner| self.left[runner.thread].max(1);
        let mut rest = dice.below(runners.iter().map(weight).sum());
        for (place, runner) in runners.iter().enumerate() {
            match rest.checked_sub(weight(runner)) {
                Some(less) => rest = less,
                None => return place,
            }
        }
        unreachable!("what was drawn is less than the sum")
    }
}

impl Picker for Walk {
    fn born(&mut self, thread: &Born, dice: &mut Dice) {
        let known = self.rehearsal.as_ref().and_then(|known| known.weight(thread.identity, &self.kinds));
        let guess = |dice: &mut Dice| if thread.process.is_some() { 1 << dice.below(10) } else { 0 };
        let left = known.unwrap_or_else(|| guess(dice));
        if let Some(parent) = thread.parent
            && known.is_some()
        {
            self.left[parent] = self.left[parent].saturating_sub(left);
        }
        self.left.push(left);
    }

    fn goes_on(&mut self, thread: usize, kind: Kind) {
        if self.kinds[kind as usize] && self.rehearsal.is_some() {
            self.left[thread] = self.left[thread].saturating_sub(1);
        }
    }

    fn pick(&mut self, runners: &[Runner], dice: &mut Dice) -> usize {
        self.draw(runners, dice)
    }
}

pub(super) struct Selective {
    walk: Walk,
    /// Who makes the next call that counts.
    next: Option<usize>,
}

impl Selective {
    /// With some of the kinds that the rehearsal knows.
    pub(super) fn new(rehearsal: Option<Arc<Rehearsal>>, dice: &mut Dice) -> Selective {
        let there = |kind: usize| {
            let made = |part: &Part| part.calls[kind] > 0;
            rehearsal.as_ref().is_none_or(|rehearsal| rehearsal.threads.values().any(made))
        };
        let there: Vec<usize> = (0..Kind::ALL.len()).filter(|kind| there(*kind)).collect();
        let mut kinds = [false; Kind::ALL.len()];
        let mask = 1 + dice.below((1 << there.len()) - 1);
        there.iter().enumerate().for_each(|(bit, kind)| kinds[*kind] = mask >> bit & 1 == 1);
        Selective { walk: Walk::new(rehearsal, kinds), next: None }
    }

    /// Who is next among all threads that have such calls left.
    fn aim(&self, dice: &mut Dice) -> Option<usize> {
        let mut rest = dice.below(self.walk.left.iter().sum::<u64>().max(1));
        self.walk.left.iter().position(|left| match rest.checked_sub(*left) {
            Some(less) => {
                rest = less;
                false
            }
            None => true,
        })
    }
}

impl Picker for Selective {
    fn born(&mut self, thread: &Born, dice: &mut Dice) {
        self.walk.born(thread, dice);
    }

    fn goes_on(&mut self, thread: usize, kind: Kind) {
        self.walk.goes_on(thread, kind);
        if self.walk.kinds[kind as usize] && self.next == Some(thread) {
            self.next = None;
        }
    }

    fn pick(&mut self, runners: &[Runner], dice: &mut Dice) -> usize {
        if self.next.is_none() {
            self.next = self.aim(dice);
        }
        let counts = |runner: &Runner| self.walk.kinds[runner.kind as usize];
        let free = |runner: &Runner| !counts(runner) || Some(runner.thread) == self.next;
        let count = runners.iter().filter(|runner| free(runner)).count() as u64;
        if count == 0 {
            // Whoever was to be next waits for one of these.
            let place = self.walk.draw(runners, dice);
            self.next = Some(runners[place].thread);
            return place;
        }
        let which = dice.below(count) as usize;
        let mut places = (0..runners.len()).filter(|place| free(&runners[*place]));
        places.nth(which).expect("fewer than there are")
    }
}
