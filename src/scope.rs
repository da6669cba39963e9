//! Coroutines that borrow from the one that starts them.
//!
//! [`scope`] does not return, by a value or a panic, before every child has ended: that is what makes the borrows
//! sound. The wait for them is firm: no deadline, cancellation or teardown ends it. A machine that is torn down unwinds
//! children before their parents, so the wait is short there. Children inherit the deadline, and a cancellation of the
//! parent reaches them.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use crate::error::{Cause, JoinError, Misuse};
use crate::kernel::Instant;
use crate::machine::{
    JoinHandle, Reason, SpawnError, TaskRef, WaitList, current, is_unwinding, throw_unwind,
};

/// What [`scope`] lends to its closure: somewhere to start children.
pub struct Scope<'scope, 'env: 'scope> {
    parent: TaskRef,
    children: RefCell<Vec<JoinHandle<()>>>,
    /// Children that panicked and were not joined.
    panics: Rc<Cell<usize>>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// A child of a scope. Dropping it leaves the child to the scope, which waits for it.
pub struct ScopedJoinHandle<'scope, T> {
    state: Rc<ChildState<T>>,
    scope: PhantomData<&'scope ()>,
}

struct ChildState<T> {
    result: RefCell<Option<std::thread::Result<T>>>,
    ended: WaitList,
    panics: Rc<Cell<usize>>,
}

/// Runs `f`, which may start children that borrow from the caller; returns when `f` and all of them have ended.
///
/// If `f` panics, the children are cancelled and waited for before the panic goes on. A child's panic is returned by its
/// `join`; one that nobody joins makes `scope` panic, as `std::thread::scope` does.
///
/// # Panics
/// Outside a machine, and as above.
///
/// ```
/// let mut parts = vec![1, 2, 3];
/// let result: std::io::Result<()> = machinarium::run(|| {
///     machinarium::scope(|scope| {
///         for part in &mut parts {
///             scope.spawn(move || *part *= 10);
///         }
///     });
///     Ok(())
/// });
/// result.unwrap();
/// assert_eq!(parts, [10, 20, 30]);
/// ```
pub fn scope<'env, T>(f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T) -> T {
    let parent = current::machine().and_then(|machine| machine.running()).expect("scope outside a machine");
    let scope = Scope {
        parent,
        children: RefCell::default(),
        panics: Rc::default(),
        scope: PhantomData,
        env: PhantomData,
    };
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    if result.is_err() {
        scope.cancel("the scope's closure panicked");
    }
    scope.wait();
    match result {
        Err(panic) => resume_unwind(panic),
        Ok(_) if scope.panics.get() > 0 => panic!("a scoped coroutine panicked"),
        Ok(value) => value,
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a child.
    ///
    /// # Panics
    /// If no stack can be had.
    pub fn spawn<T: 'scope>(&'scope self, f: impl FnOnce() -> T + 'scope) -> ScopedJoinHandle<'scope, T> {
        self.try_spawn("", f).unwrap_or_else(|error| panic!("spawn: {error}"))
    }

    /// Starts a child with a name.
    ///
    /// # Errors
    /// See [`SpawnError`]; the closure is dropped.
    pub fn try_spawn<T: 'scope>(
        &'scope self,
        name: &str,
        f: impl FnOnce() -> T + 'scope,
    ) -> Result<ScopedJoinHandle<'scope, T>, SpawnError> {
        let machine = current::machine_rc().ok_or(SpawnError::Misuse(Misuse::NoMachine))?;
        if machine.running() != Some(self.parent) {
            // A child may start siblings, but only on the machine of the scope.
            machine.owns(self.parent).map_err(SpawnError::Misuse)?;
        }
        let (ended, panics) = (WaitList::default(), self.panics.clone());
        let state = Rc::new(ChildState { result: RefCell::new(None), ended, panics });
        let theirs = state.clone();
        let run = move || {
            let result = catch_unwind(AssertUnwindSafe(f));
            let unwound = result.as_ref().err().is_some_and(|panic| is_unwinding(&**panic));
            if result.is_err() && !unwound {
                theirs.panics.set(theirs.panics.get() + 1);
            }
            *theirs.result.borrow_mut() = Some(result);
            theirs.ended.notify_all();
            // The result's borrow of the scope ends with the last handle, before the scope does.
            drop(theirs);
            if unwound {
                throw_unwind();
            }
        };
        let handle = machine.start(name, Some(self.parent), run)?;
        self.children.borrow_mut().push(handle);
        Ok(ScopedJoinHandle { state, scope: PhantomData })
    }

    /// Cancels every child that has not ended.
    pub fn cancel(&self, cause: impl Into<Cause>) {
        let cause = cause.into();
        for child in self.children.borrow().iter() {
            // The scope's parent is on this machine, so the handles are too.
            let _ = child.cancel(cause.clone());
        }
    }

    /// Waits for all children, also those that children start meanwhile.
    fn wait(&self) {
        loop {
            let next = self.children.borrow_mut().pop();
            let Some(child) = next else { return };
            // How it ended is in its state; here only that it has ended matters.
            let _ = child.join_firmly();
        }
    }
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the child to end and takes what it returned.
    ///
    /// # Errors
    /// As for [`JoinHandle::join`].
    pub fn join(self) -> Result<T, JoinError> {
        let machine = current::machine().ok_or(JoinError::Wait(Misuse::NoMachine.into()))?;
        machine.operation().map_err(JoinError::Wait)?;
        while self.state.result.borrow().is_none() {
            self.state.ended.wait(Reason::of("join child"), Instant::FAR).map_err(JoinError::Wait)?;
        }
        let result = self.state.result.take().expect("the loop ends when it is there");
        result.map_err(|panic| {
            if is_unwinding(&*panic) {
                return JoinError::Unwound;
            }
            self.state.panics.set(self.state.panics.get() - 1);
            JoinError::Panicked(panic)
        })
    }

    /// Whether `join` would not wait.
    pub fn is_finished(&self) -> bool {
        self.state.result.borrow().is_some()
    }
}
