//! Looking into a process that runs: what its machines have counted, what its coroutines wait for, and which machine does not come
//! back to its loop.
//!
//! Nothing here stops anybody. Statistics are read where the machines show them; a dump asks each machine by a letter, which it opens
//! when it comes to its loop, so that each machine's part is of one instant, but not the whole. A machine that a coroutine holds does not
//! answer, and the dump says so.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{JoinError, Misuse, WaitError};
use crate::kernel::Instant;
use crate::machine::observe::Seen;
use crate::machine::wakeup::{Letter, RemoteWaiter, Shared};
use crate::machine::{Machine, current, quietly, receive};
use crate::shared::once::{self, Getter};
use crate::signal::{Signal, Subscription};

pub use crate::machine::{CoroutineInfo, Histogram, MessageStatistics, Statistics};

mod json;
mod prometheus;
mod serve;
mod watchdog;

pub use prometheus::{Exposition, prometheus};
pub use serve::{Serving, serve};
pub use watchdog::{Held, Watchdog, watchdog};

/// A script for gdb, 13 or newer, which lists the coroutines of a process or of its core (`info coroutines`) and runs any command in one
/// (`coroutine 7 bt`). It is `src/inspect/gdb.py` of this crate: save it, and `source` it. It needs the program's symbols, no debug information,
/// and changes nothing in the process. Cores that gdb itself writes (`gcore`) leave out stacks above guards, and coroutines with them.
pub const GDB_SCRIPT: &str = include_str!("inspect/gdb.py");

/// What each machine of this process has counted, in the order in which they were started; those that have ended are not among them.
///
/// A machine shows its numbers once a turn of its loop, and this reads them there: it asks nobody and costs nobody anything. Those of
/// the machine that calls it are of now.
///
/// # Errors
/// Outside a machine.
///
/// ```
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let all = machinarium::inspect::statistics()?;
///     assert_eq!((all.len(), all[0].coroutines), (1, 1));
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub fn statistics() -> Result<Vec<Statistics>, Misuse> {
    current::machine().ok_or(Misuse::NoMachine)?.show();
    Ok(machines()?.iter().map(|machine| machine.statistics()).collect())
}

/// Those that have begun and not ended.
fn machines() -> Result<Vec<Arc<Shared>>, Misuse> {
    let machine = current::machine().ok_or(Misuse::NoMachine)?;
    let all = machine.process().machines().into_iter();
    Ok(all.filter(|machine| machine.thread().is_some()).collect())
}

/// How much a dump is to tell, and how long it may take.
#[derive(Clone, Debug)]
pub struct Inspection {
    backtraces: usize,
    patience: Duration,
}

impl Default for Inspection {
    fn default() -> Inspection {
        Inspection { backtraces: 256, patience: Duration::from_secs(1) }
    }
}

impl Inspection {
    /// 256 backtraces for each machine, and a second.
    pub fn new() -> Inspection {
        Inspection::default()
    }

    /// How many coroutines of each machine have their backtraces taken. Each keeps its machine for some microseconds, and takes about a
    /// millisecond of who asks.
    pub fn backtraces(mut self, most: usize) -> Inspection {
        self.backtraces = most;
        self
    }

    /// How long machines have to come to their loops and answer.
    pub fn patience(mut self, limit: Duration) -> Inspection {
        self.patience = limit;
        self
    }

    /// What every coroutine of every machine of this process is doing.
    ///
    /// # Errors
    /// If it is cancelled; outside a machine. A deadline only shortens the patience.
    pub fn dump(&self) -> io::Result<Dump> {
        let here = current::machine().ok_or(Misuse::NoMachine)?;
        let machines = machines()?;
        // All are asked before any is waited for.
        let asked: Vec<_> = machines.iter().map(|machine| ask(here, machine, self.backtraces)).collect();
        let end = crate::time::now() + self.patience;
        let dumps = machines.iter().zip(asked).map(|(machine, asked)| {
            let coroutines = asked.answer(end)?;
            Ok(MachineDump { statistics: machine.statistics(), coroutines })
        });
        Ok(Dump { machines: dumps.collect::<Result<_, WaitError>>()? })
    }
}

/// What every coroutine of every machine of this process is doing: [`Inspection::dump`] with its defaults.
///
/// # Errors
/// As there.
///
/// ```
/// use std::time::Duration;
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let _sleeper = machinarium::spawn_named("sleeper", || machinarium::sleep(Duration::from_secs(9)));
///     machinarium::yield_now();
///     let dump = machinarium::inspect::dump()?;
///     println!("{dump}");
///     let coroutines = dump.machines[0].coroutines.as_ref().unwrap();
///     assert_eq!(coroutines[1].name, "sleeper");
///     assert_eq!(coroutines[1].waits_for, "sleep");
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub fn dump() -> io::Result<Dump> {
    Inspection::new().dump()
}

