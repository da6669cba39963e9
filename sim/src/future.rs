//! Futures: where something was reached for the first time, runs go on in many ways.
//!
//! A `sometimes!` that holds is a state that its author thought worth reaching, and in most runs the script goes on from
//! there in a way that proves nothing. So when it holds for the first time in a check, the choices until that moment are taken
//! from the run's journal, and so many runs repeat them and go on with choices of their own. (Antithesis and moonpool fork the
//! process there; a world repeats a thousand choices faster than a process is forked.)

use crate::choice::Record;
use crate::harness::{Check, Script, run};
use crate::journal;
use crate::marks::Marks;
use crate::simulation::Outcome;
use crate::strategy::Strategy;
use machinarium::mark;

/// How many runs go on from a moment.
const FUTURES: u64 = 16;

impl Check {
    /// Goes on from every `sometimes!` of a run that held for the first time in this check, which has heard `before`. Adds what is heard.
    ///
    /// # Panics
    /// As the check, if a run fails.
    pub(crate) fn explore(&self, outcome: &Outcome, before: &mut Marks, script: &Script) {
        let new: Vec<(usize, u64)> =
            outcome.firsts.iter().copied().filter(|(number, _)| !before.held(*number)).collect();
        before.add(&outcome.marks);
        let strategy = self.strategy_of(outcome.seed);
        if new.is_empty() || matches!(strategy, Strategy::Exhaustive { .. }) {
            return;
        }
        let journal = run(&self.simulation(outcome.seed, script).journal(None), script).journal;
        for (number, choices) in new {
            let prefix = journal::to_record(outcome.seed, &journal[..journal.len().min(choices as usize)]);
            for future in 1..=FUTURES {
                let simulation = self.simulation(outcome.seed, script).future(prefix.clone(), future);
                let outcome = run(&simulation, script);
                before.add(&outcome.marks);
                if !outcome.passed() {
                    self.fail_in_future(&simulation, number, script);
                }
            }
        }
    }

    fn fail_in_future(&self, simulation: &crate::Simulation, number: usize, script: &Script) -> ! {
        let told = run(&self.detailed(simulation.clone()), script);
        let record =
            told.record.as_ref().map_or_else(String::new, |record: &Record| record.save(self.name()));
        let shrunk = self.shrink(&told, script);
        panic!(
            "a run that went on from the first {} of seed {:#x} failed: {}\n{shrunk}",
            mark::all()[number],
            told.seed,
            told.report(&record)
        );
    }
}
