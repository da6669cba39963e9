//! Who runs when: virtual time, the queue of what will happen, and the simulated threads in it.
//!
//! There is no ready list, but for strategies that decide by turns (`turns`). A thread that can run has an event in the queue, at the instant at which it gets the
//! processor; time jumps from event to event. So threads of different hosts, and of one host, run at the same time as far
//! as the clocks can tell, and time is not work-conserving: whoever is stalled just has a later event.
//!
//! | phase | there is | becomes | by |
//! |---|---|---|---|
//! | Ready | one `Run` event for it | Running | the event |
//! | Running | nothing | Ready | a call, if something else may come before it is served |
//! | Running | nothing | Asleep | a call that has to wait |
//! | Asleep | a `Sleep`, and a `Timer` event if that ends by itself | Ready | `wake`, or the timer |
//! | any | nothing | Dead | a crash, or the end of its process |
//! | Running | nothing | Ended | its main function returns |
//!
//! A call costs time *before* it is served. How much is drawn only where something else falls into the span that the cost may
//! have: elsewhere the choice would decide nothing. A `Timer` event is lazy: a thread has at most one that counts, and it
//! goes to sleep again if it fires before the sleep's end.

use std::fmt;
use std::time::Duration;

use machinarium::kernel::{Call, CpuSet, Errno, Result, Signal, ThreadEnd};

use crate::choice::{Choices, Stream, Subsystem};
use crate::clock::Clocks;
use crate::env::{Env, EpollKey, HostIndex, NetEvent, ProcessIndex};
use crate::fault::{Cpu, Fault, FaultCounts, Faults, Injector, Sweep};
use crate::film::Carried;
use crate::queue::Queue;
use crate::rare::Rare;
use crate::strategy::Kind;
use crate::trace::{CallName, Keep, Trace};
use crate::turns::Turns;

/// What a call costs at least, in nanoseconds.
const CALL: u64 = 150;
/// How long a thread that is woken needs at least until it runs.
const WAKE: u64 = 500;
/// A cost is its least, more by a quarter for each of fewer than so many steps.
const STEPS: u64 = 16;
/// What a look at the clock costs.
pub(crate) const GLANCE: u64 = 20;
const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
/// A preemption lasts one microsecond, doubled fewer times than this.
const PREEMPTIONS: u64 = 10;

/// The processors of a host.
pub(crate) const CPUS: [usize; 2] = [0, 1];

/// A simulated thread of any process, in the order in which they were made; the script is the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ThreadIndex(pub(crate) u32);

/// What will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// The thread gets the processor.
    Run(ThreadIndex),
    /// The thread's sleep may be over.
    Timer(ThreadIndex),
    /// Something of the network.
    Net(NetEvent),
    /// A signal that was sent to a process before.
    Signal(ProcessIndex, Signal),
}

/// What a thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Ready,
    Running,
    Asleep,
    Ended,
    /// Will never run again, at least not before the world's end.
    Dead,
}

/// What a sleeping thread waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WaitsFor {
    /// An event of an epoll instance.
    Epoll(EpollKey),
    /// A wake-up of this word.
    Futex(usize),
    /// The end of another thread.
    Join(ThreadIndex),
    /// A call that takes its time: a name, a file.
    Call(Call),
    /// Time alone.
    Time,
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitsFor::Epoll(_) => f.write_str("epoll_wait"),
            WaitsFor::Futex(_) => f.write_str("futex_wait"),
            WaitsFor::Join(thread) => write!(f, "join of thread {}", thread.0),
            WaitsFor::Call(call) => write!(f, "{}", CallName(*call)),
            WaitsFor::Time => f.write_str("sleep"),
        }
    }
}

/// Why, and until when, a thread sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sleep {
    pub(crate) on: WaitsFor,
    /// World time; `u64::MAX` for ever.
    pub(crate) until: u64,
}

