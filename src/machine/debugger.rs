//! What a debugger must know to find the coroutines of a process that it has stopped, or of its core: where the list of slabs
//! begins, and where the fields are that it is to read there. `src/inspect/gdb.py` reads this table, and works without debug information.
//!
//! Nothing here runs but the making of a label. The symbol is found by its name, so a program must not be stripped of its symbols.

use std::sync::Arc;

use super::task;
use super::wakeup::Shared;
use crate::coroutine::{self, Head};

/// The script has the same, and refuses another.
const VERSION: usize = 1;

/// See the head of the file. Every field is one word.
#[repr(C)]
struct Table {
    version: usize,
    slabs: &'static Head,
    /// Where a coroutine goes on that has not begun.
    begin: coroutine::Base,
    entry: [usize; 5],
    header: [usize; 6],
    control: [usize; 5],
    control_size: usize,
}

#[used]
static TABLE: Table = Table {
    version: VERSION,
    slabs: &coroutine::HEAD,
    begin: coroutine::base,
    entry: coroutine::ENTRY_OFFSETS,
    header: coroutine::HEADER_OFFSETS,
    control: task::OFFSETS,
    control_size: size_of::<task::Control>(),
};

/// Whose coroutines these are: what the slabs of a machine point to.
#[repr(C)]
pub(super) struct Label {
    number: u64,
    name: *const u8,
    length: usize,
    /// The text stays as long as it.
    _machine: Arc<Shared>,
}

impl Label {
    pub(super) fn of(machine: &Arc<Shared>) -> Box<Label> {
        let (number, name, length) = (machine.number, machine.name.as_ptr(), machine.name.len());
        Box::new(Label { number, name, length, _machine: machine.clone() })
    }

    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}
