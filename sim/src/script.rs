//! What the script of a test is lent: [`World`]. The script is a simulated thread, so it is straight-line code.
//!
//! It is not part of any host: its calls cost nothing, it is never stalled, and it has no kernel.
//!
//! On real Linux ([`real`](crate::real)) it is the test itself, time is real, and what only a simulation can do ends it.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::choice::{Stream, Subsystem};
use crate::env::HostIndex;
use crate::fault::{Cpu, Fault, Faults};
use crate::ground::Ground;
use crate::host::{Host, nanos};
use crate::link::LinkOptions;
use crate::scheduler::{Sleep, ThreadIndex, WaitsFor};
use crate::world::{Asking, Served, State};

/// A run of the simulation, in the hands of its script.
pub struct World {
    pub(crate) ground: Ground,
    pub(crate) seed: u64,
}

/// The script is the first thread of its world.
pub(crate) const SCRIPT: ThreadIndex = ThreadIndex(0);

impl World {
    /// A new host, with the next address of 198.18.0.1, 198.18.0.2 and so on, and of 2001:2::1, 2001:2::2 and so on.
    pub fn host(&self, name: &str) -> Host {
        match &self.ground {
            Ground::Simulated(shared) => Host::new(shared, name),
            Ground::Real(real) => Host { ground: self.ground.clone(), index: real.add_host(name) },
        }
    }

    /// What this run was started with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Virtual time since the world began.
    pub fn now(&self) -> Duration {
        match &self.ground {
            Ground::Simulated(shared) => Duration::from_nanos(shared.state.borrow().sched.now),
            Ground::Real(real) => real.now(),
        }
    }

    /// Lets virtual time pass.
    pub fn sleep(&self, duration: Duration) {
        if let Ground::Real(real) = &self.ground {
            return real.sleep(duration);
        }
        let mut until = None;
        self.wait(|state| {
            let until = *until.get_or_insert(state.sched.now.saturating_add(nanos(duration)));
            match state.sched.now >= until {
                true => Served::Done(()),
                false => Served::Wait(Sleep { on: WaitsFor::Time, until }),
            }
        });
    }

    /// Waits, or unwinds the script if the world ends meanwhile: it has no destructors that may object.
    pub(crate) fn wait(&self, mut served: impl FnMut(&mut State) -> Served<()>) {
        let answer = self.simulated("World::wait").ask(SCRIPT, Asking::Call, |state, _| served(state));
        if answer.is_none() && !std::thread::panicking() {
            std::panic::resume_unwind(Box::new("the world has ended"));
        }
    }

    /// Waits until the host's process has ended or was killed.
    pub fn join(&self, host: &Host) {
        if let Ground::Real(real) = &self.ground {
            return real.join(host.index);
        }
        self.wait(|state| match state.running_main(host.index) {
            None => Served::Done(()),
            Some(main) => Served::Wait(Sleep { on: WaitsFor::Join(main), until: u64::MAX }),
        });
    }

