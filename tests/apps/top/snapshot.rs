//! What a process has told at one moment, and what has happened between two.

use std::time::Duration;

use serde::Deserialize;

/// All machines at a moment.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Snapshot {
    /// Which process it is.
    #[serde(skip)]
    pub(crate) process: Option<u32>,
    pub(crate) now_ns: u64,
    pub(crate) machines: Vec<Machine>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Machine {
    pub(crate) machine: u64,
    pub(crate) name: String,
    pub(crate) coroutines: u64,
    pub(crate) ready: u64,
    pub(crate) stacks: u64,
    pub(crate) stacks_cached: u64,
    pub(crate) descriptors: u64,
    pub(crate) buffered: u64,
    pub(crate) switches: u64,
    pub(crate) polls: u64,
    pub(crate) lag_ns: u64,
    pub(crate) lag_max_ns: u64,
    pub(crate) runs: Times,
    /// None if it did not answer.
    pub(crate) list: Option<Vec<Coroutine>>,
}

/// How often something took how long, all together.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Times {
    pub(crate) count: u64,
    pub(crate) sum_ns: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Coroutine {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) waits_for: String,
    pub(crate) deadline_ns: Option<u64>,
}

/// What a machine has done between two moments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rates {
    pub(crate) switches: u64,
    pub(crate) polls: u64,
    /// In hundredths, if its coroutines are timed.
    pub(crate) busy: Option<u64>,
}

impl Machine {
    /// Since it was so; none without time between.
    pub(crate) fn rates(&self, before: &Machine, between: Duration) -> Option<Rates> {
        let nanos = u64::try_from(between.as_nanos()).ok().filter(|nanos| *nanos > 0)?;
        let a_second = |now: u64, before: u64| {
            (u128::from(now.saturating_sub(before)) * 1_000_000_000 / u128::from(nanos)) as u64
        };
        let ran = self.runs.sum_ns.saturating_sub(before.runs.sum_ns);
        let busy = (self.runs.count > 0).then(|| (u128::from(ran) * 100 / u128::from(nanos)).min(100) as u64);
        Some(Rates {
            switches: a_second(self.switches, before.switches),
            polls: a_second(self.polls, before.polls),
            busy,
        })
    }
}
