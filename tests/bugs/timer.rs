//! M12. A wait with a timeout has a timer, which is stopped when the wait is over. A timer that has fired just then is not stopped by that: the
//! wrong one does not look whose wait it ends.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use machinarium::sync::WaitList;
use machinarium::{now, sleep, spawn};
use machinarium_sim::World;

use crate::place::{Dice, alone};
use crate::table::Twin;

struct Waits {
    list: WaitList,
    /// Which wait it is, from 1.
    number: Cell<u64>,
    expired: Cell<bool>,
    twin: Twin,
}

impl Waits {
    /// Whether it was signalled in time.
    fn wait(self: &Rc<Waits>, timeout: Duration) -> bool {
        self.number.set(self.number.get() + 1);
        self.expired.set(false);
        let (waits, number) = (self.clone(), self.number.get());
        let timer = spawn(move || {
            if sleep(timeout).is_ok() && (waits.twin.is_wrong() || waits.number.get() == number) {
                waits.expired.set(true);
                waits.list.notify_one();
            }
        });
        self.list.wait(0).unwrap();
        let expired = self.expired.get();
        timer.cancel("the wait is over").unwrap();
        !expired
    }
}

pub(crate) fn script(world: &World, twin: Twin) {
    alone(world, move |dice| {
        let (list, number, expired) = (WaitList::new(0), Cell::new(0), Cell::new(false));
        let waits = Rc::new(Waits { list, number, expired, twin });
        let (theirs, more, ended) = (waits.clone(), dice.another(), Rc::new(Cell::new(false)));
        let end = ended.clone();
        let signaller = spawn(move || signals(&theirs, &more, &end));
        for _ in 0..6 {
            let (timeout, begun) = (Duration::from_micros(2) + dice.micros(10), now());
            let signalled = waits.wait(timeout);
            assert!(signalled || now() >= begun + timeout, "timed out before its time");
        }
        ended.set(true);
        Ok(signaller.join()?)
    });
}

fn signals(waits: &Waits, dice: &Dice, ended: &Cell<bool>) {
    while !ended.get() {
        sleep(Duration::from_micros(1) + dice.micros(9)).unwrap();
        waits.list.notify_one();
    }
}
