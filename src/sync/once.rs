//! Something that is done once, by whoever comes first, while the others wait.

use std::fmt;
use std::sync::OnceLock;

use super::lines::Looking;
use crate::error::WaitError;
use crate::kernel::Instant;
use crate::machine::seat::Seat;
use crate::shared::watch::Watched;

const NEW: u64 = 0;
const RUNNING: u64 = 1;
const DONE: u64 = 2;

/// Runs one closure, once, however many ask; it may block.
///
/// If the closure panics or fails, the next who asks tries.
#[derive(Debug)]
pub struct Once {
    state: Watched<Seat>,
}

impl Default for Once {
    fn default() -> Once {
        Once::new()
    }
}

/// The one who runs the closure; without `done`, another gets to try.
struct Run<'a> {
    once: &'a Once,
    end: u64,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let _ = self.once.state.update(|_| Some(self.end));
        self.once.state.notify_all();
    }
}

impl Once {
    /// Nothing was run.
    pub fn new() -> Once {
        Once { state: Watched::new(NEW) }
    }

    /// Runs `f` if nobody has; if somebody does, waits for its end.
    ///
    /// # Errors
    /// If the wait for another's run is ended by a deadline or a cancellation.
    pub fn call_once(&self, f: impl FnOnce()) -> Result<(), WaitError> {
        self.try_call_once(|| -> Result<(), WaitError> {
            f();
            Ok(())
        })
    }

    /// As [`call_once`](Self::call_once), for what can fail: then it has not been run.
    ///
    /// # Errors
    /// That of `f`, or of the wait.
    pub fn try_call_once<E: From<WaitError>>(&self, f: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        loop {
            match self.state.update(|state| (state == NEW).then_some(RUNNING)) {
                Ok(_) => {
                    let mut run = Run { once: self, end: NEW };
                    f()?;
                    run.end = DONE;
                    return Ok(());
                }
                Err(RUNNING) => {
                    Looking::new(&self.state, RUNNING).wait("once", Instant::FAR)?;
                }
                Err(_) => return Ok(()),
            }
        }
    }

    /// Whether it was run to its end.
    pub fn is_completed(&self) -> bool {
        self.state.get() == DONE
    }
}

/// A value that is made once, by whoever needs it first; making it may block.
///
/// ```
/// use machinarium::sync::OnceCell;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let cell = OnceCell::new();
///     assert_eq!(*cell.get_or_init(|| 7)?, 7);
///     assert_eq!(*cell.get_or_init(|| 8)?, 7);
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub struct OnceCell<T> {
    once: Once,
    value: OnceLock<T>,
}

impl<T> Default for OnceCell<T> {
    fn default() -> OnceCell<T> {
        OnceCell::new()
    }
}

impl<T> OnceCell<T> {
    /// Without a value.
    pub fn new() -> OnceCell<T> {
        OnceCell { once: Once::new(), value: OnceLock::new() }
    }

    /// The value, if it was made.
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// The value, made by `f` if nobody has.
    ///
    /// # Errors
    /// If the wait for another who makes it is ended by a deadline or a cancellation.
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> Result<&T, WaitError> {
        self.get_or_try_init(|| Ok(f()))
    }

    /// As [`get_or_init`](Self::get_or_init), for what can fail: then the next who asks tries.
    ///
    /// # Errors
    /// That of `f`, or of the wait.
    pub fn get_or_try_init<E: From<WaitError>>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        self.once.try_call_once(|| {
            let value = f()?;
            // Only the one run that succeeds gets here.
            let _ = self.value.set(value);
            Ok::<(), E>(())
        })?;
        Ok(self.get().expect("whoever completed the once has set the value"))
    }

    /// The value.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceCell").field(&self.get()).finish()
    }
}
