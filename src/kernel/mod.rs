//! The system calls this library makes, and nothing else.
//!
//! [`Kernel`] has one method for each call, named as in section 2 of the manual, taking and returning
//! typed values. A method makes one attempt: it does not retry on `EINTR`, wait on `EAGAIN`, or finish a
//! short write. All of that lives above, so that all of it runs in a simulation too.
//!
//! There are two kernels, [`Linux`] here and the simulated one in `machinarium-sim`. Code above cannot tell
//! which one it has, and never asks.
//!
//! Only these calls may put the calling thread to sleep: [`epoll_wait`](Kernel::epoll_wait),
//! [`futex_wait`](Kernel::futex_wait) and [`join`](Kernel::join); and, on threads that are there for it,
//! [`getaddrinfo`](Kernel::getaddrinfo) and the calls about files. Descriptors are always non-blocking and
//! close-on-exec.
//!
//! What a kernel must provide is the documentation of [`Kernel`]; which errors each call may answer is the
//! table [`errno::of`]. A new call comes with its manual page, its row in that table and its body in
//! `tests/conformance`.

mod address;
mod affinity;
pub mod errno;
mod file;
#[allow(unsafe_code)] // the real system calls
pub mod linux;
mod resolve;
mod signal;
pub mod traced;
mod types;

use std::any::Any;
use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

pub use address::{Address, NameError, UnixName};
pub use affinity::CpuSet;
pub use errno::{Call, Errno};
pub use file::{Access, FileKind, OpenFlags, Stat};
pub use linux::Linux;
pub use resolve::{Family, Query, ResolveError};
pub use signal::{Caught, DefaultAction, SigAction, Signal, SignalSet};
pub use traced::Traced;
pub use types::{
    Clock, Credentials, Domain, EpollEvent, EpollOp, Events, Fd, Instant, OptionName, ProcessId, Received,
    RecvFlags, SendFlags, SocketKind, SocketOption, Thread, ThreadOptions,
};

/// What a call answers.
pub type Result<T, E = Errno> = std::result::Result<T, E>;

/// What a new thread runs. It is handed its own kernel, so a kernel need be neither `Send` nor `Sync`.
pub type ThreadMain = Box<dyn FnOnce(Rc<dyn Kernel>) + Send>;

/// How a joined thread ended: `Err` with what its main function panicked with.
pub type ThreadEnd = std::result::Result<(), Box<dyn Any + Send>>;

/// Only the kernels of this project implement [`Kernel`], so that it can grow.
#[doc(hidden)]
pub mod sealed {
    pub trait Sealed {}
}

/// One thread's view of its operating system: one method, one system call, one attempt.
///
/// Held as `Rc<dyn Kernel>`, one per thread; [`spawn`](Kernel::spawn) hands a new thread its own. A
/// descriptor is closed through the kernel (of any thread of the process) that made it.
pub trait Kernel: sealed::Sealed {
    // Time and chance.

    /// `clock_gettime(2)`. Cannot fail.
    fn clock_gettime(&self, clock: Clock) -> Instant;
    /// `getrandom(2)` without flags, for at most 256 bytes, which is never short nor interrupted.
    ///
    /// # Panics
    /// If `buf` is longer than 256 bytes.
    fn getrandom(&self, buf: &mut [u8]);
    /// `sched_yield(2)`: let another thread run.
    fn sched_yield(&self);
    /// `sched_getaffinity(2)`: the processors that this thread may run on, at least one.
    fn sched_getaffinity(&self) -> CpuSet;
    /// `sched_setaffinity(2)` of this thread, and of those that it spawns from now on. Processors that are not there count
    /// for nothing.
    fn sched_setaffinity(&self, cpus: &CpuSet) -> Result<()>;

    // Sockets.

