//! Deadlines, sleeping, and scopes of both.
//!
//! A deadline is absolute. [`timeout`] sets one for every blocking call made inside; scopes nest, and the nearest
//! deadline wins. [`shield`](crate::shield()) hides deadline and cancellation from what must be finished.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::WaitError;
use crate::kernel::{Clock, Instant};
use crate::machine::{Reason, ScopeDeadline, TaskRef, current};

/// The monotonic clock of this thread's kernel.
///
/// Outside a machine it is the clock of the kernel that `run` would use.
pub fn now() -> Instant {
    match current::machine() {
        Some(machine) => machine.now(),
        None => current::kernel().clock_gettime(Clock::Monotonic),
    }
}

/// The wall clock of this thread's kernel: what `SystemTime::now` is outside of a simulation. It may jump, and in a world it does
/// (`Fault::ClockJump`); for durations there is [`now`].
///
/// ```
/// let since = machinarium::system_time().duration_since(std::time::UNIX_EPOCH).unwrap();
/// assert!(since.as_secs() > 1_700_000_000);
/// ```
pub fn system_time() -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(current::kernel().clock_gettime(Clock::Realtime).as_nanos())
}

/// Waits for `duration`; other coroutines run meanwhile. Zero yields.
///
/// # Errors
/// If the coroutine is cancelled, or the deadline of a [`timeout`] passes first; outside a machine.
pub fn sleep(duration: Duration) -> Result<(), WaitError> {
    if duration.is_zero() {
        crate::machine::yield_now();
    }
    sleep_until(now() + duration)
}

/// Waits until `deadline`.
///
/// # Errors
/// As for [`sleep`].
pub fn sleep_until(deadline: Instant) -> Result<(), WaitError> {
    let machine = current::machine().ok_or(crate::error::Misuse::NoMachine)?;
    let me = machine.operation()?;
    match machine.wait(me, Reason::of("sleep"), deadline, |_| ()) {
        // The sleep's own deadline is its effect; a scope's that is no later is the failure.
        Err(WaitError::Expired(expired)) if expired.scope == 0 => Ok(()),
        other => other,
    }
}

/// Runs `f` with a deadline `duration` from now for every blocking call it makes. After it, those calls fail with kind
/// `TimedOut`; what `f` makes of that is its own affair, and what it returns is returned.
///
/// An enclosing deadline that is nearer stays in force. Coroutines that `f` spawns are not bound by it; children of a
/// [`scope`](crate::scope()) are.
///
/// ```
/// use std::time::Duration;
/// let result: std::io::Result<()> = machinarium::run(|| {
///     machinarium::timeout(Duration::from_millis(1), || machinarium::sleep(Duration::from_secs(60)))?;
///     Ok(())
/// });
/// assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
/// ```
pub fn timeout<T>(duration: Duration, f: impl FnOnce() -> T) -> T {
    deadline(now() + duration, f)
}

/// As [`timeout`], with the moment itself.
pub fn deadline<T>(at: Instant, f: impl FnOnce() -> T) -> T {
    let Some((machine, me)) = current::machine().and_then(|machine| Some((machine, machine.running()?)))
    else {
        return f();
    };
    let outer = me.scope.get();
    if at < outer.at {
        me.scope.set(ScopeDeadline { at, id: machine.next_id() });
    }
    let _restore = RestoreScope { task: me, scope: outer };
    f()
}

/// The moment at which blocking calls made here begin to fail, if there is one.
pub fn current_deadline() -> Option<Instant> {
    let task = current::machine()?.running()?;
    Some(task.scope.get().at).filter(|at| *at != Instant::FAR)
}

struct RestoreScope {
    task: TaskRef,
    scope: ScopeDeadline,
}

impl Drop for RestoreScope {
    fn drop(&mut self) {
        self.task.scope.set(self.scope);
    }
}
