//! The real kernel: each method is one call into libc, its answer, and its error.
//!
//! It owns no descriptor. What it keeps belongs to the whole operating-system process, as what it describes does:
//! the threads that were spawned and not joined, which signals are caught (`signal.rs`), whether `epoll_pwait2` exists here, and how often a call answered
//! what [`errno::of`] does not list ([`surprises`]).
//!
//! It does not retry, wait, or finish what was short: that is simulated too, so it lives above. Two calls look cleverer
//! than that: `epoll_wait` falls back on kernels before 5.11, and options given as durations are rounded up to
//! their unit (`option.rs`).

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::ptr;
use std::rc::Rc;
#[allow(clippy::disallowed_types)] // the table of threads below, and this file is where threads are made
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use libc::{c_int, socklen_t};

use self::address::{decode, encode, name};
use self::option::{get_option, set_option};
use super::errno::{self, Call, Errno};
use super::{
    Address, Clock, Domain, EpollEvent, EpollOp, Fd, Instant, Kernel, OptionName, ProcessId, Received,
    RecvFlags, Result, SendFlags, SocketKind, SocketOption, Thread, ThreadEnd, ThreadMain, ThreadOptions,
    Wake, sealed,
};
use super::{Caught, CpuSet, OpenFlags, Query, ResolveError, SigAction, Signal, Stat};

/// One call into libc: what it answered, or the error it left behind, which is counted if it is a surprise.
macro_rules! syscall {
    ($call:ident: $function:ident($($argument:expr),* $(,)?)) => {
        match libc::$function($($argument),*) {
            -1 => Err(failed(Call::$call)),
            answer => Ok(answer),
        }
    };
}

mod address;
mod affinity;
mod file;
mod message;
mod option;
mod resolve;
mod signal;
#[cfg(test)]
mod tests;

/// The kernel that this program runs on.
#[derive(Debug)]
pub struct Linux {
    process: ProcessId,
}

impl Linux {
    /// The kernel, as seen by the calling thread.
    pub fn new() -> Linux {
        Linux { process: ProcessId(u64::from(std::process::id())) }
    }
}

impl Default for Linux {
    fn default() -> Linux {
        Linux::new()
    }
}

impl sealed::Sealed for Linux {}

impl Kernel for Linux {
    fn clock_gettime(&self, clock: Clock) -> Instant {
        let clock = match clock {
            Clock::Monotonic => libc::CLOCK_MONOTONIC,
            Clock::Realtime => libc::CLOCK_REALTIME,
        };
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is a timespec of ours.
        let answer = unsafe { libc::clock_gettime(clock, &mut now) };
        assert_eq!(answer, 0, "clock_gettime cannot fail for a clock that every Linux has");
        Instant::from_nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
    }

    fn getrandom(&self, buf: &mut [u8]) {
        assert!(buf.len() <= 256, "getrandom may be short above 256 bytes; asked for {}", buf.len());
        loop {
            // SAFETY: the kernel writes at most `buf.len()` bytes to `buf`.
            let answer = unsafe { libc::getrandom(buf.as_mut_ptr().cast(), buf.len(), 0) };
            if answer == buf.len() as isize {
                return;
            }
            // Interrupted while the system boots, when the pool is not ready: never afterwards.
            let error = io::Error::last_os_error();
            assert!(error.kind() == io::ErrorKind::Interrupted, "getrandom answered {answer}: {error}");
        }
    }

    fn sched_yield(&self) {
        // SAFETY: takes nothing.
        unsafe { libc::sched_yield() };
    }

    fn sched_getaffinity(&self) -> CpuSet {
        affinity::get()
    }

    fn sched_setaffinity(&self, cpus: &CpuSet) -> Result<()> {
        affinity::set(Call::SchedSetaffinity, cpus)
    }

    fn socket(&self, domain: Domain, kind: SocketKind) -> Result<Fd> {
        let family = match domain {
            Domain::Inet => libc::AF_INET,
            Domain::Inet6 => libc::AF_INET6,
            Domain::Unix => libc::AF_UNIX,
        };
        // SAFETY: takes no pointer.
        unsafe { syscall!(Socket: socket(family, socket_type(kind), 0)) }.map(Fd::from_raw)
    }

