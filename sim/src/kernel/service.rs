//! The calls about names, signals and files: those that take long, and that go wrong in ways of their own.
//!
//! Owns nothing. A lookup or a file call puts its thread to sleep for a drawn time, and is served when that is over: until then
//! it has done nothing. A thread that panics does not sleep.

use std::ffi::CStr;
use std::net::SocketAddr;
use std::sync::Arc;

use machinarium::kernel::{
    Call, Caught, Clock, Errno, Fd, Kernel, OpenFlags, Query, ResolveError, Result, SigAction, Signal, Stat,
    errno::TEARDOWN,
};

use super::SimKernel;
use crate::choice::Subsystem;
use crate::dns::{self, Asked, Lookup};
use crate::env::ProcessIndex;
use crate::fault::Fault;
use crate::scheduler::{Phase, Sleep, ThreadIndex, WaitsFor};
use crate::trace::Answer;
use crate::world::{Asking, Served, State};

const MICROSECOND: u64 = 1_000;
const SECOND: u64 = 1_000_000_000;

/// A lookup takes this long at least, and with latencies up to so many times that.
const NAME: u64 = 200 * MICROSECOND;
const NAME_STEPS: u64 = 50;
/// A slow one takes up to so many seconds.
const SLOW_NAME: u64 = 30;

/// A call that the page cache serves, and one that the disk does.
const CACHED: u64 = 2 * MICROSECOND;
const WRITTEN: u64 = 200 * MICROSECOND;
/// With latencies, the time is doubled fewer times than this.
const FILE_DOUBLINGS: u64 = 7;
/// A slow one takes ten milliseconds more, doubled fewer times than this.
const SLOW_FILE: u64 = 10_000 * MICROSECOND;
const SLOW_DOUBLINGS: u64 = 9;

/// Names.
impl SimKernel {
    pub(super) fn resolve(&self, query: &Query<'_>) -> Result<Vec<SocketAddr>, ResolveError> {
        let mut begun = None;
        let answer = self.shared.ask(self.thread, Asking::Call, |state, thread| {
            let asked = match dns::ask(query) {
                Ok(Asked::Name(lookup)) => lookup,
                known => {
                    let answer = known.map(|known| match known {
                        Asked::Known(addresses) => addresses,
                        Asked::Name(_) => unreachable!("the arm above"),
                    });
                    return Served::Done(self.tell(state, thread, query, answer));
                }
            };
            let (until, fails) = *begun.get_or_insert_with(|| self.begin_lookup(state, &asked));
            if state.sched.now < until && !state.sched.unwinding {
                return Served::Wait(Sleep { on: WaitsFor::Call(Call::Getaddrinfo), until });
            }
            let answer = match fails {
                Some(error) => Err(error),
                None => state.names.look_up(&asked).map(|found| self.as_told(state, found)),
            };
            Served::Done(self.tell(state, thread, query, answer))
        });
        answer.unwrap_or(Err(ResolveError::System(TEARDOWN)))
    }

    /// When a lookup is over, and the fault that it ends with.
    fn begin_lookup(&self, state: &mut State, lookup: &Lookup) -> (u64, Option<ResolveError>) {
        let stream = self.stream(state, Subsystem::Name);
        let mut time = NAME;
        if state.sched.faults.has(Fault::Latency) {
            time *= 1 + state.sched.choices.draw(stream, "lookup", NAME_STEPS);
        }
        if self.may_hit(state, Fault::SlowName) {
            let seconds = 1 + state.sched.choices.draw(stream, "slow lookup", SLOW_NAME);
            time += seconds * SECOND;
            let name = &lookup.name;
            state.sched.inject(
                Some(self.host),
                Fault::SlowName,
                format_args!("the lookup of {name} takes {seconds} s"),
            );
        }
        let kinds = [(Fault::NameAgain, ResolveError::Again), (Fault::NoName, ResolveError::NoName)];
        let fails = kinds.into_iter().find(|(fault, _)| self.may_hit(state, *fault));
        if let Some((fault, error)) = fails {
            let name = &lookup.name;
            state.sched.inject(
                Some(self.host),
                fault,
                format_args!("the lookup of {name} is made to fail: {error:?}"),
            );
        }
        let until = state.sched.now.saturating_add(time.max(state.names.delay));
        (until, fails.map(|(_, error)| error))
    }

