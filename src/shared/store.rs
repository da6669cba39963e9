//! Blocks of memory that nobody uses, kept by the machine for whose messages they were made; any thread gives them back.
//!
//! | store | means | left by |
//! |---|---|---|
//! | closed | its machine has not begun, or has ended: what is given back is freed by whoever gives it | `open` -> open |
//! | open | what is given back is kept, up to a watermark of bytes, if it is of a size that is kept | `close` -> closed, and what was kept is freed |
//!
//! Sizes are doubled from the least to the greatest; what is longer than that is made as long as it is to be, and never kept. Blocks
//! are initialised when they are made and hold afterwards what was last written: whoever takes one shows no more of it than he has
//! written. Memory is got and given back outside of the lock.

use super::lock::Lock;

/// See the head of the file.
#[derive(Default)]
pub struct Store(Lock<Shelves>);

/// What a store keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The least size of a block, in bytes.
    pub least: usize,
    /// The greatest size of a block that is kept.
    pub greatest: usize,
    /// How many bytes are kept, at most.
    pub watermark: usize,
}

/// What became of the buffers of a machine's messages, whichever thread used them: `allocated = freed + cached + (taken - returned)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Buffers that were taken, for messages that were made on this machine.
    pub taken: u64,
    /// Of these, those for which memory was allocated: none of their size was kept.
    pub allocated: u64,
    /// Buffers that came back from messages, on whichever thread. The others are in use.
    pub returned: u64,
    /// Buffers whose memory was freed: above the watermark, or of a size that is not kept.
    pub freed: u64,
    /// Buffers that are kept, unused.
    pub cached: u64,
    /// Bytes of these.
    pub cached_bytes: u64,
    /// Bytes of the buffers that are in use.
    pub used_bytes: u64,
}

/// The next one, or the last.
fn power_of_two(size: usize) -> usize {
    size.checked_next_power_of_two().unwrap_or(1 << (usize::BITS - 1))
}

#[derive(Default)]
struct Shelves {
    /// `None`: closed.
    limits: Option<Limits>,
    /// By size, the least first.
    kept: Vec<Vec<Box<[u8]>>>,
    counts: Counts,
}

impl Store {
    /// Keeps from now on what is given back. Sizes are made powers of two.
    pub fn open(&self, limits: Limits) {
        let Limits { least, greatest, watermark } = limits;
        let [least, greatest] = [least, greatest].map(power_of_two);
        let greatest = if least > greatest { 0 } else { greatest };
        let shelves = (greatest / least).checked_ilog2().map_or(0, |last| last + 1);
        self.0.with(|inside| {
            inside.limits = Some(Limits { least, greatest, watermark });
            inside.kept.resize_with(shelves as usize, Vec::new);
        });
    }

    /// A block of `size` bytes at least, which is not 0.
    pub fn take(&self, size: usize) -> Box<[u8]> {
        let (size, kept) = self.0.with(|inside| inside.take(size));
        kept.unwrap_or_else(|| vec![0; size].into_boxed_slice())
    }

    /// Gives back what `take` gave.
    pub fn give(&self, block: Box<[u8]>) {
        let rest = self.0.with(|inside| inside.give(block));
        drop(rest);
    }

    /// Frees what is kept, and keeps nothing from now on.
    pub fn close(&self) {
        let kept = self.0.with(|inside| {
            inside.limits = None;
            inside.counts.freed += inside.counts.cached;
            (inside.counts.cached, inside.counts.cached_bytes) = (0, 0);
            std::mem::take(&mut inside.kept)
        });
        drop(kept);
    }

    /// What was counted until now.
    pub fn counts(&self) -> Counts {
        self.0.with(|inside| inside.counts)
    }
}

impl Shelves {
    /// The size of the block, and the block if one is kept.
    fn take(&mut self, size: usize) -> (usize, Option<Box<[u8]>>) {
        let size = match self.limits {
            Some(Limits { least, greatest, .. }) if size <= greatest => size.next_power_of_two().max(least),
            _ => size,
        };
        let kept = self.shelf(size).and_then(Vec::pop);
        let bytes = size as u64;
        self.counts.taken += 1;
        self.counts.used_bytes += bytes;
        if kept.is_some() {
            self.counts.cached -= 1;
            self.counts.cached_bytes -= bytes;
        } else {
            self.counts.allocated += 1;
        }
        (size, kept)
    }

    /// The block again if it is not kept.
    fn give(&mut self, block: Box<[u8]>) -> Option<Box<[u8]>> {
        let bytes = block.len() as u64;
        self.counts.returned += 1;
        self.counts.used_bytes -= bytes;
        let watermark = self.limits.map_or(0, |limits| limits.watermark as u64);
        let fits = self.counts.cached_bytes + bytes <= watermark;
        match self.shelf(block.len()) {
            Some(shelf) if fits => {
                shelf.push(block);
                self.counts.cached += 1;
                self.counts.cached_bytes += bytes;
                None
            }
            _ => {
                self.counts.freed += 1;
                Some(block)
            }
        }
    }

    /// Where blocks of this size are kept, if they are.
    fn shelf(&mut self, size: usize) -> Option<&mut Vec<Box<[u8]>>> {
        let Limits { least, .. } = self.limits?;
        if size < least || !size.is_power_of_two() {
            return None;
        }
        self.kept.get_mut((size / least).ilog2() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(least: usize, greatest: usize, watermark: usize) -> Store {
        let store = Store::default();
        store.open(Limits { least, greatest, watermark });
        store
    }

    #[test]
    fn a_size_is_the_next_of_those_that_are_kept() {
        let store = open(100, 1000, 1 << 20);
        for (asked, got) in [(1, 128), (128, 128), (129, 256), (1000, 1024), (1024, 1024), (1025, 1025)] {
            let block = store.take(asked);
            assert_eq!(block.len(), got);
            store.give(block);
        }
        let Counts { cached, cached_bytes, allocated, freed, .. } = store.counts();
        assert_eq!((cached, cached_bytes, allocated, freed), (3, 128 + 256 + 1024, 4, 1));
    }

    #[test]
    fn what_is_above_the_watermark_is_freed() {
        let store = open(64, 64, 130);
        let blocks: Vec<_> = (0..3).map(|_| store.take(64)).collect();
        assert_eq!(store.counts().used_bytes, 192);
        blocks.into_iter().for_each(|block| store.give(block));
        let Counts { returned, cached, freed, used_bytes, .. } = store.counts();
        assert_eq!((returned, cached, freed, used_bytes), (3, 2, 1, 0));
    }

    #[test]
    fn limits_without_sense_keep_nothing() {
        for store in [
            open(0, 0, 0),
            open(64, 8, 1000),
            open(1, usize::MAX, 0),
            open(usize::MAX, 64, 9),
            Store::default(),
        ] {
            for size in [1, 100, 5000] {
                let block = store.take(size);
                assert!(block.len() >= size);
                store.give(block);
            }
            let Counts { taken, freed, cached, .. } = store.counts();
            assert_eq!((taken, freed, cached), (3, 3, 0));
        }
    }

    #[test]
    fn a_store_that_is_closed_keeps_nothing_and_one_that_opens_again_does() {
        let store = open(8, 8, 100);
        let (kept, late) = (store.take(8), store.take(8));
        store.give(kept);
        store.close();
        store.give(late);
        let Counts { allocated, freed, cached, cached_bytes, .. } = store.counts();
        assert_eq!((allocated, freed, cached, cached_bytes), (2, 2, 0, 0));
        store.open(Limits { least: 8, greatest: 8, watermark: 100 });
        store.give(store.take(8));
        assert_eq!(store.counts().cached, 1);
    }
}
