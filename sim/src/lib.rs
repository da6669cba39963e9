//! The deterministic simulator of machinarium.

mod choice;

pub use choice::{Alignment, Choice, Choices, Record, Stream, Subsystem};
