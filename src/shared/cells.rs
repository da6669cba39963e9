//! A machine's park cells by slot number, in memory that stays where it is.
//!
//! Chunk `k` holds `64 << k` cells; it is made when first needed, and neither moved nor freed before the table is.
//! A remote waker keeps the table by an `Arc` and reads while the machine grows it; a cell is never reset, not even when its
//! slot's next coroutine comes or the machine has ended, so a late waker always finds the word that tells it so.
//!
//! ```text
//! chunks: [0] -> 64 cells   [1] -> 128 cells   [2] -> 256 cells   [3] null ...
//! slot:       0..64             64..192            192..448
//! ```

use std::ptr;

use super::park::Cell;
use super::primitive::{AtomicPtr, Ordering, point};

/// The table. See the head of the file.
pub struct Cells {
    chunks: [AtomicPtr<Cell>; CHUNKS],
}

/// Cells in the first chunk: one page's worth of eight-byte cells would be 512, but most machines of a simulation are small.
const FIRST: u64 = 64;
/// Enough for every `u32`: (2^27 - 1) * 64 > 2^32.
const CHUNKS: usize = 27;

impl Default for Cells {
    fn default() -> Cells {
        Cells::new()
    }
}

impl Cells {
    /// An empty table.
    pub fn new() -> Cells {
        Cells { chunks: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())) }
    }

    /// The cell of `slot`.
    ///
    /// # Panics
    /// If `ensure` was not called for it.
    #[inline]
    pub fn get(&self, slot: u32) -> &Cell {
        match self.find(slot) {
            Some(cell) => cell,
            None => panic!("slot {slot} has no cell"),
        }
    }

    /// The cell of `slot`, if this thread can know that it was made: it does if it was told of the slot in order.
    #[inline]
    pub fn find(&self, slot: u32) -> Option<&Cell> {
        let (chunk, place) = position(slot);
        // Acquire, for the Release of `ensure`: the cells are made before they are seen.
        let cells = self.chunks[chunk].load(Ordering::Acquire);
        if cells.is_null() {
            return None;
        }
        // SAFETY: a chunk that is there holds `length(chunk)` cells, `place` is below that, and it stays while `self` does.
        Some(unsafe { &*cells.add(place) })
    }

    /// Makes the cells up to `slot`'s, if they are not there. By the owner, before anybody is told of the slot.
    pub fn ensure(&self, slot: u32) {
        for chunk in 0..=position(slot).0 {
            // Relaxed: only whether it is there.
            if self.chunks[chunk].load(Ordering::Relaxed).is_null() {
                self.install(chunk);
            }
        }
    }

    #[cold]
    fn install(&self, chunk: usize) {
        let cells: Box<[Cell]> = (0..length(chunk)).map(|_| Cell::new()).collect();
        let cells = Box::into_raw(cells).cast::<Cell>();
        point();
        // Release: the cells before the pointer to them. An exchange, so that two callers by mistake lose nothing.
        let installed =
            self.chunks[chunk].compare_exchange(ptr::null_mut(), cells, Ordering::Release, Ordering::Relaxed);
        if installed.is_err() {
            // SAFETY: made above, and shown to nobody.
            unsafe { free(cells, chunk) };
        }
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        for (chunk, cells) in self.chunks.iter().enumerate() {
            // Relaxed: whoever gave up its reference to the table did so before (`Arc`, or `&mut`).
            let cells = cells.load(Ordering::Relaxed);
            if !cells.is_null() {
                // SAFETY: `install` made it for this chunk, and nobody has the table any more.
                unsafe { free(cells, chunk) };
            }
        }
    }
}

/// # Safety
/// `cells` came from a box of `length(chunk)` cells, and nobody uses it.
unsafe fn free(cells: *mut Cell, chunk: usize) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(cells, length(chunk))) });
}

/// The chunk that holds a slot's cell, and its place there.
#[inline(always)]
fn position(slot: u32) -> (usize, usize) {
    let number = u64::from(slot) + FIRST;
    let chunk = number.ilog2() - FIRST.ilog2();
    (chunk as usize, (number - (FIRST << chunk)) as usize)
}

fn length(chunk: usize) -> usize {
    (FIRST << chunk) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_fill_the_chunks_without_gaps() {
        let mut expected = (0, 0);
        for slot in 0..10_000 {
            assert_eq!(position(slot), expected, "slot {slot}");
            expected.1 += 1;
            if expected.1 == length(expected.0) {
                expected = (expected.0 + 1, 0);
            }
        }
        let (chunk, place) = position(u32::MAX);
        assert!(chunk < CHUNKS && place < length(chunk));
    }

    #[test]
    fn a_cell_stays_where_it_is() {
        let cells = Cells::new();
        cells.ensure(0);
        let first: *const Cell = cells.get(0);
        let ticket = cells.get(63).open();
        cells.ensure(5_000);
        assert!(ptr::eq(first, cells.get(0)));
        assert!(cells.get(63).claim(ticket).won());
        assert!(!cells.get(5_000).claim(ticket).won());
    }

    #[test]
    #[should_panic(expected = "slot 64 has no cell")]
    fn a_slot_that_was_never_made_is_refused() {
        let cells = Cells::new();
        cells.ensure(63);
        cells.get(64);
    }
}
