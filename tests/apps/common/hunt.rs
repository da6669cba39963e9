//! What scripts of hunts do to servers.

use std::time::Duration;

use machinarium::signal::Signal;
use machinarium_sim::{Host, World};

/// Asks a server to end as an operator does, and starts it again when it has.
pub(crate) fn roll(world: &World, server: &Host) {
    terminate(world, server);
    server.restart();
}

/// Asks a server to end: within a minute it does, whatever else goes wrong. One that is about to be started again (`init.rs`) hears
/// nothing, so it is asked again, but not before it must have ended.
pub(crate) fn terminate(world: &World, server: &Host) {
    let begun = world.now();
    for seconds in 1..=60 {
        if seconds % 20 == 1 {
            server.signal(Signal::Term);
        }
        let end = begun + Duration::from_secs(seconds);
        while world.now() < end {
            if !server.running() {
                return;
            }
            world.sleep(Duration::from_millis(10));
        }
    }
    panic!("SIGTERM does not end {}", server.name());
}
