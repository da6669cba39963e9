//! echo: gives back what it is sent, over TCP, TLS and a Unix socket at once, and the hunt for its bugs, in one binary.
//!
//! ```text
//! echo [--tcp ADDRESS] [--unix PATH] [--tls ADDRESS [--certificate FILE --key FILE]] [--machines N] ...
//! echo hunt --seeds N [--jobs J]     runs the same server in simulated worlds, with faults, and checks it
//! echo replay --seed S               repeats one of these runs and prints its digest
//! echo trace --seed S                prints every event of one
//! echo explain --seed S              tells why one fails, and draws it
//! ```
//!
//! Exit codes: 0, 1 if a bug was found or the server failed, 2 if it could not do what the command line says.

#[path = "../../tls/certificates.rs"]
mod certificates;
#[path = "../common/mod.rs"]
mod common;
mod config;
mod hunt;
mod server;
mod workload;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use machinarium_sim::cli::Search;

use common::cli::{self, count_up_to};
use common::place::{self, Certificate, UnixAddress};
use config::{Bug, Config};

/// Gives back what it is sent, over TCP, TLS and a Unix socket.
#[derive(Parser)]
#[command(name = "echo", args_conflicts_with_subcommands = true)]
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
    /// Where to listen for TCP, IP:PORT. Without any listener this is 127.0.0.1:7000.
    #[arg(long, value_name = "ADDRESS")]
    tcp: Option<SocketAddr>,
    /// Where to listen for TLS, IP:PORT.
    #[arg(long, value_name = "ADDRESS")]
    tls: Option<SocketAddr>,
    /// The Unix socket: a path, or @NAME for one without a file. A socket that is there is replaced.
    #[arg(long, value_name = "PATH")]
    unix: Option<String>,
    /// The chain of certificates, PEM. Without it, one for localhost that nobody should trust: its key is public.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The key, PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// How many machines (threads) share the connections.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count_up_to(256))]
    machines: u64,
    /// Clients at once.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = count_up_to(1 << 20))]
    clients: u64,
    /// Closes connections that neither send nor take anything for so many seconds; 0 is never.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    idle: u32,
    /// How many seconds clients may go on after SIGTERM or Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    drain: u32,
}

fn main() -> ExitCode {
    let cli: Cli = match cli::parse("echo") {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    match cli.task.unwrap_or(Task::Serve(cli.serve)) {
        Task::Serve(serve) => run_server(&serve.config()),
        Task::Search(search) => search.run(&hunt::program()),
    }
}

fn run_server(config: &Config) -> ExitCode {
    place::remove_stale(config.unix.as_ref());
    let listening = Cell::new(false);
    let result = server::serve(config, |addresses| {
        listening.set(true);
        let listeners = [("tcp", addresses.tcp), ("tls", addresses.tls)];
        listeners.iter().for_each(|(kind, address)| {
            if let Some(address) = address {
                println!("echo: {kind} on {address}");
            }
        });
        println!("echo: listening");
    });
    cli::ended("echo", result, listening.get())
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
        let nothing = self.tls.is_none() && self.unix.is_none();
        let usual = nothing.then(|| SocketAddr::from(([127, 0, 0, 1], 7000)));
        Config {
            tcp: self.tcp.or(usual),
            tls: self.tls.map(|address| (address, certificate)),
            unix: self.unix.as_deref().map(UnixAddress::parse),
            machines: self.machines as usize,
            clients: self.clients as usize,
            idle: (self.idle != 0).then(|| Duration::from_secs(self.idle.into())),
            drain: Duration::from_secs(self.drain.into()),
            say: |news| eprintln!("echo: {news}"),
            bug: None,
        }
    }
}
