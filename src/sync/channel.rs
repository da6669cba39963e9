//! Channels: values from any number of senders to any number of receivers, each to one of them.
//!
//! An item goes straight to the receiver who has waited longest, if one waits; else into the channel's buffer. A bounded channel that
//! is full makes its senders wait, which is back-pressure; with a bound of 0, sender and receiver meet. When the last receiver is
//! dropped, sending fails and gives the value back; when the last sender is, receivers get what is left, and then the error.
//!
//! ```
//! use machinarium::sync::channel;
//!
//! let total: std::io::Result<u32> = machinarium::run(|| {
//!     let (sender, receiver) = channel::bounded(2);
//!     let adder = machinarium::spawn(move || receiver.iter().sum());
//!     for number in 1..=10 {
//!         sender.send(number)?;
//!     }
//!     drop(sender);
//!     Ok(adder.join()?)
//! });
//! assert_eq!(total.unwrap(), 55);
//! ```

mod error;
mod iter;
pub mod local;
mod receiver;
mod sender;

use std::fmt;
use std::sync::Arc;

pub use error::{RecvError, SendError, TryRecvError, TrySendError};
pub use iter::{IntoIter, Iter, TryIter};
pub use receiver::{Receiver, Receiving};
pub use sender::{Sender, Sending};

use crate::machine::seat::Seat;
use crate::shared::channel::Channel;
use crate::shared::pipe::Pipe;

/// What the ends of one channel share.
struct Core<T> {
    pipe: Pipe<T, Seat>,
    policy: Policy,
}

/// What a sender meets at the bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Policy {
    /// It waits for room.
    Wait,
    /// It is refused.
    Hard(usize),
    /// It is refused with a probability that rises from none at the limit to certainty at twice the limit.
    Soft(usize),
}

/// A channel that holds at most `bound` items; whoever sends more waits. With 0, a sender waits for a receiver.
pub fn bounded<T>(bound: usize) -> (Sender<T>, Receiver<T>) {
    ends(bound, Policy::Wait)
}

/// A channel that holds as many items as there is memory for: sending never waits.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    ends(usize::MAX, Policy::Wait)
}

/// A channel that refuses to hold more than `limit` items: sending never waits, and fails with [`TrySendError::Full`].
///
/// For work that is better refused at once than late: the sender can say so to whoever asked.
pub fn limited<T>(limit: usize) -> (Sender<T>, Receiver<T>) {
    ends(limit, Policy::Hard(limit))
}

/// As [`limited`], refusing early: from `limit` items on with a probability that rises evenly to certainty at twice the limit. So
/// senders feel the pressure one after another, and not all at once.
///
/// The probability is drawn from the kernel's randomness.
pub fn limited_softly<T>(limit: usize) -> (Sender<T>, Receiver<T>) {
    ends(limit.saturating_mul(2), Policy::Soft(limit))
}

fn ends<T>(bound: usize, policy: Policy) -> (Sender<T>, Receiver<T>) {
    let core = Arc::new(Core { pipe: Pipe::new(bound), policy });
    (Sender::new(core.clone()), Receiver::new(core))
}

impl<T> Core<T> {
    /// Wakes all who wait for an end that is gone.
    fn tell_the_stranded(&self) {
        use crate::shared::line::Waiter;
        while let Some(waiter) = self.pipe.with(Channel::next_stranded) {
            waiter.wake();
        }
    }
}

impl<T> fmt::Debug for Core<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, bound) = (self.pipe.len(), self.pipe.with(|channel| channel.bound()));
        let mut out = f.debug_struct("Channel");
        out.field("len", &len);
        if bound != usize::MAX {
            out.field("bound", &bound);
        }
        out.finish()
    }
}
