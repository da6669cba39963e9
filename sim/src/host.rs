//! Hosts: a name, addresses, clocks, and the processes that run there one after the other.
//!
//! | a host's process | by | becomes |
//! |---|---|---|
//! | none | `run`, `restart` | running |
//! | running | its main function returns | ended; its other threads are gone with it |
//! | running | `crash` | crashed: `kill -9`, and nothing of it runs again before the world's end |
//! | ended or crashed | `restart` | a new process runs the same main function |
//!
//! What a main function answers is a verdict: an error or a panic fails the world, unless the host
//! [`may_fail`](Host::may_fail).

#[cfg(feature = "tls")]
use std::any::Any;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::panic::AssertUnwindSafe;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use machinarium::kernel::Kernel;

use crate::env::{HostIndex, ProcessIndex};
use crate::fault::{Fault, Injector};
use crate::ground::Ground;
use crate::guard::locals;
use crate::kernel::SimKernel;
use crate::outside;
use crate::process::{Life, ProcessState};
use crate::report::FailureKind;
use crate::scheduler::ThreadIndex;
use crate::script::World;
use crate::signal::Signals;
use crate::thread::Strand;
use crate::tuning::Retuned;
use crate::world::{Mode, Shared, State};
use machinarium::coroutine::Spares;
use machinarium::machine::current::{self, Starter, Tuning};

/// How a main function may end: with nothing, or with an error.
pub trait Ending {
    /// The error in words, if it is one.
    fn ending(self) -> Result<(), String>;
}

impl Ending for () {
    fn ending(self) -> Result<(), String> {
        Ok(())
    }
}

impl<T, E: fmt::Debug> Ending for Result<T, E> {
    fn ending(self) -> Result<(), String> {
        self.map(drop).map_err(|error| format!("{error:?}"))
    }
}

/// What a host runs, each time that it is started.
pub(crate) type Main = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the world knows of a host beside its processors and sockets.
pub(crate) struct HostState {
    pub(crate) address: IpAddr,
    pub(crate) address6: IpAddr,
    pub(crate) may_fail: bool,
    main: Option<Main>,
    pub(crate) process: Option<ProcessIndex>,
    /// How many processes it has had.
    processes: u64,
}

/// A host of the world, in the hands of the script.
#[derive(Clone)]
pub struct Host {
    pub(crate) ground: Ground,
    pub(crate) index: HostIndex,
}

