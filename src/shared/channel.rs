//! What a channel holds, and who waits at its two ends. Plain state: it lies inside a lock, or in memory of one machine.
//!
//! | | buffer has room | buffer is full |
//! |---|---|---|
//! | senders' line | empty | those who wait with their items |
//! | receivers' line | those who wait, and then the buffer is empty | empty |
//!
//! (Whoever has given up and not left yet may stand in either.) An item goes to the receiver who has waited longest, else into
//! the buffer, else it waits with its sender; a receiver takes from the buffer, and the sender who has waited longest moves up
//! into it. With a bound of 0 there is no buffer: the two meet.
//!
//! Whoever tries with a wait of his own (`me`) gets his effect and ends that wait in one step, or stands in line, or was
//! claimed in another line meanwhile ([`Sent::Overtaken`]) and has done nothing. Items are never dropped in here, since that
//! may run anything.

use std::collections::VecDeque;

use super::line::{Key, Left, Line, Overtaken, Waiter};

/// See the head of the file.
#[derive(Debug)]
pub struct Channel<T, W> {
    buffer: VecDeque<T>,
    bound: usize,
    senders: Line<W, T>,
    receivers: Line<W, T>,
    sending_ends: usize,
    receiving_ends: usize,
}

/// How an attempt to send went. Whoever is named is to be woken outside of the lock.
#[derive(Debug)]
pub enum Sent<T, W> {
    /// The channel has the item, or that receiver.
    Done(Option<W>),
    /// There is no room, and there was no wait to stand in line with.
    Full(T),
    /// The sender stands in line, and the item with him.
    Waits(Key),
    /// Nobody will receive.
    Disconnected(T),
    /// His wait was ended elsewhere.
    Overtaken(T),
}

/// How an attempt to receive went. Whoever is named is to be woken outside of the lock.
#[derive(Debug)]
pub enum Received<T, W> {
    /// An item; that sender's has gone in.
    Done(T, Option<W>),
    /// There is none, and there was no wait to stand in line with.
    Empty,
    /// The receiver stands in line.
    Waits(Key),
    /// There is none, and nobody will send.
    Disconnected,
    /// His wait was ended elsewhere.
    Overtaken,
}

/// Which item a receiver takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// The one that came first.
    Oldest,
    /// The one that came last: under overload the others are too late anyway.
    Newest,
}

impl<T, W: Waiter> Channel<T, W> {
    /// An empty channel with one end of each kind, for at most `bound` items.
    pub fn new(bound: usize) -> Channel<T, W> {
        Channel {
            buffer: VecDeque::new(),
            bound,
            senders: Line::default(),
            receivers: Line::default(),
            sending_ends: 1,
            receiving_ends: 1,
        }
    }

    /// Sends, or stands in line with `me`.
    #[inline]
    pub fn send(&mut self, item: T, me: Option<&W>) -> Sent<T, W> {
        if self.receiving_ends == 0 {
            return if is_overtaken(me) { Sent::Overtaken(item) } else { Sent::Disconnected(item) };
        }
        match self.receivers.claim_first(me) {
            Err(Overtaken) => return Sent::Overtaken(item),
            Ok(Some(claimed)) => return Sent::Done(Some(self.receivers.serve(claimed, Some(item)))),
            Ok(None) => {}
        }
        if self.buffer.len() < self.bound {
            if is_overtaken(me) {
                return Sent::Overtaken(item);
            }
            self.buffer.push_back(item);
            return Sent::Done(None);
        }
        match me {
            None => Sent::Full(item),
            Some(me) => Sent::Waits(self.senders.join(*me, Some(item))),
        }
    }

    /// Receives, or stands in line with `me`.
    #[inline]
    pub fn receive(&mut self, order: Order, me: Option<&W>) -> Received<T, W> {
        if !self.buffer.is_empty() {
            if is_overtaken(me) {
                return Received::Overtaken;
            }
            let item = self.pop(order);
            return Received::Done(item.expect("it is not empty"), self.move_up());
        }
        match self.senders.claim_first(me) {
            Err(Overtaken) => return Received::Overtaken,
            Ok(Some(claimed)) => {
                let (sender, item) = self.senders.take(claimed);
                return Received::Done(item.expect("a sender brings an item"), Some(sender));
            }
            Ok(None) => {}
        }
        match me {
            _ if self.sending_ends == 0 => {
                if is_overtaken(me) {
                    Received::Overtaken
                } else {
                    Received::Disconnected
                }
            }
            None => Received::Empty,
            Some(me) => Received::Waits(self.receivers.join(*me, None)),
        }
    }

