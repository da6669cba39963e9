//! M9. Several readers wait for one item each. The wrong one, woken, takes it for granted that the item is still there; a reader that never
//! waited has taken it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use machinarium::spawn;
use machinarium::sync::WaitList;
use machinarium_sim::World;

use crate::place::{Dice, alone};
use crate::table::Twin;

const READERS: u64 = 3;
const EACH: u64 = 4;

struct Channel {
    items: RefCell<VecDeque<u64>>,
    arrivals: WaitList,
    twin: Twin,
}

impl Channel {
    fn send(&self, item: u64) {
        self.items.borrow_mut().push_back(item);
        self.arrivals.update(|count| Some(count + 1)).unwrap();
        self.arrivals.notify_one();
    }

    fn receive(&self) -> u64 {
        loop {
            let seen = self.arrivals.get();
            if !self.items.borrow().is_empty() {
                break;
            }
            self.arrivals.wait(seen).unwrap();
            if self.twin.is_wrong() {
                break;
            }
        }
        let item = self.items.borrow_mut().pop_front();
        item.expect("woken for nothing")
    }
}

pub(crate) fn script(world: &World, twin: Twin) {
    alone(world, move |dice| {
        let (items, arrivals) = (RefCell::default(), WaitList::new(0));
        let channel = Rc::new(Channel { items, arrivals, twin });
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let (channel, dice) = (channel.clone(), dice.another());
                spawn(move || read(&channel, &dice))
            })
            .collect();
        for item in 0..READERS * EACH {
            dice.nap(6);
            channel.send(item);
        }
        readers.into_iter().try_for_each(|reader| Ok(reader.join()?))
    });
}

fn read(channel: &Channel, dice: &Dice) {
    for _ in 0..EACH {
        dice.nap(6);
        channel.receive();
    }
}
