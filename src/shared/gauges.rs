//! Numbers that one thread keeps and any may read: each is one that was true at some time, and no two need be of the same time.

use super::primitive::{AtomicU64, Ordering};

/// So many numbers. See the head of the file.
#[derive(Debug)]
pub struct Gauges<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Gauges<N> {
    fn default() -> Gauges<N> {
        Gauges(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl<const N: usize> Gauges<N> {
    /// Shows what a number is now. By the one thread that keeps them.
    #[inline]
    pub fn set(&self, values: [u64; N]) {
        // Relaxed: nothing is reached through these numbers.
        self.0.iter().zip(values).for_each(|(gauge, value)| gauge.store(value, Ordering::Relaxed));
    }

    /// Shows what one of them is now. As above.
    #[inline]
    pub fn set_one(&self, place: usize, value: u64) {
        // Relaxed: as above.
        self.0[place].store(value, Ordering::Relaxed);
    }

    /// What they were.
    pub fn get(&self) -> [u64; N] {
        // Relaxed: as above.
        self.0.each_ref().map(|gauge| gauge.load(Ordering::Relaxed))
    }
}
