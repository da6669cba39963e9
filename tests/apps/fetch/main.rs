//! fetch: downloads many URLs at once, tries again, goes on where it was cut, and the hunt for its bugs, in one binary.
//!
//! ```text
//! fetch [URL ...] [--file LIST] [--directory PATH] [--jobs N] [--sha256 SUM] ...
//! fetch hunt --seeds N [--jobs J]    runs the same downloads in simulated worlds, with faults, and checks them
//! fetch replay --seed S              repeats one of these runs and prints its digest
//! fetch trace --seed S               prints every event of one
//! fetch explain --seed S             tells why one fails, and draws it
//! ```
//!
//! A file that is not whole is `NAME.part`, with `NAME.part.json` beside it: the same command goes on from there, if the server still has
//! the same version. Nothing that is there is ever overwritten.
//!
//! Exit codes: 0 if all files are there, 1 if some are not or a bug was found, 2 if it could not do what the command line says.
//!
//! ureq reads std's clocks, so the binary has the simulator's guard, which passes all of that on where there is no world.

machinarium_sim::guard!();

#[path = "../../tls/certificates.rs"]
mod certificates;
#[path = "../common/mod.rs"]
mod common;
mod config;
mod download;
mod failure;
mod hunt;
mod list;
mod name;
mod origin;
mod partial;
mod request;
mod run;
mod screen;
mod version;

use std::fs;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use machinarium_sim::cli::Search;

use common::cli::{self, count_up_to};
use config::{Bug, Config, Target, Trust};
use screen::Screen;

/// Downloads many URLs at once.
#[derive(Parser)]
#[command(name = "fetch", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    search: Option<Task>,
    #[command(flatten)]
    fetch: Fetch,
}

#[derive(Subcommand)]
enum Task {
    #[command(flatten)]
    Search(Search<Bug>),
}

#[derive(Args)]
struct Fetch {
    /// What to download: http://... or https://...
    #[arg(value_name = "URL")]
    urls: Vec<String>,
    /// A list of more, one a line, each with its SHA-256 behind it if that is known. `-` is the standard input.
    #[arg(long, value_name = "LIST")]
    file: Option<PathBuf>,
    /// Where to put the files; made if it is not there.
    #[arg(long, value_name = "PATH", default_value = ".")]
    directory: PathBuf,
    /// What the SHA-256 of the file must be, if it is one.
    #[arg(long, value_name = "SUM", value_parser = list::sha256)]
    sha256: Option<[u8; 32]>,
    /// How many downloads at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = count_up_to(1000))]
    jobs: u64,
    /// How many tries in a row may bring nothing before a download is given up.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count_up_to(1_000_000))]
    tries: u64,
    /// How many seconds it may take to connect, with the handshake of TLS.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = count_up_to(1 << 30))]
    connect_timeout: u64,
    /// How many seconds a server may say nothing.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = count_up_to(1 << 30))]
    idle_timeout: u64,
    /// How many seconds one file may take, with all tries.
    #[arg(long, value_name = "SECONDS", value_parser = count_up_to(1 << 30))]
    max_time: Option<u64>,
    /// Who is trusted to sign servers' certificates, PEM, in the place of those whom the system trusts.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Call files as their servers say (Content-Disposition), not as their URLs end.
    #[arg(long)]
    server_names: bool,
    /// Say nothing but what failed.
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    let cli: Cli = match cli::parse("fetch") {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    match cli.search {
        Some(Task::Search(search)) => search.run(&hunt::program()),
        None => cli.fetch.run().unwrap_or_else(|what| {
            eprintln!("fetch: {what}");
            ExitCode::from(2)
        }),
    }
}

impl Fetch {
    /// # Errors
    /// In words, when it cannot begin.
    fn run(self) -> Result<ExitCode, String> {
        let quiet = self.quiet;
        let config = self.config()?;
        fs::create_dir_all(&config.directory)
            .map_err(|error| format!("{}: {error}", config.directory.display()))?;
        let files = config.targets.len();
        let print: fn(&str) = |line| eprintln!("fetch: {line}");
        let screen = match (quiet, io::stderr().is_terminal()) {
            (true, _) => Screen::lines(files, [|_| {}, print]),
            (false, true) => Screen::bars(files),
            (false, false) => Screen::lines(files, [print; 2]),
        };
        let summary = run::fetch(&config, &screen).map_err(|error| error.to_string())?;
        screen.close();
        if let Some(signal) = &summary.stopped {
            eprintln!(
                "fetch: {signal}: {} of {files} files are there; the same command goes on with the rest",
                summary.whole
            );
        } else if summary.failed > 0 {
            eprintln!(
                "fetch: {} of {files} files are there; the same command tries the rest again",
                summary.whole
            );
        }
        Ok(if summary.whole == files { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn config(self) -> Result<Config, String> {
        let targets = self.targets()?;
        Ok(Config {
            targets,
            directory: self.directory,
            jobs: self.jobs as usize,
            tries: self.tries as u32,
            pause: Duration::from_secs(1),
            connect: Duration::from_secs(self.connect_timeout),
            idle: Duration::from_secs(self.idle_timeout),
            whole: self.max_time.map(Duration::from_secs),
            checkpoint: Duration::from_secs(5),
            trust: self.ca.map_or(Trust::System, Trust::File),
            server_names: self.server_names,
            bug: None,
        })
    }

    fn targets(&self) -> Result<Vec<Target>, String> {
        let mut targets = self.urls.iter().map(|url| list::target(url)).collect::<Result<Vec<_>, _>>()?;
        if let Some(path) = &self.file {
            let about = |what: String| format!("{}: {what}", path.display());
            let text = if path.as_os_str() == "-" {
                io::read_to_string(io::stdin())
            } else {
                fs::read_to_string(path)
            };
            let text = text.map_err(|error| about(error.to_string()))?;
            targets.extend(list::targets(&text).map_err(about)?);
        }
        match (&mut targets[..], self.sha256) {
            ([], _) => {
                Err("what? Give it a URL, or a list of them with --file (see fetch --help)".to_owned())
            }
            ([one], Some(sum)) => {
                one.sha256 = Some(sum);
                Ok(targets)
            }
            (_, Some(_)) => {
                Err("--sha256 is of one file; of several, the list says it behind each URL".to_owned())
            }
            (_, None) => Ok(targets),
        }
    }
}
