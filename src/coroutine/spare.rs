//! Slabs that pools leave to each other: for machines that come and go on one OS thread, as simulated ones do.
//!
//! A pool that ends, and none of whose stacks is live, leaves its slabs here; one that grows looks here first. To map a slab, to
//! make its guards and to touch its first pages is half of what a short machine costs.

use std::cell::RefCell;
use std::fmt;

use super::slab::{Layout, Slab};

/// How many are kept: what was touched in them stays resident.
const MOST: usize = 64;

/// See the head of the file.
#[derive(Default)]
pub struct Spares(RefCell<Vec<Slab>>);

impl Spares {
    /// A slab just like that, the one left last: its pages are in the cache.
    pub(super) fn take(&self, layout: Layout, slots: usize, first: u32) -> Option<Slab> {
        let mut spares = self.0.borrow_mut();
        let place = spares.iter().rposition(|slab| slab.is(layout, slots, first))?;
        Some(spares.remove(place))
    }

    /// Keeps a slab on which nothing stands any more, if there is room.
    pub(super) fn keep(&self, slab: Slab) {
        let mut spares = self.0.borrow_mut();
        if spares.len() < MOST {
            spares.push(slab);
        }
    }
}

impl fmt::Debug for Spares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spares({})", self.0.borrow().len())
    }
}