impl Host {
    pub(crate) fn new(shared: &Rc<Shared>, name: &str) -> Host {
        let mut state = shared.state.borrow_mut();
        let ordinal = u32::try_from(state.hosts.len()).expect("fewer than 2^32 hosts");
        // From the range for benchmarks (RFC 2544), which no real network routes: a program that reaches the real kernel by
        // mistake then meets nobody.
        let address = IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 1)) + ordinal));
        // The same of IPv6 (RFC 5180).
        let first = u128::from(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1));
        let address6 = IpAddr::V6(Ipv6Addr::from(first + u128::from(ordinal)));
        let index = state.net.add_host(name, &[address, address6]);
        state.sched.add_host(name);
        state.names.add_host(name, address, address6);
        state.hosts.push(HostState {
            address,
            address6,
            may_fail: false,
            main: None,
            process: None,
            processes: 0,
        });
        drop(state);
        Host { ground: Ground::Simulated(shared.clone()), index }
    }

    /// Starts a process with this main function: `machinarium::run` inside it finds the simulated kernel.
    ///
    /// `restart` calls the same function again.
    ///
    /// # Panics
    /// If the host was given a main function already.
    pub fn run<R: Ending>(self, main: impl Fn() -> R + Send + Sync + 'static) -> Host {
        self.start_with(Arc::new(move || main().ending()));
        self
    }

    /// The same with a main function that asks for its kernel, to make calls of its own.
    ///
    /// # Panics
    /// As [`run`](Host::run).
    pub fn run_on_kernel<R: Ending>(
        self,
        main: impl Fn(Rc<dyn Kernel>) -> R + Send + Sync + 'static,
    ) -> Host {
        self.start_with(Arc::new(move || main(current::kernel()).ending()));
        self
    }

    fn start_with(&self, main: Main) {
        let shared = match &self.ground {
            Ground::Simulated(shared) => shared,
            Ground::Real(real) => return real.start(self.index, main),
        };
        let mut state = shared.state.borrow_mut();
        let host = &mut state.hosts[self.index.0 as usize];
        assert!(host.main.is_none(), "a host has one main function");
        host.main = Some(main);
        shared.start_process(&mut state, self.index);
    }

    /// An error or a panic of its main function is not the world's failure.
    #[must_use = "the handle says how the process is"]
    pub fn may_fail(self) -> Host {
        match &self.ground {
            Ground::Simulated(shared) => {
                shared.state.borrow_mut().hosts[self.index.0 as usize].may_fail = true;
            }
            Ground::Real(real) => real.host(self.index).let_fail(),
        }
        self
    }

    /// Its address.
    pub fn address(&self) -> IpAddr {
        match &self.ground {
            Ground::Simulated(shared) => shared.state.borrow().hosts[self.index.0 as usize].address,
            Ground::Real(real) => real.host(self.index).address.into(),
        }
    }

    /// Its address of IPv6.
    pub fn address6(&self) -> IpAddr {
        self.simulated("Host::address6").state.borrow().hosts[self.index.0 as usize].address6
    }

    /// Its name.
    pub fn name(&self) -> String {
        match &self.ground {
            Ground::Simulated(shared) => {
                shared.state.borrow().sched.hosts[self.index.0 as usize].name.clone()
            }
            Ground::Real(real) => real.host(self.index).name.clone(),
        }
    }

    /// Whether its process has ended by itself.
    pub fn finished(&self) -> bool {
        self.life() == Some(Life::Ended)
    }

    /// Whether its process runs.
    pub fn running(&self) -> bool {
        self.life() == Some(Life::Running)
    }

    fn life(&self) -> Option<Life> {
        let shared = match &self.ground {
            Ground::Simulated(shared) => shared,
            Ground::Real(real) => return real.host(self.index).life(),
        };
        let state = shared.state.borrow();
        let process = state.hosts[self.index.0 as usize].process?;
        Some(state.processes[process.0 as usize].life)
    }

    /// `kill -9` of its process: no destructor of it runs, and its peers see what Linux would show them. What it wrote to
    /// files is there. Nothing happens if none runs.
    pub fn crash(&self) {
        if !self.running() {
            return;
        }
        let mut state = self.simulated("Host::crash").state.borrow_mut();
        let process = state.hosts[self.index.0 as usize].process.expect("a running process");
        state.crash(process);
    }

    /// The same in the place of a call of its own, after `calls` more of them: with 0, 1, 2 and so on, a crash between any two
    /// calls is tried. A call that sleeps counts at each of its wake-ups.
    pub fn crash_after(&self, calls: u64) {
        if self.running() {
            let mut state = self.simulated("Host::crash_after").state.borrow_mut();
            let process = state.hosts[self.index.0 as usize].process.expect("a running process");
            state.processes[process.0 as usize].calls_left = Some(calls);
        }
    }

    /// Pulls the plug: as a crash, but nothing more leaves the host, its peers find out by silence, and of what it wrote to files
    /// and did not sync some may be lost, or half there.
    pub fn power_off(&self) {
        let shared = self.simulated("Host::power_off");
        self.crash();
        let state = &mut *shared.state.borrow_mut();
        state.net.power_off(&mut state.sched, self.index);
    }

    /// Starts a new process with the same main function (and the host, if it was without power). One that runs is killed.
    ///
    /// # Panics
    /// If the host was never given a main function.
    pub fn restart(&self) {
        let shared = self.simulated("Host::restart");
        self.crash();
        let mut guard = shared.state.borrow_mut();
        let state = &mut *guard;
        state.net.power_on(&mut state.sched, self.index);
        if state.sched.trace.is_on() {
            state.sched.line(Some(self.index), format_args!("* a new process starts"));
        }
        shared.start_process(state, self.index);
    }

    /// No thread of it gets the processor for a while; its network stack and its clocks go on.
    pub fn pause(&self, duration: Duration) {
        let mut state = self.simulated("Host::pause").state.borrow_mut();
        let until = state.sched.now.saturating_add(nanos(duration));
        state.sched.stall_host(self.index, until);
        state.sched.inject(Some(self.index), Fault::Stall, format_args!("the host pauses for {duration:?}"));
    }

    /// The same for one thread of its process: a machine, by its name, or `main`. Whether there is such a thread.
    pub fn pause_thread(&self, name: &str, duration: Duration) -> bool {
        let mut state = self.simulated("Host::pause_thread").state.borrow_mut();
        let until = state.sched.now.saturating_add(nanos(duration));
        let Some(process) = state.running_process(self.index) else { return false };
        let threads = &state.processes[process.0 as usize].threads;
        let named = |thread: &&ThreadIndex| state.sched.threads[thread.0 as usize].name == name;
        let Some(&thread) = threads.iter().find(named) else { return false };
        state.sched.pause_thread(thread, until);
        let text = format_args!("thread {name} pauses for {duration:?}");
        state.sched.inject(Some(self.index), Fault::Stall, text);
        true
    }

    /// Its wall clock jumps forwards: certificates expire. The monotonic clock does not.
    pub fn set_clock_forward(&self, by: Duration) {
        self.simulated("Host::set_clock_forward").state.borrow_mut().sched.jump_clock(self.index, true, by);
    }

    /// Its wall clock jumps back, not further than to 1970.
    pub fn set_clock_back(&self, by: Duration) {
        self.simulated("Host::set_clock_back").state.borrow_mut().sched.jump_clock(self.index, false, by);
    }

    /// How many descriptors its running process may have (`RLIMIT_NOFILE`); a restart begins with the default, 2^20.
    pub fn limit_descriptors(&self, limit: usize) {
        let mut state = self.simulated("Host::limit_descriptors").state.borrow_mut();
        if let Some(process) = state.hosts[self.index.0 as usize].process {
            state.net.set_descriptor_limit(process, limit);
        }
    }

    /// Its sockets, as netstat shows them.
    pub fn netstat(&self) -> String {
        self.simulated("Host::netstat").state.borrow().net.netstat(self.index)
    }
}

