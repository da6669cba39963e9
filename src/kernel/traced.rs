//! A kernel that tells, as strace does: one line for each call, with what it was given and what it answered.
//!
//! It wraps either kernel, changes nothing, and owns only its sink. A thread spawned through it is traced too, and so
//! are the wake-ups of a descriptor that crosses threads. Lines are made when a call has answered, so a call that
//! sleeps is told when it wakes.

use std::ffi::CStr;
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::{
    Address, Clock, Domain, EpollEvent, EpollOp, Fd, Instant, Kernel, OptionName, ProcessId, Received,
    RecvFlags, Result, SendFlags, SocketKind, SocketOption, Thread, ThreadEnd, ThreadMain, ThreadOptions,
    Wake, sealed,
};
use super::{Caught, CpuSet, OpenFlags, Query, ResolveError, SigAction, Signal, Stat};

/// Where the lines go, each without its end. It may be called on any thread.
pub type Sink = Arc<dyn Fn(fmt::Arguments<'_>) + Send + Sync>;

/// A kernel that writes each call to a [`Sink`], and passes it on.
pub struct Traced {
    inner: Rc<dyn Kernel>,
    sink: Sink,
}

impl Traced {
    /// `inner`, traced to `sink`.
    pub fn new(inner: Rc<dyn Kernel>, sink: Sink) -> Traced {
        Traced { inner, sink }
    }

    /// `inner`, traced to standard error.
    pub fn to_stderr(inner: Rc<dyn Kernel>) -> Traced {
        Traced::new(inner, Arc::new(|line| eprintln!("{line}")))
    }

    fn tell(&self, line: fmt::Arguments<'_>) {
        (self.sink)(line);
    }
}

impl fmt::Debug for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traced").finish_non_exhaustive()
    }
}

/// Makes the call, tells it, answers what it answered.
macro_rules! traced {
    ($kernel:ident.$call:ident($($argument:expr),*), $format:literal $(, $shown:expr)*) => {{
        let answer = $kernel.inner.$call($($argument),*);
        $kernel.tell(format_args!(
            concat!(stringify!($call), "(", $format, ") = {}"), $($shown,)* Answer(&answer)
        ));
        answer
    }};
}

impl sealed::Sealed for Traced {}

impl Kernel for Traced {
    fn clock_gettime(&self, clock: Clock) -> Instant {
        let now = self.inner.clock_gettime(clock);
        self.tell(format_args!("clock_gettime({clock:?}) = {now}"));
        now
    }

    fn getrandom(&self, buf: &mut [u8]) {
        self.inner.getrandom(buf);
        self.tell(format_args!("getrandom({}) = {}", buf.len(), buf.len()));
    }

    fn sched_yield(&self) {
        self.inner.sched_yield();
        self.tell(format_args!("sched_yield() = 0"));
    }

    fn sched_getaffinity(&self) -> CpuSet {
        let cpus = self.inner.sched_getaffinity();
        self.tell(format_args!("sched_getaffinity() = {cpus:?}"));
        cpus
    }

    fn sched_setaffinity(&self, cpus: &CpuSet) -> Result<()> {
        traced!(self.sched_setaffinity(cpus), "{:?}", cpus)
    }

    fn socket(&self, domain: Domain, kind: SocketKind) -> Result<Fd> {
        traced!(self.socket(domain, kind), "{:?}, {:?}", domain, kind)
    }

    fn socketpair(&self, kind: SocketKind) -> Result<(Fd, Fd)> {
        traced!(self.socketpair(kind), "{:?}", kind)
    }

    fn bind(&self, fd: Fd, address: &Address) -> Result<()> {
        traced!(self.bind(fd, address), "{}, {}", fd, address)
    }

    fn listen(&self, fd: Fd, backlog: u32) -> Result<()> {
        traced!(self.listen(fd, backlog), "{}, {}", fd, backlog)
    }

    fn accept4(&self, fd: Fd) -> Result<(Fd, Address)> {
        traced!(self.accept4(fd), "{}", fd)
    }

    fn connect(&self, fd: Fd, address: &Address) -> Result<()> {
        traced!(self.connect(fd, address), "{}, {}", fd, address)
    }

    fn shutdown(&self, fd: Fd, how: Shutdown) -> Result<()> {
        traced!(self.shutdown(fd, how), "{}, {:?}", fd, how)
    }

