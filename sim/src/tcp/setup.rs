//! The calls that give a socket its role: bind, listen, accept, connect, and the getters of its two addresses.
//!
//! `connect` never completes at once: it answers EINPROGRESS, on loopback too, and the handshake is two packets later.
//! What it answers the next time depends on [`Phase`], which only `connect` itself and `shutdown` move on:
//!
//! | phase | state | connect answers |
//! |---|---|---|
//! | Unconnected | Closed | EINPROGRESS, or why not |
//! | Unconnected | other | EISCONN |
//! | Connecting | SynSent | EALREADY |
//! | Connecting | Closed | the pending error, or ECONNABORTED; Unconnected again |
//! | Connecting | other | success, once: Connected |
//! | Connected | any | EISCONN |
//! | Disconnecting | any | EINVAL |

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use machinarium::kernel::{Address, Domain, Errno, Fd, Result};

use super::{Backlog, Flow, Phase, Shut, Socket, State, any};
use crate::env::{Env, Packet, ProcessIndex};
use crate::files::File;
use crate::net::Net;
use crate::slab::Key;

/// net.core.somaxconn.
const BACKLOG_MOST: u32 = 4_096;

impl Net {
    /// `bind(2)`.
    pub(crate) fn bind_tcp(&mut self, key: Key, address: &Address) -> Result<()> {
        let socket = &self.sockets[key];
        let address = check_family(socket.domain, address)?;
        let ip = address.ip().to_canonical();
        if ip.is_ipv4() && socket.domain == Domain::Inet6 && socket.options.v6_only {
            return Err(Errno::INVAL);
        }
        if !ip.is_unspecified() && !self.host(socket.host).has(ip) {
            return Err(Errno::ADDRNOTAVAIL);
        }
        if socket.state != State::Closed || socket.has_port {
            return Err(Errno::INVAL);
        }
        self.sockets[key].local.set_ip(ip);
        let taken = self.take_port(key, address.port());
        let socket = &mut self.sockets[key];
        match taken {
            Ok(port) => {
                socket.local.set_port(port);
                socket.bound_address = !ip.is_unspecified();
                socket.bound_port = address.port() != 0;
                socket.has_port = true;
                Ok(())
            }
            Err(errno) => {
                // The address is lost, and a port that was given up goes on to be seen.
                socket.local.set_ip(any(socket.domain));
                Err(errno)
            }
        }
    }

    /// `listen(2)`; again on a listener, it changes the backlog.
    pub(crate) fn listen_tcp(&mut self, key: Key, backlog: u32) -> Result<()> {
        let limit = backlog.min(BACKLOG_MOST);
        let socket = &mut self.sockets[key];
        if socket.phase != Phase::Unconnected {
            return Err(Errno::INVAL);
        }
        match (socket.state, &mut socket.backlog) {
            (State::Listen, Some(waiting)) => {
                waiting.limit = limit;
                return Ok(());
            }
            (State::Closed, _) => {}
            _ => return Err(Errno::INVAL),
        }
        let port = socket.local.port();
        if !socket.has_port {
            let port = self.take_port(key, 0)?;
            self.sockets[key].local.set_port(port);
            self.sockets[key].has_port = true;
        } else if self.conflicts(key, port) {
            return Err(Errno::ADDRINUSE);
        }
        let socket = &mut self.sockets[key];
        socket.state = State::Listen;
        socket.backlog = Some(Box::new(Backlog { limit, queue: VecDeque::new(), incoming: Vec::new() }));
        Ok(())
    }

