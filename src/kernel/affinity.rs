//! A set of processors, as `sched_setaffinity(2)` takes it.
//!
//! It holds up to 8,192 of them, the most that Linux can be built for.

use std::fmt;

const WORDS: usize = 128;

/// Processors by number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CpuSet([u64; WORDS]);

impl CpuSet {
    /// How many a set can hold: numbers are below this.
    pub const CAPACITY: usize = WORDS * 64;

    /// No processor.
    pub const EMPTY: CpuSet = CpuSet([0; WORDS]);

    /// This set and processor `cpu`; one that no set can hold is left out.
    #[must_use]
    pub const fn with(mut self, cpu: usize) -> CpuSet {
        if cpu < CpuSet::CAPACITY {
            self.0[cpu / 64] |= 1 << (cpu % 64);
        }
        self
    }

    /// Whether `cpu` is in it.
    pub const fn contains(&self, cpu: usize) -> bool {
        cpu < CpuSet::CAPACITY && self.0[cpu / 64] & 1 << (cpu % 64) != 0
    }

    /// What both have.
    #[must_use]
    pub fn common(&self, other: &CpuSet) -> CpuSet {
        CpuSet(std::array::from_fn(|place| self.0[place] & other.0[place]))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers, in their order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..CpuSet::CAPACITY).filter(|cpu| self.contains(*cpu))
    }

    /// The words of the mask, lowest first.
    pub(super) fn words(&self) -> &[u64; WORDS] {
        &self.0
    }

    /// The words of the mask, to be written.
    pub(super) fn words_mut(&mut self) -> &mut [u64; WORDS] {
        &mut self.0
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> CpuSet {
        cpus.into_iter().fold(CpuSet::EMPTY, CpuSet::with)
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_no_number_beyond() {
        let set: CpuSet = [0, 63, 64, 8_191, 8_192].into_iter().collect();
        assert!(set.iter().eq([0, 63, 64, 8_191]) && set.len() == 4);
        assert_eq!(set.common(&CpuSet::EMPTY.with(64).with(65)), CpuSet::EMPTY.with(64));
        assert!(!set.contains(8_192) && !set.contains(usize::MAX) && CpuSet::EMPTY.is_empty());
    }
}
