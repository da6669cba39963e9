//! How connections begin and end.

use std::time::Duration;

use machinarium::kernel::{Domain, Errno, Fd, SocketKind, SocketOption};

use super::{Lab, SECOND, address};

#[test]
fn numbers_are_the_lowest_free() {
    let mut lab = Lab::new();
    let a = lab.a;
    let fds: Vec<i32> = (0..3).map(|_| lab.socket(a).raw()).collect();
    assert_eq!(fds, [3, 4, 5]);
    lab.close(a, Fd::from_raw(4));
    assert_eq!(lab.socket(a).raw(), 4);
    assert_eq!(lab.socket(a).raw(), 6);
    lab.net.set_descriptor_limit(a, 7);
    assert_eq!(lab.net.socket(&mut lab.env, a, Domain::Inet, SocketKind::Stream), Err(Errno::MFILE));
    assert_eq!(lab.net.close(&mut lab.env, a, Fd::from_raw(99)), Err(Errno::BADF));
}

#[test]
fn connect_answers_in_turn() {
    let mut lab = Lab::new();
    let (client, _, _) = lab.pair();
    let a = lab.a;
    assert_eq!(lab.connect(a, client, "198.18.0.2:80"), Ok(()));
    assert_eq!(lab.connect(a, client, "198.18.0.2:80"), Err(Errno::ISCONN));
    let other = lab.socket(a);
    assert_eq!(lab.connect(a, other, "198.18.0.2:80"), Err(Errno::INPROGRESS));
    assert_eq!(lab.connect(a, other, "198.18.0.2:80"), Err(Errno::ALREADY));
    assert_eq!(lab.connect(a, other, "10.9.9.9:80"), Err(Errno::ALREADY));
    let third = lab.socket(a);
    assert_eq!(lab.connect(a, third, "10.9.9.9:80"), Err(Errno::NETUNREACH));
}

#[test]
fn refused_and_tried_again() {
    let mut lab = Lab::new();
    let a = lab.a;
    let client = lab.socket(a);
    assert_eq!(lab.events(a, client), "OUT|HUP");
    assert_eq!(lab.connect(a, client, "198.18.0.2:81"), Err(Errno::INPROGRESS));
    assert_eq!(lab.events(a, client), "0x0");
    lab.settle();
    assert_eq!(lab.events(a, client), "IN|OUT|ERR|HUP|RDHUP");
    assert_eq!(lab.connect(a, client, "198.18.0.2:81"), Err(Errno::CONNREFUSED));
    assert_eq!(lab.events(a, client), "OUT|HUP");
    assert_eq!(lab.connect(a, client, "198.18.0.2:81"), Err(Errno::INPROGRESS));
    lab.settle();
    assert_eq!(lab.so_error(a, client), Some(Errno::CONNREFUSED));
    assert_eq!(lab.so_error(a, client), None);
    assert_eq!(lab.connect(a, client, "198.18.0.2:81"), Err(Errno::CONNABORTED));
}

#[test]
fn connect_to_silence_times_out_after_127_seconds() {
    let mut lab = Lab::new();
    let a = lab.a;
    lab.net.partition(lab.hosts[0], lab.hosts[1]);
    let client = lab.socket(a);
    assert_eq!(lab.connect(a, client, "198.18.0.2:80"), Err(Errno::INPROGRESS));
    lab.run(126 * SECOND);
    assert_eq!(lab.connect(a, client, "198.18.0.2:80"), Err(Errno::ALREADY));
    lab.run(2 * SECOND);
    assert_eq!(lab.connect(a, client, "198.18.0.2:80"), Err(Errno::TIMEDOUT));
}

#[test]
fn a_timer_that_comes_late_is_no_other_one() {
    let mut lab = Lab::new();
    let (client, server, _) = lab.pair();
    let (a, b) = (lab.a, lab.b);
    lab.net.partition_one_way(lab.hosts[0], lab.hosts[1]);
    lab.send(a, client, b"again").expect("room");
    lab.settle();
    lab.net.heal(lab.hosts[0], lab.hosts[1]);
    // A thread's glances at its clock have taken a while, and events are overdue.
    lab.env.late = 1_000;
    lab.run(5 * SECOND);
    assert_eq!(lab.recv(b, server).as_deref(), Ok(&b"again"[..]));
}

