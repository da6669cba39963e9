//! The server as a whole: `serve` is the entry point, the same on Linux and in a simulated world.
//!
//! The calling thread becomes the first machine and has all listeners: what they accept goes, detached, to each machine in
//! turn, and TLS shakes hands there. Its main coroutine waits to be cancelled, or for a listener that fails for good; then
//! the other machines are stopped and joined.
//!
//! A connection echoes what it reads until its client ends its half, and ends its own then. It reads no further than it
//! has written, so a client that takes nothing is held back by its own socket. Idle ones hold no buffer.

use std::io::{self, BufRead, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use machinarium::machine::{self, Handle, Remote};
use machinarium::net::{Kind, Stream, TcpListener, TcpStream, UnixListener, UnixStream};
use machinarium::sync::channel::{Sender, bounded};
use machinarium::tls::{ServerConfig, TlsStream};
use machinarium::{Builder, Instant, timeout};

use crate::common::place::UnixAddress;
use crate::config::{Bug, Config};

/// Where the server listens, told once all listeners do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) tcp: Option<SocketAddr>,
    pub(crate) tls: Option<SocketAddr>,
}

/// Serves until its main coroutine is cancelled.
///
/// # Errors
/// When it cannot listen or start its machines; that of a listener that has failed.
pub(crate) fn serve(config: &Config, ready: impl FnOnce(Addresses)) -> io::Result<()> {
    Builder::new().name("echo-0").run(|| run(config, ready))
}

fn run(config: &Config, ready: impl FnOnce(Addresses)) -> io::Result<()> {
    let mut others: Vec<Handle<()>> = Vec::new();
    let result = start(config, &mut others, ready);
    others.iter().for_each(|other| other.stop("the server ends"));
    // The main coroutine may have been cancelled, which must not keep it from waiting for them.
    machinarium::shield(|| others.into_iter().try_for_each(|other| other.join().map_err(io::Error::from)))?;
    match result {
        Err(error) if machinarium::cancelled(&error).is_some() => Ok(()),
        other => other,
    }
}

/// Listens, serves, and returns when that must end.
fn start(config: &Config, others: &mut Vec<Handle<()>>, ready: impl FnOnce(Addresses)) -> io::Result<()> {
    let tcp = config.tcp.map(listen).transpose()?;
    let tls = config.tls.as_ref();
    let tls =
        tls.map(|(address, certificate)| Ok::<_, io::Error>((listen(*address)?, certificate.config()?)));
    let tls = tls.transpose()?;
    let unix = config.unix.as_ref().map(listen_unix).transpose()?;
    let mut peers = vec![machine::current()?];
    for index in 1..config.machines {
        let other = machine::spawn(&format!("echo-{index}"), wait_for_stop)?;
        peers.push(other.remote());
        others.push(other);
    }
    let (failed, failure) = bounded(1);
    let crowd = Crowd::new(config, peers, failed);
    let mut addresses = Addresses::default();
    if let Some(listener) = tcp {
        addresses.tcp = Some(listener.local_addr()?);
        crowd.clone().admit("tcp", move || Ok(listener.accept()?.0), Session::tcp);
    }
    if let Some((listener, tls)) = tls {
        addresses.tls = Some(listener.local_addr()?);
        let serve = move |session: Session, stream| session.tls(&tls, stream);
        crowd.clone().admit("tls", move || Ok(listener.accept()?.0), serve);
    }
    if let Some(listener) = unix {
        crowd.admit("unix", move || Ok(UnixListener::accept(&listener)?.0), Session::unix);
    }
    ready(addresses);
    Err(failure.recv()?)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address);
    listener.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

fn listen_unix(address: &UnixAddress) -> io::Result<UnixListener> {
    let listener = address.bind();
    listener.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address:?}: {error}")))
}

/// Returns when the machine is asked to stop.
fn wait_for_stop() {
    while machinarium::sleep_until(Instant::FAR).is_ok() {}
}

/// All who are served, and the machines that serve them.
#[derive(Clone)]
struct Crowd {
    peers: Vec<Remote>,
    most: usize,
    count: Arc<AtomicUsize>,
    idle: Duration,
    bug: Option<Bug>,
    failed: Sender<io::Error>,
}

/// More than a hundred years: never.
const NEVER: Duration = Duration::from_secs(1 << 32);

impl Crowd {
    fn new(config: &Config, peers: Vec<Remote>, failed: Sender<io::Error>) -> Crowd {
        let (idle, bug) = (config.idle.unwrap_or(NEVER), config.bug);
        Crowd { peers, most: config.clients, count: Arc::default(), idle, bug, failed }
    }

    /// Accepts until that fails, and hands what came to each machine in turn.
    fn admit<K: Kind + 'static>(
        self,
        name: &str,
        accept: impl Fn() -> io::Result<Stream<K>> + 'static,
        serve: impl FnOnce(Session, Stream<K>) -> io::Result<()> + Clone + Send + 'static,
    ) {
        machinarium::spawn_named(&format!("{name} listener"), move || {
            for turn in 0.. {
                match accept() {
                    // A stream that finds no place, no machine or no stack is closed, and its client sees that.
                    Ok(stream) => drop(self.hand_over(turn % self.peers.len(), stream, serve.clone())),
                    Err(error) => return drop(self.failed.try_send(error)),
                }
            }
        });
    }

    fn hand_over<K: Kind + 'static>(
        &self,
        to: usize,
        stream: Stream<K>,
        serve: impl FnOnce(Session, Stream<K>) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let Some(session) = self.session() else { return Ok(()) };
        let stream = stream.detach()?;
        // However it ends, the client has seen it.
        self.peers[to].spawn(move || serve(session, stream.attach()?))?;
        Ok(())
    }

    /// A place among the clients, if there is one.
    fn session(&self) -> Option<Session> {
        // Relaxed: a number of its own, by which nothing is ordered.
        let session = Session { count: self.count.clone(), idle: self.idle, bug: self.bug };
        (self.count.fetch_add(1, Relaxed) < self.most).then_some(session)
    }
}

/// One of those who are counted.
struct Session {
    count: Arc<AtomicUsize>,
    idle: Duration,
    bug: Option<Bug>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Relaxed);
    }
}

impl Session {
    fn tcp(self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        self.echo(&mut stream)?;
        stream.shutdown(Shutdown::Write)
    }

    fn unix(self, mut stream: UnixStream) -> io::Result<()> {
        self.echo(&mut stream)?;
        stream.shutdown(Shutdown::Write)
    }

    fn tls(self, config: &ServerConfig, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream: TlsStream = timeout(self.idle, || config.accept(stream))?;
        self.echo(&mut stream)?;
        stream.close()
    }

    /// Until the client's end.
    fn echo(&self, stream: &mut (impl BufRead + Write)) -> io::Result<()> {
        loop {
            let chunk = timeout(self.idle, || stream.fill_buf().map(<[u8]>::to_vec))?;
            if chunk.is_empty() {
                return Ok(());
            }
            stream.consume(chunk.len());
            match self.bug {
                Some(Bug::ShortWrite) => drop(timeout(self.idle, || stream.write(&chunk))?),
                None => timeout(self.idle, || stream.write_all(&chunk))?,
            }
        }
    }
}
