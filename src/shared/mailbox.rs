//! Letters to a machine: any thread pushes, the machine's own drains. One word says everything:
//!
//! | head | meaning | push | the machine |
//! |---|---|---|---|
//! | EMPTY | no letters, it runs | -> node | `sleep` -> ASLEEP |
//! | ASLEEP | no letters, it sleeps (or is about to) | -> node, and this pusher wakes it | `awake` -> EMPTY |
//! | node | the newest letter, linked to those before it | -> node | `drain` -> EMPTY: all of them, oldest first |
//! | CLOSED | it has ended | the letter comes back | stays |
//!
//! One word, so that "no letters" and "asleep" cannot part: a letter either is there before `sleep`, which then refuses,
//! or finds ASLEEP, and exactly one pusher does. So no wake-up is lost, and the eventfd is written once for each sleep.
//! Letters of one thread keep their order; those of two have none.
//!
//! Not here: the eventfd, and what a letter says. There is no bound: letters are few and small, and whoever
//! sends many (a channel) has its own.

use std::marker::PhantomData;
use std::ptr;

use super::primitive::{AtomicPtr, Ordering, point};

/// The letters of one machine. See the head of the file.
pub struct Mailbox<T> {
    head: AtomicPtr<Node<T>>,
    letters: PhantomData<Box<Node<T>>>,
}

// SAFETY: letters go from thread to thread by value, which `T: Send` allows; no two threads ever see one at once.
unsafe impl<T: Send> Send for Mailbox<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Mailbox<T> {}

/// Whether the one who pushed has to wake the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a machine that sleeps stays asleep"]
pub enum Wake {
    /// It found the machine asleep; it alone did, and writes the eventfd.
    Needed,
    /// The machine runs, or another will wake it.
    NotNeeded,
}

/// The machine has ended: this comes back.
#[derive(Debug)]
pub struct Closed<T>(pub T);

struct Node<T> {
    /// The letter pushed before, or null.
    next: *mut Node<T>,
    letter: T,
}

fn empty<T>() -> *mut Node<T> {
    ptr::null_mut()
}

// Addresses that no node has, since it is aligned to that of a pointer.
fn asleep<T>() -> *mut Node<T> {
    ptr::without_provenance_mut(1)
}

fn closed<T>() -> *mut Node<T> {
    ptr::without_provenance_mut(2)
}

fn is_node<T>(head: *mut Node<T>) -> bool {
    head.addr() > 2
}

impl<T> Default for Mailbox<T> {
    fn default() -> Mailbox<T> {
        Mailbox::new()
    }
}

// By any thread.
impl<T> Mailbox<T> {
    /// An empty mailbox of a machine that runs.
    pub fn new() -> Mailbox<T> {
        Mailbox { head: AtomicPtr::new(empty()), letters: PhantomData }
    }

    /// Puts one letter in.
    ///
    /// # Errors
    /// The machine has ended; the letter comes back.
    pub fn push(&self, letter: T) -> Result<Wake, Closed<T>> {
        self.push_all([letter])
            .map_err(|Closed(mut back)| Closed(back.next().expect("the letter comes back")))
    }

    /// Puts several letters in, next to each other and in this order, by one operation.
    ///
    /// # Errors
    /// The machine has ended; the letters come back.
    pub fn push_all(&self, letters: impl IntoIterator<Item = T>) -> Result<Wake, Closed<Letters<T>>> {
        let (mut first, mut last) = (empty(), empty());
        for letter in letters {
            last = Box::into_raw(Box::new(Node { next: last, letter }));
            first = if first.is_null() { last } else { first };
        }
        if first.is_null() {
            return Ok(Wake::NotNeeded);
        }
        // SAFETY: the chain from `last` back to `first` was made above and nobody else has it.
        unsafe { self.link(first, last) }
    }

    /// # Safety
    /// `last` is a chain of boxed nodes that ends in `first`; it becomes the mailbox's, or goes back.
    unsafe fn link(&self, first: *mut Node<T>, last: *mut Node<T>) -> Result<Wake, Closed<Letters<T>>> {
        point();
        // Acquire, here and below, for the Release of `close`: who is refused sees what the machine did before it ended.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            if head == closed() {
                // SAFETY: the caller's chain; with no next before `first`, it holds these letters alone.
                unsafe { (*first).next = empty() };
                return Err(Closed(Letters::oldest_first(last)));
            }
            // SAFETY: as above; nobody sees the chain before the exchange.
            unsafe { (*first).next = if is_node(head) { head } else { empty() } };
            point();
            // Release, for the Acquire of `drain`: the letters before the pointer to them.
            match self.head.compare_exchange_weak(head, last, Ordering::Release, Ordering::Acquire) {
                Ok(old) => return Ok(if old == asleep() { Wake::Needed } else { Wake::NotNeeded }),
                Err(now) => head = now,
            }
        }
    }

    /// Whether there are no letters just now.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // Relaxed: only a hint. What is missed here, `sleep` will not miss.
        !is_node(self.head.load(Ordering::Relaxed))
    }
}

