//! The kernel of a thread of a real host: Linux, with names, addresses and paths put in their places.
//!
//! | what the host says | is |
//! |---|---|
//! | its loopback, and any address to bind to | its own address, of either family |
//! | nothing, before it connects | the same: its peers see who calls |
//! | the name of a host of its world | that host's address; other names are asked for as usual |
//! | a path, or an abstract name of a Unix socket | a path in its directory, a name with its address |
//!
//! A call that waits looks every now and then whether the script has ended.

use std::ffi::{CStr, CString};
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use machinarium::kernel::{
    Address, Clock, Domain, EpollEvent, EpollOp, Errno, Fd, Instant, Kernel, OptionName, ProcessId, Received,
    RecvFlags, Result, SendFlags, SocketKind, SocketOption, Thread, ThreadEnd, ThreadMain, ThreadOptions,
    UnixName, Wake, errno::TEARDOWN, sealed,
};
use machinarium::kernel::{Caught, CpuSet, OpenFlags, Query, ResolveError, SigAction, Signal, Stat};

use super::host::RealHost;
use super::lock;
use crate::dns::{self, Asked};

/// See the head of the file.
pub(super) struct Placed {
    inner: Rc<dyn Kernel>,
    host: Arc<RealHost>,
}

/// How long a call waits before it looks.
const SLICE: Duration = Duration::from_millis(20);

impl Placed {
    pub(super) fn new(inner: Rc<dyn Kernel>, host: Arc<RealHost>) -> Placed {
        Placed { inner, host }
    }

    /// An address that means this host, in the same family.
    fn own(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(_) => self.host.address.into(),
            IpAddr::V6(_) => self.host.address.to_ipv6_mapped().into(),
        }
    }

    fn place(&self, address: &Address) -> Result<Address> {
        match address {
            Address::Ip(ip) => {
                let canonical = ip.ip().to_canonical();
                let usual =
                    canonical == IpAddr::from([127, 0, 0, 1]) || ip.ip().is_loopback() && ip.is_ipv6();
                let means_us = canonical.is_unspecified() || usual;
                let place = if means_us { SocketAddr::new(self.own(ip.ip()), ip.port()) } else { *ip };
                Ok(Address::Ip(place))
            }
            Address::Unix(name) => self.place_name(name).map(Address::Unix),
        }
    }

    fn place_name(&self, name: &UnixName) -> Result<UnixName> {
        let placed = if let Some(path) = name.as_path() {
            UnixName::path(&self.bytes_of(path))
        } else if let Some(abstract_name) = name.as_abstract() {
            UnixName::abstract_name(&[self.host.address.to_string().as_bytes(), abstract_name].concat())
        } else {
            return Ok(*name);
        };
        placed.map_err(|_| Errno::NAMETOOLONG)
    }

    /// A path below the host's directory.
    fn bytes_of(&self, path: &[u8]) -> Vec<u8> {
        [self.host.files.as_os_str().as_bytes(), b"/", path].concat()
    }

    fn path(&self, path: &CStr) -> CString {
        CString::new(self.bytes_of(path.to_bytes())).expect("neither has a zero byte")
    }

    /// A socket that has no address yet gets the host's: Linux would take that of the whole loopback.
    fn take_own_address(&self, fd: Fd, to: &Address) {
        let Address::Ip(to) = to else { return };
        if matches!(self.inner.getsockname(fd), Ok(Address::Ip(own)) if own.port() == 0) {
            // If that fails, so does what it is for, with its own error.
            let _ = self.inner.bind(fd, &Address::Ip(SocketAddr::new(self.own(to.ip()), 0)));
        }
    }

    /// Waits in slices: `wait` is told how long, and answers `None` when that was in vain.
    fn wait<R>(
        &self,
        timeout: Option<Duration>,
        mut wait: impl FnMut(Duration) -> Option<Result<R>>,
    ) -> Option<Result<R>> {
        let end = timeout.map(|timeout| self.inner.clock_gettime(Clock::Monotonic) + timeout);
        loop {
            if self.host.is_over() {
                return Some(Err(TEARDOWN));
            }
            let now = || self.inner.clock_gettime(Clock::Monotonic);
            let left =
                end.map_or(Duration::MAX, |end| if end > now() { end - now() } else { Duration::ZERO });
            let answer = wait(left.min(SLICE));
            if answer.is_some() || left <= SLICE {
                return answer;
            }
        }
    }
}

impl sealed::Sealed for Placed {}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Placed({})", self.host.name)
    }
}

/// Calls that are Linux's.
macro_rules! pass_on {
    ($(fn $call:ident(&self $(, $argument:ident: $type:ty)*) $(-> $answer:ty)?;)*) => {
        $(fn $call(&self $(, $argument: $type)*) $(-> $answer)? { self.inner.$call($($argument),*) })*
    };
}

impl Kernel for Placed {
    fn bind(&self, fd: Fd, address: &Address) -> Result<()> {
        self.inner.bind(fd, &self.place(address)?)
    }

    fn connect(&self, fd: Fd, address: &Address) -> Result<()> {
        let place = self.place(address)?;
        self.take_own_address(fd, &place);
        self.inner.connect(fd, &place)
    }

