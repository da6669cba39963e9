//! Finds things in a vector by what they are: a table of places, at most half full, in which a search begins at a fingerprint and goes on
//! to the next place until it finds the thing or an empty one.
//!
//! It owns the places only; who asks has the vector, compares, and pushes to both. Nothing is ever removed, and no order comes out of it.

/// An empty place.
const NONE: u32 = u32::MAX;
/// Places of the first table.
const FIRST: usize = 32;

/// See the head of the file.
#[derive(Default)]
pub(crate) struct Index {
    /// Indices of the vector. Their number is a power of two.
    places: Vec<u32>,
    len: usize,
}

impl Index {
    /// The index of the thing with this fingerprint for which `is_it` holds.
    #[inline]
    pub(crate) fn find(&self, fingerprint: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let mut at = self.start(fingerprint);
        loop {
            match *self.places.get(at)? {
                NONE => return None,
                index if is_it(index as usize) => return Some(index as usize),
                _ => at = (at + 1) & (self.places.len() - 1),
            }
        }
    }

    /// The vector has one more thing at its end. `fingerprint_of` answers for every index of it.
    pub(crate) fn push(&mut self, fingerprint: u64, fingerprint_of: impl Fn(usize) -> u64) {
        if self.places.len() < 2 * (self.len + 1) {
            self.places = vec![NONE; (2 * self.places.len()).max(FIRST)];
            (0..self.len).for_each(|index| self.put(fingerprint_of(index), index));
        }
        self.put(fingerprint, self.len);
        self.len += 1;
    }

    fn put(&mut self, fingerprint: u64, index: usize) {
        let mut at = self.start(fingerprint);
        while self.places[at] != NONE {
            at = (at + 1) & (self.places.len() - 1);
        }
        self.places[at] = u32::try_from(index).expect("fewer than 2^32 things");
    }

    /// The high bits say where: a product's low ones are those of its factors.
    fn start(&self, fingerprint: u64) -> usize {
        ((u128::from(fingerprint) * self.places.len() as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::Index;

    #[test]
    fn all_are_found_and_no_others() {
        let things: Vec<u64> = (0..1_000).map(|n| n * n).collect();
        // Many have the same fingerprint.
        let fingerprint = |thing: u64| (thing % 7) << 61;
        let mut index = Index::default();
        for thing in &things {
            assert_eq!(index.find(fingerprint(*thing), |at| things[at] == *thing), None);
            index.push(fingerprint(*thing), |at| fingerprint(things[at]));
        }
        for (place, thing) in things.iter().enumerate() {
            assert_eq!(index.find(fingerprint(*thing), |at| things[at] == *thing), Some(place));
        }
        assert_eq!(index.find(fingerprint(2), |at| things[at] == 2), None);
    }
}
