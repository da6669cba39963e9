//! The command line of a program that is hunted: subcommands to put into one's own, with clap.
//!
//! | command | does | exits with 1 |
//! |---|---|---|
//! | `hunt` | runs many seeds, one world each, alone or as a shard of a fleet | if one fails |
//! | `replay` | repeats the run of a seed, or of recorded choices, and prints its digest | if it fails |
//! | `trace` | the same, with every event | if it fails |
//! | `explain` | shrinks a failure, tells why, and draws it | if it fails |
//! | `report` | adds up what many hunts have written | if one found something |
//!
//! What a command line says and cannot be done is one line and the status 2, which the caller's own `main` sees to.
//!
//! ```
//! use clap::Parser;
//! use machinarium_sim::World;
//! use machinarium_sim::cli::{Flawless, Program, Search};
//!
//! #[derive(Parser)]
//! enum Cli {
//!     #[command(flatten)]
//!     Search(Search<Flawless>),
//! }
//!
//! fn script(world: &World, _: Option<Flawless>) {
//!     let server = world.host("server").run(|| machinarium::run(|| std::io::Result::Ok(())));
//!     world.join(&server);
//! }
//!
//! let program = Program::new("doc", "cargo run --example doc --", script);
//! let Cli::Search(search) = Cli::parse_from(["doc", "hunt", "--seeds", "10"]);
//! assert_eq!(search.run(&program), std::process::ExitCode::SUCCESS);
//! ```

mod again;
mod hunt;
mod json;
mod report;
mod shard;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, Subcommand, ValueEnum};

pub use shard::Shard;

use crate::fault::{Cpu, Faults};
use crate::harness::{parse_duration, parse_seed};
use crate::script::World;
use crate::simulation::{Outcome, Simulation};
use crate::strategy::Strategy;

/// The events that a report shows.
const EVENTS: usize = 40;

/// A mistake that a program can be told to make, for its hunt to find.
pub trait Mistake: ValueEnum + Copy + Send + Sync + 'static {}

impl<B: ValueEnum + Copy + Send + Sync + 'static> Mistake for B {}

/// The mistakes of a program that is told to make none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flawless {}

impl ValueEnum for Flawless {
    fn value_variants<'a>() -> &'a [Flawless] {
        &[]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match *self {}
    }
}

/// A program that is hunted.
#[derive(Clone, Copy)]
pub struct Program<B> {
    name: &'static str,
    command: &'static str,
    script: fn(&World, Option<B>),
    faults: Faults,
    cpu: Cpu,
    strategy: Strategy,
}

impl<B: Mistake> Program<B> {
    /// The program `name`, which one starts with `command`; in each world happens what `script` says, with the mistake that it is
    /// given. There are the faults of a beginner ([`Faults::default`]) and [`Cpu::Ideal`], which the script may change, and
    /// [`Strategy::Portfolio`].
    pub fn new(name: &'static str, command: &'static str, script: fn(&World, Option<B>)) -> Program<B> {
        let strategy = Strategy::Portfolio;
        Program { name, command, script, faults: Faults::default(), cpu: Cpu::Ideal, strategy }
    }

    /// Which faults there are.
    pub fn faults(self, faults: Faults) -> Program<B> {
        Program { faults, ..self }
    }

    /// How processors behave.
    pub fn cpu(self, cpu: Cpu) -> Program<B> {
        Program { cpu, ..self }
    }

    /// By what runs decide who goes on.
    pub fn strategy(self, strategy: Strategy) -> Program<B> {
        Program { strategy, ..self }
    }

    fn simulation(&self, seed: u64) -> Simulation {
        Simulation::new(seed).faults(self.faults).cpu(self.cpu).strategy(self.strategy)
    }

    fn run(&self, simulation: &Simulation, bug: Option<B>) -> Outcome {
        let script = self.script;
        simulation.run(move |world| script(world, bug))
    }

    /// The command that does `task` with one seed.
    fn command(&self, task: &str, seed: u64, bug: Option<B>) -> String {
        self.task(task, &format!("--seed {seed}"), bug)
    }

