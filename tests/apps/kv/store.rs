//! The keyspace: byte strings by key, some with a deadline, and a limit on what they may take.
//!
//! A store is plain data of one machine. It knows no clock: whoever calls says what time it is, in nanoseconds of any
//! clock that never goes back. A key whose deadline has come is gone for every caller from that instant on, whether or not
//! `expire` has already removed it; `expire` only gives the memory back. When to call that is somebody else's business:
//! `nearest` says when it is worth it.
//!
//! Memory is counted, not measured: key and value bytes and a flat sum per entry. A write that would pass the limit is
//! refused and leaves all as it was.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::sync::Arc;

/// What an entry costs besides its bytes: table slot, allocations, its line among the deadlines.
const ENTRY: usize = 128;

/// The keyspace of one machine.
pub(crate) struct Store {
    entries: HashMap<Box<[u8]>, Entry, Seeded>,
    /// The keys with a deadline, soonest first. The number tells those of one instant apart.
    deadlines: BTreeMap<(u64, u64), Box<[u8]>>,
    next_number: u64,
    memory: usize,
    limit: usize,
}

#[derive(Clone)]
struct Entry {
    value: Arc<[u8]>,
    /// Its place in `deadlines`.
    deadline: Option<(u64, u64)>,
}

/// A write that the memory limit forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory;

/// What becomes of a key's deadline when its value is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    Never,
    Keep,
    At(u64),
}

impl Store {
    /// `limit` in bytes. Two stores with the same seed hash alike; a seed that clients cannot know keeps them from making
    /// all their keys collide.
    pub(crate) fn new(limit: usize, seed: u64) -> Store {
        Store {
            entries: HashMap::with_hasher(Seeded(seed)),
            deadlines: BTreeMap::new(),
            next_number: 0,
            memory: 0,
            limit,
        }
    }

    pub(crate) fn get(&self, key: &[u8], now: u64) -> Option<&Arc<[u8]>> {
        self.live(key, now).map(|entry| &entry.value)
    }

    pub(crate) fn contains(&self, key: &[u8], now: u64) -> bool {
        self.live(key, now).is_some()
    }

    /// Sets a key, whatever it held.
    pub(crate) fn set(
        &mut self,
        key: &[u8],
        value: Arc<[u8]>,
        expiry: Expiry,
        now: u64,
    ) -> Result<(), OutOfMemory> {
        let old = self.live(key, now);
        let freed = self.entries.get(key).map_or(0, |entry| cost(key, &entry.value));
        let memory = (self.memory - freed).saturating_add(cost(key, &value));
        if memory > self.limit {
            return Err(OutOfMemory);
        }
        let at = match expiry {
            Expiry::Never => None,
            Expiry::Keep => old.and_then(|entry| entry.deadline).map(|(at, _)| at),
            Expiry::At(at) => Some(at),
        };
        self.memory = memory;
        let entry = Entry { value, deadline: None };
        match self.entries.get_mut(key) {
            Some(slot) => {
                let old = std::mem::replace(slot, entry);
                self.forget_deadline(old.deadline);
            }
            None => {
                self.entries.insert(key.into(), entry);
            }
        }
        if let Some(at) = at {
            self.set_deadline(key, at);
        }
        Ok(())
    }

    /// True when the key was there.
    pub(crate) fn remove(&mut self, key: &[u8], now: u64) -> bool {
        let live = self.contains(key, now);
        self.discard(key);
        live
    }

    /// The deadline of a key: none when there is no such key, `Some(None)` when it has no deadline.
    pub(crate) fn deadline(&self, key: &[u8], now: u64) -> Option<Option<u64>> {
        self.live(key, now).map(|entry| entry.deadline.map(|(at, _)| at))
    }

    /// Gives a key a deadline, or takes it away. False when there is no such key. One that has already come removes the key.
    pub(crate) fn expire_at(&mut self, key: &[u8], at: Option<u64>, now: u64) -> bool {
        if !self.contains(key, now) {
            return false;
        }
        let old = self.entries.get_mut(key).and_then(|entry| entry.deadline.take());
        self.forget_deadline(old);
        match at {
            None => {}
            Some(at) if at <= now => self.discard(key),
            Some(at) => self.set_deadline(key, at),
        }
        true
    }

    pub(crate) fn clear(&mut self) {
        // Not `clear`: the tables of a million keys are given back as well.
        self.entries = HashMap::with_hasher(*self.entries.hasher());
        self.deadlines = BTreeMap::new();
        self.memory = 0;
    }

    /// Removes at most `most` keys whose deadline has come; true when none of them is left.
    pub(crate) fn expire(&mut self, most: usize, now: u64) -> bool {
        for _ in 0..most {
            match self.deadlines.first_key_value() {
                Some((&(at, _), key)) if at <= now => {
                    let key = key.clone();
                    self.discard(&key);
                }
                _ => return true,
            }
        }
        self.nearest().is_none_or(|at| at > now)
    }

    /// The soonest deadline of all.
    pub(crate) fn nearest(&self) -> Option<u64> {
        self.deadlines.first_key_value().map(|(&(at, _), _)| at)
    }

    /// Keys, those not yet removed after their deadline included.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn expiring(&self) -> usize {
        self.deadlines.len()
    }

    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    fn live(&self, key: &[u8], now: u64) -> Option<&Entry> {
        let entry = self.entries.get(key)?;
        match entry.deadline {
            Some((at, _)) if at <= now => None,
            _ => Some(entry),
        }
    }

    fn discard(&mut self, key: &[u8]) {
        if let Some(entry) = self.entries.remove(key) {
            self.memory -= cost(key, &entry.value);
            self.forget_deadline(entry.deadline);
        }
    }

    fn set_deadline(&mut self, key: &[u8], at: u64) {
        let place = (at, self.next_number);
        self.next_number += 1;
        let entry = self.entries.get_mut(key).expect("a deadline is for a key that is there");
        assert!(entry.deadline.is_none(), "a key has one deadline");
        entry.deadline = Some(place);
        self.deadlines.insert(place, key.into());
    }

    fn forget_deadline(&mut self, place: Option<(u64, u64)>) {
        if let Some(place) = place {
            let key = self.deadlines.remove(&place);
            assert!(key.is_some(), "an entry's deadline is among the deadlines");
        }
    }
}

fn cost(key: &[u8], value: &[u8]) -> usize {
    // Twice the key: it is kept beside its deadline as well.
    ENTRY + 2 * key.len() + value.len()
}

/// SipHash with a start of our own: std's `RandomState` would make two runs of one seed differ.
#[derive(Clone, Copy)]
pub(crate) struct Seeded(pub(crate) u64);

impl BuildHasher for Seeded {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}