    /// `socket(2)`, with `SOCK_NONBLOCK | SOCK_CLOEXEC`.
    fn socket(&self, domain: Domain, kind: SocketKind) -> Result<Fd>;
    /// `socketpair(2)` of Unix sockets, with `SOCK_NONBLOCK | SOCK_CLOEXEC`.
    fn socketpair(&self, kind: SocketKind) -> Result<(Fd, Fd)>;
    /// `bind(2)`. A path makes a file there, which stays until [`unlink`](Kernel::unlink).
    fn bind(&self, fd: Fd, address: &Address) -> Result<()>;
    /// `listen(2)`.
    fn listen(&self, fd: Fd, backlog: u32) -> Result<()>;
    /// `accept4(2)`, with `SOCK_NONBLOCK | SOCK_CLOEXEC`; the peer's address with it.
    fn accept4(&self, fd: Fd) -> Result<(Fd, Address)>;
    /// `connect(2)`: on TCP it answers `EINPROGRESS`, then writability and `SO_ERROR` tell; on a Unix stream it is done
    /// at once, or answers `EAGAIN` while the listener's queue is full, of whose room nothing tells; a datagram socket
    /// takes the address for its peer.
    fn connect(&self, fd: Fd, address: &Address) -> Result<()>;
    /// `shutdown(2)`.
    fn shutdown(&self, fd: Fd, how: Shutdown) -> Result<()>;
    /// `getsockname(2)`.
    fn getsockname(&self, fd: Fd) -> Result<Address>;
    /// `getpeername(2)`.
    fn getpeername(&self, fd: Fd) -> Result<Address>;
    /// `getsockopt(2)`.
    fn getsockopt(&self, fd: Fd, name: OptionName) -> Result<SocketOption>;
    /// `setsockopt(2)`.
    fn setsockopt(&self, fd: Fd, option: SocketOption) -> Result<()>;
    /// `ioctl(2)` with `FIONREAD`: how many bytes wait for the reader; of datagrams, the length of the next one.
    fn ioctl_fionread(&self, fd: Fd) -> Result<usize>;

    // Bytes.

