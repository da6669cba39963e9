//! Descriptors that cross the threads of a simulated process.
//!
//! A [`SimWake`] can be sent anywhere, and is `Sync`, so it holds no reference into its world but the world's identity.
//! When it is used, the world that runs on the OS thread is asked whether it is the one; any other OS thread panics
//! with its name: real threads have no business in a simulation, and an answer from the real kernel would be worse.
//! A process that was killed has no descriptors any more, so what is left of it finds `EBADF` and closes nothing.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use machinarium::kernel::{Call, Errno, Fd, ProcessId, Result, Wake, errno::TEARDOWN};

use crate::env::ProcessIndex;
use crate::process::Life;
use crate::trace::Answer;
use crate::world::{self, Asking, Identity, Mode, Served, Shared, State};

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct SimWake {
    world: Arc<Identity>,
    process: ProcessIndex,
    fd: Fd,
    owned: AtomicBool,
}

impl SimWake {
    pub(crate) fn new(shared: &Rc<Shared>, process: ProcessIndex, fd: Fd) -> SimWake {
        SimWake { world: shared.identity.clone(), process, fd, owned: AtomicBool::new(true) }
    }

    /// Has the world serve a call on the descriptor, in the name of the thread that runs.
    fn call(&self, call: Call, mut serve: impl FnMut(&mut State) -> Result<()>) -> Result<()> {
        let Some(shared) = world::current().filter(|shared| Arc::ptr_eq(&shared.identity, &self.world))
        else {
            return self.refuse_outsider();
        };
        if shared.mode.get() != Mode::Running {
            return Err(TEARDOWN);
        }
        let Some(thread) = shared.current.get() else { return Err(TEARDOWN) };
        shared.asking.set(Some(call));
        let answer = shared.ask(thread, Asking::Call, |state, _| {
            // Anything across processes is refused, and the dead have no descriptors.
            let own = state.sched.thread(thread).process == Some(self.process);
            let alive = state.processes[self.process.0 as usize].life == Life::Running;
            let answer = if own && alive { serve(state) } else { Err(Errno::BADF) };
            state.sched.trace.fold(state.sched.now);
            state.sched.trace.fold((call as u64) << 24 ^ answer.word());
            if state.sched.trace.is_on() {
                let host = state.sched.thread(thread).host;
                state.sched.line(host, format_args!("{call:?} of shared {} = {answer:?}", self.fd));
            }
            Served::Done(answer)
        });
        answer.unwrap_or(Err(TEARDOWN))
    }

    /// No world of ours runs here. When it is over, what it left may be dropped by anybody.
    fn refuse_outsider(&self) -> Result<()> {
        if self.world.over.load(Ordering::Acquire) || std::thread::panicking() {
            return Err(TEARDOWN);
        }
        panic!(
            "thread '{}' is no part of the simulation with seed {:#x} and uses its descriptor {}",
            std::thread::current().name().unwrap_or("unnamed"),
            self.world.seed,
            self.fd
        );
    }
}

impl Wake for SimWake {
    fn fd(&self) -> Fd {
        self.fd
    }

    fn process(&self) -> ProcessId {
        ProcessId(u64::from(self.process.0) + 1)
    }

    fn wake(&self) -> Result<()> {
        // After a release the number may be a stranger's. Relaxed, as there.
        if !self.owned.load(Ordering::Relaxed) {
            return Err(Errno::BADF);
        }
        self.call(Call::Write, |state| {
            state.net.write(&mut state.sched, self.process, self.fd, &1u64.to_ne_bytes()).map(drop)
        })
    }

    fn release(&self) -> Fd {
        // Relaxed: giving up is decided by whoever owns the object, and its last reference sees it.
        self.owned.store(false, Ordering::Relaxed);
        self.fd
    }
}

impl Drop for SimWake {
    fn drop(&mut self) {
        if !*self.owned.get_mut() {
            return;
        }
        // A world that is over has closed everything; closing cannot fail in another way that anybody could mend.
        let _ = self.call(Call::Close, |state| state.net.close(&mut state.sched, self.process, self.fd));
    }
}
