//! Waiting for what threads share: one case, or the first of several.
//!
//! ```text
//! try each  ->  open the wait  ->  each: look again and stand in line  ->  sleep  ->  leave every line
//!     ^                                                                                      |
//!     +---------------------- woken, and no case has an effect: look again ------------------+
//! ```
//!
//! Each case looks and stands in line in one step, inside its lock, so nothing that comes between is lost; whoever serves a line
//! claims the wait first, so of several cases one at most has its effect. Every line is left before this returns or unwinds,
//! which is what `seat` relies on.
//!
//! A thread that is no machine waits here too, by a futex; it has neither cancellation nor scopes.

use super::seat::{Parker, Seat};
use super::wait::{failed, shield};
use super::{Machine, Outcome, Reason, TaskRef, current};
use crate::error::{Expired, Misuse, WaitError};
use crate::kernel::Instant;
use crate::shared::line::Waiter as _;

/// Something that may have to be waited for.
pub trait Case {
    /// Does it, if that can be done now. Without `me` nothing else is changed. With `me`, whose wait is open, either does it and
    /// ends that wait, or stands in line with it.
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt;
    /// As `attempt` without a seat; if not now, stands in line with the wait that `open` begins, if it does. For one that is waited for
    /// alone: whoever has a lock of its own calls `open` inside, and so looks once and not twice.
    fn attempt_alone(&mut self, open: impl FnOnce() -> Option<Seat>) -> Attempt
    where
        Self: Sized,
    {
        match self.attempt(None) {
            Attempt::NotNow => open().map_or(Attempt::NotNow, |me| self.attempt(Some(&me))),
            attempt => attempt,
        }
    }
    /// Leaves the line in which it stands. Whether the wait was ended for this case, and so has had its effect.
    fn leave(&mut self) -> bool;
    /// When waiting for it is over by itself: a timer's moment.
    fn due(&self) -> Instant {
        Instant::FAR
    }
}

/// How an attempt went. A case that has had its effect answers `Done` again, and first when it is tried without a seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// It has had its effect (which may be to find that it never can). The wait is over.
    Done,
    /// Not now.
    NotNow,
    /// It stands in line.
    Waits,
    /// The wait was ended by another case meanwhile.
    Overtaken,
}

impl Attempt {
    /// The attempt of a case that only finds out whether something `is_so`: then it is done, else `stand` stands in line.
    pub(crate) fn of(is_so: bool, me: Option<&Seat>, stand: impl FnOnce(&Seat) -> Attempt) -> Attempt {
        match me {
            None if is_so => Attempt::Done,
            None => Attempt::NotNow,
            Some(me) if is_so => Attempt::found(me),
            Some(me) => stand(me),
        }
    }

    /// What `me` waits for is so: ends the wait.
    pub(crate) fn found(me: &Seat) -> Attempt {
        if me.withdraw() { Attempt::Done } else { Attempt::Overtaken }
    }
}

/// Waits for one case. The reason is asked for when it has to.
#[inline(always)]
pub(crate) fn block<C: Case>(
    case: &mut C,
    reason: impl Fn() -> Reason,
    deadline: Instant,
) -> Result<(), WaitError> {
    block_one(case, true, reason, deadline)
}

/// As `block`, for one whose line only this thread serves: no other gets the right to end the wait.
#[inline(always)]
pub(crate) fn block_here<C: Case>(
    case: &mut C,
    reason: impl Fn() -> Reason,
    deadline: Instant,
) -> Result<(), WaitError> {
    block_one(case, false, reason, deadline)
}

/// With `remote`, other threads may end the wait. Whose type is known needs nothing of what `block_first` does for many.
#[inline(always)]
fn block_one<C: Case>(
    case: &mut C,
    remote: bool,
    reason: impl Fn() -> Reason,
    deadline: Instant,
) -> Result<(), WaitError> {
    let Some(machine) = current::machine() else {
        return block_thread(&mut [case], 0, deadline).map(drop);
    };
    let me = machine.operation()?;
    match machine.wait_in_line(me, remote, &reason, deadline, case) {
        Waited::Done => Ok(()),
        Waited::Failed(error) => Err(error),
        Waited::Again => block_again(machine, me, remote, reason, deadline, case),
    }
}

