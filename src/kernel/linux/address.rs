//! Addresses: ours to the kernel's `sockaddr`, and back.
//!
//! Owns nothing. Families other than IPv4, IPv6 and Unix are answered with `None`: this library makes no socket of them.

use std::mem::{self, MaybeUninit, offset_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

use libc::{c_int, socklen_t};

use crate::kernel::{Address, Errno, Result, UnixName};

/// Where the name begins in the address of a Unix socket.
const NAME: usize = offset_of!(libc::sockaddr_un, sun_path);

const _: () = assert!(UnixName::MOST == size_of::<libc::sockaddr_un>() - NAME);

/// What a call such as `getsockname` writes to the address it is given.
pub(super) fn name(
    ask: impl FnOnce(*mut libc::sockaddr, *mut socklen_t) -> Result<c_int>,
) -> Result<Address> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut len = size_of::<libc::sockaddr_storage>() as socklen_t;
    ask(storage.as_mut_ptr().cast(), &mut len)?;
    // SAFETY: all zero is a valid sockaddr_storage, and the kernel wrote over it.
    decode(unsafe { storage.assume_init_ref() }, len).ok_or(Errno::AFNOSUPPORT)
}

/// An address as the kernel wants it, with the length of what counts of it.
pub(super) fn encode(address: &Address) -> (libc::sockaddr_storage, socklen_t) {
    // SAFETY: all zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let len = match address {
        Address::Ip(SocketAddr::V4(address)) => {
            let inner = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage is as large as any address, and aligned for it.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(inner) };
            size_of::<libc::sockaddr_in>()
        }
        Address::Ip(SocketAddr::V6(address)) => {
            let inner = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: a sockaddr_storage is as large as any address, and aligned for it.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(inner) };
            size_of::<libc::sockaddr_in6>()
        }
        Address::Unix(name) => {
            let (inner, len) = encode_unix(name);
            // SAFETY: a sockaddr_storage is as large as any address, and aligned for it.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_un>().write(inner) };
            len
        }
    };
    (storage, len as socklen_t)
}

/// The length tells an empty abstract name from no name; a path ends where the length says, or before.
fn encode_unix(name: &UnixName) -> (libc::sockaddr_un, usize) {
    let mut inner =
        libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; UnixName::MOST] };
    let (skipped, bytes) = match (name.as_path(), name.as_abstract()) {
        (Some(path), _) => (0, path),
        (_, Some(name)) => (1, name),
        _ => (0, &[][..]),
    };
    for (place, byte) in inner.sun_path[skipped..].iter_mut().zip(bytes) {
        *place = *byte as libc::c_char;
    }
    (inner, NAME + skipped + bytes.len())
}

/// The address that the kernel wrote, if it is of a family this library has. `len` is how long the kernel says it is.
pub(super) fn decode(storage: &libc::sockaddr_storage, len: socklen_t) -> Option<Address> {
    match c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: a sockaddr_storage of this family holds a sockaddr_in, for which it is large and aligned.
            let inner = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(inner.sin_addr.s_addr.to_ne_bytes());
            Some(Address::Ip(SocketAddrV4::new(ip, u16::from_be(inner.sin_port)).into()))
        }
        libc::AF_INET6 => {
            // SAFETY: a sockaddr_storage of this family holds a sockaddr_in6, for which it is large and aligned.
            let inner = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let (ip, port) = (Ipv6Addr::from(inner.sin6_addr.s6_addr), u16::from_be(inner.sin6_port));
            let address = SocketAddrV6::new(ip, port, inner.sin6_flowinfo, inner.sin6_scope_id);
            Some(Address::Ip(address.into()))
        }
        libc::AF_UNIX => {
            // SAFETY: a sockaddr_storage of this family holds a sockaddr_un, for which it is large and aligned.
            let inner = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_un>() };
            let path = inner.sun_path.map(|byte| byte as u8);
            let len = (len as usize).saturating_sub(NAME).min(path.len());
            Some(Address::Unix(decode_unix(&path[..len])))
        }
        _ => None,
    }
}

fn decode_unix(bytes: &[u8]) -> UnixName {
    let name = match bytes {
        [] => Ok(UnixName::UNNAMED),
        [0, name @ ..] => UnixName::abstract_name(name),
        path => UnixName::path(path.split(|byte| *byte == 0).next().unwrap_or(path)),
    };
    name.expect("a part of sun_path is short enough, and of a path what is before its first zero")
}
