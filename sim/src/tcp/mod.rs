//! The TCP of the simulated kernels: one end of a connection, its states, and what epoll sees of it.
//!
//! | state | entered by | left by |
//! |---|---|---|
//! | Closed | `socket`; RST, a time-out, the end of the states below | `connect`: SynSent; `listen`: Listen |
//! | Listen | `listen` | `close`, `shutdown` of reading: Closed |
//! | SynSent | `connect` | SYN+ACK: Established; RST, too many retries: Closed with an error |
//! | SynReceived | SYN at a listener with room | ACK or data: Established, queued for `accept`; too many retries: gone |
//! | Established | | FIN: CloseWait; `shutdown` of writing, `close`: FinWait1 |
//! | FinWait1 | own FIN queued | it is acknowledged: FinWait2; the peer's FIN: Closing |
//! | FinWait2 | | the peer's FIN: TIME_WAIT, which is a note in the host's table and no socket |
//! | Closing | both FINs crossed | own FIN is acknowledged: TIME_WAIT |
//! | CloseWait | the peer's FIN | `shutdown` of writing, `close`: LastAck |
//! | LastAck | own FIN queued | it is acknowledged: Closed |
//!
//! Besides the protocol's state a socket has what `connect` goes by ([`Phase`]), the halves that are shut, and the pending
//! error, which whoever meets it first consumes. These three, not the state, decide what calls answer.
//!
//! Payload stays in the sender's queue until it is acknowledged; a packet in flight is a range of it. Retransmission is
//! go-back-N: what arrives behind a hole is dropped. Acknowledgements that nobody waits for are not events: they lie at the
//! sender with the time of their arrival, and count when that socket is looked at (`output`). Not modelled:
//! congestion control, Nagle, selective acknowledgement, checksums, simultaneous open of two sockets.
//!
//! `address` has hosts, ports and lookups; `setup` bind, listen, accept and connect; `stream` send and receive;
//! `output` packets that leave, `input` those that arrive; `timer` what is repeated or given up; `close` every way to the end.

mod address;
mod close;
mod input;
mod output;
mod setup;
mod stream;
mod timer;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use machinarium::kernel::{Domain, Errno, Events};

pub(crate) use address::{EPHEMERAL, Flow, Host, overlap};
pub(crate) use setup::check_family;

use crate::env::{Env, HostIndex, Stream, Subsystem};
use crate::net::Net;
use crate::options::Options;
use crate::slab::Key;
use timer::Timer;

/// The states of the protocol; the table is at the top of this file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Closed,
    Listen,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    Closing,
    CloseWait,
    LastAck,
}

/// Where `connect` is: `struct socket`'s state in Linux. It lags behind [`State`] until `connect` is called again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Unconnected,
    Connecting,
    Connected,
    /// Shut down after a connect that failed: no connect will ever succeed again.
    Disconnecting,
}

/// What is shut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Shut {
    pub(crate) receive: bool,
    pub(crate) send: bool,
}

impl Shut {
    pub(crate) const BOTH: Shut = Shut { receive: true, send: true };
}

/// One end of a connection, or a listener, or neither yet.
pub(crate) struct Socket {
    pub(crate) host: HostIndex,
    pub(crate) domain: Domain,
    pub(crate) state: State,
    pub(crate) phase: Phase,
    /// A descriptor stands for it. Without one the connection finishes on its own.
    pub(crate) owned: bool,
    /// Its own address, as far as it is known. IPv4 in IPv6 is kept as IPv4.
    pub(crate) local: SocketAddr,
    pub(crate) remote: Option<SocketAddr>,
    /// Whether the program chose them: only that choice survives a failed connect. Port 0 is no choice.
    bound_address: bool,
    bound_port: bool,
    /// It has a port. `getsockname` shows one that was given up as well.
    pub(crate) has_port: bool,
    pub(crate) options: Options,
    pub(crate) shut: Shut,
    /// FIN has arrived: reads answer 0, whatever the pending error.
    done: bool,
    /// The pending error.
    pub(crate) error: Option<Errno>,
    /// The other end: its host, and once heard of, its socket.
    peer_host: HostIndex,
    peer: Option<Key>,
    /// Was used for a connection before: the next one is another socket.
    used: bool,
    /// The listener that has not given it to `accept` yet.
    listener: Option<Key>,
    pub(crate) backlog: Option<Box<Backlog>>,
    pub(crate) sending: Sending,
    pub(crate) receiving: Receiving,
    pub(crate) timer: Timer,
    pub(crate) watchers: Vec<Key>,
    /// Names its stream of choices: the host, and the ordinal of the socket there.
    identity: u64,
}

