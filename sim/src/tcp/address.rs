//! Hosts, their addresses and ports, and who hears a packet.
//!
//! A host has two tables. `ports` has the sockets that were bound or listen, by port: it decides conflicts and finds
//! listeners. `flows` has the connections by their four numbers, accepted ones too: it finds who a packet is for. A connection
//! in TIME_WAIT is a note beside them, for 60 seconds, and a conflict like any other.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use machinarium::kernel::{Domain, Errno, Result};

use super::{Socket, State};
use crate::env::{Env, HostIndex, NetEvent, Stream, Subsystem};
use crate::net::Net;
use crate::slab::Key;
use crate::udp::UdpPorts;
use crate::unix::UnixNames;

/// `TCP_TIMEWAIT_LEN`.
pub(super) const TIME_WAIT: u64 = 60_000_000_000;
/// After which a connect may use it again on loopback (`tcp_tw_reuse` 2).
const TIME_WAIT_REUSE: u64 = 1_000_000_000;
/// net.ipv4.ip_local_port_range.
pub(crate) const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// A connection as one of its hosts knows it. Ordered by local port first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Flow {
    local_port: u16,
    remote_port: u16,
    local: IpAddr,
    remote: IpAddr,
}

impl Flow {
    pub(crate) fn new(local: SocketAddr, remote: SocketAddr) -> Flow {
        Flow { local_port: local.port(), remote_port: remote.port(), local: local.ip(), remote: remote.ip() }
    }

    /// The same connection as the other host knows it.
    pub(super) fn reversed(self) -> Flow {
        Flow {
            local_port: self.remote_port,
            remote_port: self.local_port,
            local: self.remote,
            remote: self.local,
        }
    }

    /// Bounds for all flows of a local port.
    fn of_port(port: u16) -> std::ops::RangeInclusive<Flow> {
        let least = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let most = IpAddr::V6(Ipv6Addr::from(u128::MAX));
        Flow { local_port: port, remote_port: 0, local: least, remote: least }..=Flow {
            local_port: port,
            remote_port: u16::MAX,
            local: most,
            remote: most,
        }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        SocketAddr::new(self.local, self.local_port)
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote, self.remote_port)
    }
}

/// What is left of a connection that closed first.
#[derive(Clone, Copy)]
pub(crate) struct TimeWait {
    pub(crate) until: u64,
    reuse_address: bool,
    reuse_port: bool,
}

/// A host's network stack.
pub(crate) struct Host {
    pub(crate) name: String,
    addresses: Vec<IpAddr>,
    /// It has power.
    pub(crate) up: bool,
    ports: BTreeMap<u16, Vec<Key>>,
    pub(crate) flows: BTreeMap<Flow, Key>,
    pub(crate) time_wait: BTreeMap<Flow, TimeWait>,
    /// The same by end.
    time_wait_ends: VecDeque<(u64, Flow)>,
    /// Where the search for a free port goes on.
    cursor: u16,
    /// The ports of UDP are others.
    pub(crate) udp: UdpPorts,
    pub(crate) unix: UnixNames,
    pub(super) sockets_made: u32,
}

impl Host {
    pub(crate) fn new(name: &str, addresses: &[IpAddr]) -> Host {
        Host {
            name: name.to_owned(),
            addresses: addresses.iter().map(IpAddr::to_canonical).collect(),
            up: true,
            ports: BTreeMap::new(),
            flows: BTreeMap::new(),
            time_wait: BTreeMap::new(),
            time_wait_ends: VecDeque::new(),
            cursor: *EPHEMERAL.start(),
            udp: UdpPorts::default(),
            unix: UnixNames::default(),
            sockets_made: 0,
        }
    }

    /// Forgets all connections, as a power cut does.
    pub(crate) fn forget(&mut self) {
        self.ports.clear();
        self.flows.clear();
        self.time_wait.clear();
        self.time_wait_ends.clear();
        self.udp.owners.clear();
    }

    pub(crate) fn has(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.addresses.contains(&ip)
    }

