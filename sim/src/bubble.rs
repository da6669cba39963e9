//! Bubbles: unit tests in virtual time, without hosts and scripts.
//!
//! A bubble is a world with one host, whose process is one machine that runs the test. All that a world promises holds there: a
//! thousand seeds, deadlocks that are told, nothing left behind. What is new is [`wait_idle`]: until all others wait.
//!
//! A machine that has gone to sleep has no coroutine that can run, so who wants to know whether all wait sleeps itself, for an instant,
//! and the world looks around when its thread does:
//!
//! | it is idle when | |
//! |---|---|
//! | every other thread sleeps, and not in a call that ends by itself (a name, a file) | |
//! | nothing is on its way: no packet, no signal | timers may be: they are what everybody waits for |

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::env::NetEvent;
use crate::harness::{self, Check};
use crate::host::Ending;
use crate::real;
use crate::scheduler::{Event, Phase, Scheduler, WaitsFor};
use crate::world;

/// Runs `body` as the first coroutine of a machine, in virtual time, with many seeds and by many strategies, as [`check`](crate::check())
/// does with scripts. A test that waits for hours takes no time, and one that waits for ever fails and says for what.
///
/// ```
/// use std::time::Duration;
///
/// machinarium_sim::bubble(|| {
///     let (sender, receiver) = machinarium::sync::channel::unbounded();
///     let late = machinarium::spawn(move || receiver.recv_timeout(Duration::from_secs(3600)));
///     machinarium_sim::wait_idle()?;
///     assert!(!late.is_finished(), "it waits for an hour");
///     sender.send(7).unwrap();
///     assert_eq!(late.join().unwrap().unwrap(), 7);
///     std::io::Result::Ok(())
/// });
/// ```
///
/// # Panics
/// With a report, if a seed fails.
pub fn bubble<R: Ending>(body: impl Fn() -> R + Send + Sync + 'static) {
    Check::new().bubble(body);
}

impl Check {
    /// A [`bubble`] with the faults, processors, seeds and strategy of this check.
    ///
    /// # Panics
    /// With a report, if a seed fails.
    pub fn bubble<R: Ending>(&self, body: impl Fn() -> R + Send + Sync + 'static) {
        if harness::is_real() {
            real::tell(&format!("{}: a bubble has virtual time, so it is only simulated", self.name()));
            return;
        }
        let body = Arc::new(body);
        self.run(move |world| {
            let body = body.clone();
            let main = move || machinarium::run(|| body().ending().map_err(io::Error::other));
            let host = world.host("bubble").run(main);
            world.join(&host);
        });
    }
}

/// How long one sleeps to see whether all others do.
const INSTANT: Duration = Duration::from_micros(1);

/// Waits until all other coroutines and threads of the world wait, and nothing is on its way to them. Virtual time stands nearly
/// still meanwhile: timers that are due within a few microseconds may fire, later ones do not.
///
/// # Errors
/// As [`machinarium::sleep`]: the caller's deadline is over, or it is cancelled.
///
/// # Panics
/// Outside of worlds, since on a real machine nobody can know.
pub fn wait_idle() -> io::Result<()> {
    let shared = world::current().expect("only a world knows when all wait");
    let since = shared.state.borrow().sched.now;
    shared.state.borrow_mut().sched.lookers += 1;
    let look = || loop {
        machinarium::sleep(INSTANT)?;
        if shared.state.borrow().sched.idle_at > since {
            return Ok(());
        }
    };
    let found = look();
    shared.state.borrow_mut().sched.lookers -= 1;
    found
}

impl Scheduler {
    /// A thread has gone to sleep, and somebody wants to know whether it was the last.
    pub(crate) fn look_around(&mut self) {
        let waits = |phase, on| match phase {
            Phase::Asleep => !matches!(on, Some(WaitsFor::Call(_))),
            Phase::Ended | Phase::Dead => true,
            Phase::Ready | Phase::Running => false,
        };
        let threads = self.threads.iter();
        let all_wait =
            threads.into_iter().all(|thread| waits(thread.phase, thread.sleep.map(|sleep| sleep.on)));
        if all_wait && !self.queue.any(is_on_its_way) {
            self.idle_at = self.now;
        }
    }
}

fn is_on_its_way(event: &Event) -> bool {
    match event {
        Event::Run(_) | Event::Signal(..) => true,
        Event::Timer(_) | Event::Net(NetEvent::Timer(_) | NetEvent::TimeWait(_)) => false,
        Event::Net(_) => true,
    }
}
