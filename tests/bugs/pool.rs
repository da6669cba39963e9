//! M7. Clients share few servers. Who finds none waits until one comes back; the wrong one begins to watch for that only after its look.

use std::sync::Arc;

use machinarium::machine::spawn as spawn_machine;
use machinarium::shared::primitive::point;
use machinarium::sync::WaitList;
use machinarium_sim::World;

use crate::place::{Dice, Plain, alone};
use crate::table::Twin;

struct Pool {
    free: Plain<Vec<u32>>,
    /// How often a server came back.
    returns: WaitList,
    twin: Twin,
}

impl Pool {
    fn take(&self) -> u32 {
        loop {
            let before = self.returns.get();
            point();
            if let Some(server) = self.free.with(Vec::pop) {
                return server;
            }
            point();
            let seen = if self.twin.is_wrong() { self.returns.get() } else { before };
            self.returns.wait(seen).unwrap();
        }
    }

    fn give_back(&self, server: u32) {
        self.free.with(|free| free.push(server));
        point();
        self.returns.update(|count| Some(count + 1)).unwrap();
        self.returns.notify_one();
    }
}

pub(crate) fn script(world: &World, twin: Twin) {
    alone(world, move |dice| {
        let pool = Arc::new(Pool { free: Plain::new(vec![1]), returns: WaitList::new(0), twin });
        let clients: Vec<_> = (0..2)
            .map(|_| {
                let (pool, dice) = (pool.clone(), dice.another());
                spawn_machine("client", move || client(&pool, &dice))
            })
            .collect::<Result<_, _>>()?;
        client(&pool, &dice);
        clients.into_iter().try_for_each(|client| Ok(client.join()?))
    });
}

fn client(pool: &Pool, dice: &Dice) {
    for _ in 0..4 {
        let server = pool.take();
        dice.nap(4);
        pool.give_back(server);
        dice.nap(4);
    }
}
