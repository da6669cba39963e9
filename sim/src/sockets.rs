//! The system calls on sockets: which protocol a descriptor's socket has, and the method of that protocol.
//!
//! Owns nothing. Every call finds its socket first: EBADF if the number is nobody's, ENOTSOCK if it is of something else.

use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut};
use std::net::Shutdown;

use machinarium::kernel::{
    Address, Domain, Errno, Fd, OptionName, Received, RecvFlags, Result, SendFlags, SocketKind, SocketOption,
};

use crate::env::{Env, ProcessIndex};
use crate::files::File;
use crate::net::Net;
use crate::slab::Key;

/// A socket, by its protocol.
#[derive(Clone, Copy)]
pub(crate) enum Protocol {
    Tcp(Key),
}

use Protocol::Tcp;

impl Net {
    pub(crate) fn protocol_of(&self, process: ProcessIndex, fd: Fd) -> Result<Protocol> {
        match self.table(process).get(fd)? {
            File::Socket(key) => Ok(Tcp(key)),
            File::Epoll(_) | File::Eventfd(_) => Err(Errno::NOTSOCK),
        }
    }

    /// `socket(2)`.
    pub(crate) fn socket(
        &mut self,
        _env: &mut dyn Env,
        process: ProcessIndex,
        domain: Domain,
        kind: SocketKind,
    ) -> Result<Fd> {
        if domain == Domain::Unix || kind != SocketKind::Stream {
            return Err(Errno::AFNOSUPPORT);
        }
        self.table(process).check_room()?;
        let host = self.processes[process.0 as usize].host;
        let key = self.new_socket(host, domain);
        self.table_mut(process).insert(File::Socket(key))
    }

    /// `socketpair(2)`.
    pub(crate) fn socketpair(
        &mut self,
        _env: &mut dyn Env,
        _process: ProcessIndex,
        _kind: SocketKind,
    ) -> Result<(Fd, Fd)> {
        Err(Errno::AFNOSUPPORT)
    }

    /// `bind(2)`.
    pub(crate) fn bind(
        &mut self,
        _env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
        address: &Address,
    ) -> Result<()> {
        match self.protocol_of(process, fd)? {
            Tcp(key) => self.bind_tcp(key, address),
        }
    }

    /// `listen(2)`.
    pub(crate) fn listen(
        &mut self,
        _env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
        backlog: u32,
    ) -> Result<()> {
        match self.protocol_of(process, fd)? {
            Tcp(key) => self.listen_tcp(key, backlog),
        }
    }

    /// `accept4(2)`.
    pub(crate) fn accept4(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
    ) -> Result<(Fd, Address)> {
        self.table(process).get(fd)?;
        self.table(process).check_room()?;
        match self.protocol_of(process, fd)? {
            Tcp(key) => self.accept_tcp(env, process, key).map(|(fd, peer)| (fd, peer.into())),
        }
    }

    /// `connect(2)`.
    pub(crate) fn connect(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
        address: &Address,
    ) -> Result<()> {
        match self.protocol_of(process, fd)? {
            Tcp(key) => self.connect_tcp(env, process, fd, key, address),
        }
    }

    /// `shutdown(2)`.
    pub(crate) fn shutdown(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
        how: Shutdown,
    ) -> Result<()> {
        match self.protocol_of(process, fd)? {
            Tcp(key) => self.shutdown_tcp(env, key, how),
        }
    }

    /// `getsockname(2)`.
    pub(crate) fn getsockname(
        &mut self,
        _env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
    ) -> Result<Address> {
        Ok(match self.protocol_of(process, fd)? {
            Tcp(key) => self.name_of_tcp(key).into(),
        })
    }

    /// `getpeername(2)`.
    pub(crate) fn getpeername(
        &mut self,
        _env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
    ) -> Result<Address> {
        Ok(match self.protocol_of(process, fd)? {
            Tcp(key) => self.peer_of_tcp(key)?.into(),
        })
    }

    /// `getsockopt(2)`.
    pub(crate) fn getsockopt(
        &mut self,
        _env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
        name: OptionName,
    ) -> Result<SocketOption> {
        match self.protocol_of(process, fd)? {
            Tcp(key) => self.sockets[key].option(name),
        }
    }

    /// `setsockopt(2)`.
    pub(crate) fn setsockopt(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
        option: SocketOption,
    ) -> Result<()> {
        match self.protocol_of(process, fd)? {
            Tcp(key) => self.set_tcp_option(env, key, option),
        }
    }

    /// `ioctl(2)` with FIONREAD.
    pub(crate) fn ioctl_fionread(
        &mut self,
        _env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
    ) -> Result<usize> {
        match self.protocol_of(process, fd) {
            Ok(Tcp(key)) => self.sockets[key].pending(),
            Err(Errno::NOTSOCK) => Err(Errno::NOTTY),
            Err(errno) => Err(errno),
        }
    }

    /// `unlink(2)`. There are no files yet.
    pub(crate) fn unlink(&mut self, _env: &mut dyn Env, _process: ProcessIndex, _path: &CStr) -> Result<()> {
        Err(Errno::NOENT)
    }

    /// `recv(2)`.
    pub(crate) fn recv(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
        buf: &mut [u8],
        flags: RecvFlags,
    ) -> Result<usize> {
        let received = self.recvmsg(env, process, fd, &mut [IoSliceMut::new(buf)], flags)?;
        Ok(received.count)
    }

    /// `recvmsg(2)`.
    pub(crate) fn recvmsg(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
        bufs: &mut [IoSliceMut<'_>],
        flags: RecvFlags,
    ) -> Result<Received> {
        let protocol = self.protocol_of(process, fd)?;
        self.receive_from(env, protocol, bufs, flags)
    }

    /// What `recv`, `recvmsg` and `read` do, when the socket is found.
    pub(crate) fn receive_from(
        &mut self,
        env: &mut dyn Env,
        protocol: Protocol,
        bufs: &mut [IoSliceMut<'_>],
        flags: RecvFlags,
    ) -> Result<Received> {
        match protocol {
            Tcp(key) => {
                let count = self.receive(env, key, bufs, flags)?;
                Ok(Received { count, from: None, truncated: false })
            }
        }
    }

    /// `send(2)`.
    pub(crate) fn send(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
        buf: &[u8],
        flags: SendFlags,
    ) -> Result<usize> {
        self.sendmsg(env, process, fd, &[IoSlice::new(buf)], flags, None)
    }

    /// `sendmsg(2)`.
    pub(crate) fn sendmsg(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
        bufs: &[IoSlice<'_>],
        flags: SendFlags,
        to: Option<&Address>,
    ) -> Result<usize> {
        let protocol = self.protocol_of(process, fd)?;
        self.send_to(env, protocol, bufs, flags, to)
    }

    /// What `send`, `sendmsg` and `write` do, when the socket is found.
    pub(crate) fn send_to(
        &mut self,
        env: &mut dyn Env,
        protocol: Protocol,
        bufs: &[IoSlice<'_>],
        flags: SendFlags,
        _to: Option<&Address>,
    ) -> Result<usize> {
        match protocol {
            // Linux does not look at the address that comes with bytes of a stream.
            Tcp(key) => self.transfer(env, key, bufs, flags),
        }
    }
}
