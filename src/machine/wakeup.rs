//! How other threads reach a machine: a mailbox, an eventfd, and the table of its park cells.
//!
//! A letter is pushed first; the eventfd is written only by the one whose push found the machine asleep. A sender that
//! outlives the machine keeps the eventfd, so its number is never a stranger's; its letters come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::process::Process;
use super::scheduler::Outcome;
use super::statistics::{Shown, Times};
use super::task::quietly;
use super::{Machine, State, TaskRef};
use crate::coroutine::overflow::Target;
use crate::error::Cause;
use crate::kernel::{self, EpollEvent, EpollOp, Events, Kernel, Wake};
use crate::shared::lock::Lock;
use crate::shared::mailbox::{self, Mailbox};
use crate::shared::park::{Cells, Ticket};
use crate::shared::store::Store;

/// The part of a machine that threads share.
pub(crate) struct Shared {
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) process: Arc<Process>,
    pub(crate) cells: Arc<Cells>,
    mailbox: Mailbox<Letter>,
    eventfd: Arc<dyn Wake>,
    /// What the machine counts.
    pub(super) shown: Shown,
    pub(super) times: Times,
    /// Buffers for its messages; those that are out keep it.
    pub(crate) messages: Arc<Store>,
    /// Its thread, while it is one.
    thread: Lock<Option<Target>>,
    /// Its main closure has returned.
    ending: AtomicBool,
}

/// What one machine asks of another. Opened on the root stack of the one that gets it.
pub(crate) enum Letter {
    /// The wait in this slot was claimed: let its coroutine go on.
    Wake { slot: u32 },
    /// Run this on the machine's root stack: it must not block. It is dropped unrun if the machine ends first.
    Run(Box<dyn FnOnce(&Machine) + Send>),
    /// Cancel the main coroutine, whose return ends the machine.
    Stop(Cause),
}

/// The data of the eventfd's events.
pub(crate) const EVENTFD: u64 = u64::MAX;

impl Shared {
    pub(crate) fn new(kernel: &dyn Kernel, process: Arc<Process>, name: &str) -> kernel::Result<Arc<Shared>> {
        let eventfd = kernel.share(kernel.eventfd(0)?);
        let number = process.next_machine();
        let name = if name.is_empty() { format!("machine-{number}") } else { name.to_owned() };
        let (cells, mailbox) = (Arc::new(Cells::new()), Mailbox::new());
        let (shown, times, thread) = (Shown::default(), Times::default(), Lock::new(None));
        let messages = Arc::new(Store::default());
        let ending = AtomicBool::new(false);
        let shared =
            Shared { number, name, process, cells, mailbox, eventfd, shown, times, messages, thread, ending };
        let shared = Arc::new(shared);
        shared.process.enlist(&shared);
        Ok(shared)
    }

    /// Registers the eventfd for good. Edge-triggered and never read: every write is a fresh edge, and its counter would
    /// take centuries to fill.
    pub(crate) fn register(&self, kernel: &dyn Kernel, epoll: kernel::Fd) -> kernel::Result<()> {
        let event = EpollEvent { events: Events::IN.with(Events::ET), data: EVENTFD };
        kernel.epoll_ctl(epoll, EpollOp::Add(event), self.eventfd.fd())?;
        self.thread.with(|thread| *thread = Some(Target::here()));
        Ok(())
    }

    /// The machine's thread, if it has begun and not ended.
    pub(crate) fn thread(&self) -> Option<Target> {
        self.thread.with(|thread| *thread)
    }

    /// The main closure has returned: what comes now ends soon.
    pub(super) fn ends(&self) {
        // Relaxed: a hint. A letter that crosses this is one that came a little earlier.
        self.ending.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Sends a letter; it comes back if the machine has ended.
    pub(crate) fn post(&self, letter: Letter) -> Result<(), Letter> {
        match self.mailbox.push(letter) {
            Ok(mailbox::Wake::Needed) => {
                // The machine holds the descriptor open and its counter is far from full, so this can fail only
                // when its process has crashed, and then nobody is left to wake.
                let _ = self.eventfd.wake();
                Ok(())
            }
            Ok(mailbox::Wake::NotNeeded) => Ok(()),
            Err(mailbox::Closed(letter)) => Err(letter),
        }
    }

    /// Announces that the machine is about to sleep. False: a letter is there, do not.
    pub(crate) fn sleep(&self) -> bool {
        self.mailbox.sleep()
    }

    pub(crate) fn awake(&self) {
        self.mailbox.awake();
    }

    pub(crate) fn has_letters(&self) -> bool {
        !self.mailbox.is_empty()
    }

    /// Refuses letters from now on; those that had arrived are dropped, with what users have put into them.
    pub(crate) fn close(&self) {
        self.thread.with(|thread| *thread = None);
        self.mailbox.close().for_each(|letter| quietly(|| drop(letter)));
    }
}

impl Machine {
    /// Opens the letters that have arrived, in their order.
    pub(crate) fn open_letters(&self) {
        for letter in self.shared.mailbox.drain() {
            self.counts.letters(1);
            match letter {
                Letter::Wake { slot } => self.wake_slot(slot),
                Letter::Run(closure) => closure(self),
                Letter::Stop(cause) => self.stop(cause),
            }
        }
    }

    /// Another machine has claimed the wait in `slot`. A claimed wait stays parked until this letter, so the slot
    /// still holds the coroutine that was meant.
    fn wake_slot(&self, slot: u32) {
        let task = self.slots.borrow()[slot as usize];
        self.wake_claimed(task);
    }

    /// The wait of a coroutine of this machine was claimed: lets it go on.
    #[inline(always)]
    pub(super) fn wake_claimed(&self, task: TaskRef) {
        debug_assert_eq!(task.state.get(), State::Parked, "a claimed wait ends by its letter alone");
        self.scheduler.deliver(task, Outcome::Woken);
    }
}

/// The right of another machine to wake one wait, once. See `scheduler::Waiter` for the same machine.
#[derive(Clone)]
pub(crate) struct RemoteWaiter {
    pub(crate) shared: Arc<Shared>,
    pub(crate) slot: u32,
    pub(crate) ticket: Ticket,
}

impl RemoteWaiter {
    /// Claims the wait and has its coroutine woken. False: the wait was over.
    pub(crate) fn wake(&self) -> bool {
        let won = self.shared.cells.get(self.slot).claim(self.ticket).won();
        if won {
            // A machine ends only when no coroutine of it is parked, and this one is until the letter arrives.
            let _ = self.shared.post(Letter::Wake { slot: self.slot });
        }
        won
    }
}
