//! Signals as values: a program asks for some of them and receives them like messages.
//!
//! Each `Subscription` has an eventfd of its own, which its machine watches; the kernel's handler notes a signal for all who
//! have asked for it (`kernel/signal.rs`), so each of them hears of it, on whatever machine. Equal signals that come before the
//! first was received are one, as they are for Linux while they are pending.
//!
//! | signal | in `pending` | in the channel |
//! |---|---|---|
//! | has come | put in | sent, unless it was pending |
//! | is received | taken out | taken |
//! | was chosen by a select that did not ask for it | stays | sent again |

use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Misuse, WaitError};
use crate::kernel::{Caught, Events, Instant, Kernel, SigAction, SignalSet};
use crate::machine::block::{Attempt, Case};
use crate::machine::seat::Seat;
use crate::machine::{Key, Machine, Source, current};
use crate::sync::channel::{self, Receiver, RecvError, Sender, TryRecvError};

pub use crate::kernel::Signal;

/// Sends a signal to this process, as `kill(2)` does.
///
/// # Errors
/// Outside of a machine; the system's, of which none is known.
pub fn raise(signal: Signal) -> io::Result<()> {
    let machine = current::machine().ok_or(Misuse::NoMachine)?;
    Ok(machine.kernel.kill(signal)?)
}

/// Receives the signals that it was made for.
///
/// As long as nothing asks for a signal, it does what it does to any program: Ctrl-C ends it. Once asked for, a signal is caught,
/// and after the last [`Signals`] for it has been dropped it does nothing: the default does not come back. A signal of which
/// several ask reaches each; handlers that others have installed are called too.
///
/// A `Signals` belongs to the machine that made it, and several of its coroutines can wait: each signal goes to one of them.
///
/// ```
/// use machinarium::signal::{self, Signal, Signals};
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let signals = Signals::new([Signal::Hup, Signal::Term])?;
///     signal::raise(Signal::Hup)?;
///     assert_eq!(signals.recv()?, Signal::Hup);
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub struct Signals {
    pending: Rc<Cell<SignalSet>>,
    sender: Sender<Signal>,
    receiver: Receiver<Signal>,
    subscription: Subscription,
}

impl Signals {
    /// Asks for these signals; those that come from now on are received.
    ///
    /// # Errors
    /// Outside of a machine; `InvalidInput` without any signal; when the process is out of descriptors.
    pub fn new(signals: impl IntoIterator<Item = Signal>) -> io::Result<Signals> {
        let (sender, receiver) = channel::unbounded();
        let pending: Rc<Cell<SignalSet>> = Rc::default();
        let (seen, inlet) = (pending.clone(), sender.clone());
        let subscription = Subscription::new(signals, move |signal| {
            if !seen.get().contains(signal) {
                seen.set(seen.get().with(signal));
                // Fails when the receiver is being dropped.
                let _ = inlet.try_send(signal);
            }
        })?;
        Ok(Signals { pending, sender, receiver, subscription })
    }

    /// Waits for a signal.
    ///
    /// # Errors
    /// If the wait is ended by a deadline or a cancellation, which takes no signal; on another machine than its own.
    pub fn recv(&self) -> Result<Signal, WaitError> {
        self.recv_deadline(Instant::FAR)
    }

    /// As [`recv`](Self::recv), for `timeout` at most.
    ///
    /// # Errors
    /// As `recv`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Signal, WaitError> {
        self.recv_deadline(crate::time::now() + timeout)
    }

    /// As [`recv`](Self::recv), until `deadline` at most.
    ///
    /// # Errors
    /// As `recv`.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Signal, WaitError> {
        self.subscription.here()?;
        match self.receiver.recv_deadline(deadline) {
            Ok(signal) => Ok(self.take(signal)),
            Err(RecvError::Wait(error)) => Err(error),
            Err(RecvError::Disconnected) => unreachable!("it holds a sender itself"),
        }
    }

    /// A signal that has come, if there is one. What has come since the machine last looked at its descriptors is not seen.
    pub fn try_recv(&self) -> Option<Signal> {
        self.receiver.try_recv().ok().map(|signal| self.take(signal))
    }

    /// Receiving, as a case of [`select`](crate::sync::select()). After it was chosen, [`Receiving::received`] has the signal.
    pub fn receiving(&self) -> Receiving<'_> {
        Receiving { inner: Some(self.receiver.receiving()), signals: self }
    }

    fn take(&self, signal: Signal) -> Signal {
        self.pending.set(self.pending.get().without(signal));
        signal
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signals({:?})", self.subscription.asked)
    }
}

