//! What two threads may touch at once: all of it, and nothing else.
//!
//! | file | what it is |
//! |---|---|
//! | [`primitive`] | atomics, `UnsafeCell`, `Arc`, and the point at which another thread may come between |
//! | [`park`] | the one wait protocol: a cell with a ticket, claimed once |
//! | [`cells`] | the table of a machine's cells, which other threads read while it grows |
//! | [`mailbox`] | letters to a machine, and whether it sleeps |
//! | [`lock`] | a tiny lock for those below |
//! | [`line`] | those who wait for one thing, in their order |
//! | [`channel`] | items, and who waits at the two ends |
//! | [`pipe`] | the two locks of a channel between threads |
//! | [`permits`] | how many may go in, and who waits to |
//! | [`watch`] | a number, and who waits until it is another one |
//! | [`once`] | a value that is delivered once: the result of a machine |
//! | [`gauges`] | numbers that one thread keeps and others read |
//! | [`histogram`] | durations that one thread counts and others read |
//! | [`store`] | memory that nobody uses, given back by any thread |
//! | [`latest`] | a value that is replaced while others use it: a configuration |
//!
//! Everything else of a machine is plain state of one thread. These files name only `super::`, so that `loom_tests`
//! includes them, one by one, beside its own `primitive` and tries every order of their operations; each ordering
//! is argued where it stands, and a model names it. No policy and no system call is here: who writes the eventfd,
//! and what a claimed coroutine is told, is decided in `machine`.

pub mod cells;
pub mod channel;
pub mod gauges;
pub mod histogram;
pub mod latest;
pub mod line;
pub mod lock;
pub mod mailbox;
pub mod once;
pub mod park;
pub mod permits;
pub mod pipe;
pub mod primitive;
pub mod store;
pub mod watch;