    fn first_of(&self, v4: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|ip| ip.is_ipv4() == v4)
    }

    /// The next ephemeral port that is `free`, in turn, so that one just given up is not given to a stranger at once.
    fn ephemeral(&mut self, free: impl Fn(&Host, u16) -> bool) -> Option<u16> {
        for _ in EPHEMERAL {
            let port = self.cursor;
            self.cursor = if port == *EPHEMERAL.end() { *EPHEMERAL.start() } else { port + 1 };
            if free(self, port) {
                return Some(port);
            }
        }
        None
    }

    fn is_untouched(&self, port: u16) -> bool {
        let flows = self.flows.range(Flow::of_port(port)).next().is_none();
        let waits = self.time_wait.range(Flow::of_port(port)).next().is_none();
        !self.ports.contains_key(&port) && flows && waits
    }
}

impl Net {
    pub(crate) fn host(&self, host: HostIndex) -> &Host {
        &self.hosts[host.0 as usize]
    }

    pub(crate) fn host_mut(&mut self, host: HostIndex) -> &mut Host {
        &mut self.hosts[host.0 as usize]
    }

    /// Where a packet from `from` to `ip` goes.
    pub(crate) fn route(&self, from: HostIndex, ip: IpAddr) -> Result<HostIndex> {
        if self.host(from).has(ip) {
            return Ok(from);
        }
        self.addresses.get(&ip).copied().ok_or(Errno::NETUNREACH)
    }

    /// The address from which `from` talks to `ip`.
    pub(crate) fn source_for(&self, from: HostIndex, ip: IpAddr) -> Result<IpAddr> {
        match ip {
            IpAddr::V4(v4) if v4.is_loopback() => Ok(Ipv4Addr::LOCALHOST.into()),
            _ if self.host(from).has(ip) => Ok(ip),
            _ => self.host(from).first_of(ip.is_ipv4()).ok_or(Errno::NETUNREACH),
        }
    }

    /// Gives the socket the port, or an ephemeral one for 0: EADDRINUSE.
    pub(super) fn take_port(&mut self, key: Key, port: u16) -> Result<u16> {
        let host = self.sockets[key].host;
        let port = match port {
            0 => self.host_mut(host).ephemeral(Host::is_untouched).ok_or(Errno::ADDRINUSE)?,
            port if self.conflicts(key, port) => return Err(Errno::ADDRINUSE),
            port => port,
        };
        self.host_mut(host).ports.entry(port).or_default().push(key);
        Ok(port)
    }

    /// A port for a connection from `ip` to `remote`: one that no bound socket has, and not this connection's already.
    pub(super) fn port_for(&mut self, from: HostIndex, ip: IpAddr, remote: SocketAddr) -> Result<u16> {
        let free = |host: &Host, port: u16| {
            let flow = Flow::new(SocketAddr::new(ip, port), remote);
            !host.ports.contains_key(&port)
                && !host.flows.contains_key(&flow)
                && !host.time_wait.contains_key(&flow)
        };
        self.host_mut(from).ephemeral(free).ok_or(Errno::ADDRNOTAVAIL)
    }

    /// Whether a bound socket may open this connection: none like it, and no recent one in TIME_WAIT.
    pub(super) fn is_flow_free(&self, now: u64, host: HostIndex, flow: Flow) -> bool {
        let table = self.host(host);
        let local = table.has(flow.remote);
        let old = |wait: &TimeWait| local && wait.until <= now + TIME_WAIT - TIME_WAIT_REUSE;
        !table.flows.contains_key(&flow) && table.time_wait.get(&flow).is_none_or(old)
    }

    pub(super) fn give_up_port(&mut self, key: Key) {
        if !std::mem::replace(&mut self.sockets[key].has_port, false) {
            return;
        }
        let Socket { host, local, .. } = self.sockets[key];
        let ports = &mut self.host_mut(host).ports;
        if let Some(owners) = ports.get_mut(&local.port()) {
            owners.retain(|owner| *owner != key);
            if owners.is_empty() {
                ports.remove(&local.port());
            }
        }
    }

    /// The socket goes by another key from now on.
    pub(super) fn rename_port(&mut self, old: Key, new: Key) {
        let Socket { host, local, .. } = self.sockets[new];
        if let Some(owners) = self.host_mut(host).ports.get_mut(&local.port()) {
            owners.iter_mut().filter(|owner| **owner == old).for_each(|owner| *owner = new);
        }
    }

