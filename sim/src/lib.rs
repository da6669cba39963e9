//! The deterministic simulator of machinarium.

mod choice;
mod clock;
mod env;
mod epoll;
mod eventfd;
mod fault;
mod files;
mod harness;
mod host;
mod kernel;
mod link;
mod monitor;
mod net;
#[cfg(test)]
mod net_tests;
mod options;
mod panics;
mod queue;
mod record;
mod report;
mod scheduler;
mod script;
mod shrink;
mod simulation;
mod slab;
mod tcp;
#[allow(unsafe_code)] // stacks and switches of simulated threads
mod thread;
mod trace;
mod wake;
mod world;

pub use choice::{Alignment, Choice, Choices, Record, Stream, Subsystem};
pub use fault::{Cpu, Fault, FaultCounts, Faults};
pub use harness::{Check, Found, Hunt, check, check_named, parse_seed};
pub use host::{Ending, Host};
pub use link::{LinkOptions, Ratio};
pub use panics::PanicNote;
pub use report::{Failure, FailureKind};
pub use script::{Durations, World};
pub use shrink::Shrunk;
pub use simulation::{Outcome, Simulation, Stats, with_kernel};