    fn socketpair(&self, kind: SocketKind) -> Result<(Fd, Fd)> {
        let mut pair = [-1; 2];
        // SAFETY: `pair` has room for the two descriptors that the kernel writes.
        unsafe { syscall!(Socketpair: socketpair(libc::AF_UNIX, socket_type(kind), 0, pair.as_mut_ptr())) }?;
        Ok((Fd::from_raw(pair[0]), Fd::from_raw(pair[1])))
    }

    fn bind(&self, fd: Fd, address: &Address) -> Result<()> {
        let (address, len) = encode(address);
        // SAFETY: `encode` answers an address with its length, which lives until the end of this function.
        unsafe { syscall!(Bind: bind(fd.raw(), (&raw const address).cast(), len)) }.map(drop)
    }

    fn listen(&self, fd: Fd, backlog: u32) -> Result<()> {
        // SAFETY: takes no pointer.
        unsafe { syscall!(Listen: listen(fd.raw(), clamp(backlog))) }.map(drop)
    }

    fn accept4(&self, fd: Fd) -> Result<(Fd, Address)> {
        let mut storage = MaybeUninit::zeroed();
        let mut len = size_of::<libc::sockaddr_storage>() as socklen_t;
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let address: *mut libc::sockaddr_storage = storage.as_mut_ptr();
        // SAFETY: `address` has room for `len` bytes.
        let new = unsafe { syscall!(Accept4: accept4(fd.raw(), address.cast(), &mut len, flags)) }?;
        // SAFETY: all zero is a valid sockaddr_storage, and the kernel wrote over it.
        match decode(unsafe { storage.assume_init_ref() }, len) {
            Some(peer) => Ok((Fd::from_raw(new), peer)),
            None => {
                let _ = self.close(Fd::from_raw(new)); // a listener of a family that nobody here can have made
                Err(Errno::AFNOSUPPORT)
            }
        }
    }

    fn connect(&self, fd: Fd, address: &Address) -> Result<()> {
        let (address, len) = encode(address);
        // SAFETY: `encode` answers an address with its length, which lives until the end of this function.
        unsafe { syscall!(Connect: connect(fd.raw(), (&raw const address).cast(), len)) }.map(drop)
    }

    fn shutdown(&self, fd: Fd, how: Shutdown) -> Result<()> {
        let how = match how {
            Shutdown::Read => libc::SHUT_RD,
            Shutdown::Write => libc::SHUT_WR,
            Shutdown::Both => libc::SHUT_RDWR,
        };
        // SAFETY: takes no pointer.
        unsafe { syscall!(Shutdown: shutdown(fd.raw(), how)) }.map(drop)
    }

    fn getsockname(&self, fd: Fd) -> Result<Address> {
        name(|address, len| {
            // SAFETY: `name` gives an address with room for `*len` bytes.
            unsafe { syscall!(Getsockname: getsockname(fd.raw(), address, len)) }
        })
    }

    fn getpeername(&self, fd: Fd) -> Result<Address> {
        name(|address, len| {
            // SAFETY: `name` gives an address with room for `*len` bytes.
            unsafe { syscall!(Getpeername: getpeername(fd.raw(), address, len)) }
        })
    }

    fn getsockopt(&self, fd: Fd, name: OptionName) -> Result<SocketOption> {
        get_option(fd, name)
    }

    fn setsockopt(&self, fd: Fd, option: SocketOption) -> Result<()> {
        set_option(fd, option)
    }

    fn ioctl_fionread(&self, fd: Fd) -> Result<usize> {
        let mut bytes: c_int = 0;
        // SAFETY: the kernel writes an int to `bytes`.
        unsafe { syscall!(IoctlFionread: ioctl(fd.raw(), libc::FIONREAD, &raw mut bytes)) }?;
        Ok(bytes as usize)
    }

    fn read(&self, fd: Fd, buf: &mut [u8]) -> Result<usize> {
        // SAFETY: the kernel writes at most `buf.len()` bytes to `buf`.
        unsafe { syscall!(Read: read(fd.raw(), buf.as_mut_ptr().cast(), buf.len())) }.map(count)
    }

    fn readv(&self, fd: Fd, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        // SAFETY: std promises that IoSliceMut has the layout of iovec; each is a buffer that we may write.
        unsafe { syscall!(Readv: readv(fd.raw(), bufs.as_mut_ptr().cast(), clamp(bufs.len()))) }.map(count)
    }

    fn write(&self, fd: Fd, buf: &[u8]) -> Result<usize> {
        // SAFETY: the kernel reads at most `buf.len()` bytes from `buf`.
        unsafe { syscall!(Write: write(fd.raw(), buf.as_ptr().cast(), buf.len())) }.map(count)
    }

