//! Channels and locks between coroutines, machines and plain threads.
//!
//! Everything here works wherever its two sides run: coroutines of one machine hand over without a descriptor, those of two by a letter,
//! and a thread that is no machine sleeps in a futex. Every blocking call obeys deadlines and cancellation, and one that has
//! taken effect says so: an item that was handed over at the instant of a timeout is received, a lock granted then is held.
//!
//! The structures are in `shared`, inside of one tiny lock each; how one waits for them is `machine::block`.

mod barrier;
pub mod channel;
mod condvar;
mod event;
mod lines;
#[allow(unsafe_code)] // the value behind the lock
mod mutex;
mod once;
#[allow(unsafe_code)] // the value behind the lock
mod rwlock;
pub mod select;
mod semaphore;
mod wait_group;
mod watched;

pub use crate::machine::block::Case;
pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::Condvar;
pub use event::{Event, Waiting};
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceCell};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use select::{Timer, select, select_deadline, try_select};
pub use semaphore::{Permit, Semaphore};
pub use wait_group::WaitGroup;
pub use watched::WaitList;
