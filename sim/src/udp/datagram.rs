//! Datagrams: how they leave, what becomes of them on the way, and how they are read.
//!
//! A [`Flight`] is a datagram under way, or the ICMP message that it is answered with. It has its payload, so that it
//! arrives also when its sender has closed. The books hold: what leaves twice was sent twice; what is lost, dropped or
//! cut off by a short read was refused.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;

use machinarium::kernel::{Address, Domain, Errno, Events, Received, RecvFlags, Result, SendFlags};

use super::{Route, Udp, Waiting};
use crate::env::{Env, Fault, HostIndex, NetEvent, Subsystem};
use crate::files::{File, scatter};
use crate::film::{Carried, Carrying};
use crate::net::Net;
use crate::slab::Key;
use crate::tcp::check_family;

/// The largest payload over IPv4 and over IPv6.
const MOST: usize = 65_507;
const MOST_V6: usize = 65_527;
/// What a datagram takes of the receive buffer besides its payload (`truesize`).
const OVERHEAD: u64 = 768;

/// A datagram under way.
pub(crate) struct Flight {
    source: HostIndex,
    target: HostIndex,
    from: SocketAddr,
    to: SocketAddr,
    /// Nothing, when it is ICMP on the way back: nobody was at `to`.
    bytes: Option<Vec<u8>>,
}

impl Flight {
    /// Payload bytes under way.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)
    }
}

