//! Who notices that a machine does not come back to its loop: a machine of its own, which looks at what the others show.
//!
//! A machine that is awake and shows the same number of turns twice, `limit` apart, has been held for that long by one coroutine, which
//! computes, or blocks the thread in a call that goes round the library. All of its coroutines wait for that one.

use std::fmt;
use std::io;
use std::time::Duration;

use super::machines;
use crate::coroutine::overflow::Target;
use crate::kernel::Instant;
use crate::machine::{self, Handle, Statistics, current, quietly};

/// A machine that is held.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Held {
    /// What it had counted when it last came to its loop.
    pub statistics: Statistics,
    /// For how long it has not, at least.
    pub duration: Duration,
    thread: Option<Target>,
}

impl Held {
    /// Ends the process, as the last resort against a coroutine that nothing else can end: the thread that is held prints which
    /// coroutine runs on it, by number and name, and its backtrace on the error output, whatever it runs, and aborts.
    pub fn abort(self) -> ! {
        let why =
            format!("machine '{}' has not come to its loop for {:?}", self.statistics.name, self.duration);
        if let Some(machine) = current::machine() {
            machine.abort_elsewhere(&why);
        }
        quietly(|| eprintln!("machinarium: {why}; the process aborts\nwhat runs there:"));
        match self.thread {
            Some(thread) => thread.abort(),
            None => std::process::abort(),
        }
    }
}

/// Ends the watch when it is dropped.
pub struct Watchdog {
    thread: Handle<()>,
}

/// Starts to watch the machines of this process, on a thread of its own. `report` is called there, once for each time that a machine does not
/// come to its loop for `limit`: what takes so long is found out within twice that time. Its thread sleeps in between, for half of `limit`.
///
/// # Errors
/// The system's if there is no thread or descriptor to be had; outside a machine; `InvalidInput` if `limit` is zero.
///
/// ```
/// use std::time::Duration;
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let _watchdog = machinarium::inspect::watchdog(Duration::from_secs(5), |held| {
///         eprintln!("{} is held for {:?}", held.statistics.name, held.duration);
///     })?;
///     // ...the service...
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub fn watchdog(limit: Duration, report: impl FnMut(Held) + Send + 'static) -> io::Result<Watchdog> {
    if limit.is_zero() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a watchdog needs a limit above zero"));
    }
    let thread = machine::spawn("watchdog", move || watch(limit, report))?;
    Ok(Watchdog { thread })
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watchdog")
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.thread.stop("nobody wants the watchdog any more");
    }
}

/// A machine as it was seen, and since when it has been so.
struct Sight {
    statistics: Statistics,
    since: Instant,
    told: bool,
}

fn watch(limit: Duration, mut report: impl FnMut(Held)) {
    let mut sights: Vec<Sight> = Vec::new();
    while crate::time::sleep(limit / 2).is_ok() {
        let Ok(machines) = machines() else { return };
        let now = crate::time::now();
        let mut seen = Vec::with_capacity(machines.len());
        for machine in machines {
            let statistics = machine.statistics();
            let before = sights.iter().position(|sight| is_still(&sight.statistics, &statistics));
            let mut sight = match before {
                Some(place) => sights.swap_remove(place),
                None => Sight { statistics, since: now, told: false },
            };
            let duration = now - sight.since;
            if duration >= limit && !sight.told {
                sight.told = true;
                report(Held { statistics: sight.statistics.clone(), duration, thread: machine.thread() });
            }
            seen.push(sight);
        }
        sights = seen;
    }
}

/// Whether a machine was held all the time between two sights of it.
fn is_still(before: &Statistics, now: &Statistics) -> bool {
    before.machine == now.machine && !now.asleep && !before.asleep && before.turns == now.turns
}
