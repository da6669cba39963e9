//! Verdicts told apart: why a world that goes on and on does not get where it should.
//!
//! What should hold eventually and does not has its time again, twice, before it is judged; what happens in that time tells what it is.
//!
//! | then | it is |
//! |---|---|
//! | it holds | too slow |
//! | a circle of waits has stood still | a deadlock |
//! | one has waited for its turn all the time, and others had theirs | starvation |
//! | calls were made, and no payload moved | a livelock |
//! | anything else | unmet |
//!
//! Nothing that can run, and nothing to come, is a deadlock if there is a circle, and else stuck; a wake-up that is lost is seen by
//! the oracles before. Calls without end are a livelock if no payload has moved in the second half of them.

use std::panic::Location;
use std::time::Duration;

use crate::report::FailureKind;
use crate::scheduler::{Phase, Sleep, WaitsFor};
use crate::script::{SCRIPT, World};
use crate::waits::Waits;
use crate::world::{Served, Shared, State};

/// What has been done until a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Progress {
    calls: u64,
    /// Payload that was sent or received, and threads that came to their end.
    moved: u64,
}

/// A moment of a world that does not get where it should.
struct Look {
    progress: Progress,
    waits: Waits,
}

/// So many calls a second, and no payload moved by them: a machine that is awake now and then makes fewer.
const BUSY: u64 = 1_000;

impl World {
    /// `holds` did not within `limit`. The world ends with a verdict over that.
    pub(crate) fn overdue(
        &self,
        limit: Duration,
        step: Duration,
        holds: &dyn Fn() -> bool,
        caller: &Location<'_>,
    ) -> ! {
        let what = format!("not within {limit:?} without faults: the condition at {caller}");
        let (began, before) = (self.now(), self.look());
        let end = began.saturating_add(limit.saturating_mul(2));
        while self.now() < end {
            self.sleep(step);
            if holds() {
                let late = self.now().saturating_sub(began);
                self.end(FailureKind::TooSlow, format!("{what}. It holds {late:?} later"));
            }
        }
        let now = self.look();
        let (kind, why) = judge(&before, &now, (end - began).as_secs().max(1));
        self.end(kind, format!("{what}. {why}"))
    }

    fn look(&self) -> Look {
        let mut look = None;
        self.wait(|state| {
            look =
                Some(Look { progress: state.progress(), waits: self.simulated("World::look").waits(state) });
            Served::Done(())
        });
        look.expect("the wait is over when it was served")
    }

    /// The verdict, after which the script does nothing any more.
    fn end(&self, kind: FailureKind, message: String) -> ! {
        self.simulated("World::end").state.borrow_mut().fail(kind, message, Some(SCRIPT));
        loop {
            self.wait(|_| Served::Wait(Sleep { on: WaitsFor::Time, until: u64::MAX }));
        }
    }
}

fn judge(before: &Look, now: &Look, seconds: u64) -> (FailureKind, String) {
    let calls = now.progress.calls - before.progress.calls;
    let moved = now.progress.moved - before.progress.moved;
    if let Some(circle) = now.waits.lasting_deadlock(&before.waits) {
        return (FailureKind::Deadlock, format!("A deadlock: {circle}"));
    }
    if let Some(wait) = now.waits.starving(&before.waits).filter(|_| moved > 0) {
        let what = format!(
            "Starvation: {} waits for its {}, and others had it meanwhile",
            wait.name,
            wait.in_words()
        );
        return (FailureKind::Starvation, what);
    }
    if moved == 0 && calls >= BUSY * seconds {
        return (
            FailureKind::Livelock,
            format!("A livelock: {calls} calls in {seconds} s, and nothing has moved"),
        );
    }
    (FailureKind::Unmet, format!("Nor in another {seconds} s, with {calls} calls"))
}

impl Shared {
    /// The verdict over a world that cannot move.
    pub(crate) fn standstill(&self, state: &mut State) {
        let what = "no thread can run and nothing will ever happen";
        match self.waits(state).deadlock() {
            Some(circle) => state.fail(FailureKind::Deadlock, format!("a deadlock, {what}: {circle}"), None),
            None => state.fail(FailureKind::Stuck, format!("the world is stuck: {what}"), None),
        }
    }
}

impl State {
    pub(crate) fn progress(&self) -> Progress {
        let books = self.net.books();
        let ended = self.sched.threads.iter().filter(|thread| thread.phase == Phase::Ended).count();
        Progress { calls: self.sched.calls, moved: books.sent + books.received + ended as u64 }
    }

    /// The verdict over a world that has made all the calls that it may.
    pub(crate) fn endless(&mut self) {
        let time = Duration::from_nanos(self.sched.now);
        let calls = self.sched.calls;
        let moved = self.progress().moved - self.halfway.moved;
        let (kind, what) = match moved {
            0 => (FailureKind::Livelock, "a livelock, nothing has moved for the last half of"),
            _ => (FailureKind::Endless, "the world does not end:"),
        };
        self.fail(kind, format!("{what} {calls} calls in {time:?} of its time"), None);
    }
}
