//! What a world makes of the tuning of a process's machines: limits so small that what is rare becomes common.
//!
//! A limit that is never reached in a test hides whatever happens there: a batch of events that is full, a budget that is
//! used up, a buffer that the pool has no room for. So each limit is, with even chances, what the program asked for or
//! nearly nothing, by a draw for each process. Nothing in the program asks why: see
//! [`Starter`](machinarium::machine::current::Starter).

use std::time::Duration;

use machinarium::machine::current::Tuning;

use crate::choice::{Choices, Stream, Subsystem};
use crate::fault::{Fault, FaultCounts, Faults};

/// After how many records TLS may change its keys: not before a handshake is over.
pub(crate) const RECORDS: [u64; 3] = [8, 20, 60];

/// What is changed in every tuning of one process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Retuned {
    pub(crate) preempt: bool,
    budget: Option<u32>,
    turns: Option<u32>,
    events: Option<usize>,
    readahead: Option<usize>,
    readahead_limit: Option<usize>,
    buffers: Option<usize>,
    relay: Option<usize>,
    stack_cache: Option<usize>,
    stack_trim: Option<Duration>,
    stack_trim_batch: Option<usize>,
    spin: Option<Duration>,
    shuffle: Option<u64>,
    pool_queue: Option<usize>,
    dns_lookups: Option<usize>,
    dns_capacity: Option<usize>,
    file_chunk: Option<usize>,
    big_stack_cache: Option<usize>,
    message_sizes: Option<(usize, usize)>,
    message_cache: Option<usize>,
    look: Option<u32>,
    /// After how many records TLS changes its keys.
    pub(crate) key_update: Option<u64>,
}

impl Retuned {
    /// For a process that starts under these faults. `identity` is stable.
    pub(crate) fn draw(
        faults: &Faults,
        choices: &mut Choices,
        identity: u64,
        injected: &mut FaultCounts,
    ) -> Retuned {
        let preempt = faults.has(Fault::Preempt);
        let stream = Stream::new(Subsystem::Swarm, 1 << 63 | identity);
        let mut key_update = None;
        if faults.has(Fault::KeyUpdate) {
            injected.count(Fault::KeyUpdate);
            let which = choices.draw(stream, "records of a key", 1 + RECORDS.len() as u64);
            key_update = which.checked_sub(1).map(|which| RECORDS[which as usize]);
        }
        if !faults.has(Fault::Limits) {
            return Retuned { preempt, key_update, ..Retuned::default() };
        }
        injected.count(Fault::Limits);
        let mut one_of = |name: &'static str, small: &[u64]| {
            let answer = choices.draw(stream, name, 2 * small.len() as u64) as usize;
            // The boring answer is the program's own.
            answer.checked_sub(small.len()).map(|place| small[place])
        };
        let size = |limit: Option<u64>| limit.map(|limit| limit as usize);
        Retuned {
            preempt,
            budget: one_of("budget", &[1, 2, 5]).map(|limit| limit as u32),
            turns: one_of("turns", &[1, 3, 40]).map(|limit| limit as u32),
            events: size(one_of("events", &[1, 2, 3])),
            readahead: size(one_of("readahead", &[0, 1, 300])),
            readahead_limit: size(one_of("readahead limit", &[0, 20_000])),
            buffers: size(one_of("buffers", &[0, 1])),
            relay: size(one_of("relay", &[1, 300])),
            stack_cache: size(one_of("stack cache", &[0, 1])),
            stack_trim: one_of("stack trim", &[20, 2000]).map(Duration::from_micros),
            stack_trim_batch: size(one_of("stacks to trim", &[1, 2])),
            spin: one_of("spin", &[2, 10]).map(Duration::from_micros),
            shuffle: one_of("shuffle", &[1, 2, 3, 4]),
            pool_queue: size(one_of("pool queue", &[1, 2])),
            dns_lookups: size(one_of("lookups", &[1, 2])),
            dns_capacity: size(one_of("names", &[0, 1])),
            file_chunk: size(one_of("file chunk", &[1, 100])),
            big_stack_cache: size(one_of("big stack cache", &[0, 1])),
            message_sizes: one_of("message sizes", &[0, 1, 100]).map(|size| (size as usize, size as usize)),
            message_cache: size(one_of("message cache", &[0, 1, 200])),
            look: one_of("look", &[1, 2]).map(|limit| limit as u32),
            key_update,
        }
    }

    /// Has the last word.
    pub(crate) fn apply(&self, tuning: &mut Tuning) {
        fn set<T>(limit: &mut T, other: Option<T>) {
            if let Some(other) = other {
                *limit = other;
            }
        }
        tuning.preempt |= self.preempt;
        set(&mut tuning.budget, self.budget);
        set(&mut tuning.turns, self.turns);
        set(&mut tuning.events, self.events);
        set(&mut tuning.readahead, self.readahead);
        set(&mut tuning.readahead_limit, self.readahead_limit);
        set(&mut tuning.buffers, self.buffers);
        set(&mut tuning.relay, self.relay);
        set(&mut tuning.stack_cache, self.stack_cache);
        set(&mut tuning.stack_trim, self.stack_trim);
        set(&mut tuning.stack_trim_batch, self.stack_trim_batch);
        set(&mut tuning.spin, self.spin);
        set(&mut tuning.big_stack_cache, self.big_stack_cache);
        set(&mut tuning.look, self.look);
        tuning.shuffle = tuning.shuffle.or(self.shuffle);
        set(&mut tuning.pool_queue, self.pool_queue);
        set(&mut tuning.dns_lookups, self.dns_lookups);
        set(&mut tuning.dns_capacity, self.dns_capacity);
        set(&mut tuning.file_chunk, self.file_chunk);
        set(&mut tuning.message_sizes, self.message_sizes);
        set(&mut tuning.message_cache, self.message_cache);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seed: u64, faults: Faults) -> Retuned {
        Retuned::draw(&faults, &mut Choices::new(seed), 7, &mut FaultCounts::default())
    }

    #[test]
    fn limits_are_left_alone_without_the_fault() {
        assert_eq!(drawn(1, Faults::none()), Retuned::default());
        let tuned = |retuned: Retuned| {
            let mut tuning = Tuning::default();
            retuned.apply(&mut tuning);
            format!("{tuning:?}")
        };
        assert_eq!(tuned(Retuned::default()), format!("{:?}", Tuning::default()));
        assert!(tuned(drawn(1, Faults::none().with(Fault::Preempt))).contains("preempt: true"));
    }

    #[test]
    fn each_limit_is_shrunk_with_some_seeds_and_left_with_others() {
        let faults = Faults::none().with(Fault::Limits);
        let all: Vec<Retuned> = (0..200).map(|seed| drawn(seed, faults)).collect();
        let both = |is_shrunk: fn(&Retuned) -> bool| {
            let shrunk = all.iter().filter(|retuned| is_shrunk(retuned)).count();
            assert!((50..150).contains(&shrunk), "{shrunk} of 200");
        };
        both(|retuned| retuned.budget.is_some());
        both(|retuned| retuned.events == Some(1) || retuned.events == Some(2) || retuned.events == Some(3));
        both(|retuned| retuned.readahead.is_some());
        both(|retuned| retuned.shuffle.is_some());
        both(|retuned| retuned.pool_queue.is_some());
        both(|retuned| retuned.dns_lookups.is_some());
        both(|retuned| retuned.dns_capacity.is_some());
        both(|retuned| retuned.file_chunk.is_some());
        both(|retuned| retuned.message_sizes.is_some());
        both(|retuned| retuned.message_cache.is_some());
        both(|retuned| retuned.look.is_some());
    }
}
