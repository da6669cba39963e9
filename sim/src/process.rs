//! Simulated processes, and the ways in which they end.
//!
//! | life | why |
//! |---|---|
//! | Running | from the start of its host's main function on |
//! | Ended | that function has returned, or panicked: its threads are stopped, and its descriptors closed as `exit` does |
//! | Crashed | it was killed, by the script, by a signal or in the place of a call, or has aborted: no destructor runs |

use crate::env::{HostIndex, ProcessIndex};
use crate::fault::Fault;
use crate::report::FailureKind;
use crate::scheduler::{Phase, ThreadIndex};
use crate::signal::Signals;
use crate::tuning::Retuned;
use crate::world::State;

/// A process of a host.
pub(crate) struct ProcessState {
    pub(crate) host: HostIndex,
    pub(crate) main: ThreadIndex,
    pub(crate) threads: Vec<ThreadIndex>,
    pub(crate) life: Life,
    /// Its main function answered an error.
    pub(crate) failed: bool,
    /// How many calls it makes before it is killed in the place of one.
    pub(crate) calls_left: Option<u64>,
    /// What its machines' tunings are changed in.
    pub(crate) retuned: Retuned,
    pub(crate) signals: Signals,
    /// Stable: its host, and which process of it.
    pub(crate) identity: u64,
}

/// How a process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    Running,
    /// Its main function returned.
    Ended,
    /// It was killed.
    Crashed,
}

impl ProcessState {
    /// Whether its end is one that cleans up.
    pub(crate) fn ends_cleanly(&self, panicked: bool) -> bool {
        !panicked && !self.failed
    }
}

impl State {
    /// The main function of a process has returned, and the process with it: its other threads are gone.
    pub(crate) fn exit(&mut self, process: ProcessIndex, clean: bool) {
        let others = self.stop_threads(process);
        self.check_joined(process);
        self.processes[process.0 as usize].life = Life::Ended;
        let left = self.net.descriptors(process);
        if clean && others == 0 && !left.is_empty() {
            let listed: Vec<String> = left.iter().map(|(fd, what)| format!("{fd} ({what})")).collect();
            let main = self.processes[process.0 as usize].main;
            let message = format!("the process ended and left descriptors open: {}", listed.join(", "));
            self.fail(FailureKind::Leak, message, Some(main));
        }
        self.net.crash_process(&mut self.sched, process);
    }

    /// A panic that no join has seen would be lost in production as well.
    pub(crate) fn check_joined(&mut self, process: ProcessIndex) {
        let process = &self.processes[process.0 as usize];
        let may_fail = self.hosts[process.host.0 as usize].may_fail;
        let lost = |thread: &&ThreadIndex| {
            let record = &self.sched.threads[thread.0 as usize];
            matches!(record.end, Some(Err(_))) && !record.joined && **thread != process.main
        };
        let Some(&thread) = process.threads.iter().find(lost).filter(|_| !may_fail) else { return };
        let said = self.last_panic(thread).map_or("", |note| &note.message);
        let message = format!("a thread panicked and nobody joined it: {said}");
        self.fail(FailureKind::Panic, message, Some(thread));
    }

    /// Counts a call down, and kills the process of `thread` in the place of the one that it was not to survive. While it
    /// panics the count stands still: no crash falls into an unwinding.
    pub(crate) fn is_last_call(&mut self, thread: ThreadIndex) -> bool {
        let Some(process) = self.sched.thread(thread).process else { return false };
        let Some(left) = &mut self.processes[process.0 as usize].calls_left else { return false };
        if self.sched.unwinding {
            return false;
        }
        let dies = *left == 0;
        *left = left.saturating_sub(1);
        if dies {
            self.crash(process);
        }
        dies
    }

    /// `kill -9`.
    pub(crate) fn crash(&mut self, process: ProcessIndex) {
        let host = self.processes[process.0 as usize].host;
        self.sched.inject(Some(host), Fault::Crash, format_args!("the process is killed"));
        self.kill(process);
    }

    /// A thread's process kills itself.
    pub(crate) fn abort(&mut self, thread: ThreadIndex, why: &str) {
        let process = self.sched.thread(thread).process.expect("only a process aborts");
        let host = self.processes[process.0 as usize].host;
        if self.sched.trace.is_on() {
            self.sched.line(Some(host), format_args!("the process aborts: {why}"));
        }
        if !self.hosts[host.0 as usize].may_fail {
            self.fail(FailureKind::Aborted, format!("the process aborts: {why}"), Some(thread));
        }
        self.kill(process);
    }

    /// No thread of it runs any more, and it has no descriptors.
    pub(crate) fn kill(&mut self, process: ProcessIndex) {
        self.stop_threads(process);
        self.processes[process.0 as usize].life = Life::Crashed;
        self.net.crash_process(&mut self.sched, process);
        self.wake_joiners(self.processes[process.0 as usize].main);
    }

    /// Stops all threads of a process that have not ended, and says how many there were.
    pub(crate) fn stop_threads(&mut self, process: ProcessIndex) -> usize {
        let threads = std::mem::take(&mut self.processes[process.0 as usize].threads);
        let mut stopped = 0;
        for &thread in &threads {
            if self.sched.thread(thread).phase != Phase::Ended {
                self.sched.kill(thread);
                stopped += 1;
            }
        }
        self.processes[process.0 as usize].threads = threads;
        stopped
    }
}