impl Net {
    /// `udp_sendmsg`.
    pub(crate) fn send_udp(
        &mut self,
        env: &mut dyn Env,
        key: Key,
        bufs: &[IoSlice<'_>],
        flags: SendFlags,
        to: Option<&Address>,
    ) -> Result<usize> {
        self.autobind_udp(key)?;
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        let route = match &self.udps[key].corked {
            Some((route, _)) => *route,
            None => self.udp_destination(key, length, flags, to)?,
        };
        let most = if route.to.is_ipv6() { MOST_V6 } else { MOST };
        let gathered = self.udps[key].corked.as_ref().map_or(0, |(_, bytes)| bytes.len());
        if gathered + length > most {
            // What was gathered is lost with the rest (`udp_flush_pending_frames`).
            self.udps[key].corked = None;
            self.refuse(gathered as u64);
            return Err(Errno::MSGSIZE);
        }
        let socket = &mut self.udps[key];
        // Where the packet would be allocated, and everything that is wrong with the socket is told.
        if socket.corked.is_none() {
            if let Some(errno) = socket.error.take() {
                return Err(errno);
            }
            if socket.shut.send {
                return Err(Errno::PIPE);
            }
        }
        let mut bytes = socket.corked.take().map_or_else(Vec::new, |(_, bytes)| bytes);
        bufs.iter().for_each(|buf| bytes.extend_from_slice(buf));
        self.books.sent += length as u64;
        if flags.more {
            self.udps[key].corked = Some((route, bytes));
            return Ok(length);
        }
        self.depart(env, key, route, bytes);
        self.notify(env, File::Udp(key), Events::OUT);
        Ok(length)
    }

    /// Where a datagram is to go: the checks of both families, each in its order.
    fn udp_destination(
        &self,
        key: Key,
        length: usize,
        flags: SendFlags,
        to: Option<&Address>,
    ) -> Result<Route> {
        let Udp { domain, remote, .. } = self.udps[key];
        let v4_first = || match () {
            () if length > 0xffff => Err(Errno::MSGSIZE),
            () if flags.oob => Err(Errno::OPNOTSUPP),
            () => Ok(()),
        };
        if domain == Domain::Inet {
            v4_first()?;
        }
        let to = match to {
            // An IPv6 socket hands the address of its IPv4 peer on, and then port 0 is none.
            None => match remote {
                None => return Err(Errno::DESTADDRREQ),
                Some(remote) if domain == Domain::Inet6 && remote.is_ipv4() => remote,
                Some(remote) => return self.udp_route(key, remote),
            },
            Some(Address::Ip(to @ SocketAddr::V4(_))) if domain == Domain::Inet6 => {
                if self.udps[key].options.v6_only {
                    return Err(Errno::NETUNREACH);
                }
                *to
            }
            // Any other family is EINVAL to an IPv6 socket, whatever the length.
            Some(Address::Unix(_)) if domain == Domain::Inet6 => return Err(Errno::INVAL),
            Some(address) => check_family(domain, address)?,
        };
        if domain == Domain::Inet6 && to.ip().to_canonical().is_ipv4() {
            if self.udps[key].options.v6_only {
                return Err(Errno::NETUNREACH);
            }
            v4_first()?;
        }
        if to.port() == 0 {
            return Err(Errno::INVAL);
        }
        self.udp_route(key, to)
    }

    /// A datagram leaves: it arrives once, twice or never.
    fn depart(&mut self, env: &mut dyn Env, key: Key, route: Route, bytes: Vec<u8>) {
        let Udp { host: source, .. } = self.udps[key];
        let stream = self.udps[key].choices(Subsystem::Link);
        if env.tracing() {
            let (from, to, length) = (route.from, route.to, bytes.len());
            env.note(source, format_args!("{from} sends a datagram of {length} to {to}"));
        }
        let options = self.links.options(source, route.host);
        if options.duplicate.draw(env, stream, "duplicate") {
            let text = format_args!("a datagram of {} bytes comes twice", bytes.len());
            env.inject(source, Fault::Duplicate, text);
            self.books.sent += bytes.len() as u64;
            self.launch(env, key, route, bytes.clone());
        }
        self.launch(env, key, route, bytes);
    }

    fn launch(&mut self, env: &mut dyn Env, key: Key, route: Route, bytes: Vec<u8>) {
        let Udp { host: source, last_arrival, .. } = self.udps[key];
        let stream = self.udps[key].choices(Subsystem::Link);
        let length = bytes.len() as u64;
        let Some(mut delay) = self.links.carry(env, stream, (source, route.host), length) else {
            return self.refuse(length);
        };
        let now = env.now();
        if self.links.options(source, route.host).reorder.draw(env, stream, "reorder") {
            let text = format_args!("others may overtake a datagram of {length} bytes");
            env.inject(source, Fault::Reorder, text);
            delay += env.draw(stream, "late", 1 + 4 * self.links.round_trip(source, route.host));
        } else {
            delay = delay.max((last_arrival + 1).saturating_sub(now));
            self.udps[key].last_arrival = now + delay;
        }
        let Route { host: target, from, to } = route;
        if env.filming() {
            let what = Carrying::Udp(bytes.clone());
            env.film(Carried { from: source, to: target, source: from, target: to, delay, what });
        }
        let flight = self.flights.insert(Flight { source, target, from, to, bytes: Some(bytes) });
        env.after(delay, NetEvent::Datagram(flight));
    }

    /// What was under way is there.
    pub(crate) fn arrive_udp(&mut self, env: &mut dyn Env, key: Key) {
        let Flight { source, target, from, to, bytes } = self.flights.remove(key);
        let length = bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if !self.host(target).up || self.links.is_cut(source, target) {
            return self.refuse(length);
        }
        match (bytes, self.find_udp(env, target, from, to)) {
            (Some(bytes), Some(socket)) => self.queue_udp(env, socket, from, bytes),
            (Some(_), None) => {
                self.refuse(length);
                self.answer_unreachable(env, (source, target), from, to);
            }
            (None, Some(socket)) => self.refused_udp(env, socket),
            (None, None) => {}
        }
    }

    fn queue_udp(&mut self, env: &mut dyn Env, key: Key, from: SocketAddr, bytes: Vec<u8>) {
        let socket = &mut self.udps[key];
        let size = bytes.len() as u64 + OVERHEAD;
        if !socket.queue.is_empty() && socket.used + size > socket.options.receive_capacity() {
            if env.tracing() {
                let (host, local) = (socket.host, socket.local);
                env.note(host, format_args!("{local} has no room for a datagram of {from}"));
            }
            return self.refuse(bytes.len() as u64);
        }
        socket.used += size;
        socket.queue.push_back(Waiting { from, bytes });
        self.notify(env, File::Udp(key), Events::IN.with(Events::PRI));
    }

    /// ICMP: the port is unreachable.
    fn answer_unreachable(
        &mut self,
        env: &mut dyn Env,
        (source, target): (HostIndex, HostIndex),
        from: SocketAddr,
        to: SocketAddr,
    ) {
        let stream = crate::env::Stream::new(Subsystem::Link, u64::from(target.0) << 32 | 1 << 31);
        if let Some(delay) = self.links.carry(env, stream, (target, source), 0) {
            let icmp = Flight { source: target, target: source, from: to, to: from, bytes: None };
            let flight = self.flights.insert(icmp);
            env.after(delay, NetEvent::Datagram(flight));
        }
    }

    /// `udp_err`: only a connected socket hears of it.
    fn refused_udp(&mut self, env: &mut dyn Env, key: Key) {
        let socket = &mut self.udps[key];
        if socket.remote.is_some() {
            socket.error = Some(Errno::CONNREFUSED);
            self.notify(env, File::Udp(key), Events::ERR);
        }
    }

    /// `udp_recvmsg`: the pending error comes before any datagram.
    pub(crate) fn receive_udp(
        &mut self,
        key: Key,
        bufs: &mut [IoSliceMut<'_>],
        flags: RecvFlags,
    ) -> Result<Received> {
        let socket = &mut self.udps[key];
        if let Some(errno) = socket.error.take() {
            return Err(errno);
        }
        let waiting = socket.queue.front().ok_or(Errno::AGAIN)?;
        let room: usize = bufs.iter().map(|buf| buf.len()).sum();
        let length = waiting.bytes.len();
        let count = length.min(room);
        scatter(&waiting.bytes[..count], bufs);
        let from = Some(socket.shown(waiting.from).into());
        if !flags.peek {
            socket.queue.pop_front();
            socket.used -= length as u64 + OVERHEAD;
            self.books.received += count as u64;
            self.refuse((length - count) as u64);
        }
        Ok(Received { count, from, truncated: length > room })
    }
}
