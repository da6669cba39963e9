//! web: notes over HTTP/1.1 and HTTP/2, with TLS or without, a page that shows them and a WebSocket that tells of each change: an axum
//! application on machines, and the hunt for its bugs, in one binary.
//!
//! ```text
//! web [--listen ADDRESS] [--tls ADDRESS [--certificate FILE --key FILE]] [--notes FILE] [--machines N] ...
//! web hunt --seeds N [--jobs J]      runs the same server in simulated worlds, with faults, and checks it
//! web replay --seed S                repeats one of these runs and prints its digest
//! web trace --seed S                 prints every event of one
//! web explain --seed S               tells why one fails, and draws it
//!
//! curl -d '{"text":"milk"}' -H content-type:application/json localhost:8080/api/notes
//! ```
//!
//! axum and what is below it read std's clocks and the seeds of std's hash maps, so the binary has the simulator's guard, which passes all
//! of that on where there is no world.
//!
//! Exit codes: 0, 1 if a bug was found or the server failed, 2 if it could not do what the command line says.

machinarium_sim::guard!();

mod api;
#[path = "../../tls/certificates.rs"]
mod certificates;
#[path = "../common/mod.rs"]
mod common;
mod config;
mod feed;
mod hunt;
mod model;
mod server;
mod store;
mod workload;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use machinarium_sim::cli::Search;

use common::cli::{self, count_up_to};
use common::place::Certificate;
use config::{Bug, Config};

/// Notes over HTTP/1.1 and HTTP/2, with TLS or without.
#[derive(Parser)]
#[command(name = "web", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Task {
    /// Serves (the default).
    Serve(Serve),
    #[command(flatten)]
    Search(Search<Bug>),
}

#[derive(Args)]
struct Serve {
    /// Where to listen for http, IP:PORT. Without any listener this is 127.0.0.1:8080.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where to listen for https, IP:PORT.
    #[arg(long, value_name = "ADDRESS")]
    tls: Option<SocketAddr>,
    /// The chain of certificates, PEM. Without it, one for localhost that nobody should trust: its key is public.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The key, PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// The file of the notes, made if it is not there. Without it they are kept in memory.
    #[arg(long, value_name = "FILE")]
    notes: Option<PathBuf>,
    /// How many machines (threads) share the connections.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count_up_to(256))]
    machines: u64,
    /// Clients at once.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = count_up_to(1 << 20))]
    clients: u64,
    /// How many seconds a client may take for the head of a request, or for a handshake.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = count_up_to(1 << 20))]
    patience: u64,
    /// How many seconds clients may go on after SIGTERM or Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    drain: u32,
    /// No line for each request.
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    let cli: Cli = match cli::parse("web") {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    match cli.task.unwrap_or(Task::Serve(cli.serve)) {
        Task::Serve(serve) => run_server(&serve.config()),
        Task::Search(search) => search.run(&hunt::program()),
    }
}

fn run_server(config: &Config) -> ExitCode {
    let listening = Cell::new(false);
    let result = server::serve(config, |addresses| {
        listening.set(true);
        for (kind, address) in [("http", addresses.http), ("https", addresses.https)] {
            if let Some(address) = address {
                println!("web: {kind} on {address}");
            }
        }
        println!("web: listening");
    });
    cli::ended("web", result, listening.get())
}

impl Serve {
    fn config(self) -> Config {
        let certificate = match self.certificate.zip(self.key) {
            Some((certificate, key)) => Certificate::Files(certificate, key),
            None => {
                let pair = certificates::PEM.localhost.clone();
                Certificate::Pem(pair.certificate, pair.key)
            }
        };
        let usual = self.tls.is_none().then(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
        Config {
            listen: self.listen.or(usual),
            tls: self.tls.map(|address| (address, certificate)),
            notes: self.notes,
            machines: self.machines as usize,
            clients: self.clients as usize,
            patience: Duration::from_secs(self.patience),
            drain: Duration::from_secs(self.drain.into()),
            say: |news| eprintln!("web: {news}"),
            access: if self.quiet { |_| {} } else { |line| println!("{line}") },
            bug: None,
        }
    }
}