impl World {
    /// Starts a process with a main function that runs once and need not be sent anywhere.
    pub(crate) fn run_main(&self, host: &Host, main: impl FnOnce(Rc<dyn Kernel>) + 'static) {
        let shared = self.simulated("World::run_main");
        shared.start_process_with(&mut shared.state.borrow_mut(), host.index, main);
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())
    }
}

/// Nanoseconds; a duration that has too many of them is for ever.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What the machines of a thread are told, and tell.
struct ThreadStarter {
    shared: Weak<Shared>,
    thread: ThreadIndex,
    retuned: Retuned,
}

impl Starter for ThreadStarter {
    fn retune(&self, tuning: &mut Tuning) {
        self.retuned.apply(tuning);
    }

    fn panic_lost(&self, coroutine: u64, name: &str) {
        if let Some(shared) = self.shared.upgrade().filter(|shared| shared.mode.get() == Mode::Running) {
            shared.state.borrow_mut().coroutine_panicked(self.thread, &format!("{coroutine} '{name}'"));
        }
    }

    fn abort(&self, why: &str) -> ! {
        if let Some(shared) = self.shared.upgrade() {
            shared.abort(self.thread, why);
        }
        // No world holds this thread any more, so nothing else can.
        eprintln!("machinarium-sim: {why}, outside of any world");
        std::process::abort()
    }

    fn spares(&self) -> Option<Rc<Spares>> {
        outside::try_with(|outside| outside.spares.get_or_init(Rc::default).clone())
    }

    #[cfg(feature = "tls")]
    fn crypto(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(crate::crypto::provider(self.retuned.key_update))
    }

    fn wants_secrets(&self) -> bool {
        self.shared.upgrade().is_some_and(|shared| shared.state.borrow().sched.trace.film.is_some())
    }

    fn secret(&self, line: &str) {
        if let Some(shared) = self.shared.upgrade() {
            shared.state.borrow_mut().sched.trace.secret(line.to_owned());
        }
    }

    fn foreign_crypto(&self, what: &str) {
        if let Some(shared) = self.shared.upgrade().filter(|shared| shared.mode.get() == Mode::Running) {
            let message = format!(
                "{what} has a provider of cryptography of its own, which does not draw from the seed: \
                 build it inside the process, with machinarium::tls::provider()"
            );
            shared.state.borrow_mut().fail(FailureKind::Undetermined, message, Some(self.thread));
        }
    }
}

impl State {
    /// The host's process, if one runs.
    pub(crate) fn running_process(&self, host: HostIndex) -> Option<ProcessIndex> {
        let process = self.hosts[host.0 as usize].process?;
        (self.processes[process.0 as usize].life == Life::Running).then_some(process)
    }