    /// As `send` without a wait; if there is no room, stands in line with the wait that `open` begins then and there. Who waits for
    /// nothing else need not begin a wait before he has looked, nor look again after.
    #[inline(always)]
    pub fn send_or_join(&mut self, item: T, open: impl FnOnce() -> Option<W>) -> Sent<T, W> {
        if self.receiving_ends == 0 {
            return Sent::Disconnected(item);
        }
        if let Ok(Some(claimed)) = self.receivers.claim_first(None) {
            return Sent::Done(Some(self.receivers.serve(claimed, Some(item))));
        }
        if self.buffer.len() < self.bound {
            self.buffer.push_back(item);
            return Sent::Done(None);
        }
        match open() {
            None => Sent::Full(item),
            Some(me) => Sent::Waits(self.senders.join(me, Some(item))),
        }
    }

    /// As `receive` without a wait; if there is nothing, stands in line with the wait that `open` begins then and there.
    #[inline(always)]
    pub fn receive_or_join(&mut self, order: Order, open: impl FnOnce() -> Option<W>) -> Received<T, W> {
        // The usual case, in few instructions: nobody waits to send.
        if self.senders.is_empty() {
            match self.pop(order) {
                Some(item) => return Received::Done(item, None),
                None if self.sending_ends == 0 => return Received::Disconnected,
                None => {}
            }
        } else {
            match self.receive(order, None) {
                Received::Empty => {}
                received => return received,
            }
        }
        match open() {
            None => Received::Empty,
            Some(me) => Received::Waits(self.receivers.join(me, None)),
        }
    }

    #[inline(always)]
    fn pop(&mut self, order: Order) -> Option<T> {
        match order {
            Order::Oldest => self.buffer.pop_front(),
            Order::Newest => self.buffer.pop_back(),
        }
    }

    /// The item of the sender who has waited longest goes into the buffer, where there is room now.
    fn move_up(&mut self) -> Option<W> {
        let claimed = self.senders.claim_first(None).ok()??;
        let (sender, item) = self.senders.take(claimed);
        self.buffer.push_back(item.expect("a sender brings an item"));
        Some(sender)
    }

    /// A sender's wait is over: his item, unless it has gone.
    pub fn leave_senders(&mut self, key: Key) -> Left<T> {
        self.senders.leave(key)
    }

    /// A receiver's wait is over: the item, if he was given one.
    pub fn leave_receivers(&mut self, key: Key) -> Left<T> {
        self.receivers.leave(key)
    }

    /// One more sending end.
    pub fn add_sending_end(&mut self) {
        self.sending_ends += 1;
    }

    /// One more receiving end.
    pub fn add_receiving_end(&mut self) {
        self.receiving_ends += 1;
    }

    /// One sending end less. After the last, [`next_stranded`](Self::next_stranded) names those who wait in vain.
    pub fn drop_sending_end(&mut self) {
        self.sending_ends -= 1;
    }

    /// One receiving end less. After the last, the items that nobody will receive, to be dropped outside of the lock, and
    /// [`next_stranded`](Self::next_stranded) names those who wait in vain.
    pub fn drop_receiving_end(&mut self) -> VecDeque<T> {
        self.receiving_ends -= 1;
        if self.receiving_ends == 0 { std::mem::take(&mut self.buffer) } else { VecDeque::new() }
    }

    /// The next who waits for an end that is gone: to be woken outside of the lock, and to look again.
    pub fn next_stranded(&mut self) -> Option<W> {
        let line = match (self.sending_ends, self.receiving_ends) {
            (0, _) => &mut self.receivers,
            (_, 0) => &mut self.senders,
            _ => return None,
        };
        let claimed = line.claim_first(None).ok()??;
        Some(line.dismiss(claimed))
    }

    /// Takes the items for others, which have none of their own left behind.
    pub fn swap_items(&mut self, others: &mut VecDeque<T>) {
        std::mem::swap(&mut self.buffer, others);
    }

    /// How many items are in the buffer.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether the buffer is empty.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// How many items the buffer may hold.
    pub fn bound(&self) -> usize {
        self.bound
    }

    /// Whether a receiver is left.
    pub fn has_receiver(&self) -> bool {
        self.receiving_ends > 0
    }
}

/// Ends the wait of him who has found what he waits for. True: it was ended elsewhere before.
fn is_overtaken<W: Waiter>(me: Option<&W>) -> bool {
    me.is_some_and(|me| !me.withdraw())
}
