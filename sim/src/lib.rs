//! The deterministic simulator of machinarium.

mod choice;
#[allow(dead_code)] // until the world uses it
mod env;
#[allow(dead_code)] // until the world uses it
mod epoll;
mod eventfd;
#[allow(dead_code)] // until the world uses it
mod files;
#[allow(dead_code)] // until the world uses it
mod link;
#[allow(dead_code)] // until the world uses it
mod net;
#[cfg(test)]
mod net_tests;
#[allow(dead_code)] // until the world uses it
mod options;
#[allow(dead_code)] // until the world uses it
mod slab;
#[allow(dead_code)] // until the world uses it
mod tcp;

pub use choice::{Alignment, Choice, Choices, Record, Stream, Subsystem};
pub use link::{LinkOptions, Ratio};