pub(crate) struct Thread {
    pub(crate) name: String,
    /// `None`: the script.
    pub(crate) process: Option<ProcessIndex>,
    pub(crate) host: Option<HostIndex>,
    pub(crate) phase: Phase,
    pub(crate) sleep: Option<Sleep>,
    /// Whether a futex wake-up was for it.
    pub(crate) signalled: bool,
    /// Whether a signal was handled while it slept.
    pub(crate) interrupted: bool,
    /// Where it may run. Nothing else depends on it.
    pub(crate) cpus: CpuSet,
    /// Whether it has begun the call it is in: a wake-up asks again, and only the first asking can be failed.
    pub(crate) inside: bool,
    /// Instant of the `Timer` event that counts; `u64::MAX` if there is none.
    timer_at: u64,
    /// Stable: of its host, process and ordinal there.
    pub(crate) identity: u64,
    stream: Stream,
    stall: Rare,
    /// No stall before this instant, so that a thread is stalled for at most a fifth of the time; no stale event before the other.
    spared_until: u64,
    pub(crate) fresh_until: u64,
    /// How long it does not get the processor after the call that it is in.
    held_up: u64,
    /// It does not get the processor before this instant: the script has paused it.
    paused_until: u64,
    pub(crate) end: Option<ThreadEnd>,
    pub(crate) joined: bool,
    pub(crate) calls: u64,
    /// Calls made while the world ends.
    pub(crate) refusals: u32,
    /// Glances at the clock since it last gave others a chance.
    pub(crate) glances: u32,
}

/// A host, as far as processors and clocks go.
pub(crate) struct HostCpu {
    pub(crate) name: String,
    pub(crate) clocks: Clocks,
    stalled_until: u64,
    stall: Rare,
}

pub(crate) struct Scheduler {
    pub(crate) now: u64,
    pub(crate) queue: Queue<Event>,
    /// Where threads that can run are, if a strategy picks among them; else they are in the queue.
    pub(crate) turns: Option<Box<Turns>>,
    pub(crate) threads: Vec<Thread>,
    pub(crate) hosts: Vec<HostCpu>,
    /// By the index of an epoll instance's key: who sleeps on it.
    sleepers: Vec<Vec<ThreadIndex>>,
    pub(crate) choices: Choices,
    pub(crate) trace: Trace,
    pub(crate) faults: Faults,
    pub(crate) injectors: Vec<Injector>,
    pub(crate) injected: FaultCounts,
    pub(crate) sweep: Sweep,
    pub(crate) cpu: Cpu,
    /// Whether the thread whose call is served is panicking. The world cannot ask std: with the guard, that knows of the world alone.
    pub(crate) unwinding: bool,
    /// Neither faults nor stalls, for now.
    pub(crate) calm: bool,
    pub(crate) calls: u64,
    pub(crate) events: u64,
    /// How many want to know when all wait.
    pub(crate) lookers: u32,
    /// When all did, for the last time that somebody wanted to know.
    pub(crate) idle_at: u64,
}

impl Scheduler {
    pub(crate) fn new(mut choices: Choices, faults: Faults, cpu: Cpu, keep: Keep) -> Scheduler {
        let faults = faults.resolve(&mut choices);
        Scheduler {
            now: 0,
            queue: Queue::new(),
            turns: None,
            threads: Vec::new(),
            hosts: Vec::new(),
            sleepers: Vec::new(),
            choices,
            trace: Trace::new(keep),
            faults,
            injectors: Vec::new(),
            injected: FaultCounts::default(),
            sweep: Sweep::default(),
            cpu,
            unwinding: false,
            calm: false,
            calls: 0,
            events: 0,
            lookers: 0,
            idle_at: 0,
        }
    }

    pub(crate) fn add_host(&mut self, name: &str) {
        let id = self.hosts.len() as u64;
        let skewed = self.faults.has(Fault::Skew);
        let clocks = if skewed { Clocks::skewed(&mut self.choices, id) } else { Clocks::exact() };
        if skewed {
            self.injected.count(Fault::Skew);
        }
        let stall = Rare::new(
            Stream::new(Subsystem::Cpu, id << 40 | HOST),
            "host stall",
            self.cpu.stall_mean() * HOST_STALL,
        );
        self.hosts.push(HostCpu { name: name.to_owned(), clocks, stalled_until: 0, stall });
    }

    /// A thread that runs soon. `identity` is stable: of its host, process and ordinal.
    pub(crate) fn add_thread(
        &mut self,
        name: String,
        place: Option<(HostIndex, ProcessIndex)>,
        identity: u64,
    ) -> ThreadIndex {
        let index = ThreadIndex(u32::try_from(self.threads.len()).expect("fewer than 2^32 threads"));
        let stream = Stream::new(Subsystem::Cpu, identity);
        self.threads.push(Thread {
            name,
            process: place.map(|(_, process)| process),
            host: place.map(|(host, _)| host),
            phase: Phase::Asleep,
            sleep: None,
            signalled: false,
            interrupted: false,
            cpus: CPUS.into_iter().collect(),
            inside: false,
            timer_at: u64::MAX,
            identity,
            stream,
            stall: Rare::new(stream, "stall", self.cpu.stall_mean()),
            spared_until: 0,
            fresh_until: 0,
            held_up: 0,
            paused_until: 0,
            end: None,
            joined: false,
            calls: 0,
            refusals: 0,
            glances: 0,
        });
        if let Some(turns) = &mut self.turns {
            turns.born(index, identity, place.map(|(_, process)| process));
        }
        self.make_ready(index);
        index
    }

