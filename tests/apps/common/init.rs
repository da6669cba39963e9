//! What starts a program on its host and starts it again when it could not begin, as init does.
//!
//! A process that finds no descriptor, memory or thread for its first machine says so and ends; it is started again a
//! little later, for ever. Any other error at its start, and any end after it has begun, is its own and final.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::time::Duration;

/// Between two starts.
const PAUSE: Duration = Duration::from_millis(5);

/// Runs `program` until it has begun, which it tells the cell that it is lent, and returns how it ended.
pub(crate) fn keep_starting(mut program: impl FnMut(&Cell<bool>) -> io::Result<()>) -> io::Result<()> {
    let begun = Cell::new(false);
    loop {
        match program(&begun) {
            Err(error) if !begun.get() && may_pass(&error) => pause(),
            result => return result,
        }
    }
}

/// Whether the same start may do better later: an address that is taken or not ours is not to be waited for.
fn may_pass(error: &io::Error) -> bool {
    use ErrorKind::{AddrInUse, AddrNotAvailable, InvalidInput, PermissionDenied};
    !matches!(error.kind(), AddrInUse | AddrNotAvailable | InvalidInput | PermissionDenied)
}

/// Only machines sleep. If this one cannot be had either, the next start comes at once.
fn pause() {
    let _ = machinarium::run(|| machinarium::sleep(PAUSE).map_err(io::Error::from));
}
