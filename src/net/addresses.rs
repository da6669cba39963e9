//! What can be said where an address is wanted: addresses, and names with ports, which are looked up.
//!
//! std's trait of this name asks the real resolver and blocks the machine; this one asks `dns.rs`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::{iter, option, slice, vec};

use super::dns::lookup;

/// One or more addresses, or a name of them: what `bind`, `connect` and `send_to` take.
///
/// Implemented for what std's trait of this name is, and for `([u8; 4], u16)`. A text is `host:port`, with the port in decimal and an
/// IPv6 address in brackets.
///
/// ```
/// use machinarium::net::{TcpListener, ToSocketAddrs};
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     assert!("[::1]:80".to_socket_addrs()?.eq(["[::1]:80".parse().unwrap()]));
///     assert!("localhost:80".to_socket_addrs()?.all(|address| address.ip().is_loopback()));
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     assert_ne!(listener.local_addr()?.port(), 0);
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub trait ToSocketAddrs {
    /// The addresses, in the order in which they are to be tried.
    type Iter: Iterator<Item = SocketAddr>;

    /// The addresses. A name is looked up, and the caller waits for that; an address never is.
    ///
    /// # Errors
    /// `InvalidInput` for a text that is no host with a port; of a name, that of [`lookup`]: a
    /// [`LookupError`](super::LookupError), or cancellation and deadlines.
    fn to_socket_addrs(&self) -> io::Result<Self::Iter>;
}

/// For each type that is an address by itself.
macro_rules! one_address {
    ($($type:ty),* $(,)?) => {
        $(
            impl ToSocketAddrs for $type {
                type Iter = option::IntoIter<SocketAddr>;

                fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
                    Ok(Some(SocketAddr::from(*self)).into_iter())
                }
            }
        )*
    };
}

one_address! {
    SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16), ([u8; 4], u16),
}

impl ToSocketAddrs for (&str, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(lookup(self.0, self.1)?.into_iter())
    }
}

impl ToSocketAddrs for (String, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (&*self.0, self.1).to_socket_addrs()
    }
}

impl ToSocketAddrs for str {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        if let Ok(address) = self.parse::<SocketAddr>() {
            return Ok(vec![address].into_iter());
        }
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{self:?}: {what}"));
        let (host, port) = self.rsplit_once(':').ok_or_else(|| invalid("not of the form host:port"))?;
        // Of an IPv6 address without brackets nobody knows where it ends.
        if host.contains(':') {
            return Err(invalid("an IPv6 address with a port is written [address]:port"));
        }
        let port = port.parse().map_err(|_| invalid("the port is no number below 65,536"))?;
        (host, port).to_socket_addrs()
    }
}

impl ToSocketAddrs for String {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        self.as_str().to_socket_addrs()
    }
}

impl<'a> ToSocketAddrs for &'a [SocketAddr] {
    type Iter = iter::Copied<slice::Iter<'a, SocketAddr>>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.iter().copied())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    type Iter = T::Iter;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (**self).to_socket_addrs()
    }
}

/// Does `attempt` with each address until it succeeds; the error is the last one's.
pub(super) fn first_of<T>(
    addresses: impl Iterator<Item = SocketAddr>,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for address in addresses {
        match attempt(address) {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(no_address))
}

pub(super) fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "no address was given")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_themselves_and_need_no_machine() {
        let v4: SocketAddr = "198.18.0.1:80".parse().unwrap();
        let v6: SocketAddr = "[2001:2::1]:80".parse().unwrap();
        let all = |address: &dyn Fn() -> io::Result<Vec<SocketAddr>>| address().unwrap();
        let of = |text: &str| all(&|| Ok(text.to_socket_addrs()?.collect()));
        assert_eq!(of("198.18.0.1:80"), [v4]);
        assert_eq!(of("[2001:2::1]:80"), [v6]);
        assert_eq!(all(&|| Ok(("2001:2::1", 80).to_socket_addrs()?.collect())), [v6]);
        assert_eq!(all(&|| Ok(("198.18.0.1".to_owned(), 80).to_socket_addrs()?.collect())), [v4]);
        assert_eq!(all(&|| Ok(([198, 18, 0, 1], 80).to_socket_addrs()?.collect())), [v4]);
        assert_eq!(all(&|| Ok((v6.ip(), 80).to_socket_addrs()?.collect())), [v6]);
        assert_eq!(all(&|| Ok((&[v4, v6][..]).to_socket_addrs()?.collect())), [v4, v6]);
        assert_eq!(all(&|| Ok("198.18.0.1:80".to_owned().to_socket_addrs()?.collect())), [v4]);
    }

    #[test]
    fn what_is_no_host_with_a_port_says_so() {
        for text in
            ["", "host", "host:", "host:http", "host:65536", "host:-1", "::1:80", "[::1]", ":80", "a\0b:80"]
        {
            let error = text.to_socket_addrs().map(Vec::from_iter).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{text:?}: {error}");
        }
        let error = "host:80".to_socket_addrs().unwrap_err();
        assert!(error.to_string().contains("no machine"), "{error}");
    }

    #[test]
    fn the_first_that_works_is_taken_and_the_last_error_told() {
        let addresses = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let above = |least: u16| {
            move |address: SocketAddr| match address.port() {
                port if port > least => Ok(port),
                port => Err(io::Error::other(port.to_string())),
            }
        };
        assert_eq!(first_of(addresses.into_iter(), above(1)).unwrap(), 2);
        assert_eq!(first_of(addresses.into_iter(), above(3)).unwrap_err().to_string(), "3");
        assert_eq!(first_of([].into_iter(), above(0)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
