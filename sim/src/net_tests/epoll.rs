//! The ready list: what is an edge, and what is not.

use machinarium::kernel::{EpollEvent, EpollOp, Errno, Events, RecvFlags, SocketOption};

use super::Lab;

const EDGE: Events = Events::IN.with(Events::OUT).with(Events::RDHUP).with(Events::PRI).with(Events::ET);

#[test]
fn each_segment_is_an_edge_and_a_partial_read_is_none() {
    let mut lab = Lab::new();
    let (client, server, _) = lab.pair();
    let (a, b) = (lab.a, lab.b);
    let epoll = lab.epoll(b);
    lab.add(b, epoll, server, EDGE).expect("new");
    assert_eq!(lab.wait(b, epoll, 8), format!("{server}:OUT"), "adding tells what is ready");
    assert_eq!(lab.wait(b, epoll, 8), "");
    lab.send(a, client, b"one").expect("room");
    lab.settle();
    assert_eq!(lab.wait(b, epoll, 8), format!("{server}:IN|OUT"));
    let mut byte = [0];
    lab.net.recv(&mut lab.env, b, server, &mut byte, RecvFlags::default()).expect("a byte");
    assert_eq!(lab.wait(b, epoll, 8), "", "a partial read is no edge");
    lab.send(a, client, b"two").expect("room");
    lab.settle();
    assert_eq!(lab.wait(b, epoll, 8), format!("{server}:IN|OUT"), "more data is one");
}

#[test]
fn room_is_an_edge_only_for_who_wanted_it() {
    let mut lab = Lab::new();
    let (client, server, _) = lab.pair();
    let (a, b) = (lab.a, lab.b);
    lab.set(a, client, SocketOption::SendBuffer(4_608)).expect("a size");
    let epoll = lab.epoll(a);
    lab.add(a, epoll, client, EDGE).expect("new");
    assert_eq!(lab.wait(a, epoll, 8), format!("{client}:OUT"));
    lab.send(a, client, b"small").expect("room");
    lab.settle();
    assert_eq!(lab.wait(a, epoll, 8), "", "nobody found it full");
    let sent = (0..).take_while(|_| lab.send(a, client, &[0; 4_096]).is_ok()).count();
    assert!(sent > 0);
    assert_eq!(lab.send(a, client, b"x"), Err(Errno::AGAIN));
    lab.settle();
    assert_eq!(lab.wait(a, epoll, 8), format!("{client}:OUT"));
    while lab.recv(b, server).is_ok() {}
}

#[test]
fn every_write_to_an_eventfd_is_an_edge() {
    let mut lab = Lab::new();
    let a = lab.a;
    let epoll = lab.epoll(a);
    let fd = lab.net.eventfd(&mut lab.env, a, 0).expect("an eventfd");
    lab.add(a, epoll, fd, Events::IN.with(Events::ET)).expect("new");
    assert_eq!(lab.wait(a, epoll, 8), "");
    let one = 1u64.to_ne_bytes();
    for _ in 0..2 {
        lab.net.write(&mut lab.env, a, fd, &one).expect("room");
        assert_eq!(lab.wait(a, epoll, 8), format!("{fd}:IN"));
        assert_eq!(lab.wait(a, epoll, 8), "");
    }
    let mut count = [0; 8];
    assert_eq!(lab.net.read(&mut lab.env, a, fd, &mut count), Ok(8));
    assert_eq!(u64::from_ne_bytes(count), 2);
    assert_eq!(lab.net.read(&mut lab.env, a, fd, &mut count), Err(Errno::AGAIN));
    assert_eq!(lab.net.read(&mut lab.env, a, fd, &mut count[..7]), Err(Errno::INVAL));
    lab.net.write(&mut lab.env, a, fd, &(u64::MAX - 1).to_ne_bytes()).expect("just fits");
    assert_eq!(lab.net.write(&mut lab.env, a, fd, &one), Err(Errno::AGAIN));
    assert_eq!(lab.events(a, fd), "IN");
}

#[test]
fn level_triggered_descriptors_take_turns() {
    let mut lab = Lab::new();
    let a = lab.a;
    let epoll = lab.epoll(a);
    let fds: Vec<_> = (0..3).map(|_| lab.net.eventfd(&mut lab.env, a, 1).expect("an eventfd")).collect();
    for fd in &fds {
        lab.add(a, epoll, *fd, Events::IN).expect("new");
    }
    let turns: Vec<String> = (0..3).map(|_| lab.wait(a, epoll, 2)).collect();
    let [x, y, z] = [fds[0], fds[1], fds[2]].map(|fd| format!("{fd}:IN"));
    assert_eq!(turns, [format!("{x} {y}"), format!("{z} {x}"), format!("{y} {z}")]);
}

#[test]
fn oneshot_is_armed_again_by_modify() {
    let mut lab = Lab::new();
    let a = lab.a;
    let epoll = lab.epoll(a);
    let fd = lab.net.eventfd(&mut lab.env, a, 1).expect("an eventfd");
    let events = Events::IN.with(Events::ONESHOT);
    lab.add(a, epoll, fd, events).expect("new");
    assert_eq!(lab.wait(a, epoll, 8), format!("{fd}:IN"));
    lab.net.write(&mut lab.env, a, fd, &1u64.to_ne_bytes()).expect("room");
    assert_eq!(lab.wait(a, epoll, 8), "");
    let again = EpollOp::Modify(EpollEvent { events, data: 77 });
    lab.net.epoll_ctl(&mut lab.env, a, epoll, again, fd).expect("known");
    assert_eq!(lab.wait(a, epoll, 8), "77:IN");
}

#[test]
fn closing_removes_the_registration() {
    let mut lab = Lab::new();
    let a = lab.a;
    let epoll = lab.epoll(a);
    let fd = lab.net.eventfd(&mut lab.env, a, 1).expect("an eventfd");
    lab.add(a, epoll, fd, Events::IN).expect("new");
    lab.close(a, fd);
    assert_eq!(lab.wait(a, epoll, 8), "");
    let same = lab.net.eventfd(&mut lab.env, a, 1).expect("an eventfd");
    assert_eq!(same, fd);
    assert_eq!(lab.wait(a, epoll, 8), "");
    let delete = lab.net.epoll_ctl(&mut lab.env, a, epoll, EpollOp::Delete, same);
    assert_eq!(delete, Err(Errno::NOENT));
}

#[test]
fn bad_arguments_of_epoll_ctl() {
    let mut lab = Lab::new();
    let a = lab.a;
    let (outer, inner) = (lab.epoll(a), lab.epoll(a));
    let fd = lab.net.eventfd(&mut lab.env, a, 0).expect("an eventfd");
    assert_eq!(lab.add(a, outer, outer, Events::IN), Err(Errno::INVAL));
    assert_eq!(lab.add(a, fd, outer, Events::IN), Err(Errno::INVAL));
    assert_eq!(lab.add(a, outer, inner, Events::IN), Ok(()));
    assert_eq!(lab.add(a, inner, outer, Events::IN), Err(Errno::LOOP));
    assert_eq!(lab.add(a, outer, inner, Events::IN), Err(Errno::EXIST));
    assert_eq!(lab.add(a, inner, fd, EDGE.with(Events::EXCLUSIVE)), Err(Errno::INVAL));
    assert_eq!(lab.add(a, inner, fd, Events::IN), Ok(()));
    lab.net.write(&mut lab.env, a, fd, &1u64.to_ne_bytes()).expect("room");
    assert_eq!(lab.wait(a, outer, 8), format!("{inner}:IN"), "readiness goes through a nested instance");
}