    pub(crate) fn thread(&mut self, thread: ThreadIndex) -> &mut Thread {
        &mut self.threads[thread.0 as usize]
    }

    /// The next event; time is then its instant. `None`: nothing will ever happen.
    pub(crate) fn next(&mut self) -> Option<Event> {
        if self.turns.is_some() { self.next_turn() } else { self.next_event() }
    }

    /// The next event of the queue.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let choices = &mut self.choices;
        let order = |n: usize| choices.draw(Stream::new(Subsystem::Order, 0), "order", n as u64) as usize;
        let (at, event) = self.queue.pop(order)?;
        self.events += 1;
        // Glances at the clock let time pass without giving anybody a chance, so the event may be overdue.
        self.now = self.now.max(at);
        self.choices.now = self.now;
        Some(event)
    }

    /// For how long nothing will happen: `None` for ever.
    pub(crate) fn gap(&self) -> Option<u64> {
        let turns = self.turns.as_ref().and_then(|turns| turns.next_at());
        self.queue.next_at().into_iter().chain(turns).min().map(|at| at.saturating_sub(self.now))
    }

    /// Whether `thread`, whose `Run` event has come, gets the processor; else it gets another event.
    pub(crate) fn admit(&mut self, thread: ThreadIndex) -> bool {
        let now = self.now;
        let record = &mut self.threads[thread.0 as usize];
        if record.phase != Phase::Ready {
            return false;
        }
        let host_stalls = record.host.map_or(0, |host| self.hosts[host.0 as usize].stalled_until);
        let stalled_until = record.paused_until.max(host_stalls);
        if stalled_until > now {
            self.run_at(thread, stalled_until);
            return false;
        }
        record.phase = Phase::Running;
        record.glances = 0;
        if let Some(turns) = &mut self.turns {
            turns.goes_on(thread);
        }
        true
    }

    /// The running thread makes a call. True: it goes on at once, and time has passed; false: it has an event for when it does.
    pub(crate) fn charge(&mut self, thread: ThreadIndex, call: Option<Call>) -> bool {
        if let Some(turns) = &mut self.turns {
            turns.about(thread, Kind::of(call));
        }
        self.calls += 1;
        self.threads[thread.0 as usize].calls += 1;
        self.threads[thread.0 as usize].inside = false;
        let at = self.instant_after(thread, CALL);
        let alone = self.turns.as_ref().is_none_or(|turns| turns.next_at().is_none());
        if alone && self.queue.next_at().is_none_or(|next| at < next) {
            self.now = at;
            self.choices.now = at;
            self.threads[thread.0 as usize].glances = 0;
            if let Some(turns) = &mut self.turns {
                turns.goes_on(thread);
            }
            return true;
        }
        self.threads[thread.0 as usize].phase = Phase::Ready;
        self.run_at(thread, at);
        false
    }

    /// Puts the running thread to sleep.
    pub(crate) fn sleep(&mut self, thread: ThreadIndex, sleep: Sleep) {
        let record = &mut self.threads[thread.0 as usize];
        debug_assert_eq!(record.phase, Phase::Running, "who goes to sleep was awake");
        record.phase = Phase::Asleep;
        record.sleep = Some(sleep);
        if sleep.until < record.timer_at {
            record.timer_at = sleep.until;
            self.queue.push(sleep.until, Event::Timer(thread));
        }
        if let WaitsFor::Epoll(EpollKey(key)) = sleep.on {
            let index = key.index as usize;
            if self.sleepers.len() <= index {
                self.sleepers.resize_with(index + 1, Vec::new);
            }
            self.sleepers[index].push(thread);
        }
        if self.lookers > 0 {
            self.look_around();
        }
    }

    /// A `Timer` event has come.
    pub(crate) fn timer(&mut self, thread: ThreadIndex) {
        let now = self.now;
        let record = &mut self.threads[thread.0 as usize];
        if record.timer_at > now {
            return;
        }
        record.timer_at = u64::MAX;
        let Some(sleep) = record.sleep else { return };
        if sleep.until <= now {
            self.wake_thread(thread);
        } else if sleep.until != u64::MAX {
            record.timer_at = sleep.until;
            self.queue.push(sleep.until, Event::Timer(thread));
        }
    }

    /// Wakes a thread, if it sleeps: it asks again for what it waits for.
    pub(crate) fn wake_thread(&mut self, thread: ThreadIndex) {
        if self.thread(thread).phase != Phase::Asleep {
            return;
        }
        self.leave_sleepers(thread);
        self.make_ready(thread);
    }

    /// A thread that was put to sleep goes on nevertheless, with an answer that says so.
    pub(crate) fn stay_awake(&mut self, thread: ThreadIndex) {
        self.leave_sleepers(thread);
        self.thread(thread).phase = Phase::Running;
    }

    /// The first sleeper, by age, of whom `matches` holds.
    pub(crate) fn sleeper(&self, matches: impl Fn(WaitsFor) -> bool) -> Option<ThreadIndex> {
        let asleep = |thread: &&Thread| thread.sleep.is_some_and(|sleep| matches(sleep.on));
        self.threads.iter().position(|thread| asleep(&thread)).map(|place| ThreadIndex(place as u32))
    }

    /// `sched_setaffinity(2)`: EINVAL if the host has none of these processors.
    pub(crate) fn bind(&mut self, thread: ThreadIndex, cpus: &CpuSet) -> Result<()> {
        let there = cpus.common(&CPUS.into_iter().collect());
        if there.is_empty() {
            return Err(Errno::INVAL);
        }
        self.thread(thread).cpus = there;
        Ok(())
    }

    /// A signal will come.
    pub(crate) fn send_signal(&mut self, delay: u64, process: ProcessIndex, signal: Signal) {
        self.queue.push(self.now + delay, Event::Signal(process, signal));
    }

    /// The thread will not run any more.
    pub(crate) fn kill(&mut self, thread: ThreadIndex) {
        self.leave_sleepers(thread);
        self.thread(thread).phase = Phase::Dead;
        if let Some(turns) = &mut self.turns {
            turns.forget(thread);
        }
    }

    /// The thread's sleep is over, if it has one.
    fn leave_sleepers(&mut self, thread: ThreadIndex) {
        if let Some(Sleep { on: WaitsFor::Epoll(EpollKey(key)), .. }) = self.thread(thread).sleep.take() {
            self.sleepers[key.index as usize].retain(|sleeper| *sleeper != thread);
        }
    }

    /// Whether the running thread, whose call is answered, loses the processor before it sees the answer.
    pub(crate) fn preempted(&mut self, thread: ThreadIndex) -> bool {
        let held_up = std::mem::take(&mut self.threads[thread.0 as usize].held_up);
        let stall = self.stall(thread).unwrap_or(0) + held_up;
        if stall == 0 {
            return false;
        }
        self.threads[thread.0 as usize].phase = Phase::Ready;
        self.run_at(thread, self.now + stall);
        true
    }

    /// The running thread has given the processor away, and gets it back only after a while.
    pub(crate) fn hold_up(&mut self, thread: ThreadIndex) {
        let record = &mut self.threads[thread.0 as usize];
        let length = MICROSECOND << self.choices.draw(record.stream, "preemption length", PREEMPTIONS);
        record.held_up = length;
        let (host, name, micros) = (record.host, record.name.clone(), length / MICROSECOND);
        self.inject(host, Fault::Preempt, format_args!("thread {name} is preempted for {micros} us"));
    }

    /// How processors behave from now on.
    pub(crate) fn set_cpu(&mut self, cpu: Cpu) {
        self.cpu = cpu;
        self.hosts.iter_mut().for_each(|host| host.stall.set_mean(cpu.stall_mean() * HOST_STALL));
        self.threads.iter_mut().for_each(|thread| thread.stall.set_mean(cpu.stall_mean()));
    }

    /// No processor for any thread of the host until then.
    pub(crate) fn stall_host(&mut self, host: HostIndex, until: u64) {
        let host = &mut self.hosts[host.0 as usize];
        host.stalled_until = host.stalled_until.max(until);
    }

    /// A thread does not get the processor until then.
    pub(crate) fn pause_thread(&mut self, thread: ThreadIndex, until: u64) {
        let record = self.thread(thread);
        record.paused_until = record.paused_until.max(until);
    }

    /// The wall clock of a host jumps.
    pub(crate) fn jump_clock(&mut self, host: HostIndex, forward: bool, length: Duration) {
        self.hosts[host.0 as usize].clocks.jump(forward, length);
        let way = if forward { "forwards" } else { "back" };
        self.inject(Some(host), Fault::ClockJump, format_args!("the wall clock jumps {way} by {length:?}"));
    }

    /// No stall goes on. Threads that were stalled run when their event comes.
    pub(crate) fn end_stalls(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.stalled_until = 0);
        self.threads.iter_mut().for_each(|thread| thread.paused_until = 0);
    }

    /// The name of a host, or of the script.
    pub(crate) fn host_name(&self, host: Option<HostIndex>) -> &str {
        host.map_or("script", |host| &self.hosts[host.0 as usize].name)
    }

    /// Counts a fault, and makes a line of it.
    pub(crate) fn inject(&mut self, host: Option<HostIndex>, fault: Fault, text: fmt::Arguments<'_>) {
        self.injected.count(fault);
        if self.trace.is_on() {
            self.line(host, format_args!("* {text}"));
        }
    }

    /// Makes a line of the trace. Callers ask whether the trace is on.
    pub(crate) fn line(&mut self, host: Option<HostIndex>, text: fmt::Arguments<'_>) {
        let name = host.map_or("script", |host| &self.hosts[host.0 as usize].name);
        self.trace.line((self.now, self.choices.draws()), host, name, text);
    }

    fn make_ready(&mut self, thread: ThreadIndex) {
        let at = self.instant_after(thread, WAKE) + self.stall(thread).unwrap_or(0);
        self.threads[thread.0 as usize].phase = Phase::Ready;
        self.run_at(thread, at);
    }

    /// The instant at which something that costs at least `least` is done.
    fn instant_after(&mut self, thread: ThreadIndex, least: u64) -> u64 {
        if self.threads[thread.0 as usize].process.is_none() {
            return self.now;
        }
        let soonest = self.now + least;
        let step = least / 4;
        if self.queue.next_at().is_none_or(|next| next > soonest + step * STEPS) {
            return soonest;
        }
        let stream = self.threads[thread.0 as usize].stream;
        soonest + step * self.choices.draw(stream, "cost", STEPS)
    }

    /// How long `thread` does not get the processor although it could run; mostly `None`.
    fn stall(&mut self, thread: ThreadIndex) -> Option<u64> {
        if self.cpu == Cpu::Ideal || self.calm {
            return None;
        }
        let record = &mut self.threads[thread.0 as usize];
        let host = record.host?;
        let cpu = &mut self.hosts[host.0 as usize];
        let whole_host = cpu.stall.hit(&mut self.choices);
        let alone = record.stall.hit(&mut self.choices);
        if !(whole_host || alone) || self.now < record.spared_until {
            return None;
        }
        let doublings = self.choices.draw(record.stream, "stall length", self.cpu.stall_doublings());
        let length = MILLISECOND << doublings;
        record.spared_until = self.now + 5 * length;
        if whole_host {
            cpu.stalled_until = cpu.stalled_until.max(self.now + length);
        }
        let (whom, name) =
            if whole_host { ("host", cpu.name.clone()) } else { ("thread", record.name.clone()) };
        let millis = length / MILLISECOND;
        self.inject(Some(host), Fault::Stall, format_args!("{whom} {name} stalls for {millis} ms"));
        Some(length)
    }
}

