//! The deterministic simulator of machinarium.

mod choice;
#[allow(dead_code)] // the world that uses it comes next
mod env;
mod link;
#[allow(dead_code)]
mod net;
#[allow(dead_code)]
mod slab;

pub use choice::{Alignment, Choice, Choices, Record, Stream, Subsystem};
pub use link::{LinkOptions, Ratio};