// By the machine's thread.
impl<T> Mailbox<T> {
    /// Takes all letters, oldest first. Those not taken from the iterator are dropped.
    pub fn drain(&self) -> Letters<T> {
        point();
        if self.is_empty() {
            return Letters { next: empty() };
        }
        point();
        // Acquire, for the Release of every push in the chain: each was an exchange, so they are one release sequence.
        // That there are letters stays true, as only this thread takes them: the word is not ASLEEP or CLOSED.
        Letters::oldest_first(self.head.swap(empty(), Ordering::Acquire))
    }

    /// Says that the machine is about to sleep, so that the next letter comes with a wake-up. False: one is there already.
    #[must_use = "a machine with letters must not sleep"]
    pub fn sleep(&self) -> bool {
        point();
        // Relaxed: hands nothing over. That it cannot pass a push is that both are exchanges of one word.
        self.head.compare_exchange(empty(), asleep(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Says that the machine runs again. It may have been woken by a letter, which then stands in the word already.
    pub fn awake(&self) {
        point();
        // Relaxed: as `sleep`.
        let _ = self.head.compare_exchange(asleep(), empty(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Refuses letters from now on. Gives those that had arrived.
    pub fn close(&self) -> Letters<T> {
        point();
        // Acquire: as `drain`. Release: for those who are refused, see `link`.
        Letters::oldest_first(self.head.swap(closed(), Ordering::AcqRel))
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        drop(self.close());
    }
}

/// Letters taken out, oldest first.
pub struct Letters<T> {
    next: *mut Node<T>,
}

// SAFETY: it owns its letters.
unsafe impl<T: Send> Send for Letters<T> {}

impl<T> Letters<T> {
    /// From what was in the head: a chain with the newest letter first, or none.
    fn oldest_first(mut head: *mut Node<T>) -> Letters<T> {
        let mut turned = empty();
        while is_node(head) {
            // SAFETY: whoever took the chain out of the head owns its nodes, which are boxes of `push_all`.
            let node = unsafe { &mut *head };
            (head, node.next, turned) = (node.next, turned, head);
        }
        Letters { next: turned }
    }
}

impl<T> Iterator for Letters<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.next.is_null() {
            return None;
        }
        // SAFETY: owned, a box of `push_all`, and left here for good.
        let node = unsafe { Box::from_raw(self.next) };
        self.next = node.next;
        Some(node.letter)
    }
}

impl<T> Drop for Letters<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl<T> std::fmt::Debug for Letters<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Letters")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn letters_come_in_their_order() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.push(1).unwrap(), Wake::NotNeeded);
        assert_eq!(mailbox.push_all([2, 3, 4]).unwrap(), Wake::NotNeeded);
        assert_eq!(mailbox.push(5).unwrap(), Wake::NotNeeded);
        assert!(!mailbox.sleep());
        assert!(mailbox.drain().eq(1..=5));
        assert!(mailbox.drain().next().is_none());
    }

    #[test]
    fn the_first_to_find_it_asleep_wakes_it() {
        let mailbox = Mailbox::new();
        assert!(mailbox.sleep());
        assert!(mailbox.is_empty());
        assert_eq!(mailbox.push_all([]).unwrap(), Wake::NotNeeded);
        assert_eq!(mailbox.push_all([1, 2]).unwrap(), Wake::Needed);
        assert_eq!(mailbox.push(3).unwrap(), Wake::NotNeeded);
        mailbox.awake();
        assert!(mailbox.drain().eq(1..=3));
        assert!(mailbox.sleep());
        mailbox.awake();
        assert_eq!(mailbox.push(4).unwrap(), Wake::NotNeeded);
    }

    #[test]
    fn what_is_not_delivered_comes_back_or_is_dropped() {
        let letter = Rc::new(());
        let mailbox = Mailbox::new();
        let _ = mailbox.push_all([letter.clone(), letter.clone(), letter.clone()]).unwrap();
        drop(mailbox.drain().next());
        assert_eq!(Rc::strong_count(&letter), 1);
        let _ = mailbox.push(letter.clone()).unwrap();
        assert_eq!(mailbox.close().count(), 1);
        let Closed(back) = mailbox.push(letter.clone()).unwrap_err();
        let Closed(both) = mailbox.push_all([back, letter.clone()]).unwrap_err();
        assert_eq!(both.count(), 2);
        assert!(mailbox.drain().next().is_none());
        assert!(!mailbox.sleep());
        mailbox.awake();
        assert!(mailbox.push(letter.clone()).is_err());
        assert_eq!(Rc::strong_count(&letter), 1);
    }

    #[test]
    fn a_mailbox_drops_its_letters() {
        let letter = Rc::new(());
        let mailbox = Mailbox::new();
        let _ = mailbox.push(letter.clone()).unwrap();
        drop(mailbox);
        assert_eq!(Rc::strong_count(&letter), 1);
    }
}
