//! machinarium
pub mod kernel;
