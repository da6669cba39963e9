//! What must hold at every quiet moment of a world: nobody sleeps while what it waits for is there.
//!
//! A moment is quiet for a machine while its thread sleeps in `epoll_wait`: its instance has no event to tell, or it would
//! have been woken, so every event was delivered. If a coroutine of it then waits for a descriptor that poll(2) would call
//! ready, its wake-up is lost, whatever comes later: it waited after the edge was taken, or an edge never came. And if all
//! other threads of its process sleep as well, nobody is just about to write a letter or to wake it for one: a letter
//! that is there then, or is owed, is lost.
//!
//! The look costs something for every coroutine, so it is taken when the world cannot move, and else only before time
//! jumps by [`GAP`] or more, and not before as many events have happened as there are threads to look at.

use machinarium::kernel::{Events, Fd};

use crate::files::File;
use crate::report::FailureKind;
use crate::scheduler::{Phase, ThreadIndex, WaitsFor};
use crate::world::{Shared, State};

/// In nanoseconds: what is shorter is mostly the way of a packet.
const GAP: u64 = 1_000_000;
/// So many events for each thread of the world pay for a look.
const EVENTS: u64 = 16;

/// When the next look is taken.
#[derive(Default)]
pub(crate) struct Watch {
    after: u64,
}

impl Watch {
    /// Whether it is time for a look.
    pub(crate) fn is_time(&mut self, state: &State) -> bool {
        let sched = &state.sched;
        if sched.events < self.after || sched.gap().is_some_and(|gap| gap < GAP) {
            return false;
        }
        self.after = sched.events + EVENTS * sched.threads.len() as u64;
        true
    }
}

impl Shared {
    /// Looks at every thread that sleeps in `epoll_wait`.
    pub(crate) fn look_at_sleepers(&self) {
        let strands = self.strands.borrow();
        let mut state = self.state.borrow_mut();
        for (index, strand) in strands.iter().enumerate() {
            if !state.is_quiet(index) {
                continue;
            }
            let mut lost = None;
            strand.for_each_wait(&mut |waits| {
                let Some((fd, events)) = waits.readiness else { return };
                let there = state.readiness(index, fd).common(events).without(Events::PRI);
                if lost.is_none() && !there.is_empty() {
                    lost = Some(format!(
                        "a wake-up is lost: coroutine {} '{}' waits for descriptor {} until it has one of {:?}; it has \
                         {there:?}, and its machine sleeps with no event to come",
                        waits.id, waits.name, fd, events
                    ));
                }
            });
            if lost.is_none() && state.is_process_asleep(index) {
                lost = strand.undelivered().map(|what| {
                    format!(
                        "a wake-up is lost: {what}, and the machine sleeps, as all threads of its process do"
                    )
                });
            }
            if let Some(message) = lost {
                state.fail(FailureKind::LostWakeUp, message, Some(ThreadIndex(index as u32)));
                return;
            }
        }
    }
}

impl State {
    /// Whether the thread sleeps in `epoll_wait` and nothing is there to tell it.
    fn is_quiet(&self, thread: usize) -> bool {
        let thread = &self.sched.threads[thread];
        match (thread.phase, thread.sleep.map(|sleep| sleep.on)) {
            (Phase::Asleep, Some(WaitsFor::Epoll(epoll))) => {
                self.net.peek_file(File::Epoll(epoll.0)).is_empty()
            }
            _ => false,
        }
    }

    /// Whether no thread of this thread's process runs or is about to.
    fn is_process_asleep(&self, thread: usize) -> bool {
        let process = self.sched.threads[thread].process.expect("a thread of a process");
        let threads = &self.processes[process.0 as usize].threads;
        let idle = |phase| matches!(phase, Phase::Asleep | Phase::Ended);
        threads.iter().all(|thread| idle(self.sched.threads[thread.0 as usize].phase))
    }

    /// What poll(2) would say of a descriptor of the thread's process.
    fn readiness(&self, thread: usize, fd: Fd) -> Events {
        let process = self.sched.threads[thread].process.expect("only a thread of a process has descriptors");
        self.net.readiness(process, fd).unwrap_or(Events::NONE)
    }
}