    /// `inet_csk_bind_conflict`: whether anybody at `port` forbids the socket to be there.
    pub(super) fn conflicts(&self, key: Key, port: u16) -> bool {
        let socket = &self.sockets[key];
        let host = self.host(socket.host);
        let bound = host.ports.get(&port).into_iter().flatten();
        let connected = host.flows.range(Flow::of_port(port)).map(|(_, owner)| owner);
        let mut others = bound.chain(connected).filter(|other| **other != key);
        let options = &socket.options;
        let mut waits = host.time_wait.range(Flow::of_port(port));
        others.any(|other| conflict(socket, &self.sockets[*other]))
            || waits.any(|(flow, wait)| {
                let reuse = options.reuse_address && wait.reuse_address;
                let share = options.reuse_port && wait.reuse_port;
                !reuse && !share && overlap(reach(socket), (flow.local, true))
            })
    }

    /// Who accepts a connection to `to`: the most specific listener, and among those that share the port a drawn one.
    pub(super) fn find_listener(&self, env: &mut dyn Env, host: HostIndex, to: SocketAddr) -> Option<Key> {
        let owners = self.host(host).ports.get(&to.port())?;
        let score = |key: Key| rank(&self.sockets[key], to.ip());
        let best = owners.iter().filter_map(|key| score(*key)).max()?;
        let count = owners.iter().filter(|key| score(**key) == Some(best)).count();
        let stream = Stream::new(Subsystem::Socket, u64::from(host.0) << 32);
        let chosen = if count > 1 { env.draw(stream, "reuseport", count as u64) as usize } else { 0 };
        owners.iter().copied().filter(|key| score(*key) == Some(best)).nth(chosen)
    }

    /// Notes that the socket's connection is in TIME_WAIT.
    pub(super) fn note_time_wait(&mut self, env: &mut dyn Env, key: Key) {
        let socket = &self.sockets[key];
        let Some(flow) = socket.flow() else { return };
        let until = env.now() + TIME_WAIT;
        let wait = TimeWait {
            until,
            reuse_address: socket.options.reuse_address,
            reuse_port: socket.options.reuse_port,
        };
        let index = socket.host;
        let host = self.host_mut(index);
        host.time_wait.insert(flow, wait);
        host.time_wait_ends.push_back((until, flow));
        if host.time_wait_ends.len() == 1 {
            env.after(TIME_WAIT, NetEvent::TimeWait(index));
        }
    }

    pub(super) fn end_time_waits(&mut self, env: &mut dyn Env, index: HostIndex) {
        let now = env.now();
        let host = self.host_mut(index);
        while let Some((until, flow)) = host.time_wait_ends.front().copied() {
            if until > now {
                env.after(until - now, NetEvent::TimeWait(index));
                return;
            }
            host.time_wait_ends.pop_front();
            // It may have been used again, and have come to another end.
            if host.time_wait.get(&flow).is_some_and(|wait| wait.until <= now) {
                host.time_wait.remove(&flow);
            }
        }
    }
}

/// An address, and whether only its own family counts.
fn reach(socket: &Socket) -> (IpAddr, bool) {
    (socket.local.ip(), socket.domain == Domain::Inet || socket.options.v6_only)
}

/// Whether some destination is both's.
pub(crate) fn overlap(a: (IpAddr, bool), b: (IpAddr, bool)) -> bool {
    let covers = |(any, strict): (IpAddr, bool), other: IpAddr| {
        any.is_unspecified() && (any.is_ipv4() == other.is_ipv4() || (any.is_ipv6() && !strict))
    };
    a.0 == b.0 || covers(a, b.0) || covers(b, a.0)
}

fn conflict(one: &Socket, other: &Socket) -> bool {
    let reuse = one.options.reuse_address && other.options.reuse_address && other.state != State::Listen;
    let share = one.options.reuse_port && other.options.reuse_port;
    !reuse && !share && overlap(reach(one), reach(other))
}

/// How well a socket listens to `ip`: its very address before any, its own family before both.
fn rank(socket: &Socket, ip: IpAddr) -> Option<u32> {
    let (local, strict) = reach(socket);
    let hears = local == ip
        || (local.is_unspecified() && (local.is_ipv4() == ip.is_ipv4() || (local.is_ipv6() && !strict)));
    let family = u32::from(socket.domain == Domain::Inet);
    (socket.state == State::Listen && hears).then(|| 2 * u32::from(local == ip) + family)
}
