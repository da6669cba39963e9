//! Random calls: nothing panics, nothing is lost from the books, and all is freed at the end.

use std::io::{IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::time::Duration;

use machinarium::kernel::{
    Address, Domain, Events, Fd, OptionName, RecvFlags, SendFlags, SocketKind, SocketOption, UnixName,
};

use super::{Lab, SECOND, address};
use crate::env::{Env, NetEvent, ProcessIndex, Stream, Subsystem};
use crate::link::{LinkOptions, Ratio};

fn draw(lab: &mut Lab, n: u64) -> u64 {
    lab.env.draw(Stream::new(Subsystem::Script, 0), "test", n)
}

fn step(lab: &mut Lab, process: ProcessIndex) {
    let open = lab.net.descriptors(process);
    // Mostly one that is open: a closed number is a short story.
    let known = open.get(draw(lab, 1 + open.len() as u64) as usize).map(|(fd, _)| *fd);
    let fd = known.unwrap_or(Fd::from_raw(3 + draw(lab, 12) as i32));
    let port = 80 + draw(lab, 2);
    let hosts = ["198.18.0.1", "198.18.0.2", "127.0.0.1"];
    let to = address(&format!("{}:{port}", hosts[draw(lab, 3) as usize]));
    let size = [1, 100, 3_000, 100_000][draw(lab, 4) as usize];
    let action = draw(lab, 26);
    let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][draw(lab, 3) as usize];
    let (net, env) = (&mut lab.net, &mut lab.env);
    let mut buf = vec![7; size];
    // Every answer is allowed here: what is checked is what the objects believe of themselves.
    match action {
        0 => {
            let fd = lab.socket(process);
            let _ = lab.bind(process, fd, &format!("0.0.0.0:{port}"));
            let _ = lab.listen(process, fd, 1);
        }
        1 => {
            let fd = lab.socket(process);
            let _ = net_connect(lab, process, fd, &to);
        }
        2 => drop(net.bind(env, process, fd, &address(&format!("0.0.0.0:{port}")).into())),
        3 | 4 => drop(net.listen(env, process, fd, 1)),
        5 | 6 => drop(net.connect(env, process, fd, &to.into())),
        7 | 8 => {
            for (fd, _) in open {
                let _ = net.accept4(env, process, fd);
            }
        }
        9 => drop(net.shutdown(env, process, fd, how)),
        10 => drop(net.close(env, process, fd)),
        11..=13 => drop(net.send(env, process, fd, &buf, SendFlags { oob: size == 1, more: false })),
        14..=16 => drop(net.recv(env, process, fd, &mut buf, RecvFlags { oob: size == 1, peek: false })),
        17 => {
            let options = [
                SocketOption::Linger(Some(Duration::ZERO)),
                SocketOption::SendBuffer(1),
                SocketOption::ReceiveBuffer(1),
                SocketOption::ReuseAddr(true),
                SocketOption::ReusePort(true),
                SocketOption::KeepAlive(true),
                SocketOption::UserTimeout(Duration::from_secs(9)),
            ];
            let _ = net.getsockopt(env, process, fd, OptionName::Error);
            let option = options[env.draw(Stream::new(Subsystem::Script, 0), "option", 7) as usize];
            let _ = net.setsockopt(env, process, fd, option);
        }
        20.. => local(lab, process, fd, action, &buf),
        _ => {
            let epoll = match net.descriptors(process).iter().find(|(_, what)| what == "epoll") {
                Some((epoll, _)) => *epoll,
                None => net.epoll_create1(env, process).expect("room"),
            };
            let _ = lab.add(process, epoll, fd, Events::IN.with(Events::OUT).with(Events::ET));
            lab.wait(process, epoll, 2);
        }
    }
}

