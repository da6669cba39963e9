//! What all machines of one process share: made by the outermost `run`, inherited by the machines it starts.
//!
//! Never a static: a simulated world holds many processes on one OS thread, and a test many worlds.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::shared::lock::Lock;

/// See the head of the file.
#[derive(Default)]
pub(crate) struct Process {
    machines: AtomicU64,
    /// One value of a type: what a layer above keeps for the whole process.
    values: Lock<Vec<Arc<dyn Any + Send + Sync>>>,
}

impl Process {
    /// The number of the next machine of this process, from 0.
    pub(crate) fn next_machine(&self) -> u64 {
        // Relaxed: only that each gets its own number matters.
        self.machines.fetch_add(1, Ordering::Relaxed)
    }

    /// The process's value of this type, made by `make` when it is first asked for. Of two that are made at once, one stays.
    pub(crate) fn value<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let find = |values: &Vec<Arc<dyn Any + Send + Sync>>| {
            values.iter().find_map(|value| value.clone().downcast::<T>().ok())
        };
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
