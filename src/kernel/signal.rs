//! Signals: which there are, a set of them, and where a process notes those that it has caught.
//!
//! A signal that a process catches is not handled where it strikes. It is *noted*: a bit in the set of a [`Caught`], and
//! then a write to its eventfd, which wakes whoever waits for it; [`Caught::take`] answers what has come since the last
//! time. So a reader that clears the eventfd first and takes the set then loses nothing, and equal signals that come
//! before it does are one, as they are for Linux itself while they are pending.
//!
//! | who | does | in this order |
//! |---|---|---|
//! | a signal handler, or the simulated kernel | notes | bit, then eventfd |
//! | the reader | reads | eventfd, then set |

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Fd, ProcessId, Wake};

/// A signal that a program may catch and that is not about one thread's own doing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Signal {
    /// `SIGHUP`: the terminal is gone; by custom, read the configuration again.
    Hup,
    /// `SIGINT`: Ctrl-C.
    Int,
    /// `SIGQUIT`: Ctrl-\, which dumps core by default.
    Quit,
    /// `SIGUSR1`.
    Usr1,
    /// `SIGUSR2`.
    Usr2,
    /// `SIGALRM`.
    Alrm,
    /// `SIGTERM`: a request to end.
    Term,
    /// `SIGCHLD`: a child process has ended. Ignored by default.
    Chld,
    /// `SIGCONT`: the process goes on after a stop. Ignored by default.
    Cont,
    /// `SIGWINCH`: the terminal has another size. Ignored by default.
    Winch,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Signal; 10] = [
        Signal::Hup,
        Signal::Int,
        Signal::Quit,
        Signal::Usr1,
        Signal::Usr2,
        Signal::Alrm,
        Signal::Term,
        Signal::Chld,
        Signal::Cont,
        Signal::Winch,
    ];

    /// Its number on this system.
    pub const fn number(self) -> i32 {
        match self {
            Signal::Hup => libc::SIGHUP,
            Signal::Int => libc::SIGINT,
            Signal::Quit => libc::SIGQUIT,
            Signal::Usr1 => libc::SIGUSR1,
            Signal::Usr2 => libc::SIGUSR2,
            Signal::Alrm => libc::SIGALRM,
            Signal::Term => libc::SIGTERM,
            Signal::Chld => libc::SIGCHLD,
            Signal::Cont => libc::SIGCONT,
            Signal::Winch => libc::SIGWINCH,
        }
    }

    /// Its name in the manual.
    pub const fn name(self) -> &'static str {
        match self {
            Signal::Hup => "SIGHUP",
            Signal::Int => "SIGINT",
            Signal::Quit => "SIGQUIT",
            Signal::Usr1 => "SIGUSR1",
            Signal::Usr2 => "SIGUSR2",
            Signal::Alrm => "SIGALRM",
            Signal::Term => "SIGTERM",
            Signal::Chld => "SIGCHLD",
            Signal::Cont => "SIGCONT",
            Signal::Winch => "SIGWINCH",
        }
    }

    /// What it does to a process that has never caught it.
    pub const fn default_action(self) -> DefaultAction {
        match self {
            Signal::Chld | Signal::Cont | Signal::Winch => DefaultAction::Ignore,
            _ => DefaultAction::Terminate,
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a signal does that was never caught (`signal(7)`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DefaultAction {
    /// It ends the process, with a core dump or without.
    Terminate,
    /// Nothing.
    Ignore,
}

/// What `sigaction` makes of a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SigAction {
    /// It is noted from now on.
    Catch,
    /// It is not noted any more. The default does not come back: a process that has caught a signal once survives it.
    Ignore,
}

/// A set of signals.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalSet(u32);

impl SignalSet {
    /// No signal.
    pub const EMPTY: SignalSet = SignalSet(0);

    /// This set and `signal`.
    #[must_use]
    pub const fn with(self, signal: Signal) -> SignalSet {
        SignalSet(self.0 | signal.bit())
    }

    /// This set less `signal`.
    #[must_use]
    pub const fn without(self, signal: Signal) -> SignalSet {
        SignalSet(self.0 & !signal.bit())
    }

    /// Whether `signal` is in it.
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & signal.bit() != 0
    }

    /// Whether no signal is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its signals, in the order of [`Signal::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        Signal::ALL.into_iter().filter(move |signal| self.contains(*signal))
    }
}

impl fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Where caught signals are noted: see the head of the file.
///
/// A process may have several; each gets every signal that was asked for with it.
pub struct Caught {
    set: AtomicU32,
    wake: Arc<dyn Wake>,
}

impl Caught {
    /// Signals are noted here, with a write to the eventfd that `wake` shares. The descriptor must not be
    /// [released](Wake::release): a handler that runs at that moment writes to its number.
    pub fn new(wake: Arc<dyn Wake>) -> Caught {
        Caught { set: AtomicU32::new(0), wake }
    }

    /// The eventfd.
    pub fn fd(&self) -> Fd {
        self.wake.fd()
    }

    /// Whose eventfd it is.
    pub fn process(&self) -> ProcessId {
        self.wake.process()
    }

    /// What has come since the last time. Clear the eventfd first.
    pub fn take(&self) -> SignalSet {
        // Acquire and release on both sides, so that what the sender did before is seen after; the eventfd's write and
        // read would order it too.
        SignalSet(self.set.swap(0, Ordering::AcqRel))
    }

    /// Notes a signal in the set, before the eventfd is written. Not for programs: what a kernel does. It is one atomic
    /// operation, so a signal handler may.
    #[doc(hidden)]
    pub fn note(&self, signal: Signal) {
        self.set.fetch_or(signal.bit(), Ordering::AcqRel);
    }
}

impl fmt::Debug for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = SignalSet(self.set.load(Ordering::Relaxed));
        write!(f, "Caught({set:?} by descriptor {})", self.fd())
    }
}

const _: () = assert!(Signal::ALL.len() <= 32, "a set has a bit for each");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_each_signal_once() {
        let set = Signal::ALL.into_iter().fold(SignalSet::EMPTY, SignalSet::with);
        assert!(set.iter().eq(Signal::ALL));
        let rest = set.without(Signal::Term);
        assert!(!rest.contains(Signal::Term) && rest.contains(Signal::Int) && rest.iter().count() == 9);
        assert_eq!(format!("{:?}", SignalSet::EMPTY.with(Signal::Hup).with(Signal::Int)), "{Hup, Int}");
    }
}
