//! A moment as a future: an alarm of the machine that polls it.
//!
//! `Send`, as others ask of timers: it names the machine whose alarm it is and holds nothing of it. Polled on another machine, it sets
//! an alarm there; the one that is left behind wakes once for nothing, or ends with its machine.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::error::Misuse;
use crate::kernel::Instant;
use crate::machine::wakeup::Shared;
use crate::machine::{Alarm, Machine, current};

/// Ready when `duration` has passed, counted from this call.
///
/// # Errors
/// The future's: [`Misuse::NoMachine`], if it is polled outside a machine.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(crate::time::now() + duration)
}

/// Ready at `deadline`.
///
/// # Errors
/// As for [`sleep`].
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, alarm: None }
}

/// The future of [`sleep`] and [`sleep_until`].
pub struct Sleep {
    deadline: Instant,
    alarm: Option<Set>,
}

/// An alarm that was set, and where.
struct Set {
    machine: Arc<Shared>,
    alarm: Alarm,
}

impl Sleep {
    /// When it is ready.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Makes it ready at another moment, from its next poll on.
    pub fn reset(&mut self, deadline: Instant) {
        self.forget();
        self.deadline = deadline;
    }

    fn forget(&mut self) {
        if let Some(set) = self.alarm.take()
            && let Some(machine) = set.here()
        {
            machine.alarms.remove(set.alarm);
        }
    }

    /// The alarm of this machine, set or to be set.
    fn alarm(&mut self, machine: &Machine) -> Alarm {
        if self.alarm.as_ref().is_none_or(|set| set.here().is_none()) {
            let alarm = (self.deadline, machine.next_id());
            self.alarm = Some(Set { machine: machine.shared.clone(), alarm });
        }
        self.alarm.as_ref().expect("it was set above").alarm
    }
}

impl Set {
    /// Its machine, if that is this thread's.
    fn here(&self) -> Option<&Machine> {
        current::machine().filter(|machine| Arc::ptr_eq(&machine.shared, &self.machine))
    }
}

impl Future for Sleep {
    type Output = Result<(), Misuse>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(machine) = current::machine() else { return Poll::Ready(Err(Misuse::NoMachine)) };
        ready!(machine.poll_operation(context));
        if machine.now() >= self.deadline {
            self.forget();
            machine.polled();
            return Poll::Ready(Ok(()));
        }
        let alarm = self.alarm(machine);
        machine.alarms.set(alarm, context.waker());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}

impl std::fmt::Debug for Sleep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline).finish()
    }
}
