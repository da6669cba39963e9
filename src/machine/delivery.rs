//! What another thread delivers (a machine's result, or that of a coroutine on another machine): waiting for it, alone or as one case
//! of several.
//!
//! Whoever delivers tells a waiter of the machine's own (`wakeup::RemoteWaiter`), which keeps what it points to, and not a seat: a
//! seat is good only inside a lock, and here is none. Or it tells the waker of a future.

use std::fmt;
use std::task::{Context, Poll, Waker, ready};

use super::block::{Attempt, Case};
use super::remote::OwnThread;
use super::seat::Seat;
use super::task::{Panic, quietly};
use super::wakeup::RemoteWaiter;
use super::{Machine, Reason, current};
use crate::error::{JoinError, Misuse};
use crate::kernel::Instant;
use crate::shared::once::{self, Getter, Taken};

/// Who is told of an end: a coroutine that waits for it, or whoever polls for it.
pub(super) enum Joiner {
    Parked(RemoteWaiter),
    Polls(Waker),
}

impl From<RemoteWaiter> for Joiner {
    fn from(waiter: RemoteWaiter) -> Joiner {
        Joiner::Parked(waiter)
    }
}

impl once::Waiter for Joiner {
    fn ready(self) {
        match self {
            Joiner::Parked(waiter) => waiter.ready(),
            Joiner::Polls(waker) => quietly(|| waker.wake()),
        }
    }
}

/// How what ran elsewhere has ended.
pub(super) type Ended<T> = Result<T, Unjoined>;

/// A panic on its way to whoever joins. One that gets to nobody is reported where it is dropped, by either end.
pub(super) struct Unjoined {
    panic: Option<Panic>,
    id: u64,
    name: String,
}

impl Unjoined {
    /// Of the coroutine of this number and name.
    pub(super) fn new(panic: Panic, id: u64, name: &str) -> Unjoined {
        Unjoined { panic: Some(panic), id, name: name.to_owned() }
    }

    /// It has arrived.
    pub(super) fn joined(mut self) -> JoinError {
        JoinError::Panicked(self.panic.take().expect("it is taken once"))
    }
}

impl Drop for Unjoined {
    fn drop(&mut self) {
        if let Some(panic) = self.panic.take() {
            report_unjoined(self.id, &self.name);
            quietly(|| drop(panic));
        }
    }
}

/// A coroutine has panicked, and nobody will join it.
pub(super) fn report_unjoined(id: u64, name: &str) {
    current::machine().into_iter().for_each(|machine| machine.counts.panicked());
    match current::starter() {
        Some(starter) => starter.panic_lost(id, name),
        // Nobody may be there to read it.
        None => quietly(|| eprintln!("coroutine {id} '{name}' panicked and nobody joins it")),
    }
}

/// Waits for what another thread delivers.
pub(crate) fn receive<T: Send, W: once::Waiter + From<RemoteWaiter>>(
    getter: &mut Getter<T, W>,
    what: &'static str,
    deadline: Instant,
) -> Result<T, JoinError> {
    let machine = current::machine().ok_or(JoinError::Wait(Misuse::NoMachine.into()))?;
    let me = machine.operation().map_err(JoinError::Wait)?;
    // Whoever polled does so no more. Not while a wait is open: a waker's destructor is its maker's.
    getter.unwait();
    loop {
        match getter.take() {
            Taken::Value(value) => return Ok(value),
            Taken::Never => return Err(JoinError::Unwound),
            Taken::NotYet => {}
        }
        let waited = machine.wait_remote(me, Reason::of(what), deadline, |waiter| getter.wait(waiter.into()));
        if let Err(error) = waited {
            getter.unwait();
            // What arrived in the same instant is delivered, not lost.
            if !getter.is_ready() {
                return Err(JoinError::Wait(error));
            }
        }
    }
}

/// The same for whoever polls, on any thread.
pub(super) fn poll<T: Send>(
    getter: &mut Getter<Ended<T>, Joiner>,
    context: &mut Context<'_>,
) -> Poll<Result<T, JoinError>> {
    let machine = current::machine();
    if let Some(machine) = machine {
        ready!(machine.poll_operation(context));
    }
    let ready = |ended| {
        machine.into_iter().for_each(Machine::polled);
        Poll::Ready(ended)
    };
    loop {
        match getter.take() {
            Taken::Value(ended) => return ready(ended.map_err(Unjoined::joined)),
            Taken::Never => return ready(Err(JoinError::Unwound)),
            Taken::NotYet if getter.wait(Joiner::Polls(context.waker().clone())) => return Poll::Pending,
            // It has come just now.
            Taken::NotYet => {}
        }
    }
}

/// A join of another machine, or of a coroutine there, that is one case of several: see [`Handle::joining`](super::Handle::joining) and
/// [`RemoteJoin::joining`](super::RemoteJoin::joining).
pub struct RemoteJoining<'a, T: Send> {
    getter: &'a mut Getter<Ended<T>, Joiner>,
    /// Of a machine.
    thread: Option<&'a mut OwnThread>,
}

impl<'a, T: Send> RemoteJoining<'a, T> {
    pub(super) fn new(
        getter: &'a mut Getter<Ended<T>, Joiner>,
        thread: Option<&'a mut OwnThread>,
    ) -> RemoteJoining<'a, T> {
        getter.unwait();
        RemoteJoining { getter, thread }
    }

    /// How it ended, if this case was chosen.
    ///
    /// # Errors
    /// As for [`JoinHandle::join`](crate::JoinHandle::join). If it has not ended, [`Misuse::NotChosen`]; on a thread that is no machine,
    /// where the case is chosen at once, [`Misuse::NoMachine`].
    pub fn joined(self) -> Result<T, JoinError> {
        match self.getter.take() {
            Taken::Value(ended) => {
                // It has delivered its result and is about to return: this waits for no coroutine.
                self.thread.into_iter().for_each(OwnThread::join);
                ended.map_err(Unjoined::joined)
            }
            Taken::Never => Err(JoinError::Unwound),
            Taken::NotYet => {
                let misuse = if current::machine().is_some() { Misuse::NotChosen } else { Misuse::NoMachine };
                Err(JoinError::Wait(misuse.into()))
            }
        }
    }
}

impl<T: Send> Case for RemoteJoining<'_, T> {
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt {
        let machine = current::machine();
        Attempt::of(self.getter.is_ready() || machine.is_none(), me, |me| {
            let machine = machine.expect("without one it is over");
            let task = machine.running().expect("a seat of a machine is a coroutine's");
            let shared = machine.shared.clone();
            let waiter = RemoteWaiter { shared, slot: task.header.index, ticket: me.ticket() };
            if self.getter.wait(waiter.into()) { Attempt::Waits } else { Attempt::found(me) }
        })
    }

    fn leave(&mut self) -> bool {
        // That it has ended stays true: the next look finds it.
        self.getter.unwait();
        false
    }
}

impl<T: Send> fmt::Debug for RemoteJoining<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteJoining").field("over", &self.getter.is_ready()).finish()
    }
}
