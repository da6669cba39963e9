//! A host on real Linux: an address, a directory, and the thread of its main function.

use std::any::Any;
use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use machinarium::kernel::{Kernel, Linux};
use machinarium::machine::current::{self, Starter, Tuning};

use super::kernel::Placed;
use super::{Network, lock};
use crate::host::Main;
use crate::process::Life;

/// See the head of the file.
pub(crate) struct RealHost {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    /// Where its files are.
    pub(super) files: PathBuf,
    pub(super) network: Arc<Network>,
    may_fail: AtomicBool,
    life: Mutex<Option<Life>>,
}

impl RealHost {
    pub(super) fn new(name: &str, index: u32, network: &Arc<Network>) -> RealHost {
        RealHost {
            name: name.to_owned(),
            address: Ipv4Addr::from(network.address + index + 1),
            files: network.files.join(index.to_string()),
            network: network.clone(),
            may_fail: AtomicBool::new(false),
            life: Mutex::new(None),
        }
    }

    /// An error or a panic of its main function is not the world's failure.
    pub(crate) fn let_fail(&self) {
        self.may_fail.store(true, Relaxed);
    }

    /// `None`: it was not started.
    pub(crate) fn life(&self) -> Option<Life> {
        *lock(&self.life)
    }

    pub(super) fn runs(&self) -> bool {
        self.life() == Some(Life::Running)
    }

    /// Whether the script has ended.
    pub(super) fn is_over(&self) -> bool {
        self.network.over.load(Relaxed)
    }

    /// Runs `main` on a thread of its own.
    ///
    /// # Panics
    /// If it was started before, or there are no threads or no directories to be had.
    pub(super) fn start(host: &Arc<RealHost>, main: Main) {
        assert!(lock(&host.life).replace(Life::Running).is_none(), "a host has one main function");
        std::fs::create_dir_all(&host.files).unwrap_or_else(|error| panic!("a host's directory: {error}"));
        let this = host.clone();
        let body = move || {
            let end =
                std::panic::catch_unwind(AssertUnwindSafe(|| this.enter(Rc::new(Linux::new()), |_| main())));
            this.has_ended(end.unwrap_or_else(|payload| Err(format!("it panicked: {}", said(&*payload)))));
        };
        let spawned = std::thread::Builder::new().name(format!("{}/main", host.name)).spawn(body);
        drop(spawned.unwrap_or_else(|error| panic!("a thread for host {}: {error}", host.name)));
    }

    /// Runs `main` on a thread of this host, whose calls go to `kernel`.
    pub(super) fn enter<R>(
        self: &Arc<RealHost>,
        kernel: Rc<dyn Kernel>,
        main: impl FnOnce(Rc<dyn Kernel>) -> R,
    ) -> R {
        let kernel: Rc<dyn Kernel> = Rc::new(Placed::new(kernel, self.clone()));
        current::with_kernel(kernel.clone(), Rc::new(OfHost(self.clone())), || main(kernel))
    }

    fn has_ended(&self, end: Result<(), String>) {
        if let Err(error) = end {
            self.fail(&format!("the main function of host {} failed: {error}", self.name));
        }
        // Under the lock that goes with the condition.
        let failure = lock(&self.network.failure);
        *lock(&self.life) = Some(Life::Ended);
        drop(failure);
        self.network.ended.notify_all();
    }

    /// What fails when the script has ended is nobody's failure.
    fn fail(&self, message: &str) {
        if self.may_fail.load(Relaxed) || self.is_over() {
            return;
        }
        lock(&self.network.failure).get_or_insert_with(|| message.to_owned());
        self.network.ended.notify_all();
    }
}

fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("with a value that is no text")
}

/// What the machines of a host tell.
struct OfHost(Arc<RealHost>);

impl Starter for OfHost {
    fn retune(&self, _: &mut Tuning) {}

    fn panic_lost(&self, coroutine: u64, name: &str) {
        let host = &self.0.name;
        self.0.fail(&format!("coroutine {coroutine} '{name}' of host {host} panicked, and nobody joins it"));
    }

    fn abort(&self, why: &str) -> ! {
        super::tell(&format!("host {} aborts: {why}", self.0.name));
        std::process::abort()
    }
}
