//! The packets of a run as a capture, in the format pcapng that Wireshark reads, with the secrets of TLS in it.
//!
//! A packet is written when it leaves, as raw IP with its headers made up: sequence numbers begin at 0 with SYN, and since the simulator
//! acknowledges without packets, many acknowledgements are missing. What is lost on its way never left. The block for secrets holds
//! what rustls tells a key log, so that nothing else is needed to read what was said.

use std::net::{IpAddr, SocketAddr};

use crate::film::{Carried, Carrying};
use crate::simulation::Outcome;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const SECRETS: u32 = 10;
/// Raw IP, of either version.
const RAW: u16 = 101;
/// "TLSK".
const TLS_KEY_LOG: u32 = 0x544c_534b;
const TCP: u8 = 6;
const UDP: u8 = 17;
const WINDOW: u16 = 0xffff;

pub(super) fn capture(run: &Outcome) -> Vec<u8> {
    let mut out = Vec::new();
    let mut section = Vec::new();
    section.extend(0x1a2b_3c4d_u32.to_le_bytes());
    section.extend([1, 0, 0, 0]);
    section.extend(u64::MAX.to_le_bytes());
    block(&mut out, SECTION, &section);
    let mut interface = Vec::new();
    interface.extend(RAW.to_le_bytes());
    interface.extend([0, 0, 0, 0, 0, 0]);
    // Times are in nanoseconds (`if_tsresol`), and no option comes after that.
    interface.extend([9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    block(&mut out, INTERFACE, &interface);
    if !run.film.secrets.is_empty() {
        let secrets = run.film.secrets.concat();
        let mut body = TLS_KEY_LOG.to_le_bytes().to_vec();
        body.extend((secrets.len() as u32).to_le_bytes());
        body.extend(secrets.as_bytes());
        block(&mut out, SECRETS, &body);
    }
    for shot in &run.film.shots {
        let packet = packet(&shot.carried);
        let mut body = vec![0; 4];
        body.extend(((shot.at >> 32) as u32).to_le_bytes());
        body.extend((shot.at as u32).to_le_bytes());
        let length = (packet.len() as u32).to_le_bytes();
        body.extend(length);
        body.extend(length);
        body.extend(packet);
        block(&mut out, PACKET, &body);
    }
    out
}

fn block(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let padding = body.len().next_multiple_of(4) - body.len();
    let length = (12 + body.len() + padding) as u32;
    out.extend(kind.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(body);
    out.extend(std::iter::repeat_n(0, padding));
    out.extend(length.to_le_bytes());
}

fn packet(carried: &Carried) -> Vec<u8> {
    let Carried { source, target, what, .. } = carried;
    let (protocol, segment) = match what {
        Carrying::Tcp { flags, seq, ack, bytes } => {
            let mut segment = ports(source, target);
            segment.extend((*seq as u32).to_be_bytes());
            segment.extend((*ack as u32).to_be_bytes());
            segment.extend([5 << 4, *flags]);
            segment.extend(WINDOW.to_be_bytes());
            segment.extend([0; 4]);
            segment.extend(bytes);
            (TCP, segment)
        }
        Carrying::Udp(bytes) => {
            let mut segment = ports(source, target);
            segment.extend(((8 + bytes.len()) as u16).to_be_bytes());
            segment.extend([0; 2]);
            segment.extend(bytes);
            (UDP, segment)
        }
    };
    let mut packet = header(source.ip(), target.ip(), protocol, segment.len());
    let checksum = segment_checksum(source.ip(), target.ip(), protocol, &segment);
    let place = packet.len() + if protocol == TCP { 16 } else { 6 };
    packet.extend(segment);
    packet[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
    packet
}

fn ports(source: &SocketAddr, target: &SocketAddr) -> Vec<u8> {
    [source.port().to_be_bytes(), target.port().to_be_bytes()].concat()
}

/// The header of IP. A segment that is longer than IPv4 can say has its length left out, which readers take for offloaded.
fn header(source: IpAddr, target: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let total = u16::try_from(20 + length).unwrap_or(0).to_be_bytes();
            let mut header = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
            header.extend(source.octets());
            header.extend(target.octets());
            let checksum = fold(sum(&header)).to_be_bytes();
            header[10..12].copy_from_slice(&checksum);
            header
        }
        (source, target) => {
            let length = u16::try_from(length).unwrap_or(0).to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, length[0], length[1], protocol, 64];
            header.extend(v6(source));
            header.extend(v6(target));
            header
        }
    }
}

fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn segment_checksum(source: IpAddr, target: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let addresses = match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => sum(&source.octets()) + sum(&target.octets()),
        (source, target) => sum(&v6(source)) + sum(&v6(target)),
    };
    let checksum = fold(addresses + u64::from(protocol) + segment.len() as u64 + sum(segment));
    // To UDP 0 means that there is none.
    if checksum == 0 && protocol == UDP { 0xffff } else { checksum }
}

/// Of 16-bit words, as RFC 1071 has it.
fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).map(word).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::HostIndex;

    fn carried(what: Carrying) -> Carried {
        let [source, target] = [1, 2].map(|host| SocketAddr::from(([198, 18, 0, host], 7000)));
        Carried { from: HostIndex(0), to: HostIndex(1), source, target, delay: 5, what }
    }

    #[test]
    fn checksums_come_out() {
        let tcp = Carrying::Tcp { flags: 24, seq: 1, ack: 1, bytes: b"abc".to_vec() };
        for what in [tcp, Carrying::Udp(b"abcd".to_vec())] {
            let packet = packet(&carried(what));
            let (header, segment) = packet.split_at(20);
            assert_eq!(fold(sum(header)), 0);
            let pseudo =
                sum(&[198, 18, 0, 1]) + sum(&[198, 18, 0, 2]) + u64::from(header[9]) + segment.len() as u64;
            assert_eq!(fold(pseudo + sum(segment)), 0);
        }
    }

    #[test]
    fn blocks_are_padded_and_measured_twice() {
        let mut out = Vec::new();
        block(&mut out, SECRETS, b"abcde");
        assert_eq!(out.len(), 20);
        assert_eq!(out[4..8], out[16..20]);
        assert_eq!(out[4], 20);
    }
}
