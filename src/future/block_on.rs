//! `block_on`: a future, polled by the coroutine that calls it, and the waker that unparks that coroutine.
//!
//! A wake-up is a number that becomes 1, and the coroutine sleeps while it is 0 (`sync::WaitList`: compare, then wait). So it may come
//! from any thread, during the poll, before the sleep or after the end: then it changes a number that nobody looks at.
//!
//! The number is always written, also when it is 1 already. Whoever sees what that write left sees what its waker did before it, so a
//! wake-up that comes just as another is being taken is not answered by a poll that has not seen why.
//!
//! Each poll is on a big stack that the machine lends for it. A poll goes deep (hyper's takes some 16 KiB), and mostly comes back
//! without having waited: so all coroutines poll by turns on the same warm memory, and their own stacks stay as small as they are. A thousand
//! connections of hyper's took 44 KiB each before, and 25 KiB since. A poll that waits keeps its stack meanwhile.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::error::{Misuse, WaitError};
use crate::machine::{current, on_lent_stack};
use crate::sync::WaitList;

/// Polls `future` as this coroutine until it is ready; parks meanwhile, until its waker is used, by any thread.
///
/// Each poll is on a big stack ([`on_big_stack`](crate::on_big_stack)), as long as the machine has one.
///
/// Not `async` all the way: inside the future everything that parks may be called, also another `block_on`. It need not be `Send`.
///
/// # Errors
/// If the coroutine is cancelled or the deadline of a [`timeout`](crate::timeout) around it passes; outside a machine. The future is polled
/// once more then, so that what has come in that instant is had, and else dropped, on this coroutine.
///
/// ```
/// use std::time::Duration;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let forever = machinarium::timeout(Duration::from_millis(1), || {
///         machinarium::block_on(std::future::pending::<()>())
///     });
///     forever?;
///     Ok(())
/// });
/// assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
/// ```
pub fn block_on<F: Future>(future: F) -> Result<F::Output, WaitError> {
    let machine = current::machine().ok_or(Misuse::NoMachine)?;
    machine.operation()?;
    let notice = Arc::new(Notice(WaitList::new(QUIET)));
    let waker = Waker::from(notice.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let mut waited = Ok(());
    loop {
        notice.take();
        if let Poll::Ready(output) = on_lent_stack(|| future.as_mut().poll(&mut context)) {
            return Ok(output);
        }
        waited?;
        waited = notice.wait();
    }
}

/// See the head of the file.
struct Notice(WaitList);

const QUIET: u64 = 0;
const TOLD: u64 = 1;

impl Notice {
    fn take(&self) {
        // What is always changed cannot be refused.
        let _ = self.0.update(|_| Some(QUIET));
    }

    /// Waits for a wake-up that has come since `take`, or comes.
    fn wait(&self) -> Result<(), WaitError> {
        self.0.wait_for("future", QUIET)
    }
}

impl Wake for Notice {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.0.update(|_| Some(TOLD)) == Ok(QUIET) {
            self.0.notify_one();
        }
    }
}
