//! Messages: `sendmsg` and `recvmsg`, with the address that goes with a datagram.
//!
//! Owns nothing. There are no control messages: descriptors are not passed.

use std::io::{IoSlice, IoSliceMut};
use std::mem::{self, MaybeUninit};
use std::ptr;

use libc::socklen_t;

use super::address::{decode, encode};
use super::{count, failed, recv_flags, send_flags};
use crate::kernel::{Address, Call, Fd, Received, RecvFlags, Result, SendFlags};

pub(super) fn send(fd: Fd, bufs: &[IoSlice<'_>], flags: SendFlags, to: Option<&Address>) -> Result<usize> {
    let mut name = to.map(encode);
    // SAFETY: all zero is a valid msghdr: no name, no buffers, no control messages.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = bufs.as_ptr().cast_mut().cast();
    message.msg_iovlen = bufs.len() as _;
    if let Some((address, len)) = &mut name {
        message.msg_name = ptr::from_mut(address).cast();
        message.msg_namelen = *len;
    }
    // SAFETY: std promises that IoSlice has the layout of iovec; sendmsg only reads through `msg_iov` and `msg_name`,
    // and `encode` answers an address with its length, which lives until the end of this function.
    unsafe { syscall!(Sendmsg: sendmsg(fd.raw(), &raw const message, send_flags(flags))) }.map(count)
}

pub(super) fn receive(fd: Fd, bufs: &mut [IoSliceMut<'_>], flags: RecvFlags) -> Result<Received> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    // SAFETY: all zero is a valid msghdr: no name, no buffers, no control messages.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = bufs.as_mut_ptr().cast();
    message.msg_iovlen = bufs.len() as _;
    message.msg_name = storage.as_mut_ptr().cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as socklen_t;
    // SAFETY: std promises that IoSliceMut has the layout of iovec, each a buffer that we may write; `msg_name` has room
    // for `msg_namelen` bytes.
    let answer = unsafe { syscall!(Recvmsg: recvmsg(fd.raw(), &raw mut message, recv_flags(flags))) }?;
    let from = match message.msg_namelen {
        0 => None,
        // SAFETY: all zero is a valid sockaddr_storage, and the kernel wrote over it.
        len => decode(unsafe { storage.assume_init_ref() }, len),
    };
    Ok(Received { count: count(answer), from, truncated: message.msg_flags & libc::MSG_TRUNC != 0 })
}