    /// The main thread of that process.
    pub(crate) fn running_main(&self, host: HostIndex) -> Option<ThreadIndex> {
        self.running_process(host).map(|process| self.processes[process.0 as usize].main)
    }
}

impl Shared {
    /// Starts a process of `host` with its main function.
    pub(crate) fn start_process(self: &Rc<Shared>, state: &mut State, host: HostIndex) {
        let main =
            state.hosts[host.0 as usize].main.clone().expect("a host has a main function before it starts");
        let shared = self.clone();
        self.start_process_with(state, host, move |_| {
            if let Err(error) = main() {
                shared.main_failed(error);
            }
        });
    }

    fn start_process_with(
        self: &Rc<Shared>,
        state: &mut State,
        host: HostIndex,
        main: impl FnOnce(Rc<dyn Kernel>) + 'static,
    ) {
        let process = state.net.add_process(host);
        let record = &mut state.hosts[host.0 as usize];
        let identity = u64::from(host.0) << 20 | record.processes;
        record.processes += 1;
        record.process = Some(process);
        let sched = &mut state.sched;
        let mut retuned = Retuned::draw(&sched.faults, &mut sched.choices, identity, &mut sched.injected);
        retuned.preempt |= sched.turns.is_some();
        state.sched.injectors.push(Injector::new(&state.sched.faults, identity));
        state.processes.push(ProcessState {
            host,
            main: ThreadIndex(u32::MAX),
            threads: Vec::new(),
            life: Life::Running,
            failed: false,
            calls_left: None,
            retuned,
            signals: Signals::default(),
            identity,
        });
        let thread = self.add_thread(state, process, "main", main);
        state.processes[process.0 as usize].main = thread;
    }

    /// A thread of a process that runs soon. `main` gets its kernel.
    pub(crate) fn add_thread(
        self: &Rc<Shared>,
        state: &mut State,
        process: ProcessIndex,
        name: &str,
        main: impl FnOnce(Rc<dyn Kernel>) + 'static,
    ) -> ThreadIndex {
        let record = &mut state.processes[process.0 as usize];
        let (host, identity) = (record.host, record.identity << 20 | record.threads.len() as u64);
        let thread = state.sched.add_thread(name.to_owned(), Some((host, process)), identity);
        record.threads.push(thread);
        let kernel: Rc<dyn Kernel> = Rc::new(SimKernel { shared: self.clone(), thread, process, host });
        let retuned = state.processes[process.0 as usize].retuned;
        let starter = Rc::new(ThreadStarter { shared: Rc::downgrade(self), thread, retuned });
        self.add_strand(state, thread, move || {
            current::with_kernel(kernel.clone(), starter, || main(kernel));
        });
        thread
    }

    /// The stack of a thread, on which `main` will run.
    pub(crate) fn add_strand(
        self: &Rc<Shared>,
        state: &State,
        thread: ThreadIndex,
        main: impl FnOnce() + 'static,
    ) {
        let record = &state.sched.threads[thread.0 as usize];
        let host = state.sched.host_name(record.host);
        self.pulse.name_thread(host, &record.name);
        let shared = self.clone();
        let body = Box::new(move || {
            // Whatever a panic has left half done belongs to this thread's process, which it ends or which joins it.
            let end = std::panic::catch_unwind(AssertUnwindSafe(main));
            locals::end();
            shared.thread_returned(thread, end);
        });
        let strand = Strand::new(&self.stage, &format!("{host}/{}", record.name), body);
        let mut strands = self.strands.borrow_mut();
        assert_eq!(strands.len(), thread.0 as usize, "threads and their stacks are numbered alike");
        strands.push(strand);
    }

    /// The main function of the current thread's process has answered an error.
    fn main_failed(&self, error: String) {
        let thread = self.current.get().expect("it runs");
        let mut state = self.state.borrow_mut();
        let record = state.sched.thread(thread);
        let (host, process) = record.host.zip(record.process).expect("a thread of a host");
        state.processes[process.0 as usize].failed = true;
        if self.mode.get() == Mode::Running && !state.hosts[host.0 as usize].may_fail {
            state.fail(
                FailureKind::Failed,
                format!("the main function returned an error: {error}"),
                Some(thread),
            );
        }
    }
}