/// What only a listener has.
pub(crate) struct Backlog {
    /// `listen`'s argument: one more than this may wait.
    pub(crate) limit: u32,
    pub(crate) queue: VecDeque<Key>,
    /// Handshakes that are not finished.
    incoming: Vec<Key>,
}

/// The way out. Sequence numbers count from 0; FIN takes one, behind the last byte.
pub(crate) struct Sending {
    /// Bytes from the first that is not acknowledged to `end`.
    pub(crate) queue: VecDeque<u8>,
    /// All before it is acknowledged.
    acknowledged: u64,
    /// The next to be sent.
    next: u64,
    /// How many bytes were written.
    end: u64,
    fin: bool,
    /// The peer takes bytes below it.
    edge: u64,
    /// What has reached the peer's queue: known to the simulator alone, for its books.
    delivered: u64,
    /// Urgent bytes that are not acknowledged.
    urgent: Vec<u64>,
    /// Acknowledgements under way, by arrival.
    acks: VecDeque<Ack>,
    /// Until when an event is under way that will look at them; 0 if none is.
    ack_event: u64,
    /// SOCK_NOSPACE: somebody found the queue full.
    pub(crate) wants_room: bool,
    /// How many bytes the next transfer takes at most: memory is short.
    squeezed: Option<usize>,
    /// When the last packet arrives: the next one arrives later.
    last_arrival: u64,
    /// Packets under way.
    flying: u32,
}

#[derive(Clone, Copy)]
struct Ack {
    at: u64,
    /// When a packet that carries it may arrive, if it is a delayed one.
    soonest: u64,
    next: u64,
    edge: u64,
}

/// The way in.
pub(crate) struct Receiving {
    pub(crate) queue: VecDeque<u8>,
    /// The next byte expected; FIN takes one.
    next: u64,
    /// The next byte to be read: the first of `queue`.
    copied: u64,
    /// The peer was told that bytes below it may come.
    advertised: u64,
    fin: bool,
    urgent: Option<Urgent>,
}

/// The last urgent byte, until reading has passed it.
#[derive(Clone, Copy)]
struct Urgent {
    at: u64,
    /// MSG_OOB took it: it stays in the queue, to be skipped.
    taken: bool,
}

