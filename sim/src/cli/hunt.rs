//! Many seeds until one fails: alone, for a time, or as a shard of a fleet.

use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::report::{self, Lines};
use super::shard::{Seeds, Shard};
use super::{Hunt, Mistake, Program};
use crate::ahead;
use crate::harness::{self, Found};
use crate::simulation::Outcome;

#[allow(clippy::disallowed_types)] // hunts take real time
type Stopwatch = std::time::Instant;

impl<B: Mistake> Hunt<B> {
    pub(super) fn run(&self, program: &Program<B>) -> ExitCode {
        let started = Stopwatch::now();
        let shard = self.shard.or_else(Shard::of_environment);
        let wanted = self.budget.is_none().then_some(self.seeds);
        let Seeds { first, step, count } = shard.map_or_else(
            || Seeds { first: self.first, step: 1, count: wanted.unwrap_or(u64::MAX - self.first) },
            |shard| shard.seeds(self.first, wanted),
        );
        if let Some(shard) = shard {
            eprintln!("{}: shard {shard}, seeds from {first}, each {step}", program.name);
        }
        warn_of_the_dead(program, self.bug);
        let told = AtomicU64::new(0);
        let hunt = harness::Hunt { first, step, seeds: count, jobs: self.jobs as usize, budget: self.budget };
        let found = hunt.run(
            |seed| program.run(&program.simulation(seed), self.bug),
            |found| {
                let second = started.elapsed().as_secs();
                if told.fetch_max(second, Ordering::Relaxed) < second {
                    let of = wanted.map_or(String::new(), |_| format!(" of {count}"));
                    eprintln!("{}{of} seeds, {}", found.seeds, rate(found, started));
                }
            },
        );
        if let Some(outcome) = &found.failure {
            tell(program, outcome, self.bug);
        }
        summary(&found, started);
        let lines = Lines { program: program.name, shard, found: &found, started };
        let command = |seed| program.command("explain", seed, self.bug);
        match self.reports.as_ref().map(|path| report::append(path, &lines, &command)) {
            Some(Err(error)) => {
                eprintln!("{}: the report cannot be written: {error}", program.name);
                ExitCode::from(2)
            }
            _ => found.exit_code(),
        }
    }
}

/// Seeds that ended earlier hunts, which could not say so.
fn warn_of_the_dead<B: Mistake>(program: &Program<B>, bug: Option<B>) {
    for (path, seed) in ahead::left_behind(&ahead::program()) {
        eprintln!(
            "{}: an earlier hunt was ended while it ran seed {seed}: {}",
            program.name,
            program.command("replay", seed, bug)
        );
        let _ = std::fs::remove_file(path);
    }
}

/// A failure once more, with the last events kept.
fn tell<B: Mistake>(program: &Program<B>, outcome: &Outcome, bug: Option<B>) {
    let seed = outcome.seed;
    let told = program.run(&program.simulation(seed).keep_events(super::EVENTS), bug);
    let same = told.digest == outcome.digest;
    println!("seed {seed} failed{}", if same { "" } else { ", and ran differently when repeated" });
    println!("{}", if same { &told } else { outcome }.report(&program.command("replay", seed, bug)));
    println!("every event: {}", program.command("trace", seed, bug));
    println!("the reason:  {}", program.command("explain", seed, bug));
}

fn rate(found: &Found, started: Stopwatch) -> String {
    let real = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    let simulated = u64::try_from(found.stats.time.as_millis()).unwrap_or(u64::MAX);
    format!(
        "{} seeds/s, {} s simulated, {} times as fast as real",
        found.seeds.saturating_mul(1000) / real,
        Duration::from_millis(simulated).as_secs(),
        simulated / real
    )
}

fn summary(found: &Found, started: Stopwatch) {
    let stats = &found.stats;
    println!("{} seeds, {}", found.seeds, rate(found, started));
    println!("{} choices, {} calls, {} events", stats.choices, stats.calls, stats.events);
    println!("faults: {}", stats.faults);
    println!("{}", if found.failure.is_some() { "FAILED" } else { "passed" });
}

/// A file's error with its name.
pub(super) fn named(path: &std::path::Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}
