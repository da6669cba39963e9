//! proxy: carries TCP connections to another address, with TLS on either side, and the hunt for its bugs, in one binary.
//!
//! ```text
//! proxy --target ADDRESS [--listen ADDRESS] [--certificate FILE --key FILE] [--target-name NAME [--target-ca FILE]] ...
//! proxy hunt --seeds N [--jobs J]    runs the same proxy in simulated worlds, with faults, and checks it
//! proxy replay --seed S              repeats one of these runs and prints its digest
//! proxy trace --seed S               prints every event of one
//! proxy explain --seed S             tells why one fails, and draws it
//! ```
//!
//! Exit codes: 0, 1 if a bug was found or the proxy failed, 2 if it could not do what the command line says.

#[path = "../../tls/certificates.rs"]
mod certificates;
#[path = "../common/mod.rs"]
mod common;
mod config;
mod hunt;
mod server;
mod target;
#[path = "../echo/workload.rs"]
#[allow(dead_code, reason = "there is no Unix socket here")]
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
use config::{Bug, Config, Trust};

/// Carries TCP connections to another address, with TLS on either side.
#[derive(Parser)]
#[command(name = "proxy", args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    search: Option<Task>,
    #[command(flatten)]
    serve: Option<Serve>,
}

#[derive(Subcommand)]
enum Task {
    #[command(flatten)]
    Search(Search<Bug>),
}

#[derive(Args)]
struct Serve {
    /// Where to carry connections: IP:PORT.
    #[arg(long, value_name = "ADDRESS")]
    target: SocketAddr,
    /// Where to listen: IP:PORT.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7080")]
    listen: SocketAddr,
    /// TLS towards clients: the chain of certificates, PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The key, PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// TLS towards the target, which must be of this name.
    #[arg(long, value_name = "NAME")]
    target_name: Option<String>,
    /// Whose signature the target's certificate needs, PEM; the system's roots without it.
    #[arg(long, value_name = "FILE", requires = "target_name")]
    target_ca: Option<PathBuf>,
    /// How many machines (threads) share the connections.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count_up_to(256))]
    machines: u64,
    /// Connections at once.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = count_up_to(1 << 20))]
    clients: u64,
    /// Closes connections on which nothing moves for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = count_up_to(1 << 30))]
    idle: u64,
    /// How many seconds connections may go on after SIGTERM or Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u32,
}

fn main() -> ExitCode {
    let cli: Cli = match cli::parse("proxy") {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    match (cli.search, cli.serve) {
        (Some(Task::Search(search)), _) => search.run(&hunt::program()),
        (None, Some(serve)) => run_server(&serve.config()),
        (None, None) => {
            eprintln!("proxy: where to? (see proxy --help)");
            ExitCode::from(2)
        }
    }
}

fn run_server(config: &Config) -> ExitCode {
    let listening = Cell::new(false);
    let result = server::serve(config, |address| {
        listening.set(true);
        println!("proxy: listening on {address}");
    });
    cli::ended("proxy", result, listening.get())
}

impl Serve {
    fn config(self) -> Config {
        let accept = self.certificate.zip(self.key);
        let trust = self.target_ca.map_or(Trust::System, Trust::File);
        Config {
            listen: self.listen,
            accept: accept.map(|(certificate, key)| Certificate::Files(certificate, key)),
            target: self.target,
            connect: self.target_name.map(|name| (name, trust)),
            machines: self.machines as usize,
            clients: self.clients as usize,
            patience: Duration::from_secs(30),
            idle: Duration::from_secs(self.idle),
            drain: Duration::from_secs(self.drain.into()),
            say: |news| eprintln!("proxy: {news}"),
            bug: None,
        }
    }
}
