//! M18. Only one at a time may start a connection. The wrong ones count themselves first and look then: two that come together both see too many, both
//! step back for the same time, and come together again.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use machinarium::{sleep, spawn};
use machinarium_sim::World;

use crate::place::alone;
use crate::table::Twin;

const TRIES: u32 = 200;

/// How many start just now.
struct Ramp {
    starting: Cell<u32>,
    twin: Twin,
}

impl Ramp {
    fn enter(&self) -> bool {
        if self.twin.is_wrong() {
            self.starting.set(self.starting.get() + 1);
            // A look and a step back take their time.
            sleep(Duration::from_micros(10)).unwrap();
            let alone = self.starting.get() == 1;
            if !alone {
                sleep(Duration::from_micros(10)).unwrap();
                self.leave();
            }
            return alone;
        }
        let free = self.starting.get() == 0;
        if free {
            self.starting.set(1);
            sleep(Duration::from_micros(10)).unwrap();
        }
        free
    }

    fn leave(&self) {
        self.starting.set(self.starting.get() - 1);
    }
}

pub(crate) fn script(world: &World, twin: Twin) {
    alone(world, move |dice| {
        let ramp = Rc::new(Ramp { starting: Cell::new(0), twin });
        let starters: Vec<_> = (0..2)
            .map(|_| {
                let (ramp, delay) = (ramp.clone(), dice.micros(100));
                spawn(move || start(&ramp, delay))
            })
            .collect();
        starters.into_iter().try_for_each(|starter| Ok(starter.join()?))
    });
}

fn start(ramp: &Ramp, delay: Duration) {
    sleep(delay).unwrap();
    let entered = (0..TRIES).any(|_| {
        let entered = ramp.enter();
        if !entered {
            sleep(Duration::from_micros(20)).unwrap();
        }
        entered
    });
    assert!(entered, "nobody gets in");
    sleep(Duration::from_micros(50)).unwrap();
    ramp.leave();
}
