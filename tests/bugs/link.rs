//! M11. A condition passes its signals on to the one that it is linked to. A client and its server link their conditions to each other now
//! and then; the wrong conditions then pass a signal round and round.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use machinarium::spawn;
use machinarium_sim::World;

use crate::place::{Dice, alone};
use crate::table::Twin;

#[derive(Default)]
struct Condition {
    next: RefCell<Option<Rc<Condition>>>,
    passing: Cell<bool>,
    signals: Cell<u32>,
}

impl Condition {
    fn signal(&self, twin: Twin, depth: u32) {
        assert!(depth < 100, "a signal goes round and round");
        if self.passing.replace(true) && !twin.is_wrong() {
            return;
        }
        self.signals.set(self.signals.get() + 1);
        let next = self.next.borrow().clone();
        if let Some(next) = next {
            next.signal(twin, depth + 1);
        }
        self.passing.set(false);
    }

    /// Links the one to the other for a while, again and again.
    fn follow(self: Rc<Condition>, other: &Rc<Condition>, dice: &Dice) {
        for _ in 0..3 {
            dice.nap(50);
            self.next.replace(Some(other.clone()));
            dice.nap(10);
            self.next.take();
        }
    }
}

pub(crate) fn script(world: &World, twin: Twin) {
    alone(world, move |dice| {
        let (client, server) = (Rc::new(Condition::default()), Rc::new(Condition::default()));
        let linked = |from: &Rc<Condition>, to: &Rc<Condition>| {
            let (from, to, dice) = (from.clone(), to.clone(), dice.another());
            spawn(move || from.follow(&to, &dice))
        };
        let links = [linked(&client, &server), linked(&server, &client)];
        for _ in 0..8 {
            dice.nap(30);
            client.signal(twin, 0);
        }
        assert!(client.signals.get() >= 8 && server.signals.get() <= 8);
        links.into_iter().try_for_each(|link| Ok(link.join()?))
    });
}
