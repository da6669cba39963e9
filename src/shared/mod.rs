//! What two threads may touch at once: all of it, and nothing else.
//!
//! | file | what it is |
//! |---|---|
//! | [`primitive`] | atomics, `UnsafeCell`, `Arc`, and the point at which another thread may come between |
//! | [`park`] | the one wait protocol: a cell with a ticket, claimed once |
//! | [`cells`] | the table of a machine's cells, which other threads read while it grows |
//! | [`mailbox`] | letters to a machine, and whether it sleeps |
//! | [`once`] | a value that is delivered once: the result of a machine |
//! | [`latest`] | a value that is replaced while others use it: a configuration |
//!
//! Everything else of a machine is plain state of one thread. These files name only `super::`, so that `loom_tests`
//! includes them, one by one, beside its own `primitive` and tries every order of their operations; each ordering
//! is argued where it stands, and a model names it. No policy and no system call is here: who writes the eventfd,
//! and what a claimed coroutine is told, is decided in `machine`.

pub mod cells;
pub mod latest;
pub mod mailbox;
pub mod once;
pub mod park;
pub mod primitive;
