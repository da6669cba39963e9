//! What a chat server is told when it starts.

use std::net::SocketAddr;
use std::time::Duration;

/// How to serve. The same value in production and in a simulated world.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    /// How many machines share the members.
    pub(crate) machines: usize,
    /// Members at once.
    pub(crate) clients: usize,
    /// Lines that may wait for one member; one who has more is cut off.
    pub(crate) queue: usize,
    /// How long members may go on when the server ends.
    pub(crate) drain: Duration,
    /// What is told to whoever runs it.
    pub(crate) say: fn(&str),
    pub(crate) bug: Option<Bug>,
}

/// A mistake planted for the hunt to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bug {
    /// A line for which a member has no room is left out, and the member stays.
    Gap,
}
