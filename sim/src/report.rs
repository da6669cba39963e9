//! What is said of a run that failed: one screen that explains it and says how to see it again.
//!
//! In this order: what failed, where and when; how to reproduce it; a table of the last events with one column for each
//! host; who waits for what; the sockets. It is made when the verdict falls, before anything is reclaimed.

use std::fmt::{self, Write as _};
use std::time::Duration;

use machinarium::kernel::Instant;

use crate::env::{HostIndex, ProcessIndex};
use crate::panics::{self, PanicNote};
use crate::process::Life;
use crate::scheduler::Phase;
use crate::thread::Strand;
use crate::trace::Line;
use crate::world::{Shared, State};

/// What went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// A panic of a main function, of the script, or one that nobody joined.
    Panic,
    /// A main function returned an error.
    Failed,
    /// A process aborted.
    Aborted,
    /// Nothing can run and nothing will ever happen.
    Stuck,
    /// Some wait for each other in a circle.
    Deadlock,
    /// Calls are made without end, and nothing moves by them.
    Livelock,
    /// One waits for its turn at something all the time, and others have theirs.
    Starvation,
    /// What should hold eventually holds, but later.
    TooSlow,
    /// What should hold eventually does not, and none of the above is why.
    Unmet,
    /// The run does not end.
    Endless,
    /// A coroutine sleeps although the descriptor that it waits for is ready.
    LostWakeUp,
    /// Something was left behind at the end.
    Leak,
    /// Something that the seed does not determine was used.
    Undetermined,
    /// What `machinarium::always!` says did not hold.
    Broken,
}

/// The verdict over a run that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// In words.
    pub message: String,
    /// On which host; empty for none.
    pub host: String,
    /// In which of its threads.
    pub thread: String,
    /// When, in virtual time.
    pub at: Duration,
    /// The panic that it was.
    pub panic: Option<PanicNote>,
    /// The calls that it came from, if it was no panic, and if they were wanted.
    pub backtrace: Option<String>,
}

impl Failure {
    /// Whether two runs failed in the same way: the same kind on the same host, at the same place of the code, with the same words.
    pub fn is_like(&self, other: &Failure) -> bool {
        let place = |failure: &Failure| failure.panic.as_ref().map(|panic| panic.location.clone());
        self.kind == other.kind
            && place(self) == place(other)
            && self.host == other.host
            && class(&self.message) == class(&other.message)
    }
}

/// A message without what differs from run to run: its first line, each number and each quotation as one sign.
pub(crate) fn class(message: &str) -> String {
    let mut class = String::new();
    let mut letters = message.lines().next().unwrap_or_default().chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                letters.by_ref().find(|letter| *letter == '"');
                class.push('"');
            }
            '0'..='9' => {
                while letters.next_if(|letter| letter.is_ascii_alphanumeric() || *letter == '.').is_some() {}
                class.push('#');
            }
            other => class.push(other),
        }
    }
    class
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(panic) = &self.panic {
            write!(f, "panicked at {}: ", panic.location)?;
        }
        f.write_str(&self.message)?;
        if !self.thread.is_empty() {
            write!(f, "\n  on {}, thread {}", self.host, self.thread)?;
            if let Some(panic) = self.panic.as_ref().filter(|panic| !panic.coroutine.is_empty()) {
                write!(f, ", coroutine {}", panic.coroutine)?;
            }
        }
        write!(f, "\n  after {} s of virtual time", seconds(self.at))
    }
}

/// What a coroutine of a simulated thread waits for, as its machine tells it.
pub(crate) struct Waiting {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) waits_for: String,
    /// Of its host's monotonic clock.
    pub(crate) deadline: Option<Instant>,
    pub(crate) backtrace: Option<String>,
}

/// How many events it shows at most.
const TABLE: usize = 100;
/// The widest a report gets.
const WIDTH: usize = 150;

/// The part of the report that is made before the world is reclaimed: events, waiters, sockets.
pub(crate) fn scene(shared: &Shared, lines: &[Line]) -> String {
    let mut text = String::new();
    let strands = shared.strands.borrow().clone();
    let described: Vec<Described> = strands.iter().map(|strand| describe(strand)).collect();
    let state = shared.state.borrow();
    table(&mut text, &state, &lines[lines.len().saturating_sub(TABLE)..]);
    waiters(&mut text, &state, &described);
    let _ = write!(text, "\nwho waits for whom:\n{}", shared.waits(&state).text());
    ready(&mut text, &state);
    for host in 0..state.hosts.len() as u32 {
        let host = HostIndex(host);
        let sockets = state.net.netstat(host);
        if sockets.lines().count() > 1 {
            let _ = write!(text, "\nsockets of {}:\n{sockets}", state.net.hosts[host.0 as usize].name);
        }
    }
    text
}

