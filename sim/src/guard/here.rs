//! The simulated thread on whose stack one is, and what it asks for without knowing of its kernel.
//!
//! The script has no kernel: it sees the world's time, and its calls cost nothing.

use std::backtrace::Backtrace;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use machinarium::kernel::{Clock, Errno, Instant, Kernel, Result, errno::TEARDOWN};

use crate::choice::{Stream, Subsystem};
use crate::clock::Clocks;
use crate::kernel::SimKernel;
use crate::outside;
use crate::panics;
use crate::report::FailureKind;
use crate::scheduler::{GLANCE, Sleep, ThreadIndex, WaitsFor};
use crate::world::{self, Asking, Mode, Served, Shared, State};

/// See the head of the file.
pub(crate) struct Here {
    shared: Rc<Shared>,
    thread: ThreadIndex,
}

impl Here {
    /// `None`: no simulated thread runs here, or the simulator's own code does, which is no part of its world.
    pub(crate) fn find() -> Option<Here> {
        outside::lent()?;
        let shared = world::current()?;
        let thread = shared.current.get().filter(|_| shared.stage.is_busy())?;
        let served = shared.state.try_borrow_mut().is_err();
        (!served).then_some(Here { shared, thread })
    }

    fn kernel(&self) -> Option<SimKernel> {
        let record = &self.shared.state.borrow().sched.threads[self.thread.0 as usize];
        let (host, process) = record.host.zip(record.process)?;
        Some(SimKernel { shared: self.shared.clone(), thread: self.thread, process, host })
    }

    /// `clock_gettime(2)`.
    pub(crate) fn clock(&self, clock: Clock) -> Instant {
        match self.kernel() {
            Some(kernel) => kernel.clock_gettime(clock),
            None => self.shared.glance(self.thread, |state| {
                // So that a loop around the clock ends.
                state.sched.now += GLANCE;
                Clocks::exact().read(clock, state.sched.now)
            }),
        }
    }

    /// `getrandom(2)`.
    pub(crate) fn random(&self, buffer: &mut [u8]) {
        self.shared.glance(self.thread, |state| {
            let stream = Stream::new(Subsystem::Random, state.sched.thread(self.thread).identity);
            state.sched.choices.fill(stream, buffer);
        });
    }

    /// `sched_yield(2)`.
    pub(crate) fn give_way(&self) {
        match self.kernel() {
            Some(kernel) => kernel.sched_yield(),
            None => {
                let _ = self.shared.ask(self.thread, Asking::Call, |_, _| Served::Done(()));
            }
        }
    }

    /// `nanosleep(2)`. An error says how much of it is left, because a signal came.
    pub(crate) fn sleep(&self, duration: Duration) -> Result<(), Duration> {
        let mut until = None;
        self.shared.asking.set(None);
        let answer = self.shared.ask(self.thread, Asking::Call, |state, thread| {
            if until.is_none() {
                self.tell(state, format_args!("nanosleep({duration:?})"));
            }
            let until = *until.get_or_insert_with(|| self.deadline(state, Some(duration)));
            let left = Duration::from_nanos(until.saturating_sub(state.sched.now));
            match std::mem::take(&mut state.sched.thread(thread).interrupted) {
                _ if left.is_zero() => Served::Done(Ok(())),
                true => Served::Done(Err(left)),
                false => Served::Wait(Sleep { on: WaitsFor::Time, until }),
            }
        });
        // While the world ends, a sleep passes in no time.
        answer.unwrap_or_else(|| {
            self.pass(duration);
            Ok(())
        })
    }

    /// `futex(2)`, `FUTEX_WAIT`.
    pub(crate) fn futex_wait(
        &self,
        word: &AtomicU32,
        expected: u32,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let wanted = self.shared.state.borrow().sched.trace.is_on();
        let told = wanted.then(|| Box::new(Backtrace::force_capture()));
        let strand = self.shared.strands.borrow()[self.thread.0 as usize].clone();
        strand.stands.replace(told);
        let answer = match self.kernel() {
            Some(kernel) => kernel.futex_wait(word, expected, timeout),
            None => self.script_waits(word, expected, timeout),
        };
        strand.stands.replace(None);
        // Of what is said while the world ends, callers know nothing: they look at the word again.
        answer.map_err(|errno| if errno == TEARDOWN { Errno::AGAIN } else { errno })
    }

    fn script_waits(&self, word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Result<()> {
        let mut until = None;
        let answer = self.shared.ask(self.thread, Asking::Call, |state, thread| {
            // The world runs all threads on one OS thread, so any ordering would do.
            if until.is_none() && word.load(Ordering::SeqCst) != expected {
                return Served::Done(Err(Errno::AGAIN));
            }
            let until = *until.get_or_insert_with(|| {
                state.sched.futex_begin(thread);
                self.deadline(state, timeout)
            });
            state.sched.futex_sleep(thread, word.as_ptr().addr(), until)
        });
        answer.unwrap_or(Err(TEARDOWN))
    }

    /// `futex(2)`, `FUTEX_WAKE`.
    pub(crate) fn futex_wake(&self, word: usize, count: u32) -> usize {
        self.shared.asking.set(None);
        let woken = self
            .shared
            .ask(self.thread, Asking::Call, |state, _| Served::Done(state.sched.futex_wake(word, count)));
        woken.unwrap_or(0)
    }

    /// Somebody wants a thread of the operating system. That is the run's failure.
    pub(crate) fn stray_thread(&self) {
        let mut state = self.shared.state.borrow_mut();
        if self.shared.mode.get() != Mode::Running {
            return;
        }
        // It is told only where events are: most failing runs are repeated for that.
        let backtrace = state.sched.trace.is_on().then(Backtrace::force_capture);
        let message = "a thread outside of the world was to be started: what it does is not simulated, and its order is \
                       not the seed's. Use machinarium::machine::spawn, or machinarium::blocking";
        state.fail(FailureKind::Undetermined, message.to_owned(), Some(self.thread));
        if let (Some(verdict), Some(backtrace)) = (&mut state.verdict, backtrace) {
            verdict
                .backtrace
                .get_or_insert_with(|| panics::between(&backtrace.to_string(), &["pthread_create"]));
        }
    }

    fn deadline(&self, state: &State, timeout: Option<Duration>) -> u64 {
        let host = state.sched.threads[self.thread.0 as usize].host;
        let clocks = host.map_or(Clocks::exact(), |host| state.sched.hosts[host.0 as usize].clocks);
        clocks.deadline(state.sched.now, timeout)
    }

    fn pass(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.shared.glance(self.thread, |state| state.sched.now = state.sched.now.saturating_add(nanos));
    }

    /// Makes it a part of the digest, and a line of the trace.
    fn tell(&self, state: &mut State, what: std::fmt::Arguments<'_>) {
        let now = state.sched.now;
        state.sched.trace.fold(now);
        state.sched.trace.fold(u64::from(self.thread.0));
        if state.sched.trace.is_on() {
            let host = state.sched.threads[self.thread.0 as usize].host;
            state.sched.line(host, what);
        }
    }
}
