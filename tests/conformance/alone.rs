//! Conformance of what needs a process of its own, because it ends it, or needs its main thread, on which the test harness runs
//! nothing: so this is a test program without the harness. On Linux it starts itself again for each body.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::rc::Rc;
#[allow(clippy::disallowed_types, reason = "what a process has said when it is killed")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use machinarium::kernel::{
    Caught, EpollEvent, EpollOp, Errno, Events, Fd, Kernel, Linux, Result, SigAction, Signal, Thread,
    ThreadOptions,
};
use machinarium_sim::Simulation;

/// Where a line goes.
type Say<'a> = &'a dyn Fn(String);
type Body = fn(Rc<dyn Kernel>, Say<'_>);

const BODIES: [(&str, Body); 3] = [
    ("a_sleep_is_interrupted", a_sleep_is_interrupted),
    ("another_threads_is_not", another_threads_is_not),
    ("a_default_kills", a_default_kills),
];
/// Names the body that the process started again plays.
const PLAY: &str = "MACHINARIUM_ALONE";
/// Before each line of it.
const MARK: &str = "said: ";

const MOMENT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(5);

fn main() {
    match std::env::var(PLAY) {
        Ok(wanted) => play(&wanted),
        Err(_) => BODIES.into_iter().for_each(compare),
    }
}

fn play(wanted: &str) {
    let (_, body) = BODIES.into_iter().find(|(name, _)| *name == wanted).expect("a body");
    body(Rc::new(Linux::new()), &|line| println!("{MARK}{line}"));
}

fn compare((name, body): (&'static str, Body)) {
    let linux = on_linux(name);
    assert!(!linux.lines.is_empty(), "{name} says nothing");
    assert_eq!(simulated(body), linux, "{name}: the simulation, and Linux");
    println!("{name}: as on Linux, {} lines", linux.lines.len());
}

struct Watched {
    epoll: Fd,
    caught: Arc<Caught>,
}

fn watched(kernel: &dyn Kernel) -> Watched {
    let (epoll, event) = (kernel.epoll_create1().unwrap(), kernel.eventfd(0).unwrap());
    let event_of = EpollEvent { events: Events::IN, data: 0 };
    kernel.epoll_ctl(epoll, EpollOp::Add(event_of), event).unwrap();
    let caught = Arc::new(Caught::new(kernel.share(event)));
    kernel.sigaction(Signal::Usr1, SigAction::Catch, &caught).unwrap();
    Watched { epoll, caught }
}

impl Watched {
    fn wait(&self, kernel: &dyn Kernel, timeout: Duration) -> Result<usize> {
        kernel.epoll_wait(self.epoll, &mut [EpollEvent::default(); 4], Some(timeout))
    }

    fn end(self, kernel: &dyn Kernel) {
        kernel.sigaction(Signal::Usr1, SigAction::Ignore, &self.caught).unwrap();
        drop(self.caught);
        kernel.close(self.epoll).unwrap();
    }
}

fn sleep(kernel: &dyn Kernel, time: Duration) {
    assert_eq!(kernel.futex_wait(&AtomicU32::new(0), 0, Some(time)), Err(Errno::TIMEDOUT));
}

/// A thread that sends SIGUSR1 in a moment.
fn sender(kernel: &dyn Kernel, then: impl FnOnce(&dyn Kernel) + Send + 'static) -> Thread {
    let main = move |kernel: Rc<dyn Kernel>| {
        sleep(&*kernel, MOMENT);
        kernel.kill(Signal::Usr1).unwrap();
        then(&*kernel);
    };
    kernel.spawn(&ThreadOptions::default(), Box::new(main)).unwrap()
}

/// The main thread handles a signal, which ends some sleeps and not others.
fn a_sleep_is_interrupted(kernel: Rc<dyn Kernel>, say: Say<'_>) {
    let (kernel, watched) = (&*kernel, watched(&*kernel));
    let thread = sender(kernel, |_| ());
    say(format!("epoll_wait: {:?}", watched.wait(kernel, LONG)));
    say(format!("and again: {:?}", watched.wait(kernel, LONG)));
    say(format!("read: {:?}", kernel.read(watched.caught.fd(), &mut [0; 8])));
    say(format!("caught: {:?}", watched.caught.take()));
    kernel.join(thread).unwrap();

    let thread = sender(kernel, |_| ());
    let word = Arc::new(AtomicU32::new(0));
    say(format!("futex_wait with a timeout: {:?}", kernel.futex_wait(&word, 0, Some(LONG))));
    kernel.join(thread).unwrap();

    let theirs = word.clone();
    let thread = sender(kernel, move |kernel| {
        sleep(kernel, MOMENT);
        theirs.store(1, SeqCst);
        kernel.futex_wake(&theirs, 1);
    });
    say(format!("futex_wait without: {:?}, word {}", kernel.futex_wait(&word, 0, None), word.load(SeqCst)));
    kernel.join(thread).unwrap();

    // A join is not interrupted, nor is a thread that does not sleep when the signal comes.
    kernel.join(sender(kernel, |_| ())).unwrap();
    say(format!("caught: {:?}", watched.caught.take()));
    while kernel.read(watched.caught.fd(), &mut [0; 8]).is_ok() {}
    kernel.kill(Signal::Usr1).unwrap();
    say(format!("at once: {:?}", watched.wait(kernel, LONG)));
    say(format!("caught: {:?}", watched.caught.take()));
    watched.end(kernel);
}

/// Whether the main thread sleeps or not, no other one is asked to handle a signal.
fn another_threads_is_not(kernel: Rc<dyn Kernel>, say: Say<'_>) {
    let (kernel, watched) = (&*kernel, watched(&*kernel));
    let slept = Arc::new(AtomicU32::new(7));
    let told = slept.clone();
    let sleeper = move |kernel: Rc<dyn Kernel>| {
        let epoll = kernel.epoll_create1().unwrap();
        let answer = kernel.epoll_wait(epoll, &mut [EpollEvent::default()], Some(4 * MOMENT));
        told.store(u32::from(answer != Ok(0)), SeqCst);
        kernel.close(epoll).unwrap();
    };
    let sleeper = kernel.spawn(&ThreadOptions::default(), Box::new(sleeper)).unwrap();
    kernel.join(sender(kernel, |_| ())).unwrap();
    kernel.join(sleeper).unwrap();
    say(format!("interrupted: {}", slept.load(SeqCst)));
    watched.end(kernel);
}

fn a_default_kills(kernel: Rc<dyn Kernel>, say: Say<'_>) {
    for signal in [Signal::Chld, Signal::Cont, Signal::Winch] {
        say(format!("{signal}: {:?}", kernel.kill(signal)));
    }
    sleep(&*kernel, MOMENT);
    say("still there".to_owned());
    say(format!("{}: {:?}", Signal::Term, kernel.kill(Signal::Term)));
}

/// What was said, and the signal that ended the process.
#[derive(PartialEq, Debug)]
struct Story {
    lines: Vec<String>,
    killer: Option<i32>,
}

fn on_linux(name: &str) -> Story {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).env(PLAY, name).output().expect("it starts again");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|line| line.split_once(MARK)).map(|(_, line)| line.to_owned());
    let killer = output.status.signal();
    assert!(killer.is_some() || output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Story { lines: lines.collect(), killer }
}

#[allow(clippy::disallowed_types, reason = "what a process has said when it is killed")]
fn simulated(body: Body) -> Story {
    let said = Arc::new(Mutex::new(Story { lines: Vec::new(), killer: None }));
    let story = said.clone();
    let outcome = Simulation::new(1).run(move |world| {
        let lines = said.clone();
        let host = world.host("host").run_on_kernel(move |kernel| {
            body(kernel, &|line| lines.lock().unwrap_or_else(PoisonError::into_inner).lines.push(line));
        });
        world.join(&host);
        let killer = host.killed_by().map(Signal::number);
        said.lock().unwrap_or_else(PoisonError::into_inner).killer = killer;
    });
    // What a killed process says while it is reclaimed was not said in its life.
    assert!(outcome.passed(), "{}", outcome.report(""));
    let mut story = story.lock().unwrap_or_else(PoisonError::into_inner);
    story.lines.retain(|line| !line.contains("ECANCELED"));
    Story { lines: std::mem::take(&mut story.lines), killer: story.killer }
}
