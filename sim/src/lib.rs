//! The deterministic simulator of machinarium: whole networks of the program that production runs, on one OS thread.
//!
//! A *world* has *hosts* with addresses, clocks and processes. Each process runs an ordinary main function, and when that
//! calls `machinarium::run`, the kernel below it is the simulated one: same binary, no cfg flag. The *script*, a closure that is
//! lent a [`World`], starts hosts, lets virtual time pass, cuts links, kills processes, and says what must hold.
//!
//! ```
//! use std::io::{Read, Write};
//! use machinarium::net::{TcpListener, TcpStream};
//! use machinarium_sim::Durations;
//!
//! fn server() -> std::io::Result<()> {
//!     machinarium::run(|| {
//!         let listener = TcpListener::bind("0.0.0.0:7000")?;
//!         let (mut stream, _) = listener.accept()?;
//!         stream.write_all(b"hello")?;
//!         std::io::Result::Ok(())
//!     })
//! }
//!
//! fn client() -> std::io::Result<()> {
//!     machinarium::run(|| {
//!         machinarium::sleep(std::time::Duration::from_millis(10))?;
//!         let mut stream = TcpStream::connect("server:7000")?;
//!         let mut text = String::new();
//!         stream.read_to_string(&mut text)?;
//!         assert_eq!(text, "hello");
//!         std::io::Result::Ok(())
//!     })
//! }
//!
//! machinarium_sim::check(|world| {
//!     let server = world.host("server").run(server);
//!     let client = world.host("client").run(client);
//!     world.eventually(5.secs(), || server.finished() && client.finished());
//! });
//! ```
//!
//! [`check`] runs many *seeds*; each is one run, always the same. When one fails, the test fails with a report: what, where and
//! when, the command that repeats it, the few choices that matter, the last events of all hosts side by side, who waits
//! for what. [`Simulation`] is one run for programs, [`Hunt`] many of them, [`with_kernel`] the bare system calls.
//!
//! # What fails a seed
//!
//! | what | [`FailureKind`] |
//! |---|---|
//! | a main function, or the script, panics or returns an error; a panic of a thread or a coroutine that nobody joins | `Panic`, `Failed` |
//! | a machine that cannot be unwound aborts its process | `Aborted` |
//! | a coroutine sleeps, its machine sleeps, and the descriptor that it waits for is ready, or another machine's letter is there | `LostWakeUp` |
//! | nothing can run and nothing will ever happen; some wait for each other in a circle | `Stuck`, `Deadlock` |
//! | calls without end, by which nothing moves; other runs that do not end | `Livelock`, `Endless` |
//! | what [`World::eventually`] wants comes too late; one waits for its turn all the time; it does not come | `TooSlow`, `Starvation`, `Unmet` |
//! | a process that ended well left descriptors open | `Leak` |
//! | TLS in a process draws its secrets from elsewhere than the seed; a thread was to be started that is none of the world's ([`guard!`]) | `Undetermined` |
//! | what `machinarium::always!` says does not hold | `Broken` |
//!
//! # What a seed varies
//!
//! Latencies, the order of what happens at one instant, and what [`Faults`] and [`Cpu`] say. [`Faults::swarm`] draws them all. Two
//! kinds are about the library itself: [`Fault::Preempt`] switches threads between any two operations on what machines share,
//! and [`Fault::Limits`] shrinks budgets, batches and buffers. They change the tuning of a process's machines when these start,
//! below programs that know nothing of it.
//!
//! Which of the threads that can run goes on is decided by time, or by a [`Strategy`]: priorities, walks, lines with delays, every order
//! of a tiny program, or a portfolio of them by seed, which is what [`check`] runs ([`Check::strategy`], [`Simulation::strategy`]).
//!
//! # What a simulated main function may touch
//!
//! | what | is |
//! |---|---|
//! | `machinarium::*`: time, sockets, names, files, signals, threads, randomness | simulated |
//! | `machinarium::tls` | real, but for its secrets, which are the seed's; keys must be Ed25519, configurations built in the process |
//! | statics and thread-locals | shared by all processes of the world, and by worlds that come later: use `machine_local!` |
//! | `std::time`, `std::thread`, `HashMap`'s order | real: they make a run differ from its repetition, which the report of a failing seed then says |
//! | `std::sync::Mutex` | fine, if no kernel call is made while it is held; else a monitor aborts with the coroutine's name and backtrace |
//! | `std::net`, `std::fs`, argv, environment | real |
//!
//! With [`guard!`] at the top of a test binary, time, sleeps, locks, channels and the order of `HashMap`s of std are simulated, each
//! simulated thread has thread-locals of its own, and a thread of `std::thread` is a failure. Of the above only statics, `std::net`,
//! `std::fs`, argv and the environment are real then.
//!
//! Build tests with at least `opt-level = 1`: a world without optimisation is ten times slower.
//!
//! # Where things are
//!
//! | file | what |
//! |---|---|
//! | `harness`, `simulation`, `shrink`, `report` | many seeds, one seed, what mattered, what is said |
//! | `explain`, `words`, `film`, `picture` | why a run fails; its choices in words; what pictures are made of, and they |
//! | `ahead`, `journal`, `regression`, `confirm` | what a run leaves on the disk; the order of its choices; failures that are kept; a seed in a fresh process |
//! | `exhaust` | one call after the other fails |
//! | `bubble` | unit tests: one machine in virtual time |
//! | `cli` | the command line of a program that is hunted |
//! | `history` | calls that tests write down, and whether one order explains all answers |
//! | `script`, `host`, `process` | what the script is lent, and what runs on it |
//! | `world`, `scheduler`, `queue`, `clock`, `futex` | the loop; who runs when; what will happen; what clocks show; words to sleep on |
//! | `strategy`, `turns` | by what a run decides who goes on, where time does not |
//! | `kernel`, `wake` | `Kernel` and `Wake`, served by the world |
//! | `crypto` | what TLS in a process draws its secrets from |
//! | `thread` | stacks and the switch: all unsafe code |
//! | `choice`, `index`, `rare`, `record`, `fault`, `tuning`, `trace` | the one source of chance; its records; what goes wrong; small limits; what happened |
//! | `dns`, `signal`, `disk` | names, signals and files of the simulated hosts |
//! | `oracle`, `waits`, `verdict` | what must hold at every quiet moment; who waits for whom; what a world that does not get on has |
//! | `marks`, `future` | what the code under test says about itself, and how runs go on from there |
//! | `net`, `sockets`, `tcp`, `udp`, `unix`, `epoll`, `eventfd`, `files`, `options`, `link` | the objects of the simulated kernels, which know only `env` |
//! | `ground`, `real` | what a world stands on; the same script on real Linux |
//! | `outside`, `panics`, `monitor` | what is of the OS thread or the whole program, and not of a world |
//! | `guard` | what std asks of the operating system, answered by the world |

