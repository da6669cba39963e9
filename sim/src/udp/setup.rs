//! Ports of UDP, peers, and who hears a datagram: `udp_lib_get_port`, `__ip4_datagram_connect`, `udp4_lib_lookup2`.
//!
//! Sockets that share a port by SO_REUSEADDR do not share its datagrams: the one bound last hears them all. Those that
//! share it by SO_REUSEPORT are drawn from. A connected socket is before all that are not, and hears nobody but its peer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use machinarium::kernel::{Address, Domain, Errno, Result};

use super::{Route, Udp};
use crate::env::{Env, HostIndex, Stream, Subsystem};
use crate::net::Net;
use crate::slab::Key;
use crate::tcp::{EPHEMERAL, check_family, overlap};

impl Net {
    /// `inet_bind`.
    pub(crate) fn bind_udp(&mut self, key: Key, address: &Address) -> Result<()> {
        let socket = &self.udps[key];
        let address = check_family(socket.domain, address)?;
        let ip = address.ip().to_canonical();
        if ip.is_ipv4() && socket.domain == Domain::Inet6 && socket.options.v6_only {
            return Err(Errno::INVAL);
        }
        if !ip.is_unspecified() && !self.host(socket.host).has(ip) {
            return Err(Errno::ADDRNOTAVAIL);
        }
        if socket.has_port {
            return Err(Errno::INVAL);
        }
        let before = socket.local.ip();
        self.udps[key].local.set_ip(ip);
        let taken = self.take_udp_port(key, address.port());
        if taken.is_err() {
            self.udps[key].local.set_ip(before);
        }
        taken
    }

    /// The first call of a socket that needs a port takes one (`inet_autobind`).
    pub(super) fn autobind_udp(&mut self, key: Key) -> Result<()> {
        if self.udps[key].has_port { Ok(()) } else { self.take_udp_port(key, 0).map_err(|_| Errno::AGAIN) }
    }

    /// Gives the socket the port, or an ephemeral one for 0: EADDRINUSE.
    fn take_udp_port(&mut self, key: Key, port: u16) -> Result<()> {
        let host = self.udps[key].host;
        let port = match port {
            0 => self.host_mut(host).udp.ephemeral().ok_or(Errno::ADDRINUSE)?,
            port if self.udp_conflicts(key, port) => return Err(Errno::ADDRINUSE),
            port => port,
        };
        let socket = &mut self.udps[key];
        socket.local.set_port(port);
        socket.has_port = true;
        self.host_mut(host).udp.owners.entry(port).or_default().push(key);
        Ok(())
    }

    /// `udp_lib_lport_inuse`.
    fn udp_conflicts(&self, key: Key, port: u16) -> bool {
        let socket = &self.udps[key];
        let owners = self.host(socket.host).udp.owners.get(&port).into_iter().flatten();
        owners.map(|other| &self.udps[*other]).any(|other| {
            let reuse = socket.options.reuse_address && other.options.reuse_address;
            let share = socket.options.reuse_port && other.options.reuse_port;
            !reuse && !share && overlap(socket.reach(), other.reach())
        })
    }

    pub(super) fn give_up_udp_port(&mut self, key: Key) {
        let Udp { host, local, has_port, .. } = self.udps[key];
        let owners = &mut self.host_mut(host).udp.owners;
        if has_port && let Some(sharers) = owners.get_mut(&local.port()) {
            sharers.retain(|owner| *owner != key);
            if sharers.is_empty() {
                owners.remove(&local.port());
            }
        }
    }

    /// `inet_dgram_connect`: takes a port even if it then fails.
    pub(crate) fn connect_udp(&mut self, key: Key, address: &Address) -> Result<()> {
        self.autobind_udp(key)?;
        let Udp { host, domain, .. } = self.udps[key];
        let to = match address {
            // To IPv4 by its own kind of address, from a socket of both families.
            Address::Ip(to @ SocketAddr::V4(_)) if domain == Domain::Inet6 => {
                if self.udps[key].options.v6_only {
                    return Err(Errno::AFNOSUPPORT);
                }
                *to
            }
            address => check_family(domain, address)?,
        };
        let route = self.udp_route(key, to)?;
        let socket = &mut self.udps[key];
        socket.remote = Some(route.to);
        // What MSG_MORE has gathered goes there too: Linux keeps its way where connect works out its own.
        if let Some((way, _)) = &mut socket.corked {
            *way = route;
        }
        if socket.local.ip().is_unspecified() {
            socket.local.set_ip(route.from.ip());
            // It is found by its address from now on, before those who got theirs earlier.
            let port = socket.local.port();
            if let Some(owners) = self.host_mut(host).udp.owners.get_mut(&port) {
                owners.retain(|owner| *owner != key);
                owners.push(key);
            }
        }
        Ok(())
    }

