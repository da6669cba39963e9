//! What a server is told when it starts, and what all its machines count together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::place::{Certificate, UnixAddress};
use crate::hub::QueueLimits;
use crate::resp::Limits;

/// How to serve. The same value in production and in a simulated world.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    /// The port for TLS, and what the server is there.
    pub(crate) tls: Option<(SocketAddr, Certificate)>,
    pub(crate) unix: Option<UnixAddress>,
    /// How many machines share the port and the keys.
    pub(crate) machines: usize,
    pub(crate) limits: Limits,
    /// Bytes that keys and values may take, all machines together.
    pub(crate) memory: usize,
    /// Bytes that incomplete requests and unsent replies may take, all connections together.
    pub(crate) buffers: usize,
    /// Connections at once.
    pub(crate) clients: usize,
    /// What may wait for one subscriber; one that has more is cut off.
    pub(crate) queue: QueueLimits,
    /// How long a client may take to read a reply that does not fit into its socket.
    pub(crate) write_timeout: Duration,
    /// How long another machine may take to answer.
    pub(crate) peer_timeout: Duration,
    /// After so long without a request a connection is closed.
    pub(crate) idle_timeout: Option<Duration>,
    /// Where the server tells of itself.
    pub(crate) inspect: Option<PathBuf>,
    /// What keys are hashed with. Clients should not know it.
    pub(crate) hash_seed: u64,
    /// What is told to whoever runs it.
    pub(crate) say: fn(&str),
    pub(crate) bug: Option<Bug>,
}

impl Config {
    pub(crate) fn new(listen: SocketAddr) -> Config {
        Config {
            listen,
            tls: None,
            unix: None,
            machines: 1,
            limits: Limits::default(),
            memory: 1 << 30,
            buffers: 256 << 20,
            clients: 10_000,
            queue: QueueLimits { messages: 1 << 16, bytes: 32 << 20 },
            write_timeout: Duration::from_secs(30),
            peer_timeout: Duration::from_secs(10),
            idle_timeout: None,
            inspect: None,
            hash_seed: 0,
            say: |_| {},
            bug: None,
        }
    }
}

/// A mistake planted for the hunt to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bug {
    /// A reply that is late is taken for one that was never sent, and the writes that it acknowledged are undone.
    LostWrite,
}

/// Counts of the whole server. Nothing is ordered by them: each is a number of its own, so relaxed is enough.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) clients: AtomicUsize,
    pub(crate) accepted: AtomicUsize,
    pub(crate) commands: AtomicUsize,
    pub(crate) buffered: AtomicUsize,
}

impl Totals {
    pub(crate) fn add(counter: &AtomicUsize, count: usize) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn read(counter: &AtomicUsize) -> usize {
        counter.load(Ordering::Relaxed)
    }

    /// Counts a client that came, unless there are `most`.
    pub(crate) fn admit(&self, most: usize) -> bool {
        Totals::add(&self.accepted, 1);
        let admitted = self.clients.fetch_add(1, Ordering::Relaxed) < most;
        if !admitted {
            self.dismiss();
        }
        admitted
    }

    pub(crate) fn dismiss(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes `bytes` of the limit on buffers, or nothing when they are not left.
    pub(crate) fn take_buffers(&self, bytes: usize, limit: usize) -> bool {
        let taken = self.buffered.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= limit;
        if !taken {
            self.give_buffers(bytes);
        }
        taken
    }

    pub(crate) fn give_buffers(&self, bytes: usize) {
        self.buffered.fetch_sub(bytes, Ordering::Relaxed);
    }
}
