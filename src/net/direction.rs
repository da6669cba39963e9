//! One direction of a socket: whose turn it is, whether a call may succeed, and who sleeps until it may.
//!
//! | turn | means | becomes |
//! |---|---|---|
//! | free | nobody is in a call | taken, by whoever asks |
//! | taken | one coroutine is in a call, for all its system calls | taken by the first who waits; free if nobody does |
//!
//! A turn is handed over, never put down for others to find: who ends a call and begins another goes behind those who
//! wait. Looking whether it is free and beginning to wait is one step, without a yield in between.
//!
//! A future polls a direction ([`Direction::poll`]): it finds the turn free for the length of one poll, in which nothing else runs, or
//! comes again. Its waker has a place of its own in each direction, so that one task can wait for both; the last who polls has it.

use std::cell::{Cell, RefCell};
use std::io;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::descriptor::Socket;
use crate::error::{Misuse, WaitError};
use crate::kernel::{self, Errno, Instant};
use crate::machine::{Machine, Reason, TaskRef, WaitList, Waiter, quietly};

/// See the head of the file.
pub(crate) struct Direction {
    what: &'static str,
    ready: Cell<bool>,
    taken: Cell<bool>,
    queue: WaitList,
    sleeper: Cell<Option<Waiter>>,
    /// Those who wait without a turn, in a select: each edge and each end of a turn wakes all.
    watchers: RefCell<Vec<Waiter>>,
    /// The future that polled last and was told to wait: woken with the watchers.
    polled_by: Cell<Option<Waker>>,
    pub(crate) timeout: Cell<Option<Duration>>,
}

/// The right to use a direction until dropped, and how long the call may wait in all.
pub(crate) struct Turn<'a> {
    socket: &'a Socket,
    direction: &'a Direction,
    /// When the direction's timeout is over: counted from the first wait, once.
    deadline: Option<Instant>,
    /// Whether this turn has made a call that did what it was to do.
    used: bool,
    pace: Pace,
}

/// What a turn does when the budget is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pace {
    /// It yields.
    Waits,
    /// It is a poll's, and does no more than it may.
    Polls,
    /// As that, and it has.
    Spent,
}

impl Direction {
    pub(crate) fn new(what: &'static str) -> Direction {
        Direction {
            what,
            ready: Cell::new(true),
            taken: Cell::new(false),
            queue: WaitList::default(),
            sleeper: Cell::new(None),
            watchers: RefCell::default(),
            polled_by: Cell::new(None),
            timeout: Cell::new(None),
        }
    }

    /// Notes an edge. Whether it has woken somebody.
    pub(crate) fn wake(&self, machine: &Machine) -> bool {
        self.ready.set(true);
        self.sleeper.take().is_some_and(|waiter| machine.wake(waiter))
    }

    pub(crate) fn watch(&self, waiter: Waiter) {
        self.watchers.borrow_mut().push(waiter);
    }

    /// Forgets all waits of `task`, stale ones too.
    pub(crate) fn unwatch(&self, task: TaskRef) {
        self.watchers.borrow_mut().retain(|watcher| watcher.task != task);
    }

    /// Sends all who watch to look again.
    pub(crate) fn wake_watchers(&self, machine: &Machine) {
        for watcher in self.watchers.take() {
            machine.wake(watcher);
        }
        if let Some(waker) = self.polled_by.take() {
            quietly(|| waker.wake());
        }
    }

    /// Has this waker woken when a poll may find something else.
    pub(super) fn poll_again(&self, waker: &Waker) {
        drop(self.polled_by.replace(Some(waker.clone())));
    }