    /// The way of a datagram of the socket to an address.
    pub(super) fn udp_route(&self, key: Key, to: SocketAddr) -> Result<Route> {
        let Udp { host, local, domain, .. } = self.udps[key];
        let target = match to.ip().to_canonical() {
            // To anywhere means to oneself.
            IpAddr::V4(ip) if ip.is_unspecified() => match local.ip() {
                IpAddr::V4(own) if !own.is_unspecified() => own.into(),
                _ => Ipv4Addr::LOCALHOST.into(),
            },
            IpAddr::V6(ip) if ip.is_unspecified() && local.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let strictly_v6 = local.is_ipv6() && !local.ip().is_unspecified();
        if target.is_ipv4() && domain == Domain::Inet6 && (self.udps[key].options.v6_only || strictly_v6) {
            return Err(Errno::NETUNREACH);
        }
        if target.is_ipv6() && local.is_ipv4() {
            return Err(Errno::AFNOSUPPORT);
        }
        if is_broadcast(target) {
            // Nobody routes them, here.
            let allowed = self.udps[key].options.broadcast;
            return Err(if allowed { Errno::NETUNREACH } else { Errno::ACCES });
        }
        let peer = self.route(host, target)?;
        let ip = if local.ip().is_unspecified() { self.source_for(host, target)? } else { local.ip() };
        if ip.is_loopback() && !self.host(host).has(target) {
            return Err(Errno::INVAL);
        }
        let from = SocketAddr::new(ip, local.port());
        Ok(Route { host: peer, from, to: SocketAddr::new(target, to.port()) })
    }

    /// Who hears a datagram from `from` to `to`.
    pub(super) fn find_udp(
        &self,
        env: &mut dyn Env,
        host: HostIndex,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<Key> {
        let owners = self.host(host).udp.owners.get(&to.port())?;
        let score = |key: &Key| rank(&self.udps[*key], from, to.ip());
        let best = owners.iter().filter_map(score).max()?;
        let equal: Vec<Key> = owners.iter().copied().filter(|key| score(key) == Some(best)).collect();
        let last = *equal.last().expect("somebody has the best rank");
        let shared = |key: &Key| self.udps[*key].options.reuse_port && self.udps[*key].remote.is_none();
        if equal.len() == 1 || !equal.iter().all(shared) {
            return Some(last);
        }
        let stream = Stream::new(Subsystem::Socket, u64::from(host.0) << 32 | 1 << 31);
        Some(equal[env.draw(stream, "reuseport", equal.len() as u64) as usize])
    }
}

/// The first port that is chosen: not TCP's, so that a program that confuses them is found out.
const FIRST: u16 = 48_000;

impl super::UdpPorts {
    /// The next ephemeral port that nobody has, in turn, so that one just given up is not given to a stranger at once.
    fn ephemeral(&mut self) -> Option<u16> {
        for _ in EPHEMERAL {
            let port = if self.cursor == 0 { FIRST } else { self.cursor };
            self.cursor = if port == *EPHEMERAL.end() { *EPHEMERAL.start() } else { port + 1 };
            if !self.owners.contains_key(&port) {
                return Some(port);
            }
        }
        None
    }
}

fn is_broadcast(ip: IpAddr) -> bool {
    ip == Ipv4Addr::BROADCAST || ip == Ipv4Addr::new(127, 255, 255, 255)
}

/// How well a socket hears what `from` sends to `ip`: its very address before any, a connected one before others, its own
/// family before both.
fn rank(socket: &Udp, from: SocketAddr, ip: IpAddr) -> Option<u32> {
    let (local, strict) = socket.reach();
    let hears = local == ip
        || (local.is_unspecified() && (local.is_ipv4() == ip.is_ipv4() || (local.is_ipv6() && !strict)));
    let like = |remote: SocketAddr| remote.ip() == from.ip() && [0, from.port()].contains(&remote.port());
    if !hears || socket.remote.is_some_and(|remote| !like(remote)) {
        return None;
    }
    let family = u32::from(socket.domain == Domain::Inet);
    Some(4 * u32::from(local == ip) + 2 * u32::from(socket.remote.is_some()) + family)
}
