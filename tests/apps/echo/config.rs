//! What an echo server is told when it starts.

use std::net::SocketAddr;
use std::time::Duration;

use crate::common::place::{Certificate, UnixAddress};

/// How to serve. The same value in production and in a simulated world.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) tcp: Option<SocketAddr>,
    pub(crate) tls: Option<(SocketAddr, Certificate)>,
    pub(crate) unix: Option<UnixAddress>,
    /// How many machines share the connections.
    pub(crate) machines: usize,
    /// Connections at once, all listeners together.
    pub(crate) clients: usize,
    /// How long a client may neither send nor take anything.
    pub(crate) idle: Option<Duration>,
    /// How long clients may go on when the server ends.
    pub(crate) drain: Duration,
    /// What is told to whoever runs it.
    pub(crate) say: fn(&str),
    pub(crate) bug: Option<Bug>,
}

/// A mistake planted for the hunt to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bug {
    /// A write that takes a part is taken for one that took all.
    ShortWrite,
}
