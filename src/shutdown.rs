//! The beginning of the end of a service: something that happens once, and that all its parts can look at and wait for.
//!
//! | phase | what ends it | whose it is |
//! |---|---|---|
//! | begun: nobody accepts any more | the accept loops return, and with them the machines' main closures | [`Shutdown::until_begun`] |
//! | drain: what was accepted is served to its end | it has ended, or `Builder::drain` is over | the machine |
//! | cancel: waits fail, with the cause "the machine ends" | all have ended, or `Builder::grace` is over | the machine |
//! | unwind | all have ended, or `Builder::teardown` is over, and the process aborts with a dump | the machine |
//!
//! This file is the first row; `machine/teardown` is the rest. Connections that are idle, but would go on for ever, look at
//! [`Shutdown::begun`], or wait for it beside their next request.

use std::fmt;
use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;

use crate::error::{Cause, JoinError, WaitError};
use crate::machine::{shield, throw_unwind};
use crate::scope::scope;
use crate::shared::lock::Lock;
use crate::signal::{Signal, Subscription};
use crate::sync::{Event, Waiting, select};

/// Whether a service is to end. Clones are the same one, on any machine and thread.
///
/// ```
/// use machinarium::signal::{self, Signal};
/// use machinarium::{Builder, Shutdown, net::TcpListener};
/// use std::time::Duration;
///
/// // What was accepted before the signal may take ten seconds to end.
/// let result: std::io::Result<()> = Builder::new().drain(Duration::from_secs(10)).run(|| {
///     let shutdown = Shutdown::new();
///     shutdown.on_signals([Signal::Term, Signal::Int])?;
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     # signal::raise(Signal::Term)?;
///     let ended: std::io::Result<()> = shutdown.until_begun(|| {
///         loop {
///             let (stream, _peer) = listener.accept()?;
///             machinarium::spawn(move || std::io::copy(&mut &stream, &mut &stream));
///         }
///     });
///     assert_eq!(shutdown.cause().as_deref(), Some("SIGTERM"));
///     if machinarium::cancelled(&ended.unwrap_err()).is_none() {
///         return Err(std::io::Error::other("accept failed before there was a signal"));
///     }
///     Ok(())
/// });
/// result.unwrap();
/// ```
#[derive(Clone, Default)]
pub struct Shutdown {
    core: Arc<Core>,
}

#[derive(Default)]
struct Core {
    cause: Lock<Option<Cause>>,
    /// Set after the cause is there.
    begun: Event,
}

impl Shutdown {
    /// One that has not begun.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Begins it. False, and nothing else, if it had begun before: the first cause stays.
    pub fn begin(&self, cause: impl Into<Cause>) -> bool {
        let cause = cause.into();
        let first = self.core.cause.with(|place| {
            let first = place.is_none();
            if first {
                *place = Some(cause);
            }
            first
        });
        if first {
            self.core.begun.set();
        }
        first
    }

    /// Begins it when one of these signals comes, with the signal's name as its cause; for as long as this machine lives. A
    /// signal that comes later is caught and changes nothing.
    ///
    /// # Errors
    /// As for [`Signals::new`](crate::signal::Signals::new).
    pub fn on_signals(&self, signals: impl IntoIterator<Item = Signal>) -> io::Result<()> {
        let shutdown = self.clone();
        Subscription::new(signals, move |signal| {
            shutdown.begin(signal.name());
        })?
        .keep();
        Ok(())
    }

    /// Whether it has begun.
    pub fn begun(&self) -> bool {
        self.core.begun.is_set()
    }

    /// Why it has begun, if it has.
    pub fn cause(&self) -> Option<Cause> {
        self.core.cause.with(|cause| cause.clone())
    }

    /// Waits until it begins.
    ///
    /// # Errors
    /// If the wait is ended by a deadline or a cancellation.
    pub fn wait(&self) -> Result<(), WaitError> {
        self.core.begun.wait()
    }

    /// Waiting until it begins, as a case of [`select`](crate::sync::select()): `wait(shutdown)` in the macro.
    pub fn waiting(&self) -> Waiting<'_> {
        self.core.begun.waiting()
    }

    /// Runs `f`, in a coroutine of its own that may borrow from the caller. When the shutdown begins, the blocking calls of `f`
    /// fail as if it was cancelled, with the shutdown's cause; those made inside [`shield`] do not. So a loop that accepts ends.
    ///
    /// Returns what `f` returns, when it has. A deadline or a cancellation of the caller reaches `f`.
    ///
    /// # Panics
    /// If `f` panics; outside a machine; if no stack can be had.
    pub fn until_begun<T>(&self, f: impl FnOnce() -> T) -> T {
        scope(|scope| {
            let ended = Event::new();
            let tell = SetWhenDropped(ended.clone());
            let work = scope.spawn(move || {
                let _tell = tell;
                f()
            });
            let first = select(&mut [&mut self.waiting(), &mut ended.waiting()]);
            // What else has ended this wait, the caller's deadline or cancellation, has reached the child too.
            if first == Ok(0) {
                scope.cancel(self.cause().unwrap_or_default());
            }
            match shield(|| work.join()) {
                Ok(value) => value,
                Err(JoinError::Panicked(panic)) => resume_unwind(panic),
                // The machine ends, and this coroutine comes next.
                Err(JoinError::Unwound) => throw_unwind(),
                Err(error) => unreachable!("a child that is waited for in a shield: {error}"),
            }
        })
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shutdown").field(&self.cause()).finish()
    }
}

struct SetWhenDropped(Event);

impl Drop for SetWhenDropped {
    fn drop(&mut self) {
        self.0.set();
    }
}
