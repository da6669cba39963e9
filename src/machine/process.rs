//! What all machines of one process share: made by the outermost `run`, inherited by the machines it starts.
//!
//! Never a static: a simulated world holds many processes on one OS thread, and a test many worlds.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::wakeup::Shared;
use crate::shared::lock::Lock;

type Value = Arc<dyn Any + Send + Sync>;

/// See the head of the file.
#[derive(Default)]
pub(crate) struct Process {
    machines: AtomicU64,
    /// How many of them were begun and have not ended.
    alive: AtomicU64,
    /// They, and some that have ended.
    list: Lock<Vec<Weak<Shared>>>,
    /// One value of a type: what a layer above keeps for the whole process.
    values: Lock<Vec<Value>>,
    /// The values of `process_local!` by the address of the key, in the order in which they were made.
    locals: Lock<Vec<(usize, Value)>>,
}

impl Process {
    /// One more machine begins; its number in this process, from 0.
    pub(crate) fn next_machine(&self) -> u64 {
        // Relaxed: whoever begins one is one that has not ended, or there is none yet.
        self.alive.fetch_add(1, Ordering::Relaxed);
        // Relaxed: only that each gets its own number matters.
        self.machines.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a machine to those that `machines` answers.
    pub(crate) fn enlist(&self, machine: &Arc<Shared>) {
        let kept = self.list.with(|list| {
            let kept = list.extract_if(.., |machine| machine.strong_count() == 0).collect::<Vec<_>>();
            list.push(Arc::downgrade(machine));
            kept
        });
        // Memory is given back outside of the lock.
        drop(kept);
    }

    /// The machines that were begun and whose memory is still there, in the order in which they were begun.
    pub(crate) fn machines(&self) -> Vec<Arc<Shared>> {
        self.list.with(|list| list.clone()).iter().filter_map(Weak::upgrade).collect()
    }

    /// A machine ends. Whether it was the last: then nobody else uses the process.
    pub(crate) fn machine_ends(&self) -> bool {
        // Acquire and Release: the last one sees what the others have done with the values that it is to drop.
        self.alive.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// The value of a `process_local!`, if it was made.
    pub(crate) fn local(&self, address: usize) -> Option<Value> {
        self.locals.with(|locals| find_local(locals, address))
    }

    /// Keeps what was made, unless another was first; which of them it is.
    pub(crate) fn keep_local(&self, address: usize, made: Value) -> Value {
        self.locals.with(|locals| {
            find_local(locals, address).unwrap_or_else(|| {
                locals.push((address, made.clone()));
                made.clone()
            })
        })
    }

    /// Whether there is a value of a `process_local!`.
    pub(crate) fn has_locals(&self) -> bool {
        self.locals.with(|locals| !locals.is_empty())
    }

    /// Takes out the one that was made last.
    pub(crate) fn pop_local(&self) -> Option<Value> {
        self.locals.with(|locals| locals.pop().map(|local| local.1))
    }

    /// The process's value of this type, made by `make` when it is first asked for. Of two that are made at once, one stays.
    pub(crate) fn value<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let find = |values: &Vec<Value>| values.iter().find_map(|value| value.clone().downcast::<T>().ok());
        if let Some(found) = self.values.with(|values| find(values)) {
            return found;
        }
        let made = Arc::new(make());
        self.values.with(|values| {
            find(values).unwrap_or_else(|| {
                values.push(made.clone());
                made.clone()
            })
        })
    }
}

fn find_local(locals: &[(usize, Value)], address: usize) -> Option<Value> {
    locals.iter().find(|local| local.0 == address).map(|local| local.1.clone())
}
