//! Signals of simulated processes: who has caught what, and what a signal does.
//!
//! | a signal | does |
//! |---|---|
//! | that the process has never caught | what `signal(7)` says: it ends the process as `kill -9` does, or nothing |
//! | that it catches | is noted with each [`Caught`] that asked, and its eventfd written |
//! | that it has caught once | nothing |
//!
//! The handler runs on the main thread, as Linux prefers it: if that sleeps in `epoll_wait`, or in `futex_wait` with a
//! timeout, the call answers EINTR. A signal of the script, and one of the main thread itself, strikes at once; one that another thread
//! sends, or one that is late by a fault, is pending for a while, and equal ones are one until then.

use std::sync::Arc;

use machinarium::kernel::{Caught, DefaultAction, Signal, SignalSet};

use crate::choice::{Stream, Subsystem};
use crate::env::ProcessIndex;
use crate::fault::Fault;
use crate::host::Host;
use crate::process::Life;
use crate::scheduler::{Phase, WaitsFor};
use crate::world::State;

const MICROSECOND: u64 = 1_000;
/// A late signal takes ten microseconds, doubled fewer times than this.
const DOUBLINGS: u64 = 14;

/// What a process does with signals.
#[derive(Default)]
pub(crate) struct Signals {
    /// Never again the default.
    handled: SignalSet,
    catching: Vec<(Signal, Arc<Caught>)>,
    /// Sent, and not there yet.
    pending: SignalSet,
    /// Which one has ended the process.
    pub(crate) killer: Option<Signal>,
}

impl Signals {
    /// Notes `signal` with `caught` from now on; a second time is as once.
    pub(crate) fn catch(&mut self, signal: Signal, caught: &Arc<Caught>) {
        self.handled = self.handled.with(signal);
        if self.place(signal, caught).is_none() {
            self.catching.push((signal, caught.clone()));
        }
    }

    /// Does not any more. The answer is to be dropped by the process: it may own a descriptor.
    #[must_use = "it is dropped on the caller's stack"]
    pub(crate) fn ignore(&mut self, signal: Signal, caught: &Arc<Caught>) -> Option<Arc<Caught>> {
        let place = self.place(signal, caught)?;
        Some(self.catching.remove(place).1)
    }

    fn place(&self, signal: Signal, caught: &Arc<Caught>) -> Option<usize> {
        self.catching.iter().position(|entry| entry.0 == signal && Arc::ptr_eq(&entry.1, caught))
    }
}

impl State {
    /// Sends a signal that strikes at once, unless it is late by a fault.
    pub(crate) fn signal(&mut self, process: ProcessIndex, signal: Signal) {
        match self.lateness(process) {
            0 => self.strike(process, signal),
            late => self.post_signal(process, signal, late),
        }
    }

    /// Sends a signal that strikes in `delay` nanoseconds; one that is on its way already is the same.
    pub(crate) fn post_signal(&mut self, process: ProcessIndex, signal: Signal, delay: u64) {
        let signals = &mut self.processes[process.0 as usize].signals;
        if !signals.pending.contains(signal) {
            signals.pending = signals.pending.with(signal);
            self.sched.send_signal(delay, process, signal);
        }
    }

    /// A signal that was sent before is there.
    pub(crate) fn signal_arrives(&mut self, process: ProcessIndex, signal: Signal) {
        let signals = &mut self.processes[process.0 as usize].signals;
        signals.pending = signals.pending.without(signal);
        self.strike(process, signal);
    }

    /// How late a signal of this process is, in nanoseconds.
    pub(crate) fn lateness(&mut self, process: ProcessIndex) -> u64 {
        let sched = &mut self.sched;
        if sched.calm || !sched.injectors[process.0 as usize].hit(Fault::LateSignal, &mut sched.choices) {
            return 0;
        }
        let identity = self.processes[process.0 as usize].identity;
        let stream = Stream::new(Subsystem::Signal, identity);
        let late = (10 * MICROSECOND) << sched.choices.draw(stream, "lateness", DOUBLINGS);
        let host = self.processes[process.0 as usize].host;
        let micros = late / MICROSECOND;
        sched.inject(Some(host), Fault::LateSignal, format_args!("a signal is late by {micros} us"));
        late
    }

    fn strike(&mut self, process: ProcessIndex, signal: Signal) {
        let record = &mut self.processes[process.0 as usize];
        if record.life != Life::Running {
            return;
        }
        let host = record.host;
        self.sched.trace.fold(0x5160 << 32 | u64::from(process.0) << 8 | signal as u64);
        if self.sched.trace.is_on() {
            self.sched.line(Some(host), format_args!("--- {signal} ---"));
        }
        if !record.signals.handled.contains(signal) {
            if signal.default_action() == DefaultAction::Terminate {
                record.signals.killer = Some(signal);
                self.kill(process);
            }
            return;
        }
        self.interrupt_main(process);
        for place in 0..self.processes[process.0 as usize].signals.catching.len() {
            let (wanted, caught) = &self.processes[process.0 as usize].signals.catching[place];
            if *wanted == signal {
                caught.note(signal);
                // A counter that is full is readable, and there is nobody to tell.
                let _ = self.net.write(&mut self.sched, process, caught.fd(), &1u64.to_ne_bytes());
            }
        }
    }

    /// The main thread runs a handler, which ends its sleep if it has one that a handler ends.
    fn interrupt_main(&mut self, process: ProcessIndex) {
        let main = self.processes[process.0 as usize].main;
        let thread = self.sched.thread(main);
        let ends = |on, until| match on {
            WaitsFor::Epoll(_) => true,
            WaitsFor::Futex(_) => until != u64::MAX,
            _ => false,
        };
        let asleep = thread.phase == Phase::Asleep;
        if asleep && thread.sleep.is_some_and(|sleep| ends(sleep.on, sleep.until)) {
            thread.interrupted = true;
            self.sched.wake_thread(main);
        }
    }
}

impl Host {
    /// Sends its process a signal. Nothing happens if none runs.
    pub fn signal(&self, signal: Signal) {
        let mut state = self.simulated("Host::signal").state.borrow_mut();
        if let Some(process) = state.running_process(self.index) {
            state.signal(process, signal);
        }
    }

    /// The signal that has ended its process, if one has.
    pub fn killed_by(&self) -> Option<Signal> {
        let state = self.simulated("Host::killed_by").state.borrow();
        let process = state.hosts[self.index.0 as usize].process?;
        state.processes[process.0 as usize].signals.killer
    }
}
