//! The switch, pools of stacks, and what an overflow prints: the real thing, on this OS process.
//!
//! Tests whose subject ends the process, or changes it for all (its mappings, its handlers), run in a child: this
//! binary again, with the test's name in [`child::VARIABLE`].

#![allow(unsafe_code)] // it is what is tested
#![allow(unreachable_pub)] // a test binary has no public names

mod backtrace;
mod child;
mod overflow;
mod stack;
mod strand;
mod switch;
