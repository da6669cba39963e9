//! Values of which each coroutine has its own: `coroutine_local!`.
//!
//! What `thread_local!` is for a thread. A coroutine's values hang on its control block, where an empty pointer is all that one
//! pays who has none. They are dropped when the coroutine's closure has returned or was unwound, on its own stack, where a
//! destructor may wait; last made first, and before whoever joins it goes on.
//!
//! | value | left by |
//! |---|---|
//! | not made | first use -> there |
//! | there | the coroutine's end -> gone |
//! | gone | nothing: to use it is an error, so destructors that use each other's values come to an end |

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use super::task::{TaskRef, quietly};
use super::{context, current};

/// A key of a value that each coroutine makes for itself at first use. Made by [`coroutine_local!`](crate::coroutine_local).
///
/// Its methods are those of [`std::thread::LocalKey`]. What a coroutine starts does not inherit values: see
/// [`with_value`](crate::context::with_value) for what children see.
pub struct CoroutineLocal<T: 'static> {
    make: fn() -> T,
}

/// The value of a [`CoroutineLocal`] cannot be had here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AccessError {
    /// No coroutine runs: this thread is no machine, or a destructor of a machine's own values runs.
    NoCoroutine,
    /// The coroutine ends, and the value is gone.
    Destroyed,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccessError::NoCoroutine => "a coroutine_local! outside a coroutine",
            AccessError::Destroyed => "a coroutine_local! that was destroyed: its coroutine ends",
        })
    }
}

impl std::error::Error for AccessError {}

impl<T: 'static> CoroutineLocal<T> {
    #[doc(hidden)]
    pub const fn new(make: fn() -> T) -> CoroutineLocal<T> {
        CoroutineLocal { make }
    }

    /// Runs `f` with this coroutine's value. `f` may wait.
    ///
    /// # Panics
    /// Where [`try_with`](Self::try_with) answers an error.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.try_with(f).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`with`](Self::with), with an error where that panics.
    ///
    /// # Errors
    /// [`AccessError`]; `f` was not run.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let me = running()?;
        let value = match me.find(self)? {
            Some(value) => value,
            // Made outside of the table: it may use other values, and wait.
            None => me.keep(self, (self.make)())?.0,
        };
        Ok(f(&value))
    }

    /// Those of all coroutines of this machine that have one.
    #[cfg(feature = "tracing")]
    pub(crate) fn of_all(&'static self) -> Vec<Rc<T>> {
        let tasks = current::machine().map_or(Vec::new(), |machine| machine.live());
        tasks.into_iter().filter_map(|task| task.find(self).ok().flatten()).collect()
    }

    /// Makes `first` the value if there is none; else gives it back, to be put into the value that is there.
    fn begin_with(&'static self, first: T) -> (Rc<T>, Option<T>) {
        let kept = running().and_then(|me| match me.find(self)? {
            Some(value) => Ok((value, Some(first))),
            None => me.keep(self, first),
        });
        kept.unwrap_or_else(|error| panic!("{error}"))
    }
}

impl<T: 'static> CoroutineLocal<Cell<T>> {
    /// Sets the value, which is not made first.
    ///
    /// # Panics
    /// As [`with`](Self::with); so do the others.
    pub fn set(&'static self, value: T) {
        if let (there, Some(value)) = self.begin_with(Cell::new(value)) {
            there.swap(&value);
        }
    }

    /// A copy of the value.
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the value and leaves the default.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Sets the value and gives back the one before.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|there| there.replace(value))
    }
}

