//! The UDP of the simulated kernels: sockets, their ports, and what epoll sees of them.
//!
//! | state | `remote` | entered by | sends | hears |
//! |---|---|---|---|---|
//! | open | none | `socket` | to an address; its first call takes a port | anybody who sends to its port |
//! | connected | some | `connect`, again and again | to its peer, or to an address | its peer, and the peer's ICMP |
//!
//! A datagram is an object of its own ([`Flight`]), which outlives its sender: on each link it is lost, comes twice, or is
//! overtaken, as the link's options say, and without those in the order in which its socket sent it. What finds the receiver's
//! buffer full is dropped in silence; what finds nobody is answered by ICMP, which a connected socket hears as ECONNREFUSED.
//! Each arrival is an edge, and so is each departure, for the sender's buffer has room again.
//!
//! Not modelled: broadcast and multicast, which no network of a world routes; fragments; a full send buffer, for packets leave
//! at once; that Linux sends the next datagrams of a connected socket to where MSG_MORE has gathered one for somebody else.
//!
//! `setup` has bind, connect and who hears a datagram; `datagram` send, arrive and receive.

mod datagram;
mod setup;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Shutdown, SocketAddr};

use machinarium::kernel::{Domain, Errno, Events, OptionName, Result, SocketKind, SocketOption};

pub(crate) use datagram::Flight;

use crate::env::{Env, HostIndex, Stream, Subsystem};
use crate::files::File;
use crate::net::Net;
use crate::options::Options;
use crate::slab::Key;
use crate::tcp::{Shut, any};

/// A UDP socket.
pub(crate) struct Udp {
    pub(crate) host: HostIndex,
    pub(crate) domain: Domain,
    /// Its own address, as far as it is known. IPv4 in IPv6 is kept as IPv4.
    pub(crate) local: SocketAddr,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) has_port: bool,
    pub(crate) options: Options,
    pub(crate) shut: Shut,
    /// The pending error.
    pub(crate) error: Option<Errno>,
    queue: VecDeque<Waiting>,
    /// What the queue takes of the receive buffer.
    used: u64,
    /// What MSG_MORE has gathered, and where it goes.
    corked: Option<(Route, Vec<u8>)>,
    /// When the last datagram arrives: the next one arrives later, unless the link reorders.
    last_arrival: u64,
    pub(crate) watchers: Vec<Key>,
    identity: u64,
}

/// A datagram that waits for the reader.
struct Waiting {
    from: SocketAddr,
    bytes: Vec<u8>,
}

/// Where a datagram goes, and from which address.
#[derive(Clone, Copy)]
struct Route {
    host: HostIndex,
    from: SocketAddr,
    to: SocketAddr,
}

/// The UDP of a host: who has a port, the one who got it last behind.
#[derive(Default)]
pub(crate) struct UdpPorts {
    pub(crate) owners: BTreeMap<u16, Vec<Key>>,
    cursor: u16,
}

impl Net {
    pub(crate) fn new_udp(&mut self, host: HostIndex, domain: Domain) -> Key {
        let identity = self.next_identity(host);
        self.udps.insert(Udp {
            host,
            domain,
            local: SocketAddr::new(any(domain), 0),
            remote: None,
            has_port: false,
            options: Options::datagram(),
            shut: Shut::default(),
            error: None,
            queue: VecDeque::new(),
            used: 0,
            corked: None,
            last_arrival: 0,
            watchers: Vec::new(),
            identity,
        })
    }

    /// `inet_shutdown`: the halves are shut also without a peer.
    pub(crate) fn shutdown_udp(&mut self, env: &mut dyn Env, key: Key, how: Shutdown) -> Result<()> {
        let socket = &mut self.udps[key];
        socket.shut = socket.shut.and(how);
        let connected = socket.remote.is_some();
        self.notify(env, File::Udp(key), Events::NONE);
        if connected { Ok(()) } else { Err(Errno::NOTCONN) }
    }

    pub(crate) fn set_udp_option(&mut self, env: &mut dyn Env, key: Key, option: SocketOption) -> Result<()> {
        self.udps[key].set_option(option)?;
        if matches!(option, SocketOption::SendBuffer(_)) {
            self.notify(env, File::Udp(key), Events::OUT);
        }
        Ok(())
    }