/// What a thread does.
#[derive(Default)]
struct Described {
    coroutines: Vec<Waiting>,
    /// Where all of it stands.
    stands: Option<String>,
}

/// A machine that is broken must not cost us the rest of the report.
fn describe(strand: &Strand) -> Described {
    if strand.has_ended() || strand.is_fresh() {
        return Described::default();
    }
    let coroutines = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| strand.describe()));
    let stands = strand.stands.borrow();
    let stands = stands.as_ref().map(|backtrace| panics::between(&backtrace.to_string(), &["syscall"]));
    Described { coroutines: coroutines.unwrap_or_default(), stands }
}

/// The last events, in one column for each host that has some.
fn table(text: &mut String, state: &State, lines: &[Line]) {
    if lines.is_empty() {
        return;
    }
    let mut columns: Vec<Option<HostIndex>> = lines.iter().map(|line| line.host).collect();
    columns.sort_unstable();
    columns.dedup();
    let width = (WIDTH.saturating_sub(15) / columns.len()).clamp(24, 70);
    let _ = writeln!(text, "\nthe last {} events:", lines.len());
    let _ = write!(text, "{:>13} ", "time (s)");
    for host in &columns {
        let _ = write!(text, "| {:<1$}", state.sched.host_name(*host), width - 2);
    }
    text.push('\n');
    for line in lines {
        let column = columns.iter().position(|host| *host == line.host).unwrap_or(0);
        let _ = write!(text, "{:>13} ", seconds(Duration::from_nanos(line.at)));
        for place in 0..=column {
            let cell = if place == column { cut(&line.text, width - 2) } else { "" };
            let _ = write!(text, "| {cell:<0$}", width - 2);
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
}

/// Every thread that has not ended, with its coroutines and what they wait for.
fn waiters(text: &mut String, state: &State, described: &[Described]) {
    let _ = writeln!(text, "\nthreads:");
    for (thread, Described { coroutines, stands }) in state.sched.threads.iter().zip(described) {
        if thread.phase == Phase::Ended {
            continue;
        }
        let host = state.sched.host_name(thread.host);
        let _ = write!(text, "  {host}/{}: ", thread.name);
        let _ = match (thread.phase, thread.sleep) {
            (Phase::Asleep, Some(sleep)) if sleep.until == u64::MAX => {
                writeln!(text, "{}, for ever", sleep.on)
            }
            (Phase::Asleep, Some(sleep)) => {
                writeln!(text, "{}, until {}", sleep.on, seconds(Duration::from_nanos(sleep.until)))
            }
            (Phase::Dead, _) => writeln!(text, "killed"),
            (phase, _) => writeln!(text, "{}", format!("{phase:?}").to_lowercase()),
        };
        stands.iter().for_each(|backtrace| indented(text, backtrace));
        coroutines.iter().for_each(|info| coroutine(text, info));
    }
}

/// What epoll would tell of each descriptor: one that is ready while its reader waits has lost an event.
fn ready(text: &mut String, state: &State) {
    for (index, process) in
        state.processes.iter().enumerate().filter(|(_, process)| process.life == Life::Running)
    {
        let index = ProcessIndex(index as u32);
        let descriptors = state.net.descriptors(index);
        if !descriptors.is_empty() {
            let _ = writeln!(text, "\ndescriptors of {}:", state.sched.host_name(Some(process.host)));
        }
        for (fd, what) in descriptors {
            if let Ok(events) = state.net.readiness(index, fd) {
                let _ = writeln!(text, "  {fd}: {what}, ready for {events:?}");
            }
        }
    }
}

fn coroutine(text: &mut String, info: &Waiting) {
    let _ = write!(text, "    coroutine {}", info.id);
    if !info.name.is_empty() {
        let _ = write!(text, " '{}'", info.name);
    }
    let _ = write!(text, ": {}", info.state);
    if !info.waits_for.is_empty() {
        let _ = write!(text, ", {}", info.waits_for);
    }
    if let Some(deadline) = info.deadline {
        let _ = write!(text, ", until {} of its clock", seconds(deadline - Instant::from_nanos(0)));
    }
    text.push('\n');
    info.backtrace.iter().for_each(|backtrace| indented(text, backtrace));
}

fn indented(text: &mut String, backtrace: &str) {
    for line in backtrace.lines() {
        let _ = writeln!(text, "      {line}");
    }
}

/// At most `width` characters of `text`.
fn cut(text: &str, width: usize) -> &str {
    text.char_indices().nth(width).map_or(text, |(end, _)| &text[..end])
}

/// Seconds with microseconds, as one column.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{}.{:06}", duration.as_secs(), duration.subsec_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_alike_but_for_numbers_and_quotations() {
        assert_eq!(
            class("client 3 lost \"key17\" after 1.5s\nleft: 1"),
            class("client 12 lost \"key\" after 20ms")
        );
        assert_ne!(class("client 3 lost a key"), class("client 3 found a key"));
    }
}
