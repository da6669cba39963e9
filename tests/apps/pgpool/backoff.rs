//! When a server lets nobody in: how long it is not asked again, and what clients are told meanwhile.
//!
//! A client that comes when there is no connection at all, and none is tried, is told at once why the last try has failed: it need not
//! wait, and a server that has trouble is not asked by each of a thousand clients.

use std::cell::RefCell;
use std::time::Duration;

use machinarium::Instant;

use crate::failure::Failure;

/// After the first failure. It doubles with each one.
const FIRST: Duration = Duration::from_millis(100);

/// The longest: so late it may be noticed that a server is there again.
const LONGEST: Duration = Duration::from_secs(2);

/// See the head of the file.
#[derive(Default)]
pub(crate) struct Backoff(RefCell<Option<Last>>);

/// The last failure.
struct Last {
    delay: Duration,
    until: Instant,
    code: &'static str,
    text: String,
}

impl Backoff {
    pub(crate) fn failed(&self, code: &'static str, text: String) {
        let before = self.0.borrow().as_ref().map_or(FIRST / 2, |last| last.delay);
        let delay = LONGEST.min(before * 2);
        *self.0.borrow_mut() = Some(Last { delay, until: machinarium::now() + delay, code, text });
    }

    /// A connection was opened, or another server is to be asked.
    pub(crate) fn forget(&self) {
        *self.0.borrow_mut() = None;
    }

    /// What whoever needs a connection now is told, if none is to be tried yet.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        let last = self.0.borrow();
        let last = last.as_ref().filter(|last| machinarium::now() < last.until)?;
        let text = format!("{}; the next try is {:?} after this one", last.text, last.delay);
        Some(Failure::told(last.code, text))
    }
}
