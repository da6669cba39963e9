//! What the programs share: a host or two to run on, dice, a plain lock, threads on the bare kernel.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::PoisonError;
use std::time::Duration;

use machinarium::kernel::{
    EpollEvent, Errno, Fd, Kernel, RecvFlags, Result, SendFlags, Thread, ThreadOptions,
};
use machinarium::net::{TcpListener, TcpStream};
use machinarium_sim::World;

/// Held for a look, never across a call or a point.
#[allow(clippy::disallowed_types, reason = "never held across a call of the kernel")]
#[derive(Default)]
pub(crate) struct Plain<T>(std::sync::Mutex<T>);

impl<T> Plain<T> {
    pub(crate) fn new(value: T) -> Plain<T> {
        Plain(value.into())
    }

    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Numbers of a program's own, drawn from one of its world's.
pub(crate) struct Dice(Cell<u64>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(Cell::new(seed))
    }

    /// A number below `n`. SplitMix64.
    pub(crate) fn below(&self, n: u64) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut mixed = self.0.get();
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % n
    }

    /// So many microseconds, fewer than `n`.
    pub(crate) fn micros(&self, n: u64) -> Duration {
        Duration::from_micros(self.below(n))
    }

    /// Sleeps for fewer than `n` microseconds.
    pub(crate) fn nap(&self, n: u64) {
        machinarium::sleep(self.micros(n)).unwrap();
    }

    /// Dice for another coroutine or machine.
    pub(crate) fn another(&self) -> Dice {
        Dice::new(self.below(u64::MAX))
    }
}

/// Runs a program that is one process, to its end.
pub(crate) fn alone(world: &World, main: impl Fn(Dice) -> io::Result<()> + Send + Sync + 'static) {
    let seed = world.random(u64::MAX);
    let host = world.host("host").run(move || machinarium::run(|| main(Dice::new(seed))));
    world.join(&host);
}

/// The same on the bare kernel.
pub(crate) fn bare(world: &World, main: impl Fn(Rc<dyn Kernel>, Dice) + Send + Sync + 'static) {
    let seed = world.random(u64::MAX);
    let host = world.host("host").run_on_kernel(move |kernel| main(kernel, Dice::new(seed)));
    world.join(&host);
}

/// Runs the two ends of one connection on two hosts, which must come to their ends.
pub(crate) fn pair(
    world: &World,
    server: impl Fn(TcpStream, Dice) -> io::Result<()> + Send + Sync + 'static,
    client: impl Fn(TcpStream, Dice) -> io::Result<()> + Send + Sync + 'static,
) {
    let (theirs, ours) = (world.random(u64::MAX), world.random(u64::MAX));
    let serving = world.host("server").run(move || {
        machinarium::run(|| server(TcpListener::bind("0.0.0.0:7000")?.accept()?.0, Dice::new(theirs)))
    });
    let asking = world.host("client").run(move || {
        machinarium::run(|| {
            machinarium::sleep(Duration::from_millis(10))?;
            client(TcpStream::connect("server:7000")?, Dice::new(ours))
        })
    });
    // An end that is stuck still has its connection, whose probes go on for ever.
    world.sleep(Duration::from_secs(1));
    world.eventually(Duration::from_secs(30), || serving.finished() && asking.finished());
}

/// A thread on the bare kernel.
pub(crate) fn thread(kernel: &dyn Kernel, main: impl FnOnce(Rc<dyn Kernel>) + Send + 'static) -> Thread {
    kernel.spawn(&ThreadOptions::default(), Box::new(main)).unwrap()
}

/// Lets the time of a thread on the bare kernel pass.
pub(crate) fn pause(kernel: &dyn Kernel, duration: Duration) {
    let _ = kernel.futex_wait(&0.into(), 0, Some(duration));
}

/// Waits for events.
pub(crate) fn events(kernel: &dyn Kernel, epoll: Fd) -> Vec<EpollEvent> {
    let mut events = [EpollEvent::default(); 8];
    loop {
        match kernel.epoll_wait(epoll, &mut events, None) {
            Err(Errno::INTR) => {}
            count => return events[..count.unwrap()].to_vec(),
        }
    }
}

/// Reads what is there, at most 4 KiB; `None`: nothing is.
pub(crate) fn receive(kernel: &dyn Kernel, fd: Fd) -> Option<Vec<u8>> {
    let mut buf = [0; 4096];
    let count = attempt(|| kernel.recv(fd, &mut buf, RecvFlags::default()))?;
    Some(buf[..count].to_vec())
}

/// Writes what there is room for; `None`: there is none.
pub(crate) fn send(kernel: &dyn Kernel, fd: Fd, bytes: &[u8]) -> Option<usize> {
    attempt(|| kernel.send(fd, bytes, SendFlags::default()))
}

fn attempt<T>(mut call: impl FnMut() -> Result<T>) -> Option<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return None,
            done => return Some(done.unwrap()),
        }
    }
}
