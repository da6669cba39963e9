//! Which machine a client lives on: of those that have server connections for its pool, the one with fewest of the pool's clients for each of
//! them.
//!
//! A pool's size is divided among the machines; a pool of three on four machines is on three.

use std::collections::BTreeMap;
use std::sync::Arc;

use machinarium::WaitError;
use machinarium::sync::Mutex;

use crate::config::Config;

type Key = (String, String);

/// How many clients each pool has on each machine. A clone is the same one.
#[derive(Clone, Default)]
pub(crate) struct Homes {
    counts: Arc<Mutex<BTreeMap<Key, Vec<usize>>>>,
}

/// One client's part of the count.
pub(crate) struct Home {
    homes: Homes,
    key: Key,
    pub(crate) machine: usize,
}

impl Homes {
    /// A home for a client of a pool of this size.
    pub(crate) fn find(
        &self,
        config: &Config,
        database: &str,
        user: &str,
        size: usize,
    ) -> Result<Home, WaitError> {
        let key = (database.to_owned(), user.to_owned());
        let mut counts = self.counts.lock()?;
        let counts = counts.entry(key.clone()).or_insert_with(|| vec![0; config.machines]);
        let with_share = (0..config.machines).filter(|machine| config.share(size, *machine) > 0);
        // The quotients, compared without dividing: a machine's clients, this one too, for each of its connections.
        let crowded = |machine: &usize| (counts[*machine] + 1) * 1024 / config.share(size, *machine);
        let machine = with_share.min_by_key(crowded).unwrap_or(0);
        counts[machine] += 1;
        Ok(Home { homes: self.clone(), key, machine })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Shielded: a client that is cancelled is gone all the same.
        let _ = machinarium::shield(|| -> Result<(), WaitError> {
            let mut counts = self.homes.counts.lock()?;
            if let Some(of_pool) = counts.get_mut(&self.key) {
                of_pool[self.machine] -= 1;
                if of_pool.iter().all(|count| *count == 0) {
                    counts.remove(&self.key);
                }
            }
            Ok(())
        });
    }
}