    fn getsockname(&self, fd: Fd) -> Result<Address> {
        traced!(self.getsockname(fd), "{}", fd)
    }

    fn getpeername(&self, fd: Fd) -> Result<Address> {
        traced!(self.getpeername(fd), "{}", fd)
    }

    fn getsockopt(&self, fd: Fd, name: OptionName) -> Result<SocketOption> {
        traced!(self.getsockopt(fd, name), "{}, {:?}", fd, name)
    }

    fn setsockopt(&self, fd: Fd, option: SocketOption) -> Result<()> {
        traced!(self.setsockopt(fd, option), "{}, {:?}", fd, option)
    }

    fn ioctl_fionread(&self, fd: Fd) -> Result<usize> {
        traced!(self.ioctl_fionread(fd), "{}", fd)
    }

    fn read(&self, fd: Fd, buf: &mut [u8]) -> Result<usize> {
        traced!(self.read(fd, buf), "{}, {}", fd, buf.len())
    }

    fn readv(&self, fd: Fd, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        traced!(self.readv(fd, bufs), "{}, {}", fd, Lengths(bufs.iter().map(|buf| buf.len())))
    }

    fn write(&self, fd: Fd, buf: &[u8]) -> Result<usize> {
        traced!(self.write(fd, buf), "{}, {}", fd, buf.len())
    }

    fn recv(&self, fd: Fd, buf: &mut [u8], flags: RecvFlags) -> Result<usize> {
        traced!(self.recv(fd, buf, flags), "{}, {}{}", fd, buf.len(), recv_flags(flags))
    }

    fn send(&self, fd: Fd, buf: &[u8], flags: SendFlags) -> Result<usize> {
        traced!(self.send(fd, buf, flags), "{}, {}{}", fd, buf.len(), send_flags(flags))
    }

