//! The system calls on sockets: which protocol a descriptor's socket has, and the method of that protocol.
//!
//! Owns nothing. Every call finds its socket first: EBADF if the number is nobody's, ENOTSOCK if it is of something else.

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
    Udp(Key),
    Unix(Key),
}

use Protocol::{Tcp, Udp, Unix};

impl Net {
    pub(crate) fn protocol_of(&self, process: ProcessIndex, fd: Fd) -> Result<Protocol> {
        match self.table(process).get(fd)? {
            File::Socket(key) => Ok(Tcp(key)),
            File::Udp(key) => Ok(Udp(key)),
            File::Unix(key) => Ok(Unix(key)),
            File::Epoll(_) | File::Eventfd(_) | File::Disk(_) => Err(Errno::NOTSOCK),
        }
    }

    /// Whether it is a socket of TCP.
    pub(crate) fn is_tcp(&self, process: ProcessIndex, fd: Fd) -> bool {
        matches!(self.protocol_of(process, fd), Ok(Tcp(_)))
    }

    /// Whether it keeps messages apart.
    pub(crate) fn is_datagram(&self, process: ProcessIndex, fd: Fd) -> bool {
        match self.protocol_of(process, fd) {
            Ok(Unix(key)) => self.unixes[key].kind() == SocketKind::Datagram,
            Ok(Udp(_)) => true,
            Ok(Tcp(_)) | Err(_) => false,
        }
    }

    /// Whether nobody has said how large the socket's buffers are to be.
    pub(crate) fn has_default_buffers(&self, process: ProcessIndex, fd: Fd) -> bool {
        match self.protocol_of(process, fd) {
            Ok(Tcp(key)) => self.sockets[key].options.has_default_buffers(),
            _ => true,
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
        self.table(process).check_room()?;
        let host = self.processes[process.0 as usize].host;
        let file = match (domain, kind) {
            (Domain::Unix, kind) => File::Unix(self.new_unix(host, kind)),
            (_, SocketKind::Stream) => File::Socket(self.new_socket(host, domain)),
            (_, SocketKind::Datagram) => File::Udp(self.new_udp(host, domain)),
        };
        self.table_mut(process).insert(file)
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
            Udp(key) => self.bind_udp(key, address),
            Unix(key) => self.bind_unix(key, address),
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
            Udp(_) => Err(Errno::OPNOTSUPP),
            Unix(key) => self.listen_unix(process, key, backlog),
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
            Udp(_) => Err(Errno::OPNOTSUPP),
            Unix(key) => self.accept_unix(process, key).map(|(fd, peer)| (fd, peer.into())),
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
            Udp(key) => self.connect_udp(key, address),
            Unix(key) => self.connect_unix(env, process, key, address),
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
            Udp(key) => self.shutdown_udp(env, key, how),
            Unix(key) => {
                self.shutdown_unix(env, key, how);
                Ok(())
            }
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
            Udp(key) => self.udps[key].name().into(),
            Unix(key) => self.unixes[key].name().into(),
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
            Udp(key) => self.udps[key].peer()?.into(),
            Unix(key) => self.peer_of_unix(key)?.into(),
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
            Udp(key) => self.udps[key].option(name),
            Unix(key) => self.unixes[key].option(name),
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
            Udp(key) => self.set_udp_option(env, key, option),
            Unix(key) => self.set_unix_option(env, key, option),
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
            Ok(Udp(key)) => Ok(self.udps[key].pending()),
            Ok(Unix(key)) => self.unixes[key].pending(),
            // An epoll instance has requests of its own, of which this is none.
            Err(Errno::NOTSOCK) => match self.table(process).get(fd)? {
                File::Epoll(_) => Err(Errno::INVAL),
                File::Disk(key) => self.unread(key),
                _ => Err(Errno::NOTTY),
            },
            Err(errno) => Err(errno),
        }
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
            Udp(key) => self.receive_udp(key, bufs, flags),
            Unix(key) => self.receive_unix(env, key, bufs, flags),
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
        to: Option<&Address>,
    ) -> Result<usize> {
        match protocol {
            // Linux does not look at the address that comes with bytes of a stream.
            Tcp(key) => self.transfer(env, key, bufs, flags),
            Udp(key) => self.send_udp(env, key, bufs, flags, to),
            Unix(key) => self.send_unix(env, key, bufs, flags, to),
        }
    }
}