    /// A number below `n` for the test's own use: part of the seed, recorded and replayed. The boring one is 0.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn random(&self, n: u64) -> u64 {
        let stream = Stream::new(Subsystem::Script, 0);
        match &self.ground {
            Ground::Simulated(shared) => shared.state.borrow_mut().sched.choices.draw(stream, "random", n),
            Ground::Real(real) => real.choices.borrow_mut().draw(stream, "random", n),
        }
    }

    /// Swallows all packets between two hosts, until [`heal`](World::heal).
    pub fn partition(&self, a: &Host, b: &Host) {
        self.simulated("World::partition").state.borrow_mut().net.partition(a.index, b.index);
        self.note_cut(a, b);
        self.note_cut(b, a);
    }

    /// Swallows the packets of one direction.
    pub fn partition_one_way(&self, from: &Host, to: &Host) {
        self.simulated("World::partition_one_way")
            .state
            .borrow_mut()
            .net
            .partition_one_way(from.index, to.index);
        self.note_cut(from, to);
    }

    fn note_cut(&self, from: &Host, to: &Host) {
        let to_name = to.name();
        let mut guard = self.simulated("World::partition").state.borrow_mut();
        let state = &mut *guard;
        state.cuts.insert((from.index, to.index));
        state.sched.inject(Some(from.index), Fault::Partition, format_args!("cut off from {to_name}"));
    }

    /// Ends every partition.
    pub fn heal(&self) {
        let Ground::Simulated(shared) = &self.ground else { return };
        let mut guard = shared.state.borrow_mut();
        let state = &mut *guard;
        for (from, to) in std::mem::take(&mut state.cuts) {
            state.net.heal(from, to);
        }
        if state.sched.trace.is_on() {
            state.sched.line(None, format_args!("* all links are healed"));
        }
    }

    /// What the link between two hosts is like from now on, both ways.
    pub fn link(&self, a: &Host, b: &Host, options: LinkOptions) {
        if let Ground::Simulated(shared) = &self.ground {
            shared.state.borrow_mut().net.set_link(a.index, b.index, options);
        }
    }

    /// Which faults there are from now on.
    pub fn faults(&self, faults: Faults) {
        let Ground::Simulated(shared) = &self.ground else { return };
        let mut state = shared.state.borrow_mut();
        let faults = faults.resolve(&mut state.sched.choices);
        state.sched.faults = faults;
        state.apply(&faults);
    }

    /// How processors behave from now on.
    pub fn cpu(&self, cpu: Cpu) {
        if let Ground::Simulated(shared) = &self.ground {
            shared.state.borrow_mut().sched.set_cpu(cpu);
        }
    }

    /// Turns off all faults, also of links that the script has made so, heals all links, ends all stalls, and waits until `holds` does; it must within `limit`. Then the
    /// faults are back.
    ///
    /// If it does not, the world fails. It has twice the time again first, to see what keeps it: whether it is only too slow, or a
    /// deadlock, a livelock or starvation ([`FailureKind`](crate::FailureKind)).
    #[track_caller]
    pub fn eventually(&self, limit: Duration, holds: impl Fn() -> bool) {
        let caller = Location::caller();
        self.heal();
        self.calm(true);
        let end = self.now().saturating_add(limit);
        let step = (limit / 1000).clamp(Duration::from_micros(100), Duration::from_millis(10));
        while !holds() {
            if self.now() >= end {
                match &self.ground {
                    Ground::Simulated(_) => self.overdue(limit, step, &holds, caller),
                    Ground::Real(_) => panic!("not within {limit:?}: the condition at {caller}"),
                }
            }
            self.sleep(step);
        }
        self.calm(false);
    }

    fn calm(&self, calm: bool) {
        let Ground::Simulated(shared) = &self.ground else { return };
        let mut state = shared.state.borrow_mut();
        state.sched.calm = calm;
        state.net.links.calm = calm;
        let faults = if calm { Faults::none().with(Fault::Latency) } else { state.sched.faults };
        state.apply(&faults);
        if calm {
            state.sched.end_stalls();
        }
        if state.sched.trace.is_on() {
            state.sched.line(None, format_args!("* faults are {}", if calm { "off" } else { "on again" }));
        }
    }

    /// A line in the trace.
    pub fn note(&self, text: &str) {
        let Ground::Simulated(shared) = &self.ground else { return };
        let mut state = shared.state.borrow_mut();
        if state.sched.trace.is_on() {
            state.sched.line(None::<HostIndex>, format_args!("{text}"));
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World(seed {:#x}, {:?})", self.seed, self.now())
    }
}

/// Durations as one says them: `5.secs()`, `10.millis()`.
pub trait Durations {
    /// So many seconds.
    fn secs(self) -> Duration;
    /// So many thousandths of a second.
    fn millis(self) -> Duration;
    /// So many millionths of a second.
    fn micros(self) -> Duration;
}

impl Durations for u64 {
    fn secs(self) -> Duration {
        Duration::from_secs(self)
    }

    fn millis(self) -> Duration {
        Duration::from_millis(self)
    }

    fn micros(self) -> Duration {
        Duration::from_micros(self)
    }
}
