//! The panic hook of simulations: what a simulated thread's panic said, and where, kept instead of printed.
//!
//! A hunt provokes thousands of panics, and their text belongs into one report. The hook is installed once for the
//! whole program, keeps what panics on an OS thread while a world runs there, and passes everything else on to the
//! hook that was there before.

use std::backtrace::Backtrace;
use std::fmt;
use std::panic::PanicHookInfo;
use std::sync::Once;

use machinarium::machine::current;

use crate::{outside, world};

/// What one panic said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PanicNote {
    /// Host and thread: "server/main". Empty: of the world itself.
    pub thread: String,
    /// Number and name of the coroutine of the thread's machine: "3 'reader'". Empty: in none.
    pub coroutine: String,
    /// Its message.
    pub message: String,
    /// File, line and column.
    pub location: String,
    /// The calls it came from, if they were wanted.
    pub backtrace: Option<String>,
}

impl fmt::Display for PanicNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a panic at {}", self.location)?;
        if !self.thread.is_empty() {
            write!(f, " in thread {}", self.thread)?;
        }
        if !self.coroutine.is_empty() {
            write!(f, ", coroutine {}", self.coroutine)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// What the hook does on this OS thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hook {
    /// What it did before.
    Pass,
    /// Keep the message.
    Keep,
    /// Keep the message and the backtrace.
    KeepBacktrace,
}

/// How many panics are kept: one that repeats for ever is told by its first ones.
const KEPT: usize = 100;

/// Says what the hook does on this OS thread from now on, and answers what it did.
pub(crate) fn set(hook: Hook) -> Hook {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !keep(info) {
                before(info);
            }
        }));
    });
    outside::with(|outside| outside.hook.replace(hook))
}

/// The panics since the last time.
pub(crate) fn take() -> Vec<PanicNote> {
    outside::with(|outside| outside.panics.take())
}

/// Gives back what was taken.
pub(crate) fn put_back(notes: Vec<PanicNote>) {
    outside::with(|outside| outside.panics.replace(notes));
}

/// Keeps a panic, if this OS thread's are kept.
fn keep(info: &PanicHookInfo<'_>) -> bool {
    let hook = outside::try_with(|outside| outside.hook.get()).unwrap_or(Hook::Pass);
    if hook == Hook::Pass {
        return false;
    }
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let backtrace =
        (hook == Hook::KeepBacktrace).then(|| interesting(&Backtrace::force_capture().to_string()));
    if message(info).contains("panic in a ") {
        // std is about to abort: this was a panic in a destructor that runs because of another one.
        take().into_iter().for_each(|note| eprintln!("panicked at {}: {}", note.location, note.message));
        return false;
    }
    let thread = world::current().and_then(|world| world.running_thread()).unwrap_or_default();
    let coroutine = current::with_coroutine(|id, name| format!("{id} '{name}'")).unwrap_or_default();
    let note = PanicNote { thread, coroutine, message: message(info), location, backtrace };
    outside::with(|outside| {
        let mut kept = outside.panics.borrow_mut();
        if kept.len() < KEPT {
            kept.push(note);
        }
    });
    true
}

/// A backtrace without the frames of the panic itself, and of what is below a thread's main function.
fn interesting(backtrace: &str) -> String {
    between(backtrace, &["core::panicking::", "std::panicking::"])
}

/// A backtrace from the last frame of the first of `tops` that it has, to where the world has called a main function.
pub(crate) fn between(backtrace: &str, tops: &[&str]) -> String {
    let is_frame = |line: &str| line.trim_start().starts_with(|letter: char| letter.is_ascii_digit());
    let lines: Vec<&str> = backtrace.lines().collect();
    let last_of = |name: &&str| lines.iter().rposition(|line| is_frame(line) && line.contains(*name));
    let from = tops.iter().find_map(last_of).map_or(0, |frame| frame + 1);
    let from = lines[from..].iter().position(|line| is_frame(line)).map_or(0, |offset| from + offset);
    let to =
        lines[from..].iter().position(|line| line.contains("machinarium_sim::host::")).unwrap_or(lines.len());
    lines[from..].iter().take(to).fold(String::new(), |text, line| text + line + "\n")
}

fn message(info: &PanicHookInfo<'_>) -> String {
    info.payload_as_str().unwrap_or("a value that is no text").to_owned()
}
