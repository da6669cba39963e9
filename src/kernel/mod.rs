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
//! [`futex_wait`](Kernel::futex_wait) and [`join`](Kernel::join). Descriptors are always non-blocking and
//! close-on-exec.
//!
//! What a kernel must provide is the documentation of [`Kernel`]; which errors each call may answer is the
//! table [`errno::of`]. A new call comes with its manual page, its row in that table and its body in
//! `tests/conformance`.

mod address;
pub mod errno;
#[allow(unsafe_code)] // the real system calls
pub mod linux;
pub mod traced;
mod types;

use std::any::Any;
use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

pub use address::{Address, NameError, UnixName};
pub use errno::{Call, Errno};
pub use linux::Linux;
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
    /// How many processors this thread may run on (`sched_getaffinity(2)`), at least 1.
    fn sched_getaffinity(&self) -> usize;

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
    /// `unlink(2)`: removes the file that binding a Unix socket to a path has made, or any other.
    fn unlink(&self, path: &CStr) -> Result<()>;

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
