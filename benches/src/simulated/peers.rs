//! The same worlds in other simulators, by the programs of `peers/`, one for each.

use std::process::{Command, Stdio};

use super::Shape;
use crate::case::{Case, Metric};
use crate::process::pin;

const PEERS: [&str; 5] = ["madsim", "turmoil", "turmoil-net", "moonpool", "shuttle"];

/// A case for each of them that is done before long.
pub(super) fn cases(group: &str, shape: Shape) -> Vec<Case> {
    let case = |peer| Some((peer, scaled(peer, shape)?));
    let cases = PEERS.into_iter().filter_map(case);
    cases.map(|(peer, shape)| Case::new(group, peer, move || measure(peer, shape))).collect()
}

/// What a tick of turmoil takes grows with the square of the hosts: 400 of them make only a few trips, and 1,000 none in a minute.
fn scaled(peer: &str, shape: Shape) -> Option<Shape> {
    match shape.clients {
        ..100 => Some(shape),
        _ if peer != "turmoil" => Some(shape),
        ..400 => Some(Shape { trips: 5, ..shape }),
        _ => None,
    }
}

/// Empty if there is no such program, or if it says that it cannot do this.
fn measure(peer: &str, shape: Shape) -> Vec<Metric> {
    pin(0);
    let program = format!("{}/peers/target/release/{peer}", env!("CARGO_MANIFEST_DIR"));
    let Shape { servers, clients, connections, trips, worlds } = shape;
    let numbers = [servers, clients, connections, trips, worlds].map(|number| number.to_string());
    let output = match Command::new(&program).args(numbers).stderr(Stdio::inherit()).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("{program}: {error}; build it: (cd peers && cargo build --release)");
            return Vec::new();
        }
    };
    let seconds = String::from_utf8_lossy(&output.stdout).trim().parse();
    seconds.map(|seconds| shape.rate(seconds)).into_iter().collect()
}
