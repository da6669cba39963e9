//! M2. A condition remembers a signal that found nobody waiting. The wrong one still remembers it when its client has left the server that it
//! was of, and the client's next wait, which is for something else, returns at once.

use std::cell::Cell;
use std::rc::Rc;

use machinarium::sync::WaitList;
use machinarium::{Instant, now, spawn};
use machinarium_sim::World;

use crate::place::{Dice, alone};
use crate::table::Twin;

struct Client {
    waits: WaitList,
    signalled: Cell<bool>,
    /// The query that its server works at.
    query: Cell<Option<u64>>,
    request: Cell<bool>,
}

impl Client {
    fn signal(&self) {
        self.signalled.set(true);
        self.waits.update(|count| Some(count + 1)).unwrap();
        self.waits.notify_one();
    }

    /// Until a signal, or for so many microseconds.
    fn wait(&self, timeout: Option<std::time::Duration>) {
        let until = timeout.map_or(Instant::FAR, |timeout| now() + timeout);
        loop {
            let seen = self.waits.get();
            if self.signalled.take() || self.waits.wait_deadline(seen, until).is_err() {
                return;
            }
        }
    }

    fn leave_server(&self, twin: Twin) {
        self.query.set(None);
        if !twin.is_wrong() {
            self.signalled.set(false);
        }
    }
}

pub(crate) fn script(world: &World, twin: Twin) {
    alone(world, move |dice| {
        let (waits, signalled) = (WaitList::new(0), Cell::new(false));
        let client = Rc::new(Client { waits, signalled, query: Cell::new(None), request: Cell::new(false) });
        for number in 0..4 {
            client.query.set(Some(number));
            server_answers(&client, number, &dice);
            client.wait(Some(dice.micros(20)));
            // What it has read until now is enough; it says so to its own client.
            dice.nap(10);
            client.leave_server(twin);
            next_request(&client, &dice);
            client.wait(None);
            assert!(client.request.take(), "woken without a request");
        }
        Ok(())
    });
}

/// The server answers in pieces, each with a signal, for as long as the client is there.
fn server_answers(client: &Rc<Client>, number: u64, dice: &Dice) {
    let (client, dice) = (client.clone(), dice.another());
    spawn(move || {
        for _ in 0..2 {
            dice.nap(20);
            if client.query.get() == Some(number) {
                client.signal();
            }
        }
    });
}

fn next_request(client: &Rc<Client>, dice: &Dice) {
    let (client, dice) = (client.clone(), dice.another());
    spawn(move || {
        machinarium::sleep(std::time::Duration::from_micros(50) + dice.micros(20)).unwrap();
        client.request.set(true);
        client.signal();
    });
}