    /// In any order, and not always all of them.
    fn as_told(&self, state: &mut State, mut found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        if found.len() > 1 && self.may_hit(state, Fault::NameOrder) {
            let stream = self.stream(state, Subsystem::Name);
            state.sched.injected.count(Fault::NameOrder);
            for place in 0..found.len() - 1 {
                let rest = (found.len() - place) as u64;
                let other = state.sched.choices.draw(stream, "order of addresses", rest);
                found.swap(place, place + other as usize);
            }
        }
        if found.len() > 1 && self.may_hit(state, Fault::NameSubset) {
            let stream = self.stream(state, Subsystem::Name);
            let fewer = state.sched.choices.draw(stream, "addresses left out", found.len() as u64) as usize;
            found.truncate(found.len() - fewer);
            state.sched.injected.count(Fault::NameSubset);
        }
        found
    }

    /// Makes the lookup a part of the digest, and a line of the trace.
    fn tell(
        &self,
        state: &mut State,
        thread: ThreadIndex,
        query: &Query<'_>,
        answer: Result<Vec<SocketAddr>, ResolveError>,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let trace = &mut state.sched.trace;
        let word = match &answer {
            Ok(found) => found.iter().fold(0, |sum: u64, address| sum.rotate_left(7) ^ fingerprint(address)),
            Err(error) => !(i64::from(error.code()) as u64),
        };
        trace.fold(state.sched.now);
        trace.fold(u64::from(thread.0) << 32 ^ (Call::Getaddrinfo as u64) << 24 ^ word);
        if trace.is_on() {
            let (node, service) = (query.node.unwrap_or(c"-"), query.service.unwrap_or(c"-"));
            let shown = format_args!("getaddrinfo({node:?}, {service:?}) = {answer:?}");
            state.sched.line(Some(self.host), shown);
        }
        answer
    }
}

fn fingerprint(address: &SocketAddr) -> u64 {
    let ip = address.ip().to_canonical();
    let octets = match ip {
        std::net::IpAddr::V4(ip) => u128::from(u32::from(ip)),
        std::net::IpAddr::V6(ip) => u128::from(ip),
    };
    (octets as u64) << 16 ^ (octets >> 64) as u64 ^ u64::from(address.port())
}

/// Signals.
impl SimKernel {
    pub(super) fn act(&self, signal: Signal, action: SigAction, caught: &Arc<Caught>) -> Result<()> {
        let mut ignored = None;
        let shown = format_args!("{signal}, {action:?}, {}", caught.fd());
        let answer = self.call(Call::Sigaction, shown, |state, process| {
            if caught.process() != self.process() {
                return Err(Errno::INVAL);
            }
            let signals = &mut state.processes[process.0 as usize].signals;
            match action {
                SigAction::Catch => signals.catch(signal, caught),
                SigAction::Ignore => ignored = signals.ignore(signal, caught),
            }
            Ok(())
        });
        // It may be the last reference, which closes a descriptor: not on the world's stack.
        drop(ignored);
        answer
    }

    pub(super) fn send_signal(&self, signal: Signal) -> Result<()> {
        let answer = self.shared.ask(self.thread, Asking::Call, |state, thread| {
            self.note(state, thread, Call::Kill, format_args!("{signal}"), &Ok(()));
            let main = state.processes[self.process.0 as usize].main == thread;
            if main && !state.sched.unwinding {
                state.signal(self.process, signal);
            } else {
                // The main thread handles it, when it is its turn. No crash falls into an unwinding.
                let late = state.lateness(self.process);
                state.post_signal(self.process, signal, late);
            }
            match state.sched.thread(thread).phase {
                Phase::Dead => Served::Never,
                _ => Served::Done(Ok(())),
            }
        });
        answer.unwrap_or(Err(TEARDOWN))
    }
}

impl SimKernel {
    /// Whether a signal was handled while the thread slept.
    pub(super) fn interrupted(&self, state: &mut State) -> bool {
        std::mem::take(&mut state.sched.thread(self.thread).interrupted)
    }
}

/// Files.
impl SimKernel {
    pub(super) fn open_file(&self, path: &CStr, flags: OpenFlags) -> Result<Fd> {
        self.file_call(Call::Openat, format_args!("{path:?}, {flags:?}"), |state, process| {
            let now = state.sched.now;
            state.net.openat(process, path, flags, now)
        })
    }

