//! The planted bug, kept apart from the code that it spoils.
//!
//! `lost-write`: "when the reply could not be written in time, the client does not know of its writes, so undo them". The
//! mistake is in the time: the check comes after the write, and a reply that left in time is taken for a late one when the
//! thread was held up just then, or when only the end of a long pipeline's replies was late. The client has its OK, and the
//! write is gone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Bug;
use crate::resp::Arguments;
use crate::shard::Shard;
use crate::store::Expiry;

/// What a pipeline's keys held before it. Empty without the bug.
pub(crate) struct Undo {
    bug: Option<Bug>,
    before: Vec<Before>,
}

struct Before {
    key: Box<[u8]>,
    value: Option<Arc<[u8]>>,
    deadline: Option<u64>,
}

impl Undo {
    pub(crate) fn new(bug: Option<Bug>) -> Undo {
        Undo { bug, before: Vec::new() }
    }

    /// Notes what a command's key holds, before the command runs.
    pub(crate) fn before(&mut self, shard: &Shard, arguments: Arguments<'_>, now: u64) {
        if self.bug != Some(Bug::LostWrite) || arguments.len() < 2 {
            return;
        }
        let (store, key) = (shard.store(), arguments.get(1));
        let (value, deadline) = (store.get(key, now).cloned(), store.deadline(key, now).flatten());
        self.before.push(Before { key: key.into(), value, deadline });
    }

    /// Spoils the writing of replies: `write` is followed by a look at the clock, and what is late is undone.
    pub(crate) fn around(
        &mut self,
        shard: &Shard,
        allowed: Duration,
        write: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let deadline = machinarium::now() + allowed;
        let written = write();
        if self.bug == Some(Bug::LostWrite) && machinarium::now() >= deadline {
            self.undo(shard);
            return Err(io::ErrorKind::TimedOut.into());
        }
        written
    }

    fn undo(&mut self, shard: &Shard) {
        let now = machinarium::now().as_nanos();
        let mut store = shard.store();
        for before in self.before.drain(..).rev() {
            match before.value {
                None => drop(store.remove(&before.key, now)),
                Some(value) => {
                    let expiry = before.deadline.map_or(Expiry::Never, Expiry::At);
                    // It held this before, so there is room for it.
                    let _ = store.set(&before.key, value, expiry, now);
                }
            }
        }
    }
}