    fn recvmsg(&self, fd: Fd, bufs: &mut [IoSliceMut<'_>], flags: RecvFlags) -> Result<Received> {
        let lengths = Lengths(bufs.iter().map(|buf| buf.len()).collect::<Vec<_>>().into_iter());
        traced!(self.recvmsg(fd, bufs, flags), "{}, {}{}", fd, lengths, recv_flags(flags))
    }

    fn sendmsg(&self, fd: Fd, bufs: &[IoSlice<'_>], flags: SendFlags, to: Option<&Address>) -> Result<usize> {
        let lengths = Lengths(bufs.iter().map(|buf| buf.len()));
        let shown = send_flags(flags);
        traced!(self.sendmsg(fd, bufs, flags, to), "{}, {}{}{}", fd, lengths, shown, Towards(to))
    }

    fn close(&self, fd: Fd) -> Result<()> {
        traced!(self.close(fd), "{}", fd)
    }

    fn epoll_create1(&self) -> Result<Fd> {
        traced!(self.epoll_create1(), "")
    }

    fn epoll_ctl(&self, epoll: Fd, op: EpollOp, fd: Fd) -> Result<()> {
        traced!(self.epoll_ctl(epoll, op, fd), "{}, {:?}, {}", epoll, op, fd)
    }

    fn epoll_wait(&self, epoll: Fd, events: &mut [EpollEvent], timeout: Option<Duration>) -> Result<usize> {
        let answer = self.inner.epoll_wait(epoll, events, timeout);
        let room = events.len();
        let told = &events[..answer.unwrap_or(0)];
        let shown = Answer(&answer);
        match timeout {
            Some(timeout) => {
                self.tell(format_args!("epoll_wait({epoll}, {room}, {timeout:?}) = {shown} {told:?}"))
            }
            None => self.tell(format_args!("epoll_wait({epoll}, {room}, for ever) = {shown} {told:?}")),
        }
        answer
    }

    fn eventfd(&self, initial: u32) -> Result<Fd> {
        traced!(self.eventfd(initial), "{}", initial)
    }

    fn spawn(&self, options: &ThreadOptions, main: ThreadMain) -> Result<Thread> {
        let sink = self.sink.clone();
        let main: ThreadMain = Box::new(move |kernel| main(Rc::new(Traced::new(kernel, sink))));
        traced!(self.spawn(options, main), "{:?}", options.name)
    }

    fn join(&self, thread: Thread) -> ThreadEnd {
        let end = self.inner.join(thread);
        self.tell(format_args!("join({}) = {}", thread.0, if end.is_ok() { "0" } else { "panicked" }));
        end
    }

    fn detach(&self, thread: Thread) {
        self.inner.detach(thread);
        self.tell(format_args!("detach({})", thread.0));
    }

    fn futex_wait(&self, word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Result<()> {
        // Not the word's address: it differs from run to run.
        traced!(self.futex_wait(word, expected, timeout), "{}, {:?}", expected, timeout)
    }

    fn futex_wake(&self, word: &AtomicU32, count: u32) -> usize {
        let woken = self.inner.futex_wake(word, count);
        self.tell(format_args!("futex_wake({count}) = {woken}"));
        woken
    }

    fn getaddrinfo(&self, query: &Query<'_>) -> Result<Vec<SocketAddr>, ResolveError> {
        let answer = self.inner.getaddrinfo(query);
        let shown = Asked(query);
        match &answer {
            Ok(addresses) => self.tell(format_args!("getaddrinfo({shown}) = {addresses:?}")),
            Err(error) => self.tell(format_args!("getaddrinfo({shown}) = {error:?}")),
        }
        answer
    }

    fn sigaction(&self, signal: Signal, action: SigAction, caught: &Arc<Caught>) -> Result<()> {
        // The handler writes to the descriptor itself, and so is not told: it may do next to nothing.
        traced!(self.sigaction(signal, action, caught), "{}, {:?}, {}", signal, action, caught.fd())
    }

    fn kill(&self, signal: Signal) -> Result<()> {
        traced!(self.kill(signal), "{}", signal)
    }

    fn openat(&self, path: &CStr, flags: OpenFlags) -> Result<Fd> {
        let shown = Flags([
            (flags.create, "CREAT"),
            (flags.exclusive, "EXCL"),
            (flags.truncate, "TRUNC"),
            (flags.directory, "DIRECTORY"),
        ]);
        traced!(self.openat(path, flags), "{}, {:?}{}", Path(path), flags.access, shown)
    }

    fn pread(&self, fd: Fd, buf: &mut [u8], offset: u64) -> Result<usize> {
        traced!(self.pread(fd, buf, offset), "{}, {}, {}", fd, buf.len(), offset)
    }

    fn pwrite(&self, fd: Fd, buf: &[u8], offset: u64) -> Result<usize> {
        traced!(self.pwrite(fd, buf, offset), "{}, {}, {}", fd, buf.len(), offset)
    }

    fn fsync(&self, fd: Fd) -> Result<()> {
        traced!(self.fsync(fd), "{}", fd)
    }

    fn fdatasync(&self, fd: Fd) -> Result<()> {
        traced!(self.fdatasync(fd), "{}", fd)
    }

    fn ftruncate(&self, fd: Fd, len: u64) -> Result<()> {
        traced!(self.ftruncate(fd, len), "{}, {}", fd, len)
    }

    fn fstat(&self, fd: Fd) -> Result<Stat> {
        traced!(self.fstat(fd), "{}", fd)
    }

    fn rename(&self, from: &CStr, to: &CStr) -> Result<()> {
        traced!(self.rename(from, to), "{}, {}", Path(from), Path(to))
    }

    fn unlink(&self, path: &CStr) -> Result<()> {
        traced!(self.unlink(path), "{}", Path(path))
    }

    fn process(&self) -> ProcessId {
        self.inner.process() // no call: a number the kernel object carries
    }

    fn share(&self, fd: Fd) -> Arc<dyn Wake> {
        self.tell(format_args!("share({fd})"));
        Arc::new(TracedWake { inner: self.inner.share(fd), sink: self.sink.clone() })
    }
}

/// The wake-ups of a shared descriptor, told from whichever thread makes them.
struct TracedWake {
    inner: Arc<dyn Wake>,
    sink: Sink,
}

impl Wake for TracedWake {
    fn fd(&self) -> Fd {
        self.inner.fd()
    }

    fn process(&self) -> ProcessId {
        self.inner.process()
    }

    fn wake(&self) -> Result<()> {
        let answer = self.inner.wake();
        (self.sink)(format_args!("wake({}) = {}", self.fd(), Answer(&answer)));
        answer
    }

    fn release(&self) -> Fd {
        let fd = self.inner.release();
        (self.sink)(format_args!("release({fd})"));
        fd
    }
}

/// What a call answered, as strace shows it.
struct Answer<'a, T>(&'a Result<T>);

impl<T: Show> fmt::Display for Answer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(value) => value.show(f),
            Err(errno) => write!(f, "-1 {errno:?}"),
        }
    }
}

