//! M10. Who notifies takes a waiter out of the list and then tells it. The wrong waiter, if its time is over in between, returns, and with it goes
//! its stack, on which the notifier writes. Here the waiter only says that it has returned.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use machinarium::machine::spawn as spawn_machine;
use machinarium::shared::primitive::point;
use machinarium::sync::Event;
use machinarium_sim::World;

use crate::place::{Plain, alone};
use crate::table::Twin;

#[derive(Default)]
struct Waiter {
    told: Event,
    returned: AtomicBool,
}

struct List {
    waiters: Plain<VecDeque<Arc<Waiter>>>,
    twin: Twin,
}

impl List {
    fn notify(&self) {
        point();
        if let Some(waiter) = self.waiters.with(VecDeque::pop_front) {
            point();
            assert!(!waiter.returned.load(SeqCst), "touches a waiter that has returned");
            waiter.told.set();
        }
    }

    fn wait(&self, timeout: Duration) {
        let waiter = Arc::new(Waiter::default());
        self.waiters.with(|waiters| waiters.push_back(waiter.clone()));
        if waiter.told.wait_timeout(timeout).is_err() {
            point();
            let listed = self.waiters.with(|waiters| {
                let before = waiters.len();
                waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
                waiters.len() < before
            });
            if !listed && !self.twin.is_wrong() {
                waiter.told.wait().unwrap();
            }
        }
        waiter.returned.store(true, SeqCst);
    }
}

pub(crate) fn script(world: &World, twin: Twin) {
    alone(world, move |dice| {
        let list = Arc::new(List { waiters: Plain::default(), twin });
        let (theirs, more) = (list.clone(), dice.another());
        let waiter = spawn_machine("waiter", move || (0..6).for_each(|_| theirs.wait(more.micros(8))))?;
        for _ in 0..6 {
            dice.nap(8);
            list.notify();
        }
        Ok(waiter.join()?)
    });
}
