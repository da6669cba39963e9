//! What machinarium costs, beside peers. `cargo run --release` measures everything in a few minutes.
//!
//! ```text
//! cargo run --release -- [WORDS...] [--rounds N] [--write]
//!     WORDS      only cases whose name contains one of them: "yield", "echo", "yield/256"
//!     --rounds   how often each is measured (default 5)
//!     --write    puts the tables into benches/README.md
//! ```
//!
//! Each measurement is a fresh child process: this program again, with `--child` and the case. Rounds are interleaved (all cases, then
//! all again), so that neighbours in time share the weather of a machine whose host steals processor time. The tables
//! give medians, and the median over the rounds of the ratio to the first peer of the group.

mod case;
mod channels;
mod connections;
mod echo;
mod handover;
mod idle;
mod process;
mod server;
mod simulated;
mod spawn;
mod table;
mod timers;
mod tls;
mod window;
mod yielding;

use std::io::IsTerminal;
use std::process::ExitCode;

use case::{Case, Metric};

/// The groups, in the order of the tables.
fn cases() -> Vec<Case> {
    let groups = [
        yielding::cases(),
        spawn::cases(),
        handover::cases(),
        channels::cases(),
        timers::cases(),
        idle::cases(),
        echo::cases(),
        tls::cases(),
        connections::cases(),
        simulated::cases(),
    ];
    groups.into_iter().flatten().collect()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--child", group, peer] => child(group, peer),
        ["--server", peer] => echo::serve(peer),
        ["--tls-server", peer] => connections::serve(peer),
        _ => parent(&words),
    }
}

/// Measures one case and prints what it found for the parent.
fn child(group: &str, peer: &str) -> ExitCode {
    let cases = cases();
    let case =
        cases.iter().find(|case| case.group == group && case.peer == peer).expect("the parent names a case");
    for Metric { name, value } in (case.measure)() {
        println!("{name}\t{value}");
    }
    // Not by `return`: a million idle coroutines are not torn down.
    std::process::exit(0)
}

fn parent(words: &[&str]) -> ExitCode {
    let mut rounds = 5;
    let mut write = false;
    let mut filters = Vec::new();
    let mut rest = words.iter();
    while let Some(&word) = rest.next() {
        match word {
            "--write" => write = true,
            "--rounds" => match rest.next().and_then(|count| count.parse().ok()) {
                Some(count) if count > 0 => rounds = count,
                _ => return usage("--rounds needs a number"),
            },
            option if option.starts_with('-') => return usage(&format!("no option {option}")),
            filter => filters.push(filter),
        }
    }
    let mut cases = cases();
    cases.retain(|case| filters.is_empty() || filters.iter().any(|filter| case.group.contains(filter)));
    if cases.is_empty() {
        return usage("no case has such a name");
    }
    let tables = table::render(&cases, &measure(&cases, rounds));
    for (name, table) in &tables {
        println!("\n## {name}\n\n{table}");
    }
    if write && let Err(error) = table::write(&tables, rounds) {
        eprintln!("benches/README.md: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("{problem}; usage: cargo run --release -- [WORDS...] [--rounds N] [--write]");
    ExitCode::from(2)
}

/// For each case, what each round found. A case that fails in a round has no entry there, and says so.
fn measure(cases: &[Case], rounds: usize) -> Vec<Vec<Option<Vec<Metric>>>> {
    let terminal = std::io::stderr().is_terminal();
    let mut results: Vec<_> = cases.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for (case, results) in cases.iter().zip(&mut results) {
            if round >= case.rounds {
                continue;
            }
            if terminal {
                eprint!("\r\x1b[Kround {} of {rounds}: {} {}", round + 1, case.group, case.peer);
            }
            results.push(process::run_child(&case.group, case.peer));
        }
    }
    if terminal {
        eprint!("\r\x1b[K");
    }
    results
}
