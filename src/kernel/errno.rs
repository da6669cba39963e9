//! Error numbers with their names, and the table of the errors that each call may answer.
//!
//! The table is three things at once: documentation, the set from which the simulator draws faults, and what
//! [`Linux`](super::Linux) is checked against (a surprise is counted and can be read, never a panic: sandboxes
//! answer what they like).

use std::fmt;
use std::io;

/// An error number of Linux. Any number may come from below, so this is a number with names, not an enum.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(i32);

macro_rules! errnos {
    ($($name:ident = $value:ident, $full:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = concat!("`", $full, "`: ", $text, ".")] pub const $name: Errno = Errno(libc_value::$value);)*

            const NAMES: &[(Errno, &'static str, &'static str)] = &[$((Errno::$name, $full, $text)),*];
        }
        mod libc_value { $(pub(super) const $value: i32 = libc::$value;)* }
    };
}

errnos! {
    ACCES = EACCES, "EACCES", "permission denied";
    ADDRINUSE = EADDRINUSE, "EADDRINUSE", "address already in use";
    ADDRNOTAVAIL = EADDRNOTAVAIL, "EADDRNOTAVAIL", "address not available";
    AFNOSUPPORT = EAFNOSUPPORT, "EAFNOSUPPORT", "address family not supported";
    AGAIN = EAGAIN, "EAGAIN", "resource temporarily unavailable";
    ALREADY = EALREADY, "EALREADY", "connection already in progress";
    BADF = EBADF, "EBADF", "bad file descriptor";
    BUSY = EBUSY, "EBUSY", "device or resource busy";
    CANCELED = ECANCELED, "ECANCELED", "operation canceled";
    CONNABORTED = ECONNABORTED, "ECONNABORTED", "connection aborted";
    CONNREFUSED = ECONNREFUSED, "ECONNREFUSED", "connection refused";
    CONNRESET = ECONNRESET, "ECONNRESET", "connection reset by peer";
    DESTADDRREQ = EDESTADDRREQ, "EDESTADDRREQ", "destination address required";
    DQUOT = EDQUOT, "EDQUOT", "disk quota exceeded";
    EXIST = EEXIST, "EEXIST", "exists already";
    FAULT = EFAULT, "EFAULT", "bad address";
    FBIG = EFBIG, "EFBIG", "file too large";
    HOSTDOWN = EHOSTDOWN, "EHOSTDOWN", "host is down";
    HOSTUNREACH = EHOSTUNREACH, "EHOSTUNREACH", "host is unreachable";
    INPROGRESS = EINPROGRESS, "EINPROGRESS", "operation in progress";
    INTR = EINTR, "EINTR", "interrupted system call";
    INVAL = EINVAL, "EINVAL", "invalid argument";
    IO = EIO, "EIO", "input or output error";
    ISCONN = EISCONN, "EISCONN", "already connected";
    ISDIR = EISDIR, "EISDIR", "is a directory";
    LOOP = ELOOP, "ELOOP", "too many levels";
    MFILE = EMFILE, "EMFILE", "too many open files in this process";
    MLINK = EMLINK, "EMLINK", "too many links";
    MSGSIZE = EMSGSIZE, "EMSGSIZE", "message too long";
    NAMETOOLONG = ENAMETOOLONG, "ENAMETOOLONG", "name too long";
    NETDOWN = ENETDOWN, "ENETDOWN", "network is down";
    NETUNREACH = ENETUNREACH, "ENETUNREACH", "network is unreachable";
    NFILE = ENFILE, "ENFILE", "too many open files in the system";
    NOBUFS = ENOBUFS, "ENOBUFS", "no buffer space";
    NODEV = ENODEV, "ENODEV", "no such device";
    NOENT = ENOENT, "ENOENT", "no such entry";
    NOMEM = ENOMEM, "ENOMEM", "out of memory";
    NONET = ENONET, "ENONET", "machine is not on the network";
    NOPROTOOPT = ENOPROTOOPT, "ENOPROTOOPT", "no such protocol option";
    NOSPC = ENOSPC, "ENOSPC", "no space left";
    NOSYS = ENOSYS, "ENOSYS", "no such system call";
    NOTCONN = ENOTCONN, "ENOTCONN", "not connected";
    NOTDIR = ENOTDIR, "ENOTDIR", "not a directory";
    NOTEMPTY = ENOTEMPTY, "ENOTEMPTY", "directory not empty";
    NOTSOCK = ENOTSOCK, "ENOTSOCK", "not a socket";
    NOTTY = ENOTTY, "ENOTTY", "not a file for this request";
    NXIO = ENXIO, "ENXIO", "no such device or address";
    OPNOTSUPP = EOPNOTSUPP, "EOPNOTSUPP", "operation not supported";
    OVERFLOW = EOVERFLOW, "EOVERFLOW", "too large for its type";
    PERM = EPERM, "EPERM", "operation not permitted";
    PIPE = EPIPE, "EPIPE", "broken pipe";
    PROTO = EPROTO, "EPROTO", "protocol error";
    PROTOTYPE = EPROTOTYPE, "EPROTOTYPE", "protocol of another type";
    ROFS = EROFS, "EROFS", "read-only file system";
    SPIPE = ESPIPE, "ESPIPE", "cannot seek";
    TIMEDOUT = ETIMEDOUT, "ETIMEDOUT", "timed out";
    TXTBSY = ETXTBSY, "ETXTBSY", "a program that runs";
    XDEV = EXDEV, "EXDEV", "another file system";
}

