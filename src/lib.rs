//! Network programs as plain sequential code, and the simulator that finds their bugs.
//!
//! A *machine* is an OS thread with an epoll loop. It runs *coroutines*, each with a stack of its own, so a blocking call
//! parks only the coroutine that makes it. Deadlines and cancellation work on every such call. Machines run on separate
//! threads and send each other closures and detached streams.
//!
//! ```no_run
//! use machinarium::net::TcpListener;
//!
//! fn main() -> std::io::Result<()> {
//!     machinarium::run(|| {
//!         let listener = TcpListener::bind("127.0.0.1:7000")?;
//!         loop {
//!             let (stream, _peer) = listener.accept()?;
//!             machinarium::spawn(move || std::io::copy(&mut &stream, &mut &stream));
//!         }
//!     })
//! }
//! ```
//!
//! The [guide] is to be read first, in an hour; it ends with tables of what tokio's, Go's and C machinarium's functions are called here.
//!
//! # Where things are
//!
//! - [`kernel`]: the system calls, as one trait; the real kernel behind it. Everything below that trait can be simulated.
//! - `coroutine`: stacks and the switch. Knows nothing of io.
//! - [`machine`]: one thread's runtime: who runs next, deadlines, readiness, letters from other threads, teardown; values of
//!   coroutines, machines and of what they do ([`context`]).
//! - `shared`: all that two threads may touch at once. Small, and model-checked.
//! - [`message`]: kinds and bytes, in memory of the machines' pools; what channels carry, and what streams frame.
//! - `pool`: threads for calls that block. [`mod@file`]: files, by way of them; names too ([`net::lookup`]).
//! - [`mark`]: what code says about itself to whoever searches it for bugs ([`always!`], [`sometimes!`], [`reachable!`], [`buggify!`]).
//! - [`inspect`]: what machines have counted, and what all coroutines do.
//! - `group`: several machines as one, for work and connections that any of them can do.
//! - [`mod@future`]: futures inside coroutines, and what they can poll. `adapter`: streams as other crates' traits know them.
//! - [`signal`]: signals as values. `shutdown`: how a service ends.
//! - [`sync`]: channels, select, locks, events.
//! - [`net`], `io`: sockets and their buffers. `tls`: TLS on any connected stream. `time`, [`random`], `scope`, `error`: what their names say.
//!
//! # Features
//!
//! | feature | what | adds to `bytes`, `libc` and `signal-hook-registry` (with `errno`) |
//! |---|---|---|
//! | `tls` (default) | [`mod@tls`] by rustls over aws-lc-rs, whose C needs gcc | rustls, rustls-native-certs, aws-lc-rs and what these use: 11 crates |
//! | `tls-ring` | the same over ring; with both, aws-lc-rs is used | the same with ring: 12 crates |
//! | `futures-io` | streams as `futures_io::AsyncRead` and `AsyncWrite` | futures-io |
//! | `tokio` | streams as tokio's traits | tokio, no feature of it; pin-project-lite |
//! | `hyper` | hyper 1's `rt` traits | hyper, no feature of it; http, http-body, itoa, tokio, pin-project-lite |
//! | `ureq` | a connector and a resolver for ureq 3 | ureq, no feature of it, and 8 crates |
//! | `tracing` | spans that stay with their coroutine | tracing-core, once_cell |
//!
//! The minimum Rust version is `rust-version` in `Cargo.toml`, which rises with a minor version only.
//!
//! # Invariants
//!
//! 1. Only `kernel` (calls in `linux`, elsewhere numbers) and `coroutine` name libc.
//! 2. Nothing here knows the simulator, and nothing asks whether it is simulated.
//! 3. There is one thread-local: `machine/current`.
//! 4. Threads meet only in `shared`.
//! 5. A thread sleeps only in `epoll_wait`, `futex_wait` and `join`; threads that are there for it, in `getaddrinfo` and file calls.
//! 6. Every blocking call ends by a deadline or a cancellation, unless it is documented as firm.
//! 7. Unsafe code is in `coroutine`, `kernel/linux`, `shared`, `mark`, and in `machine/{current, handle, resident, scheduler, seat,
//!    task}` and `sync/{mutex, rwlock}`.

#![cfg_attr(
    not(any(feature = "tls", feature = "tls-ring")),
    allow(dead_code, reason = "some of io and net is there for TLS alone")
)]

#[cfg(any(
    feature = "futures-io",
    feature = "tokio",
    feature = "hyper",
    feature = "tracing",
    feature = "ureq"
))]
pub mod adapter;
#[doc(hidden)] // not an interface: the simulator's threads are coroutines too
#[allow(unsafe_code)] // stacks and switching
pub mod coroutine;
mod error;
pub mod file;
pub mod future;
mod group;
#[cfg(any(doc, doctest))]
pub mod guide;
pub mod inspect;
mod io;
pub mod kernel;
pub mod machine;
#[allow(unsafe_code)] // the table that the linker makes
pub mod mark;
pub mod message;
pub mod net;
mod pool;
pub mod random;
mod scope;
#[doc(hidden)] // not an interface: public so that benches can measure it
#[allow(unsafe_code)] // memory handed from thread to thread
pub mod shared;
mod shutdown;
pub mod signal;
pub mod sync;
mod time;
#[cfg(any(feature = "tls", feature = "tls-ring"))]
pub mod tls;

pub use coroutine::{Guards, StackError};
pub use error::{Cancelled, Cause, Expired, JoinError, Misuse, WaitError, cancelled};
pub use future::block_on;
pub use group::{Group, ListenError, Listening};
pub use kernel::Instant;
pub use machine::builder::{Builder, Tuning};
pub use machine::coroutine_local::{AccessError, CoroutineLocal};
pub use machine::handle::{JoinHandle, Joining, SpawnError, spawn, spawn_named, try_spawn};
pub use machine::run;
pub use machine::wait::{shield, yield_now};
pub use machine::{MachineLocal, ProcessLocal};
pub use machine::{SpawnOptions, StackClass, context, on_big_stack, spawn_with, try_on_big_stack};
pub use message::{Message, MessageBuilder};
pub use pool::{BlockingError, blocking};
pub use scope::{Scope, ScopedJoinHandle, ScopedJoining, scope};
pub use shutdown::Shutdown;
pub use time::{current_deadline, deadline, now, sleep, sleep_until, system_time, timeout};
