//! A guide to read in an hour, from the first server to a service that is hunted, watched and shut down.
//!
//! Its examples are run with the tests of this crate. Read the first five chapters in order; the others when they are needed.
//!
//! | chapter | what it is about |
//! |---|---|
//! | [A first server](first_server) | a program from an empty directory |
//! | [Coroutines and machines](coroutines) | what runs when, and where; starting, joining, borrowing; other threads |
//! | [Deadlines and cancellation](deadlines) | how every wait ends, and what a call that ended has done |
//! | [Channels and select](channels) | how coroutines, machines and threads meet |
//! | [Testing in the simulator](simulator) | from the first `check` to reading a failure |
//! | [Hunting in CI and on a cluster](ci) | GitHub Actions, Kubernetes, Slurm |
//! | [TLS](tls) | on either side, with files or without; ends and truncation |
//! | [The end of a service](shutdown) | signals, draining, and what is unwound when |
//! | [Futures](futures) | hyper, axum and others on machines |
//! | [Operations](operations) | dumps, metrics, gdb, who holds a machine |
//! | [The kernel trait](kernel) | how one binary runs on two kernels |
//! | [Performance](performance) | what costs what, and what to set |
//! | [Coming from tokio](from_tokio), [from Go](from_go), [from C machinarium](from_c) | what is called what here |

#[doc = include_str!("guide/first_server.md")]
pub mod first_server {}

#[doc = include_str!("guide/coroutines.md")]
pub mod coroutines {}

#[doc = include_str!("guide/deadlines.md")]
pub mod deadlines {}

#[doc = include_str!("guide/channels.md")]
pub mod channels {}

#[doc = include_str!("guide/simulator.md")]
pub mod simulator {}

#[doc = include_str!("guide/ci.md")]
pub mod ci {}

#[doc = include_str!("guide/tls.md")]
pub mod tls {}

#[doc = include_str!("guide/shutdown.md")]
pub mod shutdown {}

#[doc = include_str!("guide/futures.md")]
pub mod futures {}

#[doc = include_str!("guide/operations.md")]
pub mod operations {}

#[doc = include_str!("guide/kernel.md")]
pub mod kernel {}

#[doc = include_str!("guide/performance.md")]
pub mod performance {}

#[doc = include_str!("guide/from_tokio.md")]
pub mod from_tokio {}

#[doc = include_str!("guide/from_go.md")]
pub mod from_go {}

#[doc = include_str!("guide/from_c.md")]
pub mod from_c {}
