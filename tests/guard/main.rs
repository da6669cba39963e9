//! The guard: what std asks the operating system, on a simulated thread and beside it.
//!
//! A binary of its own, since the guard is of the whole binary.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // what goes round the kernel is what is tried

machinarium_sim::guard!();

mod clocks;
mod leaks;
mod locals;
mod locks;
