//! Coroutines that borrow from the one that starts them.
//!
//! [`scope`] does not return, by a value or a panic, before every child has ended: that is what makes the borrows
//! sound: a child is over when its closure and its result, and all that they borrow, are gone. The wait for them is firm: no deadline, cancellation or teardown ends it. A machine that is torn down unwinds
//! children before their parents, so the wait is short there. Children inherit the deadline, and a cancellation of the
//! parent reaches them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use crate::error::{Cause, JoinError, Misuse};
use crate::kernel::Instant;
use crate::machine::block::{Attempt, Case};
use crate::machine::seat::Seat;
use crate::machine::{
    Family, Machine, Reason, SpawnError, SpawnOptions, WaitList, Waiter, current, is_unwinding, quietly,
    throw_unwind,
};

/// What [`scope`] lends to its closure: somewhere to start children.
pub struct Scope<'scope, 'env: 'scope> {
    family: Family,
    children: Rc<Children>,
    /// Opened by a destructor that runs in an unwinding, and so without children: to wait for them is to switch.
    unwinding: bool,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// A child of a scope. Dropping it leaves the child to the scope, which waits for it.
pub struct ScopedJoinHandle<'scope, T> {
    state: Rc<ChildState<T>>,
    scope: PhantomData<&'scope ()>,
}

/// What a scope and its children share. One that has ended leaves nothing else behind: a scope may last as long as its server.
#[derive(Default)]
struct Children {
    /// How many hold something of the scope's: their closure, their result.
    alive: Cell<usize>,
    /// Whoever waits for that to be none.
    waiter: Cell<Option<Waiter>>,
    /// How many panicked and were not joined.
    panics: Cell<usize>,
}

struct ChildState<T> {
    /// Whether it has ended; the result is there then, until it is taken.
    over: Cell<bool>,
    result: RefCell<Option<std::thread::Result<T>>>,
    ended: WaitList,
    children: Rc<Children>,
}

/// What a child runs. The fields are dropped in this order, run or not: `alive` when no borrow is left.
struct Child<F, T> {
    f: F,
    state: Rc<ChildState<T>>,
    alive: Alive,
}

/// One of `Children::alive`.
struct Alive(Rc<Children>);

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
    let machine = current::machine().expect("scope outside a machine");
    let parent = machine.running().expect("scope outside a coroutine");
    let family = Family { parent, id: machine.next_id(), sheltered: parent.shields.get() > 0 };
    let scope = Scope {
        family,
        children: Rc::default(),
        unwinding: std::thread::panicking(),
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
        Ok(_) if scope.children.panics.get() > 0 => panic!("a scoped coroutine panicked"),
        Ok(value) => value,
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a child. It has the deadline of whoever starts it, and is cancelled if the scope's owner is, already or later,
    /// unless the scope was opened inside a [`shield`](crate::shield()): then its children are in the shield too.
    ///
    /// # Panics
    /// If no stack can be had, and in a scope that a destructor has opened in an unwinding.
    pub fn spawn<T: 'scope>(&'scope self, f: impl FnOnce() -> T + 'scope) -> ScopedJoinHandle<'scope, T> {
        self.try_spawn("", f).unwrap_or_else(|error| panic!("spawn: {error}"))
    }

    /// Starts a child with a name.
    ///
    /// # Errors
    /// See [`SpawnError`]; the closure is dropped. [`Misuse::Unwinding`] in a scope that a destructor has opened in an
    /// unwinding: it could not wait for the child.
    pub fn try_spawn<T: 'scope>(
        &'scope self,
        name: &str,
        f: impl FnOnce() -> T + 'scope,
    ) -> Result<ScopedJoinHandle<'scope, T>, SpawnError> {
        let machine = current::machine_rc().ok_or(SpawnError::Misuse(Misuse::NoMachine))?;
        self.start(machine, name, f)
    }

    /// Starts a child with a name and a stack of one's choice: see [`spawn_with`](crate::spawn_with()).
    ///
    /// # Errors
    /// As for [`try_spawn`](Self::try_spawn).
    pub fn spawn_with<T: 'scope>(
        &'scope self,
        options: SpawnOptions<'_>,
        f: impl FnOnce() -> T + 'scope,
    ) -> Result<ScopedJoinHandle<'scope, T>, SpawnError> {
        let machine = current::machine_rc().ok_or(SpawnError::Misuse(Misuse::NoMachine))?;
        match machine.big_stack_for(options)? {
            None => self.start(machine, options.name, f),
            Some(lent) => self.start(machine, options.name, move || lent.run(f)),
        }
    }

    fn start<T: 'scope>(
        &'scope self,
        machine: Rc<Machine>,
        name: &str,
        f: impl FnOnce() -> T + 'scope,
    ) -> Result<ScopedJoinHandle<'scope, T>, SpawnError> {
        if self.unwinding {
            return Err(SpawnError::Misuse(Misuse::Unwinding));
        }
        if machine.running() != Some(self.family.parent) {
            // A child may start siblings, but only on the machine of the scope.
            machine.owns(self.family.parent).map_err(SpawnError::Misuse)?;
        }
        let (ended, children) = (WaitList::default(), self.children.clone());
        let state =
            Rc::new(ChildState { over: Cell::new(false), result: RefCell::new(None), ended, children });
        let child = Child { f, state: state.clone(), alive: Alive::new(&self.children) };
        // Detached: its result is in its state, and the scope counts.
        drop(machine.start(name, Some(self.family), move || child.run())?);
        Ok(ScopedJoinHandle { state, scope: PhantomData })
    }

    /// Cancels every child that has not ended.
    pub fn cancel(&self, cause: impl Into<Cause>) {
        // A scope is used on its own machine only: nobody can send it to another.
        if let Some(machine) = current::machine() {
            machine.cancel_family(self.family, &cause.into());
        }
    }

    /// Waits for all children, also those that children start meanwhile.
    fn wait(&self) {
        while self.children.alive.get() > 0 {
            let machine = current::machine().expect("the parent is on its machine");
            let register = |waiter| self.children.waiter.set(Some(waiter));
            machine.wait_firmly(self.family.parent, Reason::of("the children of its scope"), register);
        }
    }
}

