//! Values that go along with work: set for what a closure calls, and inherited by every coroutine that is started there.
//!
//! For what describes the work and not the place where it is done: a request's number, its tenant, a span of a trace. A
//! context is a list of keys and values, innermost first, that is never changed: [`with_value`] puts one in front, a child
//! keeps the list that its starter has at that moment, and all of them share it. To look a value up takes as long as the list
//! is deep, which is a few.
//!
//! *Who inherits.* Children of a [`scope`](crate::scope()) and coroutines of a plain [`spawn`](crate::spawn), on the same
//! machine. (Deadlines and cancellation reach the former only: they would end work that others share. A value ends nothing.)
//! What must not carry the marks of the request that happened to start it, such as a worker that lives on, is started inside of
//! `Context::empty().run(..)`. Nothing goes to another machine by itself: values are shared by `Rc`. Copy what
//! the work there needs into the closure that is sent, and set it again there.

use std::any::Any;
use std::marker::PhantomData;
use std::rc::Rc;

use super::current;
use super::task::TaskRef;

/// A key of a context value: a static.
///
/// ```
/// use machinarium::context::{ContextKey, with_value};
///
/// static REQUEST: ContextKey<u64> = ContextKey::new();
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     with_value(&REQUEST, 42, || {
///         let child = machinarium::spawn(|| REQUEST.get().as_deref().copied());
///         assert_eq!(child.join()?, Some(42));
///         Ok::<(), std::io::Error>(())
///     })?;
///     assert!(REQUEST.get().is_none());
///     Ok(())
/// });
/// result.unwrap();
/// ```
#[derive(Debug)]
pub struct ContextKey<T: 'static> {
    /// So that it has an address of its own.
    _place: u8,
    value: PhantomData<fn() -> T>,
}

impl<T: 'static> Default for ContextKey<T> {
    fn default() -> ContextKey<T> {
        ContextKey::new()
    }
}

impl<T: 'static> ContextKey<T> {
    /// A new key, which has no value anywhere.
    pub const fn new() -> ContextKey<T> {
        ContextKey { _place: 0, value: PhantomData }
    }

    /// The value that the nearest [`with_value`] has set, here or where this coroutine was started; `None` if none has, and
    /// outside a coroutine.
    pub fn get(&'static self) -> Option<Rc<T>> {
        let me = running()?;
        let list = me.context.take();
        let found = self.find(list.as_ref());
        me.context.set(list);
        found
    }

    fn find(&'static self, list: Option<&Rc<Node>>) -> Option<Rc<T>> {
        let key = self.address();
        let node = std::iter::successors(list, |node| node.outer.as_ref()).find(|node| node.key == key)?;
        Some(node.value.clone().downcast().expect("an address belongs to one key, which has one type"))
    }

    fn address(&'static self) -> usize {
        std::ptr::from_ref(self) as usize
    }
}

/// Runs `f` with `value` behind `key`, for all that it calls and for all coroutines that are started meanwhile. They keep it
/// as long as they live; it is dropped with the last of them.
///
/// # Panics
/// Outside a coroutine.
pub fn with_value<T: 'static, R>(key: &'static ContextKey<T>, value: T, f: impl FnOnce() -> R) -> R {
    let me = running().expect("with_value outside a coroutine");
    let outer = me.context_list();
    let node = Node { key: key.address(), value: Rc::new(value), outer };
    Context { list: Some(Rc::new(node)) }.run(f)
}

/// All context values of a moment, to be used later or elsewhere on the machine: by a worker that does something for somebody.
#[derive(Clone)]
pub struct Context {
    list: Option<Rc<Node>>,
}

impl Context {
    /// The values of the running coroutine; none outside of one.
    pub fn current() -> Context {
        Context { list: running().and_then(TaskRef::context_list) }
    }

    /// No values.
    pub fn empty() -> Context {
        Context { list: None }
    }

    /// Runs `f` with these values instead of those of the running coroutine.
    ///
    /// # Panics
    /// Outside a coroutine.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        let me = running().expect("a context outside a coroutine");
        let _restore = Restore { me, before: me.context.replace(self.list.clone()) };
        f()
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = std::iter::successors(self.list.as_ref(), |node| node.outer.as_ref()).count();
        f.debug_struct("Context").field("values", &count).finish()
    }
}

struct Restore {
    me: TaskRef,
    before: Option<Rc<Node>>,
}

impl Drop for Restore {
    fn drop(&mut self) {
        // What was there goes after the place is in order: a destructor may look.
        let gone = self.me.context.replace(self.before.take());
        drop(gone);
    }
}

/// One value, and those behind it.
pub(crate) struct Node {
    key: usize,
    value: Rc<dyn Any>,
    outer: Option<Rc<Node>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        // One after the other: where each child adds a value and starts the next, the list is as long as one likes.
        let mut next = self.outer.take();
        while let Some(mut node) = next.and_then(Rc::into_inner) {
            next = node.outer.take();
        }
    }
}

fn running() -> Option<TaskRef> {
    current::machine()?.running()
}

/// Whether this coroutine has a value.
#[inline(always)]
pub(crate) fn has(task: TaskRef) -> bool {
    let list = task.context.take();
    let has = list.is_some();
    task.context.set(list);
    has
}

impl TaskRef {
    fn context_list(self) -> Option<Rc<Node>> {
        let list = self.context.take();
        self.context.set(list.clone());
        list
    }

    /// A new coroutine has the values of whoever starts it.
    #[inline(always)]
    pub(crate) fn inherit(self, starter: TaskRef) {
        if has(starter) {
            self.context.set(starter.context_list());
        }
    }
}
