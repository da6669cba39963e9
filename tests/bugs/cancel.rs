//! M19. A client's cancel finds out which server works for the client, and goes there. When it arrives the server may work for somebody else, which
//! the wrong cancel does not look at.

use std::cell::Cell;
use std::rc::Rc;

use machinarium::spawn;
use machinarium::sync::Mutex;
use machinarium_sim::World;

use crate::place::{Dice, alone};
use crate::table::Twin;

/// The only server, which works for one at a time.
struct Server {
    place: Mutex<()>,
    /// Whose query, and which of all.
    user: Cell<Option<(usize, u64)>>,
    queries: Cell<u64>,
    cancelled: Cell<bool>,
}

impl Server {
    /// Whether the query was cancelled.
    fn query(&self, client: usize, dice: &Dice) -> bool {
        let place = self.place.lock().unwrap();
        self.queries.set(self.queries.get() + 1);
        self.user.set(Some((client, self.queries.get())));
        self.cancelled.set(false);
        dice.nap(20);
        self.user.set(None);
        let cancelled = self.cancelled.get();
        drop(place);
        cancelled
    }

    fn cancel(&self, client: usize, dice: &Dice, twin: Twin) {
        let Some((user, query)) = self.user.get().filter(|(user, _)| *user == client) else { return };
        // It is under way.
        dice.nap(10);
        if twin.is_wrong() || self.user.get() == Some((user, query)) {
            self.cancelled.set(true);
        }
    }
}

pub(crate) fn script(world: &World, twin: Twin) {
    alone(world, move |dice| {
        let (place, user) = (Mutex::new(()), Cell::new(None));
        let server = Rc::new(Server { place, user, queries: Cell::new(0), cancelled: Cell::new(false) });
        let (theirs, more) = (server.clone(), dice.another());
        // Client 0 is impatient. Client 1 never cancels.
        let canceller = spawn(move || {
            for _ in 0..6 {
                more.nap(20);
                theirs.cancel(0, &more, twin);
            }
        });
        let (theirs, more) = (server.clone(), dice.another());
        let impatient = spawn(move || (0..4).filter(|_| theirs.query(0, &more)).count());
        for _ in 0..4 {
            assert!(!server.query(1, &dice), "somebody else's cancel");
        }
        impatient.join()?;
        Ok(canceller.join()?)
    });
}
