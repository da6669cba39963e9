//! Values of which each process has its own: `process_local!`.
//!
//! What a `static` is where one program is one process. A simulated world holds many processes in one program, which share its
//! statics; these they do not share. They hang on the process that the outermost [`run`](crate::run) began, and all of its
//! machines find them. When the last machine of the process ends, they are dropped, last made first, by that machine;
//! whoever has an `Arc` of one keeps it.

use std::sync::Arc;

use super::current;
use super::process::Process;
use super::task::quietly;

/// A key of a value that each process makes for itself at first use. Made by [`process_local!`](crate::process_local).
pub struct ProcessLocal<T: 'static> {
    make: fn() -> T,
}

impl<T: Send + Sync + 'static> ProcessLocal<T> {
    #[doc(hidden)]
    pub const fn new(make: fn() -> T) -> ProcessLocal<T> {
        ProcessLocal { make }
    }

    /// Runs `f` with the process's value. `f` may wait.
    ///
    /// # Panics
    /// Outside a machine; so on a thread for [`blocking`](crate::blocking()) calls: give it an `Arc` from [`get`](Self::get).
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        f(&self.get())
    }

    /// The process's value. Of two that two machines, or two coroutines, make at once, one stays and is everybody's.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    pub fn get(&'static self) -> Arc<T> {
        let process = current::machine().expect("process_local! outside a machine").process();
        let address = std::ptr::from_ref(self) as usize;
        // Made outside of the lock: it may wait, and use other values.
        let value =
            process.local(address).unwrap_or_else(|| process.keep_local(address, Arc::new((self.make)())));
        value.downcast().expect("an address belongs to one key, which has one type")
    }
}

impl Process {
    /// Drops all values, and those that their destructors make. By the last machine, on its root stack.
    pub(crate) fn end_locals(&self) {
        while let Some(last) = self.pop_local() {
            quietly(|| drop(last));
        }
    }
}

/// Declares statics of which each process has its own value, made at its first use by any machine of it.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// machinarium::process_local! {
///     static REQUESTS: AtomicU64 = AtomicU64::new(0);
/// }
/// let total: std::io::Result<u64> = machinarium::run(|| {
///     let count = || REQUESTS.with(|requests| requests.fetch_add(1, Ordering::Relaxed));
///     count();
///     machinarium::machine::spawn("another", count)?.join()?;
///     Ok(REQUESTS.with(|requests| requests.load(Ordering::Relaxed)))
/// });
/// assert_eq!(total.unwrap(), 2);
/// // Another process would be another program. In one program, it is another `run`.
/// let other: std::io::Result<u64> = machinarium::run(|| Ok(REQUESTS.get().load(Ordering::Relaxed)));
/// assert_eq!(other.unwrap(), 0);
/// ```
#[macro_export]
macro_rules! process_local {
    ($($(#[$meta:meta])* $visibility:vis static $name:ident: $type:ty = $make:expr;)*) => {
        $($(#[$meta])* $visibility static $name: $crate::machine::ProcessLocal<$type> = $crate::machine::ProcessLocal::new(|| $make);)*
    };
}