    /// `accept4(2)`. As on Linux a connection that was reset while it waited is accepted, and then found reset.
    pub(crate) fn accept_tcp(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        key: Key,
    ) -> Result<(Fd, SocketAddr)> {
        let waiting = self.sockets[key].backlog.as_mut().ok_or(Errno::INVAL)?;
        let child = waiting.queue.pop_front().ok_or(Errno::AGAIN)?;
        let fd = self.table_mut(process).insert(File::Socket(child)).expect("room was checked");
        let socket = &mut self.sockets[child];
        socket.listener = None;
        socket.owned = true;
        let peer = socket.shown(socket.remote.expect("an accepted socket has a peer"));
        if env.tracing() {
            env.note(socket.host, format_args!("accepted {} from {peer}", socket.local));
        }
        Ok((fd, peer))
    }

    /// `connect(2)`.
    pub(crate) fn connect_tcp(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
        key: Key,
        address: &Address,
    ) -> Result<()> {
        let socket = &mut self.sockets[key];
        match (socket.phase, socket.state) {
            (Phase::Disconnecting, _) => Err(Errno::INVAL),
            (Phase::Connected, _) => Err(Errno::ISCONN),
            (Phase::Connecting, State::SynSent) => Err(Errno::ALREADY),
            (Phase::Connecting, State::Closed) => {
                let errno = socket.error.take().unwrap_or(Errno::CONNABORTED);
                socket.phase = Phase::Unconnected;
                self.disconnect(env, key);
                Err(errno)
            }
            (Phase::Connecting, _) => {
                socket.phase = Phase::Connected;
                Ok(())
            }
            (Phase::Unconnected, State::Closed) => {
                let address = check_family(socket.domain, address)?;
                let key = if socket.used { self.renew(process, fd, key) } else { key };
                self.open(env, key, &address)
            }
            (Phase::Unconnected, _) => Err(Errno::ISCONN),
        }
    }

    /// Sends the SYN.
    fn open(&mut self, env: &mut dyn Env, key: Key, address: &SocketAddr) -> Result<()> {
        let (local, remote) = self.endpoints(env, key, address)?;
        let host = self.sockets[key].host;
        let peer_host = self.route(host, remote.ip())?;
        let round_trip = self.links.round_trip(host, peer_host);
        let socket = &mut self.sockets[key];
        socket.local = local;
        socket.has_port = true;
        socket.remote = Some(remote);
        socket.peer_host = peer_host;
        socket.state = State::SynSent;
        socket.phase = Phase::Connecting;
        socket.used = true;
        socket.error = None;
        socket.done = false;
        socket.timer.start(env.now(), round_trip);
        socket.timer.expect_handshake();
        self.host_mut(host).flows.insert(Flow::new(local, remote), key);
        self.transmit(env, key, Packet::Syn);
        self.arm(env, key);
        Err(Errno::INPROGRESS)
    }

