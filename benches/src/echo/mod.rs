//! What an echo costs the server: processor time for each request, beside a hand-written epoll loop.
//!
//! The server is a process on processor 0, the clients (this process) are on processor 1: so many connections, each
//! with one request of 64 bytes under way. Processor time is what the scheduler has counted for the server's threads
//! between two looks; wall-clock rates on a small virtual machine say little.

mod epoll;
mod load;
pub mod machinarium;
mod tokio;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::case::{Case, Metric, metric};
use crate::process::{pin, processor_time, this_program};

/// Bytes of a request.
pub const SIZE: usize = 64;
const WARM_UP: Duration = Duration::from_millis(200);
const WINDOW: Duration = Duration::from_millis(1000);

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for connections in [1, 64, 1000] {
        for peer in ["epoll", "machinarium", "tokio"] {
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
        _ => Err(std::io::Error::other("no such server")),
    };
    eprintln!("the {peer} server has ended: {end:?}");
    ExitCode::FAILURE
}

/// Tells the clients where to connect.
fn announce(address: SocketAddr) {
    println!("{address}");
}

fn measure(peer: &str, connections: usize) -> Vec<Metric> {
    let server = Server::start(peer);
    pin(1);
    let mut load = load::Load::connect(server.address, connections).expect("connections");
    load.run(WARM_UP).expect("a server that answers");
    let (before, start) = (processor_time(server.child.id()), Instant::now());
    let requests = load.run(WINDOW).expect("a server that answers") as f64;
    let (used, elapsed) = (processor_time(server.child.id()) - before, start.elapsed());
    vec![metric("server ns/request", used / requests), metric("requests/s", requests / elapsed.as_secs_f64())]
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(peer: &str) -> Server {
        let mut child =
            this_program().args(["--server", peer]).stdout(Stdio::piped()).spawn().expect("a child process");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("the server's address");
        Server { child, address: line.trim().parse().expect("the server's address") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