impl Errno {
    /// The error of this number.
    pub const fn from_raw(number: i32) -> Errno {
        Errno(number)
    }

    /// The number.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// Its name in the manual, if it is one this library knows.
    pub fn name(self) -> Option<&'static str> {
        Errno::NAMES.iter().find(|row| row.0 == self).map(|row| row.1)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Errno::NAMES.iter().find(|row| row.0 == *self) {
            Some((_, name, text)) => write!(f, "{text} ({name})"),
            None => write!(f, "error number {}", self.0),
        }
    }
}

impl std::error::Error for Errno {}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.0)
    }
}

/// The calls that can fail, by the names of their methods.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // each is documented at the method of its name
pub enum Call {
    Socket,
    Bind,
    Listen,
    Accept4,
    Connect,
    Shutdown,
    Getsockname,
    Getpeername,
    Getsockopt,
    Setsockopt,
    Read,
    Readv,
    Write,
    Recv,
    Send,
    Sendmsg,
    Close,
    EpollCreate1,
    EpollCtl,
    EpollWait,
    Eventfd,
    Spawn,
    FutexWait,
    Socketpair,
    IoctlFionread,
    Unlink,
    Recvmsg,
    SchedSetaffinity,
    Getaddrinfo,
    Sigaction,
    Kill,
    Openat,
    Pread,
    Pwrite,
    Fsync,
    Fdatasync,
    Ftruncate,
    Fstat,
    Rename,
}

impl Call {
    /// Every call that can fail.
    pub const ALL: [Call; 39] = [
        Call::Socket,
        Call::Bind,
        Call::Listen,
        Call::Accept4,
        Call::Connect,
        Call::Shutdown,
        Call::Getsockname,
        Call::Getpeername,
        Call::Getsockopt,
        Call::Setsockopt,
        Call::Read,
        Call::Readv,
        Call::Write,
        Call::Recv,
        Call::Send,
        Call::Sendmsg,
        Call::Close,
        Call::EpollCreate1,
        Call::EpollCtl,
        Call::EpollWait,
        Call::Eventfd,
        Call::Spawn,
        Call::FutexWait,
        Call::Socketpair,
        Call::IoctlFionread,
        Call::Unlink,
        Call::Recvmsg,
        Call::SchedSetaffinity,
        Call::Getaddrinfo,
        Call::Sigaction,
        Call::Kill,
        Call::Openat,
        Call::Pread,
        Call::Pwrite,
        Call::Fsync,
        Call::Fdatasync,
        Call::Ftruncate,
        Call::Fstat,
        Call::Rename,
    ];
}

