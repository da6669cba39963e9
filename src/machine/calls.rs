//! The calls a suspended coroutine stands in, as its user knows them: without those of the machine that led from the last of his into
//! the park, without those from the coroutine's base to his first, and without std's in between that only call a closure.
//!
//! A frame is the machine's if its name says so, or, where the compiler has merged it with its caller and left a bare name, its file. What
//! std prints is text, and nothing promises its form: lines that are no frames belong to the one before, and a backtrace of which
//! nothing would be left is told whole.

use std::backtrace::Backtrace;

/// The folder of this file, as the compiler was told of it.
fn folder() -> &'static str {
    file!().trim_end_matches("calls.rs")
}

/// By name, or by the folder of std's own sources.
const BASE: [&str; 6] =
    [": machinarium::coroutine::", ": core::", ": std::", ": <core::", ": <alloc::", " at /rustc/"];

/// What catches panics between two calls of the user's, and calls closures.
const PLUMBING: [&str; 4] =
    ["/std/src/panicking.rs:", "/std/src/panic.rs:", "/panic/unwind_safe.rs:", "/core/src/ops/function.rs:"];

/// The interesting part of a backtrace.
pub(super) fn of_user(backtrace: &Backtrace) -> String {
    trimmed(&backtrace.to_string())
}

fn trimmed(text: &str) -> String {
    let frames = frames(text);
    let is_own = |frame: &&String| frame.contains(": machinarium::machine::") || frame.contains(folder());
    // Below the first call there are those that catch its panic.
    let is_base = |frame: &&String| is_own(frame) || BASE.iter().any(|sign| frame.contains(sign));
    // On aarch64, std tells how it has taken the backtrace.
    let is_park = |frame: &&String| is_own(frame) || frame.contains("std::backtrace");
    let from = frames.iter().take_while(is_park).count();
    let to = frames.len() - frames.iter().rev().take_while(is_base).count();
    if from >= to {
        return text.to_owned();
    }
    let is_plumbing = |frame: &&String| PLUMBING.iter().any(|sign| frame.contains(sign));
    frames[from..to].iter().filter(|frame| !is_plumbing(frame)).map(String::as_str).collect()
}

/// A number and a name each, and usually a second line for the place.
fn frames(text: &str) -> Vec<String> {
    let mut frames: Vec<String> = Vec::new();
    for line in text.split_inclusive('\n') {
        let begins = line.trim_start().starts_with(|letter: char| letter.is_ascii_digit());
        match frames.last_mut() {
            Some(frame) if !begins => frame.push_str(line),
            _ => frames.push(line.to_owned()),
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_the_base_and_the_park_is_the_users() {
        let folder = folder();
        let user = "   2: machinarium::sync::event::Event::wait\n             at ./src/sync/event.rs:116:14\n   \
                    3: user::main::{{closure}}\n             at ./user.rs:7:1\n";
        let catches = "   4: std::panicking::catch_unwind\n             at /rustc/0/library/std/src/panicking.rs:544:19\n";
        let text = format!(
            "   0: visited\n             at ./{folder}scheduler.rs:294:36\n   \
             1: machinarium::machine::wait::park\n{catches}{user}{catches}   \
             5: machinarium::machine::task::run\n             at ./{folder}task.rs:389:18\n   \
             6: machinarium::coroutine::arch::x86_64::base\n"
        );
        assert_eq!(trimmed(&text), user);
    }

    #[test]
    fn how_the_backtrace_was_taken_is_not_told() {
        let user = "   3: user::main::{{closure}}\n             at ./user.rs:7:1\n";
        let text = format!(
            "   0: std::backtrace_rs::backtrace::libunwind::trace\n   1: <std::backtrace::Backtrace>::create\n   \
             2: machinarium::machine::wait::park\n{user}   4: machinarium::coroutine::arch::aarch64::base\n"
        );
        assert_eq!(trimmed(&text), user);
    }

    #[test]
    fn a_backtrace_of_nothing_else_is_whole() {
        let text =
            "   0: machinarium::machine::task::run\n   1: machinarium::coroutine::arch::x86_64::base\n";
        assert_eq!(trimmed(text), text);
        assert_eq!(trimmed("disabled backtrace"), "disabled backtrace");
    }
}
