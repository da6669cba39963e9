//! The sending end of a channel of one machine, and sending as one case of several. The shared one is beside it.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::super::{SendError, TrySendError};
use super::Core;
use crate::error::WaitError;
use crate::kernel::Instant;
use crate::machine::block::{Attempt, Case, block_here};
use crate::machine::seat::{LocalSeat, Seat};
use crate::machine::{Reason, begin_call};
use crate::shared::channel::Sent;
use crate::shared::line::{Key, Waiter};

/// Sends. Clone it for more senders; the channel ends for its receivers when the last one is dropped.
pub struct Sender<T> {
    core: Rc<Core<T>>,
}

impl<T> Sender<T> {
    pub(super) fn new(core: Rc<Core<T>>) -> Sender<T> {
        Sender { core }
    }

    /// Sends, waiting for room in a bounded channel.
    ///
    /// # Errors
    /// [`SendError`] with the value: no receiver is left, or the wait was ended by a deadline or a
    /// cancellation; then it was not sent.
    #[inline]
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.send_deadline(item, Instant::FAR)
    }

    /// As [`send`](Self::send), waiting for `timeout` at most.
    ///
    /// # Errors
    /// As `send`.
    pub fn send_timeout(&self, item: T, timeout: Duration) -> Result<(), SendError<T>> {
        if let Err(error) = begin_call() {
            return Err(SendError::Wait(item, error));
        }
        match self.try_send(item) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(item)) => Err(SendError::Disconnected(item)),
            Err(TrySendError::Full(item)) => self.send_deadline(item, crate::time::now() + timeout),
        }
    }

    /// As [`send`](Self::send), waiting until `deadline` at most.
    ///
    /// # Errors
    /// As `send`.
    #[inline]
    pub fn send_deadline(&self, item: T, deadline: Instant) -> Result<(), SendError<T>> {
        let mut sending = self.sending(item);
        let waited = block_here(&mut sending, || Reason::of("send"), deadline);
        sending.result(waited)
    }

    /// Sends if that can be done at once.
    ///
    /// # Errors
    /// [`TrySendError`] with the value.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        match self.core.with(|channel| channel.send(item, None)) {
            Sent::Done(woken) => {
                if let Some(waiter) = woken {
                    waiter.wake();
                }
                Ok(())
            }
            Sent::Full(item) => Err(TrySendError::Full(item)),
            Sent::Disconnected(item) => Err(TrySendError::Disconnected(item)),
            Sent::Waits(_) | Sent::Overtaken(_) => unreachable!("nobody waits"),
        }
    }

    /// Sending `item`, as a case of [`select`](crate::sync::select()). After it was chosen, [`Sending::sent`] tells.
    pub fn sending(&self, item: T) -> Sending<'_, T> {
        Sending { core: &self.core, item: Some(item), place: None, disconnected: false }
    }

    /// How many items wait in the channel.
    pub fn len(&self) -> usize {
        self.core.with(|channel| channel.len())
    }

    /// Whether no item waits in the channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many items the channel may hold; `None` if as many as there is memory for.
    pub fn capacity(&self) -> Option<usize> {
        Some(self.core.with(|channel| channel.bound())).filter(|bound| *bound != usize::MAX)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.core.with(|channel| channel.add_sending_end());
        Sender { core: self.core.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.core.with(|channel| channel.drop_sending_end());
        self.core.tell_the_stranded();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.core).finish()
    }
}

/// A value that is being sent: see [`Sender::sending`].
pub struct Sending<'a, T> {
    core: &'a Rc<Core<T>>,
    item: Option<T>,
    place: Option<Key>,
    disconnected: bool,
}

impl<T> Sending<'_, T> {
    /// What became of it: sent, or not and the value comes back.
    ///
    /// # Errors
    /// [`TrySendError::Disconnected`] if no receiver is left; [`TrySendError::Full`] if another case was chosen.
    pub fn sent(mut self) -> Result<(), TrySendError<T>> {
        match self.item.take() {
            None => Ok(()),
            Some(item) if self.disconnected => Err(TrySendError::Disconnected(item)),
            Some(item) => Err(TrySendError::Full(item)),
        }
    }

    fn result(mut self, waited: Result<(), WaitError>) -> Result<(), SendError<T>> {
        match (self.item.take(), waited) {
            (None, _) => Ok(()),
            (Some(item), Err(error)) => Err(SendError::Wait(item, error)),
            (Some(item), Ok(())) => Err(SendError::Disconnected(item)),
        }
    }
}

impl<T> Sending<'_, T> {
    /// What became of an attempt.
    #[inline(always)]
    fn went(&mut self, sent: Sent<T, LocalSeat>) -> Attempt {
        let (item, attempt) = match sent {
            Sent::Done(woken) => {
                if let Some(waiter) = woken {
                    waiter.wake();
                }
                return Attempt::Done;
            }
            Sent::Waits(key) => {
                self.place = Some(key);
                return Attempt::Waits;
            }
            Sent::Full(item) => (item, Attempt::NotNow),
            Sent::Overtaken(item) => (item, Attempt::Overtaken),
            Sent::Disconnected(item) => {
                self.disconnected = true;
                (item, Attempt::Done)
            }
        };
        self.item = Some(item);
        attempt
    }
}

impl<T> Case for Sending<'_, T> {
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt {
        // Chosen before and used again: it stays sent.
        let Some(item) = self.item.take() else { return Attempt::Done };
        let sent = self.core.with(|channel| channel.send(item, me.map(LocalSeat::from).as_ref()));
        self.went(sent)
    }

    #[inline(always)]
    fn attempt_alone(&mut self, open: impl FnOnce() -> Option<Seat>) -> Attempt {
        let Some(item) = self.item.take() else { return Attempt::Done };
        let sent =
            self.core.with(|channel| channel.send_or_join(item, || open().as_ref().map(LocalSeat::from)));
        self.went(sent)
    }

    #[inline(always)]
    fn leave(&mut self) -> bool {
        let Some(key) = self.place.take() else { return false };
        let left = self.core.with(|channel| channel.leave_senders(key));
        self.item = left.item;
        // Told that the last receiver has gone: the next look says so.
        left.served && self.item.is_none()
    }
}
