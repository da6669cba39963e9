//! M8. A sender takes a waiting reader out of the queue and gives it the item. The wrong reader, if its time is over in between, goes away
//! without the item that it was given. A history of the queue shows that it is lost.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use machinarium::machine::spawn as spawn_machine;
use machinarium::shared::primitive::point;
use machinarium::sync::Event;
use machinarium_sim::World;
use machinarium_sim::history::{Client, History, Queue, QueueAnswer, QueueCall};

use crate::place::{Dice, Plain, alone};
use crate::table::Twin;

#[derive(Default)]
struct Slot {
    item: Plain<Option<u64>>,
    given: Event,
}

#[derive(Default)]
struct Ends {
    items: VecDeque<u64>,
    readers: VecDeque<Arc<Slot>>,
}

struct Channel {
    ends: Plain<Ends>,
    twin: Twin,
}

impl Channel {
    fn send(&self, item: u64) {
        point();
        let reader = self.ends.with(|ends| {
            let reader = ends.readers.pop_front();
            if reader.is_none() {
                ends.items.push_back(item);
            }
            reader
        });
        if let Some(reader) = reader {
            point();
            reader.item.with(|place| *place = Some(item));
            reader.given.set();
        }
    }

    fn receive(&self, timeout: Duration) -> Option<u64> {
        point();
        let slot = Arc::new(Slot::default());
        let at_once = self.ends.with(|ends| {
            let item = ends.items.pop_front();
            if item.is_none() {
                ends.readers.push_back(slot.clone());
            }
            item
        });
        if at_once.is_some() {
            return at_once;
        }
        if slot.given.wait_timeout(timeout).is_err() {
            let waiting = self.ends.with(|ends| {
                let before = ends.readers.len();
                ends.readers.retain(|other| !Arc::ptr_eq(other, &slot));
                ends.readers.len() < before
            });
            if waiting || self.twin.is_wrong() {
                return None;
            }
            // Somebody is about to give.
            slot.given.wait().unwrap();
        }
        slot.item.with(Option::take)
    }
}

pub(crate) fn script(world: &World, twin: Twin) {
    let history = History::new(Queue::unbounded());
    let (sends, receives) = (history.client("sender"), history.client("receiver"));
    alone(world, move |dice| program(&dice, sends.clone(), &receives, twin));
    history.assert_linearizable();
}

type Book = Client<Queue<u64>>;

fn program(dice: &Dice, sends: Book, receives: &Book, twin: Twin) -> io::Result<()> {
    let channel = Arc::new(Channel { ends: Plain::default(), twin });
    let (theirs, more) = (channel.clone(), dice.another());
    let sender = spawn_machine("sender", move || {
        for item in 0..5 {
            more.nap(8);
            sends.call(QueueCall::Push(item), || {
                theirs.send(item);
                QueueAnswer::Pushed
            });
        }
    })?;
    for _ in 0..8 {
        let pop = receives.begin(QueueCall::Pop);
        match channel.receive(dice.micros(8)) {
            Some(item) => pop.answered(QueueAnswer::Popped(item)),
            None => pop.refused(),
        }
    }
    sender.join()?;
    // Nobody is there but us, so all that was sent and not received must be in it.
    let mut empty = false;
    while !empty {
        let answer = receives.call(QueueCall::Pop, || {
            channel.receive(Duration::ZERO).map_or(QueueAnswer::Empty, QueueAnswer::Popped)
        });
        empty = answer == QueueAnswer::Empty;
    }
    Ok(())
}
