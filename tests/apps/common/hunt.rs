//! The hunt: a program's own entry point in simulated worlds, one for each seed, as the program's script has it.
//!
//! A seed is one run, always the same; `replay` and `trace` repeat it. Prints what was done, and for a seed that fails its
//! report and the commands that repeat it; the exit status is 1 then.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use machinarium::Instant;
use machinarium::signal::Signal;
use machinarium_sim::{Faults, Found, Host, Outcome, Simulation, Strategy, World};

use super::cli::Mistake;

/// A program that is hunted.
pub(crate) struct Program<B> {
    /// Its name among the examples.
    pub(crate) name: &'static str,
    /// What happens in a world.
    pub(crate) script: fn(&World, Option<B>),
}

/// The events that a report shows.
const EVENTS: usize = 40;

/// Seeds `first` and following; exits with 1 if one fails.
pub(crate) fn hunt<B: Mistake>(
    program: &Program<B>,
    first: u64,
    seeds: u64,
    jobs: usize,
    bug: Option<B>,
) -> ExitCode {
    // Outside of a world this is the real clock.
    let started = machinarium::now();
    let told = AtomicU64::new(0);
    let hunt = machinarium_sim::Hunt { first, seeds, jobs };
    let found = hunt.run(
        |seed| program.run(simulation(seed), bug),
        |found| {
            let second = (machinarium::now() - started).as_secs();
            if told.fetch_max(second, Ordering::Relaxed) < second {
                eprintln!("{} of {seeds} seeds, {}", found.seeds, rate(found, started));
            }
        },
    );
    if let Some(outcome) = &found.failure {
        // Once more, with the last events kept.
        let told = program.run(simulation(outcome.seed).keep_events(EVENTS), bug);
        let same = told.digest == outcome.digest;
        println!(
            "seed {} failed{}",
            outcome.seed,
            if same { "" } else { ", and ran differently when repeated" }
        );
        println!(
            "{}",
            if same { &told } else { outcome }.report(&program.command("replay", outcome.seed, bug))
        );
        println!("every event: {}", program.command("trace", outcome.seed, bug));
    }
    summary(&found, started);
    found.exit_code()
}

/// Repeats a seed and prints its digest; exits with 1 if it fails.
pub(crate) fn replay<B: Mistake>(program: &Program<B>, seed: u64, bug: Option<B>) -> ExitCode {
    let outcome = program.run(simulation(seed).keep_events(EVENTS), bug);
    if outcome.passed() {
        println!("seed {seed} passed\n{}\ndigest: {:016x}", outcome.stats, outcome.digest);
        return ExitCode::SUCCESS;
    }
    println!("seed {seed} failed\n{}", outcome.report(&program.command("replay", seed, bug)));
    ExitCode::FAILURE
}

/// Repeats a seed and prints every event; exits with 1 if it fails.
pub(crate) fn trace<B: Mistake>(program: &Program<B>, seed: u64, bug: Option<B>) -> ExitCode {
    let outcome = program.run(simulation(seed).trace(true), bug);
    println!("{}", outcome.report(&program.command("replay", seed, bug)));
    if outcome.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl<B: Mistake> Program<B> {
    fn run(&self, simulation: Simulation, bug: Option<B>) -> Outcome {
        let script = self.script;
        simulation.run(move |world| script(world, bug))
    }

    fn command(&self, task: &str, seed: u64, bug: Option<B>) -> String {
        let bug = bug.and_then(|bug| bug.to_possible_value());
        let bug = bug.map_or(String::new(), |bug| format!(" --bug {}", bug.get_name()));
        format!("cargo run --release --example {} -- {task} --seed {seed}{bug}", self.name)
    }
}

fn rate(found: &Found, started: Instant) -> String {
    let real = (machinarium::now() - started).as_secs_f64().max(0.001);
    let simulated = found.stats.time.as_secs_f64();
    format!(
        "{:.0} seeds/s, {simulated:.0} s simulated, {:.0} times as fast as real",
        found.seeds as f64 / real,
        simulated / real
    )
}

fn summary(found: &Found, started: Instant) {
    let stats = &found.stats;
    println!("{} seeds, {}", found.seeds, rate(found, started));
    println!("{} choices, {} calls, {} events", stats.choices, stats.calls, stats.events);
    println!("faults: {}", stats.faults);
    println!("{}", if found.failure.is_some() { "FAILED" } else { "passed" });
}

fn simulation(seed: u64) -> Simulation {
    Simulation::new(seed).faults(Faults::swarm()).strategy(Strategy::Portfolio)
}

/// Asks a server to end as an operator does, and starts it again when it has.
pub(crate) fn roll(world: &World, server: &Host) {
    terminate(world, server);
    server.restart();
}

/// Asks a server to end: within a minute it does, whatever else goes wrong. One that is about to be started again (`init.rs`) hears
/// nothing, so it is asked again, but not before it must have ended.
pub(crate) fn terminate(world: &World, server: &Host) {
    let begun = world.now();
    for seconds in 1..=60 {
        if seconds % 20 == 1 {
            server.signal(Signal::Term);
        }
        let end = begun + Duration::from_secs(seconds);
        while world.now() < end {
            if !server.running() {
                return;
            }
            world.sleep(Duration::from_millis(10));
        }
    }
    panic!("SIGTERM does not end {}", server.name());
}
