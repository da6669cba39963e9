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

/// As long as this lives, panics of this OS thread are kept. One that ends it is the simulator's own, which nobody else would tell.
pub(crate) struct Keeping {
    seed: u64,
    before: Hook,
    /// What an outer world's thread has caught before it started this one, which is not this one's.
    outer: Vec<PanicNote>,
}

impl Keeping {
    pub(crate) fn begin(seed: u64, hook: Hook) -> Keeping {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(install);
        let before = outside::with(|outside| outside.hook.replace(hook));
        Keeping { seed, before, outer: take() }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let kept = outside::with(|outside| {
            outside.hook.set(self.before);
            outside.panics.replace(std::mem::take(&mut self.outer))
        });
        if std::thread::panicking() {
            eprintln!("{}", own_failure(self.seed, &kept));
        }
    }
}

fn own_failure(seed: u64, kept: &[PanicNote]) -> String {
    let mut text = format!("the simulator itself has failed, in the run of seed {seed}: please report it");
    for note in kept {
        let backtrace = note.backtrace.as_deref().unwrap_or_default();
        text += &format!("\n{note}\n{backtrace}");
    }
    text
}

/// Once for the whole program.
fn install() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !keep(info) {
            before(info);
        }
    }));
}

/// The panics since the last time.
pub(crate) fn take() -> Vec<PanicNote> {
    outside::with(|outside| outside.panics.take())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_simulator_itself_is_told_with_its_seed() {
        let unwound = std::panic::catch_unwind(|| {
            let _outer = Keeping::begin(1, Hook::Keep);
            let _inner = Keeping::begin(2, Hook::Keep);
            panic!("of its own");
        });
        assert!(unwound.is_err());
        assert_eq!(outside::with(|outside| outside.hook.get()), Hook::Pass);
        assert!(take().is_empty(), "what was kept has been told");
        let note = PanicNote {
            thread: String::new(),
            coroutine: String::new(),
            message: "of its own".to_owned(),
            location: "here".to_owned(),
            backtrace: None,
        };
        let text = own_failure(7, &[note]);
        assert!(text.contains("seed 7") && text.contains("a panic at here: of its own"), "{text}");
    }
}