    pub(crate) fn close_udp(&mut self, key: Key) {
        self.give_up_udp_port(key);
        let socket = self.udps.remove(key);
        assert!(socket.watchers.is_empty(), "only a descriptor can be watched");
        self.refuse(socket.held());
    }
}

impl Udp {
    /// `udp_poll`.
    pub(crate) fn poll(&self) -> Events {
        let mut events = Events::OUT;
        if self.error.is_some() {
            events = events.with(Events::ERR);
        }
        if self.shut.receive {
            events = events.with(Events::RDHUP).with(Events::IN);
        }
        if self.shut == Shut::BOTH {
            events = events.with(Events::HUP);
        }
        if self.queue.is_empty() { events } else { events.with(Events::IN) }
    }

    /// Payload bytes that wait for the reader, or for the rest of their datagram.
    pub(crate) fn held(&self) -> u64 {
        self.waiting() + self.corked.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64)
    }

    /// Payload bytes that wait for the reader.
    pub(crate) fn waiting(&self) -> u64 {
        self.queue.iter().map(|waiting| waiting.bytes.len() as u64).sum()
    }

    /// FIONREAD: the length of the next datagram.
    pub(crate) fn pending(&self) -> usize {
        self.queue.front().map_or(0, |waiting| waiting.bytes.len())
    }

    pub(crate) fn option(&mut self, name: OptionName) -> Result<SocketOption> {
        match name {
            OptionName::Error => Ok(SocketOption::Error(self.error.take())),
            OptionName::Type => Ok(SocketOption::Type(SocketKind::Datagram)),
            OptionName::Domain => Ok(SocketOption::Domain(self.domain)),
            OptionName::V6Only if self.domain == Domain::Inet6 => {
                Ok(SocketOption::V6Only(self.options.v6_only))
            }
            // Levels that the socket has not: each family says so in its own way.
            OptionName::V6Only => Err(Errno::OPNOTSUPP),
            name => self.options.get(name).map_err(|errno| match self.domain {
                Domain::Inet6 => errno,
                _ => Errno::OPNOTSUPP,
            }),
        }
    }

    fn set_option(&mut self, option: SocketOption) -> Result<()> {
        match option {
            SocketOption::V6Only(_) if self.domain == Domain::Inet => Err(Errno::NOPROTOOPT),
            SocketOption::V6Only(_) if self.has_port => Err(Errno::INVAL),
            SocketOption::V6Only(on) => {
                self.options.v6_only = on;
                Ok(())
            }
            option => self.options.set(option),
        }
    }

    /// Its own address as `getsockname` shows it. Never bound, an IPv6 socket shows [::], not 0.0.0.0 in IPv6.
    pub(crate) fn name(&self) -> SocketAddr {
        let local = self.local;
        if local.ip().is_unspecified() && local.is_ipv6() { local } else { self.shown(local) }
    }

    /// `getpeername`: a peer at port 0 is none.
    pub(crate) fn peer(&self) -> Result<SocketAddr> {
        let remote = self.remote.filter(|remote| remote.port() != 0).ok_or(Errno::NOTCONN)?;
        Ok(self.shown(remote))
    }

    /// An address as this socket's family shows it.
    fn shown(&self, address: SocketAddr) -> SocketAddr {
        match (self.domain, address.ip()) {
            (Domain::Inet6, IpAddr::V4(ip)) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
            _ => address,
        }
    }

    /// An address, and whether only its own family counts.
    fn reach(&self) -> (IpAddr, bool) {
        (self.local.ip(), self.domain == Domain::Inet || self.options.v6_only)
    }

    fn choices(&self, subsystem: Subsystem) -> Stream {
        Stream::new(subsystem, self.identity)
    }

    /// For netstat and the report of leaks.
    pub(crate) fn describe(&self) -> String {
        match self.remote {
            Some(remote) => format!("udp socket {} - {remote}", self.local),
            None => format!("udp socket {}", self.local),
        }
    }
}