/// A signal that is being received: see [`Signals::receiving`].
pub struct Receiving<'a> {
    inner: Option<channel::Receiving<'a, Signal>>,
    signals: &'a Signals,
}

impl Receiving<'_> {
    /// The signal, if this case was chosen.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] if another case was chosen.
    pub fn received(mut self) -> Result<Signal, TryRecvError> {
        let inner = self.inner.take().expect("it is taken here or when dropped");
        inner.received().map(|signal| self.signals.take(signal))
    }

    fn inner(&mut self) -> &mut dyn Case {
        self.inner.as_mut().expect("it is taken when this is over")
    }
}

impl Case for Receiving<'_> {
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt {
        self.inner().attempt(me)
    }

    fn leave(&mut self) -> bool {
        self.inner().leave()
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        if let Some(Ok(signal)) = self.inner.take().map(channel::Receiving::received) {
            // Nobody has asked for it: another may.
            let _ = self.signals.sender.try_send(signal);
        }
    }
}

impl fmt::Debug for Receiving<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiving")
    }
}

/// Some signals that were asked for on this machine, until it is dropped.
pub(crate) struct Subscription {
    asked: SignalSet,
    /// `None`: it could not be registered, or lasts as long as the machine.
    watched: Option<Key>,
    caught: Arc<Caught>,
    machine: Rc<Machine>,
}

impl Subscription {
    /// `deliver` is called with each signal that has come, on the root stack: it must not wait.
    pub(crate) fn new(
        signals: impl IntoIterator<Item = Signal>,
        deliver: impl Fn(Signal) + 'static,
    ) -> io::Result<Subscription> {
        let asked = signals.into_iter().fold(SignalSet::EMPTY, SignalSet::with);
        if asked.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no signal to wait for: name one at least",
            ));
        }
        let machine = current::machine_rc().ok_or(Misuse::NoMachine)?;
        let kernel = machine.kernel.clone();
        let caught = Arc::new(Caught::new(kernel.share(kernel.eventfd(0)?)));
        let mut made = Subscription { asked, watched: None, caught: caught.clone(), machine };
        let inlet = Inlet { asked, caught, kernel: kernel.clone(), deliver: Box::new(deliver) };
        made.watched = Some(made.machine.poller.add(&*kernel, made.caught.fd(), Rc::new(inlet))?);
        for signal in asked.iter() {
            kernel.sigaction(signal, SigAction::Catch, &made.caught)?;
        }
        Ok(made)
    }

    /// Lets it last as long as the machine.
    pub(crate) fn keep(mut self) {
        self.watched = None;
    }

    fn here(&self) -> Result<(), Misuse> {
        let here = current::machine().is_some_and(|machine| std::ptr::eq(machine, &*self.machine));
        if here { Ok(()) } else { Err(Misuse::OtherMachine) }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Elsewhere it stays with its machine, until that ends.
        if self.here().is_ok()
            && let Some(key) = self.watched.take()
        {
            self.machine.poller.remove(&*self.machine.kernel, self.caught.fd(), key);
        }
    }
}

/// What the machine watches. As long as it is there, the signals are asked for.
struct Inlet {
    asked: SignalSet,
    caught: Arc<Caught>,
    kernel: Rc<dyn Kernel>,
    deliver: Box<dyn Fn(Signal)>,
}

impl Source for Inlet {
    fn ready(&self, _machine: &Machine, _events: Events) {
        // First the eventfd, then the set: what is noted in between is in the set, and gives another edge. So does the next
        // note if the read was interrupted.
        let _ = self.kernel.read(self.caught.fd(), &mut [0; 8]);
        self.caught.take().iter().for_each(&self.deliver);
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        for signal in self.asked.iter() {
            // One that was not asked for yet, after a failure, is none.
            let _ = self.kernel.sigaction(signal, SigAction::Ignore, &self.caught);
        }
    }
}
