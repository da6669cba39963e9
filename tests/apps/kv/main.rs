//! kv: a key-value server that speaks the protocol of Redis, and the hunt for its bugs, in one binary.
//!
//! ```text
//! kv [--listen ADDRESS] [--machines N] ...     serves
//! kv hunt --seeds N [--jobs J]                 runs the same server in simulated worlds, with faults, and checks it
//! kv replay --seed S                           repeats one of these runs and prints its digest
//! kv trace --seed S                            prints every event of one
//! kv explain --seed S                          tells why one fails, and draws it
//! ```
//!
//! Exit codes: 0, 1 if a bug was found or the server failed, 2 if it could not do what the command line says.

mod bug;
#[path = "../../tls/certificates.rs"]
mod certificates;
mod client;
mod command;
#[path = "../common/mod.rs"]
mod common;
mod config;
mod connection;
mod feed;
mod hub;
mod hunt;
mod model;
mod plan;
mod reply;
mod resp;
mod server;
mod session;
mod shard;
mod store;
mod subscriber;
mod together;
mod wire;
mod workload;

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use machinarium_sim::cli::Search;

use common::cli::{self, count_up_to};
use common::place::{self, Certificate, UnixAddress};
use config::{Bug, Config};
use resp::Limits;

/// A key-value server that speaks the protocol of Redis, and the hunt for its bugs.
#[derive(Parser)]
#[command(name = "kv", args_conflicts_with_subcommands = true)]
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
    /// Where to listen: IP:PORT.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6380")]
    listen: SocketAddr,
    /// Where to listen for TLS: IP:PORT.
    #[arg(long, value_name = "ADDRESS", requires = "certificate")]
    tls: Option<SocketAddr>,
    /// The chain of certificates for TLS, PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The key for TLS, PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// The Unix socket: a path, or @NAME for one without a file. A socket that is there is replaced.
    #[arg(long, value_name = "PATH")]
    unix: Option<String>,
    /// How many machines (threads) share the port and the keys.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count_up_to(256))]
    machines: u64,
    /// Memory for keys and values, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = count_up_to(1 << 24))]
    memory: u64,
    /// Memory for incomplete requests and unsent replies of all clients, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = count_up_to(1 << 24))]
    buffers: u64,
    /// The longest argument of a request, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = count_up_to(1 << 20))]
    bulk: u64,
    /// Clients at once.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = count_up_to(1 << 20))]
    clients: u64,
    /// Closes connections without a request for so many seconds; 0 is never.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    idle: u32,
    /// A Unix socket at which the server tells of itself, for the example top and others. A socket that is there is replaced.
    #[arg(long, value_name = "PATH")]
    inspect: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli: Cli = match cli::parse("kv") {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    match cli.task.unwrap_or(Task::Serve(cli.serve)) {
        Task::Serve(serve) => run_server(&serve),
        Task::Search(search) => search.run(&hunt::program()),
    }
}

fn run_server(serve: &Serve) -> ExitCode {
    let listening = Cell::new(false);
    let machines = serve.machines;
    let config = serve.config();
    place::remove_stale(config.unix.as_ref());
    place::remove_stale(config.inspect.clone().map(UnixAddress::Path).as_ref());
    let result = server::serve(config, |addresses| {
        listening.set(true);
        let s = if machines == 1 { "" } else { "s" };
        println!("kv: listening on {} with {machines} machine{s}", addresses.plain);
        if let Some(address) = addresses.tls {
            println!("kv: tls on {address}");
        }
    });
    cli::ended("kv", result, listening.get())
}

impl Serve {
    fn config(&self) -> Config {
        let mebibytes = |count: u64| usize::try_from(count << 20).unwrap_or(usize::MAX);
        let bulk = mebibytes(self.bulk);
        let certificate = self.certificate.clone().zip(self.key.clone());
        let certificate = certificate.map(|(certificate, key)| Certificate::Files(certificate, key));
        Config {
            tls: self.tls.zip(certificate),
            unix: self.unix.as_deref().map(UnixAddress::parse),
            machines: self.machines as usize,
            memory: mebibytes(self.memory),
            buffers: mebibytes(self.buffers),
            limits: Limits { bulk, request: 2 * bulk, ..Limits::default() },
            clients: self.clients as usize,
            inspect: self.inspect.clone(),
            idle_timeout: (self.idle != 0).then(|| Duration::from_secs(self.idle.into())),
            // std's seeds are random: this is the one place where the server is not the same each time.
            hash_seed: RandomState::new().hash_one("kv"),
            say: |news| eprintln!("kv: {news}"),
            ..Config::new(self.listen)
        }
    }
}
