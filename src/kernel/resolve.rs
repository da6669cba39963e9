//! What `getaddrinfo(3)` is asked and how it fails: values only.
//!
//! Its errors are not error numbers: they have codes and words of their own ([`ResolveError`]). One of them says that a
//! system call below it failed, and carries that call's [`Errno`].

use std::ffi::CStr;
use std::fmt;
use std::io;

use super::Errno;

/// The arguments and hints of `getaddrinfo(3)`. `SOCK_STREAM` is always among the hints, so each address comes once; the
/// addresses are good for datagrams too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Query<'a> {
    /// The name of a host, or an address in any of the forms of `inet_aton(3)` and `inet_pton(3)`. `None` is this host, or
    /// any address if [`passive`](Query::passive).
    pub node: Option<&'a CStr>,
    /// A port in decimal, or the name of a service; `None` is port 0. Of a number above 65,535 glibc takes the lowest 16
    /// bits.
    pub service: Option<&'a CStr>,
    /// Which addresses are wanted.
    pub family: Family,
    /// `AI_PASSIVE`: without a node, addresses to bind to.
    pub passive: bool,
    /// `AI_NUMERICHOST`: the node is an address; no name is looked up.
    pub numeric_host: bool,
    /// `AI_NUMERICSERV`: the service is a number.
    pub numeric_service: bool,
    /// `AI_ADDRCONFIG`: of a name, only addresses of families of which this host has an address itself.
    pub address_config: bool,
}

/// Which family of addresses `getaddrinfo` is to answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Family {
    /// `AF_UNSPEC`.
    #[default]
    Any,
    /// `AF_INET`.
    Inet,
    /// `AF_INET6`.
    Inet6,
}

/// Why `getaddrinfo(3)` has no answer: its `EAI_*` codes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ResolveError {
    /// `EAI_BADFLAGS`: flags that do not go together.
    BadFlags,
    /// `EAI_NONAME`: no such name, neither node nor service, or what was to be a number is none.
    NoName,
    /// `EAI_AGAIN`: no name server answers, or it says that it cannot now.
    Again,
    /// `EAI_FAIL`: the name server says that it cannot.
    Fail,
    /// `EAI_NODATA`: the name is there and has no address of the family.
    NoData,
    /// `EAI_FAMILY`: no such family.
    Family,
    /// `EAI_SOCKTYPE`: no such type of socket.
    SockType,
    /// `EAI_SERVICE`: no such service.
    Service,
    /// `EAI_ADDRFAMILY`: the address is of another family.
    AddrFamily,
    /// `EAI_MEMORY`: out of memory.
    Memory,
    /// `EAI_OVERFLOW`: something is too long.
    Overflow,
    /// `EAI_SYSTEM`: a system call has failed with this error.
    System(Errno),
    /// A code that the manual does not list.
    Other(i32),
}

impl ResolveError {
    /// All that the manual lists, but for [`System`](ResolveError::System), which is in the table
    /// [`errno::of`](super::errno::of): what a simulation may answer.
    pub const ALL: [ResolveError; 11] = [
        ResolveError::BadFlags,
        ResolveError::NoName,
        ResolveError::Again,
        ResolveError::Fail,
        ResolveError::NoData,
        ResolveError::Family,
        ResolveError::SockType,
        ResolveError::Service,
        ResolveError::AddrFamily,
        ResolveError::Memory,
        ResolveError::Overflow,
    ];

    /// The error of a code other than zero and `EAI_SYSTEM`.
    pub(super) fn from_code(code: i32) -> ResolveError {
        let known = ResolveError::ALL.into_iter().find(|error| error.code() == code);
        known.unwrap_or(ResolveError::Other(code))
    }

    /// The code, as `netdb.h` numbers it.
    pub fn code(self) -> i32 {
        match self {
            ResolveError::Other(code) => code,
            known => known.row().0,
        }
    }

    /// Its name in the manual.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (i32, &'static str, &'static str) {
        match self {
            ResolveError::BadFlags => (libc::EAI_BADFLAGS, "EAI_BADFLAGS", "flags that do not go together"),
            ResolveError::NoName => (libc::EAI_NONAME, "EAI_NONAME", "name or service not known"),
            ResolveError::Again => (libc::EAI_AGAIN, "EAI_AGAIN", "no name server answers now"),
            ResolveError::Fail => (libc::EAI_FAIL, "EAI_FAIL", "the name server cannot answer"),
            ResolveError::NoData => (libc::EAI_NODATA, "EAI_NODATA", "the name has no address of the family"),
            ResolveError::Family => (libc::EAI_FAMILY, "EAI_FAMILY", "address family not supported"),
            ResolveError::SockType => (libc::EAI_SOCKTYPE, "EAI_SOCKTYPE", "socket type not supported"),
            ResolveError::Service => (libc::EAI_SERVICE, "EAI_SERVICE", "service not known"),
            // libc does not have it; the same with glibc and musl.
            ResolveError::AddrFamily => (-9, "EAI_ADDRFAMILY", "the address is of another family"),
            ResolveError::Memory => (libc::EAI_MEMORY, "EAI_MEMORY", "out of memory"),
            ResolveError::Overflow => (libc::EAI_OVERFLOW, "EAI_OVERFLOW", "a name is too long"),
            ResolveError::System(_) => (libc::EAI_SYSTEM, "EAI_SYSTEM", "a system call failed"),
            ResolveError::Other(_) => (0, "EAI", "an error that the manual does not list"),
        }
    }
}

impl fmt::Debug for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResolveError::System(errno) => write!(f, "EAI_SYSTEM {errno:?}"),
            ResolveError::Other(code) => write!(f, "EAI {code}"),
            known => f.write_str(known.name()),
        }
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResolveError::System(errno) => write!(f, "{errno}"),
            ResolveError::Other(code) => write!(f, "name resolution failed with code {code}"),
            known => write!(f, "{} ({})", known.row().2, known.name()),
        }
    }
}

impl std::error::Error for ResolveError {}

impl From<ResolveError> for io::Error {
    /// `NotFound` where asking again would not help; a failed system call is that call's error.
    fn from(error: ResolveError) -> io::Error {
        use ResolveError as E;
        let kind = match error {
            E::System(errno) => return errno.into(),
            E::NoName | E::NoData | E::Service | E::AddrFamily => io::ErrorKind::NotFound,
            E::BadFlags | E::Family | E::SockType | E::Overflow => io::ErrorKind::InvalidInput,
            E::Memory => io::ErrorKind::OutOfMemory,
            E::Again | E::Fail | E::Other(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_one_error_each() {
        for error in ResolveError::ALL {
            assert_eq!(ResolveError::from_code(error.code()), error);
            assert!(error.to_string().contains(error.name()), "{error}");
        }
        assert_eq!(ResolveError::from_code(-77), ResolveError::Other(-77));
        assert_eq!(ResolveError::Other(-77).code(), -77);
    }

    #[test]
    fn an_error_stays_readable_as_an_io_error() {
        let error = io::Error::from(ResolveError::NoName);
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ResolveError>());
        assert_eq!(inner, Some(&ResolveError::NoName));
        assert_eq!(io::Error::from(ResolveError::System(Errno::MFILE)).raw_os_error(), Some(libc::EMFILE));
    }
}
