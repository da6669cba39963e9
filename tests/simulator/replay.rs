//! A seed is a run: the same again, and another with another seed.

use machinarium_sim::{Cpu, Durations, Faults, Outcome, Simulation};

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
