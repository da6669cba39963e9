//! One machine's part of the server: its keys, its sweeper of expired keys, and its way to the other machines.
//!
//! Every key belongs to one machine, by its hash. That machine alone touches it, so a command on one key is atomic
//! without a lock: it runs between two waits. Requests for keys of other machines go there in a batch, one for each
//! machine and pipeline (`plan.rs`).
//!
//! The sweeper is a coroutine that sleeps until the soonest deadline, removes what is due, and starts the next one. There is
//! none while no key has a deadline. A key with a sooner deadline replaces it.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;

use machinarium::machine::Remote;
use machinarium::net::TcpListener;
use machinarium::{Instant, JoinHandle};

use crate::command::Run;
use crate::common::service::End;
use crate::config::{Config, Totals};
use crate::hub::Hub;
use crate::reply::Reply;
use crate::resp::Arguments;
use crate::store::{Seeded, Store};

machinarium::machine_local! {
    static SHARD: RefCell<Option<Rc<Shard>>> = RefCell::new(None);
}

/// How many expired keys are removed before others may run.
const SWEEP: usize = 128;

/// See the head of the file.
pub(crate) struct Shard {
    pub(crate) config: Arc<Config>,
    pub(crate) totals: Arc<Totals>,
    pub(crate) started: Instant,
    pub(crate) hub: Arc<Hub>,
    /// This machine's place among `peers`.
    index: usize,
    peers: Vec<Remote>,
    store: RefCell<Store>,
    sweeper: RefCell<Option<Sweeper>>,
    pub(crate) end: End,
    /// This machine's, until it accepts.
    pub(crate) listener: RefCell<Option<TcpListener>>,
}

struct Sweeper {
    at: u64,
    handle: JoinHandle<()>,
}

/// What all machines of a server are given.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) config: Arc<Config>,
    pub(crate) totals: Arc<Totals>,
    pub(crate) started: Instant,
    pub(crate) hub: Arc<Hub>,
    pub(crate) peers: Vec<Remote>,
    pub(crate) end: End,
}

impl Shard {
    /// Makes the calling machine the one with this index.
    pub(crate) fn install(index: usize, common: Common) -> Rc<Shard> {
        let Common { config, totals, started, hub, peers, end } = common;
        assert!(index < peers.len(), "a shard is one of the server's machines");
        let store = RefCell::new(Store::new(config.memory / peers.len(), config.hash_seed));
        let (sweeper, listener) = (RefCell::new(None), RefCell::new(None));
        let shard =
            Rc::new(Shard { config, totals, started, hub, index, peers, store, sweeper, end, listener });
        SHARD.with(|here| *here.borrow_mut() = Some(shard.clone()));
        shard
    }

    /// The calling machine's.
    pub(crate) fn here() -> Rc<Shard> {
        SHARD.with(|here| here.borrow().clone()).expect("requests come after the shard was installed")
    }

    pub(crate) fn machines(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn peer(&self, index: usize) -> &Remote {
        &self.peers[index]
    }

    /// Which machine a key belongs to.
    pub(crate) fn owner(&self, key: &[u8]) -> usize {
        if self.peers.len() == 1 {
            return 0;
        }
        // Not the hash of the stores: each would get keys that fall into a part of its table only.
        (Seeded(!self.config.hash_seed).hash_one(key) % self.peers.len() as u64) as usize
    }

    /// Runs a command on the keys of this machine.
    pub(crate) fn run(&self, run: Run, arguments: Arguments<'_>, now: u64) -> Reply {
        run(&mut self.store.borrow_mut(), arguments, now)
    }

    pub(crate) fn store(&self) -> std::cell::RefMut<'_, Store> {
        self.store.borrow_mut()
    }

    /// Sees to it that expired keys will be removed. To be called after commands have run.
    pub(crate) fn arm(self: &Rc<Shard>) {
        let Some(at) = self.store.borrow().nearest() else { return };
        let mut sweeper = self.sweeper.borrow_mut();
        match &*sweeper {
            Some(armed) if armed.at <= at => return,
            // It may have ended or be about to; either way it is not needed.
            Some(late) => drop(late.handle.cancel("a key expires sooner")),
            None => {}
        }
        let shard = self.clone();
        let handle = machinarium::spawn_named("sweeper", move || shard.sweep(at));
        *sweeper = Some(Sweeper { at, handle });
    }

    fn sweep(self: Rc<Shard>, at: u64) {
        if machinarium::sleep_until(Instant::from_nanos(at)).is_err() {
            return;
        }
        while !self.store.borrow_mut().expire(SWEEP, machinarium::now().as_nanos()) {
            machinarium::yield_now();
        }
        // One that replaced this in the meantime has a deadline of its own.
        let replaced = self.sweeper.borrow().as_ref().is_none_or(|sweeper| sweeper.at != at);
        if !replaced {
            self.sweeper.borrow_mut().take();
            self.arm();
        }
    }
}
