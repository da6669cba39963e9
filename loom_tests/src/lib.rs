//! The files of `src/shared`, as they are, beside a [`primitive`] made of loom's atomics. The models are in `tests/`.
//!
//! No cfg is involved: plain `cargo test -p loom_tests` runs every model, and what production runs is not compiled
//! differently by any of this. `weaken` beside this folder breaks the files one line at a time and checks that a model
//! sees it.

pub mod primitive;
pub mod seat;

#[allow(unsafe_code)] // as in the library
#[path = "../../src/shared/cells.rs"]
pub mod cells;
#[path = "../../src/shared/channel.rs"]
pub mod channel;
#[path = "../../src/shared/gauges.rs"]
pub mod gauges;
#[path = "../../src/shared/histogram.rs"]
pub mod histogram;
#[allow(unsafe_code)] // as in the library
#[path = "../../src/shared/latest.rs"]
pub mod latest;
#[path = "../../src/shared/line.rs"]
pub mod line;
#[allow(unsafe_code)] // as in the library
#[path = "../../src/shared/lock.rs"]
pub mod lock;
#[allow(unsafe_code)] // as in the library
#[path = "../../src/shared/mailbox.rs"]
pub mod mailbox;
#[allow(unsafe_code)] // as in the library
#[path = "../../src/shared/once.rs"]
pub mod once;
#[path = "../../src/shared/park.rs"]
pub mod park;
#[path = "../../src/shared/permits.rs"]
pub mod permits;
#[path = "../../src/shared/pipe.rs"]
pub mod pipe;
#[path = "../../src/shared/store.rs"]
pub mod store;
#[path = "../../src/shared/watch.rs"]
pub mod watch;

/// Checks `model` in every order of its threads' operations that takes at most two preemptions.
///
/// A preemption is a switch away from a thread that could go on; two have been found enough for nearly every bug, and
/// three threads cannot be had for more in reasonable time.
pub fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

/// As [`check`], in every order: for two threads.
pub fn check_all(model: impl Fn() + Sync + Send + 'static) {
    loom::model::Builder::new().check(model);
}