/// As `block_one`, of a case that was looked at before: woken for nothing, or a timer whose moment has come.
#[cold]
fn block_again<C: Case>(
    machine: &Machine,
    me: TaskRef,
    remote: bool,
    reason: impl Fn() -> Reason,
    deadline: Instant,
    case: &mut C,
) -> Result<(), WaitError> {
    loop {
        match machine.wait_in_line(me, remote, &reason, deadline, case) {
            Waited::Done => return Ok(()),
            Waited::Failed(error) => return Err(error),
            Waited::Again => {}
        }
    }
}

/// How waiting once went.
enum Waited {
    /// The case was done.
    Done,
    Failed(WaitError),
    /// Neither: it is to be looked at again.
    Again,
}

/// As `block`, out of reach of deadlines and cancellation. Where no coroutine runs that could park (on the root stack), the thread
/// sleeps.
pub(super) fn block_firmly<C: Case>(case: &mut C, reason: impl Fn() -> Reason) -> Result<(), WaitError> {
    match current::machine() {
        Some(machine) if machine.running().is_some() => shield(|| block(case, reason, Instant::FAR)),
        _ => block_thread(&mut [case], 0, Instant::FAR).map(drop),
    }
}

/// Waits for the first of several; which one it was. They are tried from `start` on, round.
pub(crate) fn block_first(
    cases: &mut [&mut dyn Case],
    start: usize,
    reason: Reason,
    deadline: Instant,
) -> Result<usize, WaitError> {
    let Some(machine) = current::machine() else {
        return block_thread(cases, start, deadline);
    };
    let me = machine.operation()?;
    loop {
        if let Some(done) = try_all(cases, start) {
            return Ok(done);
        }
        let due = cases.iter().map(|case| case.due()).min().unwrap_or(Instant::FAR);
        let round = Round { cases: &mut *cases, start, standing: 0 };
        match machine.wait_in_lines(me, reason, deadline.min(due), round) {
            (Some(done), _) => return Ok(done),
            // A timer of the caller's own among the cases: it is one of those that can be done now.
            (None, Err(WaitError::Expired(Expired { scope: 0 }))) if due <= deadline => {}
            (None, Err(error)) => return Err(error),
            (None, Ok(())) => {}
        }
    }
}

/// The first of several that can be done now, without waiting.
pub(crate) fn try_first(cases: &mut [&mut dyn Case], start: usize) -> Result<Option<usize>, WaitError> {
    if let Some(machine) = current::machine() {
        machine.operation()?;
    }
    Ok(try_all(cases, start))
}

fn try_all(cases: &mut [&mut dyn Case], start: usize) -> Option<usize> {
    let count = cases.len();
    (0..count).map(|turn| (start + turn) % count).find(|place| cases[*place].attempt(None) == Attempt::Done)
}

/// One wait, in the lines of several cases; leaves them when dropped.
struct Round<'a, 'b> {
    cases: &'a mut [&'b mut dyn Case],
    start: usize,
    /// How many, from `start` on, stand in line.
    standing: usize,
}

/// How standing in line went.
enum Stood {
    /// That case was done at once.
    Done(usize),
    /// All stand.
    Waits,
    /// One that stands was served while others were still looking.
    Overtaken,
}

impl Round<'_, '_> {
    fn stand(&mut self, seat: Seat) -> Stood {
        for turn in 0..self.cases.len() {
            let place = (self.start + turn) % self.cases.len();
            match self.cases[place].attempt(Some(&seat)) {
                Attempt::Done => return Stood::Done(place),
                Attempt::Overtaken => return Stood::Overtaken,
                Attempt::Waits => self.standing = turn + 1,
                Attempt::NotNow => unreachable!("a case with a seat stands in line"),
            }
        }
        Stood::Waits
    }

