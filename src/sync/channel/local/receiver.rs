//! The receiving end of a channel of one machine, and receiving as one case of several. The shared one is beside it.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::super::{RecvError, TryRecvError};
use super::Core;
use crate::kernel::Instant;
use crate::machine::block::{Attempt, Case, block_here};
use crate::machine::seat::{LocalSeat, Seat};
use crate::machine::{Reason, begin_call};
use crate::shared::channel::{Order, Received};
use crate::shared::line::{Key, Waiter};

/// Receives. Clone it for more receivers; each item goes to one of them.
pub struct Receiver<T> {
    core: Rc<Core<T>>,
}

impl<T> Receiver<T> {
    pub(super) fn new(core: Rc<Core<T>>) -> Receiver<T> {
        Receiver { core }
    }

    /// Receives the item that was sent first, waiting for one.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] when nothing is left and nobody will send; [`RecvError::Wait`] when a deadline passed or the
    /// coroutine was cancelled; then nothing was taken.
    #[inline(always)]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_deadline(Instant::FAR)
    }

    /// As [`recv`](Self::recv), waiting for `timeout` at most.
    ///
    /// # Errors
    /// As `recv`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        begin_call().map_err(RecvError::Wait)?;
        match self.try_recv() {
            Ok(item) => Ok(item),
            Err(TryRecvError::Disconnected) => Err(RecvError::Disconnected),
            Err(TryRecvError::Empty) => self.recv_deadline(crate::time::now() + timeout),
        }
    }

    /// As [`recv`](Self::recv), waiting until `deadline` at most.
    ///
    /// # Errors
    /// As `recv`.
    #[inline(always)]
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvError> {
        self.receive(Order::Oldest, deadline)
    }

    /// Receives the item that was sent *last*, waiting for one: what to answer first under overload, when those who sent the
    /// oldest have given up already.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_newest(&self) -> Result<T, RecvError> {
        self.receive(Order::Newest, Instant::FAR)
    }

    #[inline(always)]
    fn receive(&self, order: Order, deadline: Instant) -> Result<T, RecvError> {
        let mut receiving = self.receiving_in(order);
        let waited = block_here(&mut receiving, || Reason::of("receive"), deadline);
        match (receiving.item.take(), waited) {
            (Some(item), _) => Ok(item),
            (None, Err(error)) => Err(RecvError::Wait(error)),
            (None, Ok(())) => Err(RecvError::Disconnected),
        }
    }

    /// Receives if there is something.
    ///
    /// # Errors
    /// [`TryRecvError`] says whether something may still come.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        match self.core.with(|channel| channel.receive(Order::Oldest, None)) {
            Received::Done(item, woken) => {
                if let Some(waiter) = woken {
                    waiter.wake();
                }
                Ok(item)
            }
            Received::Empty => Err(TryRecvError::Empty),
            Received::Disconnected => Err(TryRecvError::Disconnected),
            Received::Waits(_) | Received::Overtaken => unreachable!("nobody waits"),
        }
    }

    /// Receiving, as a case of [`select`](crate::sync::select()). After it was chosen, [`Receiving::received`] has the item.
    pub fn receiving(&self) -> Receiving<'_, T> {
        self.receiving_in(Order::Oldest)
    }

    fn receiving_in(&self, order: Order) -> Receiving<'_, T> {
        Receiving { core: &self.core, order, item: None, place: None, disconnected: false }
    }

    /// What comes until the last sender is gone, or until a wait is ended by a deadline or a cancellation.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self)
    }

    /// What is there now.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter(self)
    }

    /// How many items wait in the channel.
    pub fn len(&self) -> usize {
        self.core.with(|channel| channel.len())
    }

    /// Whether no item waits in the channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.core.with(|channel| channel.add_receiving_end());
        Receiver { core: self.core.clone() }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let unreceived = self.core.with(|channel| channel.drop_receiving_end());
        self.core.tell_the_stranded();
        drop(unreceived);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.core).finish()
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self)
    }
}

/// Something that is being received: see [`Receiver::receiving`].
pub struct Receiving<'a, T> {
    core: &'a Rc<Core<T>>,
    order: Order,
    item: Option<T>,
    place: Option<Key>,
    disconnected: bool,
}

impl<T> Receiving<'_, T> {
    /// The item, if this case was chosen.
    ///
    /// # Errors
    /// [`TryRecvError::Disconnected`] if nobody will send; [`TryRecvError::Empty`] if another case was chosen.
    pub fn received(mut self) -> Result<T, TryRecvError> {
        match self.item.take() {
            Some(item) => Ok(item),
            None if self.disconnected => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }
}

impl<T> Receiving<'_, T> {
    /// What became of an attempt.
    #[inline(always)]
    fn took(&mut self, received: Received<T, LocalSeat>) -> Attempt {
        match received {
            Received::Done(item, woken) => {
                self.item = Some(item);
                if let Some(waiter) = woken {
                    waiter.wake();
                }
                Attempt::Done
            }
            Received::Waits(key) => {
                self.place = Some(key);
                Attempt::Waits
            }
            Received::Disconnected => {
                self.disconnected = true;
                Attempt::Done
            }
            Received::Empty => Attempt::NotNow,
            Received::Overtaken => Attempt::Overtaken,
        }
    }
}

impl<T> Case for Receiving<'_, T> {
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt {
        // Chosen before and used again: what it has is not lost.
        if self.item.is_some() {
            return Attempt::Done;
        }
        let received =
            self.core.with(|channel| channel.receive(self.order, me.map(LocalSeat::from).as_ref()));
        self.took(received)
    }

    #[inline(always)]
    fn attempt_alone(&mut self, open: impl FnOnce() -> Option<Seat>) -> Attempt {
        if self.item.is_some() {
            return Attempt::Done;
        }
        let received = self
            .core
            .with(|channel| channel.receive_or_join(self.order, || open().as_ref().map(LocalSeat::from)));
        self.took(received)
    }

    #[inline(always)]
    fn leave(&mut self) -> bool {
        let Some(key) = self.place.take() else { return false };
        let left = self.core.with(|channel| channel.leave_receivers(key));
        self.item = left.item;
        // Told that the last sender has gone: the next look says so.
        left.served && self.item.is_some()
    }
}

/// See [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T>(&'a Receiver<T>);

/// See [`Receiver::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T>(&'a Receiver<T>);

/// A receiver that is used up: see [`Receiver::iter`].
#[derive(Debug)]
pub struct IntoIter<T>(Receiver<T>);

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.0.recv().ok()
    }
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.0.try_recv().ok()
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.0.recv().ok()
    }
}
