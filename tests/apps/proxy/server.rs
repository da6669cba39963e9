//! The proxy as a whole: `serve` is the entry point, the same on Linux and in a simulated world.
//!
//! The calling thread becomes the first machine, which accepts and hands each stream, detached, to the machines in turn. There
//! one coroutine shakes hands with the client, connects to the target, shakes hands there, and relays until both sides have
//! ended, one has failed, or nothing has moved for too long. A client whose target cannot be reached is closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use machinarium::machine::{self, Handle, Remote};
use machinarium::net::{DetachedTcpStream, Duplex, Relay, RelayError, Side, Step, TcpListener, TcpStream};
use machinarium::signal::{Signal, Signals};
use machinarium::tls::rustls::pki_types::ServerName;
use machinarium::tls::{ClientConfig, ServerConfig, TlsStream};
use machinarium::{Builder, inspect, timeout};

use crate::common::service::{Clients, End, Place, start_machine};
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
        let mut others = Vec::new();
        let started = start(config, &end, &clients, &mut others).map(ready);
        end.live(started, others, |cause| {
            (config.say)(&format!(
                "{cause}: connections: {}; they have {:?} to end",
                clients.count(),
                config.drain
            ));
            clients.wait(config.drain);
        })
    })
}

/// Listens, and has what comes carried. Returns the address.
fn start(
    config: &Config,
    end: &End,
    clients: &Clients,
    others: &mut Vec<Handle<()>>,
) -> io::Result<SocketAddr> {
    let link = Arc::new(Link::new(config)?);
    let signals = Signals::new([Signal::Hup])?;
    inspect::dump_on(Signal::Usr1)?;
    let listener = TcpListener::bind(config.listen).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {}: {error}", config.listen))
    })?;
    let address = listener.local_addr()?;
    let mut peers = vec![machine::current()?];
    for index in 1..config.machines {
        peers.push(start_machine(&format!("proxy-{index}"), others)?);
    }
    let operated = link.clone();
    machinarium::spawn_named("operator", move || operated.obey(&signals));
    let (end, clients) = (end.clone(), clients.clone());
    machinarium::spawn_named("listener", move || {
        let mut turns = peers.iter().cycle();
        end.accept(
            || listener.accept(),
            |(stream, client)| {
                let to = turns.next().expect("there is a machine");
                // Its stream is closed, which its client sees.
                if let Err(error) = link.hand_over(to, stream, client, clients.place()) {
                    (link.config.say)(&format!("{client}: refused: {error}"));
                }
            },
        );
    });
    Ok(address)
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

    fn hand_over(
        self: &Arc<Link>,
        to: &Remote,
        stream: TcpStream,
        client: SocketAddr,
        place: Option<Place>,
    ) -> io::Result<()> {
        let most = self.config.clients;
        let place = place.ok_or_else(|| io::Error::other(format!("there are {most} already")))?;
        let (link, stream) = (self.clone(), stream.detach()?);
        to.spawn(move || {
            let _place = place;
            if let Err(error) = link.carry(stream)
                && machinarium::cancelled(&error).is_none()
            {
                (link.config.say)(&format!("{client}: {error}"));
            }
        })?;
        Ok(())
    }

    fn carry(&self, client: DetachedTcpStream) -> io::Result<()> {
        let client = client.attach()?;
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
