//! Every order of a tiny program, one in each seed: the seed itself says what is decided.
//!
//! So a seed means the same in any process and needs no other run before it, and hunts on many threads need not talk. Seeds
//! count from 1. Two ways to read one as decisions:
//!
//! - [`Digits`]: a number whose digits are the answers, the first decision's the lowest; each digit's base is how many there were
//!   to choose from.
//! - [`Delays`]: the place of a multiset of `most` numbers in the order in which the greatest grows slowest, where 0 is no delay and n a delay at
//!   the n-th decision.
//!
//! Both are complete after the greatest [`needed`](super::Picker::needed) of the runs until then. Suppose that an order is
//! left. Take back the last of its decisions that is not boring: what is then decided was run before (else take back one more), and
//! that run got as far as the decision and counted all its answers, so this order's number is below what it needed.

use super::{Picker, Runner};
use crate::choice::Dice;

pub(super) struct Digits {
    rest: u64,
    /// Of all bases until now.
    product: u64,
}

impl Digits {
    pub(super) fn new(seed: u64) -> Digits {
        Digits { rest: seed.saturating_sub(1), product: 1 }
    }
}

impl Picker for Digits {
    fn pick(&mut self, runners: &[Runner], _dice: &mut Dice) -> usize {
        let base = runners.len() as u64;
        let digit = self.rest % base;
        self.rest /= base;
        self.product = self.product.saturating_mul(base);
        digit as usize
    }

    fn needed(&self) -> Option<u64> {
        Some(self.product)
    }
}

pub(super) struct Delays {
    /// At which decisions the first in line is put back, from 1.
    places: Vec<u64>,
    decision: u64,
    most: u64,
}

impl Delays {
    pub(super) fn new(most: u8, seed: u64) -> Delays {
        let mut rank = seed.saturating_sub(1);
        let mut places = Vec::new();
        for size in (1..=u64::from(most)).rev() {
            let item = greatest(|item| choose(item, size) <= rank);
            rank -= choose(item, size);
            places.push(item - (size - 1));
        }
        Delays { places, decision: 0, most: most.into() }
    }
}

impl Picker for Delays {
    fn pick(&mut self, runners: &[Runner], _dice: &mut Dice) -> usize {
        self.decision += 1;
        self.places.iter().filter(|place| **place == self.decision).count() % runners.len()
    }

    fn needed(&self) -> Option<u64> {
        Some(choose(self.decision + self.most, self.most))
    }
}

/// The greatest number that is `small`, as all below it are.
fn greatest(small: impl Fn(u64) -> bool) -> u64 {
    let mut bit = 1 << 63;
    let mut number = 0;
    while bit > 0 {
        if small(number | bit) {
            number |= bit;
        }
        bit >>= 1;
    }
    number
}

/// How many sets of `size` there are of `of` things; `u64::MAX` if that is more.
fn choose(of: u64, size: u64) -> u64 {
    if size > of {
        return 0;
    }
    let mut sets: u128 = 1;
    for item in 0..u128::from(size) {
        sets = sets.saturating_mul(u128::from(of) - item) / (item + 1);
    }
    u64::try_from(sets).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::choice::Dice;
    use crate::strategy::Kind;

    fn decide(picker: &mut dyn Picker, among: usize) -> usize {
        let runner = |thread| Runner { thread, process: None, kind: Kind::Point };
        picker.pick(&(0..among).map(runner).collect::<Vec<_>>(), &mut Dice::new(1))
    }

    /// A program whose first answer decides what is asked next; two more decisions in the longest case.
    fn run(picker: &mut dyn Picker) -> Vec<usize> {
        let first = decide(picker, 3);
        let mut answers = vec![first];
        (0..first).for_each(|_| answers.push(decide(picker, 2)));
        answers
    }

    fn complete(picker: impl Fn(u64) -> Box<dyn Picker>) -> (BTreeSet<Vec<usize>>, u64) {
        let (mut seen, mut needed, mut seed) = (BTreeSet::new(), 1, 0);
        while seed < needed {
            seed += 1;
            let mut picker = picker(seed);
            seen.insert(run(&mut *picker));
            needed = needed.max(picker.needed().unwrap());
        }
        (seen, seed)
    }

    #[test]
    fn every_order_is_tried_when_it_says_so() {
        let (seen, seeds) = complete(|seed| Box::new(Digits::new(seed)));
        assert_eq!((seen.len(), seeds), (1 + 2 + 4, 12));
    }

    #[test]
    fn every_order_with_few_delays_is_tried_when_it_says_so() {
        let (one, seeds) = complete(|seed| Box::new(Delays::new(1, seed)));
        assert_eq!((one.len(), seeds), (2, 3), "not the answers that are two delays away");
        let (all, _) = complete(|seed| Box::new(Delays::new(4, seed)));
        assert_eq!(all.len(), 7);
    }

    #[test]
    fn delays_are_numbered_without_a_gap() {
        let places = |seed| Delays::new(2, seed).places;
        let expected = [[0, 0], [1, 0], [1, 1], [2, 0], [2, 1], [2, 2], [3, 0]];
        assert_eq!((1..=7).map(places).collect::<Vec<_>>(), expected);
    }
}