    /// What a future does with a direction of `socket`: `call`, if it is nobody's turn. `None` of that, and others' turns: to be polled
    /// again when it may be otherwise.
    pub(super) fn poll<T>(
        &self,
        socket: &Socket,
        context: &mut Context<'_>,
        call: impl FnOnce(&mut Turn<'_>) -> io::Result<Option<T>>,
    ) -> Poll<io::Result<T>> {
        socket.here()?;
        ready!(socket.machine().poll_operation(context));
        if !self.is_taken() {
            let mut turn = Turn { socket, direction: self, deadline: None, used: false, pace: Pace::Polls };
            if let Some(value) = call(&mut turn).transpose() {
                socket.machine().polled();
                return Poll::Ready(value);
            }
            if turn.pace == Pace::Spent {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        self.poll_again(context.waker());
        Poll::Pending
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.get()
    }

    /// Nothing more will come without an edge.
    pub(crate) fn drained(&self) {
        self.ready.set(false);
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.taken.get()
    }

    /// Takes the first turn of a socket that nobody else has yet, until `release`.
    pub(super) fn hold(&self) {
        let taken = self.taken.replace(true);
        assert!(!taken, "a new socket is its maker's alone");
    }

    /// Ends a turn.
    pub(super) fn release(&self) {
        self.taken.set(self.queue.notify_one());
    }

    /// Who is woken by the next edge.
    pub(super) fn set_sleeper(&self, sleeper: Option<Waiter>) {
        self.sleeper.set(sleeper);
    }
}

impl<'a> Turn<'a> {
    /// Waits until it is the caller's turn.
    pub(crate) fn take(socket: &'a Socket, direction: &'a Direction) -> io::Result<Turn<'a>> {
        socket.here()?;
        socket.machine().operation()?;
        let mut deadline = None;
        if direction.taken.replace(true) {
            let at = *deadline.insert(end_of(socket, direction));
            let reason = Reason::numbered("its turn on fd", i64::from(socket.fd().raw()));
            // After this the turn is the caller's, and only after this: whoever ends a call wakes one who waits.
            direction.queue.wait(reason, at)?;
        }
        Ok(Turn { socket, direction, deadline, used: false, pace: Pace::Waits })
    }

    /// Makes a call until it answers anything but `EAGAIN` or `EINTR`. It is not made while an earlier answer says that it
    /// would block.
    pub(crate) fn call<T>(&mut self, mut call: impl FnMut(&Socket) -> kernel::Result<T>) -> io::Result<T> {
        self.spend_again()?;
        loop {
            if let Some(value) = self.try_call(&mut call)? {
                return Ok(value);
            }
            self.sleep()?;
        }
    }

    /// The same without waiting. `None`: it would block.
    pub(crate) fn attempt<T>(
        &mut self,
        call: impl FnMut(&Socket) -> kernel::Result<T>,
    ) -> io::Result<Option<T>> {
        if self.spend_again()? { self.try_call(call) } else { Ok(None) }
    }

    fn try_call<T>(&mut self, mut call: impl FnMut(&Socket) -> kernel::Result<T>) -> io::Result<Option<T>> {
        loop {
            if self.would_block() {
                return Ok(None);
            }
            if std::ptr::eq(self.direction, &self.socket.read)
                && let Some(errno) = self.socket.take_error()
            {
                return Err(errno.into());
            }
            match call(self.socket) {
                Ok(value) => return Ok(Some(value)),
                Err(Errno::AGAIN) => self.direction.ready.set(false),
                // Each interruption spends budget, so a storm of them cannot hold the machine.
                Err(Errno::INTR) if self.spend()? => {}
                Err(Errno::INTR) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Whether a call would, as far as is known: no edge since the last `EAGAIN`, and nothing read ahead or found.
    pub(crate) fn would_block(&self) -> bool {
        if std::ptr::eq(self.direction, &self.socket.read) {
            self.socket.read_would_block()
        } else {
            !self.direction.ready.get()
        }
    }

    /// What comes before each call of a turn but the first. Whether it may be made.
    fn spend_again(&mut self) -> io::Result<bool> {
        if std::mem::replace(&mut self.used, true) { self.spend() } else { Ok(true) }
    }

    /// Cancellation, and the budget. Whether the turn may go on: one that waits may.
    fn spend(&mut self) -> io::Result<bool> {
        if self.pace == Pace::Waits {
            self.socket.machine().operation()?;
        } else if self.socket.machine().may_poll_on() {
            self.socket.machine().polled();
        } else {
            self.pace = Pace::Spent;
        }
        Ok(self.pace != Pace::Spent)
    }

    /// Sleeps until an edge makes the direction ready.
    pub(crate) fn sleep(&mut self) -> io::Result<()> {
        let Turn { socket, direction, .. } = *self;
        let at = *self.deadline.get_or_insert_with(|| end_of(socket, direction));
        let me = socket.machine().running().ok_or(Misuse::NoMachine)?;
        let reason = Reason::ready(direction.what, socket.fd(), socket.edges(direction));
        let waited = socket.machine().wait(me, reason, at, |waiter| direction.set_sleeper(Some(waiter)));
        direction.set_sleeper(None);
        Ok(waited?)
    }
}

/// Sleeps until an edge makes one of several directions ready, of those that are wanted. Not at all if one is: since the caller
/// looked, others may have run.
pub(crate) fn sleep_for_any(
    machine: &Machine,
    turns: &[(bool, &Turn<'_>)],
    what: &'static str,
    deadline: Instant,
) -> Result<(), WaitError> {
    let wanted = || turns.iter().filter(|(wanted, _)| *wanted).map(|(_, turn)| *turn);
    if !wanted().all(Turn::would_block) {
        return Ok(());
    }
    let me = machine.running().ok_or(Misuse::NoMachine)?;
    let waited = machine.wait(me, Reason::of(what), deadline, |waiter| {
        wanted().for_each(|turn| turn.direction.sleeper.set(Some(waiter)));
    });
    wanted().for_each(|turn| turn.direction.sleeper.set(None));
    waited
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Nothing else has run during a poll: it has kept nobody waiting, and no edge from anybody.
        if self.pace != Pace::Waits {
            return;
        }
        self.direction.release();
        // An edge that came during a turn was its owner's to use, and he may have given up instead.
        if std::ptr::eq(self.direction, &self.socket.write) {
            self.socket.write_left();
        }
        self.direction.wake_watchers(self.socket.machine());
    }
}

/// When a call that begins to wait now has waited too long.
fn end_of(socket: &Socket, direction: &Direction) -> Instant {
    direction.timeout.get().map_or(Instant::FAR, |timeout| socket.machine().now() + timeout)
}
