//! Futures in coroutines: [`block_on`](crate::block_on()) runs one to its end on the calling coroutine's stack, and what this library waits for
//! can be polled by them.
//!
//! A coroutine that is in a future is a coroutine: the future may call whatever parks, another `block_on` too, and holds up itself and
//! what it is joined to, never the machine. Deadlines, cancellation and teardown are the coroutine's: a future needs none of its own.
//!
//! | to wait for, in a future | poll |
//! |---|---|
//! | time | [`sleep`], [`sleep_until`] |
//! | a coroutine, a machine | their handles, which are futures |
//! | bytes | [`Duplex::poll_read`](crate::net::Duplex::poll_read) and its like, of every stream, with TLS or without |
//! | a datagram, a connection | [`Readable::poll`](crate::net::Readable::poll), then the call |
//!
//! What is polled never parks. If it is ready it counts against the coroutine's budget, as calls do; when that is over it is pending, and
//! polled again when others have run.
//!
//! ```
//! use machinarium::{block_on, future, spawn};
//! use std::time::Duration;
//!
//! let result: std::io::Result<()> = machinarium::run(|| {
//!     let sum = block_on(async {
//!         let half = spawn(|| 20); // a coroutine of this machine
//!         future::sleep(Duration::from_millis(1)).await?;
//!         Ok::<i32, std::io::Error>(half.await? + 22)
//!     })??;
//!     assert_eq!(sum, 42);
//!     Ok(())
//! });
//! result.unwrap();
//! ```

mod block_on;
mod sleep;

pub use block_on::block_on;
pub use sleep::{Sleep, sleep, sleep_until};
