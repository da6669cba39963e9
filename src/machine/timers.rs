//! Deadlines in order: a heap with at most one node for each coroutine's stack slot.
//!
//! Re-armed lazily: arming a deadline that is later than the slot's node is no work at all, since the node fires early,
//! is compared with the deadline that then holds, and goes back. So most timeouts cost one comparison, and the heap is
//! touched about once for each timeout's length. A node may outlive its coroutine; the slot's next one inherits it.
//!
//! A 4-ary heap, in an array, where each node's place is kept in its control block (so that an earlier deadline moves it).

use super::task::TaskRef;
use crate::kernel::Instant;

const ARITY: usize = 4;

#[derive(Default)]
pub(crate) struct Timers {
    heap: Vec<(Instant, TaskRef)>,
}

impl Timers {
    /// When the first node fires; `FAR` if there is none.
    pub(crate) fn next(&self) -> Instant {
        self.heap.first().map_or(Instant::FAR, |node| node.0)
    }

    /// Makes sure that the slot's node fires at `at` or before.
    #[inline]
    pub(crate) fn arm(&mut self, task: TaskRef, at: Instant) {
        match (task.timer.get() as usize).checked_sub(1) {
            Some(place) if self.heap[place].0 <= at => {}
            Some(place) => {
                self.heap[place].0 = at;
                self.up(place);
            }
            None => {
                self.heap.push((at, task));
                self.up(self.heap.len() - 1);
            }
        }
    }

    /// Takes out the first node that fires at `now` or before.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<TaskRef> {
        let (at, task) = *self.heap.first()?;
        if at > now {
            return None;
        }
        self.remove(0);
        Some(task)
    }

    /// Takes out the slot's node, if it has one. Before the slot's memory may be trimmed.
    pub(crate) fn forget(&mut self, task: TaskRef) {
        if let Some(place) = (task.timer.get() as usize).checked_sub(1) {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: usize) {
        let (_, task) = self.heap.swap_remove(place);
        task.timer.set(0);
        if place < self.heap.len() {
            self.up(place);
            self.down(place);
        }
    }

    fn up(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.heap[parent].0 <= self.heap[place].0 {
                break;
            }
            self.heap.swap(parent, place);
            self.mark(place);
            place = parent;
        }
        self.mark(place);
    }

    fn down(&mut self, mut place: usize) {
        loop {
            let first = place * ARITY + 1;
            let children = first..(first + ARITY).min(self.heap.len());
            let Some(least) = children.min_by_key(|&child| self.heap[child].0) else { break };
            if self.heap[place].0 <= self.heap[least].0 {
                break;
            }
            self.heap.swap(place, least);
            self.mark(place);
            place = least;
        }
        self.mark(place);
    }

    fn mark(&self, place: usize) {
        if let Some(node) = self.heap.get(place) {
            node.1.timer.set(place as u32 + 1);
        }
    }
}
