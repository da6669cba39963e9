//! What is going to happen, in order of time. Events of the same instant come out in an order that the caller chooses.
//!
//! A binary heap of (instant, sequence): nothing steps, time jumps to the next event. Choosing among more than
//! [`TIES`] events of one instant is choosing among the first so many of those that are left, which bounds the work
//! when ten thousand timers share a moment.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Among how many events of one instant the next is chosen.
const TIES: usize = 16;

pub(crate) struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    ties: Vec<Entry<E>>,
    sequence: u64,
}

struct Entry<E> {
    at: u64,
    sequence: u64,
    event: E,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Queue<E> {
        Queue { heap: BinaryHeap::new(), ties: Vec::new(), sequence: 0 }
    }

    pub(crate) fn push(&mut self, at: u64, event: E) {
        self.sequence += 1;
        self.heap.push(Entry { at, sequence: self.sequence, event });
    }

    /// Whether any event is such a one.
    pub(crate) fn any(&self, is_one: impl Fn(&E) -> bool) -> bool {
        self.heap.iter().any(|entry| is_one(&entry.event))
    }

    /// The instant of the next event.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// The next event. `choose(n)` answers which of `n` events of the same instant it is, 0 the one pushed first.
    pub(crate) fn pop(&mut self, choose: impl FnOnce(usize) -> usize) -> Option<(u64, E)> {
        let first = self.heap.pop()?;
        if self.next_at() != Some(first.at) {
            return Some((first.at, first.event));
        }
        let at = first.at;
        self.ties.push(first);
        while self.ties.len() < TIES && self.next_at() == Some(at) {
            self.ties.extend(self.heap.pop());
        }
        let chosen = self.ties.remove(choose(self.ties.len()));
        self.heap.extend(self.ties.drain(..));
        Some((at, chosen.event))
    }
}

// The heap gives the greatest, and the greatest is to be the earliest.
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Entry<E>) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Entry<E>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Entry<E>) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<E> Eq for Entry<E> {}

#[cfg(test)]
mod tests {
    use super::Queue;

    #[test]
    fn by_time_then_by_choice() {
        let mut queue = Queue::new();
        for (at, event) in [(5, 'a'), (3, 'b'), (5, 'c'), (5, 'd'), (9, 'e')] {
            queue.push(at, event);
        }
        let mut order = String::new();
        while let Some((_, event)) = queue.pop(|n| n - 1) {
            order.push(event);
        }
        assert_eq!(order, "bdcae");
    }

    #[test]
    fn the_boring_choice_is_first_in_first_out() {
        let mut queue = Queue::new();
        (0..40).for_each(|i| queue.push(1, i));
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop(|_| 0)).map(|(_, event)| event).collect();
        assert!(order.is_sorted());
    }
}