    fn recv(&self, fd: Fd, buf: &mut [u8], flags: RecvFlags) -> Result<usize> {
        // SAFETY: the kernel writes at most `buf.len()` bytes to `buf`.
        unsafe { syscall!(Recv: recv(fd.raw(), buf.as_mut_ptr().cast(), buf.len(), recv_flags(flags))) }
            .map(count)
    }

    fn send(&self, fd: Fd, buf: &[u8], flags: SendFlags) -> Result<usize> {
        // SAFETY: the kernel reads at most `buf.len()` bytes from `buf`.
        unsafe { syscall!(Send: send(fd.raw(), buf.as_ptr().cast(), buf.len(), send_flags(flags))) }
            .map(count)
    }

    fn recvmsg(&self, fd: Fd, bufs: &mut [IoSliceMut<'_>], flags: RecvFlags) -> Result<Received> {
        message::receive(fd, bufs, flags)
    }

    fn sendmsg(&self, fd: Fd, bufs: &[IoSlice<'_>], flags: SendFlags, to: Option<&Address>) -> Result<usize> {
        message::send(fd, bufs, flags, to)
    }

    fn close(&self, fd: Fd) -> Result<()> {
        // SAFETY: takes no pointer; that the caller owns `fd` is the contract of `Kernel`.
        unsafe { syscall!(Close: close(fd.raw())) }.map(drop)
    }

    fn epoll_create1(&self) -> Result<Fd> {
        // SAFETY: takes no pointer.
        unsafe { syscall!(EpollCreate1: epoll_create1(libc::EPOLL_CLOEXEC)) }.map(Fd::from_raw)
    }

    fn epoll_ctl(&self, epoll: Fd, op: EpollOp, fd: Fd) -> Result<()> {
        let (op, mut event) = match op {
            EpollOp::Add(event) => (libc::EPOLL_CTL_ADD, event),
            EpollOp::Modify(event) => (libc::EPOLL_CTL_MOD, event),
            EpollOp::Delete => (libc::EPOLL_CTL_DEL, EpollEvent::default()),
        };
        // SAFETY: EpollEvent has the layout of epoll_event (asserted in `kernel`), and lives through the call.
        unsafe { syscall!(EpollCtl: epoll_ctl(epoll.raw(), op, fd.raw(), (&raw mut event).cast())) }.map(drop)
    }

    fn epoll_wait(&self, epoll: Fd, events: &mut [EpollEvent], timeout: Option<Duration>) -> Result<usize> {
        static PWAIT2_MISSING: AtomicBool = AtomicBool::new(false);
        // Relaxed: a thread that misses the news asks once more.
        if !PWAIT2_MISSING.load(Ordering::Relaxed) {
            match epoll_pwait2(epoll, events, timeout) {
                // Kernels before 5.11, and sandboxes that refuse what they do not know: some with EPERM.
                Err(Errno::NOSYS | Errno::PERM) => PWAIT2_MISSING.store(true, Ordering::Relaxed),
                answer => return answer.map_err(|errno| counted(Call::EpollWait, errno)),
            }
        }
        epoll_wait_millis(epoll, events, timeout)
    }

    fn eventfd(&self, initial: u32) -> Result<Fd> {
        // SAFETY: takes no pointer.
        unsafe { syscall!(Eventfd: eventfd(initial, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)) }
            .map(Fd::from_raw)
    }

    fn spawn(&self, options: &ThreadOptions, main: ThreadMain) -> Result<Thread> {
        let mut builder = thread::Builder::new();
        if !options.name.is_empty() {
            builder = builder.name(options.name.replace('\0', " ")); // std panics on a zero byte
        }
        if let Some(size) = options.stack_size {
            builder = builder.stack_size(size);
        }
        let cpu = options.cpu;
        let start = move || {
            if let Some(cpu) = cpu {
                // One that is not there leaves it unbound, and is counted as a surprise.
                let _ = affinity::set(Call::Spawn, &CpuSet::EMPTY.with(cpu));
            }
            main(Rc::new(Linux::new()));
        };
        let handle = builder.spawn(start).map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::AGAIN, Errno::from_raw);
            counted(Call::Spawn, errno)
        })?;
        Ok(Threads::add(handle))
    }

    fn join(&self, thread: Thread) -> ThreadEnd {
        let handle = Threads::take(thread);
        handle.unwrap_or_else(|| panic!("{thread:?} is not a thread of this process, or was joined")).join()
    }

    fn detach(&self, thread: Thread) {
        drop(Threads::take(thread));
    }

    fn futex_wait(&self, word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Result<()> {
        let timeout = timeout.map(timespec);
        let limit = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        let op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: `word` is borrowed and `timeout` lives until the call has returned.
        let answer =
            unsafe { syscall!(FutexWait: syscall(libc::SYS_futex, word.as_ptr(), op, expected, limit)) };
        answer.map(drop)
    }

    fn futex_wake(&self, word: &AtomicU32, count: u32) -> usize {
        let op = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        let count: c_int = clamp(count);
        // SAFETY: the kernel uses the address of `word` as a name, and does not touch what is there.
        let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), op, count) };
        assert!(woken >= 0, "futex wake cannot fail on an aligned word: {}", io::Error::last_os_error());
        woken as usize
    }

    fn getaddrinfo(&self, query: &Query<'_>) -> Result<Vec<SocketAddr>, ResolveError> {
        resolve::resolve(query)
    }

    fn sigaction(&self, signal: Signal, action: SigAction, caught: &Arc<Caught>) -> Result<()> {
        signal::act(signal, action, caught)
    }

    fn kill(&self, signal: Signal) -> Result<()> {
        signal::kill(signal)
    }

    fn openat(&self, path: &CStr, flags: OpenFlags) -> Result<Fd> {
        file::open(path, flags)
    }

    fn pread(&self, fd: Fd, buf: &mut [u8], offset: u64) -> Result<usize> {
        file::read_at(fd, buf, offset)
    }

    fn pwrite(&self, fd: Fd, buf: &[u8], offset: u64) -> Result<usize> {
        file::write_at(fd, buf, offset)
    }

    fn fsync(&self, fd: Fd) -> Result<()> {
        file::sync(fd)
    }

    fn fdatasync(&self, fd: Fd) -> Result<()> {
        file::sync_data(fd)
    }

    fn ftruncate(&self, fd: Fd, len: u64) -> Result<()> {
        file::truncate(fd, len)
    }

    fn fstat(&self, fd: Fd) -> Result<Stat> {
        file::status(fd)
    }

    fn rename(&self, from: &CStr, to: &CStr) -> Result<()> {
        file::rename(from, to)
    }

    fn unlink(&self, path: &CStr) -> Result<()> {
        file::unlink(path)
    }

    fn process(&self) -> ProcessId {
        self.process
    }

    fn share(&self, fd: Fd) -> Arc<dyn Wake> {
        Arc::new(Shared { fd, owned: AtomicBool::new(true), process: self.process })
    }
}

