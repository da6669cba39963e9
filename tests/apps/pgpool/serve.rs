//! The pooler as a whole: `serve` is the entry point, the same on Linux and in a simulated world.
//!
//! Every machine listens on the port. A login is done by the machine that accepted it; the session goes to the machine where the pool has
//! fewest clients (`homes.rs`).
//!
//! SIGTERM, and SHUTDOWN on the console, begin the end: nobody new comes in, who is idle is told, and transactions have the time of
//! `drain` to end. SIGINT ends it at once, also while it waits for that. SIGHUP reads the configuration again.

use std::cell::RefCell;
use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use machinarium::net::{TcpStream, UnixListener};
use machinarium::signal::{Signal, Signals};
use machinarium::{Builder, Group, Listening, inspect};

use crate::common::place::{self, UnixAddress};
use crate::common::service::{Clients, End};
use crate::config::Config;
use crate::connect::socket_file;
use crate::homes::Homes;
use crate::login;
use crate::metrics;
use crate::pooler::{Common, Pooler};
use crate::reload;
use crate::wire::Wire;

/// How a configuration is read again.
pub(crate) type Reload = Box<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Serves until it is told to end. `ready` is told the address.
///
/// # Errors
/// When it cannot listen or start its machines; that of a listener that has failed.
pub(crate) fn serve(config: Config, reload: Reload, ready: impl FnOnce(SocketAddr)) -> io::Result<()> {
    Builder::new().name("pgpool-0").run(|| {
        let (end, places) = (End::on_signals()?, Clients::new(config.max_clients));
        let at_once = Signals::new([Signal::Int])?;
        let (say, patience, machines) = (config.say, config.timeouts.drain, config.machines);
        let (in_start, in_end) = (places.clone(), end.clone());
        let (all, directory, socket) = (RefCell::new(Vec::new()), config.unix.clone(), RefCell::new(None));
        let begin = |group: &Group| {
            let (address, listening) = start(config, reload, in_end, in_start, group)?;
            all.replace(group.machines().cloned().collect());
            socket.replace(
                directory.map(|directory| UnixAddress::Path(socket_file(&directory, address.port()))),
            );
            ready(address);
            Ok(listening)
        };
        end.live(("pgpool", machines), begin, |cause| {
            let all = all.take();
            place::remove_stale(socket.borrow().as_ref());
            say(&format!(
                "{cause}: clients: {}; they have {patience:?} to end their transactions",
                places.count()
            ));
            if cause != Signal::Int.name() {
                reload::on_all(&all, |pooler| pooler.begin_end());
                wait(&places, patience, &at_once);
            }
            reload::on_all(&all, |pooler| pooler.pools().iter().for_each(|pool| pool.pause()));
        })
    })
}

fn start(
    config: Config,
    reload: Reload,
    end: End,
    places: Clients,
    group: &Group,
) -> io::Result<(SocketAddr, Vec<Listening>)> {
    let config = Arc::new(config);
    let machines = group.machines().cloned().collect::<Vec<_>>();
    let common = Arc::new(Common { end, places, homes: Homes::default(), machines, reload });
    for (index, machine) in common.machines.iter().enumerate() {
        let (common, config) = (common.clone(), config.clone());
        machine.spawn(move || Pooler::install(index, common, config))?.join()??;
    }
    let signals = Signals::new([Signal::Hup])?;
    inspect::dump_on(Signal::Usr1)?;
    let cannot = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot listen on {}: {error}", config.listen))
    };
    let listening = group.listen(config.listen, serve_tcp).map_err(cannot)?;
    let address = listening.local_addr().unwrap_or(config.listen);
    let mut all = vec![listening];
    if let Some(directory) = &config.unix {
        all.push(listen_unix(&socket_file(directory, address.port()), group)?);
    }
    if let Some(metrics) = config.metrics {
        all.push(metrics::listen(metrics, group)?);
    }
    machinarium::spawn_named("operator", move || {
        while signals.recv().is_ok() {
            reload::say(&reload::reload());
        }
    });
    Ok((address, all))
}

fn serve_tcp(stream: TcpStream, peer: SocketAddr) {
    login::serve(Wire::Plain(stream), &peer.to_string());
}

/// The port is this pooler's: so is a file that is called after it, or it is of one that has gone.
fn listen_unix(file: &Path, group: &Group) -> io::Result<Listening> {
    place::remove_stale(Some(&UnixAddress::Path(file.to_owned())));
    let everybody = || std::fs::set_permissions(file, Permissions::from_mode(0o777));
    let bound = UnixListener::bind(file).and_then(|listener| everybody().map(|()| listener));
    let listener = bound.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {}: {error}", file.display()))
    })?;
    group.hand_over(move || listener.accept(), |stream, _| login::serve(Wire::Unix(stream), "unix"))
}

/// Waits until all clients have gone, for `patience` at most, or until somebody does not want to wait any longer.
fn wait(places: &Clients, patience: Duration, at_once: &Signals) {
    let end = machinarium::now() + patience;
    while places.count() > 0 && machinarium::now() < end {
        if at_once.recv_timeout(Duration::from_millis(20)).is_ok() {
            return;
        }
    }
}
