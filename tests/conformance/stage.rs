//! Where scenes are played: on Linux, one at a time, and in simulated hosts.
//!
//! The simulated kernel draws its answers from a set. A scene conforms if the transcript of the real kernel is one that
//! some seed draws. Delivery on real loopback is over when a call returns, unless the machine is busy: a transcript that no
//! seed draws is therefore asked for again with a pause of milliseconds after each call, on both kernels, and
//! only that one counts.

use std::net::Ipv4Addr;
use std::rc::Rc;
#[allow(clippy::disallowed_types, reason = "one scene at a time on Linux: they count descriptors")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock, PoisonError};
use std::time::Duration;

use machinarium::kernel::{Clock, Kernel, Linux};
use machinarium_sim::Simulation;

use crate::disk;
use crate::limit;
use crate::place::Places;
use crate::scene::{Scene, Tally};

/// On how many seeds a scene is played before its transcript counts as one that the simulation never gives.
const SEEDS: u64 = 12;

/// How often the script of a simulated scene looks after it.
const GLANCE: Duration = Duration::from_millis(10);

/// What is played.
pub(crate) trait Scenario: Fn(&mut Scene) + Clone + Send + Sync + 'static {}

impl<F: Fn(&mut Scene) + Clone + Send + Sync + 'static> Scenario for F {}

/// How long both kernels get after each call.
#[derive(Clone, Copy)]
struct Pace {
    linux: Duration,
    simulated: Duration,
}

const QUICK: Pace = Pace { linux: Duration::ZERO, simulated: Duration::from_micros(200) };
const SLOW: Pace = Pace { linux: Duration::from_millis(3), simulated: Duration::from_millis(3) };

#[allow(clippy::disallowed_types, reason = "see above")]
static LINUX: Mutex<()> = Mutex::new(());
/// The last address given to a scene. Each has its own, so that no port is still busy from the last one.
static ADDRESS: AtomicU64 = AtomicU64::new(0);

/// A transcript of Linux that the simulation does not give.
pub(crate) struct Difference {
    pub(crate) linux: Vec<String>,
    pub(crate) simulated: Vec<String>,
}

impl Difference {
    /// Both up to the first line that differs.
    pub(crate) fn report(&self) -> String {
        let same = self.linux.iter().zip(&self.simulated).take_while(|(a, b)| a == b).count();
        let line = |lines: &[String]| lines.get(same).cloned().unwrap_or_else(|| "nothing more".to_owned());
        let mut text: String = self.linux[..same].iter().map(|line| format!("        {line}\n")).collect();
        text += &format!("Linux:  {}\n", line(&self.linux));
        text + &format!("never:  {}\n", line(&self.simulated))
    }
}

/// Plays a scene on both kernels; answers what Linux said how often.
pub(crate) fn play(body: impl Scenario) -> Result<Tally, Difference> {
    let own = address();
    compare(own, QUICK, &body).or_else(|_| compare(own, SLOW, &body))
}

/// The next address of 127.1.1.1 to 127.250.250.250. Where a run begins depends on when, and on which process it is: ports
/// of the last minute's runs are in TIME_WAIT.
pub(crate) fn address() -> Ipv4Addr {
    static FIRST: LazyLock<u64> = LazyLock::new(|| {
        let seconds = Linux::new().clock_gettime(Clock::Realtime).as_nanos() / 1_000_000_000;
        seconds * 2_500 + u64::from(std::process::id() % 97) * 160_000
    });
    let n = *FIRST + ADDRESS.fetch_add(1, Ordering::Relaxed);
    let [a, b, c] = [n / 62_500 % 250, n / 250 % 250, n % 250].map(|part| part as u8 + 1);
    Ipv4Addr::new(127, a, b, c)
}

/// Plays a scene on both kernels, and fails with both transcripts if they differ.
pub(crate) fn check(body: fn(&mut Scene)) {
    play(body).unwrap_or_else(|difference| panic!("\n{}", difference.report()));
}

fn compare(own: Ipv4Addr, pace: Pace, body: &impl Scenario) -> Result<Tally, Difference> {
    let (linux, tally) = on_linux(own, pace.linux, body);
    let mut nearest = Vec::new();
    for seed in 0..SEEDS {
        let lines = simulated(seed, own, pace.simulated, body.clone());
        if lines == linux {
            return Ok(tally);
        }
        let like = |other: &[String]| linux.iter().zip(other).take_while(|(a, b)| a == b).count();
        if nearest.is_empty() || like(&lines) > like(&nearest) {
            nearest = lines;
        }
    }
    Err(Difference { linux, simulated: nearest })
}

/// Runs what opens files, which takes numbers of descriptors, while no scene is played.
pub(crate) fn alone<R>(work: impl FnOnce() -> R) -> R {
    let _one = LINUX.lock().unwrap_or_else(PoisonError::into_inner);
    work()
}

/// What the real kernel answers.
pub(crate) fn on_linux(own: Ipv4Addr, settle: Duration, body: &impl Fn(&mut Scene)) -> (Vec<String>, Tally) {
    let _one = LINUX.lock().unwrap_or_else(PoisonError::into_inner);
    let before = limit::get();
    let limit = Box::new(|_: &dyn Kernel, count| limit::set(count as u64));
    let directory = Places::new(own).directory();
    prepare(&directory);
    let mut scene = Scene::new(Rc::new(Linux::new()), own, settle, limit);
    body(&mut scene);
    scene.clear();
    std::fs::remove_dir_all(&directory).expect("our own");
    limit::set(before);
    (scene.lines, scene.tally)
}

/// Makes the directory of a scene, with what it finds there.
fn prepare(directory: &str) {
    for path in disk::DIRECTORIES {
        std::fs::create_dir_all(format!("{directory}/{path}")).expect("a temporary directory");
    }
    for (path, bytes) in disk::FILES {
        std::fs::write(format!("{directory}/{path}"), bytes).expect("a file there");
    }
}

/// What the simulated kernel of that seed answers.
pub(crate) fn simulated(seed: u64, own: Ipv4Addr, settle: Duration, body: impl Scenario) -> Vec<String> {
    let (wanted, transcript) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(OnceLock::new()));
    let (limit, lines) = (wanted.clone(), transcript.clone());
    let outcome = Simulation::new(seed).run(move |world| {
        let host = world.host("host");
        let directory = Places::new(own).directory();
        disk::DIRECTORIES.iter().for_each(|path| host.create_directory(&format!("{directory}/{path}")));
        disk::FILES.iter().for_each(|(path, bytes)| host.write_file(&format!("{directory}/{path}"), bytes));
        let host = host.run_on_kernel(move |kernel| {
            let limit = limit.clone();
            // The script looks after it while this thread sleeps.
            let limit = Box::new(move |kernel: &dyn Kernel, count| {
                limit.store(count, Ordering::Relaxed);
                let _ = kernel.futex_wait(&AtomicU32::new(0), 0, Some(2 * GLANCE));
            });
            let mut scene = Scene::new(kernel, own, settle, limit);
            body(&mut scene);
            scene.clear();
            lines.set(std::mem::take(&mut scene.lines)).expect("played once");
        });
        while host.running() {
            host.limit_descriptors(wanted.load(Ordering::Relaxed));
            world.sleep(GLANCE);
        }
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    transcript.get().cloned().expect("the scene has ended")
}
