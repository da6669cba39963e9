//! What coroutines are doing, for reports: in words, and with the calls that they stand in.
//!
//! A coroutine that is suspended is resumed inside its park call for just as long as it takes to record its own backtrace
//! (`Scheduler::record`), at some microseconds each. To put that into words takes a hundred times as long, and can be done later, and
//! on another thread: so what was seen is `Seen` first.

use std::backtrace::Backtrace;
use std::fmt;

use super::calls;
use super::task::quietly;
use super::{Machine, State, TaskRef};
use crate::kernel::Instant;

/// What a coroutine is doing, for a report.
#[derive(Clone, Debug)]
pub struct CoroutineInfo {
    /// Its number in its machine, from 1; the main closure is 1.
    pub id: u64,
    /// Its name, or empty.
    pub name: String,
    /// "running", "ready" or "parked".
    pub state: &'static str,
    /// What it waits for, in words: "read fd 7".
    pub waits_for: String,
    /// When that wait ends by itself.
    pub deadline: Option<Instant>,
    /// The calls it stands in.
    pub backtrace: Option<String>,
}

/// What a coroutine was doing, its backtrace not yet put into words.
pub(crate) struct Seen {
    info: CoroutineInfo,
    backtrace: Option<Backtrace>,
}

impl Seen {
    pub(crate) fn into_words(mut self) -> CoroutineInfo {
        self.info.backtrace = self.backtrace.as_ref().map(calls::of_user);
        self.info
    }
}

impl Machine {
    /// What every coroutine is doing, but the one that runs would have to be resumed for its backtrace.
    pub(crate) fn coroutines(&self) -> Vec<CoroutineInfo> {
        self.observe(usize::MAX).into_iter().map(Seen::into_words).collect()
    }

    /// The same, in words later; so many have their backtraces taken.
    pub(crate) fn observe(&self, backtraces: usize) -> Vec<Seen> {
        let see = |(place, task)| {
            let suspended = self.scheduler.running() != Some(task);
            let backtrace = (suspended && place < backtraces).then(|| self.scheduler.record(task)).flatten();
            Seen { info: self.coroutine(task), backtrace }
        };
        self.live().into_iter().enumerate().map(see).collect()
    }

    /// What a coroutine does; without its backtrace.
    fn coroutine(&self, task: TaskRef) -> CoroutineInfo {
        let parked = task.state.get() == State::Parked;
        let running = self.scheduler.running() == Some(task);
        let deadline = Some(task.deadline.get()).filter(|at| parked && *at != Instant::FAR);
        CoroutineInfo {
            id: task.header.id,
            name: task.header.name().to_owned(),
            state: if running {
                "running"
            } else if parked {
                "parked"
            } else {
                "ready"
            },
            waits_for: task.reason.get().to_string(),
            deadline,
            backtrace: None,
        }
    }
}

impl fmt::Display for CoroutineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coroutine {} '{}': {}", self.id, self.name, self.state)?;
        if self.state == "parked" {
            write!(f, ", {}", self.waits_for)?;
        }
        match self.deadline {
            Some(deadline) => write!(f, ", until {deadline:?}"),
            None => Ok(()),
        }
    }
}

/// On the error output.
pub(super) fn print(info: &CoroutineInfo) {
    // Nobody may be there to read it, and the process must end all the same.
    quietly(|| {
        eprintln!("  {info}");
        if let Some(backtrace) = &info.backtrace {
            eprintln!("{backtrace}");
        }
    });
}
