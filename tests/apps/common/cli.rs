//! Command lines: the subcommands that search for bugs, the same for each program, and how a wrong line is answered.
//!
//! Exit codes: 0, 1 if a bug was found or the server failed, 2 if it could not do what the command line says.

use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::hunt::{self, Program};

/// A mistake that a program can be told to make, for its hunt to find.
pub(crate) trait Mistake: ValueEnum + Copy + Send + Sync + 'static {}

impl<B: ValueEnum + Copy + Send + Sync + 'static> Mistake for B {}

/// The subcommands of a program that is hunted.
#[derive(Subcommand)]
pub(crate) enum Search<B: Mistake> {
    /// Runs the server in simulated worlds with faults, one for each seed, and checks what clients see.
    Hunt(Hunt<B>),
    /// Repeats the run of one seed and prints its digest.
    Replay(OneSeed<B>),
    /// Repeats the run of one seed and prints every event.
    Trace(OneSeed<B>),
}

#[derive(Args)]
pub(crate) struct Hunt<B: Mistake> {
    /// How many seeds.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = count_up_to(u64::MAX))]
    seeds: u64,
    /// How many at once.
    #[arg(long, value_name = "J", default_value_t = 1, value_parser = count_up_to(1024))]
    jobs: u64,
    /// The first seed.
    #[arg(long, value_name = "S", default_value = "1", value_parser = seed)]
    first: u64,
    /// Plants a bug into the server.
    #[arg(long)]
    bug: Option<B>,
}

#[derive(Args)]
pub(crate) struct OneSeed<B: Mistake> {
    /// Which, decimal or 0x...
    #[arg(long, value_name = "S", value_parser = seed)]
    seed: u64,
    /// Plants a bug into the server, as it was in the hunt.
    #[arg(long)]
    bug: Option<B>,
}

impl<B: Mistake> Search<B> {
    /// Does it, to its exit status.
    pub(crate) fn run(self, program: &Program<B>) -> ExitCode {
        match self {
            Search::Hunt(hunt) => hunt::hunt(program, hunt.first, hunt.seeds, hunt.jobs as usize, hunt.bug),
            Search::Replay(one) => hunt::replay(program, one.seed, one.bug),
            Search::Trace(one) => hunt::trace(program, one.seed, one.bug),
        }
    }
}

/// The command line, or the exit status after what clap had to say: one line, or all of it where that was asked for.
pub(crate) fn parse<C: Parser>(name: &str) -> Result<C, ExitCode> {
    C::try_parse().map_err(|error| {
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        let text = error.to_string();
        let first = text.lines().take_while(|line| !line.trim().is_empty());
        let line = first.map(str::trim).collect::<Vec<_>>().join(" ");
        eprintln!("{name}: {} (see {name} --help)", line.trim_start_matches("error: "));
        ExitCode::from(2)
    })
}

/// The exit status of a server that has ended: an error before it listened is one of its command line.
pub(crate) fn ended(name: &str, result: io::Result<()>, listened: bool) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::from(if listened { 1 } else { 2 })
        }
    }
}

/// From 1 to `most`.
pub(crate) fn count_up_to(most: u64) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=most)
}

fn seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| error.to_string())
}
