//! One run again, and why it fails.

use std::process::ExitCode;

use super::{EVENTS, Explain, Mistake, OneRun, Program};
use crate::ahead;
use crate::choice::Record;
use crate::explain::Case;
use crate::harness;
use crate::picture;
use crate::regression;
use crate::shrink;
use crate::simulation::{Outcome, Simulation};

/// Repeats a run and prints its digest.
pub(super) fn replay<B: Mistake>(program: &Program<B>, one: &OneRun<B>) -> ExitCode {
    let outcome = run(program, one, |simulation| simulation.keep_events(EVENTS));
    let seed = outcome.seed;
    if one.record.is_some() {
        println!("{}", regression::Fit { alignment: outcome.alignment, mismatch: outcome.mismatch });
    }
    if outcome.passed() {
        println!("seed {seed} passed\n{}\ndigest: {:016x}", outcome.stats, outcome.digest);
        return ExitCode::SUCCESS;
    }
    println!("seed {seed} failed\n{}", outcome.report(&command(program, one, seed)));
    ExitCode::FAILURE
}

/// Repeats a run and prints every event.
pub(super) fn trace<B: Mistake>(program: &Program<B>, one: &OneRun<B>) -> ExitCode {
    let outcome = run(program, one, |simulation| simulation.trace(true));
    println!("{}", outcome.report(&command(program, one, outcome.seed)));
    if outcome.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run<B: Mistake>(
    program: &Program<B>,
    one: &OneRun<B>,
    keep: impl FnOnce(Simulation) -> Simulation,
) -> Outcome {
    let simulation = program.simulation(one.seed.unwrap_or(0)).break_at(harness::break_at());
    let simulation = match &one.record {
        Some(path) => simulation.replay(regression::load(path)),
        None => simulation,
    };
    program.run(&keep(simulation), one.bug)
}

/// The command that repeats the run.
fn command<B: Mistake>(program: &Program<B>, one: &OneRun<B>, seed: u64) -> String {
    match &one.record {
        Some(path) => program.task("replay", &format!("--record {}", path.display()), one.bug),
        None => program.command("replay", seed, one.bug),
    }
}

/// Why a seed fails.
pub(super) fn explain<B: Mistake>(program: &Program<B>, explain: &Explain<B>) -> ExitCode {
    let (seed, bug) = (explain.seed, explain.bug);
    let run = |simulation: &Simulation| program.run(simulation, bug);
    let told = run(&program.simulation(seed).record(true));
    let (Some(failure), Some(record)) = (&told.failure, &told.record) else {
        println!("seed {seed} passed");
        return ExitCode::SUCCESS;
    };
    println!("{failure}\n");
    let replay = |record: &Record| {
        let outcome = run(&program.simulation(seed).replay(record.clone()).record(true));
        outcome.failure.is_some_and(|other| other.is_like(failure)).then_some(outcome.record).flatten()
    };
    let Some(shrunk) = shrink::shrink(record, explain.patience, replay) else {
        println!("its record fails otherwise when it is replayed, so it cannot be explained");
        return ExitCode::FAILURE;
    };
    println!("{shrunk}");
    let case = Case { simulation: program.simulation(seed), run: &run, failure };
    let explanation = case.explain(&shrunk.record, explain.patience);
    println!("{}", explanation.text());
    let out = explain.out.clone().unwrap_or_else(ahead::directory);
    let name = format!("{}-{seed:x}", program.name);
    let path = out.join(format!("{name}.choices"));
    let written = picture::write(&out, &name, &explanation)
        .and_then(|paths| std::fs::write(&path, shrunk.record.to_text()).map(|()| paths));
    match written {
        Ok(paths) => paths.iter().for_each(|path| println!("{}", path.display())),
        Err(error) => {
            eprintln!("{}: {} cannot be written: {error}", program.name, out.display());
            return ExitCode::from(2);
        }
    }
    println!("that run: {}", program.task("replay", &format!("--record {}", path.display()), bug));
    ExitCode::FAILURE
}