/// Calls that answered what [`errno::of`] does not list, each with how often, since this program started.
pub fn surprises() -> Vec<(Call, Errno, u64)> {
    let rows = Call::ALL.into_iter().zip(&SURPRISES);
    let cells = rows.flat_map(|(call, row)| (0..).zip(row).map(move |(number, cell)| (call, number, cell)));
    cells
        .map(|(call, number, cell)| (call, Errno::from_raw(number), cell.load(Ordering::Relaxed)))
        .filter(|(_, _, count)| *count > 0)
        .collect()
}

/// By call (in the order of [`Call::ALL`]) and error number; the last column is for all numbers above it.
static SURPRISES: [[AtomicU64; 256]; Call::ALL.len()] =
    [const { [const { AtomicU64::new(0) }; 256] }; Call::ALL.len()];

fn failed(call: Call) -> Errno {
    counted(call, Errno::from_raw(io::Error::last_os_error().raw_os_error().unwrap_or(0)))
}

fn counted(call: Call, errno: Errno) -> Errno {
    if !errno::of(call).contains(&errno) {
        let row = &SURPRISES[call as usize];
        let column = (errno.raw().max(0) as usize).min(row.len() - 1);
        row[column].fetch_add(1, Ordering::Relaxed);
    }
    errno
}

/// The descriptor that [`Kernel::share`] makes. `owned` turns false once, in `release`: who turns it has the number.
struct Shared {
    fd: Fd,
    owned: AtomicBool,
    process: ProcessId,
}

impl Wake for Shared {
    fn fd(&self) -> Fd {
        self.fd
    }

    fn process(&self) -> ProcessId {
        self.process
    }

