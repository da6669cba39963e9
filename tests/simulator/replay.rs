//! A seed is a run: the same again, and another with another seed.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use machinarium_sim::{Cpu, Durations, Faults, Hunt, Outcome, Simulation};

use crate::raw;

fn echo(simulation: &Simulation) -> Outcome {
    simulation.run(|world| {
        let server = world.host("server").run_on_kernel(|kernel| raw::echo_server(kernel, 1));
        let client =
            world.host("client").run_on_kernel(|kernel| raw::echo_client(kernel, raw::server(1), 50));
        world.eventually(60.secs(), || client.finished() && server.finished());
    })
}

#[test]
fn an_echo_passes() {
    let outcome = echo(&Simulation::new(1).keep_events(50));
    assert!(outcome.passed(), "{}", outcome.report(""));
    assert!(outcome.leaked.is_empty());
}

#[test]
fn a_seed_repeats_and_another_differs() {
    let simulation = |seed| Simulation::new(seed).faults(Faults::swarm()).cpu(Cpu::Loaded);
    let digests: Vec<u64> = (1..20).map(|seed| echo(&simulation(seed)).digest).collect();
    let again: Vec<u64> = (1..20).map(|seed| echo(&simulation(seed)).digest).collect();
    assert_eq!(digests, again);
    let mut distinct = digests.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), digests.len());
}

#[test]
fn a_hunt_finds_the_lowest_seed_that_fails() {
    let one = |seed| {
        Simulation::new(seed).run(move |world| {
            world.sleep(1.secs());
            assert!(seed < 30 || seed % 2 == 0, "an odd seed");
        })
    };
    let progress = AtomicU64::new(0);
    let found = Hunt { jobs: 2, ..Hunt::default() }.run(one, |found| {
        assert_eq!(progress.fetch_add(1, SeqCst) + 1, found.seeds);
    });
    let failure = found.failure.expect("there is one");
    assert_eq!(failure.seed, 31);
    assert!((31..60).contains(&found.seeds), "{} seeds", found.seeds);
}