/// Prints a dump on the error output whenever this signal comes, for as long as this machine lives.
///
/// # Errors
/// As for [`Signals::new`](crate::signal::Signals::new).
pub fn dump_on(signal: Signal) -> io::Result<()> {
    let print = move || {
        match dump() {
            Ok(dump) => eprintln!("machinarium: {}\n{dump}", signal.name()),
            Err(error) => eprintln!("machinarium: {}, but no dump: {error}", signal.name()),
        };
    };
    // On the root stack: a dump that finds no stack is none.
    let begin = move |_| quietly(|| drop(crate::machine::try_spawn("dump", print)));
    Subscription::new([signal], begin)?.keep();
    Ok(())
}

/// A question to one machine.
enum Asked {
    /// It is the asker's own.
    Answered(Vec<Seen>),
    Waits(Getter<Vec<Seen>, RemoteWaiter>),
}

fn ask(here: &Machine, machine: &Shared, backtraces: usize) -> Asked {
    if machine.number == here.shared.number {
        return Asked::Answered(here.observe(backtraces));
    }
    let (setter, getter) = once::pair();
    let look = move |machine: &Machine| setter.set(machine.observe(backtraces));
    // One that has ended drops the letter, and the setter in it.
    drop(machine.post(Letter::Run(Box::new(look))));
    Asked::Waits(getter)
}

impl Asked {
    /// Nothing if there is no answer in time.
    fn answer(self, end: Instant) -> Result<Option<Vec<CoroutineInfo>>, WaitError> {
        let seen = match self {
            Asked::Answered(seen) => seen,
            Asked::Waits(mut getter) => match receive(&mut getter, "dump of another machine", end) {
                Ok(seen) => seen,
                Err(JoinError::Wait(error @ WaitError::Cancelled(_))) => return Err(error),
                Err(_) => return Ok(None),
            },
        };
        Ok(Some(seen.into_iter().map(Seen::into_words).collect()))
    }
}

/// What a process is doing. `Display` is for people: coroutines that stand in the same calls are told of together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dump {
    /// In the order in which they were started.
    pub machines: Vec<MachineDump>,
}

/// What a machine is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MachineDump {
    /// What it has counted.
    pub statistics: Statistics,
    /// Its coroutines; `None` if it did not come to its loop in time, or has ended.
    pub coroutines: Option<Vec<CoroutineInfo>>,
}

impl Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.machines.iter().try_for_each(|machine| machine.fmt(f))
    }
}

impl Display for MachineDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Statistics { machine, name, coroutines, stacks, stacks_cached, descriptors, .. } =
            &self.statistics;
        let Statistics { switches, turns, polls, lag, lag_max, .. } = &self.statistics;
        writeln!(
            f,
            "machine {machine} '{name}': {coroutines} coroutines, {stacks} stacks and {stacks_cached} unused, \
             {descriptors} descriptors; {switches} switches, {turns} turns, {polls} polls; late by {lag:?}, at most {lag_max:?}",
        )?;
        match &self.coroutines {
            Some(coroutines) => groups(coroutines).try_for_each(|group| write_group(f, &group)),
            None => writeln!(f, "  it did not answer: a coroutine holds it, or it has ended"),
        }
    }
}

/// Coroutines by the calls they stand in, in the order of the first of each.
fn groups(coroutines: &[CoroutineInfo]) -> impl Iterator<Item = Vec<&CoroutineInfo>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut places = BTreeMap::new();
    for (place, coroutine) in coroutines.iter().enumerate() {
        let calls = (coroutine.state, coroutine.backtrace.as_deref());
        // One without a backtrace is like no other.
        let first = if calls.1.is_some() { *places.entry(calls).or_insert(place) } else { place };
        groups.entry(first).or_default().push(coroutine);
    }
    groups.into_values()
}

fn write_group(f: &mut fmt::Formatter<'_>, group: &[&CoroutineInfo]) -> fmt::Result {
    for coroutine in group {
        writeln!(f, "  {coroutine}")?;
    }
    match group[0].backtrace.as_deref() {
        Some(backtrace) => writeln!(f, "{}", backtrace.trim_end()),
        None => Ok(()),
    }
}
