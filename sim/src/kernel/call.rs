//! How a call of the simulated kernel is made: asked on the world's stack, failed by a fault, written to the trace.
//!
//! Owns nothing. What a call does is in `kernel` and the objects below it; what happens to every call is here.

use std::fmt;
use std::time::Duration;

use machinarium::kernel::{Call, EpollEvent, Errno, Fd, Result, SocketOption, errno::TEARDOWN};

use super::SimKernel;
use crate::choice::{Stream, Subsystem};
use crate::env::ProcessIndex;
use crate::fault::Fault;
use crate::scheduler::{GLANCE, ThreadIndex};
use crate::trace::{Answer, CallName, Shown};
use crate::world::{Asking, Mode, Served, State};

/// A jump of a clock is a millisecond, doubled fewer times than this.
const JUMPS: u64 = 27;
/// For how long a thread hears of no stale event after one: longer than any machine looks for work before it sleeps. Else such a
/// machine asks a hundred times in a while, is told of something that is not there once at least, and begins again, for ever.
const FRESH: u64 = 100_000;

impl SimKernel {
    /// Makes a call that does not wait.
    pub(super) fn call<R: Answer>(
        &self,
        call: Call,
        shown: fmt::Arguments<'_>,
        serve: impl FnMut(&mut State, ProcessIndex) -> Result<R>,
    ) -> Result<R> {
        self.call_with(call, true, shown, serve)
    }

    /// The same; only with `injected` is it made to fail by a fault.
    pub(super) fn call_with<R: Answer>(
        &self,
        call: Call,
        injected: bool,
        shown: fmt::Arguments<'_>,
        mut serve: impl FnMut(&mut State, ProcessIndex) -> Result<R>,
    ) -> Result<R> {
        self.shared.asking.set(Some(call));
        let answer = self.shared.ask(self.thread, Asking::Call, |state, thread| {
            let errno = if injected { self.injected(state, call) } else { None };
            let answer = match errno {
                Some(errno) => Err(errno),
                None => serve(state, self.process),
            };
            self.note(state, thread, call, shown, &answer);
            Served::Done(answer)
        });
        answer.unwrap_or(Err(TEARDOWN))
    }

    /// Makes a call that may wait: `serve` is asked again at each wake-up.
    pub(super) fn wait<R: Answer>(
        &self,
        call: Call,
        shown: fmt::Arguments<'_>,
        mut serve: impl FnMut(&mut State, bool) -> Served<Result<R>>,
    ) -> Result<R> {
        self.shared.asking.set(Some(call));
        let answer = self.shared.ask(self.thread, Asking::Call, |state, thread| {
            let again = std::mem::replace(&mut state.sched.thread(thread).inside, true);
            let injected = if again { None } else { self.injected(state, call) };
            let served = match injected {
                Some(errno) => Served::Done(Err(errno)),
                None => serve(state, again),
            };
            if let Served::Done(answer) = &served {
                self.note(state, thread, call, shown, answer);
            }
            served
        });
        answer.unwrap_or(Err(TEARDOWN))
    }

    /// Answers on the caller's stack; nobody else gets a chance.
    pub(super) fn getter<R>(&self, get: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
        if self.shared.current.get() != Some(self.thread) || self.shared.mode.get() != Mode::Running {
            return Err(TEARDOWN);
        }
        self.shared.glance(self.thread, |state| {
            state.sched.now += GLANCE;
            get(state)
        })
    }

    /// The error that the world wants this call to fail with.
    fn injected(&self, state: &mut State, call: Call) -> Option<Errno> {
        let sched = &mut state.sched;
        if sched.unwinding {
            return None;
        }
        let injector = Some(&mut sched.injectors[self.process.0 as usize]).filter(|_| !sched.calm);
        let drawn = injector.and_then(|injector| injector.fail(call, &mut sched.choices));
        // A sweep counts all calls: a script that only waits for a good end is calm from its beginning.
        let (fault, errno) = drawn.or(sched.sweep.fail(call))?;
        sched.inject(Some(self.host), fault, format_args!("{call:?} is made to fail: {errno:?}"));
        Some(errno)
    }

    /// The choices of this kind about this thread.
    pub(super) fn stream(&self, state: &mut State, subsystem: Subsystem) -> Stream {
        Stream::new(subsystem, state.sched.thread(self.thread).identity)
    }

    /// Whether a fault that is no error happens to this call.
    pub(super) fn hit(&self, state: &mut State, fault: Fault) -> bool {
        let sched = &mut state.sched;
        !sched.calm && sched.injectors[self.process.0 as usize].hit(fault, &mut sched.choices)
    }

    /// Makes the call a part of the digest, and a line of the trace.
    pub(super) fn note<R: Answer>(
        &self,
        state: &mut State,
        thread: ThreadIndex,
        call: Call,
        shown: fmt::Arguments<'_>,
        answer: &Result<R>,
    ) {
        let trace = &mut state.sched.trace;
        trace.fold(state.sched.now);
        trace.fold(u64::from(thread.0) << 32 | (call as u64) << 24 ^ answer.word());
        if trace.is_on() {
            let name = CallName(call);
            state.sched.line(Some(self.host), format_args!("{name}({shown}) = {}", Shown(answer)));
        }
    }

    /// The host's wall clock jumps, for once.
    pub(super) fn perhaps_jump(&self) {
        self.shared.glance(self.thread, |state| {
            if std::thread::panicking() || !self.hit(state, Fault::ClockJump) {
                return;
            }
            let stream = Stream::new(Subsystem::Clock, u64::from(self.host.0));
            let length = Duration::from_millis(1 << state.sched.choices.draw(stream, "jump", JUMPS));
            let forward = state.sched.choices.draw(stream, "jump back", 2) == 0;
            state.sched.jump_clock(self.host, forward, length);
        });
    }

