//! Where a socket is: an IP address with a port, or a name of a Unix socket.
//!
//! Owns its bytes, in place, so that an address is copied and never allocated. What cannot be an address cannot be
//! made: a [`UnixName`] is made by functions that refuse what is too long or has a zero byte where none may be. Names are
//! bytes, as in the kernel. Nothing here looks at a file system.

use std::cmp::Ordering;
use std::fmt;
use std::net::SocketAddr;

use super::{Domain, Errno, Result};

/// The address of a socket, for `bind`, `connect`, `sendmsg`, and as calls answer it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// IPv4 or IPv6, with a port.
    Ip(SocketAddr),
    /// A Unix socket's name.
    Unix(UnixName),
}

impl Address {
    /// The family of the address.
    pub fn domain(&self) -> Domain {
        match self {
            Address::Ip(address) => Domain::of(address),
            Address::Unix(_) => Domain::Unix,
        }
    }

    /// The IP address, of a socket that can have no other; else `EAFNOSUPPORT`.
    pub fn ip(self) -> Result<SocketAddr> {
        match self {
            Address::Ip(address) => Ok(address),
            Address::Unix(_) => Err(Errno::AFNOSUPPORT),
        }
    }

    /// The name, of a socket that can have no other; else `EAFNOSUPPORT`.
    pub fn unix(self) -> Result<UnixName> {
        match self {
            Address::Unix(name) => Ok(name),
            Address::Ip(_) => Err(Errno::AFNOSUPPORT),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Ip(address)
    }
}

impl From<UnixName> for Address {
    fn from(name: UnixName) -> Address {
        Address::Unix(name)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(name) => name.fmt(f),
        }
    }
}

/// The name of a Unix socket: none, a path of the file system, or an abstract name (`unix(7)`).
#[derive(Clone, Copy)]
pub struct UnixName {
    kind: Kind,
    len: u8,
    /// All behind `len` is zero.
    bytes: [u8; UnixName::MOST],
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Unnamed,
    Path,
    Abstract,
}

impl UnixName {
    /// The longest path in bytes, without a zero at its end. An abstract name has one byte less.
    pub const MOST: usize = 108;

    /// No name: the address of a socket that was not bound. To bind it has the kernel choose an abstract name.
    pub const UNNAMED: UnixName = UnixName { kind: Kind::Unnamed, len: 0, bytes: [0; UnixName::MOST] };

    /// The socket at this path.
    ///
    /// # Errors
    /// [`NameError`] if it is empty, has a zero byte, or more than 108 bytes.
    pub fn path(path: &[u8]) -> Result<UnixName, NameError> {
        if path.is_empty() {
            return Err(NameError::Empty);
        }
        if path.contains(&0) {
            return Err(NameError::Zero);
        }
        UnixName::new(Kind::Path, path, UnixName::MOST)
    }

    /// The socket of this abstract name, which may have any bytes, or none.
    ///
    /// # Errors
    /// [`NameError::TooLong`] if it has more than 107 bytes.
    pub fn abstract_name(name: &[u8]) -> Result<UnixName, NameError> {
        UnixName::new(Kind::Abstract, name, UnixName::MOST - 1)
    }

    fn new(kind: Kind, name: &[u8], most: usize) -> Result<UnixName, NameError> {
        if name.len() > most {
            return Err(NameError::TooLong);
        }
        let mut bytes = [0; UnixName::MOST];
        bytes[..name.len()].copy_from_slice(name);
        Ok(UnixName { kind, len: name.len() as u8, bytes })
    }

    /// Whether it is no name.
    pub fn is_unnamed(&self) -> bool {
        self.kind == Kind::Unnamed
    }

    /// The path, if it is one.
    pub fn as_path(&self) -> Option<&[u8]> {
        (self.kind == Kind::Path).then(|| self.bytes())
    }

    /// The abstract name, if it is one, without the zero byte that the kernel puts before it.
    pub fn as_abstract(&self) -> Option<&[u8]> {
        (self.kind == Kind::Abstract).then(|| self.bytes())
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn key(&self) -> (Kind, &[u8]) {
        (self.kind, self.bytes())
    }
}

impl PartialEq for UnixName {
    fn eq(&self, other: &UnixName) -> bool {
        self.key() == other.key()
    }
}

impl Eq for UnixName {}

impl PartialOrd for UnixName {
    fn partial_cmp(&self, other: &UnixName) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for UnixName {
    fn cmp(&self, other: &UnixName) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl std::hash::Hash for UnixName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Debug for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Unnamed => f.write_str("unnamed"),
            Kind::Path => write!(f, "{}", self.bytes().escape_ascii()),
            Kind::Abstract => write!(f, "@{}", self.bytes().escape_ascii()),
        }
    }
}

/// Why some bytes are no name of a Unix socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameError {
    /// A path has at least one byte.
    Empty,
    /// A path has no zero byte.
    Zero,
    /// A path has at most 108 bytes, an abstract name 107.
    TooLong,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::Empty => "the path of a socket is not empty",
            NameError::Zero => "the path of a socket has no zero byte",
            NameError::TooLong => "the name of a socket has at most 108 bytes, an abstract one 107",
        })
    }
}

impl std::error::Error for NameError {}

impl From<NameError> for std::io::Error {
    fn from(error: NameError) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidInput, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_cannot_be_made() {
        assert_eq!(UnixName::path(b""), Err(NameError::Empty));
        assert_eq!(UnixName::path(b"/tmp/a\0b"), Err(NameError::Zero));
        assert_eq!(UnixName::path(&[b'a'; 109]), Err(NameError::TooLong));
        assert_eq!(UnixName::abstract_name(&[0; 108]), Err(NameError::TooLong));
        let longest = UnixName::path(&[b'a'; 108]).unwrap();
        assert_eq!(longest.as_path(), Some(&[b'a'; 108][..]));
        assert_eq!(UnixName::abstract_name(&[0; 107]).unwrap().as_abstract(), Some(&[0; 107][..]));
    }

    #[test]
    fn names_differ_by_kind_and_by_length() {
        let [path, name] = [UnixName::path(b"a").unwrap(), UnixName::abstract_name(b"a").unwrap()];
        assert!(path != name && name.as_path().is_none() && path.as_abstract().is_none());
        let empty = UnixName::abstract_name(b"").unwrap();
        assert!(empty != UnixName::UNNAMED && empty != UnixName::abstract_name(b"\0").unwrap());
        let shown = [path, name, empty, UnixName::UNNAMED, UnixName::abstract_name(b"\x01").unwrap()];
        assert_eq!(shown.map(|name| name.to_string()), ["a", "@a", "@", "unnamed", "@\\x01"]);
    }
}
