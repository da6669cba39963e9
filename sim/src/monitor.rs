//! The watch outside of all worlds: a real thread that notices when a simulated one blocks the OS thread.
//!
//! A simulated thread that takes a std `Mutex` which another one holds across a call would hang its world in silence:
//! the OS thread sleeps, and nobody is left to wake it. So each OS thread with a world has a [`Pulse`] that beats at
//! every call; the monitor, one for the whole program, looks at them ten times a second. If one has not beaten for two
//! seconds while a simulated thread held the processor, it prints who that is and how to repeat the run. Then it interrupts the
//! OS thread, which writes the record of its choices, if there is one, prints its coroutine and backtrace, and aborts.
//!
//! An OS thread that computes is given longer than one that sleeps: a hash of a gigabyte is slow, not stuck. Looks are
//! counted, not seconds, so that a debugger or a suspended laptop makes no alarm.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Once, PoisonError};
use std::time::Duration;

use machinarium::coroutine::overflow;
use machinarium::machine::current;

use crate::{outside, world};

#[allow(clippy::disallowed_types)] // the monitor is no part of any world
type Mutex<T> = std::sync::Mutex<T>;

/// What an OS thread with a world shows to the monitor.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// Calls served.
    beats: AtomicU64,
    /// A simulated thread holds the processor.
    busy: AtomicBool,
    /// Which one.
    thread: AtomicU32,
    seed: AtomicU64,
    /// The world's threads, as "host/name".
    names: Mutex<Vec<String>>,
    /// What the OS thread is called: the test's name.
    os_thread: String,
    /// Its number in the system.
    task: i32,
    /// Where the system tells how the OS thread is.
    stat: String,
}

/// All pulses. A program has few OS threads with worlds, and each keeps its own.
static PULSES: Mutex<Vec<Arc<Pulse>>> = Mutex::new(Vec::new());

const LOOK: Duration = Duration::from_millis(100);
/// How many looks an OS thread may sleep in a simulated thread: two seconds.
const ASLEEP: u32 = 20;
/// How many looks it may compute without a call: twenty seconds.
const COMPUTING: u32 = 200;

impl Pulse {
    /// The pulse of this OS thread, for a world of `seed`.
    pub(crate) fn of_this_thread(seed: u64) -> Arc<Pulse> {
        let pulse = outside::with(|outside| outside.pulse.get_or_init(Pulse::register).clone());
        pulse.seed.store(seed, Relaxed);
        lock(&pulse.names).clear();
        pulse
    }

    fn register() -> Arc<Pulse> {
        let task = std::fs::read_link("/proc/thread-self").unwrap_or_default();
        let number = task.file_name().and_then(|name| name.to_str()?.parse().ok());
        let pulse = Arc::new(Pulse {
            beats: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            thread: AtomicU32::new(0),
            seed: AtomicU64::new(0),
            names: Mutex::new(Vec::new()),
            os_thread: std::thread::current().name().unwrap_or("unnamed").to_owned(),
            task: number.unwrap_or(-1),
            stat: format!("/proc/{}/stat", task.display()),
        });
        lock(&PULSES).push(pulse.clone());
        start();
        pulse
    }

    /// A call was served. Relaxed, as all here: the monitor only compares what it saw with what it sees.
    #[inline]
    pub(crate) fn beat(&self) {
        // One writer, so no read-modify-write is needed.
        self.beats.store(self.beats.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// A simulated thread gets the processor.
    #[inline]
    pub(crate) fn enter(&self, thread: u32) {
        self.thread.store(thread, Relaxed);
        self.busy.store(true, Relaxed);
    }

    /// It is given back to the world.
    #[inline]
    pub(crate) fn leave(&self) {
        self.busy.store(false, Relaxed);
    }

    /// The next thread's name.
    pub(crate) fn name_thread(&self, host: &str, name: &str) {
        lock(&self.names).push(format!("{host}/{name}"));
    }

    /// Whether the OS thread sleeps in the kernel; `None` if it is gone.
    fn sleeps(&self) -> Option<bool> {
        let stat = std::fs::read_to_string(&self.stat).ok()?;
        // The name, in parentheses, may hold anything; the state is the first letter behind the last of them.
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        Some(state != 'R')
    }

    #[cold]
    fn alarm(&self, sleeps: bool) -> ! {
        let thread = self.thread.load(Relaxed);
        let names = lock(&self.names);
        let who = names.get(thread as usize).map_or("a simulated thread", String::as_str);
        let (seed, test) = (self.seed.load(Relaxed), &self.os_thread);
        let how = if sleeps { "sleeps in the operating system" } else { "computes" };
        eprintln!(
            "machinarium-sim: {who} has made no call of its kernel for {} seconds, and {how}.\n\
             All threads of a world share one OS thread. Does it hold or take a std Mutex across a call, or wait for \
             something outside of the simulation?\n\
             reproduce: MACHINARIUM_SEED={seed:#x} cargo test {test}",
            if sleeps { ASLEEP } else { COMPUTING } / 10,
        );
        overflow::abort_with(self.task, tell);
    }
}

/// On the OS thread that is stuck, in a signal handler: what its world has to say. Whatever goes wrong here, an alarm ends it.
fn tell(out: &mut dyn fmt::Write) {
    let world = world::current();
    let record = world.as_ref().and_then(|world| world.state.try_borrow().ok()?.sched.choices.kept());
    if let Some(record) = record {
        let name = outside::with(|outside| outside.pulse.get().map(|pulse| pulse.os_thread.clone()));
        let saved = record.save(name.as_deref().unwrap_or("world"));
        let _ = writeln!(out, "its choices until now: {saved}");
    }
    let coroutine = current::with_coroutine(|id, name| writeln!(out, "coroutine {id} '{name}' is at"));
    if coroutine.is_none() {
        let _ = writeln!(out, "no coroutine of a machine; it is at");
    }
    // The process ends here, so nothing is given back.
    std::mem::forget(world);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let spawned = std::thread::Builder::new().name("machinarium-sim monitor".to_owned()).spawn(watch);
        if let Err(error) = spawned {
            eprintln!("machinarium-sim: no monitor, a blocked simulation will hang: {error}");
        }
    });
}

/// What the monitor knows of one pulse.
struct Seen {
    pulse: Arc<Pulse>,
    beats: u64,
    asleep: u32,
    computing: u32,
}

fn watch() {
    let mut seen: Vec<Seen> = Vec::new();
    loop {
        #[allow(clippy::disallowed_methods)] // a real thread, outside of all worlds
        std::thread::sleep(LOOK);
        for pulse in lock(&PULSES).drain(..) {
            seen.push(Seen { pulse, beats: 0, asleep: 0, computing: 0 });
        }
        seen.retain_mut(Seen::look);
    }
}

impl Seen {
    /// Looks once. False: the OS thread is gone.
    fn look(&mut self) -> bool {
        let beats = self.pulse.beats.load(Relaxed);
        if beats != self.beats || !self.pulse.busy.load(Relaxed) {
            (self.beats, self.asleep, self.computing) = (beats, 0, 0);
            // The monitor holds one reference and the OS thread the other.
            return Arc::strong_count(&self.pulse) > 1;
        }
        match self.pulse.sleeps() {
            None => return false,
            Some(true) => self.asleep += 1,
            Some(false) => self.computing += 1,
        }
        if self.asleep >= ASLEEP || self.computing >= COMPUTING {
            self.pulse.alarm(self.asleep >= ASLEEP);
        }
        true
    }
}
