//! What an echo costs the server: processor time for each request, beside a hand-written epoll loop.
//!
//! The server is a process on processor 0, the clients (this process) are on processor 1: so many connections, each
//! with one request of 64 bytes under way. Processor time is what the scheduler has counted for the server's threads
//! between two looks; wall-clock rates on a small virtual machine say little.

pub mod epoll;
mod load;
pub mod machinarium;
mod may;
mod monoio;
mod smol;
mod tokio;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::case::{Case, Metric, metric};
use crate::process::{pin, processor_time};
use crate::server::{Server, announce};

/// Bytes of a request.
pub const SIZE: usize = 64;
const WARM_UP: Duration = Duration::from_millis(200);
const WINDOW: Duration = Duration::from_millis(1000);

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for connections in [1, 64, 1000] {
        for peer in ["epoll", "machinarium", "tokio", "smol", "monoio", "may"] {
            cases.push(Case::new(format!("echo/{connections}"), peer, move || measure(peer, connections)));
        }
    }
    cases
}

/// Is the server, until killed.
pub fn serve(peer: &str) -> ExitCode {
    pin(0);
    let end = match peer {
        "epoll" => epoll::serve(announce),
        "machinarium" => machinarium::serve(announce),
        "tokio" => tokio::serve(announce),
        "smol" => smol::serve(announce),
        "monoio" => monoio::serve(announce),
        "may" => may::serve(announce),
        _ => Err(std::io::Error::other("no such server")),
    };
    eprintln!("the {peer} server has ended: {end:?}");
    ExitCode::FAILURE
}

fn measure(peer: &str, connections: usize) -> Vec<Metric> {
    let server = Server::start(&["--server", peer]);
    pin(1);
    let mut load = load::Load::connect(server.address, connections).expect("connections");
    load.run(WARM_UP).expect("a server that answers");
    let (before, start) = (processor_time(server.id()), Instant::now());
    let requests = load.run(WINDOW).expect("a server that answers") as f64;
    let (used, elapsed) = (processor_time(server.id()) - before, start.elapsed());
    vec![metric("server ns/request", used / requests), metric("requests/s", requests / elapsed.as_secs_f64())]
}