/// The errors that `call` may answer, besides [`TEARDOWN`], which every call of a simulated process may.
///
/// From the call's manual page, `tcp(7)`, `udp(7)`, `unix(7)`, `socket(7)` and `epoll(7)`; what Linux was seen to answer and the
/// manual forgets has a note.
pub const fn of(call: Call) -> &'static [Errno] {
    use Errno as E;
    match call {
        Call::Socket => &[E::ACCES, E::AFNOSUPPORT, E::INVAL, E::MFILE, E::NFILE, E::NOBUFS, E::NOMEM],
        Call::Bind => &[
            E::ACCES,
            E::ADDRINUSE,
            E::ADDRNOTAVAIL,
            E::AFNOSUPPORT,
            E::BADF,
            E::INVAL,
            E::NOTSOCK,
            E::NOMEM,
            // A path, on its way through the file system.
            E::LOOP,
            E::NAMETOOLONG,
            E::NOENT,
            E::NOSPC,
            E::NOTDIR,
            E::PERM,
            E::ROFS,
        ],
        // EINVAL: a connected socket, which listen(2) does not mention.
        Call::Listen => &[E::ADDRINUSE, E::BADF, E::INVAL, E::NOTSOCK, E::OPNOTSUPP],
        // accept(2): pending network errors of the new socket are passed on; treat them as EAGAIN.
        Call::Accept4 => &[
            E::AGAIN,
            E::BADF,
            E::CONNABORTED,
            E::HOSTDOWN,
            E::HOSTUNREACH,
            E::INTR,
            E::INVAL,
            E::MFILE,
            E::NETDOWN,
            E::NETUNREACH,
            E::NFILE,
            E::NOBUFS,
            E::NOMEM,
            E::NONET,
            E::NOPROTOOPT,
            E::NOTSOCK,
            E::OPNOTSUPP,
            E::PERM,
            E::PROTO,
        ],
        // ECONNABORTED: on a socket that was shut down while connecting (Linux). EPIPE: the pending error of a connection
        // whose peer sent FIN and then RST. EPROTOTYPE: a Unix socket of the other type.
        Call::Connect => &[
            E::ACCES,
            E::ADDRINUSE,
            E::ADDRNOTAVAIL,
            E::AFNOSUPPORT,
            E::AGAIN,
            E::ALREADY,
            E::BADF,
            E::CONNABORTED,
            E::CONNREFUSED,
            E::CONNRESET,
            E::HOSTUNREACH,
            E::INPROGRESS,
            E::INTR,
            E::INVAL,
            E::ISCONN,
            E::NETUNREACH,
            E::NOTSOCK,
            E::PERM,
            E::PIPE,
            E::TIMEDOUT,
            E::LOOP,
            E::NAMETOOLONG,
            E::NOENT,
            E::NOMEM,
            E::NOTDIR,
            E::PROTOTYPE,
        ],
        Call::Shutdown => &[E::BADF, E::INVAL, E::NOTCONN, E::NOTSOCK],
        Call::Getsockname => &[E::BADF, E::INVAL, E::NOBUFS, E::NOTSOCK],
        Call::Getpeername => &[E::BADF, E::INVAL, E::NOBUFS, E::NOTCONN, E::NOTSOCK],
        Call::Getsockopt => &[E::BADF, E::INVAL, E::NOPROTOOPT, E::NOTSOCK, E::OPNOTSUPP],
        Call::Setsockopt => &[E::ACCES, E::BADF, E::INVAL, E::NOPROTOOPT, E::NOTSOCK, E::OPNOTSUPP, E::PERM],
        // EIO and EISDIR: of files, and those below of writing them.
        Call::Read | Call::Readv => &[
            E::AGAIN,
            E::BADF,
            E::CONNREFUSED,
            E::CONNRESET,
            E::HOSTUNREACH,
            E::INTR,
            E::INVAL,
            E::IO,
            E::ISDIR,
            E::NETUNREACH,
            E::NOMEM,
            E::NOTCONN,
            E::NOTSOCK,
            E::OPNOTSUPP,
            E::PIPE,
            E::TIMEDOUT,
        ],
        // EOPNOTSUPP: urgent bytes of what has none.
        Call::Recv | Call::Recvmsg => &[
            E::AGAIN,
            E::BADF,
            E::CONNREFUSED,
            E::CONNRESET,
            E::HOSTUNREACH,
            E::INTR,
            E::INVAL,
            E::NETUNREACH,
            E::NOMEM,
            E::NOTCONN,
            E::NOTSOCK,
            E::OPNOTSUPP,
            E::PIPE,
            E::TIMEDOUT,
        ],
        // Of files and of datagrams too.
        Call::Write => &[
            E::ACCES,
            E::AFNOSUPPORT,
            E::AGAIN,
            E::BADF,
            E::CONNREFUSED,
            E::CONNRESET,
            E::DESTADDRREQ,
            E::DQUOT,
            E::FBIG,
            E::HOSTUNREACH,
            E::INTR,
            E::INVAL,
            E::IO,
            E::ISCONN,
            E::LOOP,
            E::MSGSIZE,
            E::NAMETOOLONG,
            E::NETUNREACH,
            E::NOBUFS,
            E::NOENT,
            E::NOMEM,
            E::NOSPC,
            E::NOTCONN,
            E::NOTDIR,
            E::NOTSOCK,
            E::OPNOTSUPP,
            E::PERM,
            E::PIPE,
            E::PROTOTYPE,
            E::TIMEDOUT,
        ],
        Call::Send | Call::Sendmsg => &[
            E::AGAIN,
            E::BADF,
            E::CONNREFUSED,
            E::CONNRESET,
            E::HOSTUNREACH,
            E::INTR,
            E::INVAL,
            E::NETUNREACH,
            E::NOBUFS,
            E::NOMEM,
            E::NOTCONN,
            E::NOTSOCK,
            E::PIPE,
            E::TIMEDOUT,
            // A datagram, and its address. EISCONN and EOPNOTSUPP also: an address for a stream, an urgent datagram.
            E::ACCES,
            E::AFNOSUPPORT,
            E::DESTADDRREQ,
            E::ISCONN,
            E::LOOP,
            E::MSGSIZE,
            E::NAMETOOLONG,
            E::NOENT,
            E::NOTDIR,
            E::OPNOTSUPP,
            E::PERM,
            E::PROTOTYPE,
        ],
        // EINTR after which the descriptor is gone all the same.
        Call::Close => &[E::BADF, E::DQUOT, E::INTR, E::IO, E::NOSPC],
        Call::EpollCreate1 => &[E::INVAL, E::MFILE, E::NFILE, E::NOMEM],
        Call::EpollCtl => &[E::BADF, E::EXIST, E::INVAL, E::LOOP, E::NOENT, E::NOMEM, E::NOSPC, E::PERM],
        Call::EpollWait => &[E::BADF, E::INTR, E::INVAL],
        Call::Eventfd => &[E::INVAL, E::MFILE, E::NFILE, E::NOMEM],
        Call::Spawn => &[E::AGAIN, E::NOMEM, E::PERM],
        Call::FutexWait => &[E::AGAIN, E::INTR, E::TIMEDOUT],
        Call::Socketpair => {
            &[E::AFNOSUPPORT, E::INVAL, E::MFILE, E::NFILE, E::NOBUFS, E::NOMEM, E::OPNOTSUPP]
        }
        // EINVAL: a listener.
        Call::IoctlFionread => &[E::BADF, E::INVAL, E::NOTTY],
        Call::SchedSetaffinity => &[E::INVAL, E::PERM],
        // With EAI_SYSTEM; its own errors are `ResolveError::ALL`.
        Call::Getaddrinfo => &[E::ACCES, E::INTR, E::IO, E::MFILE, E::NFILE, E::NOBUFS, E::NOMEM],
        Call::Sigaction => &[E::INVAL],
        Call::Kill => &[E::INVAL, E::PERM],
        Call::Openat => &[
            E::ACCES,
            E::AGAIN,
            E::BUSY,
            E::DQUOT,
            E::EXIST,
            E::FBIG,
            E::INTR,
            E::INVAL,
            E::IO,
            E::ISDIR,
            E::LOOP,
            E::MFILE,
            E::NAMETOOLONG,
            E::NFILE,
            E::NODEV,
            E::NOENT,
            E::NOMEM,
            E::NOSPC,
            E::NOTDIR,
            E::NXIO,
            E::OPNOTSUPP,
            E::OVERFLOW,
            E::PERM,
            E::ROFS,
            E::TXTBSY,
        ],
        Call::Pread => {
            &[E::AGAIN, E::BADF, E::INTR, E::INVAL, E::IO, E::ISDIR, E::NXIO, E::OVERFLOW, E::SPIPE]
        }
        Call::Pwrite => &[
            E::AGAIN,
            E::BADF,
            E::DQUOT,
            E::FBIG,
            E::INTR,
            E::INVAL,
            E::IO,
            E::NOSPC,
            E::NXIO,
            E::OVERFLOW,
            E::PERM,
            E::SPIPE,
        ],
        Call::Fsync | Call::Fdatasync => &[E::BADF, E::DQUOT, E::INTR, E::INVAL, E::IO, E::NOSPC, E::ROFS],
        Call::Ftruncate => {
            &[E::BADF, E::FBIG, E::INTR, E::INVAL, E::IO, E::NOSPC, E::PERM, E::ROFS, E::TXTBSY]
        }
        Call::Fstat => &[E::BADF, E::NOMEM, E::OVERFLOW],
        Call::Rename => &[
            E::ACCES,
            E::BUSY,
            E::DQUOT,
            E::EXIST,
            E::INVAL,
            E::IO,
            E::ISDIR,
            E::LOOP,
            E::MLINK,
            E::NAMETOOLONG,
            E::NOENT,
            E::NOMEM,
            E::NOSPC,
            E::NOTDIR,
            E::NOTEMPTY,
            E::PERM,
            E::ROFS,
            E::XDEV,
        ],
        Call::Unlink => &[
            E::ACCES,
            E::BUSY,
            E::IO,
            E::ISDIR,
            E::LOOP,
            E::NAMETOOLONG,
            E::NOENT,
            E::NOMEM,
            E::NOTDIR,
            E::PERM,
            E::ROFS,
        ],
    }
}

/// What every call of a simulated process answers while its world is being reclaimed after the end.
pub const TEARDOWN: Errno = Errno::CANCELED;
