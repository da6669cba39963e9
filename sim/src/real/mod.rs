//! The same script on real Linux: hosts are real threads, and their network is the loopback.
//!
//! `MACHINARIUM_BACKEND=real` makes a check run its script once like that, so that what was found, or was not found, in
//! simulated worlds can be seen on the kernel that production has.
//!
//! | in the script | on real Linux |
//! |---|---|
//! | `host`, `run`, `join`, `finished`, `running`, `address` | each host has an address of 127.0.0.0/8, a directory for its files, and a thread for its main function |
//! | `sleep`, `now`, `eventually` | real time |
//! | `random`, `seed` | of `MACHINARIUM_SEED`, or 1 |
//! | `faults`, `cpu`, `link`, `heal`, `note` | nothing: Linux is as it is |
//! | everything else: partitions, crashes, pauses, clocks, names, disks | the script ends there, with a note that says which call it was |
//!
//! A main function that fails ends the script, as in a simulation. When the script has ended, the kernels of hosts that still run
//! answer `ECANCELED` where they would wait, which is how simulated processes are reclaimed too.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // real threads and real time

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::choice::Choices;
use crate::dns::Names;
use crate::env::HostIndex;
use crate::ground::Ground;
use crate::host::Main;
use crate::script::World;

mod host;
mod kernel;

use host::RealHost;

/// The world of a script on real Linux.
pub(crate) struct Loopback {
    begun: Instant,
    pub(crate) choices: RefCell<Choices>,
    hosts: RefCell<Vec<Arc<RealHost>>>,
    network: Arc<Network>,
}

/// What the threads of all hosts share.
struct Network {
    /// The hosts of this network, above it.
    address: u32,
    names: Mutex<Names>,
    /// Where the directories of hosts are.
    files: PathBuf,
    /// The script has ended, and hosts should.
    over: AtomicBool,
    /// The first failure of a host.
    failure: Mutex<Option<String>>,
    /// A host has ended, well or not.
    ended: Condvar,
}

/// How a script has ended that did not come to its end.
enum Cut {
    /// It wants what only a simulation can do.
    OnlySimulated(&'static str),
    /// A host has failed.
    Failed,
}

/// For how long hosts are waited for after the script's end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the script once, and fails as a test does.
///
/// # Panics
/// If the script does, or answers an error, or a host fails.
pub(crate) fn run(name: &str, seed: u64, script: &dyn Fn(&World) -> Result<(), String>) {
    let real = Rc::new(Loopback::new(seed));
    let world = World { ground: Ground::Real(real.clone()), seed };
    let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| script(&world)));
    let left = real.tear_down();
    if let Some(failure) = lock(&real.network.failure).take() {
        panic!("on real Linux, {failure}");
    }
    match end {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("on real Linux, the script returned an error: {error}"),
        Err(payload) => match payload.downcast::<Cut>().map(|cut| *cut) {
            Ok(Cut::OnlySimulated(call)) => tell(&format!(
                "{name}: {call} is only simulated, so on real Linux (MACHINARIUM_BACKEND=real) the script ends there"
            )),
            Ok(Cut::Failed) => unreachable!("a failure was noted before"),
            Err(payload) => std::panic::resume_unwind(payload),
        },
    }
    if !left.is_empty() {
        tell(&format!("{name}: these hosts have not ended, and run on: {}", left.join(", ")));
    }
}

/// A note for people, which the test harness does not swallow.
pub(crate) fn tell(note: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "machinarium-sim: {note}");
}

impl Loopback {
    fn new(seed: u64) -> Loopback {
        static WORLDS: AtomicU32 = AtomicU32::new(0);
        // Tests and worlds that run at the same time should not meet: 65,536 networks of 254 hosts, of which no one is the
        // usual 127.0.0.1's.
        let (process, world) = (std::process::id(), WORLDS.fetch_add(1, Relaxed));
        let number = 1 + (process.wrapping_mul(257).wrapping_add(world)) % 0xffff;
        let network = Network {
            address: u32::from(Ipv4Addr::new(127, 0, 0, 0)) + (number << 8),
            names: Mutex::new(Names::default()),
            files: std::env::temp_dir().join(format!("machinarium-{process}-{world}")),
            over: AtomicBool::new(false),
            failure: Mutex::new(None),
            ended: Condvar::new(),
        };
        Loopback {
            begun: Instant::now(),
            choices: RefCell::new(Choices::new(seed)),
            hosts: RefCell::default(),
            network: Arc::new(network),
        }
    }

    pub(crate) fn add_host(&self, name: &str) -> HostIndex {
        let mut hosts = self.hosts.borrow_mut();
        let index = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
        assert!(index < 254, "on real Linux a world has at most 254 hosts");
        let host = RealHost::new(name, index, &self.network);
        lock(&self.network.names).set(name, vec![host.address.into()]);
        hosts.push(Arc::new(host));
        HostIndex(index)
    }

    pub(crate) fn host(&self, index: HostIndex) -> Arc<RealHost> {
        self.hosts.borrow()[index.0 as usize].clone()
    }

    pub(crate) fn start(&self, index: HostIndex, main: Main) {
        RealHost::start(&self.host(index), main);
    }

    /// What only a simulation can do ends the script.
    pub(crate) fn end_of_script(&self, call: &'static str) -> ! {
        std::panic::resume_unwind(Box::new(Cut::OnlySimulated(call)))
    }

    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn sleep(&self, duration: Duration) {
        let end = Instant::now().checked_add(duration);
        self.wait_until(end, || false);
    }

    pub(crate) fn join(&self, index: HostIndex) {
        let host = self.host(index);
        self.wait_until(None, || !host.runs());
    }

    /// Waits until `end`, or until `holds`, which only the end of a host can change. Ends the script if a host fails.
    fn wait_until(&self, end: Option<Instant>, holds: impl Fn() -> bool) {
        let mut failure = lock(&self.network.failure);
        while !holds() {
            if failure.is_some() {
                drop(failure);
                std::panic::resume_unwind(Box::new(Cut::Failed));
            }
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return;
            }
            let waited = self.network.ended.wait_timeout(failure, left);
            failure = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Asks all hosts to end, and waits for them. The names of those that do not.
    fn tear_down(&self) -> Vec<String> {
        self.network.over.store(true, Relaxed);
        let end = Instant::now() + PATIENCE;
        let mut failure = lock(&self.network.failure);
        let runs = |host: &Arc<RealHost>| host.runs();
        while self.hosts.borrow().iter().any(runs) && Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            let waited = self.network.ended.wait_timeout(failure, left);
            failure = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(failure);
        let left: Vec<String> =
            self.hosts.borrow().iter().filter(|host| runs(host)).map(|host| host.name.clone()).collect();
        if left.is_empty() {
            // It is there only if a host has a file.
            let _ = std::fs::remove_dir_all(&self.network.files);
        }
        left
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
