//! How long things took, counted by powers of two: one thread adds, and any may read.
//!
//! Place 0 counts what took at most 128 nanoseconds, each further place up to twice as long as the one before, and the last all
//! that took longer: from 128 ns to 137 s, within a factor of two. To add is two additions, without a lock.

use super::primitive::{AtomicU64, Ordering};

/// How many places there are.
pub const PLACES: usize = 32;

/// What the first place counts up to, in nanoseconds.
const LEAST: u64 = 128;

/// See the head of the file.
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; PLACES],
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }
}

/// What a place counts up to, in nanoseconds; nothing for the last one.
pub fn bound(place: usize) -> Option<u64> {
    (place + 1 < PLACES).then(|| LEAST << place)
}

fn place_of(nanos: u64) -> usize {
    let doublings = nanos.div_ceil(LEAST).max(1).next_power_of_two().trailing_zeros();
    (doublings as usize).min(PLACES - 1)
}

impl Histogram {
    /// One more thing that took so long. By the one thread that adds.
    #[inline]
    pub fn add(&self, nanos: u64) {
        for (counter, more) in [(&self.counts[place_of(nanos)], 1), (&self.sum, nanos)] {
            // Relaxed: nothing is reached through these numbers. Nobody else writes, so nothing comes between.
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        }
    }

    /// How many there were in each place, and how long all took together. A thing that is being added may be in one and not yet in
    /// the other.
    pub fn get(&self) -> ([u64; PLACES], u64) {
        // Relaxed: as above.
        let counts = self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        (counts, self.sum.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_counts_up_to_its_bound() {
        for place in 0..PLACES {
            let greatest = bound(place).unwrap_or(u64::MAX);
            assert_eq!(place_of(greatest), place);
            if place + 1 < PLACES {
                assert_eq!(place_of(greatest + 1), place + 1);
            }
        }
        assert_eq!(place_of(0), 0);
    }
}
