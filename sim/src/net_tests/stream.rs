//! Bytes: order, back-pressure, urgent bytes, loss and partitions.

use machinarium::kernel::{Errno, RecvFlags, SocketOption};

use super::{Lab, SECOND};
use crate::link::{LinkOptions, Ratio};

#[test]
fn bytes_go_both_ways() {
    let mut lab = Lab::new();
    let (client, server, _) = lab.pair();
    let (a, b) = (lab.a, lab.b);
    assert_eq!(lab.recv(b, server), Err(Errno::AGAIN));
    assert_eq!(lab.send(a, client, b"hello"), Ok(5));
    assert_eq!(lab.recv(b, server), Err(Errno::AGAIN));
    lab.settle();
    assert_eq!(lab.events(b, server), "IN|OUT");
    assert_eq!(lab.recv(b, server).as_deref(), Ok(&b"hello"[..]));
    assert_eq!(lab.send(b, server, b"world"), Ok(5));
    lab.settle();
    assert_eq!(lab.recv(a, client).as_deref(), Ok(&b"world"[..]));
    assert_eq!(lab.net.books().received, 10);
}

/// A writer that is faster than the reader stops, loses nothing, and goes on when there is room.
fn pump(lab: &mut Lab, total: usize) {
    let (client, server, _) = lab.pair();
    let (a, b) = (lab.a, lab.b);
    lab.set(a, client, SocketOption::SendBuffer(1)).expect("any size");
    lab.set(b, server, SocketOption::ReceiveBuffer(1)).expect("any size");
    let data: Vec<u8> = (0..total).map(|i| (i % 251) as u8).collect();
    let (mut sent, mut got, mut full) = (0, Vec::new(), 0);
    while got.len() < total {
        while sent < total {
            match lab.send(a, client, &data[sent..]) {
                Ok(count) => sent += count,
                Err(errno) => {
                    assert_eq!(errno, Errno::AGAIN);
                    full += 1;
                    break;
                }
            }
        }
        lab.run(SECOND / 50);
        while let Ok(bytes) = lab.recv(b, server) {
            got.extend(bytes);
        }
        assert!(lab.now() < 10_000 * SECOND, "stuck at {} of {total}", got.len());
    }
    assert_eq!(got, data);
    assert!(full > 0, "the writer never met a full queue");
}

#[test]
fn back_pressure() {
    pump(&mut Lab::new(), 100_000);
}

#[test]
fn loss_is_delay() {
    for seed in 1..20 {
        let mut lab = Lab::seeded(seed);
        let link = LinkOptions { loss: Ratio::new(1, 10), split: Ratio::new(1, 2), ..LinkOptions::default() };
        lab.net.set_link(lab.hosts[0], lab.hosts[1], link);
        let listener = lab.socket(lab.b);
        lab.bind(lab.b, listener, "0.0.0.0:80").expect("a free port");
        lab.listen(lab.b, listener, 8).expect("a bound socket");
        let client = lab.socket(lab.a);
        assert_eq!(lab.connect(lab.a, client, "198.18.0.2:80"), Err(Errno::INPROGRESS));
        // The handshake needs its own retries.
        lab.run(60 * SECOND);
        let server = lab.accept(lab.b, listener).expect("a connection");
        let (a, b) = (lab.a, lab.b);
        let data: Vec<u8> = (0..50_000u32).map(|i| (i % 253) as u8).collect();
        let (mut sent, mut got) = (0, Vec::new());
        while got.len() < data.len() {
            let next = (sent + 1_000).min(data.len());
            sent += lab.send(a, client, &data[sent..next]).unwrap_or(0);
            lab.run(SECOND / 100);
            while let Ok(bytes) = lab.recv(b, server) {
                got.extend(bytes);
            }
            assert!(lab.now() < 10_000 * SECOND, "stuck");
        }
        assert_eq!(got, data);
    }
}