    fn sendmsg(&self, fd: Fd, bufs: &[IoSlice<'_>], flags: SendFlags, to: Option<&Address>) -> Result<usize> {
        let Some(to) = to else { return self.inner.sendmsg(fd, bufs, flags, None) };
        let place = self.place(to)?;
        self.take_own_address(fd, &place);
        self.inner.sendmsg(fd, bufs, flags, Some(&place))
    }

    fn epoll_wait(&self, epoll: Fd, events: &mut [EpollEvent], timeout: Option<Duration>) -> Result<usize> {
        let wait = |slice| match self.inner.epoll_wait(epoll, events, Some(slice)) {
            Ok(0) => None,
            answer => Some(answer),
        };
        self.wait(timeout, wait).unwrap_or(Ok(0))
    }

    fn futex_wait(&self, word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Result<()> {
        let wait = |slice| match self.inner.futex_wait(word, expected, Some(slice)) {
            Err(Errno::TIMEDOUT) => None,
            answer => Some(answer),
        };
        self.wait(timeout, wait).unwrap_or(Err(Errno::TIMEDOUT))
    }

    fn getaddrinfo(&self, query: &Query<'_>) -> Result<Vec<SocketAddr>, ResolveError> {
        let known = match dns::ask(query) {
            Ok(Asked::Name(lookup)) => lock(&self.host.network.names).look_up(&lookup).ok(),
            _ => None,
        };
        known.map_or_else(|| self.inner.getaddrinfo(query), Ok)
    }

    fn spawn(&self, options: &ThreadOptions, main: ThreadMain) -> Result<Thread> {
        let host = self.host.clone();
        self.inner.spawn(options, Box::new(move |kernel| host.enter(kernel, main)))
    }

    fn openat(&self, path: &CStr, flags: OpenFlags) -> Result<Fd> {
        self.inner.openat(&self.path(path), flags)
    }

    fn rename(&self, from: &CStr, to: &CStr) -> Result<()> {
        self.inner.rename(&self.path(from), &self.path(to))
    }

    fn unlink(&self, path: &CStr) -> Result<()> {
        self.inner.unlink(&self.path(path))
    }

    pass_on! {
        fn clock_gettime(&self, clock: Clock) -> Instant;
        fn getrandom(&self, buf: &mut [u8]);
        fn sched_yield(&self);
        fn sched_getaffinity(&self) -> CpuSet;
        fn sched_setaffinity(&self, cpus: &CpuSet) -> Result<()>;
        fn socket(&self, domain: Domain, kind: SocketKind) -> Result<Fd>;
        fn socketpair(&self, kind: SocketKind) -> Result<(Fd, Fd)>;
        fn listen(&self, fd: Fd, backlog: u32) -> Result<()>;
        fn accept4(&self, fd: Fd) -> Result<(Fd, Address)>;
        fn shutdown(&self, fd: Fd, how: Shutdown) -> Result<()>;
        fn getsockname(&self, fd: Fd) -> Result<Address>;
        fn getpeername(&self, fd: Fd) -> Result<Address>;
        fn getsockopt(&self, fd: Fd, name: OptionName) -> Result<SocketOption>;
        fn setsockopt(&self, fd: Fd, option: SocketOption) -> Result<()>;
        fn ioctl_fionread(&self, fd: Fd) -> Result<usize>;
        fn read(&self, fd: Fd, buf: &mut [u8]) -> Result<usize>;
        fn readv(&self, fd: Fd, bufs: &mut [IoSliceMut<'_>]) -> Result<usize>;
        fn write(&self, fd: Fd, buf: &[u8]) -> Result<usize>;
        fn recv(&self, fd: Fd, buf: &mut [u8], flags: RecvFlags) -> Result<usize>;
        fn send(&self, fd: Fd, buf: &[u8], flags: SendFlags) -> Result<usize>;
        fn recvmsg(&self, fd: Fd, bufs: &mut [IoSliceMut<'_>], flags: RecvFlags) -> Result<Received>;
        fn close(&self, fd: Fd) -> Result<()>;
        fn epoll_create1(&self) -> Result<Fd>;
        fn epoll_ctl(&self, epoll: Fd, op: EpollOp, fd: Fd) -> Result<()>;
        fn eventfd(&self, initial: u32) -> Result<Fd>;
        fn join(&self, thread: Thread) -> ThreadEnd;
        fn detach(&self, thread: Thread);
        fn futex_wake(&self, word: &AtomicU32, count: u32) -> usize;
        fn sigaction(&self, signal: Signal, action: SigAction, caught: &Arc<Caught>) -> Result<()>;
        fn kill(&self, signal: Signal) -> Result<()>;
        fn pread(&self, fd: Fd, buf: &mut [u8], offset: u64) -> Result<usize>;
        fn pwrite(&self, fd: Fd, buf: &[u8], offset: u64) -> Result<usize>;
        fn fsync(&self, fd: Fd) -> Result<()>;
        fn fdatasync(&self, fd: Fd) -> Result<()>;
        fn ftruncate(&self, fd: Fd, len: u64) -> Result<()>;
        fn fstat(&self, fd: Fd) -> Result<Stat>;
        fn process(&self) -> ProcessId;
        fn share(&self, fd: Fd) -> Arc<dyn Wake>;
    }
}