    pub(super) fn read_at(&self, fd: Fd, buf: &mut [u8], offset: u64) -> Result<usize> {
        let shown = format_args!("{fd}, {}, {offset}", buf.len());
        let count = self.file_call(Call::Pread, shown, |state, process| {
            let count = self.shortened(state, buf.len());
            state.net.pread(process, fd, &mut buf[..count], offset)
        });
        self.received(count, buf)
    }

    pub(super) fn write_at(&self, fd: Fd, buf: &[u8], offset: u64) -> Result<usize> {
        let shown = format_args!("{fd}, {}, {offset}", buf.len());
        self.file_call(Call::Pwrite, shown, |state, process| {
            let count = self.shortened(state, buf.len());
            let now = state.sched.now;
            state.net.pwrite(process, fd, &buf[..count], offset, now)
        })
    }

    /// `fsync` and `fdatasync`.
    pub(super) fn sync_file(&self, call: Call, fd: Fd) -> Result<()> {
        self.file_call(call, format_args!("{fd}"), |state, process| {
            let fails = self.may_hit(state, Fault::DiskError);
            if fails {
                let text = format_args!("{call:?} is made to fail: what it was to write is lost");
                state.sched.inject(Some(self.host), Fault::DiskError, text);
            }
            state.net.fsync(process, fd, fails)
        })
    }

    pub(super) fn truncate(&self, fd: Fd, len: u64) -> Result<()> {
        self.file_call(Call::Ftruncate, format_args!("{fd}, {len}"), |state, process| {
            let now = state.sched.now;
            state.net.ftruncate(process, fd, len, now)
        })
    }

    pub(super) fn status(&self, fd: Fd) -> Result<Stat> {
        self.call(Call::Fstat, format_args!("{fd}"), |state, process| {
            let stat = state.net.fstat(process, fd)?;
            let clocks = &state.sched.hosts[self.host.0 as usize].clocks;
            Ok(Stat { modified: clocks.read(Clock::Realtime, stat.modified.as_nanos()), ..stat })
        })
    }

    pub(super) fn rename_file(&self, from: &CStr, to: &CStr) -> Result<()> {
        self.file_call(Call::Rename, format_args!("{from:?}, {to:?}"), |state, process| {
            state.net.rename(process, from, to)
        })
    }

    pub(super) fn unlink_file(&self, path: &CStr) -> Result<()> {
        self.file_call(Call::Unlink, format_args!("{path:?}"), |state, process| {
            state.net.unlink(process, path)
        })
    }

    /// Makes a call that takes its time.
    fn file_call<R: Answer>(
        &self,
        call: Call,
        shown: std::fmt::Arguments<'_>,
        mut serve: impl FnMut(&mut State, ProcessIndex) -> Result<R>,
    ) -> Result<R> {
        let mut until = 0;
        self.wait(call, shown, |state, again| {
            if !again {
                until = state.sched.now.saturating_add(self.file_time(state, call));
            }
            if state.sched.now < until && !state.sched.unwinding {
                return Served::Wait(Sleep { on: WaitsFor::Call(call), until });
            }
            Served::Done(serve(state, self.process))
        })
    }

    fn file_time(&self, state: &mut State, call: Call) -> u64 {
        let stream = self.stream(state, Subsystem::Disk);
        let synced = matches!(call, Call::Fsync | Call::Fdatasync);
        let mut time = if synced { WRITTEN } else { CACHED };
        if state.sched.faults.has(Fault::Latency) {
            time <<= state.sched.choices.draw(stream, "file call", FILE_DOUBLINGS);
        }
        if self.may_hit(state, Fault::SlowDisk) {
            time += SLOW_FILE << state.sched.choices.draw(stream, "slow disk", SLOW_DOUBLINGS);
            let millis = time / (1_000 * MICROSECOND);
            state.sched.inject(Some(self.host), Fault::SlowDisk, format_args!("{call:?} takes {millis} ms"));
        }
        time
    }

    /// How many of `count` bytes a file call moves, at least one.
    fn shortened(&self, state: &mut State, count: usize) -> usize {
        if count < 2 || !self.may_hit(state, Fault::ShortFile) {
            return count;
        }
        let stream = self.stream(state, Subsystem::Disk);
        state.sched.injected.count(Fault::ShortFile);
        count - state.sched.choices.draw(stream, "short file call", count as u64) as usize
    }

    /// Whether a fault that is no error happens to this call: to none of a thread that panics.
    fn may_hit(&self, state: &mut State, fault: Fault) -> bool {
        !state.sched.unwinding && self.hit(state, fault)
    }
}
