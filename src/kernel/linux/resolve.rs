//! `getaddrinfo(3)`: hints to C, its list to addresses.
//!
//! Owns the list for as long as it is copied. A name server that is slow keeps the thread in here, for as long as
//! `resolv.conf(5)` says: 5 seconds for each try.

use std::ffi::CStr;
use std::mem::{self, MaybeUninit};
use std::net::SocketAddr;
use std::ptr;

use super::address::decode;
use super::{failed, flag};
use crate::kernel::{Address, Call, Family, Query, ResolveError};

pub(super) fn resolve(query: &Query<'_>) -> Result<Vec<SocketAddr>, ResolveError> {
    let text = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    let hints = hints(query);
    let mut list = ptr::null_mut();
    // SAFETY: the texts end with a zero or are null, the hints live through the call, and `list` has room for a pointer.
    let code =
        unsafe { libc::getaddrinfo(text(query.node), text(query.service), &raw const hints, &mut list) };
    match code {
        0 => Ok(List(list).addresses()),
        libc::EAI_SYSTEM => Err(ResolveError::System(failed(Call::Getaddrinfo))),
        code => Err(ResolveError::from_code(code)),
    }
}

fn hints(query: &Query<'_>) -> libc::addrinfo {
    // SAFETY: all zero is a valid addrinfo: no flags, any family, null pointers.
    let mut hints: libc::addrinfo = unsafe { mem::zeroed() };
    hints.ai_family = match query.family {
        Family::Any => libc::AF_UNSPEC,
        Family::Inet => libc::AF_INET,
        Family::Inet6 => libc::AF_INET6,
    };
    hints.ai_socktype = libc::SOCK_STREAM;
    hints.ai_flags = flag(query.passive, libc::AI_PASSIVE)
        | flag(query.numeric_host, libc::AI_NUMERICHOST)
        | flag(query.numeric_service, libc::AI_NUMERICSERV)
        | flag(query.address_config, libc::AI_ADDRCONFIG);
    hints
}

/// What getaddrinfo has allocated.
struct List(*mut libc::addrinfo);

impl List {
    fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        let mut entry: *const libc::addrinfo = self.0;
        while !entry.is_null() {
            // SAFETY: an entry of a list that getaddrinfo made and that `self` has not yet freed.
            let info = unsafe { &*entry };
            addresses.extend(address(info));
            entry = info.ai_next;
        }
        addresses
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the list is getaddrinfo's, and this is its only owner.
        unsafe { libc::freeaddrinfo(self.0) };
    }
}

/// The address of an entry, if it is of a family this library has.
fn address(info: &libc::addrinfo) -> Option<SocketAddr> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let len = (info.ai_addrlen as usize).min(size_of::<libc::sockaddr_storage>());
    // SAFETY: the entry's address has `ai_addrlen` bytes; `storage` has room for `len`, which is no more.
    unsafe { ptr::copy_nonoverlapping(info.ai_addr.cast::<u8>(), storage.as_mut_ptr().cast::<u8>(), len) };
    // SAFETY: all zero is a valid sockaddr_storage, and an address was written over it.
    match decode(unsafe { storage.assume_init_ref() }, len as libc::socklen_t) {
        Some(Address::Ip(address)) => Some(address),
        _ => None,
    }
}
