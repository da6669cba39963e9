//! SUBSCRIBE and PUBLISH: who listens to which channel, over all machines, and what waits for whom.
//!
//! A subscriber has a queue that is bounded in messages and in bytes, filled by publishers, which never wait, and emptied by
//! its own connection. One whose queue has no room is cut off: it is out of the hub at once, and dropping `kick` here wakes
//! its connection, which ends. So a client that does not read costs its publishers nothing and the server a bounded queue.
//!
//! A message is encoded once and shared by all queues. The lock is of this library, held for a look and never over a wait.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use machinarium::sync::Mutex;
use machinarium::sync::channel::{Receiver, Sender, bounded, unbounded};

use crate::reply::Reply;

/// See the head of the file.
pub(crate) struct Hub {
    limits: QueueLimits,
    state: Mutex<State>,
}

/// How much may wait for one subscriber.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueLimits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

#[derive(Default)]
struct State {
    channels: BTreeMap<Vec<u8>, BTreeSet<u64>>,
    subscribers: BTreeMap<u64, Subscriber>,
    next: u64,
}

struct Subscriber {
    channels: BTreeSet<Vec<u8>>,
    queue: Sender<Arc<[u8]>>,
    waiting: Arc<AtomicUsize>,
    /// Nothing is ever sent: that it is gone is the message.
    _kick: Sender<()>,
}

/// A subscriber's own end. Dropped, it has left the hub.
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    id: u64,
    pub(crate) queue: Receiver<Arc<[u8]>>,
    /// The bytes in `queue`: the receiver counts them off.
    pub(crate) waiting: Arc<AtomicUsize>,
    /// Closed when the subscriber was cut off.
    pub(crate) kicked: Receiver<()>,
}

impl Hub {
    pub(crate) fn new(limits: QueueLimits) -> Arc<Hub> {
        Arc::new(Hub { limits, state: Mutex::new(State::default()) })
    }

    /// A subscriber of nothing yet.
    pub(crate) fn join(self: &Arc<Hub>) -> io::Result<Subscription> {
        let (queue, receiver) = bounded(self.limits.messages);
        let (kick, kicked) = unbounded();
        let waiting = Arc::<AtomicUsize>::default();
        let mut state = self.state.lock()?;
        state.next += 1;
        let id = state.next;
        let channels = BTreeSet::new();
        let subscriber = Subscriber { channels, queue, waiting: waiting.clone(), _kick: kick };
        state.subscribers.insert(id, subscriber);
        Ok(Subscription { hub: self.clone(), id, queue: receiver, waiting, kicked })
    }

    /// Gives a message to all who subscribe to a channel; returns how many they were.
    pub(crate) fn publish(&self, channel: &[u8], message: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock()?;
        let Some(ids) = state.channels.get(channel) else { return Ok(0) };
        let encoded =
            encode(&Reply::Array(vec![Reply::bulk(b"message"), Reply::bulk(channel), Reply::bulk(message)]));
        let offer = |id: &&u64| state.subscribers[*id].offer(&encoded, self.limits.bytes);
        let (served, full): (Vec<&u64>, Vec<&u64>) = ids.iter().partition(offer);
        let (served, full) = (served.len(), full.into_iter().copied().collect::<Vec<u64>>());
        full.into_iter().for_each(|id| state.remove(id));
        Ok(served)
    }

    /// How many subscribe to something.
    #[allow(dead_code, reason = "for tests")]
    pub(crate) fn subscribers(&self) -> io::Result<usize> {
        Ok(self.state.lock()?.subscribers.len())
    }
}

impl State {
    fn remove(&mut self, id: u64) {
        let Some(subscriber) = self.subscribers.remove(&id) else { return };
        subscriber.channels.iter().for_each(|channel| self.leave(channel, id));
    }

    fn leave(&mut self, channel: &[u8], id: u64) {
        let ids = self.channels.get_mut(channel).expect("a subscriber is in each of its channels");
        ids.remove(&id);
        if ids.is_empty() {
            self.channels.remove(channel);
        }
    }
}

impl Subscriber {
    fn offer(&self, message: &Arc<[u8]>, most: usize) -> bool {
        // Relaxed: the lock orders those who add, and who counts off only makes room.
        if self.waiting.load(Relaxed) + message.len() > most {
            return false;
        }
        self.waiting.fetch_add(message.len(), Relaxed);
        self.queue.try_send(message.clone()).is_ok()
    }
}

impl Subscription {
    /// Listens to a channel. In the queue the reply comes before any message of the channel.
    pub(crate) fn subscribe(&self, channel: &[u8]) -> io::Result<()> {
        let mut state = self.hub.state.lock()?;
        let subscriber = state.subscribers.get_mut(&self.id).ok_or_else(cut_off)?;
        subscriber.channels.insert(channel.to_vec());
        let count = subscriber.channels.len();
        self.reply(subscriber, &acknowledgement(b"subscribe", Some(channel), count))?;
        state.channels.entry(channel.to_vec()).or_default().insert(self.id);
        Ok(())
    }

    /// Leaves channels, all if none is named; returns how many are left.
    pub(crate) fn unsubscribe(&self, channels: &[Vec<u8>]) -> io::Result<usize> {
        let mut state = self.hub.state.lock()?;
        let subscriber = state.subscribers.get(&self.id).ok_or_else(cut_off)?;
        let all = subscriber.channels.iter().cloned();
        let channels = if channels.is_empty() { all.collect() } else { channels.to_vec() };
        for channel in &channels {
            let subscriber = state.subscribers.get_mut(&self.id).ok_or_else(cut_off)?;
            if subscriber.channels.remove(channel) {
                state.leave(channel, self.id);
            }
            let subscriber = &state.subscribers[&self.id];
            let count = subscriber.channels.len();
            self.reply(subscriber, &acknowledgement(b"unsubscribe", Some(channel), count))?;
        }
        Ok(state.subscribers[&self.id].channels.len())
    }

    /// Another reply, behind what waits.
    pub(crate) fn answer(&self, reply: &Reply) -> io::Result<()> {
        let state = self.hub.state.lock()?;
        let subscriber = state.subscribers.get(&self.id).ok_or_else(cut_off)?;
        self.reply(subscriber, reply)
    }

    /// Leaves the hub: what is in the queue is all that comes.
    pub(crate) fn leave(&self) -> io::Result<()> {
        self.hub.state.lock()?.remove(self.id);
        Ok(())
    }

    fn reply(&self, subscriber: &Subscriber, reply: &Reply) -> io::Result<()> {
        let fits = subscriber.offer(&encode(reply), self.hub.limits.bytes);
        if fits { Ok(()) } else { Err(cut_off()) }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Shielded: a connection that is cancelled leaves all the same. Without the lock, the next message cuts it off.
        let _ = machinarium::shield(|| self.leave());
    }
}

/// The reply to SUBSCRIBE and UNSUBSCRIBE for one channel.
pub(crate) fn acknowledgement(what: &[u8], channel: Option<&[u8]>, count: usize) -> Reply {
    let channel = channel.map_or(Reply::Nil, Reply::bulk);
    Reply::Array(vec![Reply::bulk(what), channel, Reply::Integer(count as i64)])
}

fn encode(reply: &Reply) -> Arc<[u8]> {
    let mut bytes = Vec::new();
    reply.encode(&mut bytes).expect("memory takes all");
    bytes.into()
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "a subscriber that does not read is cut off")
}