    fn wake(&self) -> Result<()> {
        // After a release the number may be a stranger's. Relaxed: callers order release and wake among themselves.
        if !self.owned.load(Ordering::Relaxed) {
            return Err(Errno::BADF);
        }
        let one = 1u64.to_ne_bytes();
        // SAFETY: the kernel reads the eight bytes of `one`.
        unsafe { syscall!(Write: write(self.fd.raw(), one.as_ptr().cast(), one.len())) }.map(drop)
    }

    fn release(&self) -> Fd {
        self.owned.store(false, Ordering::Relaxed);
        self.fd
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if *self.owned.get_mut() {
            // SAFETY: takes no pointer; this was the last reference to an object that owns the number.
            let _ = unsafe { syscall!(Close: close(self.fd.raw())) };
        }
    }
}

/// The threads that were spawned and neither joined nor detached, of the whole process: any of its kernels may do either.
struct Threads {
    last: u64,
    running: BTreeMap<Thread, thread::JoinHandle<()>>,
}

#[allow(clippy::disallowed_types)] // held for one insertion or removal, across no call
static THREADS: Mutex<Threads> = Mutex::new(Threads { last: 0, running: BTreeMap::new() });

impl Threads {
    fn add(handle: thread::JoinHandle<()>) -> Thread {
        let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        threads.last += 1;
        let thread = Thread(threads.last);
        threads.running.insert(thread, handle);
        thread
    }

    fn take(thread: Thread) -> Option<thread::JoinHandle<()>> {
        THREADS.lock().unwrap_or_else(PoisonError::into_inner).running.remove(&thread)
    }
}

fn epoll_pwait2(epoll: Fd, events: &mut [EpollEvent], timeout: Option<Duration>) -> Result<usize> {
    let timeout = timeout.map(timespec);
    let limit = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let mask: *const libc::sigset_t = ptr::null();
    // SAFETY: EpollEvent has the layout of epoll_event (asserted in `kernel`), the kernel writes at most
    // `events.len()` of them; `timeout` lives until the call has returned; no mask is given.
    let answer = unsafe {
        let (epoll, room) = (epoll.raw(), clamp::<usize>(events.len()));
        libc::syscall(libc::SYS_epoll_pwait2, epoll, events.as_mut_ptr(), room, limit, mask, 8usize)
    };
    // Not `syscall!`: that the call is missing is no surprise.
    if answer < 0 {
        return Err(Errno::from_raw(io::Error::last_os_error().raw_os_error().unwrap_or(0)));
    }
    Ok(answer as usize)
}

fn epoll_wait_millis(epoll: Fd, events: &mut [EpollEvent], timeout: Option<Duration>) -> Result<usize> {
    // Rounded up: a wait that ends before its time would spin.
    let millis = timeout.map_or(-1, |timeout| clamp(timeout.as_nanos().div_ceil(1_000_000)));
    let (room, events) = (clamp(events.len()), events.as_mut_ptr().cast());
    // SAFETY: EpollEvent has the layout of epoll_event (asserted in `kernel`), and the kernel writes at most `room`.
    unsafe { syscall!(EpollWait: epoll_wait(epoll.raw(), events, room, millis)) }.map(|count| count as usize)
}

fn flag(on: bool, bit: c_int) -> c_int {
    if on { bit } else { 0 }
}

fn socket_type(kind: SocketKind) -> c_int {
    let kind = match kind {
        SocketKind::Stream => libc::SOCK_STREAM,
        SocketKind::Datagram => libc::SOCK_DGRAM,
    };
    kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC
}

fn recv_flags(flags: RecvFlags) -> c_int {
    flag(flags.peek, libc::MSG_PEEK) | flag(flags.oob, libc::MSG_OOB)
}

fn send_flags(flags: SendFlags) -> c_int {
    libc::MSG_NOSIGNAL | flag(flags.oob, libc::MSG_OOB) | flag(flags.more, libc::MSG_MORE)
}

/// The count of bytes that a call answered, which was checked for -1.
fn count(answer: isize) -> usize {
    answer as usize
}

/// A number for a call that wants an int: what is too large stays too large.
fn clamp<T: TryInto<c_int>>(number: T) -> c_int {
    number.try_into().unwrap_or(c_int::MAX)
}

fn timespec(duration: Duration) -> libc::timespec {
    let tv_sec = duration.as_secs().try_into().unwrap_or(libc::time_t::MAX);
    libc::timespec { tv_sec, tv_nsec: duration.subsec_nanos().into() }
}
