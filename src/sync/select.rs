//! Waiting for the first of several: what is sent or received, joins, signals, events, moments.
//!
//! Of several cases that could be had, one is: where the search begins moves on with each select of a machine, so none is starved.
//! The others have had no effect at all: no item was taken, none was sent. [`try_select`], and `default` in the macro, take what
//! can be had at once.
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
use crate::machine::block::{Attempt, Case, block_first, try_first};
use crate::machine::seat::Seat;
use crate::machine::{Machine, Reason, current};

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
    let start = first_to_look_at(cases.len());
    block_first(cases, start, Reason::of("select"), deadline)
}

/// The first of `cases` that can be had now, without waiting; its place among them. `None`: no case can, and none has had an effect.
///
/// It spends budget as every call does, so a loop around it lets others run, and hears of a cancellation and, now and then, of its
/// scope's deadline.
///
/// # Errors
/// If the caller is cancelled, or its scope's deadline was found to have passed: then no case has had an effect.
///
/// ```
/// use machinarium::sync::{channel, try_select};
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let (words, spoken) = channel::unbounded();
///     let (numbers, counted) = channel::unbounded::<u32>();
///     assert_eq!(try_select(&mut [&mut spoken.receiving(), &mut counted.receiving()])?, None);
///     words.send("hello")?;
///     let (mut word, mut number) = (spoken.receiving(), counted.receiving());
///     assert_eq!(try_select(&mut [&mut word, &mut number])?, Some(0));
///     assert_eq!(word.received(), Ok("hello"));
///     drop(numbers);
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub fn try_select(cases: &mut [&mut dyn Case]) -> Result<Option<usize>, WaitError> {
    let start = first_to_look_at(cases.len());
    try_first(cases, start)
}

/// Where the search begins among `count` cases. The numbers of a machine go up with all that it does. Whoever does the same between two
/// selects goes on by the same step each time, which may be a multiple of `count`; so it is a step of the golden ratio around a circle
/// (Knuth, volume 3, 6.4, theorem S), which comes by every case whatever its length is.
fn first_to_look_at(count: usize) -> usize {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let number = current::machine().map_or(0, Machine::next_id);
    let angle = number.wrapping_mul(GOLDEN) >> 32;
    ((angle * count as u64) >> 32) as usize
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
        Attempt::of(due, me, |_| Attempt::Waits)
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
/// | `join(handle) -> result` | `Result<T, JoinError>` of a `&mut` [`JoinHandle<T>`](crate::JoinHandle), [`ScopedJoinHandle`](crate::ScopedJoinHandle), [`machine::Handle`](crate::machine::Handle) or [`RemoteJoin`](crate::machine::RemoteJoin) |
/// | `signal(signals) -> signal` | the [`Signal`](crate::signal::Signal) that has come |
/// | `wait(event)` | nothing: the [`Event`](crate::sync::Event) is set |
/// | `readable(io)`, `writable(io)` | nothing: a read or an accept, or a write, would not wait ([`Stream::readable`](crate::net::Stream::readable)) |
/// | `cancelled() -> cancelled` | the caller's own [`Cancelled`](crate::Cancelled), inside of a shield ([`cancellation`](crate::machine::cancellation())) |
/// | `after(duration)`, `at(deadline)` | nothing |
/// | `default`, as the last one | nothing: none of the others can be had now. With it nothing waits: see [`try_select`](crate::sync::try_select()) |
///
/// ```
/// use machinarium::sync::channel;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let (jobs, waiting) = channel::bounded(1);
///     let mut given = 0;
///     // Gives out what is taken at once, and does the rest itself.
///     for job in 0..3 {
///         machinarium::select! {
///             send(jobs, job) -> sent => {
///                 sent.expect("there is a receiver");
///                 given += 1;
///             },
///             default => assert!(job > 0),
///         }?;
///     }
///     assert_eq!((given, waiting.len()), (1, 1));
///     Ok(())
/// });
/// result.unwrap();
/// ```
///
/// A value that is to be sent is made before the wait, and dropped if another operation was the first. To have it back,
/// call [`select`](crate::sync::select()) with [`Sender::sending`](crate::sync::channel::Sender::sending), which keeps it. That function, with
/// its rules, is for a list of cases that is made at run time too.
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
    (@cases [$($done:tt)*] cancelled() -> $result:pat => $body:expr, $($rest:tt)*) => {{
        let mut case = $crate::machine::cancellation();
        $crate::select!(@cases [$($done)* (case, $result, case.cancelled().expect("it was chosen"), $body)] $($rest)*)
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
            Ok(chosen) => Ok($crate::select!(@chosen chosen, 0, $(($result, $taken, $body))+)),
        }
    };
    (@cases [$(($case:ident, $result:pat, $taken:expr, $body:expr))+] default => $default:expr $(,)?) => {
        match $crate::sync::select::try_select(&mut [$(&mut $case),+]) {
            Err(error) => Err(error),
            Ok(found) => Ok(match found {
                None => $default,
                Some(chosen) => $crate::select!(@chosen chosen, 0, $(($result, $taken, $body))+),
            }),
        }
    };
    // Branches, and no block to break out of: a body may end the loop around the select.
    (@chosen $chosen:ident, $place:expr, ($result:pat, $taken:expr, $body:expr) $($rest:tt)*) => {
        if $chosen == $place {
            let $result = $taken;
            $body
        } else {
            $crate::select!(@chosen $chosen, $place + 1, $($rest)*)
        }
    };
    (@chosen $chosen:ident, $place:expr,) => {
        unreachable!("case {} of {}", $chosen, $place)
    };
    ($kind:ident($($argument:expr),*) $($rest:tt)+) => {
        $crate::select!(@cases [] $kind($($argument),*) $($rest)+)
    };
}