#[test]
fn a_partition_holds_bytes_back_until_it_heals() {
    let mut lab = Lab::new();
    let (client, server, _) = lab.pair();
    let (a, b) = (lab.a, lab.b);
    lab.net.partition_one_way(lab.hosts[0], lab.hosts[1]);
    lab.send(a, client, b"late").expect("room");
    lab.run(5 * SECOND);
    assert_eq!(lab.recv(b, server), Err(Errno::AGAIN));
    // The other way still works.
    lab.send(b, server, b"x").expect("room");
    lab.run(SECOND);
    assert_eq!(lab.recv(a, client).as_deref(), Ok(&b"x"[..]));
    lab.net.heal(lab.hosts[0], lab.hosts[1]);
    lab.run(10 * SECOND);
    assert_eq!(lab.recv(b, server).as_deref(), Ok(&b"late"[..]));
}

#[test]
fn silence_ends_in_etimedout() {
    let mut lab = Lab::new();
    let (client, _, _) = lab.pair();
    let a = lab.a;
    lab.net.partition(lab.hosts[0], lab.hosts[1]);
    lab.send(a, client, b"x").expect("room");
    lab.run(900 * SECOND);
    assert_eq!(lab.events(a, client), "OUT");
    lab.run(60 * SECOND);
    assert_eq!(lab.events(a, client), "IN|OUT|ERR|HUP|RDHUP");
    assert_eq!(lab.recv(a, client), Err(Errno::TIMEDOUT));
    assert_eq!(lab.recv(a, client), Ok(Vec::new()));
}

#[test]
fn the_user_timeout_is_kept() {
    let mut lab = Lab::new();
    let (client, _, _) = lab.pair();
    let a = lab.a;
    lab.set(a, client, SocketOption::UserTimeout(std::time::Duration::from_secs(3))).expect("a time");
    lab.net.partition(lab.hosts[0], lab.hosts[1]);
    lab.send(a, client, b"x").expect("room");
    lab.run(2_900_000_000);
    assert_eq!(lab.so_error(a, client), None);
    lab.run(SECOND / 5);
    assert_eq!(lab.so_error(a, client), Some(Errno::TIMEDOUT));
}

#[test]
fn keepalive_finds_a_dead_peer() {
    let mut lab = Lab::new();
    let (client, _, _) = lab.pair();
    let a = lab.a;
    let secs = std::time::Duration::from_secs;
    for option in [
        SocketOption::KeepIdle(secs(10)),
        SocketOption::KeepInterval(secs(2)),
        SocketOption::KeepCount(3),
        SocketOption::KeepAlive(true),
    ] {
        lab.set(a, client, option).expect("in range");
    }
    lab.run(100 * SECOND);
    assert_eq!(lab.so_error(a, client), None, "an idle peer answers probes");
    lab.net.partition(lab.hosts[0], lab.hosts[1]);
    lab.run(30 * SECOND);
    assert_eq!(lab.so_error(a, client), Some(Errno::TIMEDOUT));
}

#[test]
fn an_urgent_byte_stops_a_read_and_is_skipped() {
    let mut lab = Lab::new();
    let (client, server, _) = lab.pair();
    let (a, b) = (lab.a, lab.b);
    lab.send(a, client, b"ab").expect("room");
    lab.urgent(a, client, b"!").expect("room");
    lab.send(a, client, b"cd").expect("room");
    lab.settle();
    assert_eq!(lab.events(b, server), "IN|PRI|OUT");
    assert_eq!(lab.recv(b, server).as_deref(), Ok(&b"ab"[..]));
    let mut byte = [0];
    let oob = RecvFlags { oob: true, peek: false };
    assert_eq!(lab.net.recv(&mut lab.env, b, server, &mut byte, oob), Ok(1));
    assert_eq!(&byte, b"!");
    assert_eq!(lab.net.recv(&mut lab.env, b, server, &mut byte, oob), Err(Errno::INVAL));
    assert_eq!(lab.recv(b, server).as_deref(), Ok(&b"cd"[..]));
    assert_eq!(lab.recv(b, server), Err(Errno::AGAIN));
}