/// Datagrams and Unix sockets.
fn local(lab: &mut Lab, process: ProcessIndex, fd: Fd, action: u64, bytes: &[u8]) {
    let kind = [SocketKind::Stream, SocketKind::Datagram][draw(lab, 2) as usize];
    let number = draw(lab, 3) as u8;
    let names = [UnixName::path(&[b'p', b'0' + number]), UnixName::abstract_name(&[number])];
    let name = Address::Unix(names[draw(lab, 2) as usize].expect("a short name"));
    let port = 80 + draw(lab, 2);
    let ip = address(&format!("{}:{port}", ["198.18.0.1", "198.18.0.2"][draw(lab, 2) as usize])).into();
    let to = [None, Some(&name), Some(&ip)][draw(lab, 3) as usize];
    let (net, env) = (&mut lab.net, &mut lab.env);
    match action {
        20 => {
            let domain = [Domain::Unix, Domain::Inet][number as usize % 2];
            let Ok(fd) = net.socket(env, process, domain, kind) else { return };
            let _ = net.bind(env, process, fd, if domain == Domain::Unix { &name } else { &ip });
            let _ = net.listen(env, process, fd, 1);
        }
        21 => drop(net.socketpair(env, process, kind)),
        22 => drop(net.connect(env, process, fd, to.unwrap_or(&name))),
        23 => {
            let flags = SendFlags { oob: false, more: number == 0 };
            let _ = net.sendmsg(env, process, fd, &[IoSlice::new(bytes)], flags, to);
        }
        24 => {
            let mut buf = vec![0; bytes.len()];
            let bufs = &mut [IoSliceMut::new(&mut buf)];
            let _ = net.recvmsg(env, process, fd, bufs, RecvFlags::default());
        }
        _ => drop(net.unlink(process, [c"p0", c"p1", c"p2"][number as usize])),
    }
}

fn net_connect(lab: &mut Lab, process: ProcessIndex, fd: Fd, to: &std::net::SocketAddr) -> bool {
    lab.net.connect(&mut lab.env, process, fd, &(*to).into()).is_ok()
}

fn sequence(seed: u64) -> (u64, crate::net::Books) {
    let mut lab = Lab::seeded(seed);
    let rare = Ratio::new(1, 20);
    let link = LinkOptions { loss: rare, duplicate: rare, reorder: rare, ..LinkOptions::default() };
    let link = LinkOptions { split: Ratio::new(1, 3), ..link };
    lab.net.set_link(lab.hosts[0], lab.hosts[1], link);
    let mut processes = [lab.a, lab.b];
    for _ in 0..400 {
        let which = draw(&mut lab, 2) as usize;
        step(&mut lab, processes[which]);
        lab.net.check_conservation();
        let host = lab.hosts[which];
        match draw(&mut lab, 100) {
            0 => lab.net.partition(lab.hosts[0], lab.hosts[1]),
            1 => lab.net.partition_one_way(lab.hosts[0], lab.hosts[1]),
            2..5 => lab.net.heal(lab.hosts[0], lab.hosts[1]),
            5 => lab.net.crash_process(&mut lab.env, processes[which]),
            6 => {
                lab.net.power_off(&mut lab.env, host);
                let pause = draw(&mut lab, 3 * SECOND);
                lab.run(pause);
                lab.net.power_on(&mut lab.env, host);
                processes[which] = lab.net.add_process(host);
            }
            7..30 => {
                let pause = draw(&mut lab, SECOND);
                lab.run(pause);
            }
            30..70 => lab.run(100_000),
            _ => {}
        }
    }
    lab.net.heal(lab.hosts[0], lab.hosts[1]);
    for process in processes {
        lab.net.crash_process(&mut lab.env, process);
    }
    lab.run(2_000 * SECOND);
    // The event of a keepalive may outlive its socket.
    let left = lab.env.queue.values().filter(|event| !matches!(event, NetEvent::Timer(_)));
    assert_eq!(left.count(), 0);
    assert_eq!(lab.net.sockets.iter().count(), 0, "{}", lab.net.netstat(lab.hosts[0]));
    assert_eq!(lab.net.udps.iter().count() + lab.net.flights.iter().count(), 0);
    assert_eq!(lab.net.unixes.iter().count(), 0, "{}", lab.net.netstat(lab.hosts[0]));
    assert_eq!(lab.net.items.iter().count(), 0);

    (lab.env.delivered, lab.net.books())
}

#[test]
fn random_calls_keep_the_books() {
    let mut received = 0;
    for seed in 1..500 {
        println!("seed {seed}");
        received += sequence(seed).1.received;
    }
    println!("{received} bytes");
    assert!(received > 100_000, "the calls did something: {received}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..10 {
        assert_eq!(sequence(seed), sequence(seed));
    }
}
