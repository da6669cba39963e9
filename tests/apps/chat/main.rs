//! chat: says every line to all who are there, in one order, and the hunt for its bugs, in one binary. Try it with nc or telnet.
//!
//! ```text
//! chat [--listen ADDRESS] [--machines N] ...    serves
//! chat hunt --seeds N [--jobs J]     runs the same server in simulated worlds, with faults, and checks it
//! chat replay --seed S               repeats one of these runs and prints its digest
//! chat trace --seed S                prints every event of one
//! chat explain --seed S              tells why one fails, and draws it
//! ```
//!
//! Exit codes: 0, 1 if a bug was found or the server failed, 2 if it could not do what the command line says.

#[path = "../common/mod.rs"]
mod common;
mod config;
mod hunt;
mod room;
mod server;
mod workload;

use std::cell::Cell;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use machinarium_sim::cli::Search;

use common::cli::{self, count_up_to};
use config::{Bug, Config};

/// Says every line to all who are there, in one order.
#[derive(Parser)]
#[command(name = "chat", args_conflicts_with_subcommands = true)]
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
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7070")]
    listen: SocketAddr,
    /// How many machines (threads) share the members.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count_up_to(256))]
    machines: u64,
    /// Members at once.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = count_up_to(1 << 20))]
    clients: u64,
    /// How many lines may wait for one member before it is cut off.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = count_up_to(1 << 20))]
    queue: u64,
    /// How many seconds members may stay after SIGTERM or Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    drain: u32,
}

fn main() -> ExitCode {
    let cli: Cli = match cli::parse("chat") {
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
    let result = server::serve(config, |address| {
        listening.set(true);
        println!("chat: listening on {address}");
    });
    cli::ended("chat", result, listening.get())
}

impl Serve {
    fn config(self) -> Config {
        Config {
            listen: self.listen,
            machines: self.machines as usize,
            clients: self.clients as usize,
            queue: self.queue as usize,
            drain: Duration::from_secs(self.drain.into()),
            say: |news| eprintln!("chat: {news}"),
            bug: None,
        }
    }
}
