//! The proxy as a whole: `serve` is the entry point, the same on Linux and in a simulated world.
//!
//! The calling thread becomes the first machine, which accepts and hands each stream to whichever machine has fewest. There
//! one coroutine shakes hands with the client, connects to the target, shakes hands there, and relays until both sides have
//! ended, one has failed, or nothing has moved for too long. A client whose target cannot be reached is closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use machinarium::net::{Duplex, Relay, RelayError, Side, Step, TcpListener, TcpStream};
use machinarium::signal::{Signal, Signals};
use machinarium::tls::rustls::pki_types::ServerName;
use machinarium::tls::{ClientConfig, ServerConfig, TlsStream};
use machinarium::{Builder, Group, Listening, inspect, timeout};

use crate::common::service::{Clients, End};
use crate::config::{Bug, Config, Trust};

/// Serves until it is told to end, by SIGTERM or SIGINT or by its main coroutine's cancellation. SIGHUP has it read its files again, SIGUSR1 print what all its
/// coroutines do.
/// `ready` is told the address.
///
/// # Errors
/// When it cannot listen or start its machines; that of a listener that has failed.
pub(crate) fn serve(config: &Config, ready: impl FnOnce(SocketAddr)) -> io::Result<()> {
    Builder::new().name("proxy-0").run(|| {
        let (end, clients) = (End::on_signals()?, Clients::new(config.clients));
        let places = clients.clone();
        let start = |group: &Group| {
            let (address, listening) = start(config, group, places)?;
            ready(address);
            Ok(vec![listening])
        };
        end.live(("proxy", config.machines), start, |cause| {
            let (count, drain) = (clients.count(), config.drain);
            (config.say)(&format!("{cause}: connections: {count}; they have {drain:?} to end"));
            clients.wait(drain);
        })
    })
}

/// Listens, and has what comes carried.
fn start(config: &Config, group: &Group, clients: Clients) -> io::Result<(SocketAddr, Listening)> {
    let link = Arc::new(Link::new(config)?);
    let signals = Signals::new([Signal::Hup])?;
    inspect::dump_on(Signal::Usr1)?;
    let listener = TcpListener::bind(config.listen).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {}: {error}", config.listen))
    })?;
    let address = listener.local_addr()?;
    let operated = link.clone();
    machinarium::spawn_named("operator", move || operated.obey(&signals));
    let carry = move |stream, client| {
        // A stream that finds no place is closed, and its client sees that.
        let Some(_place) = clients.place() else {
            return (link.config.say)(&format!(
                "{client}: refused: there are {} already",
                link.config.clients
            ));
        };
        link.serve(stream, client);
    };
    Ok((address, group.hand_over(move || listener.accept(), carry)?))
}

/// What TLS would say at each connection is said at the start.
fn check_name(name: &str) -> io::Result<()> {
    let checked = ServerName::try_from(name);
    let wrong =
        |error| io::Error::new(io::ErrorKind::InvalidInput, format!("the target's name {name:?}: {error}"));
    checked.map(drop).map_err(wrong)
}

/// How each client is joined to the target.
struct Link {
    config: Config,
    accept: Option<ServerConfig>,
    connect: Option<(ClientConfig, String)>,
}

impl Link {
    fn new(config: &Config) -> io::Result<Link> {
        let accept = config.accept.as_ref().map(|certificate| certificate.config()).transpose()?;
        let connect = config.connect.as_ref().map(|(name, trust)| {
            let builder = ClientConfig::builder();
            let builder = match trust {
                Trust::System => builder.system_roots(),
                Trust::File(path) => builder.ca_file(path),
                Trust::Pem(pem) => builder.ca_pem(pem.as_str()),
            };
            check_name(name)?;
            Ok::<_, io::Error>((builder.build()?, name.clone()))
        });
        Ok(Link { config: config.clone(), accept, connect: connect.transpose()? })
    }

    /// Does what signals ask for, as long as the machine lives.
    fn obey(&self, signals: &Signals) {
        while signals.recv().is_ok() {
            let accept = self.accept.as_ref().map_or(Ok(()), ServerConfig::reload);
            let connect = self.connect.as_ref().map_or(Ok(()), |(config, _)| config.reload());
            (self.config.say)(&match accept.and(connect) {
                Ok(()) => "the files were read again".to_owned(),
                Err(error) => format!("what was read before stays: {error}"),
            });
        }
    }

    fn serve(&self, stream: TcpStream, client: SocketAddr) {
        if let Err(error) = self.carry(stream)
            && machinarium::cancelled(&error).is_none()
        {
            (self.config.say)(&format!("{client}: {error}"));
        }
    }

    fn carry(&self, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        match &self.accept {
            None => self.carry_from(&client),
            Some(tls) => {
                let client: TlsStream = timeout(self.config.patience, || tls.accept(client))
                    .map_err(|error| told("the handshake with the client", error))?;
                self.carry_from(&client)
            }
        }
    }

    fn carry_from(&self, client: &impl Duplex) -> io::Result<()> {
        let target = TcpStream::connect_timeout(self.config.target, self.config.patience);
        let target = target.map_err(|error| told(&format!("the target {}", self.config.target), error))?;
        target.set_nodelay(true)?;
        match &self.connect {
            None => self.relay(client, &target),
            Some((tls, name)) => {
                let target: TlsStream = timeout(self.config.patience, || tls.connect(target, name))
                    .map_err(|error| told("the handshake with the target", error))?;
                self.relay(client, &target)
            }
        }
    }

    fn relay(&self, client: &impl Duplex, target: &impl Duplex) -> io::Result<()> {
        let idle = match self.config.bug {
            Some(Bug::Impatient) => std::time::Duration::from_nanos(1),
            None => self.config.idle,
        };
        Relay::new().idle(idle).run(client, target).map(drop).map_err(told_of_relay)
    }
}

/// The same error, with what failed; but one of the caller, who was cancelled, as it is.
fn told(what: &str, error: io::Error) -> io::Error {
    match machinarium::cancelled(&error) {
        Some(_) => error,
        None => io::Error::new(error.kind(), format!("{what}: {error}")),
    }
}

/// `A` is the client.
fn told_of_relay(RelayError { step, source, .. }: RelayError) -> io::Error {
    let what = match step {
        Step::Read(Side::A) => "reading from the client",
        Step::Read(Side::B) => "reading from the target",
        Step::Write(Side::A) => "writing to the client",
        Step::Write(Side::B) => "writing to the target",
        Step::Idle => "nothing was said for too long",
        _ => "between the two",
    };
    told(what, source)
}
