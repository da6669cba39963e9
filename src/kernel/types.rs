//! The values that calls take and give: numbers with names, and nothing that owns anything.

use std::fmt;
use std::net::SocketAddr;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// The number of a descriptor of one process. `Copy`, without a destructor: who owns the descriptor
/// is said one type above (`net::Descriptor`, [`Wake`](super::Wake)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fd(i32);

impl Fd {
    /// The descriptor of this number.
    pub const fn from_raw(number: i32) -> Fd {
        Fd(number)
    }

    /// The number itself.
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A moment of one of the kernel's clocks, in nanoseconds from that clock's zero.
///
/// std's `Instant` cannot be made from a number, so a simulated clock could not answer with it. Differences
/// saturate at zero and sums at [`Instant::FAR`], some 584 years after the clock's zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// Later than every moment a clock shows: the deadline of a wait that has none.
    pub const FAR: Instant = Instant(u64::MAX);

    /// The moment `nanos` nanoseconds after the clock's zero.
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    /// Nanoseconds since the clock's zero.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not.
    pub const fn saturating_duration_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, rhs: Duration) -> Instant {
        let nanos = u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Instant::FAR {
            return f.write_str("never");
        }
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// Which clock `clock_gettime` reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`: never goes back; all deadlines are of this clock.
    Monotonic,
    /// `CLOCK_REALTIME`: nanoseconds since 1970; may jump.
    Realtime,
}

/// The address family of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domain {
    /// `AF_INET`.
    Inet,
    /// `AF_INET6`.
    Inet6,
    /// `AF_UNIX`.
    Unix,
}

impl Domain {
    /// The family of an address.
    pub fn of(address: &SocketAddr) -> Domain {
        match address {
            SocketAddr::V4(_) => Domain::Inet,
            SocketAddr::V6(_) => Domain::Inet6,
        }
    }
}

/// The type of a socket. Always with `SOCK_NONBLOCK | SOCK_CLOEXEC`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketKind {
    /// `SOCK_STREAM`.
    Stream,
    /// `SOCK_DGRAM`.
    Datagram,
}

/// How `recv` and `recvmsg` read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecvFlags {
    /// `MSG_PEEK`: leave the bytes where they are.
    pub peek: bool,
    /// `MSG_OOB`: the urgent byte.
    pub oob: bool,
}

/// What `recvmsg` answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// How many bytes are in the buffers.
    pub count: usize,
    /// Who sent them: `None` of a TCP stream, and of a Unix socket that has no name.
    pub from: Option<super::Address>,
    /// `MSG_TRUNC`: the datagram was longer than the buffers, and its end is lost.
    pub truncated: bool,
}

/// How `send` and `sendmsg` write. `MSG_NOSIGNAL` is always set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SendFlags {
    /// `MSG_OOB`: the last byte is urgent.
    pub oob: bool,
    /// `MSG_MORE`: more follows at once, so a segment need not go out yet.
    pub more: bool,
}

/// A socket option with its value, for `setsockopt`, and as `getsockopt` answers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SocketOption {
    /// `SO_REUSEADDR`.
    ReuseAddr(bool),
    /// `SO_REUSEPORT`.
    ReusePort(bool),
    /// `TCP_NODELAY`.
    NoDelay(bool),
    /// `SO_KEEPALIVE`.
    KeepAlive(bool),
    /// `TCP_KEEPIDLE`, whole seconds, 1 to 32,767.
    KeepIdle(Duration),
    /// `TCP_KEEPINTVL`, whole seconds, 1 to 32,767.
    KeepInterval(Duration),
    /// `TCP_KEEPCNT`, 1 to 127.
    KeepCount(u32),
    /// `TCP_USER_TIMEOUT`, whole milliseconds; zero is the system's own.
    UserTimeout(Duration),
    /// `SO_LINGER`, whole seconds; zero makes close send RST.
    Linger(Option<Duration>),
    /// `SO_SNDBUF`, bytes; Linux doubles what is set and answers the double.
    SendBuffer(u32),
    /// `SO_RCVBUF`, bytes; Linux doubles what is set and answers the double.
    ReceiveBuffer(u32),
    /// `IPV6_V6ONLY`.
    V6Only(bool),
    /// `SO_ERROR`, read only: the pending error, which the read clears.
    Error(Option<super::Errno>),
    /// `SO_BROADCAST`: datagrams may go to broadcast addresses.
    Broadcast(bool),
    /// `SO_TYPE`, read only.
    Type(SocketKind),
    /// `SO_DOMAIN`, read only.
    Domain(Domain),
    /// `SO_ACCEPTCONN`, read only: whether the socket listens.
    AcceptConn(bool),
    /// `SO_PEERCRED`, read only: who connected or listened, on a Unix stream or a pair; `None` on others.
    PeerCredentials(Option<Credentials>),
}

