//! A channel that threads share: inside of a lock, and with a backlog of items that receivers have taken out of it many at a time.
//!
//! A stream from one thread to another would take the channel's lock twice for each item, and the line of cache that it is on would go
//! to and fro each time. So a receiver who finds several items in a channel without a bound moves all of them into the backlog, and
//! takes what comes next from there. Senders do not touch it.
//!
//! | lock | taken by | inside of it |
//! |---|---|---|
//! | the channel's | senders; receivers who have found no backlog | the backlog's |
//! | the backlog's | receivers | nothing |
//!
//! *Rules.* Items go into the backlog inside of both locks, and only when it is empty: so what is in it is older than what is in the
//! channel, and whoever is inside of the channel's lock and has found none knows that none will be there until he leaves. So nobody
//! stands in line while there is a backlog, and nobody finds an end, either. A channel with a bound has no backlog: what is in it is
//! what its bound says.
//!
//! A lock of this folder is taken inside of another here, and nowhere else.

use std::collections::VecDeque;

use super::channel::{Channel, Order, Received};
use super::line::Waiter;
use super::lock::Lock;
use super::primitive::{AtomicU64, Ordering};

/// See the head of the file.
#[derive(Debug)]
pub struct Pipe<T, W> {
    channel: Lock<Channel<T, W>>,
    backlog: Backlog<T>,
}

/// On lines of its own, which senders do not touch.
#[derive(Debug)]
#[repr(align(128))]
struct Backlog<T> {
    items: Lock<VecDeque<T>>,
    /// How many, as of the last time that somebody left its lock.
    count: AtomicU64,
}

impl<T, W: Waiter> Pipe<T, W> {
    /// An empty channel with one end of each kind, for at most `bound` items.
    pub fn new(bound: usize) -> Pipe<T, W> {
        let backlog = Backlog { items: Lock::new(VecDeque::new()), count: AtomicU64::new(0) };
        Pipe { channel: Lock::new(Channel::new(bound)), backlog }
    }

    /// Does `inside` with the channel, alone: whatever is not receiving.
    #[inline(always)]
    pub fn with<R>(&self, inside: impl FnOnce(&mut Channel<T, W>) -> R) -> R {
        self.channel.with(inside)
    }

    /// As [`Channel::receive`].
    pub fn receive(&self, order: Order, me: Option<&W>) -> Received<T, W> {
        self.channel.with(|channel| {
            let held = if looks_behind(channel, order) { self.backlog.take_inside(order, me) } else { None };
            held.unwrap_or_else(|| channel.receive(order, me))
        })
    }

    /// As [`Channel::receive_or_join`].
    #[inline(always)]
    pub fn receive_or_join(&self, order: Order, open: impl FnOnce() -> Option<W>) -> Received<T, W> {
        if order == Order::Oldest
            && self.backlog.may_have()
            && let Some(item) = self.backlog.take_oldest()
        {
            return Received::Done(item, None);
        }
        self.channel.with(|channel| {
            if self.backlog.may_have()
                && looks_behind(channel, order)
                && let Some(held) = self.backlog.take_inside(order, None)
            {
                return held;
            }
            let received = channel.receive_or_join(order, open);
            if order == Order::Oldest && !channel.is_empty() && channel.bound() == usize::MAX {
                self.backlog.fill(channel);
            }
            received
        })
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.channel.with(|channel| channel.len() + self.backlog.count())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`Channel::drop_receiving_end`]; what comes first is first.
    pub fn drop_receiving_end(&self) -> [VecDeque<T>; 2] {
        self.channel.with(|channel| {
            let items = channel.drop_receiving_end();
            let held = if channel.has_receiver() { VecDeque::new() } else { self.backlog.take_all() };
            [held, items]
        })
    }
}

/// Whether what is in the backlog comes before what is in the channel.
fn looks_behind<T, W: Waiter>(channel: &Channel<T, W>, order: Order) -> bool {
    order == Order::Oldest || channel.is_empty()
}

impl<T> Backlog<T> {
    /// Relaxed: inside of the channel's lock it is as large as what the last fill has left there at least, since that was in the lock
    /// before, so zero is certain; that others take meanwhile is found when it is looked at. Outside it is a hint.
    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed) as usize
    }

    #[inline(always)]
    fn may_have(&self) -> bool {
        self.count() != 0
    }

    /// The oldest, for who is in no lock.
    #[inline]
    fn take_oldest(&self) -> Option<T> {
        self.items.with(|items| {
            let item = items.pop_front();
            self.left(items);
            item
        })
    }

    /// One, for who is inside of the channel's lock, and whose wait (`me`) ends with that.
    fn take_inside<W: Waiter>(&self, order: Order, me: Option<&W>) -> Option<Received<T, W>> {
        self.items.with_inside(|items| {
            if items.is_empty() {
                return None;
            }
            if me.is_some_and(|me| !me.withdraw()) {
                return Some(Received::Overtaken);
            }
            let item = match order {
                Order::Oldest => items.pop_front(),
                Order::Newest => items.pop_back(),
            };
            self.left(items);
            Some(Received::Done(item?, None))
        })
    }

    /// Takes all that is in the channel. Inside of its lock, when there is no backlog.
    fn fill<W: Waiter>(&self, channel: &mut Channel<T, W>) {
        self.items.with_inside(|items| {
            debug_assert!(items.is_empty(), "what is older comes first");
            channel.swap_items(items);
            self.left(items);
        });
    }

    fn take_all(&self) -> VecDeque<T> {
        self.items.with_inside(|items| {
            let all = std::mem::take(items);
            self.left(items);
            all
        })
    }

    /// Says how many are left. Inside of the lock.
    #[inline(always)]
    fn left(&self, items: &VecDeque<T>) {
        // Relaxed: as in `count`.
        self.count.store(items.len() as u64, Ordering::Relaxed);
    }
}
