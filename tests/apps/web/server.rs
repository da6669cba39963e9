//! The server as a whole: `serve` is the entry point, the same on Linux and in a simulated world.
//!
//! Every machine listens, and serves what it accepts: one coroutine for each connection, and with HTTP/2 one more for each request. hyper
//! finds out which version a client speaks; TLS has agreed on it before. How the server ends is in `common/service.rs`: connections finish
//! the requests that they have begun, and WebSockets are closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use machinarium::adapter::hyper::{Executor, Timer};
use machinarium::machine::Resident;
use machinarium::net::{Duplex, TcpStream};
use machinarium::sync::Mutex;
use machinarium::tls::ServerConfig;
use machinarium::{Builder, Group, Listening, Shutdown, block_on, timeout};
use tower::Service;

use crate::api::{App, router};
use crate::common::service::{Clients, End, Place, tell_of_handshake};
use crate::config::Config;
use crate::feed::Feed;
use crate::store::Store;

/// Of a client of HTTP/2 that says nothing it is asked so often whether it is there.
const ALIVE: Duration = Duration::from_secs(20);

/// Where the server listens, told once it does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
}

/// Serves until it is told to end, by SIGTERM or SIGINT or by its main coroutine's cancellation.
///
/// # Errors
/// When it cannot read its notes, listen or start its machines; that of a listener that has failed.
pub(crate) fn serve(config: &Config, ready: impl FnOnce(Addresses)) -> io::Result<()> {
    Builder::new().name("web-0").run(|| {
        let (end, clients) = (End::on_signals()?, Clients::new(config.clients));
        let graceful = Arc::new(Mutex::new(Some(GracefulShutdown::new())));
        let (places, watched, shutdown) = (clients.clone(), graceful.clone(), end.shutdown.clone());
        let start = |group: &Group| {
            let (addresses, listening) = start(config, group, places, watched, shutdown)?;
            ready(addresses);
            Ok(listening)
        };
        end.live(("web", config.machines), start, |cause| {
            let (count, drain) = (clients.count(), config.drain);
            (config.say)(&format!("{cause}: clients: {count}; they have {drain:?} to end"));
            timeout(drain, || {
                let all = graceful.lock().ok().and_then(|mut graceful| graceful.take());
                let _ = all.map(|all| block_on(all.shutdown()));
                clients.wait(drain);
            });
        })
    })
}

/// Reads the notes, listens, and has what comes served.
fn start(
    config: &Config,
    group: &Group,
    clients: Clients,
    graceful: Arc<Mutex<Option<GracefulShutdown>>>,
    shutdown: Shutdown,
) -> io::Result<(Addresses, Vec<Listening>)> {
    let store = Store::open(config.notes.as_deref(), config.bug);
    let store = store.map_err(|error| told(&format!("the notes {:?}", config.notes), error))?;
    let app = App { store, feed: Feed::default(), access: config.access };
    let (patience, say) = (config.patience, config.say);
    let door = Arc::new(Door { router: router(Arc::new(app)), clients, graceful, shutdown, patience, say });
    let (mut addresses, mut listening) = (Addresses::default(), Vec::new());
    let mut listen = |address: SocketAddr, serve: Box<dyn Fn(TcpStream, SocketAddr) + Send + Sync>| {
        let listener = group.listen(address, serve);
        let listener = listener.map_err(|error| told(&format!("cannot listen on {address}"), error))?;
        let address = listener.local_addr();
        listening.push(listener);
        Ok::<_, io::Error>(address)
    };
    if let Some(address) = config.listen {
        let door = door.clone();
        addresses.http = listen(address, Box::new(move |stream, peer| door.plain(stream, peer)))?;
    }
    if let Some((address, certificate)) = &config.tls {
        let tls = certificate.config_for(&["h2", "http/1.1"])?;
        addresses.https = listen(*address, Box::new(move |stream, peer| door.secure(&tls, stream, peer)))?;
    }
    Ok((addresses, listening))
}

fn told(what: &str, error: io::Error) -> io::Error {
    match machinarium::cancelled(&error) {
        Some(_) => error,
        None => io::Error::new(error.kind(), format!("{what}: {error}")),
    }
}

/// Whose a request is, among its extensions.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) peer: SocketAddr,
    /// The end of the server, for what outlives a request.
    pub(crate) shutdown: Shutdown,
    _place: Arc<Place>,
}

/// What every listener leads to.
struct Door {
    router: Router,
    clients: Clients,
    graceful: Arc<Mutex<Option<GracefulShutdown>>>,
    shutdown: Shutdown,
    patience: Duration,
    say: fn(&str),
}

impl Door {
    fn plain(&self, stream: TcpStream, peer: SocketAddr) {
        if let Some(client) = self.let_in(peer) {
            self.serve(stream, client);
        }
    }

    fn secure(&self, tls: &ServerConfig, stream: TcpStream, peer: SocketAddr) {
        let Some(client) = self.let_in(peer) else { return };
        match timeout(self.patience, || tls.accept(stream)) {
            Ok(stream) => self.serve(stream, client),
            Err(error) => tell_of_handshake(self.say, peer, &error),
        }
    }

    /// A client that finds no place is closed, and sees that.
    fn let_in(&self, peer: SocketAddr) -> Option<Client> {
        let place = Arc::new(self.clients.place()?);
        Some(Client { peer, shutdown: self.shutdown.clone(), _place: place })
    }

    /// Serves a connection to its end, which is the client's affair, however it comes.
    fn serve<S: Duplex + 'static>(&self, stream: S, client: Client)
    where
        Resident<S>: hyper::rt::Read + hyper::rt::Write,
    {
        let Ok(stream) = Resident::new(stream) else { return };
        let watcher = self.graceful.lock().ok().and_then(|graceful| Some(graceful.as_ref()?.watcher()));
        let Some(watcher) = watcher else { return };
        let service = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(client.clone());
            self.router.clone().call(request.map(Body::new))
        });
        let mut server = auto::Builder::new(Executor);
        server.http1().timer(Timer::new()).header_read_timeout(self.patience);
        server.http2().timer(Timer::new()).keep_alive_interval(ALIVE).keep_alive_timeout(self.patience);
        let connection = server.serve_connection_with_upgrades(stream, service);
        let _ = block_on(watcher.watch(connection));
    }
}
