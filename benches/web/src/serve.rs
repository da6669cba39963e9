//! The same router behind the same hyper, on each of the two.

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use machinarium::adapter::hyper::{Executor, Timer};
use machinarium::machine::Resident;
use machinarium::net::TcpListener;

use crate::app::router;

fn tell(address: SocketAddr) {
    println!("{address}");
    io::stdout().flush().expect("somebody listens");
}

/// A machine, and a coroutine for each connection.
pub(crate) fn on_machinarium() -> Result<(), Box<dyn Error>> {
    machinarium::run(|| {
        let router = router();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        tell(listener.local_addr()?);
        loop {
            let (stream, _peer) = listener.accept()?;
            stream.set_nodelay(true)?;
            let service = TowerToHyperService::new(router.clone());
            machinarium::spawn(move || {
                let Ok(stream) = Resident::new(stream) else { return };
                let mut server = auto::Builder::new(Executor);
                server.http1().timer(Timer::new());
                server.http2().timer(Timer::new());
                // The connection's end is the client's affair.
                let _ = machinarium::block_on(server.serve_connection(stream, service));
            });
        }
    })
}

/// A current-thread runtime, and a task for each connection.
pub(crate) fn on_tokio() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let router = router();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        tell(listener.local_addr()?);
        loop {
            let (stream, _peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let service = TowerToHyperService::new(router.clone());
            tokio::spawn(async move {
                let mut server = auto::Builder::new(TokioExecutor::new());
                server.http1().timer(TokioTimer::new());
                server.http2().timer(TokioTimer::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}
