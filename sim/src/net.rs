//! All objects of all simulated kernels of a world.
#![allow(unused_variables, dead_code)]

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Shutdown, SocketAddr};

use machinarium::kernel::{
    Domain, EpollEvent, EpollOp, Errno, Events, Fd, OptionName, RecvFlags, Result, SendFlags, SocketKind,
    SocketOption,
};

use crate::env::{Env, EpollKey, HostIndex, NetEvent, ProcessIndex};
use crate::link::LinkOptions;

pub(crate) struct Net {}

/// Where the payload bytes of a world went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Books {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) refused: u64,
    pub(crate) lost: u64,
}

type World<'a> = &'a mut dyn Env;

impl Net {
    pub(crate) fn new() -> Net {
        Net {}
    }
    pub(crate) fn add_host(&mut self, name: &str, addresses: &[IpAddr]) -> HostIndex {
        HostIndex(0)
    }
    pub(crate) fn add_process(&mut self, host: HostIndex) -> ProcessIndex {
        ProcessIndex(0)
    }
    /// RLIMIT_NOFILE.
    pub(crate) fn set_descriptor_limit(&mut self, process: ProcessIndex, limit: usize) {}

    pub(crate) fn socket(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        domain: Domain,
        kind: SocketKind,
    ) -> Result<Fd> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn bind(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        fd: Fd,
        address: &SocketAddr,
    ) -> Result<()> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn listen(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        fd: Fd,
        backlog: u32,
    ) -> Result<()> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn accept4(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        fd: Fd,
    ) -> Result<(Fd, SocketAddr)> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn connect(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        fd: Fd,
        address: &SocketAddr,
    ) -> Result<()> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn shutdown(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        fd: Fd,
        how: Shutdown,
    ) -> Result<()> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn getsockname(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        fd: Fd,
    ) -> Result<SocketAddr> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn getpeername(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        fd: Fd,
    ) -> Result<SocketAddr> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn getsockopt(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        fd: Fd,
        name: OptionName,
    ) -> Result<SocketOption> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn setsockopt(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        fd: Fd,
        option: SocketOption,
    ) -> Result<()> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn read(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        fd: Fd,
        buf: &mut [u8],
    ) -> Result<usize> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn readv(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        fd: Fd,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Result<usize> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn write(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        fd: Fd,
        buf: &[u8],
    ) -> Result<usize> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn recv(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        fd: Fd,
        buf: &mut [u8],
        flags: RecvFlags,
    ) -> Result<usize> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn send(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        fd: Fd,
        buf: &[u8],
        flags: SendFlags,
    ) -> Result<usize> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn sendmsg(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        fd: Fd,
        bufs: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> Result<usize> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn close(&mut self, env: World<'_>, process: ProcessIndex, fd: Fd) -> Result<()> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn epoll_create1(&mut self, env: World<'_>, process: ProcessIndex) -> Result<Fd> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn epoll_ctl(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        epoll: Fd,
        op: EpollOp,
        fd: Fd,
    ) -> Result<()> {
        Err(Errno::NOSYS)
    }
    /// `epoll_wait` that does not sleep.
    pub(crate) fn epoll_poll(
        &mut self,
        env: World<'_>,
        process: ProcessIndex,
        epoll: Fd,
        events: &mut [EpollEvent],
    ) -> Result<usize> {
        Err(Errno::NOSYS)
    }
    /// Which instance a thread that goes to sleep waits for.
    pub(crate) fn epoll_key(&self, process: ProcessIndex, epoll: Fd) -> Result<EpollKey> {
        Err(Errno::NOSYS)
    }
    pub(crate) fn eventfd(&mut self, env: World<'_>, process: ProcessIndex, initial: u32) -> Result<Fd> {
        Err(Errno::NOSYS)
    }

    pub(crate) fn deliver(&mut self, env: World<'_>, event: NetEvent) {}
    /// kill -9: descriptors closed by the kernel.
    pub(crate) fn crash_process(&mut self, env: World<'_>, process: ProcessIndex) {}
    /// The host goes dark: nothing is sent, everything is forgotten, its processes have no descriptors any more.
    pub(crate) fn power_off(&mut self, env: World<'_>, host: HostIndex) {}
    /// The host is there again, with a fresh stack. Add new processes to it.
    pub(crate) fn power_on(&mut self, env: World<'_>, host: HostIndex) {}
    pub(crate) fn partition(&mut self, a: HostIndex, b: HostIndex) {}
    pub(crate) fn partition_one_way(&mut self, from: HostIndex, to: HostIndex) {}
    pub(crate) fn heal(&mut self, a: HostIndex, b: HostIndex) {}
    /// Both directions.
    pub(crate) fn set_link(&mut self, a: HostIndex, b: HostIndex, options: LinkOptions) {}
    pub(crate) fn set_default_link(&mut self, options: LinkOptions) {}
    pub(crate) fn netstat(&self, host: HostIndex) -> String {
        String::new()
    }
    /// What epoll would tell of the descriptor now, for oracles: asking changes nothing.
    pub(crate) fn readiness(&self, process: ProcessIndex, fd: Fd) -> Result<Events> {
        Err(Errno::NOSYS)
    }
    /// Open descriptors, each with what it is, for the report of leaks.
    pub(crate) fn descriptors(&self, process: ProcessIndex) -> Vec<(Fd, String)> {
        Vec::new()
    }
    pub(crate) fn books(&self) -> Books {
        Books::default()
    }
    /// # Panics
    /// If payload bytes came or went that nobody accounts for.
    pub(crate) fn check_conservation(&self) {}
}
