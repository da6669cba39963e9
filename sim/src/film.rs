//! What pictures of a run are made of, where the trace has lines of text: packets with both their ends in time, and who had the
//! processor when.
//!
//! Taken only for a run that is to be shown, since it keeps every byte that was sent.

use std::net::SocketAddr;

use crate::env::HostIndex;

/// A packet or a datagram that will arrive, unless its host or link is gone by then.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    pub(crate) from: HostIndex,
    pub(crate) to: HostIndex,
    pub(crate) source: SocketAddr,
    pub(crate) target: SocketAddr,
    /// How long it is under way.
    pub(crate) delay: u64,
    pub(crate) what: Carrying,
}

/// What a packet is, as Ethereal would ask.
#[derive(Clone, Debug)]
pub(crate) enum Carrying {
    /// A segment: its flags, its first byte's number and the next one it expects, counted from each side's SYN, and its payload.
    Tcp {
        flags: u8,
        seq: u64,
        ack: u64,
        bytes: Vec<u8>,
    },
    Udp(Vec<u8>),
}

/// Flags of TCP, as on the wire.
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

impl Carrying {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Carrying::Tcp { bytes, .. } | Carrying::Udp(bytes) => bytes,
        }
    }

    /// In a word or two.
    pub(crate) fn label(&self) -> String {
        let Carrying::Tcp { flags, seq, bytes, .. } = self else {
            return format!("datagram of {}", self.bytes().len());
        };
        let named = [(SYN, "SYN"), (FIN, "FIN"), (RST, "RST")];
        let mut words: Vec<&str> =
            named.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
        let size = format!("{} bytes from {}", bytes.len(), seq.saturating_sub(1));
        match (bytes.is_empty(), words.is_empty()) {
            (false, _) => words.insert(0, &size),
            (true, true) => words.push("ACK"),
            (true, false) => {}
        }
        words.join(", ")
    }
}

/// A packet with when it left, and how many choices had been made then.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    pub(crate) at: u64,
    pub(crate) draws: u64,
    pub(crate) carried: Carried,
}

/// A thread had the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Turn {
    /// By its number in the world.
    pub(crate) thread: u32,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What was taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Film {
    pub(crate) shots: Vec<Shot>,
    pub(crate) turns: Vec<Turn>,
    /// What TLS tells a key log: lines.
    pub(crate) secrets: Vec<String>,
}

/// Who is who in a run, for whoever tells of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cast {
    /// Names of hosts, by number.
    pub(crate) hosts: Vec<String>,
    /// Of each thread its identity and its host and name.
    pub(crate) threads: Vec<(u64, String)>,
}

impl Cast {
    pub(crate) fn host(&self, number: u64) -> &str {
        self.hosts.get(number as usize).map_or("a host", String::as_str)
    }

    /// The thread of this identity, as "server/main".
    pub(crate) fn thread(&self, identity: u64) -> &str {
        self.threads.iter().find(|(other, _)| *other == identity).map_or("a thread", |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_have_labels() {
        let tcp =
            |flags, bytes: &[u8]| Carrying::Tcp { flags, seq: 8, ack: 0, bytes: bytes.to_vec() }.label();
        assert_eq!(tcp(SYN | ACK, b""), "SYN");
        assert_eq!(tcp(ACK, b""), "ACK");
        assert_eq!(tcp(ACK | FIN, b"abc"), "3 bytes from 7, FIN");
        assert_eq!(Carrying::Udp(vec![1, 2]).label(), "datagram of 2");
    }
}