#[test]
fn a_full_backlog_drops_and_is_retried() {
    let mut lab = Lab::new();
    let (a, b) = (lab.a, lab.b);
    let listener = lab.socket(b);
    lab.bind(b, listener, "0.0.0.0:80").expect("a free port");
    lab.listen(b, listener, 1).expect("a bound socket");
    let clients: Vec<Fd> = (0..4).map(|_| lab.socket(a)).collect();
    for client in &clients {
        assert_eq!(lab.connect(a, *client, "198.18.0.2:80"), Err(Errno::INPROGRESS));
        lab.settle();
    }
    let connected: Vec<_> = clients.iter().map(|fd| lab.connect(a, *fd, "198.18.0.2:80")).collect();
    assert_eq!(connected, [Ok(()), Ok(()), Err(Errno::ALREADY), Err(Errno::ALREADY)]);
    lab.accept(b, listener).expect("the first");
    lab.accept(b, listener).expect("the second");
    assert_eq!(lab.accept(b, listener), Err(Errno::AGAIN));
    lab.run(2 * SECOND);
    lab.accept(b, listener).expect("the third, on its second attempt");
}

#[test]
fn fin_half_close_and_time_wait() {
    let mut lab = Lab::new();
    let (client, server, listener) = lab.pair();
    let (a, b) = (lab.a, lab.b);
    lab.net.shutdown(&mut lab.env, a, client, std::net::Shutdown::Write).expect("connected");
    assert_eq!(lab.send(a, client, b"x"), Err(Errno::PIPE));
    lab.settle();
    assert_eq!(lab.events(b, server), "IN|OUT|RDHUP");
    assert_eq!(lab.recv(b, server), Ok(Vec::new()));
    lab.send(b, server, b"still here").expect("half open");
    lab.settle();
    assert_eq!(lab.recv(a, client).as_deref(), Ok(&b"still here"[..]));
    lab.close(b, server);
    lab.settle();
    assert_eq!(lab.events(a, client), "IN|OUT|HUP|RDHUP");
    assert!(lab.net.netstat(lab.hosts[0]).contains("TIME_WAIT"));
    lab.close(a, client);
    lab.close(b, listener);
    lab.run(61 * SECOND);
    assert!(!lab.net.netstat(lab.hosts[0]).contains("TIME_WAIT"));
    assert_eq!(lab.net.sockets.iter().count(), 0, "everything is freed");
}

#[test]
fn close_with_unread_bytes_resets() {
    let mut lab = Lab::new();
    let (client, server, _) = lab.pair();
    let (a, b) = (lab.a, lab.b);
    lab.send(a, client, b"unread").expect("room");
    lab.settle();
    lab.close(b, server);
    lab.settle();
    assert_eq!(lab.recv(a, client), Err(Errno::CONNRESET));
    assert_eq!(lab.recv(a, client), Ok(Vec::new()));
    assert_eq!(lab.send(a, client, b"x"), Err(Errno::PIPE));
    assert_eq!(lab.net.books().refused, 6);
}

#[test]
fn write_after_the_peers_close_succeeds_once() {
    let mut lab = Lab::new();
    let (client, server, _) = lab.pair();
    let (a, b) = (lab.a, lab.b);
    lab.close(b, server);
    lab.settle();
    assert_eq!(lab.send(a, client, b"x"), Ok(1));
    lab.settle();
    assert_eq!(lab.events(a, client), "IN|OUT|ERR|HUP|RDHUP");
    assert_eq!(lab.recv(a, client), Ok(Vec::new()), "the FIN came first");
    assert_eq!(lab.send(a, client, b"x"), Err(Errno::PIPE));
    assert_eq!(lab.so_error(a, client), None);
}

#[test]
fn linger_zero_delivers_what_flies_and_then_resets() {
    let mut lab = Lab::new();
    let (client, server, _) = lab.pair();
    let (a, b) = (lab.a, lab.b);
    lab.set(a, client, SocketOption::Linger(Some(Duration::ZERO))).expect("a time");
    lab.send(a, client, b"last words").expect("room");
    lab.close(a, client);
    lab.settle();
    assert_eq!(lab.events(b, server), "IN|OUT|ERR|HUP|RDHUP");
    assert_eq!(lab.recv(b, server).as_deref(), Ok(&b"last words"[..]));
    assert_eq!(lab.recv(b, server), Err(Errno::CONNRESET));
}

#[test]
fn a_crash_is_a_close_by_the_kernel() {
    let mut lab = Lab::new();
    let (client, server, listener) = lab.pair();
    let (a, b) = (lab.a, lab.b);
    let queued = lab.socket(a);
    assert_eq!(lab.connect(a, queued, "198.18.0.2:80"), Err(Errno::INPROGRESS));
    lab.send(a, client, b"unread").expect("room");
    lab.settle();
    lab.net.crash_process(&mut lab.env, b);
    lab.settle();
    assert_eq!(lab.so_error(a, client), Some(Errno::CONNRESET), "it had unread bytes");
    assert_eq!(lab.so_error(a, queued), Some(Errno::CONNRESET), "nobody will accept it");
    assert_eq!(lab.net.books().lost, 6);
    assert_eq!(lab.net.descriptors(b).len(), 0);
    let (_, _) = (server, listener);
}

