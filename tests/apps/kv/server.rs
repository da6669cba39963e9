//! The server as a whole: its machines, from the first bind to the last join. `serve` is the entry point, the same on
//! Linux and in a simulated world.
//!
//! The calling thread becomes the first machine. It starts the others, gives each the way to all, and lets each listen on
//! the same port. The end begins (`common/service.rs`) by SHUTDOWN, on whichever machine that came, by a signal, or by a listener that
//! failed: all machines are stopped, and what was read of requests before is answered.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use machinarium::machine::Remote;
use machinarium::net::{Kind, Stream, TcpListener, TcpStream, UnixListener};
use machinarium::tls::ServerConfig;
use machinarium::{Builder, Group, timeout};

use crate::common::service::{End, inspected, tell_of_handshake};
use crate::config::{Config, Totals};
use crate::connection::Connection;
use crate::hub::Hub;
use crate::shard::{Common, Shard};
use crate::wire::Wire;

/// Where the server listens, told once all machines do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) plain: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
}

/// Serves until SHUTDOWN, SIGTERM or SIGINT.
pub(crate) fn serve(config: Config, ready: impl FnOnce(Addresses)) -> io::Result<()> {
    // Who wants to look at coroutines wants to see how long they run.
    Builder::new().name("kv-0").timing(config.inspect.is_some()).run(|| {
        let _inspected = inspected(config.inspect.as_deref())?;
        let (end, say, machines) = (End::on_signals()?, config.say, config.machines);
        let ends = end.clone();
        let start = |group: &Group| {
            ready(start(config, ends, group)?);
            Ok(Vec::new())
        };
        end.live(("kv", machines), start, |cause| say(&format!("{cause}: what was asked before is answered")))
    })
}

fn start(mut config: Config, end: End, group: &Group) -> io::Result<Addresses> {
    let listener = listen_first(&config)?;
    config.listen = listener.local_addr()?;
    let plain = config.listen;
    let tls = begin(config, end, group.machines().cloned().collect(), listener)?;
    Ok(Addresses { plain, tls })
}

/// Connects the machines, lets each listen, and when all do, lets each accept: a start that fails has served nobody. Returns the
/// address for TLS.
fn begin(
    config: Config,
    end: End,
    peers: Vec<Remote>,
    listener: TcpListener,
) -> io::Result<Option<SocketAddr>> {
    let (address, others) = (config.listen, peers[1..].to_vec());
    let (config, totals, started) = (Arc::new(config), Arc::new(Totals::default()), machinarium::now());
    let hub = Hub::new(config.queue);
    let common = Common { config, totals, started, hub, peers, end };
    let shard = Shard::install(0, common.clone());
    // All have their keys before any has a client.
    for (index, other) in others.iter().enumerate() {
        let common = common.clone();
        other.spawn(move || drop(Shard::install(index + 1, common)))?.join()?;
    }
    for other in &others {
        let listening = other.spawn(move || {
            *Shard::here().listener.borrow_mut() = Some(listen(address, true)?);
            io::Result::Ok(())
        })?;
        listening.join()??;
    }
    let (tls, unix) = (listen_tls(&shard.config)?, listen_unix(&shard.config)?);
    let tls_address = tls.as_ref().map(|(listener, _)| listener.local_addr()).transpose()?;
    for other in &others {
        other.spawn(|| accept_on(Shard::here()))?.join()?;
    }
    *shard.listener.borrow_mut() = Some(listener);
    accept_on(shard.clone());
    if let Some((listener, tls)) = tls {
        let accept = move || Ok(listener.accept()?.0);
        let say = shard.config.say;
        deal(&shard, accept, move |stream: TcpStream| {
            let client = stream.peer_addr()?;
            tls.accept(stream).inspect_err(|error| tell_of_handshake(say, client, error))
        });
    }
    if let Some(listener) = unix {
        deal(&shard, move || Ok(listener.accept()?.0), Ok);
    }
    Ok(tls_address)
}

fn listen_tls(config: &Config) -> io::Result<Option<(TcpListener, ServerConfig)>> {
    let Some((address, certificate)) = &config.tls else { return Ok(None) };
    let certificate = certificate.config()?;
    Ok(Some((listen(*address, false)?, certificate)))
}

fn listen_unix(config: &Config) -> io::Result<Option<UnixListener>> {
    let Some(address) = &config.unix else { return Ok(None) };
    let listener = address.bind();
    listener
        .map(Some)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// The first machine's listener. The others share its port, but a port that another program has is not to be shared with
/// that: so the first binds it alone, and shares it then. It is never closed in between, when clients may already wait on it.
fn listen_first(config: &Config) -> io::Result<TcpListener> {
    let listener = listen(config.listen, false)?;
    listener.set_reuse_port(config.machines > 1)?;
    Ok(listener)
}

fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let listener = TcpListener::builder().reuse_port(shared).bind(address);
    listener.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

fn accept_on(shard: Rc<Shard>) {
    let listener = shard.listener.take().expect("a machine listens before it accepts");
    machinarium::spawn_named("listener", move || {
        shard.end.accept(|| Ok(listener.accept()?.0), |stream| admit(shard.clone(), stream, Ok));
    });
}

/// Accepts on the first machine for all: the streams go to each in turn, where `dress` makes them what is served.
fn deal<K: Kind + 'static, W: Wire + 'static>(
    shard: &Rc<Shard>,
    accept: impl Fn() -> io::Result<Stream<K>> + 'static,
    dress: impl Fn(Stream<K>) -> io::Result<W> + Clone + Send + 'static,
) where
    Stream<K>: Wire,
{
    let shard = shard.clone();
    machinarium::spawn_named("listener", move || {
        let mut turns = (0..shard.machines()).cycle();
        shard.end.accept(accept, |stream| {
            let to = turns.next().expect("there is a machine");
            let (dress, detached) = (dress.clone(), stream.detach());
            // A stream that cannot go there is closed, which its client sees.
            let _ = detached.map(|stream| {
                let arrive = move || drop(stream.attach().map(|stream| admit(Shard::here(), stream, dress)));
                shard.peer(to).spawn(arrive)
            });
        });
    });
}

/// Serves a client, if there is room for it. Its stream is `dressed` by its own coroutine, since that may wait for it.
fn admit<S: Wire + 'static, W: Wire + 'static>(
    shard: Rc<Shard>,
    stream: S,
    dress: impl FnOnce(S) -> io::Result<W> + 'static,
) {
    if !shard.totals.admit(shard.config.clients) {
        // A fresh socket has room for a line; whether the client sees it is its own affair.
        let _ = stream.write_shared(b"-ERR max number of clients reached\r\n");
        return;
    }
    let client = Client(shard);
    let serve = move || {
        let client = client;
        let shard = client.0.clone();
        // However it ended, the client has seen it.
        let _ = timeout(shard.config.write_timeout, || dress(stream))
            .and_then(|stream| Connection::new(shard, stream).run());
    };
    // Without a stack for it, the connection and its place among the clients are dropped with the closure.
    let _ = machinarium::try_spawn("client", serve);
}

/// One of the clients that are counted.
struct Client(Rc<Shard>);

impl Drop for Client {
    fn drop(&mut self) {
        self.0.totals.dismiss();
    }
}