impl<T: 'static> CoroutineLocal<RefCell<T>> {
    /// Runs `f` with the value borrowed.
    ///
    /// # Panics
    /// As [`with`](Self::with), and if it is borrowed otherwise, by an `f` that waits perhaps; so do the others.
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|value| f(&value.borrow()))
    }

    /// Runs `f` with the value borrowed for change.
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|value| f(&mut value.borrow_mut()))
    }

    /// Sets the value, which is not made first.
    pub fn set(&'static self, value: T) {
        if let (there, Some(value)) = self.begin_with(RefCell::new(value)) {
            // What was there is dropped when nothing is borrowed.
            let before = there.replace(value.into_inner());
            drop(before);
        }
    }

    /// Takes the value and leaves the default.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Sets the value and gives back the one before.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|there| there.replace(value))
    }
}

fn running() -> Result<TaskRef, AccessError> {
    current::machine().and_then(|machine| machine.running()).ok_or(AccessError::NoCoroutine)
}

/// The values of one coroutine by the address of the key, in the order in which they were made; `None` are gone.
pub(crate) struct Values(Vec<(usize, Option<Rc<dyn Any>>)>);

impl Values {
    /// Whether all are gone.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|value| value.1.is_none())
    }
}

impl TaskRef {
    /// This coroutine's value, if it was made.
    fn find<T>(self, key: &'static CoroutineLocal<T>) -> Result<Option<Rc<T>>, AccessError> {
        let values = self.locals.borrow();
        let address = std::ptr::from_ref(key) as usize;
        let Some(found) = values.as_ref().and_then(|values| values.0.iter().find(|value| value.0 == address))
        else {
            return Ok(None);
        };
        let value = found.1.clone().ok_or(AccessError::Destroyed)?;
        Ok(Some(value.downcast().expect("an address belongs to one key, which has one type")))
    }

    /// Keeps what was made, and says so; or gives it back beside the one that `make` itself has made meanwhile.
    fn keep<T>(self, key: &'static CoroutineLocal<T>, made: T) -> Result<(Rc<T>, Option<T>), AccessError> {
        if let Some(first) = self.find(key)? {
            return Ok((first, Some(made)));
        }
        let made = Rc::new(made);
        let mut values = self.locals.borrow_mut();
        let values = values.get_or_insert_with(|| Box::new(Values(Vec::new())));
        values.0.push((std::ptr::from_ref(key) as usize, Some(made.clone())));
        Ok((made, None))
    }

    /// The coroutine's closure is over: drops its values, with those that destructors make, and its context. On its stack.
    #[inline]
    pub(crate) fn end_values(self) {
        if self.locals.borrow().is_some() || context::has(self) {
            self.drop_values();
        }
    }

    #[cold]
    fn drop_values(self) {
        // A destructor that waits when all is being unwound is cut short; that is no refusal to be unwound.
        let swallowed = self.swallowed.get();
        loop {
            while let Some(last) = self.take_last() {
                quietly(|| drop(last));
                self.swallowed.set(swallowed);
            }
            let Some(context) = self.context.take() else { return };
            quietly(|| drop(context));
            self.swallowed.set(swallowed);
        }
    }

    fn take_last(self) -> Option<Rc<dyn Any>> {
        self.locals.borrow_mut().as_mut()?.0.iter_mut().rev().find_map(|value| value.1.take())
    }
}

/// Declares statics of which each coroutine has its own value, made at its first use there and dropped when the coroutine ends.
///
/// ```
/// use std::cell::Cell;
///
/// machinarium::coroutine_local! {
///     static DEPTH: Cell<u32> = Cell::new(0);
/// }
/// let result: std::io::Result<()> = machinarium::run(|| {
///     DEPTH.set(7);
///     let other = machinarium::spawn(|| DEPTH.get());
///     assert_eq!(other.join()?, 0);
///     assert_eq!(DEPTH.get(), 7);
///     Ok(())
/// });
/// result.unwrap();
/// ```
#[macro_export]
macro_rules! coroutine_local {
    ($($(#[$meta:meta])* $visibility:vis static $name:ident: $type:ty = $make:expr;)*) => {
        $($(#[$meta])* $visibility static $name: $crate::machine::CoroutineLocal<$type> = $crate::machine::CoroutineLocal::new(|| $make);)*
    };
}
