//! Bugs that real programs had, each as a small program with the bug put back, and its correct twin: the bug must be found, and the
//! twin must pass.
//!
//! They are those of C machinarium and of Odyssey (`table.rs` lists them), written on the primitives here: on the library, where the bug was in
//! a program above it, and on the bare kernel, where it was in the runtime. None is in the library: which twin runs is an argument.
//!
//! | variable | means |
//! |---|---|
//! | `MACHINARIUM_TWINS=20000` | on so many seeds each correct twin must pass (the default is 300) |

mod accept;
mod batch;
mod cancel;
mod duplex;
mod edge;
mod flag;
mod idle;
mod link;
mod mask;
mod measure;
mod mutex;
mod place;
mod pool;
mod ramp;
mod reader;
mod record;
mod table;
mod timeout;
mod timer;
mod update;
mod waiter;
mod worker;

use machinarium_sim::{Outcome, Simulation};
use table::{BUGS, Bug, Twin};

/// A run that makes more calls than this does not end.
const CALLS: u64 = 200_000;

/// One run of a bug's program.
fn run(bug: &Bug, twin: Twin, seed: u64) -> Outcome {
    let script = bug.script;
    Simulation::new(seed)
        .faults((bug.faults)())
        .cpu(bug.cpu)
        .limit_calls(CALLS)
        .run(move |world| script(world, twin))
}

/// On how many seeds a correct twin must pass.
fn twins() -> u64 {
    std::env::var("MACHINARIUM_TWINS")
        .map_or(300, |text| text.parse().expect("MACHINARIUM_TWINS is a number"))
}

fn bug(name: &str) -> &'static Bug {
    BUGS.iter().find(|bug| bug.name == name).expect("a bug of the table")
}

/// The bug is found in so many seeds as its row of the table says, and for what it is.
fn is_found(name: &str) {
    let bug = bug(name);
    let found = (1..=bug.within).map(|seed| run(bug, Twin::Wrong, seed)).find(|outcome| !outcome.passed());
    let found = found.unwrap_or_else(|| panic!("{name} is not found in {} seeds: {}", bug.within, bug.what));
    let report = found.report("");
    assert!(report.contains(bug.sign), "{name} failed, but not by {:?}:\n{report}", bug.sign);
}

fn twin_passes(name: &str) {
    let bug = bug(name);
    for seed in 1..=twins() {
        let outcome = run(bug, Twin::Right, seed);
        if !outcome.passed() {
            let script = bug.script;
            let told = Simulation::new(seed).faults((bug.faults)()).cpu(bug.cpu).limit_calls(CALLS);
            let told = told.keep_events(60).run(move |world| script(world, Twin::Right));
            panic!("the correct twin of {name} fails: seed {seed}\n{}", told.report(""));
        }
    }
}

/// Two tests for each bug, and one that no bug of the table is left out.
macro_rules! bugs {
    ($($module:ident $name:literal,)+) => {
        $(mod $module {
            #[test]
            fn is_found() {
                crate::is_found($name);
            }

            #[test]
            fn is_not_in_its_twin() {
                crate::twin_passes($name);
            }
        })+

        #[test]
        fn every_bug_of_the_table_has_its_tests() {
            let tested = [$($name),+];
            let table: Vec<_> = table::BUGS.iter().map(|bug| bug.name).collect();
            assert_eq!(tested[..], table);
        }
    };
}

bugs! {
    m01 "M1",
    m02 "M2",
    m03 "M3",
    m04 "M4",
    m05 "M5",
    m06 "M6",
    m07 "M7",
    m08 "M8",
    m09 "M9",
    m10 "M10",
    m11 "M11",
    m12 "M12",
    m13 "M13",
    m14 "M14",
    m15 "M15",
    m16 "M16",
    m17 "M17",
    m18 "M18",
    m19 "M19",
}
