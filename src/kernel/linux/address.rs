//! Addresses: std's to the kernel's `sockaddr`, and back.
//!
//! Owns nothing. Families other than IPv4 and IPv6 are answered with `None`: this library makes no socket of them yet.

use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

use libc::{c_int, socklen_t};

use crate::kernel::{Errno, Result};

/// What a call such as `getsockname` writes to the address it is given.
pub(super) fn name(
    ask: impl FnOnce(*mut libc::sockaddr, *mut socklen_t) -> Result<c_int>,
) -> Result<SocketAddr> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut len = size_of::<libc::sockaddr_storage>() as socklen_t;
    ask(storage.as_mut_ptr().cast(), &mut len)?;
    // SAFETY: all zero is a valid sockaddr_storage, and the kernel wrote over it.
    decode(unsafe { storage.assume_init_ref() }).ok_or(Errno::AFNOSUPPORT)
}

/// An address as the kernel wants it, with the length of what counts of it.
pub(super) fn encode(address: &SocketAddr) -> (libc::sockaddr_storage, socklen_t) {
    // SAFETY: all zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let len = match address {
        SocketAddr::V4(address) => {
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
        SocketAddr::V6(address) => {
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
    };
    (storage, len as socklen_t)
}

/// The address that the kernel wrote, if it is of a family this library has.
pub(super) fn decode(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: a sockaddr_storage of this family holds a sockaddr_in, for which it is large and aligned.
            let inner = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(inner.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(inner.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: a sockaddr_storage of this family holds a sockaddr_in6, for which it is large and aligned.
            let inner = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let (ip, port) = (Ipv6Addr::from(inner.sin6_addr.s6_addr), u16::from_be(inner.sin6_port));
            Some(SocketAddrV6::new(ip, port, inner.sin6_flowinfo, inner.sin6_scope_id).into())
        }
        _ => None,
    }
}
