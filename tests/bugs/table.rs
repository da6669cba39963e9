//! The bugs, one line each, with where they were, what finds them and by what they show.

use machinarium_sim::{Cpu, Fault, Faults, World};

use crate::{
    accept, batch, cancel, duplex, edge, flag, idle, link, mask, mutex, pool, ramp, reader, record, timeout,
    timer, update, waiter, worker,
};

/// Which of the two programs runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Twin {
    /// With the bug.
    Wrong,
    /// Without it.
    Right,
}

impl Twin {
    pub(crate) fn is_wrong(self) -> bool {
        self == Twin::Wrong
    }
}

/// A bug and how it is hunted.
pub(crate) struct Bug {
    pub(crate) name: &'static str,
    /// In one line.
    pub(crate) what: &'static str,
    pub(crate) script: fn(&World, Twin),
    pub(crate) faults: fn() -> Faults,
    pub(crate) cpu: Cpu,
    /// What the report of a seed that found it says.
    pub(crate) sign: &'static str,
    /// In how many seeds it must be found.
    pub(crate) within: u64,
}

/// Threads lose the processor between operations on what they share.
fn preempted() -> Faults {
    Faults::none().rate(Fault::Preempt, 20)
}

/// Ready coroutines come in any order, limits are small.
fn shuffled() -> Faults {
    Faults::default().with(Fault::Limits)
}

/// Buffers are small and deliveries split.
fn narrow() -> Faults {
    Faults::default().rate(Fault::ShortWrite, 2).rate(Fault::ShortRead, 8)
}

fn accepts_fail() -> Faults {
    Faults::default().rate(Fault::AcceptError, 8).rate(Fault::ConnAborted, 8)
}

const fn bug(
    name: &'static str,
    what: &'static str,
    script: fn(&World, Twin),
    faults: fn() -> Faults,
    sign: &'static str,
    within: u64,
) -> Bug {
    Bug { name, what, script, faults, cpu: Cpu::Ideal, sign, within }
}

const STUCK: &str = "nothing will ever happen";
const HELD_UP: &str = "not within 30s without faults";

/// The numbers are those of the list that they were taken from: commits of yandex/odyssey.
#[rustfmt::skip]
pub(crate) const BUGS: &[Bug] = &[
    // ea9fc2a9, brought in by 376e80fa
    bug("M1", "a yield between the write that says EAGAIN and the wait: the only edge comes meanwhile", edge::script, preempted, STUCK, 200),
    // 496aaad0
    bug("M2", "a flag that remembers a signal outlives its owner, and wakes a coroutine that has no server", flag::script, shuffled, "woken without a request", 200),
    // 376e80fa
    bug("M3", "both ends write before they read, and both buffers are full", duplex::script, narrow, HELD_UP, 200),
    // 684fb682
    bug("M4", "who only writes must read too: the peer's key updates fill the buffers", update::script, narrow, HELD_UP, 200),
    // 89f3bc5c, 8dc89ce4
    bug("M5", "a record that was read along with another makes no event, and its reader waits for one", record::script, Faults::default, HELD_UP, 200),
    // da90d4c4
    bug("M6", "an unlock between the failed fast path of a lock and the queue wakes nobody", mutex::script, preempted, STUCK, 1000),
    // 579a7b09
    bug("M7", "a server comes back between the look that found none and the wait", pool::script, preempted, STUCK, 1000),
    // 2c1e05d5
    bug("M8", "an item is given to a reader whose wait has just timed out", timeout::script, preempted, "no order of the calls explains", 1000),
    // af015839
    bug("M9", "a reader that was woken does not look again whether another took the item", reader::script, shuffled, "woken for nothing", 200),
    // f9e3a7fc, 245b2ea4
    bug("M10", "who notifies touches a waiter that has returned", waiter::script, preempted, "touches a waiter that has returned", 1000),
    // 708c5f6f, 5c9fdd6f
    bug("M11", "two conditions pass a signal on to each other for ever", link::script, shuffled, "a signal goes round and round", 200),
    // 5c9fdd6f
    bug("M12", "a timer that is late ends the wait after the one that it was made for", timer::script, shuffled, "timed out before its time", 1000),
    // 46de9782
    bug("M13", "to be told no more of room for writing also ends being told of bytes", mask::script, narrow, STUCK, 200),
    // a4bf150a
    bug("M14", "an event of a batch is handled although an earlier one has closed its descriptor", batch::script, shuffled, "EBADF", 200),
    // 75a50ec9
    bug("M15", "a loop without timers sleeps for ever, and nobody tells it of the end", idle::script, preempted, STUCK, 200),
    // 24f49e51, a6ebaaea
    bug("M16", "a worker looks whether it is to end, and then waits for work that never comes", worker::script, preempted, STUCK, 200),
    // c7748fb4
    bug("M17", "an error of one connection ends the listener", accept::script, accepts_fail, "the server is gone", 200),
    // 02d2fdbc
    bug("M18", "all count themselves, all see too many, all step back and try again together", ramp::script, shuffled, "nobody gets in", 200),
    // a9ec09e1, 765712aa, 7b476455
    bug("M19", "a cancel that is under way hits the next user of the server", cancel::script, shuffled, "somebody else's cancel", 200),
];