mod ahead;
mod bubble;
mod choice;
#[cfg(feature = "cli")]
pub mod cli;
mod clock;
mod confirm;
#[cfg(feature = "tls")]
mod crypto;
mod disk;
mod dns;
mod env;
mod epoll;
mod eventfd;
mod exhaust;
mod explain;
mod fault;
mod files;
mod film;
mod futex;
mod future;
mod ground;
#[allow(unsafe_code)] // functions of the C library, and memory for thread-locals
pub mod guard;
mod harness;
pub mod history;
mod host;
mod index;
mod journal;
mod kernel;
mod link;
mod marks;
mod monitor;
mod net;
#[cfg(test)]
mod net_tests;
mod options;
mod oracle;
mod outside;
mod panics;
mod picture;
mod process;
mod queue;
mod rare;
mod real;
mod record;
mod regression;
mod report;
mod scheduler;
mod script;
mod shrink;
mod signal;
mod simulation;
mod slab;
mod sockets;
mod strategy;
mod tcp;
#[allow(unsafe_code)] // stacks and switches of simulated threads
mod thread;
mod trace;
mod tuning;
mod turns;
mod udp;
mod unix;
mod verdict;
mod waits;
mod wake;
mod words;
mod world;

pub use bubble::{bubble, wait_idle};
pub use choice::{Alignment, Choice, Choices, Mismatch, Record, Stream, Subsystem};
pub use dns::Dns;
pub use exhaust::exhaust;
pub use fault::{Cpu, Fault, FaultCounts, Faults};
pub use harness::{Check, Found, Hunt, check, check_named, parse_seed};
pub use host::{Ending, Host};
pub use link::{Distribution, LinkOptions, Ratio};
pub use marks::Marks;
pub use panics::PanicNote;
pub use report::{Failure, FailureKind};
pub use script::{Durations, World};
pub use shrink::Shrunk;
pub use simulation::{Outcome, Simulation, Stats, with_kernel};
pub use strategy::{Rehearsal, Strategy};