    /// Leaves every line; the case that was served, if one was.
    fn leave(&mut self) -> Option<usize> {
        let mut served = None;
        while self.standing > 0 {
            self.standing -= 1;
            let place = (self.start + self.standing) % self.cases.len();
            if self.cases[place].leave() {
                debug_assert!(served.is_none(), "a wait is ended once");
                served = Some(place);
            }
        }
        served
    }
}

impl Drop for Round<'_, '_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Leaves the one line when dropped.
struct Standing<'a, C: Case>(&'a mut C);

impl<C: Case> Standing<'_, C> {
    fn leave(self) -> bool {
        let served = self.0.leave();
        std::mem::forget(self);
        served
    }
}

impl<C: Case> Drop for Standing<'_, C> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Machine {
    /// Does the case, or waits for it once, in its line.
    #[inline(always)]
    fn wait_in_line<C: Case>(
        &self,
        me: TaskRef,
        remote: bool,
        reason: &impl Fn() -> Reason,
        deadline: Instant,
        case: &mut C,
    ) -> Waited {
        let mut opened = false;
        let open = || {
            opened = self.can_park(me);
            opened.then(|| Seat::of(me.chair(), self.scheduler.open(me, remote, reason())))
        };
        let due = case.due();
        let until = match case.attempt_alone(open) {
            Attempt::Waits => deadline.min(due),
            // Its wake-up is on its way, and ends the wait before anything else can.
            Attempt::Overtaken => Instant::FAR,
            Attempt::NotNow => return self.may_park(me).map_or_else(Waited::Failed, |()| Waited::Again),
            Attempt::Done => {
                if opened {
                    self.scheduler.finish(me);
                }
                return Waited::Done;
            }
        };
        let standing = Standing(case);
        let outcome = self.sleep(me, until);
        match (standing.leave(), outcome) {
            (true, _) => Waited::Done,
            (false, Outcome::Woken) => Waited::Again,
            // The case's own moment: it can be done now.
            (false, Outcome::TimedOut) if due <= deadline && due < me.scope.get().at => Waited::Again,
            (false, other) => Waited::Failed(failed(me, other, until)),
        }
    }

    fn wait_in_lines(
        &self,
        me: TaskRef,
        reason: Reason,
        deadline: Instant,
        mut round: Round<'_, '_>,
    ) -> (Option<usize>, Result<(), WaitError>) {
        if let Err(error) = self.may_park(me) {
            return (None, Err(error));
        }
        let ticket = self.scheduler.open(me, true, reason);
        let waited = match round.stand(Seat::of(me.chair(), ticket)) {
            Stood::Done(place) => {
                self.scheduler.finish(me);
                round.leave();
                return (Some(place), Ok(()));
            }
            Stood::Waits => self.finish_wait(me, deadline),
            // Its wake-up is on its way, and ends the wait before anything else can.
            Stood::Overtaken => self.finish_wait(me, Instant::FAR),
        };
        (round.leave(), waited)
    }
}

fn block_thread(cases: &mut [&mut dyn Case], start: usize, deadline: Instant) -> Result<usize, WaitError> {
    if std::thread::panicking() {
        return try_all(cases, start).ok_or(WaitError::Misuse(Misuse::Unwinding));
    }
    let kernel = current::kernel();
    loop {
        if let Some(done) = try_all(cases, start) {
            return Ok(done);
        }
        let due = cases.iter().map(|case| case.due()).min().unwrap_or(Instant::FAR);
        let mut round = Round { cases: &mut *cases, start, standing: 0 };
        let (parker, seat) = Parker::open();
        let woken = match round.stand(seat) {
            Stood::Done(place) => {
                round.leave();
                return Ok(place);
            }
            Stood::Waits => parker.sleep(&*kernel, seat, deadline.min(due)),
            Stood::Overtaken => parker.sleep(&*kernel, seat, Instant::FAR),
        };
        match round.leave() {
            Some(place) => return Ok(place),
            None if woken || (due != Instant::FAR && due <= deadline) => {}
            // The deadline; or nothing will ever wake it, since its process is being reclaimed.
            None => return Err(WaitError::Expired(Expired { scope: 0 })),
        }
    }
}
