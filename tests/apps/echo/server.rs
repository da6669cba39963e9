//! The server as a whole: `serve` is the entry point, the same on Linux and in a simulated world.
//!
//! The calling thread becomes the first machine and has all listeners: what they accept goes to whichever machine has fewest clients,
//! and TLS shakes hands there. How it ends is in `common/service.rs`.
//!
//! A connection echoes what it reads until its client ends its half, and ends its own then. It reads no further than it
//! has written, so a client that takes nothing is held back by its own socket. Idle ones hold no buffer.

use std::io::{self, BufRead, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use machinarium::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use machinarium::tls::{ServerConfig, TlsStream};
use machinarium::{Builder, Group, Listening, timeout};

use crate::common::place::UnixAddress;
use crate::common::service::{Clients, End, Place, tell_of_handshake};
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
        let places = clients.clone();
        let start = |group: &Group| {
            let (addresses, listening) = start(config, group, places)?;
            ready(addresses);
            Ok(listening)
        };
        end.live(("echo", config.machines), start, |cause| {
            let (count, drain) = (clients.count(), config.drain);
            (config.say)(&format!("{cause}: clients: {count}; they have {drain:?} to end"));
            clients.wait(drain);
        })
    })
}

/// Listens everywhere, and then has what comes served.
fn start(config: &Config, group: &Group, clients: Clients) -> io::Result<(Addresses, Vec<Listening>)> {
    let tcp = config.tcp.map(listen).transpose()?;
    let tls = config.tls.as_ref();
    let tls =
        tls.map(|(address, certificate)| Ok::<_, io::Error>((listen(*address)?, certificate.config()?)));
    let tls = tls.transpose()?;
    let unix = config.unix.as_ref().map(listen_unix).transpose()?;
    let (idle, say, bug) = (config.idle.unwrap_or(NEVER), config.say, config.bug);
    let door = Door { clients, idle, say, bug };
    let (mut addresses, mut listening) = (Addresses::default(), Vec::new());
    if let Some(listener) = tcp {
        addresses.tcp = Some(listener.local_addr()?);
        listening.push(group.hand_over(move || listener.accept(), door.clone().serves(Session::tcp))?);
    }
    if let Some((listener, tls)) = tls {
        addresses.tls = Some(listener.local_addr()?);
        let serve = move |session: Session, stream| session.tls(&tls, stream);
        listening.push(group.hand_over(move || listener.accept(), door.clone().serves(serve))?);
    }
    if let Some(listener) = unix {
        listening.push(group.hand_over(move || listener.accept(), door.serves(Session::unix))?);
    }
    Ok((addresses, listening))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address);
    listener.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

fn listen_unix(address: &UnixAddress) -> io::Result<UnixListener> {
    let listener = address.bind();
    listener.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// What every listener leads to.
#[derive(Clone)]
struct Door {
    clients: Clients,
    idle: Duration,
    say: fn(&str),
    bug: Option<Bug>,
}

/// More than a hundred years: never.
const NEVER: Duration = Duration::from_secs(1 << 32);

impl Door {
    /// What is done with a stream that was let in. One that finds no place is closed, and its client sees that; and however it ends.
    fn serves<S, P>(self, serve: impl Fn(Session, S) -> io::Result<()>) -> impl Fn(S, P) {
        move |stream, _| {
            if let Some(place) = self.clients.place() {
                let session = Session { _place: place, idle: self.idle, say: self.say, bug: self.bug };
                let _ = serve(session, stream);
            }
        }
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
