//! What a proxy is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::place::Certificate;

/// How to serve. The same value in production and in a simulated world.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    /// TLS towards clients.
    pub(crate) accept: Option<Certificate>,
    pub(crate) target: SocketAddr,
    /// TLS towards the target: its name, and whom to trust.
    pub(crate) connect: Option<(String, Trust)>,
    pub(crate) machines: usize,
    /// Connections at once.
    pub(crate) clients: usize,
    /// How long connecting and shaking hands may take.
    pub(crate) patience: Duration,
    /// How long a connection may move nothing.
    pub(crate) idle: Duration,
    /// How long connections may go on when the proxy ends.
    pub(crate) drain: Duration,
    /// What is told to whoever runs it.
    pub(crate) say: fn(&str),
    pub(crate) bug: Option<Bug>,
}

/// Whose signature the target's certificate needs.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    System,
    File(PathBuf),
    Pem(String),
}

/// A mistake planted for the hunt to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bug {
    /// A connection is given up as idle at its first wait.
    Impatient,
}
