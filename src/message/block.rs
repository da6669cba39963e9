//! The memory of one message: a block of the machine on which it was made, to which it goes back from wherever it is dropped.
//!
//! Where there is no machine it is plain memory, and so is one whose machine has ended by then.

use std::sync::Arc;

use crate::machine::current;
use crate::shared::store::Store;

/// Memory that one message, or its builder, has alone. Empty: none.
#[derive(Default)]
pub(super) struct Block {
    pub(super) bytes: Box<[u8]>,
    home: Option<Arc<Store>>,
}

impl Block {
    /// One of `size` bytes at least.
    pub(super) fn new(size: usize) -> Block {
        if size == 0 {
            return Block::default();
        }
        match current::machine() {
            Some(machine) => {
                let home = machine.shared.messages.clone();
                Block { bytes: home.take(size), home: Some(home) }
            }
            None => Block { bytes: vec![0; size].into_boxed_slice(), home: None },
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.give(std::mem::take(&mut self.bytes));
        }
    }
}