/// A process as it was when it connected, listened or made a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credentials {
    /// The process.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// The name of a socket option, for `getsockopt`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[allow(missing_docs)] // each is documented at the variant of the same name in SocketOption
pub enum OptionName {
    ReuseAddr,
    ReusePort,
    NoDelay,
    KeepAlive,
    KeepIdle,
    KeepInterval,
    KeepCount,
    UserTimeout,
    Linger,
    SendBuffer,
    ReceiveBuffer,
    V6Only,
    Error,
    Broadcast,
    Type,
    Domain,
    AcceptConn,
    PeerCredentials,
}

/// What `epoll_ctl` does with a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EpollOp {
    /// `EPOLL_CTL_ADD`.
    Add(EpollEvent),
    /// `EPOLL_CTL_MOD`.
    Modify(EpollEvent),
    /// `EPOLL_CTL_DEL`.
    Delete,
}

/// The kernel's own `struct epoll_event`, so that `epoll_wait` copies nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(target_arch = "x86_64", repr(C, packed))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C))]
pub struct EpollEvent {
    /// Which events; in `epoll_ctl` also how they are told (edge, one-shot).
    pub events: Events,
    /// Comes back as it was given.
    pub data: u64,
}

impl fmt::Debug for EpollEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EpollEvent { events, data } = *self;
        write!(f, "{{{events:?}, {data:#x}}}")
    }
}

/// A set of `EPOLL*` bits.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Events(u32);

impl Events {
    /// There is something to read.
    pub const IN: Events = Events(0x001);
    /// There is urgent data.
    pub const PRI: Events = Events(0x002);
    /// There is room to write.
    pub const OUT: Events = Events(0x004);
    /// An error is pending. Always told.
    pub const ERR: Events = Events(0x008);
    /// Both directions are shut down. Always told.
    pub const HUP: Events = Events(0x010);
    /// The peer has shut down its writing half.
    pub const RDHUP: Events = Events(0x2000);
    /// Wake only one of the epoll instances that wait.
    pub const EXCLUSIVE: Events = Events(1 << 28);
    /// Disarm after one event.
    pub const ONESHOT: Events = Events(1 << 30);
    /// Tell edges, not levels.
    pub const ET: Events = Events(1 << 31);
    /// No event.
    pub const NONE: Events = Events(0);

    /// The set of these bits.
    pub const fn from_bits(bits: u32) -> Events {
        Events(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Both sets together.
    pub const fn with(self, other: Events) -> Events {
        Events(self.0 | other.0)
    }

    /// This set less the other.
    pub const fn without(self, other: Events) -> Events {
        Events(self.0 & !other.0)
    }

    /// What both have.
    pub const fn common(self, other: Events) -> Events {
        Events(self.0 & other.0)
    }

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: Events) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether no bit is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(Events, &str); 9] = [
            (Events::IN, "IN"),
            (Events::PRI, "PRI"),
            (Events::OUT, "OUT"),
            (Events::ERR, "ERR"),
            (Events::HUP, "HUP"),
            (Events::RDHUP, "RDHUP"),
            (Events::EXCLUSIVE, "EXCLUSIVE"),
            (Events::ONESHOT, "ONESHOT"),
            (Events::ET, "ET"),
        ];
        let mut rest = *self;
        let mut first = true;
        for (bit, name) in NAMES {
            if self.intersects(bit) {
                write!(f, "{}{name}", if first { "" } else { "|" })?;
                rest = rest.without(bit);
                first = false;
            }
        }
        if first || !rest.is_empty() {
            write!(f, "{}{:#x}", if first { "" } else { "|" }, rest.0)?;
        }
        Ok(())
    }
}

/// What a new thread is like.
#[derive(Clone, Debug, Default)]
pub struct ThreadOptions {
    /// Its name; Linux shows the first 15 bytes.
    pub name: String,
    /// Bytes of stack; `None` is the system's own choice.
    pub stack_size: Option<usize>,
    /// The processor it is bound to (`sched_setaffinity`).
    pub cpu: Option<usize>,
}

/// A thread that the kernel runs, until it is joined.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Thread(pub u64);

/// Which process a kernel object, or a descriptor that crosses threads, belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProcessId(pub u64);
