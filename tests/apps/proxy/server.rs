//! The proxy as a whole: `serve` is the entry point, the same on Linux and in a simulated world.
//!
//! The calling thread becomes the first machine, which accepts and hands each stream, detached, to the machines in turn. There
//! one coroutine shakes hands with the client, connects to the target, shakes hands there, and relays until both sides have
//! ended, one has failed, or nothing has moved for too long. A client whose target cannot be reached is closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use machinarium::machine::{self, Handle, Remote};
use machinarium::net::{DetachedTcpStream, Duplex, Relay, TcpListener, TcpStream};
use machinarium::tls::{ClientConfig, ServerConfig, TlsStream};
use machinarium::{Builder, Instant, timeout};

use crate::config::{Bug, Config, Trust};

/// Serves until its main coroutine is cancelled. `ready` is told the address.
///
/// # Errors
/// When it cannot listen or start its machines; that of a listener that has failed.
pub(crate) fn serve(config: &Config, ready: impl FnOnce(SocketAddr)) -> io::Result<()> {
    Builder::new().name("proxy-0").run(|| {
        let mut others: Vec<Handle<()>> = Vec::new();
        let result = run(config, &mut others, ready);
        others.iter().for_each(|other| other.stop("the proxy ends"));
        // The main coroutine may have been cancelled, which must not keep it from waiting for them.
        machinarium::shield(|| {
            others.into_iter().try_for_each(|other| other.join().map_err(io::Error::from))
        })?;
        match result {
            Err(error) if machinarium::cancelled(&error).is_some() => Ok(()),
            other => other,
        }
    })
}

fn run(config: &Config, others: &mut Vec<Handle<()>>, ready: impl FnOnce(SocketAddr)) -> io::Result<()> {
    let link = Arc::new(Link::new(config)?);
    let listener = TcpListener::bind(config.listen).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {}: {error}", config.listen))
    })?;
    let mut peers: Vec<Remote> = vec![machine::current()?];
    for index in 1..config.machines {
        let other = machine::spawn(&format!("proxy-{index}"), wait_for_stop)?;
        peers.push(other.remote());
        others.push(other);
    }
    ready(listener.local_addr()?);
    let count = Arc::<AtomicUsize>::default();
    for turn in 0.. {
        let (stream, _) = listener.accept()?;
        let place = Place(count.clone());
        // Relaxed: a number of its own, by which nothing is ordered.
        if count.fetch_add(1, Relaxed) >= config.clients {
            continue;
        }
        let link = link.clone();
        // A stream that finds no machine or no stack is closed, and its client sees that.
        let _ = stream.detach().map(|stream| {
            peers[turn % peers.len()].spawn(move || {
                let _place = place;
                // However it ended, both sides have seen it.
                link.carry(stream).is_ok()
            })
        });
    }
    unreachable!("turns have no end")
}

/// Returns when the machine is asked to stop.
fn wait_for_stop() {
    while machinarium::sleep_until(Instant::FAR).is_ok() {}
}

/// One of those who are counted.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
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
            Ok::<_, io::Error>((builder.build()?, name.clone()))
        });
        Ok(Link { config: config.clone(), accept, connect: connect.transpose()? })
    }

    fn carry(&self, client: DetachedTcpStream) -> io::Result<()> {
        let client = client.attach()?;
        client.set_nodelay(true)?;
        match &self.accept {
            None => self.carry_from(&client),
            Some(tls) => {
                let client: TlsStream = timeout(self.config.patience, || tls.accept(client))?;
                self.carry_from(&client)
            }
        }
    }

    fn carry_from(&self, client: &impl Duplex) -> io::Result<()> {
        let target = TcpStream::connect_timeout(self.config.target, self.config.patience)?;
        target.set_nodelay(true)?;
        match &self.connect {
            None => self.relay(client, &target),
            Some((tls, name)) => {
                let target: TlsStream = timeout(self.config.patience, || tls.connect(target, name))?;
                self.relay(client, &target)
            }
        }
    }

    fn relay(&self, client: &impl Duplex, target: &impl Duplex) -> io::Result<()> {
        let idle = match self.config.bug {
            Some(Bug::Impatient) => std::time::Duration::from_nanos(1),
            None => self.config.idle,
        };
        Relay::new().idle(idle).run(client, target).map(drop).map_err(|error| error.source)
    }
}
