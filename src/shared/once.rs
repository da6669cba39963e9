//! A value that one thread delivers to another, once: the result of a machine, or of a coroutine on another machine.
//!
//! | state | value | waiter | left by |
//! |---|---|---|---|
//! | EMPTY | none | none | `wait` -> REGISTERED, `set` -> FULL |
//! | REGISTERED | none | the setter's to take | `unwait` or `wait` -> EMPTY, `set` -> FULL |
//! | FULL | the getter's to take; none if the setter was dropped | taken, and told | `take` -> TAKEN |
//! | TAKEN | none | none | - |
//!
//! The state says who may touch the two cells: of the value, the setter before FULL and the getter from then on; of
//! the waiter, the getter in EMPTY, nobody in REGISTERED, and whoever left REGISTERED after that. A setter that is dropped
//! without a value leaves FULL all the same, so a getter never waits for what cannot come.
//!
//! A waiter is told once, by [`Waiter::ready`], from the setter's thread. What that does (claim a ticket, send a
//! letter) is not decided here.

use super::primitive::{Arc, AtomicU8, Ordering, UnsafeCell, point};

/// Whoever waits for the value.
pub trait Waiter: Send {
    /// The value is there, or will never be. On the setter's thread; must not block.
    fn ready(self);
}

const EMPTY: u8 = 0;
const REGISTERED: u8 = 1;
const FULL: u8 = 2;
const TAKEN: u8 = 3;

struct Slot<T, W> {
    state: AtomicU8,
    value: UnsafeCell<Option<T>>,
    waiter: UnsafeCell<Option<W>>,
}

// SAFETY: the state hands each of the two cells from thread to thread, never to two at once (head of the file).
unsafe impl<T: Send, W: Send> Sync for Slot<T, W> {}

/// The end that delivers.
pub struct Setter<T, W: Waiter> {
    slot: Arc<Slot<T, W>>,
}

/// The end that waits. `&mut` everywhere: there is one waiter at a time.
pub struct Getter<T, W: Waiter> {
    slot: Arc<Slot<T, W>>,
}

/// What there is to take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken<T> {
    /// Nothing yet.
    NotYet,
    /// The value.
    Value(T),
    /// Nothing, and nothing will come: the setter was dropped, or the value was taken before.
    Never,
}

/// The two ends of one delivery.
pub fn pair<T: Send, W: Waiter>() -> (Setter<T, W>, Getter<T, W>) {
    let slot = Arc::new(Slot {
        state: AtomicU8::new(EMPTY),
        value: UnsafeCell::new(None),
        waiter: UnsafeCell::new(None),
    });
    (Setter { slot: slot.clone() }, Getter { slot })
}

impl<T, W: Waiter> Setter<T, W> {
    /// Delivers the value, and tells the waiter if there is one.
    pub fn set(self, value: T) {
        // SAFETY: before FULL the value is the setter's, and there is one setter.
        self.slot.value.with_mut(|place| unsafe { *place = Some(value) });
        // The rest is `drop`.
    }
}

impl<T, W: Waiter> Setter<T, W> {
    /// Whether somebody may still take the value. A hint: he may go away at any time.
    pub fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.slot) > 1
    }
}

impl<T, W: Waiter> Drop for Setter<T, W> {
    fn drop(&mut self) {
        point();
        // Release, for the Acquire of `take`: the value before FULL. Acquire, for the Release of `wait`: the waiter.
        if self.slot.state.swap(FULL, Ordering::AcqRel) == REGISTERED {
            // SAFETY: this thread left REGISTERED, so the waiter is its own.
            let waiter = self.slot.waiter.with_mut(|place| unsafe { (*place).take() });
            waiter.expect("a waiter is registered").ready();
        }
    }
}

impl<T, W: Waiter> Getter<T, W> {
    /// Takes the value, if it is there.
    pub fn take(&mut self) -> Taken<T> {
        point();
        // Acquire, for the Release of `set`.
        if !matches!(self.slot.state.load(Ordering::Acquire), FULL | TAKEN) {
            return Taken::NotYet;
        }
        // Relaxed: the setter has left, and this is the only getter.
        self.slot.state.store(TAKEN, Ordering::Relaxed);
        // SAFETY: from FULL on the value is the getter's.
        let value = self.slot.value.with_mut(|place| unsafe { (*place).take() });
        value.map_or(Taken::Never, Taken::Value)
    }

    /// Whether `take` would not answer `NotYet`.
    pub fn is_ready(&self) -> bool {
        point();
        // Acquire: whoever hears that the value is there may act on what its setter did before.
        matches!(self.slot.state.load(Ordering::Acquire), FULL | TAKEN)
    }

    /// Has `waiter` told when the value comes, in place of the one before. False: it is there, and nobody will be told.
    pub fn wait(&mut self, waiter: W) -> bool {
        if !self.unwait() {
            return false;
        }
        // SAFETY: in EMPTY the waiter is the getter's, and only the getter leaves EMPTY for REGISTERED.
        self.slot.waiter.with_mut(|place| unsafe { *place = Some(waiter) });
        point();
        // Release, for the Acquire of the setter's swap: the waiter before REGISTERED.
        let registered =
            self.slot.state.compare_exchange(EMPTY, REGISTERED, Ordering::Release, Ordering::Relaxed).is_ok();
        if !registered {
            // SAFETY: the setter found EMPTY, so it did not take what is here, and it has left.
            self.slot.waiter.with_mut(|place| unsafe { *place = None });
        }
        registered
    }

    /// Nobody waits any more. False: the value is there, and whoever waited was told, or is being told just now.
    pub fn unwait(&mut self) -> bool {
        point();
        // Relaxed: the waiter behind REGISTERED was written by this thread, and the setter's swap decides who has it.
        match self.slot.state.compare_exchange(REGISTERED, EMPTY, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => {
                // SAFETY: this thread left REGISTERED, so the waiter is its own.
                self.slot.waiter.with_mut(|place| unsafe { *place = None });
                true
            }
            Err(state) => state == EMPTY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Told(mpsc::Sender<u8>, u8);

    impl Waiter for Told {
        fn ready(self) {
            self.0.send(self.1).unwrap();
        }
    }

    #[test]
    fn a_value_is_delivered_once() {
        let (setter, mut getter) = pair::<&str, Told>();
        assert_eq!(getter.take(), Taken::NotYet);
        assert!(!getter.is_ready());
        setter.set("result");
        assert!(getter.is_ready());
        assert_eq!(getter.take(), Taken::Value("result"));
        assert_eq!(getter.take(), Taken::Never);
    }

    #[test]
    fn the_last_waiter_is_told_and_no_other() {
        let (sender, told) = mpsc::channel();
        let (setter, mut getter) = pair::<(), Told>();
        assert!(getter.wait(Told(sender.clone(), 1)));
        assert!(getter.wait(Told(sender.clone(), 2)));
        assert!(getter.unwait());
        assert!(getter.wait(Told(sender.clone(), 3)));
        setter.set(());
        assert!(!getter.wait(Told(sender, 4)));
        assert_eq!(told.iter().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_dropped_setter_is_told_too() {
        let (sender, told) = mpsc::channel();
        let (setter, mut getter) = pair::<(), Told>();
        assert!(getter.wait(Told(sender, 1)));
        drop(setter);
        assert_eq!(told.recv(), Ok(1));
        assert_eq!(getter.take(), Taken::Never);
    }
}
