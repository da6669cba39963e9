//! Values of which each machine has its own: `machine_local!`.
//!
//! What `thread_local!` is for a thread. In a simulation many machines share one OS thread, and with it its
//! thread-locals; these they do not share. Dropped when the machine ends, last made first; so are hooks for that (`at_exit`).

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::current;
use super::task::quietly;
use crate::error::Misuse;

/// A key of a value that each machine makes for itself at first use. Made by [`machine_local!`](crate::machine_local).
pub struct MachineLocal<T: 'static> {
    make: fn() -> T,
}

impl<T: 'static> MachineLocal<T> {
    #[doc(hidden)]
    pub const fn new(make: fn() -> T) -> MachineLocal<T> {
        MachineLocal { make }
    }

    /// Runs `f` with this machine's value. `f` may wait.
    ///
    /// # Panics
    /// Outside a machine.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        f(&self.get())
    }

    pub(crate) fn get(&'static self) -> Rc<T> {
        let machine = current::machine().expect("machine_local! outside a machine");
        machine.locals.get(self)
    }
}

/// The values of one machine, in the order in which they were made.
#[derive(Default)]
pub(crate) struct Locals {
    values: RefCell<Vec<(usize, Rc<dyn Any>)>>,
}

impl Locals {
    fn get<T>(&self, key: &'static MachineLocal<T>) -> Rc<T> {
        let address = std::ptr::from_ref(key) as usize;
        let found = self.values.borrow().iter().find(|value| value.0 == address).map(|value| value.1.clone());
        let value = found.unwrap_or_else(|| {
            // Made outside the borrow: it may use other locals.
            self.put(address, Rc::new((key.make)()))
        });
        value.downcast().expect("an address belongs to one key, which has one type")
    }

    /// Keeps what was made, unless another coroutine has made one while this one was waiting for its own.
    fn put(&self, address: usize, made: Rc<dyn Any>) -> Rc<dyn Any> {
        let mut values = self.values.borrow_mut();
        let first = values.iter().find(|value| value.0 == address).map(|value| value.1.clone());
        if first.is_none() {
            values.push((address, made.clone()));
        }
        drop(values);
        first.unwrap_or(made)
    }

    /// Calls `hook` when it is dropped, among the values.
    fn put_hook(&self, hook: Box<dyn FnOnce()>) {
        // No key is at this address.
        self.values.borrow_mut().push((0, Rc::new(Hook(Cell::new(Some(hook))))));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.borrow().is_empty()
    }

    /// Drops all values, and those that their destructors make.
    pub(crate) fn clear(&self) {
        loop {
            let last = self.values.borrow_mut().pop();
            if last.is_none() {
                return;
            }
            quietly(|| drop(last));
        }
    }
}

struct Hook(Cell<Option<Box<dyn FnOnce()>>>);

impl Drop for Hook {
    fn drop(&mut self) {
        if let Some(hook) = self.0.take() {
            hook();
        }
    }
}

/// Has `hook` called at the end of this machine, when its last coroutine has ended: the last one that was asked for first, among the
/// values of `machine_local!` as if it was one that is made now. It cannot wait: every blocking call fails there. One that panics
/// is reported, and the others are called all the same. What it asks for here is called after it.
///
/// # Errors
/// Outside a machine; the hook is dropped.
///
/// ```
/// let result: std::io::Result<()> = machinarium::run(|| {
///     machinarium::machine::at_exit(|| println!("good bye"))?;
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub fn at_exit(hook: impl FnOnce() + 'static) -> Result<(), Misuse> {
    let machine = current::machine().ok_or(Misuse::NoMachine)?;
    machine.locals.put_hook(Box::new(hook));
    Ok(())
}

/// Declares statics of which each machine has its own value, made at its first use there.
///
/// ```
/// machinarium::machine_local! {
///     static REQUESTS: std::cell::Cell<u64> = std::cell::Cell::new(0);
/// }
/// let result: std::io::Result<u64> = machinarium::run(|| {
///     REQUESTS.with(|requests| requests.set(requests.get() + 1));
///     Ok(REQUESTS.with(|requests| requests.get()))
/// });
/// assert_eq!(result.unwrap(), 1);
/// ```
#[macro_export]
macro_rules! machine_local {
    ($($(#[$meta:meta])* $visibility:vis static $name:ident: $type:ty = $make:expr;)*) => {
        $($(#[$meta])* $visibility static $name: $crate::machine::MachineLocal<$type> = $crate::machine::MachineLocal::new(|| $make);)*
    };
}