    fn task(&self, task: &str, what: &str, bug: Option<B>) -> String {
        let bug = bug.and_then(|bug| bug.to_possible_value());
        let bug = bug.map_or(String::new(), |bug| format!(" --bug {}", bug.get_name()));
        format!("{} {task} {what}{bug}", self.command)
    }
}

impl<B> fmt::Debug for Program<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({}, {})", self.name, self.command)
    }
}

/// The subcommands.
#[derive(Subcommand, Clone, Debug)]
pub enum Search<B: Mistake> {
    /// Runs the program in simulated worlds with faults, one for each seed, and checks it.
    Hunt(Hunt<B>),
    /// Repeats one run and prints its digest.
    Replay(OneRun<B>),
    /// Repeats one run and prints every event.
    Trace(OneRun<B>),
    /// Finds out why a seed fails: the choices that matter, the moment it was decided, and pictures.
    Explain(Explain<B>),
    /// Adds up the reports of hunts.
    Report(Report),
}

/// Many seeds.
#[derive(Args, Clone, Debug)]
pub struct Hunt<B: Mistake> {
    /// How many seeds; with a budget, as many as it allows.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = count(u64::MAX), conflicts_with = "budget")]
    seeds: u64,
    /// For how long: 30s, 10m, 2h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    budget: Option<Duration>,
    /// How many at once.
    #[arg(long, value_name = "J", default_value_t = 1, value_parser = count(1024))]
    jobs: u64,
    /// The first seed.
    #[arg(long, value_name = "S", default_value = "1", value_parser = seed)]
    first: u64,
    /// Which part of a fleet this is: I of N, from 0, takes every N-th seed. I alone takes the I-th N seeds of as many machines
    /// as one likes. Unless told, it is what a Kubernetes Indexed Job or a Slurm array says.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Adds what was found to this file, as JSON lines for `report`.
    #[arg(long, value_name = "FILE")]
    reports: Option<PathBuf>,
    /// Plants a bug into the program.
    #[arg(long)]
    bug: Option<B>,
}

/// One run: of a seed, or of the choices that were recorded of one. `MACHINARIUM_BREAK_AT=N` stops it before its N-th choice, for a
/// debugger.
#[derive(Args, Clone, Debug)]
pub struct OneRun<B: Mistake> {
    /// Which seed, decimal or 0x...
    #[arg(long, value_name = "S", value_parser = seed, required_unless_present = "record")]
    seed: Option<u64>,
    /// The choices in this file, which `explain` has written.
    #[arg(long, value_name = "FILE", conflicts_with = "seed")]
    record: Option<PathBuf>,
    /// Plants a bug into the program, as it was in the hunt.
    #[arg(long)]
    bug: Option<B>,
}

/// One seed that fails.
#[derive(Args, Clone, Debug)]
pub struct Explain<B: Mistake> {
    /// Which, decimal or 0x...
    #[arg(long, value_name = "S", value_parser = seed)]
    seed: u64,
    /// Plants a bug into the program, as it was in the hunt.
    #[arg(long)]
    bug: Option<B>,
    /// How long it may take to make the run simpler, and as long again to look at its futures.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    patience: Duration,
    /// The directory for the pictures and the record.
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

/// Files of reports.
#[derive(Args, Clone, Debug)]
pub struct Report {
    /// What hunts have written with --reports.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl<B: Mistake> Search<B> {
    /// Does it, to the program's exit status.
    pub fn run(self, program: &Program<B>) -> ExitCode {
        match self {
            Search::Hunt(hunt) => hunt.run(program),
            Search::Replay(one) => again::replay(program, &one),
            Search::Trace(one) => again::trace(program, &one),
            Search::Explain(explain) => again::explain(program, &explain),
            Search::Report(report) => report.run(),
        }
    }
}

fn count(most: u64) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=most)
}

fn seed(text: &str) -> Result<u64, String> {
    parse_seed(text).ok_or_else(|| "a number is wanted, also as 0x...".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "a time is wanted, as 30s, 10m or 2h".to_owned())
}