    /// How many may wait at a listener of TCP.
    pub(super) fn shortened_backlog(&self, state: &mut State, fd: Fd, backlog: u32) -> u32 {
        if !state.net.is_tcp(self.process, fd) || !self.hit(state, Fault::Backlog) {
            return backlog;
        }
        let stream = self.stream(state, Subsystem::Fault);
        let limit = (state.sched.choices.draw(stream, "backlog", 2) as u32).min(backlog);
        let text = format_args!("only {} may wait at listener {fd}", limit + 1);
        state.sched.inject(Some(self.host), Fault::Backlog, text);
        limit
    }

    /// The next send of a TCP socket finds little memory, for once, and takes only some of `count` bytes.
    pub(super) fn squeeze(&self, state: &mut State, fd: Fd, count: usize) {
        if count < 2 || !state.net.is_tcp(self.process, fd) || !self.hit(state, Fault::ShortWrite) {
            return;
        }
        let stream = self.stream(state, Subsystem::Fault);
        let most = count - state.sched.choices.draw(stream, "short write", count as u64) as usize;
        state.sched.inject(
            Some(self.host),
            Fault::ShortWrite,
            format_args!("{fd} takes {most} bytes of {count}"),
        );
        state.net.squeeze(self.process, fd, most);
    }

    /// A new socket has small buffers, for once.
    pub(super) fn shrink_buffers(&self, state: &mut State, fd: Fd) {
        if !self.hit(state, Fault::ShortWrite) {
            return;
        }
        // Buffers that an accepted socket has from its listener are promised.
        if !state.net.has_default_buffers(self.process, fd) {
            return;
        }
        let stream = self.stream(state, Subsystem::Fault);
        let size = 1024 << state.sched.choices.draw(stream, "buffer", 5);
        state.sched.inject(
            Some(self.host),
            Fault::ShortWrite,
            format_args!("socket {fd} has buffers of {size}"),
        );
        // A datagram is not shortened but refused, if it is larger than the buffer: no fault may do that.
        let datagrams = state.net.is_datagram(self.process, fd);
        let send = (!datagrams).then_some(SocketOption::SendBuffer(size));
        for option in send.into_iter().chain([SocketOption::ReceiveBuffer(size)]) {
            // The descriptor was made just now, and any size is taken.
            let _ = state.net.setsockopt(&mut state.sched, self.process, fd, option);
        }
    }

    /// What `epoll_wait` has to tell now: as Linux, in any order, and not always all of it.
    pub(super) fn poll(
        &self,
        state: &mut State,
        epoll: Fd,
        events: &mut [EpollEvent],
        first: bool,
    ) -> Result<usize> {
        let stream = self.stream(state, Subsystem::Epoll);
        let mut room = events.len();
        if first && room > 1 && self.hit(state, Fault::EpollSubset) {
            room = 1 + state.sched.choices.draw(stream, "subset", 2) as usize;
            room = room.min(events.len());
            state.sched.injected.count(Fault::EpollSubset);
        }
        let told = state.net.epoll_poll(&mut state.sched, self.process, epoll, &mut events[..room])?;
        let told = told + self.stale(state, epoll, &mut events[told..room]);
        if told > 1 && self.hit(state, Fault::EpollOrder) {
            state.sched.injected.count(Fault::EpollOrder);
            for place in 0..told - 1 {
                let other = state.sched.choices.draw(stream, "epoll order", (told - place) as u64);
                events.swap(place, place + other as usize);
            }
        }
        Ok(told)
    }

    /// Tells of a socket that it can be read, for once, whether it can or not. How many events that are.
    fn stale(&self, state: &mut State, epoll: Fd, events: &mut [EpollEvent]) -> usize {
        let Some(event) = events.first_mut() else { return 0 };
        let now = state.sched.now;
        if now < state.sched.thread(self.thread).fresh_until || !self.hit(state, Fault::StaleEvent) {
            return 0;
        }
        let stream = self.stream(state, Subsystem::Epoll);
        let Some(stale) = state.net.epoll_stale(&mut state.sched, self.process, epoll, stream) else {
            return 0;
        };
        let data = stale.data;
        let text = format_args!("an event tells that what has {data:#x} can be read");
        state.sched.inject(Some(self.host), Fault::StaleEvent, text);
        *event = stale;
        state.sched.thread(self.thread).fresh_until = now + FRESH;
        1
    }

    /// A byte count and the bytes, in the digest.
    pub(super) fn received(&self, count: Result<usize>, buf: &[u8]) -> Result<usize> {
        if let Ok(count) = count {
            self.shared.state.borrow_mut().sched.trace.fold_bytes(&buf[..count]);
        }
        count
    }

    pub(super) fn deadline(&self, state: &State, timeout: Option<Duration>) -> u64 {
        state.sched.hosts[self.host.0 as usize].clocks.deadline(state.sched.now, timeout)
    }

    /// While the world ends, a sleep passes in no time: whoever waits for a deadline gets it.
    pub(super) fn sleep_while_canceled<R>(&self, answer: &Result<R>, timeout: Option<Duration>) {
        if matches!(answer, Err(TEARDOWN)) && self.shared.mode.get() == Mode::Teardown {
            let nanos = timeout.map_or(0, |timeout| u64::try_from(timeout.as_nanos()).unwrap_or(0));
            self.shared.glance(self.thread, |state| state.sched.now = state.sched.now.saturating_add(nanos));
        }
    }
}
