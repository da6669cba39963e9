//! A stretch of bytes that were read and not yet taken, in memory borrowed from the machine's pool.
//!
//! An empty buffer holds no memory: it takes some when it is filled, and gives it back when the last byte is taken, so an
//! idle stream costs none. One that will have to wait with a few bytes in it (part of a record) moves them to a block of
//! about their size. The pool keeps a few blocks and counts what is out, so that readahead stops at its limit.

use std::cell::{Cell, RefCell};
use std::io::IoSliceMut;
use std::rc::Rc;

use crate::machine::{MachineLocal, current};

/// The pool of this machine.
pub(crate) static POOL: MachineLocal<Pool> = MachineLocal::new(Pool::new);

/// Blocks of one size that nobody uses, and how many bytes are in use.
#[derive(Default)]
pub(crate) struct Pool {
    blocks: RefCell<Vec<Box<[u8]>>>,
    /// The machine shows it.
    out: Rc<Cell<usize>>,
    /// How many unused blocks are kept.
    pub(crate) keep: Cell<usize>,
}

/// The size of the pool's blocks: a record of TLS as most peers fill it, 16 KiB and what is added, is had by one read, and made in one block.
const BLOCK: usize = 17 << 10;

/// The least block that is made for the rest of a record.
const LEAST: usize = 64;

impl Pool {
    fn new() -> Pool {
        let out = current::machine().expect("streams are made in machines").buffered.clone();
        Pool { out, ..Pool::default() }
    }

    /// Bytes that buffers hold now.
    pub(crate) fn out(&self) -> usize {
        self.out.get()
    }

    fn take(&self, size: usize) -> Box<[u8]> {
        self.out.set(self.out.get() + size);
        let pooled = if size == BLOCK { self.blocks.borrow_mut().pop() } else { None };
        pooled.unwrap_or_else(|| vec![0; size].into_boxed_slice())
    }

    fn give(&self, block: Box<[u8]>) {
        self.out.set(self.out.get() - block.len());
        let mut blocks = self.blocks.borrow_mut();
        if block.len() == BLOCK && blocks.len() < self.keep.get() {
            blocks.push(block);
        }
    }
}

/// How large a block for so many bytes is: those that are not small are the pool's, or larger.
fn size_for(count: usize) -> usize {
    let small = count.next_power_of_two();
    if small > BLOCK / 2 && count <= BLOCK { BLOCK } else { small }
}

/// See the head of the file.
pub(crate) struct Buffer {
    pool: Rc<Pool>,
    block: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(crate) fn new(pool: Rc<Pool>) -> Buffer {
        Buffer { pool, block: None, start: 0, end: 0 }
    }

    pub(crate) fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// The bytes that were not taken.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| &block[self.start..self.end])
    }

    /// The same, for whoever changes them in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.block.as_mut().map_or(&mut [], |block| &mut block[self.start..self.end])
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the first `count` bytes away.
    pub(crate) fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consume({count}) of {} bytes", self.len());
        self.start += count;
        self.give_back_if_empty();
    }

    /// Takes as many bytes as `target` holds.
    pub(crate) fn copy_to(&mut self, target: &mut [u8]) -> usize {
        let count = self.len().min(target.len());
        target[..count].copy_from_slice(&self.bytes()[..count]);
        self.consume(count);
        count
    }

    /// The same for several targets, in their order.
    pub(crate) fn copy_to_all(&mut self, targets: &mut [IoSliceMut<'_>]) -> usize {
        let mut count = 0;
        for target in targets {
            let part = self.len().saturating_sub(count).min(target.len());
            target[..part].copy_from_slice(&self.bytes()[count..count + part]);
            count += part;
        }
        self.consume(count);
        count
    }

    /// Moves all bytes to the end of `target`; returns how many.
    pub(crate) fn move_to(&mut self, target: &mut Buffer) -> usize {
        let count = self.len();
        if target.is_empty() {
            std::mem::swap(self, target);
        } else {
            target.extend(self.bytes());
            self.consume(count);
        }
        count
    }

    /// Moves up to `most` bytes to the end of `target`; returns how many.
    pub(crate) fn move_some(&mut self, target: &mut Buffer, most: usize) -> usize {
        if self.len() <= most {
            return self.move_to(target);
        }
        target.extend(&self.bytes()[..most]);
        self.consume(most);
        most
    }

    /// Lets `read` fill free room, at least one byte of it, and takes what it says it has read.
    pub(crate) fn fill<E>(&mut self, read: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<usize, E> {
        self.fill_room(if self.is_small() { BLOCK - self.len() } else { 1 }, read)
    }

    /// The same with room for at least `room` bytes.
    pub(crate) fn fill_room<E>(
        &mut self,
        room: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.make_room(room);
        let end = self.end;
        let block = self.block.as_mut().expect("make_room made some");
        let count = read(&mut block[end..]);
        match count {
            Ok(count) => {
                assert!(count <= block.len() - end, "a read of more than the room there was");
                self.end += count;
                self.give_back_if_empty();
            }
            Err(_) => self.fit(),
        }
        count
    }

    /// How many bytes more the next `fill` takes from the pool.
    pub(crate) fn next_block(&self) -> usize {
        match &self.block {
            None => BLOCK,
            Some(block) if block.len() < BLOCK => BLOCK - block.len(),
            Some(block) if self.len() == block.len() => size_for(block.len() + 1) - block.len(),
            Some(_) => 0,
        }
    }

    /// Appends bytes.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.make_room(bytes.len());
        let block = self.block.as_mut().expect("make_room made some");
        block[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Makes room for `count` more bytes: by moving to the front of the block, or to a block that fits.
    fn make_room(&mut self, count: usize) {
        let Some(block) = &mut self.block else {
            self.block = Some(self.pool.take(size_for(count).max(BLOCK)));
            return;
        };
        if block.len() - self.end >= count {
            return;
        }
        let len = self.end - self.start;
        if block.len() - len >= count {
            block.copy_within(self.start..self.end, 0);
        } else {
            let mut larger = self.pool.take(size_for(len + count));
            larger[..len].copy_from_slice(&block[self.start..self.end]);
            self.pool.give(std::mem::replace(block, larger));
        }
        (self.start, self.end) = (0, len);
    }

    fn is_small(&self) -> bool {
        self.block.as_ref().is_some_and(|block| block.len() < BLOCK)
    }

    /// Moves a few bytes in a large block to a small one: nothing more is to come soon.
    pub(crate) fn fit(&mut self) {
        let len = self.len();
        let small = len.next_power_of_two().max(LEAST);
        let Some(block) = &mut self.block else { return };
        if len > 0 && small <= block.len() / 8 {
            let mut fitting = self.pool.take(small);
            fitting[..len].copy_from_slice(&block[self.start..self.end]);
            self.pool.give(std::mem::replace(block, fitting));
            (self.start, self.end) = (0, len);
        }
        self.give_back_if_empty();
    }

    fn give_back_if_empty(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if let Some(block) = self.block.take() {
                self.pool.give(block);
            }
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.pool.give(block);
        }
    }
}
