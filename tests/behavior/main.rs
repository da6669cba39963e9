//! What the library promises, by name. Each body is one function; it runs on the real kernel, then in a simulated host on
//! seeds, which draw latencies and the order of what happens at the same instant.

#![allow(unreachable_pub)] // a test binary has no public names

#[path = "../coroutine/child.rs"]
mod child;
mod configuration;
mod coroutine;
mod machine;
mod soundness;
mod tcp;
mod teardown;
mod time;

use std::time::Duration;

use machinarium_sim::Simulation;

/// On how many seeds each body runs.
const SEEDS: u64 = 50;

/// Runs a body on both kernels.
fn both(body: impl Fn() + Copy + Send + Sync + 'static) {
    body();
    for seed in 0..SEEDS {
        let outcome = Simulation::new(seed).run(move |world| {
            let host = world.host("host").run(body);
            world.eventually(Duration::from_secs(3600), || host.finished());
        });
        assert!(outcome.passed(), "on seed {seed}:\n{}", outcome.report(""));
        assert!(outcome.leaked.is_empty(), "seed {seed} leaks {:?}", outcome.leaked);
    }
}
