//! What the library promises, by name. Each body is one function; it runs on the real kernel, then in a simulated host: on
//! seeds which draw latencies and the order of what happens at the same instant, and on seeds where calls are interrupted
//! and cut short, events come late and in parts, and the processor is wanted by others.
//!
//! Traps that others have met, and the test that would notice:
//!
//! | trap | test |
//! |---|---|
//! | a wake-up lost when a timeout and a delivery meet | `loom_tests`, `turn::a_waiting_reader_that_gives_up_..` |
//! | a yield between EAGAIN and the wait loses the edge | `turn::an_edge_that_comes_right_after_an_attempt_..` |
//! | an edge that comes to whoever gives up | `high_water::what_is_left_by_who_gives_up_..` |
//! | readiness cleared after a newer event | `turn::a_connect_hears_its_answer_..` |
//! | data read ahead while the reader waits for the socket | `readahead::*` |
//! | both sides blocked in write with full buffers | `tcp::ten_megabytes_both_ways_at_once` |
//! | unlock between the failed fast path and the enqueue | `turn::a_turn_that_ends_while_the_next_yields_..` |
//! | a late timer hits the next wait | `time::a_late_timer_..` |
//! | accept with EMFILE or ECONNABORTED | `refusal::accept_*` |
//! | a stop request finds epoll asleep | `machine::stop_wakes_an_idle_machine` |
//! | locks taken in another order than asked for | `turn::a_reader_that_comes_again_..` |
//! | a timeout begun anew at each part | `turn::a_timeout_is_for_the_whole_call` |
//! | cancelled before the first run | `coroutine::cancelled_before_its_first_run_..` |
//! | a descriptor number used again at once | `ends::a_descriptor_number_that_is_used_again_..` |
//! | an end behind a short read, an urgent byte | `ends::an_end_behind_..`, `ends::an_urgent_byte_..` |

#![allow(unreachable_pub)] // a test binary has no public names

mod arrival;
mod big_stack;
#[path = "../tls/certificates.rs"]
mod certificates;
mod channel;
#[path = "../coroutine/child.rs"]
mod child;
mod coalescing;
mod configuration;
mod context;
mod coroutine;
mod descriptors;
mod destructor;
mod ends;
mod family;
mod file;
#[allow(unsafe_code)] // descriptors as a C library has them
mod foreign;
mod framing;
mod future;
mod giving_up;
mod high_water;
mod inspect;
mod ipv6;
#[allow(unsafe_code)] // two system calls that the kernel trait has not
#[path = "../conformance/limit.rs"]
mod limit;
mod local_channel;
mod lock;
mod machine;
mod message;
mod name;
mod original_net;
mod original_sync;
mod poll;
mod pool;
mod process;
mod readahead;
mod ready;
mod refusal;
mod relay;
mod relay_tls;
mod select;
mod shutdown;
mod signal;
mod soundness;
mod spread;
mod stack_memory;
mod tcp;
mod teardown;
mod time;
mod tls;
mod tls_bytes;
mod tls_hostile;
mod tls_moves;
mod tls_ready;
mod tls_trust;
mod turn;
mod udp;
mod unix;
mod unix_datagram;
mod unwinding;
mod values;

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use machinarium::kernel::{Kernel, Linux};
use machinarium_sim::{Cpu, Durations, Fault, Faults, LinkOptions, Ratio, Simulation};

/// On how many seeds each body runs in a world where nothing is amiss, and in one full of what a library hides.
const SEEDS: u64 = 50;
const HARSH_SEEDS: u64 = 20;

/// A body whatever its type, so that what runs it is compiled once.
type Body = Arc<dyn Fn(&dyn Kernel) + Send + Sync>;

/// Runs a body on both kernels; in the simulator also with every fault that may not change what it sees.
#[track_caller]
fn both(body: impl Fn() + Send + Sync + 'static) {
    both_with_kernel(move |_| body());
}

/// The same with a body that makes calls of its own.
#[track_caller]
fn both_with_kernel(body: impl Fn(&dyn Kernel) + Send + Sync + 'static) {
    on_some(SEEDS, HARSH_SEEDS, body);
}

/// The same on fewer seeds, for a body that takes long.
#[track_caller]
fn on_some(seeds: u64, harsh_seeds: u64, body: impl Fn(&dyn Kernel) + Send + Sync + 'static) {
    run_everywhere(Location::caller().file(), seeds, harsh_seeds, &(Arc::new(body) as Body));
}

fn run_everywhere(file: &str, seeds: u64, harsh_seeds: u64, body: &Body) {
    let on_linux = body.clone();
    descriptors::none_left(file, Box::new(move || on_linux(&Linux::new())));
    for seed in 0..seeds {
        run_on(&Simulation::new(seed), 20.micros(), body);
    }
    for seed in 0..harsh_seeds {
        run_on(&Simulation::new(seed).faults(hidden(seed)).cpu(Cpu::Loaded), 2.millis(), body);
    }
}

/// The faults of calls of which a correct program sees nothing but the time that they take. All are frequent.
fn hidden(seed: u64) -> Faults {
    use Fault::{ConnAborted, Eintr, EpollOrder, EpollSubset, ShortWrite, Skew, SpuriousWake};
    let kinds = [EpollOrder, EpollSubset, Eintr, ConnAborted, SpuriousWake, Skew];
    let faults = kinds.into_iter().fold(Faults::none(), |faults, kind| faults.rate(kind, 4));
    // Where every buffer is small, no write is long.
    if seed.is_multiple_of(2) { faults } else { faults.rate(ShortWrite, 4) }
}

/// Runs a body in a host whose loopback takes up to `latency_max`, and cuts segments in two.
fn run_on(simulation: &Simulation, latency_max: Duration, body: &Body) {
    let (simulation, body) = (simulation.clone().keep_events(40), body.clone());
    let outcome = simulation.run(move |world| {
        let host = world.host("host").run_on_kernel(move |kernel| body(&*kernel));
        let loopback = LinkOptions { latency_max, split: Ratio::new(1, 4), ..LinkOptions::LOOPBACK };
        world.link(&host, &host, loopback);
        world.join(&host);
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    assert!(outcome.leaked.is_empty(), "seed {} leaks {:?}", outcome.seed, outcome.leaked);
}
