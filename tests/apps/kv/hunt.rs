//! The hunt: the server's own entry point in simulated worlds, one for each seed, with clients that check it.
//!
//! A world has a server of one to three machines, a few clients (`workload.rs`), and a script that for some seconds cuts
//! links, crashes and restarts the server or its whole host, and stalls it, on top of the faults that the swarm of its
//! seed has. Then all is well again, and within a minute every client must have read all that it wrote, and the server
//! must stop cleanly when it is asked to.
//!
//! A seed is one run, always the same; `replay` and `trace` repeat it.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use machinarium_sim::{Cpu, FaultCounts, Faults, Host, Outcome, Simulation, World};

use crate::client::Client;
use crate::config::{Bug, Config};
use crate::random::Random;
use crate::server;
use crate::workload::{self, Tally, Task};

