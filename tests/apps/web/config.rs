//! What a web server is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::place::Certificate;

/// How to serve. The same value in production and in a simulated world.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) tls: Option<(SocketAddr, Certificate)>,
    /// Where the notes are kept; `None`: in memory.
    pub(crate) notes: Option<PathBuf>,
    /// How many machines share the connections.
    pub(crate) machines: usize,
    /// Connections at once.
    pub(crate) clients: usize,
    /// How long a client may take for the head of a request, or a handshake.
    pub(crate) patience: Duration,
    /// How long clients may go on when the server ends.
    pub(crate) drain: Duration,
    /// What is told to whoever runs it.
    pub(crate) say: fn(&str),
    /// A line for each request.
    pub(crate) access: fn(&str),
    pub(crate) bug: Option<Bug>,
}

/// A mistake planted for the hunt to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bug {
    /// A change is answered before the disk has it.
    EarlyAnswer,
}
