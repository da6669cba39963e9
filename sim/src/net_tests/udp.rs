//! UDP between hosts, which no loopback shows: losses, duplicates, reordering, refusals, partitions.

use std::io::{IoSlice, IoSliceMut};

use machinarium::kernel::{
    Address, Domain, Errno, Events, Fd, Received, RecvFlags, Result, SendFlags, SocketKind, SocketOption,
};

use super::{Lab, SECOND, address};
use crate::env::ProcessIndex;
use crate::link::{LinkOptions, Ratio};

impl Lab {
    fn udp(&mut self, p: ProcessIndex, at: &str) -> Fd {
        let domain = if at.starts_with('[') { Domain::Inet6 } else { Domain::Inet };
        let fd = self.net.socket(&mut self.env, p, domain, SocketKind::Datagram).expect("a socket");
        self.bind(p, fd, at).expect("a free port");
        fd
    }

    fn send_to(&mut self, p: ProcessIndex, fd: Fd, bytes: &[u8], to: &str) -> Result<usize> {
        let to = Address::Ip(address(to));
        self.net.sendmsg(&mut self.env, p, fd, &[IoSlice::new(bytes)], SendFlags::default(), Some(&to))
    }

    fn receive(&mut self, p: ProcessIndex, fd: Fd) -> Result<(Vec<u8>, Received)> {
        let mut buf = vec![0; 4_096];
        let bufs = &mut [IoSliceMut::new(&mut buf)];
        let received = self.net.recvmsg(&mut self.env, p, fd, bufs, RecvFlags::default())?;
        buf.truncate(received.count);
        Ok((buf, received))
    }

    /// The first bytes of all datagrams that wait.
    fn drain(&mut self, p: ProcessIndex, fd: Fd) -> Vec<u8> {
        std::iter::from_fn(|| self.receive(p, fd).ok().map(|(bytes, _)| bytes[0])).collect()
    }
}

/// What arrives of 200 numbered datagrams that leave 10 microseconds apart.
fn arrivals(seed: u64, link: LinkOptions) -> Vec<u8> {
    let mut lab = Lab::seeded(seed);
    let (a, b) = (lab.a, lab.b);
    lab.net.set_link(lab.hosts[0], lab.hosts[1], link);
    let (sender, receiver) = (lab.udp(a, "198.18.0.1:0"), lab.udp(b, "0.0.0.0:53"));
    let mut seen = Vec::new();
    for number in 0..200 {
        assert_eq!(lab.send_to(a, sender, &[number], "198.18.0.2:53"), Ok(1));
        lab.run(10_000);
        seen.extend(lab.drain(b, receiver));
    }
    lab.settle();
    seen.extend(lab.drain(b, receiver));
    for (p, fd) in [(a, sender), (b, receiver)] {
        lab.close(p, fd);
    }
    seen
}

#[test]
fn a_plain_link_keeps_every_datagram_in_its_order() {
    for seed in 1..20 {
        assert_eq!(arrivals(seed, LinkOptions::default()), (0..200).collect::<Vec<u8>>());
    }
}

#[test]
fn each_fault_of_a_link_does_what_it_says_and_no_more() {
    let often = Ratio::new(1, 5);
    let plain = LinkOptions::default();
    for seed in 1..10 {
        let lost = arrivals(seed, LinkOptions { loss: often, ..plain });
        assert!(lost.len() < 190 && lost.len() > 100, "{}", lost.len());
        assert!(lost.is_sorted(), "loss does not reorder");
        let twice = arrivals(seed, LinkOptions { duplicate: often, ..plain });
        assert!(twice.len() > 210 && twice.len() < 300, "{}", twice.len());
        assert!(twice.is_sorted(), "a duplicate follows at once");
        let mut late = arrivals(seed, LinkOptions { reorder: often, ..plain });
        assert!(!late.is_sorted(), "nothing is overtaken");
        late.sort_unstable();
        assert_eq!(late, (0..200).collect::<Vec<u8>>(), "what is late comes once");
    }
}

#[test]
fn a_port_that_nobody_has_refuses_who_is_connected() {
    let mut lab = Lab::new();
    let (a, b) = (lab.a, lab.b);
    let (free, connected) = (lab.udp(a, "198.18.0.1:0"), lab.udp(a, "198.18.0.1:0"));
    lab.connect(a, connected, "198.18.0.2:53").expect("a route");
    for fd in [free, connected] {
        assert_eq!(lab.send_to(a, fd, b"x", "198.18.0.2:53"), Ok(1));
    }
    // Not before it was there and back.
    lab.run(100_000);
    assert_eq!(lab.so_error(a, connected), None);
    lab.settle();
    assert_eq!(lab.events(a, connected), "OUT|ERR");
    assert_eq!(lab.so_error(a, connected), Some(Errno::CONNREFUSED));
    assert_eq!(lab.so_error(a, free), None);
    // A host without power says nothing, and neither does a link that is cut.
    lab.net.power_off(&mut lab.env, lab.hosts[1]);
    assert_eq!(lab.send(a, connected, b"x"), Ok(1));
    lab.settle();
    lab.net.power_on(&mut lab.env, lab.hosts[1]);
    lab.net.partition_one_way(lab.hosts[1], lab.hosts[0]);
    assert_eq!(lab.send(a, connected, b"x"), Ok(1));
    lab.settle();
    assert_eq!(lab.so_error(a, connected), None);
    lab.net.heal(lab.hosts[0], lab.hosts[1]);
    let server = lab.net.add_process(lab.hosts[1]);
    let receiver = lab.udp(server, "198.18.0.2:53");
    assert_eq!(lab.send(a, connected, b"x"), Ok(1));
    lab.settle();
    let (_, received) = lab.receive(server, receiver).expect("it is there");
    let from = lab.net.getsockname(&mut lab.env, a, connected).expect("bound");
    assert_eq!(received.from, Some(from));
    let _ = b;
}

