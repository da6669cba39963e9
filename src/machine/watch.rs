//! Who watches a teardown: a machine of its own, on its own thread, which sleeps until the limit and then ends the process.
//!
//! It cannot look at the cells of the machine that it watches, whose thread may be anywhere. So it is given, when the
//! teardown begins, what every coroutine was doing then; and for what runs now it interrupts that thread, which prints its own
//! backtrace and aborts. Stopping it joins its thread: a teardown that ends in time is never aborted after its end.

use std::time::Duration;

use super::observe::print;
use super::remote::{Handle, spawn_tuned};
use super::task::quietly;
use super::{Machine, Reason, Tuning, current};
use crate::coroutine::overflow::Target;
use crate::error::WaitError;

/// How many coroutines have their backtraces taken in advance: at some microseconds each, no machine ends late for it.
const BACKTRACES: usize = 256;

/// See the head of the file.
pub(super) struct Watch {
    thread: Handle<()>,
}

impl Watch {
    /// Begins to watch. Without a descriptor or a thread to be had, nobody does.
    pub(super) fn start(machine: &Machine, limit: Duration) -> Option<Watch> {
        let (name, target) = (machine.shared.name.clone(), Target::here());
        let seen = machine.observe(BACKTRACES);
        let main = move || {
            if expires(limit) {
                let why = format!("the end of machine '{name}' takes longer than {limit:?}");
                current::machine().expect("the watch is a machine").abort_elsewhere(&why);
                quietly(|| eprintln!("machinarium: {why}; the process aborts\nwhen it began:"));
                seen.into_iter().for_each(|seen| print(&seen.into_words()));
                quietly(|| eprintln!("what runs now:"));
                target.abort();
            }
        };
        // None of the watched machine's tuning: that may be what holds it up.
        spawn_tuned(machine, "watch", Tuning::default(), main).ok().map(|thread| Watch { thread })
    }

    /// The teardown is over.
    pub(super) fn stop(self) {
        self.thread.stop("the machine has ended");
        self.thread.join_firmly();
    }
}

/// Sleeps; false if it was stopped before.
fn expires(limit: Duration) -> bool {
    let machine = current::machine().expect("the watch is a machine");
    let end = machine.now() + limit;
    let slept = machine.operation().and_then(|me| machine.wait(me, Reason::of("the limit"), end, |_| ()));
    matches!(slept, Err(WaitError::Expired(_)))
}