    /// `read(2)`: streams and eventfds.
    fn read(&self, fd: Fd, buf: &mut [u8]) -> Result<usize>;
    /// `readv(2)`.
    fn readv(&self, fd: Fd, bufs: &mut [IoSliceMut<'_>]) -> Result<usize>;
    /// `write(2)`: eventfds. Sockets are written with `send`, which raises no SIGPIPE.
    fn write(&self, fd: Fd, buf: &[u8]) -> Result<usize>;
    /// `recv(2)`.
    fn recv(&self, fd: Fd, buf: &mut [u8], flags: RecvFlags) -> Result<usize>;
    /// `send(2)`, with `MSG_NOSIGNAL`.
    fn send(&self, fd: Fd, buf: &[u8], flags: SendFlags) -> Result<usize>;
    /// `recvmsg(2)`: a vectored `recv` that tells who sent the datagram, and whether it was cut off.
    fn recvmsg(&self, fd: Fd, bufs: &mut [IoSliceMut<'_>], flags: RecvFlags) -> Result<Received>;
    /// `sendmsg(2)`, with `MSG_NOSIGNAL`: a vectored `send`, of a datagram also to somebody else than the peer that the
    /// socket is connected to. At most 1,024 slices.
    fn sendmsg(&self, fd: Fd, bufs: &[IoSlice<'_>], flags: SendFlags, to: Option<&Address>) -> Result<usize>;
    /// `close(2)`. Whatever it answers, the descriptor is gone.
    fn close(&self, fd: Fd) -> Result<()>;

    // Readiness.

    /// `epoll_create1(2)`, with `EPOLL_CLOEXEC`.
    fn epoll_create1(&self) -> Result<Fd>;
    /// `epoll_ctl(2)`.
    fn epoll_ctl(&self, epoll: Fd, op: EpollOp, fd: Fd) -> Result<()>;
    /// `epoll_pwait2(2)` without a signal mask (`epoll_wait(2)` with nanoseconds). `None` waits for ever,
    /// zero does not sleep.
    fn epoll_wait(&self, epoll: Fd, events: &mut [EpollEvent], timeout: Option<Duration>) -> Result<usize>;
    /// `eventfd(2)`, with `EFD_NONBLOCK | EFD_CLOEXEC`.
    fn eventfd(&self, initial: u32) -> Result<Fd>;

    // Threads.

    /// `clone(2)` of a thread of this process.
    fn spawn(&self, options: &ThreadOptions, main: ThreadMain) -> Result<Thread>;
    /// Waits until the thread has ended (`pthread_join(3)`). Each thread is joined or detached at most once; one that is neither
    /// keeps its stack when it has ended.
    ///
    /// # Panics
    /// If this process has no such thread, or it was joined already.
    fn join(&self, thread: Thread) -> ThreadEnd;
    /// Nobody will join the thread (`pthread_detach(3)`): what it holds goes when it ends.
    fn detach(&self, thread: Thread);
    /// `futex(2)`, `FUTEX_WAIT_PRIVATE`: sleeps while `*word == expected`, until woken or `timeout` is over.
    fn futex_wait(&self, word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Result<()>;
    /// `futex(2)`, `FUTEX_WAKE_PRIVATE`: wakes at most `count` threads, and answers how many.
    fn futex_wake(&self, word: &AtomicU32, count: u32) -> usize;

    // Names.

    /// `getaddrinfo(3)`, with `SOCK_STREAM` among the hints: the addresses in the order in which they are to be tried.
    /// May take many seconds.
    fn getaddrinfo(&self, query: &Query<'_>) -> Result<Vec<SocketAddr>, ResolveError>;

    // Signals.

    /// `sigaction(2)`, with a handler that notes the signal in `caught` and then goes on to the one that was there
    /// before. A process may ask for a signal with several `caught`, and each gets it; a second request for the same is
    /// none. A signal that was never caught does what `signal(7)` says.
    fn sigaction(&self, signal: Signal, action: SigAction, caught: &Arc<Caught>) -> Result<()>;
    /// `kill(2)` of this process. Which of its threads handles it, and so whether before this returns, is not said.
    fn kill(&self, signal: Signal) -> Result<()>;

    // Files. They may sleep for as long as the disk likes.

    /// `openat(2)` of a path from the working directory (`AT_FDCWD`), with `O_CLOEXEC`.
    fn openat(&self, path: &CStr, flags: OpenFlags) -> Result<Fd>;
    /// `pread(2)`. It may be short; 0 is the file's end.
    fn pread(&self, fd: Fd, buf: &mut [u8], offset: u64) -> Result<usize>;
    /// `pwrite(2)`. It may be short, where the disk is full or for no reason.
    fn pwrite(&self, fd: Fd, buf: &[u8], offset: u64) -> Result<usize>;
    /// `fsync(2)`. What was written survives a power failure only after it; the names in a directory only after that of
    /// the directory. After an error it is unknown what was written, and a second one does not try again what the first
    /// could not.
    fn fsync(&self, fd: Fd) -> Result<()>;
    /// `fdatasync(2)`: contents and size, not times.
    fn fdatasync(&self, fd: Fd) -> Result<()>;
    /// `ftruncate(2)`: shorter, or longer by zeros.
    fn ftruncate(&self, fd: Fd, len: u64) -> Result<()>;
    /// `fstat(2)`.
    fn fstat(&self, fd: Fd) -> Result<Stat>;
    /// `rename(2)`: whoever looks sees the old file or the new one under the new name.
    fn rename(&self, from: &CStr, to: &CStr) -> Result<()>;
    /// `unlink(2)`: removes the file that binding a Unix socket to a path has made, or any other.
    fn unlink(&self, path: &CStr) -> Result<()>;

    // Identity.

    /// The process this thread belongs to.
    fn process(&self) -> ProcessId;
    /// Makes `fd` an object that may cross the threads of this process, and that owns the descriptor.
    fn share(&self, fd: Fd) -> Arc<dyn Wake>;
}

/// A descriptor that crosses threads: the eventfd of a mailbox, or a stream on its way to another machine.
/// Dropping the last reference closes it. It keeps the number from being given to a stranger.
///
/// In a simulation, only threads of the same world may use it: any other panics with its name.
pub trait Wake: Send + Sync {
    /// The descriptor's number in its process.
    fn fd(&self) -> Fd;
    /// The process whose descriptor it is.
    fn process(&self) -> ProcessId;
    /// `write(2)` of the eight bytes of the number 1, as an eventfd wants it.
    fn wake(&self) -> Result<()>;
    /// Gives the descriptor up without closing it: from now on the caller owns the number.
    fn release(&self) -> Fd;
}

const _: () = {
    assert!(size_of::<EpollEvent>() == size_of::<libc::epoll_event>());
    assert!(align_of::<EpollEvent>() == align_of::<libc::epoll_event>());
};