    /// Both ends of the connection that `connect` is to open.
    fn endpoints(
        &mut self,
        env: &mut dyn Env,
        key: Key,
        to: &SocketAddr,
    ) -> Result<(SocketAddr, SocketAddr)> {
        let Socket { host, local, domain, .. } = self.sockets[key];
        let v6_only = self.sockets[key].options.v6_only;
        let target = match to.ip().to_canonical() {
            // To anywhere means to oneself; IPv6 says where that is, whatever one's address.
            IpAddr::V4(ip) if ip.is_unspecified() => match local.ip() {
                IpAddr::V4(own) if !own.is_unspecified() => own.into(),
                _ => Ipv4Addr::LOCALHOST.into(),
            },
            IpAddr::V6(ip) if ip.is_unspecified() && local.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        if target.is_ipv4() && domain == Domain::Inet6 && (v6_only || is_strictly_v6(local.ip())) {
            return Err(Errno::NETUNREACH);
        }
        let remote = SocketAddr::new(target, to.port());
        self.route(host, target)?;
        let ip = if local.ip().is_unspecified() { self.source_for(host, target)? } else { local.ip() };
        if ip.is_loopback() && !self.host(host).has(target) {
            return Err(Errno::INVAL);
        }
        if !self.sockets[key].has_port {
            let port = self.port_for(host, ip, remote)?;
            return Ok((SocketAddr::new(ip, port), remote));
        }
        let local = SocketAddr::new(ip, local.port());
        if !self.is_flow_free(env.now(), host, Flow::new(local, remote)) {
            return Err(Errno::ADDRNOTAVAIL);
        }
        Ok((local, remote))
    }

    /// A socket that had a connection before becomes another one, so that late packets of the old connection find nobody.
    fn renew(&mut self, process: ProcessIndex, fd: Fd, old: Key) -> Key {
        let before = self.sockets.remove(old);
        let identity = self.next_identity(before.host);
        let mut socket = Socket::new(before.host, before.domain, identity, before.options);
        socket.owned = true;
        socket.bound_address = before.bound_address;
        socket.bound_port = before.bound_port;
        socket.has_port = before.has_port;
        socket.local = before.local;
        socket.watchers = before.watchers;
        socket.shut = before.shut;
        let new = self.sockets.insert(socket);
        self.rename_port(old, new);
        self.table_mut(process).replace(fd, File::Socket(new));
        for item in &self.sockets[new].watchers {
            self.items[*item].file = File::Socket(new);
        }
        new
    }

    /// `tcp_disconnect` of what is Closed already: it can connect anew.
    pub(super) fn disconnect(&mut self, env: &mut dyn Env, key: Key) {
        let socket = &mut self.sockets[key];
        assert_eq!(socket.state, State::Closed);
        socket.shut = Shut::default();
        socket.done = false;
        socket.remote = None;
        let unread = socket.receiving.queue.len();
        socket.receiving.queue.clear();
        socket.receiving.urgent = None;
        socket.receiving.fin = false;
        if !socket.bound_address {
            socket.local.set_ip(any(socket.domain));
        }
        // The port stays to be seen, though it is given up: `has_port` knows.
        self.refuse(unread as u64);
        self.notify(env, File::Socket(key), machinarium::kernel::Events::ERR);
    }

    /// `getsockname(2)`.
    pub(crate) fn name_of_tcp(&self, key: Key) -> SocketAddr {
        let socket = &self.sockets[key];
        // Never bound, an IPv6 socket shows [::], not 0.0.0.0 in IPv6.
        let local = socket.local;
        if local.ip().is_unspecified() && local.is_ipv6() { local } else { socket.shown(local) }
    }

    /// `getpeername(2)`.
    pub(crate) fn peer_of_tcp(&self, key: Key) -> Result<SocketAddr> {
        let socket = &self.sockets[key];
        match socket.state {
            State::Closed | State::SynSent | State::Listen => Err(Errno::NOTCONN),
            _ => socket.remote.map(|remote| socket.shown(remote)).ok_or(Errno::NOTCONN),
        }
    }
}

/// The address, if it is of the socket's family; else EINVAL if it is too short for that, and EAFNOSUPPORT if not.
pub(crate) fn check_family(domain: Domain, address: &Address) -> Result<SocketAddr> {
    match address {
        Address::Ip(ip) if Domain::of(ip) == domain => Ok(*ip),
        other if encoded_len(other) < least_len(domain) => Err(Errno::INVAL),
        _ => Err(Errno::AFNOSUPPORT),
    }
}

/// `sizeof(struct sockaddr_in)` and `SIN6_LEN_RFC2133`.
fn least_len(domain: Domain) -> usize {
    if domain == Domain::Inet6 { 24 } else { 16 }
}

/// How long the address is in the kernel's terms.
pub(crate) fn encoded_len(address: &Address) -> usize {
    match address {
        Address::Ip(SocketAddr::V4(_)) => 16,
        Address::Ip(SocketAddr::V6(_)) => 28,
        Address::Unix(name) => {
            let path = name.as_path().map_or(0, <[u8]>::len);
            2 + path + name.as_abstract().map_or(0, |name| 1 + name.len())
        }
    }
}

fn is_strictly_v6(ip: IpAddr) -> bool {
    ip.is_ipv6() && !ip.is_unspecified()
}
