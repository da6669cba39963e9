//! Signals of the real process: handlers, installed once for each signal and chained to what was there.
//!
//! The crate signal-hook-registry installs them and keeps the list of what a handler does, in memory that a handler may
//! read. It owns a reference to each [`Caught`] that asked for a signal, and so its eventfd; [`CATCHING`] says which, so
//! that a second request of the same is none and an end of it finds what to end.

use std::io;
use std::process;
#[allow(clippy::disallowed_types)] // the list below, and signals are of the whole process
use std::sync::Mutex;
use std::sync::{Arc, PoisonError};

use signal_hook_registry::{SigId, register, unregister};

use super::{counted, failed};
use crate::kernel::{Call, Caught, Errno, Result, SigAction, Signal};

/// What handlers do: a signal, where it is noted, and the registry's name for that.
#[allow(clippy::disallowed_types)] // held while a handler is installed or removed; no handler takes it
static CATCHING: Mutex<Vec<(Signal, Arc<Caught>, SigId)>> = Mutex::new(Vec::new());

pub(super) fn act(signal: Signal, action: SigAction, caught: &Arc<Caught>) -> Result<()> {
    let mut catching = CATCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let found = catching.iter().position(|entry| entry.0 == signal && Arc::ptr_eq(&entry.1, caught));
    match (action, found) {
        (SigAction::Catch, None) => {
            let id = catch(signal, caught.clone()).map_err(|error| {
                let errno = error.raw_os_error().map_or(Errno::INVAL, Errno::from_raw);
                counted(Call::Sigaction, errno)
            })?;
            catching.push((signal, caught.clone(), id));
        }
        (SigAction::Ignore, Some(place)) => {
            let (.., id) = catching.swap_remove(place);
            unregister(id);
        }
        (SigAction::Catch, Some(_)) | (SigAction::Ignore, None) => {}
    }
    Ok(())
}

fn catch(signal: Signal, caught: Arc<Caught>) -> io::Result<SigId> {
    let fd = caught.fd().raw();
    let handler = move || {
        caught.note(signal);
        let one = 1u64.to_ne_bytes();
        // A counter that is full is readable, so an error tells nothing that matters. The registry keeps errno as it was.
        // SAFETY: the kernel reads the eight bytes of `one`; `caught` owns the descriptor (see `Caught::new`).
        unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
    };
    // SAFETY: the handler makes one atomic operation and one write(2), both of which signal-safety(7) allows; it neither
    // allocates, locks nor panics, and drops nothing.
    unsafe { register(signal.number(), handler) }
}

pub(super) fn kill(signal: Signal) -> Result<()> {
    // SAFETY: takes no pointer. That this process may signal itself is always so.
    unsafe { syscall!(Kill: kill(process::id() as libc::pid_t, signal.number())) }.map(drop)
}