/// The address of a socket that has none.
pub(crate) fn any(domain: Domain) -> IpAddr {
    if domain == Domain::Inet6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

impl Socket {
    fn new(host: HostIndex, domain: Domain, identity: u64, options: Options) -> Socket {
        Socket {
            host,
            domain,
            state: State::Closed,
            phase: Phase::Unconnected,
            owned: false,
            local: SocketAddr::new(any(domain), 0),
            remote: None,
            bound_address: false,
            bound_port: false,
            has_port: false,
            options,
            shut: Shut::default(),
            done: false,
            error: None,
            peer_host: host,
            peer: None,
            used: false,
            listener: None,
            backlog: None,
            sending: Sending {
                queue: VecDeque::new(),
                acknowledged: 0,
                next: 0,
                end: 0,
                fin: false,
                edge: 0,
                delivered: 0,
                urgent: Vec::new(),
                acks: VecDeque::new(),
                ack_event: 0,
                wants_room: false,
                squeezed: None,
                last_arrival: 0,
                flying: 0,
            },
            receiving: Receiving {
                queue: VecDeque::new(),
                next: 0,
                copied: 0,
                advertised: 0,
                fin: false,
                urgent: None,
            },
            timer: Timer::new(),
            watchers: Vec::new(),
            identity,
        }
    }

    /// `tcp_poll`: what epoll is told.
    pub(crate) fn poll(&self) -> Events {
        let mut events = Events::NONE;
        let mut add = |condition: bool, event: Events| {
            if condition {
                events = events.with(event);
            }
        };
        if let Some(backlog) = &self.backlog {
            add(!backlog.queue.is_empty(), Events::IN);
            return events;
        }
        add(self.shut == Shut::BOTH || self.state == State::Closed, Events::HUP);
        add(self.shut.receive, Events::IN.with(Events::RDHUP));
        if !matches!(self.state, State::SynSent | State::SynReceived) {
            add(self.is_readable(), Events::IN);
            add(self.shut.send || self.is_writable(), Events::OUT);
            add(self.receiving.urgent.is_some_and(|urgent| !urgent.taken), Events::PRI);
        }
        add(self.error.is_some(), Events::ERR);
        events
    }

    fn is_readable(&self) -> bool {
        let receiving = &self.receiving;
        // An urgent byte that is next in line is not read but skipped: it does not count.
        let skipped = receiving.urgent.is_some_and(|urgent| urgent.at == receiving.copied);
        receiving.queue.len() + usize::from(receiving.fin) > usize::from(skipped)
    }

    /// `sk_stream_is_writeable`: a third of the queue is free. So a reader's every byte does not wake the writer.
    pub(crate) fn is_writable(&self) -> bool {
        let queued = self.sending.queue.len() as u64;
        let capacity = u64::from(self.send_capacity());
        queued < capacity && capacity - queued >= queued / 2
    }

    pub(crate) fn send_capacity(&self) -> u32 {
        let connected = self.used && !matches!(self.state, State::SynSent | State::SynReceived);
        self.options.send_capacity(connected, self.is_loopback())
    }

    fn is_loopback(&self) -> bool {
        self.host == self.peer_host
    }

    fn is_synchronized(&self) -> bool {
        !matches!(self.state, State::Closed | State::Listen | State::SynSent | State::SynReceived)
    }

    fn flow(&self) -> Option<Flow> {
        self.remote.map(|remote| Flow::new(self.local, remote))
    }

    /// The other end, once heard of.
    pub(crate) fn other_end(&self) -> Option<Key> {
        self.peer
    }

    fn choices(&self, subsystem: Subsystem) -> Stream {
        Stream::new(subsystem, self.identity)
    }

    /// An address as this socket's family shows it.
    fn shown(&self, address: SocketAddr) -> SocketAddr {
        match (self.domain, address.ip()) {
            (Domain::Inet6, IpAddr::V4(ip)) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
            _ => address,
        }
    }
}

impl Net {
    pub(crate) fn new_socket(&mut self, host: HostIndex, domain: Domain) -> Key {
        let identity = self.next_identity(host);
        let mut socket = Socket::new(host, domain, identity, Options::new());
        socket.owned = true;
        self.sockets.insert(socket)
    }

    pub(crate) fn next_identity(&mut self, host: HostIndex) -> u64 {
        let made = &mut self.hosts[host.0 as usize].sockets_made;
        *made += 1;
        (u64::from(host.0) << 32) | u64::from(*made)
    }

    /// How the socket is now; a full one will tell when there is room.
    pub(crate) fn poll_socket(&mut self, env: &mut dyn Env, key: Key) -> Events {
        self.take_acks(env, key);
        let events = self.sockets[key].poll();
        let socket = &mut self.sockets[key];
        if socket.is_synchronized() && !socket.shut.send && !events.intersects(Events::OUT) {
            socket.sending.wants_room = true;
            self.expect_ack(env, key);
        }
        events
    }
}
