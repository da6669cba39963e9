//! Waiting for the first of several: what is sent or received, joins, signals, events, moments.
//!
//! Of several cases that could be had, one is: where the search begins moves on with each select of a machine, so none is starved.
//! The others have had no effect at all: no item was taken, none was sent.
//!
//! ```
//! use machinarium::sync::channel;
//! use std::time::Duration;
//!
//! let result: std::io::Result<()> = machinarium::run(|| {
//!     let (words, spoken) = channel::bounded(1);
//!     let (numbers, counted) = channel::bounded::<u32>(1);
//!     words.send("hello")?;
//!     let said = machinarium::select! {
//!         recv(spoken) -> word => word.unwrap().to_owned(),
//!         recv(counted) -> number => number.unwrap().to_string(),
//!         after(Duration::from_secs(1)) => "silence".to_owned(),
//!     }?;
//!     assert_eq!(said, "hello");
//!     drop(numbers);
//!     Ok(())
//! });
//! result.unwrap();
//! ```

use std::time::Duration;

use crate::error::WaitError;
use crate::kernel::Instant;
use crate::machine::block::{Attempt, Case, block_first};
use crate::machine::seat::Seat;
use crate::machine::{Reason, current};
use crate::shared::line::Waiter;

/// Waits for the first of `cases`; its place among them. What it has brought is in the case.
///
/// # Errors
/// If the wait is ended by a scope's deadline or a cancellation: then no case has had an effect.
///
/// # Panics
/// Without cases: nothing would end the wait.
pub fn select(cases: &mut [&mut dyn Case]) -> Result<usize, WaitError> {
    select_deadline(cases, Instant::FAR)
}

/// As [`select`], until `deadline` at most.
///
/// # Errors
/// As `select`.
///
/// # Panics
/// As `select`.
pub fn select_deadline(cases: &mut [&mut dyn Case], deadline: Instant) -> Result<usize, WaitError> {
    assert!(!cases.is_empty(), "a select without cases waits for ever");
    // The numbers of a machine go up with all that it does, so no two selects in a row begin at the same case by design.
    let start = current::machine().map_or(0, |machine| machine.next_id() as usize % cases.len());
    block_first(cases, start, Reason::of("select"), deadline)
}

/// A moment as a case: chosen when it has come.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    at: Instant,
}

/// A case that is chosen `duration` from now.
pub fn after(duration: Duration) -> Timer {
    at(crate::time::now() + duration)
}

/// A case that is chosen at `deadline`.
pub fn at(deadline: Instant) -> Timer {
    Timer { at: deadline }
}

impl Case for Timer {
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt {
        let due = self.at != Instant::FAR && crate::time::now() >= self.at;
        match me {
            None if due => Attempt::Done,
            None => Attempt::NotNow,
            Some(me) if due => {
                if me.withdraw() {
                    Attempt::Done
                } else {
                    Attempt::Overtaken
                }
            }
            Some(_) => Attempt::Waits,
        }
    }

    fn leave(&mut self) -> bool {
        false
    }

    fn due(&self) -> Instant {
        self.at
    }
}

/// Waits for the first of several operations and runs what belongs to it. Gives `Ok` of that, or the [`WaitError`] that
/// ended the wait.
///
/// | operation | binds |
/// |---|---|
/// | `recv(receiver) -> result` | `Result<T, TryRecvError>`: `Disconnected` when nobody will send |
/// | `send(sender, value) -> result` | `Result<(), TrySendError<T>>`: `Disconnected` when nobody will receive |
/// | `join(handle) -> result` | `Result<T, JoinError>` of a `&mut JoinHandle<T>` |
/// | `signal(signals) -> signal` | the [`Signal`](crate::signal::Signal) that has come |
/// | `wait(event)` | nothing: the [`Event`](crate::sync::Event) is set |
/// | `readable(io)`, `writable(io)` | nothing: a read, or a write, would not wait ([`Stream::readable`](crate::net::Stream::readable)) |
/// | `after(duration)`, `at(deadline)` | nothing |
///
/// See [`sync::select`](mod@crate::sync::select) for the rules, and for a list of cases that is made at run time.
#[macro_export]
macro_rules! select {
    (@cases [$($done:tt)*] recv($end:expr) -> $result:pat => $body:expr, $($rest:tt)*) => {{
        let mut case = ($end).receiving();
        $crate::select!(@cases [$($done)* (case, $result, case.received(), $body)] $($rest)*)
    }};
    (@cases [$($done:tt)*] send($end:expr, $item:expr) -> $result:pat => $body:expr, $($rest:tt)*) => {{
        let mut case = ($end).sending($item);
        $crate::select!(@cases [$($done)* (case, $result, case.sent(), $body)] $($rest)*)
    }};
    (@cases [$($done:tt)*] join($handle:expr) -> $result:pat => $body:expr, $($rest:tt)*) => {{
        let mut case = ($handle).joining();
        $crate::select!(@cases [$($done)* (case, $result, case.joined(), $body)] $($rest)*)
    }};
    (@cases [$($done:tt)*] signal($signals:expr) -> $result:pat => $body:expr, $($rest:tt)*) => {{
        let mut case = ($signals).receiving();
        $crate::select!(@cases [$($done)* (case, $result, case.received().expect("it was chosen"), $body)] $($rest)*)
    }};
    (@cases [$($done:tt)*] wait($event:expr) => $body:expr, $($rest:tt)*) => {{
        let mut case = ($event).waiting();
        $crate::select!(@cases [$($done)* (case, (), drop(case), $body)] $($rest)*)
    }};
    (@cases [$($done:tt)*] readable($io:expr) => $body:expr, $($rest:tt)*) => {{
        let mut case = ($io).readable();
        $crate::select!(@cases [$($done)* (case, (), (), $body)] $($rest)*)
    }};
    (@cases [$($done:tt)*] writable($io:expr) => $body:expr, $($rest:tt)*) => {{
        let mut case = ($io).writable();
        $crate::select!(@cases [$($done)* (case, (), (), $body)] $($rest)*)
    }};
    (@cases [$($done:tt)*] after($duration:expr) => $body:expr, $($rest:tt)*) => {{
        let mut case = $crate::sync::select::after($duration);
        $crate::select!(@cases [$($done)* (case, (), (), $body)] $($rest)*)
    }};
    (@cases [$($done:tt)*] at($deadline:expr) => $body:expr, $($rest:tt)*) => {{
        let mut case = $crate::sync::select::at($deadline);
        $crate::select!(@cases [$($done)* (case, (), (), $body)] $($rest)*)
    }};
    (@cases [$(($case:ident, $result:pat, $taken:expr, $body:expr))+]) => {
        match $crate::sync::select::select(&mut [$(&mut $case),+]) {
            Err(error) => Err(error),
            Ok(chosen) => 'chosen: {
                let mut place = 0;
                $(
                    if chosen == place {
                        let $result = $taken;
                        break 'chosen Ok($body);
                    }
                    place += 1;
                )+
                unreachable!("case {chosen} of {place}")
            }
        }
    };
    ($kind:ident($($argument:expr),+) $($rest:tt)+) => {
        $crate::select!(@cases [] $kind($($argument),+) $($rest)+)
    };
}
