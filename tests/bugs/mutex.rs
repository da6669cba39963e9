//! M6. A lock has a fast path and a queue. The wrong one goes from the first into the second without looking again whether the lock was given
//! back between them, to nobody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use machinarium::machine::spawn as spawn_machine;
use machinarium::shared::primitive::point;
use machinarium::sync::Event;
use machinarium_sim::World;

use crate::place::{Dice, Plain, alone};
use crate::table::Twin;

struct Mutex {
    held: AtomicBool,
    queue: Plain<VecDeque<Arc<Event>>>,
    twin: Twin,
}

impl Mutex {
    fn lock(&self) {
        while !self.try_lock() {
            let turn = Arc::new(Event::new());
            point();
            self.queue.with(|queue| queue.push_back(turn.clone()));
            if !self.twin.is_wrong() && self.try_lock() {
                self.queue.with(|queue| queue.retain(|other| !Arc::ptr_eq(other, &turn)));
                return;
            }
            turn.wait().unwrap();
        }
    }

    fn try_lock(&self) -> bool {
        point();
        !self.held.swap(true, SeqCst)
    }

    fn unlock(&self) {
        point();
        self.held.store(false, SeqCst);
        point();
        if let Some(next) = self.queue.with(VecDeque::pop_front) {
            next.set();
        }
    }
}

pub(crate) fn script(world: &World, twin: Twin) {
    alone(world, move |dice| {
        let mutex = Arc::new(Mutex { held: AtomicBool::new(false), queue: Plain::default(), twin });
        let (theirs, more) = (mutex.clone(), dice.another());
        let worker = spawn_machine("worker", move || work(&theirs, &more))?;
        work(&mutex, &dice);
        Ok(worker.join()?)
    });
}

fn work(mutex: &Mutex, dice: &Dice) {
    for _ in 0..4 {
        mutex.lock();
        dice.nap(3);
        mutex.unlock();
        dice.nap(3);
    }
}
