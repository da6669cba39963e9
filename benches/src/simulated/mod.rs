//! How fast the simulator is, beside others: worlds of a [`Shape`], whose clients send 64 bytes and wait until they come back.
//!
//! The same worlds are built here (`own`), and for the others in `peers/`: a workspace of its own, since madsim wants a cfg flag, and
//! replaces `clock_gettime` and more of the C library in every program that it is linked into. Rates are by processor time: nothing
//! here waits, so all that a second on the wall could add is what others do to the machine.

mod own;
mod peers;

use crate::case::{Case, Metric, metric};

/// What a world is like.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Hosts that answer.
    pub servers: usize,
    /// Hosts that ask: the first one the first server, and so on, round and round.
    pub clients: usize,
    /// Of each client.
    pub connections: usize,
    /// 64 bytes there and back, so often on each connection.
    pub trips: usize,
    /// How many such worlds, one after the other.
    pub worlds: usize,
}

impl Shape {
    const fn pairs(pairs: usize, connections: usize, trips: usize) -> Shape {
        Shape { servers: pairs, clients: pairs, connections, trips, worlds: 1 }
    }

    const fn times(self, worlds: usize) -> Shape {
        Shape { worlds, ..self }
    }

    /// What it says that all this took so many seconds of a processor.
    fn rate(self, seconds: f64) -> Metric {
        let trips = self.clients * self.connections * self.trips;
        match self.worlds {
            1 => metric("round trips/s", trips as f64 / seconds),
            worlds => metric("worlds/s", worlds as f64 / seconds),
        }
    }
}

const ECHO: Shape = Shape::pairs(1, 16, 10_000);
/// Pairs of hosts, and the trips of each.
const PAIRS: [(usize, usize); 4] = [(1, 100_000), (20, 5_000), (200, 500), (500, 200)];
const TINY: [usize; 3] = [0, 1, 10];
const WORLDS: usize = 10_000;
const HOSTS: Shape = Shape::pairs(5_000, 1, 10);
/// A client has 28,232 ports.
const CONNECTIONS: Shape = Shape { clients: 10, ..Shape::pairs(1, 10_000, 1) };

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = own::with_faults("simulated/echo", ECHO);
    cases.extend(peers::cases("simulated/echo", ECHO));
    for (pairs, trips) in PAIRS {
        cases.extend(beside(&format!("simulated/pairs/{pairs}"), Shape::pairs(pairs, 1, trips)));
    }
    for trips in TINY {
        cases.extend(beside(&format!("simulated/tiny/{trips}"), Shape::pairs(1, 1, trips).times(WORLDS)));
    }
    cases.push(own::large("simulated/10000 hosts", HOSTS));
    cases.push(own::large("simulated/100000 connections", CONNECTIONS));
    cases
}

fn beside(group: &str, shape: Shape) -> Vec<Case> {
    std::iter::once(own::case(group, shape)).chain(peers::cases(group, shape)).collect()
}