#[test]
fn a_full_receive_buffer_drops_in_silence() {
    let mut lab = Lab::new();
    let (a, b) = (lab.a, lab.b);
    let (sender, receiver) = (lab.udp(a, "198.18.0.1:0"), lab.udp(b, "0.0.0.0:53"));
    lab.set(b, receiver, SocketOption::ReceiveBuffer(5_000)).expect("a socket");
    for number in 0..100 {
        assert_eq!(lab.send_to(a, sender, &[number; 1_000], "198.18.0.2:53"), Ok(1_000));
    }
    lab.settle();
    let seen = lab.drain(b, receiver);
    assert_eq!(seen, (0..seen.len() as u8).collect::<Vec<u8>>(), "the first ones");
    assert!((2..10).contains(&seen.len()), "{}", seen.len());
    // However small the buffer is, one datagram fits.
    lab.set(b, receiver, SocketOption::ReceiveBuffer(1)).expect("a socket");
    assert_eq!(lab.send_to(a, sender, &[7; 60_000], "198.18.0.2:53"), Ok(60_000));
    lab.settle();
    assert_eq!(lab.drain(b, receiver), [7]);
    lab.net.check_conservation();
}

#[test]
fn a_datagram_outlives_its_sender_and_not_its_receiver() {
    let mut lab = Lab::new();
    let (a, b) = (lab.a, lab.b);
    let (sender, receiver) = (lab.udp(a, "198.18.0.1:0"), lab.udp(b, "0.0.0.0:53"));
    lab.send_to(a, sender, b"last words", "198.18.0.2:53").expect("a route");
    lab.close(a, sender);
    lab.settle();
    assert_eq!(lab.receive(b, receiver).expect("it arrives").0, b"last words");
    let sender = lab.udp(a, "198.18.0.1:0");
    lab.send_to(a, sender, b"unheard", "198.18.0.2:53").expect("a route");
    lab.net.crash_process(&mut lab.env, b);
    lab.settle();
    lab.net.check_conservation();
    assert_eq!(lab.net.books().refused, 7);
    assert_eq!(lab.net.flights.iter().count(), 0);
}

#[test]
fn both_families_between_hosts() {
    let mut lab = Lab::new();
    let (a, b) = (lab.a, lab.b);
    let both = lab.udp(b, "[::]:53");
    let (four, six) = (lab.udp(a, "0.0.0.0:1000"), lab.udp(a, "[::]:2000"));
    lab.send_to(a, four, b"4", "198.18.0.2:53").expect("a route");
    lab.settle();
    lab.send_to(a, six, b"6", "[fd00::2]:53").expect("a route");
    lab.settle();
    let froms: Vec<_> = [(); 2].map(|()| lab.receive(b, both).expect("a datagram").1.from).to_vec();
    assert_eq!(
        froms,
        ["[::ffff:198.18.0.1]:1000", "[fd00::1]:2000"].map(|text| Some(Address::Ip(address(text))))
    );
    // And back to each, by the address that was told.
    lab.send_to(b, both, b"to 4", "[::ffff:198.18.0.1]:1000").expect("a route");
    lab.send_to(b, both, b"to 6", "[fd00::1]:2000").expect("a route");
    lab.settle();
    assert_eq!(lab.receive(a, four).expect("a datagram").0, b"to 4");
    assert_eq!(lab.receive(a, six).expect("a datagram").0, b"to 6");
    assert_eq!(lab.send_to(a, four, b"x", "198.18.9.9:1"), Err(Errno::NETUNREACH));
    lab.run(SECOND);
}

#[test]
fn sharers_of_a_port_are_drawn_from() {
    let mut lab = Lab::seeded(3);
    let (a, b) = (lab.a, lab.b);
    let open = |lab: &mut Lab| {
        let fd = lab.net.socket(&mut lab.env, b, Domain::Inet, SocketKind::Datagram).expect("a socket");
        lab.set(b, fd, SocketOption::ReusePort(true)).expect("a socket");
        lab.bind(b, fd, "0.0.0.0:53").expect("a shared port");
        fd
    };
    let sharers = [open(&mut lab), open(&mut lab)];
    let sender = lab.udp(a, "198.18.0.1:0");
    let epoll = lab.epoll(b);
    lab.add(b, epoll, sharers[0], Events::IN.with(Events::ET)).expect("an epoll instance");
    for number in 0..40 {
        lab.send_to(a, sender, &[number], "198.18.0.2:53").expect("a route");
    }
    lab.settle();
    assert_eq!(lab.wait(b, epoll, 4), format!("{}:IN", sharers[0]));
    let counts = sharers.map(|fd| lab.drain(b, fd).len());
    assert!(counts[0] > 8 && counts[1] > 8 && counts[0] + counts[1] == 40, "{counts:?}");
}
