//! How long each strategy hunts for each bug: not a check, but the table of `benches/README.md`. It takes minutes, so it is asked for:
//!
//! ```sh
//! cargo test --release --test bugs -- --ignored --nocapture strategies
//! ```
//!
//! A hunt runs one seed after another until one fails, from a master seed's first on. A cell says how many of the master seeds' hunts have
//! found the bug, and the medians of those that have: in how many runs, in how many microseconds.

use std::sync::Arc;
use std::time::Duration;

use machinarium_sim::{Outcome, Rehearsal, Simulation, Strategy};

use crate::table::{BUGS, Bug, Twin};

/// How many hunts there are in each cell.
const MASTERS: u64 = 30;
/// After so many runs a hunt gives up.
const RUNS: u64 = 1000;

const STRATEGIES: &[&str] =
    &["random", "pct2", "pct3", "pct5", "pos", "walk", "selective", "robin2", "portfolio"];

#[test]
#[ignore = "a benchmark"]
fn strategies() {
    println!("| bug | {} |", STRATEGIES.join(" | "));
    println!("|---|{}", "---|".repeat(STRATEGIES.len()));
    for bug in BUGS {
        let cells = STRATEGIES.iter().map(|name| cell(bug, name.parse().expect("a strategy")));
        println!("| {} | {} |", bug.name, cells.collect::<Vec<_>>().join(" | "));
    }
}

fn cell(bug: &Bug, strategy: Strategy) -> String {
    let script = bug.script;
    let rehearsal = Arc::new(simulation(bug, 1).rehearse(move |world| script(world, Twin::Wrong)));
    let mut found: Vec<_> =
        (0..MASTERS).filter_map(|master| hunt(bug, strategy, &rehearsal, master * RUNS)).collect();
    let median = |values: &mut dyn Iterator<Item = u128>| {
        let mut values: Vec<_> = values.collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    let count = found.len();
    if count == 0 {
        return "0".to_owned();
    }
    let runs = median(&mut found.iter().map(|(runs, _)| u128::from(*runs)));
    let time = median(&mut found.drain(..).map(|(_, time)| time.as_micros()));
    format!("{count}: {runs}, {time}")
}

/// In how many runs, and how long that took.
fn hunt(bug: &Bug, strategy: Strategy, rehearsal: &Arc<Rehearsal>, first: u64) -> Option<(u64, Duration)> {
    // Outside of a world this is the real clock.
    let begun = machinarium::now();
    let script = bug.script;
    let one = |run: u64| -> Outcome {
        let simulation = simulation(bug, first + run).strategy(strategy).rehearsed(rehearsal.clone());
        simulation.run(move |world| script(world, Twin::Wrong))
    };
    let run = (1..=RUNS).find(|&run| !one(run).passed())?;
    Some((run, machinarium::now() - begun))
}

fn simulation(bug: &Bug, seed: u64) -> Simulation {
    Simulation::new(seed).faults((bug.faults)()).cpu(bug.cpu).limit_calls(crate::CALLS)
}
