//! Channels of one machine: what [`channel`](super) has, without locks and atomic operations.
//!
//! The same names, errors and rules; the ends are not `Send`. An item goes straight to the receiver who has waited longest, whose wake-up
//! is a place in the ready queue. What waits in a [`select`](crate::sync::select()) among cases of other threads does so in these lines too.
//!
//! ```
//! use machinarium::sync::channel::local;
//!
//! let total: std::io::Result<u32> = machinarium::run(|| {
//!     let (sender, receiver) = local::bounded(2);
//!     let adder = machinarium::spawn(move || receiver.iter().sum());
//!     for number in 1..=10 {
//!         sender.send(number)?;
//!     }
//!     drop(sender);
//!     Ok(adder.join()?)
//! });
//! assert_eq!(total.unwrap(), 55);
//! ```

mod receiver;
mod sender;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

pub use receiver::{IntoIter, Iter, Receiver, Receiving, TryIter};
pub use sender::{Sender, Sending};

use crate::machine::seat::LocalSeat;
use crate::shared::channel::Channel;
use crate::shared::line::Waiter;

/// What the ends of one channel share. No user's code runs while it is borrowed.
struct Core<T> {
    state: RefCell<Channel<T, LocalSeat>>,
}

/// A channel that holds at most `bound` items; whoever sends more waits. With 0, a sender waits for a receiver.
pub fn bounded<T>(bound: usize) -> (Sender<T>, Receiver<T>) {
    let core = Rc::new(Core { state: RefCell::new(Channel::new(bound)) });
    (Sender::new(core.clone()), Receiver::new(core))
}

/// A channel that holds as many items as there is memory for: sending never waits.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

impl<T> Core<T> {
    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut Channel<T, LocalSeat>) -> R) -> R {
        inside(&mut self.state.borrow_mut())
    }

    /// Wakes all who wait for an end that is gone.
    fn tell_the_stranded(&self) {
        while let Some(waiter) = self.with(Channel::next_stranded) {
            waiter.wake();
        }
    }
}

impl<T> fmt::Debug for Core<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, bound) = self.with(|channel| (channel.len(), channel.bound()));
        let mut out = f.debug_struct("Channel");
        out.field("len", &len);
        if bound != usize::MAX {
            out.field("bound", &bound);
        }
        out.finish()
    }
}