trait Show {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

macro_rules! show {
    ($($type:ty, $value:ident => $format:literal $(, $shown:expr)*;)*) => {
        $(impl Show for $type {
            fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $value = self;
                write!(f, $format $(, $shown)*)
            }
        })*
    };
}

show! {
    (), _nothing => "0";
    usize, count => "{count}";
    Fd, fd => "{fd}";
    Address, address => "{address}";
    (Fd, Fd), pair => "{} {}", pair.0, pair.1;
    (Fd, Address), pair => "{} {}", pair.0, pair.1;
    SocketOption, option => "{option:?}";
    Thread, thread => "{}", thread.0;
    Stat, stat => "{:?} of {}, {}", stat.kind, stat.size, stat.modified;
}

/// A path, or another text of C.
struct Path<'a>(&'a CStr);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.to_bytes().escape_ascii())
    }
}

/// What `getaddrinfo` is asked.
struct Asked<'a>(&'a Query<'a>);

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Query { node, service, family, passive, numeric_host, numeric_service, address_config } = *self.0;
        let (node, service) = (node.unwrap_or(c"-"), service.unwrap_or(c"-"));
        let flags = Flags([
            (passive, "PASSIVE"),
            (numeric_host, "NUMERICHOST"),
            (numeric_service, "NUMERICSERV"),
            (address_config, "ADDRCONFIG"),
        ]);
        write!(f, "{}, {}, {family:?}{flags}", Path(node), Path(service))
    }
}

impl Show for Received {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.count)?;
        if let Some(from) = &self.from {
            write!(f, " from {from}")?;
        }
        if self.truncated { f.write_str(", TRUNC") } else { Ok(()) }
    }
}

/// Where a datagram goes, after the word.
struct Towards<'a>(Option<&'a Address>);

impl fmt::Display for Towards<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| write!(f, ", to {address}"))
    }
}

/// The lengths of the buffers of a vectored call.
struct Lengths<I>(I);

impl<I: Iterator<Item = usize> + Clone> fmt::Display for Lengths<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.clone()).finish()
    }
}

