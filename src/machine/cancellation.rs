//! The caller's own cancellation, as a case of a select.
//!
//! Whoever stands says so in its control block: a cancellation that a shield keeps from failing the wait then sends it to look again.

use super::block::{Attempt, Case};
use super::seat::Seat;
use super::wait::cancelled;
use super::{Machine, TaskRef, current};
use crate::error::{Cancelled, Misuse};

/// The caller's own cancellation, as a case of [`select`](crate::sync::select()): see [`cancellation`].
#[derive(Debug)]
pub struct Cancellation {
    found: Option<Cancelled>,
}

/// A case of [`select`](crate::sync::select()) that is chosen when its caller is cancelled, or was before, inside of a
/// [`shield`](crate::shield()), where no wait fails by that: so what must be finished can be finished sooner. Outside of one the select
/// itself fails, as every wait does. On a thread that is no machine it is never chosen.
///
/// ```
/// use machinarium::sync::channel;
/// use std::time::Duration;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let (_sender, answers) = channel::bounded::<u32>(1);
///     let asks = machinarium::spawn(move || {
///         machinarium::shield(|| {
///             machinarium::select! {
///                 recv(answers) -> answer => answer.ok(),
///                 cancelled() -> why => {
///                     assert_eq!(why.cause(), "the client has gone");
///                     None
///                 },
///                 after(Duration::from_secs(60)) => None,
///             }
///         })
///     });
///     machinarium::yield_now();
///     asks.cancel("the client has gone")?;
///     assert_eq!(asks.join()?, Ok(None));
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub fn cancellation() -> Cancellation {
    Cancellation { found: None }
}

impl Cancellation {
    /// The cancellation, if this case was chosen.
    ///
    /// # Errors
    /// [`Misuse::NotChosen`] if another was.
    pub fn cancelled(self) -> Result<Cancelled, Misuse> {
        self.found.ok_or(Misuse::NotChosen)
    }
}

fn running() -> Option<TaskRef> {
    current::machine().and_then(Machine::running)
}

impl Case for Cancellation {
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt {
        let task = running();
        let is_so = task.is_some_and(|task| task.cause.borrow().is_some());
        let attempt = Attempt::of(is_so, me, |_| {
            task.into_iter().for_each(|task| task.hears.set(true));
            Attempt::Waits
        });
        if attempt == Attempt::Done {
            self.found = task.map(cancelled);
        }
        attempt
    }

    fn leave(&mut self) -> bool {
        // That it is cancelled stays true: the next look finds it.
        running().into_iter().for_each(|task| task.hears.set(false));
        false
    }
}