/// A whole host stalls so many times less often than a thread.
const HOST_STALL: u64 = 8;
/// Marks the identity of a host among those of threads.
const HOST: u64 = 1 << 63;

impl Env for Scheduler {
    fn now(&self) -> u64 {
        self.now
    }

    fn draw(&mut self, stream: Stream, site: &'static str, n: u64) -> u64 {
        self.choices.draw(stream, site, n)
    }

    fn after(&mut self, delay: u64, event: NetEvent) {
        self.queue.push(self.now + delay, Event::Net(event));
    }

    fn wake(&mut self, epoll: EpollKey) {
        let Some(sleepers) = self.sleepers.get_mut(epoll.0.index as usize) else { return };
        // Whoever sleeps there sleeps on this instance: the last sleeper of a closed one was told its end or is dead.
        let mut woken = std::mem::take(sleepers);
        for thread in woken.drain(..) {
            self.threads[thread.0 as usize].sleep = None;
            self.make_ready(thread);
        }
        // Making ready adds no sleeper, so the empty list can go back with its memory.
        self.sleepers[epoll.0.index as usize] = woken;
    }

    fn inject(&mut self, host: HostIndex, fault: Fault, text: fmt::Arguments<'_>) {
        Scheduler::inject(self, Some(host), fault, text);
    }

    fn note(&mut self, host: HostIndex, text: fmt::Arguments<'_>) {
        self.line(Some(host), text);
    }

    fn tracing(&self) -> bool {
        self.trace.is_on()
    }

    fn filming(&self) -> bool {
        self.trace.film.is_some()
    }

    fn film(&mut self, packet: Carried) {
        self.trace.shoot(self.now, self.choices.draws(), packet);
    }
}
