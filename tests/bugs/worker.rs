//! M16. A worker does jobs from a channel until it is to end. The wrong one looks at a flag for that, between two jobs, and when it is told while it
//! waits for one it waits for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use machinarium::machine::spawn as spawn_machine;
use machinarium::sync::channel::{self, Receiver};
use machinarium_sim::World;

use crate::place::alone;
use crate::table::Twin;

pub(crate) fn script(world: &World, twin: Twin) {
    alone(world, move |dice| {
        let (sender, receiver) = channel::unbounded();
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = stopped.clone();
        let worker = spawn_machine("worker", move || work(&receiver, &stop))?;
        for _ in 0..3 {
            sender.send(dice.micros(40))?;
            dice.nap(20);
        }
        stopped.store(true, SeqCst);
        // The end of the channel is what a waiting worker hears of.
        let kept = twin.is_wrong().then(|| sender.clone());
        drop(sender);
        worker.join()?;
        drop(kept);
        Ok(())
    });
}

fn work(jobs: &Receiver<Duration>, stopped: &AtomicBool) {
    while !stopped.load(SeqCst) {
        let Ok(job) = jobs.recv() else { return };
        machinarium::sleep(job).unwrap();
    }
}
