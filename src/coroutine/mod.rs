//! Stacks and the switch between them: the bottom of every coroutine. Knows nothing of machines, waiting or io.
//!
//! | file | what it owns |
//! |---|---|
//! | `arch` | what a processor needs to suspend one flow of control and to continue another |
//! | `stack` | pools of stacks: allocation, reuse, trimming, limits |
//! | `slab` | the mappings behind a pool, where things lie in a slot, guards |
//! | `lent` | a second stack for a flow of control that has one |
//! | `registry` | all slabs of the OS process, for a signal handler and for debuggers |
//! | `sanitize` | what sanitizers and valgrind are told, with the feature of that name |
//! | `overflow` | the handler that reports a stack that was too small |
//!
//! Who runs when is decided above: by a machine's scheduler, and by the world of a simulation, whose threads are
//! coroutines of this kind too. Everything here is for one OS thread, except the registry and the handler.

#[cfg_attr(feature = "sanitize", allow(unreachable_pub, reason = "`sanitize` stands before it"))]
mod arch;
mod lent;
pub mod overflow;
mod registry;
#[cfg(feature = "sanitize")]
mod sanitize;
mod slab;
mod spare;
mod stack;

use std::mem::offset_of;

pub(crate) use arch::{Base, base};
pub use arch::{Context, prefetch};
#[cfg(not(feature = "sanitize"))]
pub use arch::{leave, prepare, switch};
pub use lent::Lent;
pub(crate) use registry::{HEAD, Head, OFFSETS as ENTRY_OFFSETS};
#[cfg(feature = "sanitize")]
pub use sanitize::{leave, prepare, switch};
pub(crate) use slab::page;
pub use spare::Spares;
pub use stack::{Guards, Stack, StackError, StackOptions, Stacks};

/// How many bytes of a coroutine's name are kept: 67, as a rule.
pub const NAME_MAX: usize = 99 - size_of::<Context>();

/// The first bytes of every control block, at the top of its stack. All zero (a trimmed slot) is a valid value.
///
/// The first line holds what a switch touches. The name fills the second: it is there for reports, of an overflow too,
/// which cannot allocate.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Header {
    /// The registers of the coroutine while it does not run.
    pub context: Context,
    /// The lowest address of the stack. The guard is below it.
    pub low: usize,
    /// The end of the stack and of the control block above it.
    pub high: usize,
    /// The coroutine's number, given by whoever runs it; 0 is none.
    pub id: u64,
    /// The number of the slot in its pool, from 0.
    pub index: u32,
    name_len: u8,
    name: [u8; NAME_MAX],
}

/// Where its fields are, for a debugger: `context`, `low`, `high`, `id`, `name_len`, `name`.
pub(crate) const HEADER_OFFSETS: [usize; 6] = [
    offset_of!(Header, context),
    offset_of!(Header, low),
    offset_of!(Header, high),
    offset_of!(Header, id),
    offset_of!(Header, name_len),
    offset_of!(Header, name),
];

impl Header {
    /// Names the coroutine. What is longer than [`NAME_MAX`] bytes is cut where a character begins.
    #[inline]
    pub fn set_name(&mut self, name: &str) {
        let len = name.floor_char_boundary(NAME_MAX);
        self.name[..len].copy_from_slice(&name.as_bytes()[..len]);
        self.name_len = len as u8;
    }

    /// The coroutine's name; empty if it has none.
    pub fn name(&self) -> &str {
        str::from_utf8(&self.name[..usize::from(self.name_len).min(NAME_MAX)]).unwrap_or("")
    }
}

#[cfg(not(feature = "sanitize"))]
const _: () = assert!(offset_of!(Header, index) < 64, "a switch touches one line of the control block");
const _: () = assert!(size_of::<Header>() == 128);