fn end_values() {
    if let Some(me) = current::machine().and_then(|machine| machine.running()) {
        me.end_values();
    }
}

impl<F: FnOnce() -> T, T> Child<F, T> {
    fn run(self) {
        // Declared first, so dropped last, also by a panic.
        let alive = self.alive;
        let (f, state) = (self.f, self.state);
        let result = catch_unwind(AssertUnwindSafe(f));
        // What it made for itself is over when its scope is.
        end_values();
        let unwound = result.as_ref().err().is_some_and(|panic| is_unwinding(&**panic));
        if result.is_err() && !unwound {
            state.children.panics.set(state.children.panics.get() + 1);
        }
        *state.result.borrow_mut() = Some(result);
        state.over.set(true);
        state.ended.notify_all();
        // The result's borrow of the scope ends with the last handle, before the scope does.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(state))) {
            alive.0.panics.set(alive.0.panics.get() + 1);
            quietly(|| drop(panic));
        }
        if unwound {
            throw_unwind();
        }
    }
}

impl Alive {
    fn new(children: &Rc<Children>) -> Alive {
        children.alive.set(children.alive.get() + 1);
        Alive(children.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let alive = self.0.alive.get() - 1;
        self.0.alive.set(alive);
        if alive == 0
            && let (Some(waiter), Some(machine)) = (self.0.waiter.take(), current::machine())
        {
            // The parent runs when this coroutine has been left, for good but for its own last steps.
            machine.wake(waiter);
        }
    }
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the child to end and takes what it returned.
    ///
    /// # Errors
    /// As for [`JoinHandle::join`](crate::JoinHandle::join).
    pub fn join(self) -> Result<T, JoinError> {
        let machine = current::machine().ok_or(JoinError::Wait(Misuse::NoMachine.into()))?;
        machine.operation().map_err(JoinError::Wait)?;
        while !self.is_finished() {
            self.state.ended.wait(Reason::of("join child"), Instant::FAR).map_err(JoinError::Wait)?;
        }
        self.state.take()
    }

    /// Waiting for the child's end, as a case of [`select`](crate::sync::select()). After it was chosen, [`ScopedJoining::joined`] has
    /// what it returned.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let parts = [1, 2];
    /// let result: std::io::Result<()> = machinarium::run(|| {
    ///     machinarium::scope(|scope| {
    ///         let mut slow = scope.spawn(|| machinarium::sleep(Duration::from_secs(60)));
    ///         let mut quick = scope.spawn(|| parts.iter().sum());
    ///         let sum: Result<u32, _> = machinarium::select! {
    ///             join(slow) -> _ended => panic!("it sleeps"),
    ///             join(quick) -> sum => sum,
    ///         }?;
    ///         assert_eq!(sum?, 3);
    ///         scope.cancel("enough");
    ///         Ok(())
    ///     })
    /// });
    /// result.unwrap();
    /// ```
    pub fn joining(&mut self) -> ScopedJoining<'_, T> {
        ScopedJoining { state: &self.state }
    }

    /// Whether `join` would not wait.
    pub fn is_finished(&self) -> bool {
        self.state.over.get()
    }
}

impl<T> ChildState<T> {
    /// The result of a child that has ended.
    fn take(&self) -> Result<T, JoinError> {
        let nothing_left = JoinError::Wait(Misuse::MachineEnded.into());
        self.result.take().ok_or(nothing_left)?.map_err(|panic| {
            if is_unwinding(&*panic) {
                return JoinError::Unwound;
            }
            self.children.panics.set(self.children.panics.get() - 1);
            JoinError::Panicked(panic)
        })
    }
}

/// A join of a scope's child that is one case of several: see [`ScopedJoinHandle::joining`].
pub struct ScopedJoining<'a, T> {
    state: &'a ChildState<T>,
}

impl<T> ScopedJoining<'_, T> {
    /// How the child ended, if this case was chosen.
    ///
    /// # Errors
    /// As for [`JoinHandle::join`](crate::JoinHandle::join); [`Misuse::NotChosen`] if the child has not ended, and
    /// [`Misuse::MachineEnded`] once the result was taken.
    pub fn joined(self) -> Result<T, JoinError> {
        if self.state.over.get() { self.state.take() } else { Err(JoinError::Wait(Misuse::NotChosen.into())) }
    }
}

impl<T> Case for ScopedJoining<'_, T> {
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt {
        Attempt::of(self.state.over.get(), me, |me| match self.state.ended.stand(me) {
            Ok(()) => Attempt::Waits,
            // On another machine: `joined` says that there is nothing.
            Err(_) => Attempt::found(me),
        })
    }

    fn leave(&mut self) -> bool {
        // That it has ended stays true: the next look finds it.
        self.state.ended.leave();
        false
    }
}

impl<T> fmt::Debug for ScopedJoining<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoining").field("over", &self.state.over.get()).finish()
    }
}
