//! A value that stays on its machine, in a handle that goes anywhere: for whoever asks for `Send` and has no other thread in mind.
//!
//! Handles of a machine are not `Send`, and libraries for runtimes with many threads ask for it (hyper of what is upgraded, axum of
//! what a handler holds). The value is touched on its machine alone:
//!
//! | where | a look at the value | the handle's drop |
//! |---|---|---|
//! | its machine | is allowed | drops it |
//! | another machine of its thread, or after its machine's end there | is an error | drops it: it is no other thread's |
//! | another thread | is an error | sends it home, to be dropped on the root stack; after its machine's end it is leaked |
//!
//! So no two threads ever use it, or a counter of references that it shares, at once.

use std::fmt;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::thread::{self, ThreadId};

use super::task::quietly;
use super::wakeup::Letter;
use super::{Machine, current};
use crate::error::Misuse;

/// A value of one machine, in a handle that may be sent to others, where it cannot be used.
///
/// ```
/// use machinarium::machine::Resident;
/// use std::rc::Rc;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let value = Resident::new(Rc::new(7))?;
///     assert_eq!(**value.get()?, 7);
///     let other = machinarium::machine::spawn("other", move || value.get().is_err())?;
///     assert!(other.join()?);
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub struct Resident<T: 'static> {
    inside: ManuallyDrop<Inside<T>>,
    thread: ThreadId,
}

/// What belongs to one thread.
struct Inside<T> {
    value: T,
    machine: Rc<Machine>,
}

// SAFETY: what is inside is used and dropped on the thread on which it was put there, and no other (head of the file): `get`, `get_mut` and
// `into_inner` ask whether this is its machine, which runs on that thread alone, and `drop` asks for the thread.
unsafe impl<T> Send for Resident<T> {}
// SAFETY: as above; a reference gives no more than `get`.
unsafe impl<T> Sync for Resident<T> {}

/// No reference that it gives is pinned.
impl<T> Unpin for Resident<T> {}

impl<T> Resident<T> {
    /// A value of this machine.
    ///
    /// # Errors
    /// [`Misuse::NoMachine`] outside a machine; the value is dropped.
    pub fn new(value: T) -> Result<Resident<T>, Misuse> {
        let machine = current::machine_rc().ok_or(Misuse::NoMachine)?;
        let inside = ManuallyDrop::new(Inside { value, machine });
        Ok(Resident { inside, thread: thread::current().id() })
    }

    /// The value.
    ///
    /// # Errors
    /// [`Misuse::OtherMachine`] elsewhere, and after its machine's end.
    pub fn get(&self) -> Result<&T, Misuse> {
        self.here()?;
        Ok(&self.inside.value)
    }

    /// As [`get`](Self::get), to change it.
    ///
    /// # Errors
    /// As `get`.
    pub fn get_mut(&mut self) -> Result<&mut T, Misuse> {
        self.here()?;
        Ok(&mut self.inside.value)
    }

    /// Takes the value out.
    ///
    /// # Errors
    /// This, as it was, where [`get`](Self::get) is an error.
    pub fn into_inner(self) -> Result<T, Resident<T>> {
        if self.here().is_err() {
            return Err(self);
        }
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, nor dropped; and this is its thread.
        Ok(unsafe { ManuallyDrop::take(&mut this.inside) }.value)
    }

    fn here(&self) -> Result<(), Misuse> {
        if current::machine_address() == Rc::as_ptr(&self.inside.machine) as usize {
            return Ok(());
        }
        Err(Misuse::OtherMachine)
    }
}

impl<T> Drop for Resident<T> {
    fn drop(&mut self) {
        // SAFETY: it is not used again.
        let inside = unsafe { ManuallyDrop::take(&mut self.inside) };
        if self.thread == thread::current().id() {
            drop(inside);
        } else {
            send_home(inside);
        }
    }
}

/// From another thread than its own.
fn send_home<T: 'static>(inside: Inside<T>) {
    let shared = inside.machine.shared.clone();
    let travels = Travels(ManuallyDrop::new(inside));
    let arrive = move |_: &Machine| travels.arrive();
    // A letter that comes back is dropped, and what is in it is not.
    let _ = shared.post(Letter::Run(Box::new(arrive)));
}

/// On its way home: dropped anywhere else, it is leaked.
struct Travels<T>(ManuallyDrop<Inside<T>>);

// SAFETY: what is inside is dropped by `arrive`, on its machine's thread, and otherwise by nobody.
unsafe impl<T> Send for Travels<T> {}

impl<T> Travels<T> {
    /// On its machine.
    fn arrive(self) {
        quietly(|| drop(ManuallyDrop::into_inner(self.0)));
    }
}

impl<T: fmt::Debug> fmt::Debug for Resident<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Ok(value) => f.debug_tuple("Resident").field(value).finish(),
            Err(_) => f.write_str("Resident(elsewhere)"),
        }
    }
}
