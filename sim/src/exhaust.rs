//! Every way in which a call can fail, one after the other, as SQLite tests itself: in the first run the first call that could fail does,
//! in the second run the second, until a run ends before its turn comes.
//!
//! Each run has one failure, so whoever cleans up after it is not helped or hindered by another. Everything else is as boring as
//! a world can be, so that the runs are alike until the failure.

use std::env;
use std::rc::Rc;

use crate::fault::Faults;
use crate::harness::parse_seed;
use crate::host::Ending;
use crate::script::World;
use crate::simulation::{Outcome, Simulation};

/// The events that a report shows.
const EVENTS: usize = 40;

/// Runs `script` again and again; in each run the next of all calls that could fail does, in the next of the ways in which
/// it could that `kinds` has. How many runs that were. `MACHINARIUM_NTH=17` runs the one with that number alone.
///
/// ```
/// use machinarium_sim::{Durations, Fault, Faults, exhaust};
///
/// let runs = exhaust(Faults::none().with(Fault::Emfile).with(Fault::Memory), |world| {
///     let host = world.host("careful").run(|| {
///         let listener = machinarium::run(|| machinarium::net::TcpListener::bind("127.0.0.1:7000"));
///         if let Err(error) = listener {
///             assert!(error.raw_os_error().is_some(), "the system's error comes out: {error}");
///         }
///     });
///     world.eventually(1.secs(), || host.finished());
/// });
/// assert!(runs > 4);
/// ```
///
/// # Panics
/// With a report, if a run fails.
pub fn exhaust<R: Ending + 'static>(kinds: Faults, script: impl Fn(&World) -> R + 'static) -> u64 {
    let script = Rc::new(script);
    let run = |simulation: Simulation| {
        let script = script.clone();
        simulation.run(move |world| script(world).ending())
    };
    let nth = |number| Simulation::new(1).faults(Faults::none()).fail_nth(kinds, number);
    let first = match env::var("MACHINARIUM_NTH") {
        Ok(text) => parse_seed(&text).unwrap_or_else(|| panic!("MACHINARIUM_NTH={text} is no number")),
        Err(_) => 0,
    };
    for number in first.. {
        let outcome = run(nth(number));
        if !outcome.passed() {
            fail(&run(nth(number).keep_events(EVENTS)), number);
        }
        if outcome.opportunities <= number || first > 0 {
            return number - first + 1;
        }
    }
    unreachable!("a run has fewer than 2^64 calls")
}

fn fail(outcome: &Outcome, number: u64) -> ! {
    let name = std::thread::current().name().unwrap_or("<test>").to_owned();
    let command = format!("MACHINARIUM_NTH={number} cargo test {name}");
    panic!("with failure {number} of {}: {}", outcome.opportunities, outcome.report(&command));
}
