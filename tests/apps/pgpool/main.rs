//! pgpool: a connection pooler for PostgreSQL, and the hunt for its bugs, in one binary. `tests/programs/pgpool` runs it before a real server, with
//! psql, pgbench, psycopg2 and JDBC.
//!
//! ```text
//! pgpool FILE             serves as the configuration in FILE says (see tests/apps/pgpool/pgpool.toml)
//! pgpool FILE --check     says whether the configuration is right
//! pgpool hunt --seeds N [--jobs J]   runs the same pooler in simulated worlds, with faults, and checks it
//! pgpool replay --seed S             repeats one of these runs and prints its digest
//! pgpool trace --seed S              prints every event of one
//! pgpool explain --seed S            tells why one fails, and draws it
//! ```
//!
//! Clients connect to it as to a server. Passwords are shown by SCRAM-SHA-256 on either side; MD5, which PostgreSQL itself gives up, is left out.
//! In a transaction pool, what would outlive a transaction does not: SET, LISTEN, temporary tables, advisory locks and SQL's PREPARE are undone
//! before the server connection is another client's, or the same one's again (`traces.rs`). The parameters that a server reports, those of the
//! login, and prepared statements of the protocol are the client's for as long as it is there.
//!
//! Exit codes: 0, 1 if a bug was found or the pooler failed, 2 if it could not do what the command line or the file says.

mod admin;
mod cancel;
#[path = "../../tls/certificates.rs"]
mod certificates;
mod client;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod config;
mod connect;
mod failure;
mod file;
mod flow;
mod homes;
mod hunt;
mod inbox;
mod login;
mod message;
mod metrics;
mod params;
mod pool;
mod pooler;
mod random;
mod reload;
mod replies;
mod requests;
mod scram;
mod serve;
mod server;
mod session;
mod show;
mod statements;
mod stats;
mod table;
mod traces;
mod wire;

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use machinarium_sim::cli::Search;

use common::cli;
use config::Bug;

/// A connection pooler for PostgreSQL.
#[derive(Parser)]
#[command(name = "pgpool", args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
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
    /// The configuration, in TOML.
    file: PathBuf,
    /// Only says whether the configuration is right.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let cli: Cli = match cli::parse("pgpool") {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    match (cli.search, cli.serve) {
        (Some(Task::Search(search)), _) => search.run(&hunt::program()),
        (None, Some(serve)) => run_server(&serve),
        (None, None) => {
            eprintln!("pgpool: which configuration? (see pgpool --help)");
            ExitCode::from(2)
        }
    }
}

fn run_server(serve: &Serve) -> ExitCode {
    let config = match file::read(&serve.file) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("pgpool: {error}");
            return ExitCode::from(2);
        }
    };
    if serve.check {
        println!("pgpool: {}: the configuration is right", serve.file.display());
        return ExitCode::SUCCESS;
    }
    let (listening, path) = (Cell::new(false), serve.file.clone());
    let reload = Box::new(move || file::read(&path).map_err(|error| error.to_string()));
    let result = serve::serve(config, reload, |address| {
        listening.set(true);
        println!("pgpool: listening on {address}");
    });
    cli::ended("pgpool", result, listening.get())
}