#[test]
fn after_a_power_cut_there_is_silence_and_then_rst() {
    let mut lab = Lab::new();
    let (client, ..) = lab.pair();
    let a = lab.a;
    lab.net.power_off(&mut lab.env, lab.hosts[1]);
    lab.send(a, client, b"anybody?").expect("room");
    lab.run(3 * SECOND);
    assert_eq!(lab.so_error(a, client), None);
    lab.net.power_on(&mut lab.env, lab.hosts[1]);
    lab.run(10 * SECOND);
    assert_eq!(lab.so_error(a, client), Some(Errno::CONNRESET));
    lab.net.check_conservation();
}

#[test]
fn ports_conflict_as_on_linux() {
    let mut lab = Lab::new();
    let b = lab.b;
    let (one, two) = (lab.socket(b), lab.socket(b));
    assert_eq!(lab.bind(b, one, "198.18.0.9:80"), Err(Errno::ADDRNOTAVAIL));
    assert_eq!(lab.bind(b, one, "198.18.0.2:80"), Ok(()));
    assert_eq!(lab.bind(b, one, "198.18.0.2:81"), Err(Errno::INVAL));
    assert_eq!(lab.bind(b, two, "0.0.0.0:80"), Err(Errno::ADDRINUSE));
    assert_eq!(lab.bind(b, two, "127.0.0.1:80"), Ok(()));
    let (three, four) = (lab.socket(b), lab.socket(b));
    for fd in [three, four] {
        lab.set(b, fd, SocketOption::ReuseAddr(true)).expect("a flag");
        assert_eq!(lab.bind(b, fd, "0.0.0.0:90"), Ok(()), "both reuse and neither listens");
    }
    assert_eq!(lab.listen(b, three, 1), Ok(()));
    assert_eq!(lab.listen(b, four, 1), Err(Errno::ADDRINUSE));
}

#[test]
fn a_port_is_busy_in_time_wait_unless_reused() {
    let mut lab = Lab::new();
    let (client, server, listener) = lab.pair();
    let (a, b) = (lab.a, lab.b);
    lab.close(b, server);
    lab.settle();
    lab.close(a, client);
    lab.settle();
    lab.close(b, listener);
    let fresh = lab.socket(b);
    assert_eq!(lab.bind(b, fresh, "0.0.0.0:80"), Err(Errno::ADDRINUSE));
    lab.run(61 * SECOND);
    assert_eq!(lab.bind(b, fresh, "0.0.0.0:80"), Ok(()));
}

#[test]
fn reuseport_shares_by_choice() {
    let mut lab = Lab::seeded(7);
    let (a, b) = (lab.a, lab.b);
    let listeners = [lab.socket(b), lab.socket(b)];
    for listener in listeners {
        lab.set(b, listener, SocketOption::ReusePort(true)).expect("a flag");
        lab.bind(b, listener, "0.0.0.0:80").expect("a shared port");
        lab.listen(b, listener, 64).expect("a bound socket");
    }
    for _ in 0..32 {
        let client = lab.socket(a);
        assert_eq!(lab.connect(a, client, "198.18.0.2:80"), Err(Errno::INPROGRESS));
    }
    lab.settle();
    let counts = listeners.map(|fd| std::iter::from_fn(|| lab.accept(b, fd).ok()).count());
    assert_eq!(counts[0] + counts[1], 32);
    assert!(counts[0] > 4 && counts[1] > 4, "{counts:?}");
}

#[test]
fn an_ipv6_listener_hears_ipv4() {
    let mut lab = Lab::new();
    let (a, b) = (lab.a, lab.b);
    let listener = lab.net.socket(&mut lab.env, b, Domain::Inet6, SocketKind::Stream).expect("a socket");
    lab.bind(b, listener, "[::]:80").expect("a free port");
    lab.listen(b, listener, 8).expect("a bound socket");
    let client = lab.socket(a);
    assert_eq!(lab.connect(a, client, "198.18.0.2:80"), Err(Errno::INPROGRESS));
    lab.settle();
    let (server, peer) = lab.net.accept4(&mut lab.env, b, listener).expect("a connection");
    assert_eq!(peer.ip().map(|peer| peer.ip()), Ok(address("[::ffff:198.18.0.1]:0").ip()));
    let own = lab.net.getsockname(&mut lab.env, b, server).expect("connected");
    assert_eq!(own.ip(), Ok(address("[::ffff:198.18.0.2]:80")));
}
