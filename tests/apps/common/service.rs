//! The life of a server: it accepts until SIGTERM or SIGINT, or until a listener fails for good; then those who are served may
//! go on until they have gone or until their time is over, and then the machines end, which cancels whoever is left.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use machinarium::inspect::{self, Serving};
use machinarium::signal::Signal;
use machinarium::sync::WaitGroup;
use machinarium::sync::channel::{Receiver, Sender, bounded};
use machinarium::{Group, Listening, Shutdown, cancelled, scope};

/// The beginning of a server's end, and its reason if that is an error. Clones are the same one, on any machine.
#[derive(Clone)]
pub(crate) struct End {
    pub(crate) shutdown: Shutdown,
    failed: Sender<io::Error>,
    failure: Receiver<io::Error>,
}

impl End {
    /// One that SIGTERM and SIGINT begin, as long as the calling machine lives.
    pub(crate) fn on_signals() -> io::Result<End> {
        let shutdown = Shutdown::new();
        shutdown.on_signals([Signal::Term, Signal::Int])?;
        let (failed, failure) = bounded(1);
        Ok(End { shutdown, failed, failure })
    }

    /// Begins it with an error, if that is the first.
    pub(crate) fn fail(&self, error: io::Error) {
        let _ = self.failed.try_send(error);
        self.shutdown.begin("a listener has failed");
    }

    /// Accepts, and hands over what came, until the end begins. An error of `accept` is what begins it.
    pub(crate) fn accept<S>(&self, accept: impl Fn() -> io::Result<S>, mut serve: impl FnMut(S)) {
        let end = self.shutdown.until_begun(|| {
            loop {
                match accept() {
                    Ok(stream) => serve(stream),
                    Err(error) => return error,
                }
            }
        });
        if cancelled(&end).is_none() {
            self.fail(end);
        }
    }

    /// The life of a server of so many machines, the calling one and others called `name`: starts them, lets `start` have them listen, waits
    /// for the beginning of the end, tells its cause, lets `drain` wait for the clients, and ends the machines.
    pub(crate) fn live(
        self,
        (name, machines): (&str, usize),
        start: impl FnOnce(&Group) -> io::Result<Vec<Listening>>,
        drain: impl FnOnce(&str),
    ) -> io::Result<()> {
        let group = match Group::start(name, machines) {
            // Whoever asks for the end before the start gets it, however the start went.
            Err(_) if self.shutdown.begun() => return Ok(()),
            group => group?,
        };
        let started = start(&group);
        let asked = started.is_err() && self.shutdown.begun();
        let lived = started.and_then(|listening| self.wait(listening));
        if lived.is_ok() {
            drain(&self.shutdown.cause().unwrap_or_default());
        }
        self.shutdown.begin("the server could not start");
        group.end("the server ends")?;
        match lived {
            _ if !self.failure.is_empty() => Err(self.failure.try_recv().map_err(io::Error::other)?),
            Err(error) if asked || cancelled(&error).is_some() => Ok(()),
            other => other,
        }
    }

    /// Waits for the beginning of the end, and until nobody accepts any more. A listener that fails is what begins it.
    fn wait(&self, listening: Vec<Listening>) -> io::Result<()> {
        scope(|scope| {
            for one in listening {
                scope.spawn(move || match one.until(&self.shutdown) {
                    Err(error) if cancelled(&error).is_none() => self.fail(error),
                    _ => {}
                });
            }
            Ok(self.shutdown.wait()?)
        })
    }
}

/// Tells of the process at a Unix socket, if one is named, for as long as what this returns is kept. Of a socket there, whose process has gone,
/// `place::remove_stale` is to be called before.
pub(crate) fn inspected(path: Option<&Path>) -> io::Result<Option<Serving>> {
    let serve = |path: &Path| {
        let told = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot tell of itself at {}: {error}", path.display()))
        };
        inspect::serve(path).map_err(told)
    };
    path.map(serve).transpose()
}

/// Tells of a client that TLS was not agreed on with: it may not know why, or not tell.
pub(crate) fn tell_of_handshake(say: fn(&str), client: SocketAddr, error: &io::Error) {
    if cancelled(error).is_none() {
        say(&format!("{client}: the handshake: {error}"));
    }
}

/// Those who are served: so many at once.
#[derive(Clone)]
pub(crate) struct Clients {
    most: usize,
    count: Arc<AtomicUsize>,
    group: WaitGroup,
}

/// One of them.
pub(crate) struct Place {
    count: Arc<AtomicUsize>,
    _part: WaitGroup,
}

impl Clients {
    pub(crate) fn new(most: usize) -> Clients {
        Clients { most, count: Arc::default(), group: WaitGroup::new() }
    }

    /// A place among them, if there is one.
    pub(crate) fn place(&self) -> Option<Place> {
        // Relaxed: a number of its own, by which nothing is ordered.
        let before = self.count.fetch_add(1, Relaxed);
        let place = Place { count: self.count.clone(), _part: self.group.clone() };
        (before < self.most).then_some(place)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Waits until all have gone, and whoever could let others in, for `patience` at most.
    pub(crate) fn wait(self, patience: Duration) {
        let _ = self.group.wait_timeout(patience);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Relaxed);
    }
}
