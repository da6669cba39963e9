//! What the objects of the simulated kernels ask of the world they live in, and the names both use.
//!
//! [`Net`](crate::net::Net) owns every host's sockets, epoll instances and descriptor tables. It has no thread, no
//! clock and no chance of its own: it is told the time, asks for choices, and asks to be called again later
//! with a [`NetEvent`]. So it can be tested with an [`Env`] of a few lines, and a world can put anything below it.
//!
//! | who | calls | when |
//! |---|---|---|
//! | world | a call's method of `Net`, once per system call | a simulated thread makes the call |
//! | `Net` | [`Env::after`] | a packet leaves, a timer is set |
//! | world | `Net::deliver` | that event's moment has come |
//! | `Net` | [`Env::wake`] | something was linked to an epoll instance's ready list |

use std::fmt;

use crate::film::Carried;

pub(crate) use crate::choice::{Stream, Subsystem};
pub(crate) use crate::fault::Fault;
pub(crate) use crate::slab::Key;

/// The world, as the objects see it.
pub(crate) trait Env {
    /// World time in nanoseconds.
    fn now(&self) -> u64;
    /// One of `0..n`; 0 is the boring answer. `n` is at least 1.
    fn draw(&mut self, stream: Stream, site: &'static str, n: u64) -> u64;
    /// Asks for `net.deliver(event)` at `now + delay`. Events of one instant may come in any order.
    fn after(&mut self, delay: u64, event: NetEvent);
    /// An epoll instance may have become ready: threads asleep in `epoll_wait` on it must look again.
    fn wake(&mut self, epoll: EpollKey);
    /// A fault has happened to a host: it is counted, and `text` is a line of the trace.
    fn inject(&mut self, host: HostIndex, fault: Fault, text: fmt::Arguments<'_>);
    /// A line of the trace. Callers look at [`tracing`](Env::tracing) first.
    fn note(&mut self, host: HostIndex, text: fmt::Arguments<'_>);
    /// Whether anybody reads the notes.
    fn tracing(&self) -> bool;
    /// Whether anybody looks at packets.
    fn filming(&self) -> bool {
        false
    }
    /// A packet has left. Callers look at [`filming`](Env::filming) first.
    fn film(&mut self, packet: Carried) {
        let _ = packet;
    }
}

/// A host of the world, in the order in which they were added.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct HostIndex(pub u32);

/// A process of any host, in the order in which they were added.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ProcessIndex(pub u32);

/// An epoll instance. Never means another one after it was closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct EpollKey(pub Key);

/// Something on its way. Payload stays in the queue of the socket that sent it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NetEvent {
    /// A packet of the socket `from` reaches the other end.
    Packet {
        /// The sender.
        from: Key,
        /// What it sent.
        packet: Packet,
    },
    /// A host that knows no such connection answers the socket `to` with RST.
    Reset {
        /// Whose packet had nowhere to go.
        to: Key,
    },
    /// Acknowledgements that the socket waits for have arrived.
    Acknowledged(Key),
    /// The socket's timer: retransmission, probe, keepalive, or the end of an orphan.
    Timer(Key),
    /// The oldest TIME_WAIT of the host is over.
    TimeWait(HostIndex),
    /// A datagram, or the ICMP that answers one, reaches its host.
    Datagram(Key),
}

/// What a packet is. Sequence numbers count bytes from the connection's first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Packet {
    /// SYN.
    Syn,
    /// SYN and ACK.
    SynAck,
    /// The handshake's last ACK.
    Ack,
    /// `len` bytes from `seq` on, with FIN behind them if `fin`; without either it is a probe.
    Data {
        /// The first byte's number.
        seq: u64,
        /// How many bytes.
        len: u32,
        /// Whether the stream ends behind them.
        fin: bool,
    },
    /// RST.
    Rst,
}

impl Packet {
    /// How many bytes of payload it has.
    pub(crate) const fn size(self) -> u64 {
        match self {
            Packet::Data { len, .. } => len as u64,
            Packet::Syn | Packet::SynAck | Packet::Ack | Packet::Rst => 0,
        }
    }
}
