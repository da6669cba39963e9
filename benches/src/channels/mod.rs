//! What channels cost: a round trip of one message, and a stream of them, on one processor and between two. Messages are `u64`, channels
//! without a bound.
//!
//! | group | what |
//! |---|---|
//! | `pingpong/same` | two that send each other one message after the other |
//! | `stream/same` | one sends 1,024, then the other has its turn |
//! | `pingpong/cross` | as above, each on a processor of its own; who waits sleeps |
//! | `pingpong/spin` | the same, but who waits looks for work for a while before it sleeps |
//! | `stream/cross-N` | N send a million together, on one processor, to one that receives on another |

mod by_hand;
mod machinarium;
mod may;
mod smol;
mod threads;
mod tokio;

use crate::case::Case;

/// Messages of a stream on one processor between two turns.
const BURST: u32 = 1024;
/// Round trips between two looks at the clock.
const TRIPS: u32 = 1000;
/// The same between processors, where each may take as long as a wake-up.
const CROSS_TRIPS: u32 = 20;
/// Messages of a stream between processors.
const MESSAGES: u64 = 1_000_000;

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("pingpong/same", "machinarium", machinarium::ping_pong),
        Case::new("pingpong/same", "machinarium, local", machinarium::local_ping_pong),
        Case::new("pingpong/same", "two switches", by_hand::two_switches),
        Case::new("pingpong/same", "tokio", tokio::ping_pong),
        Case::new("pingpong/same", "smol", smol::ping_pong),
        Case::new("pingpong/same", "may", || may::ping_pong(1)),
        Case::new("pingpong/cross", "machinarium", || machinarium::cross_ping_pong(false)),
        Case::new("pingpong/cross", "eventfd and epoll", by_hand::eventfds),
        Case::new("pingpong/cross", "tokio, two runtimes", tokio::cross_ping_pong),
        Case::new("pingpong/cross", "tokio, two workers", tokio::workers_ping_pong),
        Case::new("pingpong/cross", "smol", smol::cross_ping_pong),
        Case::new("pingpong/cross", "flume", threads::ping_pong::<threads::Flume>),
        Case::new("pingpong/spin", "machinarium", || machinarium::cross_ping_pong(true)),
        Case::new("pingpong/spin", "a cache line", by_hand::cache_line),
        Case::new("pingpong/spin", "kanal", threads::ping_pong::<threads::Kanal>),
        Case::new("pingpong/spin", "crossbeam", threads::ping_pong::<threads::Crossbeam>),
        Case::new("pingpong/spin", "may, two workers", || may::ping_pong(2)),
        Case::new("stream/same", "machinarium", machinarium::stream),
        Case::new("stream/same", "machinarium, local", machinarium::local_stream),
        Case::new("stream/same", "VecDeque", by_hand::queue),
        Case::new("stream/same", "tokio", tokio::stream),
        Case::new("stream/same", "smol", smol::stream),
        Case::new("stream/same", "may", may::stream),
        Case::new("stream/same", "kanal", threads::stream::<threads::Kanal>),
        Case::new("stream/same", "flume", threads::stream::<threads::Flume>),
        Case::new("stream/same", "crossbeam", threads::stream::<threads::Crossbeam>),
    ];
    for producers in [1, 4] {
        let group = format!("stream/cross-{producers}");
        cases.push(Case::new(&group, "machinarium", move || machinarium::cross_stream(producers)));
        if producers == 1 {
            cases.push(Case::new(&group, "ring of one producer", by_hand::ring));
        }
        cases.push(Case::new(&group, "tokio", move || tokio::cross_stream(producers)));
        cases.push(Case::new(&group, "smol", move || smol::cross_stream(producers)));
        cases.push(Case::new(&group, "may, two workers", move || may::cross_stream(producers)));
        cases.push(Case::new(&group, "kanal", move || threads::cross_stream::<threads::Kanal>(producers)));
        cases.push(Case::new(&group, "flume", move || threads::cross_stream::<threads::Flume>(producers)));
        cases.push(Case::new(&group, "crossbeam", move || {
            threads::cross_stream::<threads::Crossbeam>(producers)
        }));
    }
    cases
}