/// The names of the flags that are set, each after a comma.
struct Flags<const N: usize>([(bool, &'static str); N]);

impl<const N: usize> fmt::Display for Flags<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().filter(|flag| flag.0).try_for_each(|flag| write!(f, ", {}", flag.1))
    }
}

fn recv_flags(flags: RecvFlags) -> Flags<2> {
    Flags([(flags.peek, "PEEK"), (flags.oob, "OOB")])
}

fn send_flags(flags: SendFlags) -> Flags<2> {
    Flags([(flags.oob, "OOB"), (flags.more, "MORE")])
}

#[cfg(test)]
mod service_tests;

#[cfg(test)]
#[allow(clippy::disallowed_types)] // the sink of these tests is shared by threads
mod tests {
    use std::sync::Mutex;

    use super::super::{Events, Linux, UnixName};
    use super::*;

    /// What `body` makes a traced Linux write.
    pub(super) fn trace(body: impl FnOnce(&dyn Kernel)) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let kernel = Traced::new(
            Rc::new(Linux::new()),
            Arc::new(move |line| sink.lock().unwrap().push(line.to_string())),
        );
        body(&kernel);
        drop(kernel);
        std::mem::take(&mut *lines.lock().unwrap())
    }

    #[test]
    fn each_call_is_a_line() {
        let mut shown = Vec::new();
        let lines = trace(|kernel| {
            let listener = kernel.socket(Domain::Inet, SocketKind::Stream).unwrap();
            kernel.bind(listener, &Address::Ip("127.0.0.1:0".parse().unwrap())).unwrap();
            kernel.listen(listener, 1).unwrap();
            let address = kernel.getsockname(listener).unwrap();
            let client = kernel.socket(Domain::Inet, SocketKind::Stream).unwrap();
            let _ = kernel.connect(client, &address);
            let (server, peer) = loop {
                if let Ok(pair) = kernel.accept4(listener) {
                    break pair;
                }
            };
            let _ = kernel.recv(server, &mut [0; 9], RecvFlags { peek: true, oob: false });
            let bufs = [IoSlice::new(b"ab"), IoSlice::new(b"c")];
            kernel.sendmsg(client, &bufs, SendFlags::default(), None).unwrap();
            kernel.getsockopt(client, OptionName::ReuseAddr).unwrap();
            for fd in [client, server, listener] {
                kernel.close(fd).unwrap();
            }
            let _ = kernel.accept4(Fd::from_raw(-1));
            shown = vec![
                format!("socket(Inet, Stream) = {listener}"),
                format!("bind({listener}, 127.0.0.1:0) = 0"),
                format!("listen({listener}, 1) = 0"),
                format!("getsockname({listener}) = {address}"),
                format!("connect({client}, {address}) = -1 EINPROGRESS"),
                format!("accept4({listener}) = {server} {peer}"),
                format!("recv({server}, 9, PEEK) = -1 EAGAIN"),
                format!("sendmsg({client}, [2, 1]) = 3"),
                format!("getsockopt({client}, ReuseAddr) = ReuseAddr(false)"),
                format!("close({client}) = 0"),
                "accept4(-1) = -1 EBADF".to_string(),
            ];
        });
        for line in shown {
            assert!(lines.contains(&line), "no {line:?} in {lines:#?}");
        }
    }

    #[test]
    fn datagrams_are_told_with_their_addresses() {
        let mut shown = Vec::new();
        let name = || {
            Address::Unix(
                UnixName::abstract_name(format!("traced {}", std::process::id()).as_bytes()).unwrap(),
            )
        };
        let lines = trace(|kernel| {
            let (near, far) = kernel.socketpair(SocketKind::Datagram).unwrap();
            let bound = kernel.socket(Domain::Unix, SocketKind::Datagram).unwrap();
            kernel.bind(bound, &name()).unwrap();
            kernel.sendmsg(near, &[IoSlice::new(b"abc")], SendFlags::default(), Some(&name())).unwrap();
            assert_eq!(kernel.ioctl_fionread(bound), Ok(3));
            let mut buf = [0; 2];
            kernel.recvmsg(bound, &mut [IoSliceMut::new(&mut buf)], RecvFlags::default()).unwrap();
            kernel.sendmsg(bound, &[IoSlice::new(b"abc")], SendFlags::default(), Some(&name())).unwrap();
            kernel
                .recvmsg(bound, &mut [IoSliceMut::new(&mut buf)], RecvFlags { peek: true, oob: false })
                .unwrap();
            kernel.unlink(c"no/such/file").unwrap_err();
            for fd in [near, far, bound] {
                kernel.close(fd).unwrap();
            }
            shown = vec![
                format!("socketpair(Datagram) = {near} {far}"),
                format!("bind({bound}, {}) = 0", name()),
                format!("sendmsg({near}, [3], to {}) = 3", name()),
                format!("ioctl_fionread({bound}) = 3"),
                format!("recvmsg({bound}, [2]) = 2, TRUNC"),
                format!("recvmsg({bound}, [2], PEEK) = 2 from {}, TRUNC", name()),
                "unlink(no/such/file) = -1 ENOENT".to_string(),
            ];
        });
        for line in shown {
            assert!(lines.contains(&line), "no {line:?} in {lines:#?}");
        }
    }

    #[test]
    fn threads_and_wakes_are_told_too() {
        let mut expected = Vec::new();
        let lines = trace(|kernel| {
            let (event, epoll) = (kernel.eventfd(0).unwrap(), kernel.epoll_create1().unwrap());
            let add = EpollOp::Add(EpollEvent { events: Events::IN, data: 1 });
            kernel.epoll_ctl(epoll, add, event).unwrap();
            let wake = kernel.share(event);
            let remote = wake.clone();
            let main = move |kernel: Rc<dyn Kernel>| {
                kernel.sched_yield();
                remote.wake().unwrap();
            };
            let thread = kernel.spawn(&ThreadOptions::default(), Box::new(main)).unwrap();
            kernel.epoll_wait(epoll, &mut [EpollEvent::default(); 2], None).unwrap();
            kernel.join(thread).unwrap();
            kernel.close(epoll).unwrap();
            expected = vec![
                "sched_yield() = 0".to_string(),
                format!("wake({event}) = 0"),
                format!("epoll_wait({epoll}, 2, for ever) = 1 [{{IN, 0x1}}]"),
                format!("join({}) = 0", thread.0),
            ];
        });
        for line in expected {
            assert!(lines.contains(&line), "no {line:?} in {lines:#?}");
        }
    }
}
