//! The server as a whole: `serve` is the entry point, the same on Linux and in a simulated world.
//!
//! The calling thread becomes the first machine and has all listeners: what they accept goes, detached, to each machine in
//! turn, and TLS shakes hands there. How it ends is in `common/service.rs`.
//!
//! A connection echoes what it reads until its client ends its half, and ends its own then. It reads no further than it
//! has written, so a client that takes nothing is held back by its own socket. Idle ones hold no buffer.

use std::io::{self, BufRead, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use machinarium::machine::{self, Handle, Remote};
use machinarium::net::{Kind, Stream, TcpListener, TcpStream, UnixListener, UnixStream};
use machinarium::tls::{ServerConfig, TlsStream};
use machinarium::{Builder, timeout};

use crate::common::place::UnixAddress;
use crate::common::service::{Clients, End, Place, start_machine, tell_of_handshake};
use crate::config::{Bug, Config};

/// Where the server listens, told once all listeners do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) tcp: Option<SocketAddr>,
    pub(crate) tls: Option<SocketAddr>,
}

/// Serves until it is told to end, by SIGTERM or SIGINT or by its main coroutine's cancellation.
///
/// # Errors
/// When it cannot listen or start its machines; that of a listener that has failed.
pub(crate) fn serve(config: &Config, ready: impl FnOnce(Addresses)) -> io::Result<()> {
    Builder::new().name("echo-0").run(|| {
        let (end, clients) = (End::on_signals()?, Clients::new(config.clients));
        let mut others = Vec::new();
        let started = start(config, &end, &clients, &mut others).map(ready);
        end.live(started, others, |cause| {
            (config.say)(&format!(
                "{cause}: clients: {}; they have {:?} to end",
                clients.count(),
                config.drain
            ));
            clients.wait(config.drain);
        })
    })
}

/// Listens, and has what comes served.
fn start(
    config: &Config,
    end: &End,
    clients: &Clients,
    others: &mut Vec<Handle<()>>,
) -> io::Result<Addresses> {
    let tcp = config.tcp.map(listen).transpose()?;
    let tls = config.tls.as_ref();
    let tls =
        tls.map(|(address, certificate)| Ok::<_, io::Error>((listen(*address)?, certificate.config()?)));
    let tls = tls.transpose()?;
    let unix = config.unix.as_ref().map(listen_unix).transpose()?;
    let mut peers = vec![machine::current()?];
    for index in 1..config.machines {
        peers.push(start_machine(&format!("echo-{index}"), others)?);
    }
    let door = Door::new(config, peers, end, clients);
    let mut addresses = Addresses::default();
    if let Some(listener) = tcp {
        addresses.tcp = Some(listener.local_addr()?);
        door.clone().admit("tcp", move || Ok(listener.accept()?.0), Session::tcp);
    }
    if let Some((listener, tls)) = tls {
        addresses.tls = Some(listener.local_addr()?);
        let serve = move |session: Session, stream| session.tls(&tls, stream);
        door.clone().admit("tls", move || Ok(listener.accept()?.0), serve);
    }
    if let Some(listener) = unix {
        door.admit("unix", move || Ok(UnixListener::accept(&listener)?.0), Session::unix);
    }
    Ok(addresses)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address);
    listener.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

fn listen_unix(address: &UnixAddress) -> io::Result<UnixListener> {
    let listener = address.bind();
    listener.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// What every listener leads to: the machines that serve.
#[derive(Clone)]
struct Door {
    peers: Vec<Remote>,
    end: End,
    clients: Clients,
    idle: Duration,
    say: fn(&str),
    bug: Option<Bug>,
}

/// More than a hundred years: never.
const NEVER: Duration = Duration::from_secs(1 << 32);

impl Door {
    fn new(config: &Config, peers: Vec<Remote>, end: &End, clients: &Clients) -> Door {
        let (idle, say, bug) = (config.idle.unwrap_or(NEVER), config.say, config.bug);
        Door { peers, end: end.clone(), clients: clients.clone(), idle, say, bug }
    }

    /// Accepts until the end begins, and hands what came to each machine in turn.
    fn admit<K: Kind + 'static>(
        self,
        name: &str,
        accept: impl Fn() -> io::Result<Stream<K>> + 'static,
        serve: impl FnOnce(Session, Stream<K>) -> io::Result<()> + Clone + Send + 'static,
    ) {
        machinarium::spawn_named(&format!("{name} listener"), move || {
            let mut turns = (0..self.peers.len()).cycle();
            self.end.accept(accept, |stream| {
                let to = turns.next().expect("there is a machine");
                // A stream that finds no place, no machine or no stack is closed, and its client sees that.
                let _ = self.hand_over(to, stream, serve.clone());
            });
        });
    }

    fn hand_over<K: Kind + 'static>(
        &self,
        to: usize,
        stream: Stream<K>,
        serve: impl FnOnce(Session, Stream<K>) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let Some(place) = self.clients.place() else { return Ok(()) };
        let session = Session { _place: place, idle: self.idle, say: self.say, bug: self.bug };
        let stream = stream.detach()?;
        // However it ends, the client has seen it.
        self.peers[to].spawn(move || serve(session, stream.attach()?))?;
        Ok(())
    }
}

/// One client's.
struct Session {
    _place: Place,
    idle: Duration,
    say: fn(&str),
    bug: Option<Bug>,
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
        let client = stream.peer_addr()?;
        let accepted = timeout(self.idle, || config.accept(stream));
        let mut stream: TlsStream =
            accepted.inspect_err(|error| tell_of_handshake(self.say, client, error))?;
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
