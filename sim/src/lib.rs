//! The deterministic simulator of machinarium.

mod choice;
mod env;
mod epoll;
mod eventfd;
mod files;
mod link;
mod net;
mod options;
mod slab;
mod tcp;

pub use choice::{Alignment, Choice, Choices, Record, Stream, Subsystem};
pub use link::{LinkOptions, Ratio};
