//! Unix datagrams: who sends to whom, how much waits, and what a peer's end looks like.

use std::net::Shutdown;

use machinarium::kernel::{Errno, Events, RecvFlags, SendFlags, SocketKind, SocketOption};

use crate::place::To;
use crate::scene::{Name, Scene};

const PLAIN: RecvFlags = RecvFlags { peek: false, oob: false };
const PEEK: RecvFlags = RecvFlags { peek: true, oob: false };
const EDGES: Events = Events::IN.with(Events::OUT).with(Events::RDHUP).with(Events::PRI).with(Events::ET);

fn put(scene: &mut Scene, name: Name, len: usize) {
    scene.send(name, len, SendFlags::default());
}

fn put_to(scene: &mut Scene, name: Name, len: usize, to: To) {
    scene.send_to(name, &[len], Some(to), SendFlags::default());
}

fn open(scene: &mut Scene) -> Name {
    scene.unix(SocketKind::Datagram)
}

fn bound(scene: &mut Scene, to: To) -> Name {
    let name = open(scene);
    scene.bind(name, to);
    name
}

pub(super) fn unix_datagrams(scene: &mut Scene) {
    let (one, two) = (open(scene), bound(scene, To::Path(0)));
    put(scene, one, 1);
    put_to(scene, one, 5, To::Path(0));
    put_to(scene, one, 0, To::Path(0));
    put_to(scene, one, 3, To::Path(1));
    put_to(scene, one, 3, To::Named(1));
    scene.fionread(two);
    scene.recvmsg(two, &[1, 2], PEEK);
    scene.recvmsg(two, &[1, 2], PLAIN);
    scene.recvmsg(two, &[9], PLAIN);
    scene.recvmsg(two, &[9], PLAIN);
    // How long one may be goes by the sender's buffer.
    scene.setsockopt(one, SocketOption::SendBuffer(5_000));
    for len in [9_968, 9_969, 10_000] {
        put_to(scene, one, len, To::Path(0));
    }
    scene.recvmsg(two, &[20_000], PLAIN);
    put(scene, one, 1 << 20);
}

pub(super) fn names_of_senders(scene: &mut Scene) {
    let receiver = bound(scene, To::Named(0));
    let [path, named, chosen, late] =
        [bound(scene, To::Path(1)), bound(scene, To::Named(1)), bound(scene, To::Unnamed), open(scene)];
    for name in [path, named, chosen, late] {
        put_to(scene, name, 2, To::Named(0));
    }
    // A name given after the sending is told too, and one stays when its socket is gone.
    scene.bind(late, To::Path(2));
    scene.close(path);
    scene.close(late);
    for _ in 0..4 {
        scene.recvmsg(receiver, &[9], PEEK);
        scene.recvmsg(receiver, &[9], PLAIN);
    }
}

pub(super) fn a_peer_that_closed(scene: &mut Scene) {
    let (one, two) = scene.socketpair(SocketKind::Datagram);
    let epoll = scene.epoll();
    scene.add(epoll, one, EDGES);
    put(scene, two, 3);
    put(scene, one, 4);
    scene.wait(epoll);
    scene.close(two);
    scene.wait(epoll);
    scene.getpeername(one);
    scene.error(one);
    // The first send finds it out, and what it had sent is lost with it.
    put(scene, one, 1);
    scene.wait(epoll);
    scene.getpeername(one);
    put(scene, one, 1);
    scene.recvmsg(one, &[9], PLAIN);
    let (one, two) = scene.socketpair(SocketKind::Datagram);
    put(scene, two, 3);
    scene.close(two);
    scene.recvmsg(one, &[9], PLAIN);
    scene.recvmsg(one, &[9], PLAIN);
    // Named and gone.
    let gone = bound(scene, To::Path(0));
    let name = open(scene);
    scene.connect(name, To::Path(0));
    scene.close(gone);
    put_to(scene, name, 1, To::Path(0));
    put(scene, name, 1);
    put(scene, name, 1);
    scene.inventory();
}

/// Eleven wait, of those who are not the reader's peer. Of who names the receiver each time nothing tells.
pub(super) fn a_full_queue_of_datagrams(scene: &mut Scene) {
    let receiver = bound(scene, To::Named(0));
    let (connected, free) = (open(scene), open(scene));
    scene.connect(connected, To::Named(0));
    let epoll = scene.epoll();
    scene.add(epoll, connected, EDGES);
    scene.add(epoll, free, EDGES);
    scene.wait(epoll);
    for _ in 0..12 {
        put(scene, connected, 2);
    }
    put_to(scene, free, 2, To::Named(0));
    scene.wait(epoll);
    scene.recvmsg(receiver, &[9], PEEK);
    scene.wait(epoll);
    scene.recvmsg(receiver, &[9], PLAIN);
    scene.wait(epoll);
    scene.wait(epoll);
    put_to(scene, free, 2, To::Named(0));
    put(scene, connected, 2);
    scene.wait(epoll);
    scene.close(receiver);
    scene.wait(epoll);
    put(scene, connected, 2);
    // Peers of each other go by their buffers.
    let (one, two) = scene.socketpair(SocketKind::Datagram);
    for _ in 0..13 {
        put(scene, one, 1);
    }
    let (kernel, fd) = (scene.kernel.clone(), scene.fd(one));
    let end = loop {
        if let Err(errno) = kernel.send(fd, &[7; 1_000], SendFlags::default()) {
            break errno;
        }
    };
    scene.say(format!("{end:?}"));
    assert_eq!(end, Errno::AGAIN);
    let watch = scene.epoll();
    scene.add(watch, one, EDGES);
    scene.wait(watch);
    let (fd, mut buf) = (scene.fd(two), [0; 2_000]);
    while kernel.recv(fd, &mut buf, PLAIN).is_ok() {}
    scene.wait(watch);
    scene.wait(watch);
}

pub(super) fn readiness_of_unix_datagrams(scene: &mut Scene) {
    let (one, two) = scene.socketpair(SocketKind::Datagram);
    let epoll = scene.epoll();
    scene.add(epoll, one, EDGES);
    scene.add(epoll, two, EDGES);
    let bare = open(scene);
    scene.add(epoll, bare, EDGES);
    scene.wait(epoll);
    for _ in 0..2 {
        put(scene, one, 3);
        scene.wait(epoll);
    }
    scene.recvmsg(two, &[1], PEEK);
    scene.wait(epoll);
    scene.recvmsg(two, &[1], PLAIN);
    scene.wait(epoll);
    put(scene, two, 1);
    scene.close(one);
    scene.wait(epoll);
    // A full peer takes the writability away, and gives it back.
    let (receiver, sender) = (bound(scene, To::Path(0)), open(scene));
    scene.connect(sender, To::Path(0));
    let levels = scene.epoll();
    scene.add(levels, sender, Events::OUT);
    for _ in 0..11 {
        put(scene, sender, 1);
    }
    scene.wait(levels);
    scene.recvmsg(receiver, &[1], PLAIN);
    scene.wait(levels);
    put(scene, sender, 1);
    scene.wait(levels);
    scene.close(receiver);
    scene.wait(levels);
}

/// A socket that has a peer hears nobody else.
pub(super) fn who_may_send(scene: &mut Scene) {
    let [one, two, three] = [To::Path(1), To::Path(2), To::Path(3)].map(|to| bound(scene, to));
    scene.connect(one, To::Path(2));
    scene.getpeername(one);
    put_to(scene, three, 1, To::Path(1));
    scene.connect(three, To::Path(1));
    put_to(scene, two, 1, To::Path(1));
    put(scene, one, 2);
    put_to(scene, one, 3, To::Path(3));
    scene.recvmsg(two, &[9], PLAIN);
    scene.recvmsg(three, &[9], PLAIN);
    scene.recvmsg(one, &[9], PLAIN);
    scene.inventory();
}

pub(super) fn reconnecting(scene: &mut Scene) {
    let [one, two, three] = [To::Path(1), To::Path(2), To::Path(3)].map(|to| bound(scene, to));
    let epoll = scene.epoll();
    scene.connect(one, To::Path(2));
    scene.connect(two, To::Path(1));
    scene.add(epoll, one, EDGES);
    scene.add(epoll, two, EDGES);
    put(scene, one, 2);
    put(scene, two, 3);
    scene.wait(epoll);
    // What the old peer had sent is lost, and it is told.
    scene.connect(one, To::Path(3));
    scene.wait(epoll);
    scene.recvmsg(one, &[9], PLAIN);
    put(scene, two, 1);
    scene.recvmsg(two, &[9], PLAIN);
    put(scene, two, 1);
    scene.recvmsg(two, &[9], PLAIN);
    put(scene, one, 4);
    scene.recvmsg(three, &[9], PLAIN);
    scene.connect(one, To::Path(3));
    scene.connect(one, To::Named(9));
    scene.getpeername(one);
    scene.inventory();
}

pub(super) fn shutting_down_unix_datagrams(scene: &mut Scene) {
    for how in [Shutdown::Read, Shutdown::Write, Shutdown::Both] {
        let (one, two) = scene.socketpair(SocketKind::Datagram);
        put(scene, one, 3);
        put(scene, two, 3);
        scene.shutdown(one, how);
        for name in [one, two] {
            put(scene, name, 1);
            scene.recvmsg(name, &[9], PLAIN);
            scene.recvmsg(name, &[9], PLAIN);
        }
        scene.inventory();
    }
    let bare = open(scene);
    scene.shutdown(bare, Shutdown::Both);
    put_to(scene, bare, 1, To::Path(0));
}

pub(super) fn strange_calls_on_unix_datagrams(scene: &mut Scene) {
    let (bare, bound) = (open(scene), bound(scene, To::Path(0)));
    scene.listen(bound, 1);
    scene.accept4(bound);
    scene.getpeername(bound);
    scene.read(bound, 0);
    scene.recv(bound, 0, PLAIN);
    scene.send(bound, 1, SendFlags { oob: true, more: false });
    scene.recv(bound, 1, RecvFlags { oob: true, peek: false });
    for to in [To::Own, To::Own6, To::Unnamed, To::NoPort] {
        put_to(scene, bare, 1, to);
        scene.connect(bare, to);
    }
    scene.connect(bare, To::Path(0));
    put_to(scene, bare, 1, To::Own);
    scene.write(bare, &[]);
    scene.sendmsg(bare, &[]);
    scene.sendmsg(bare, &[1, 0, 2]);
    for _ in 0..3 {
        scene.readv(bound, &[1, 1]);
    }
    scene.inventory();
}

pub(super) fn datagrams_to_oneself(scene: &mut Scene) {
    let name = bound(scene, To::Named(0));
    for _ in 0..13 {
        put_to(scene, name, 1, To::Named(0));
    }
    scene.connect(name, To::Named(0));
    scene.getpeername(name);
    put(scene, name, 2);
    let other = open(scene);
    put_to(scene, other, 1, To::Named(0));
    scene.recvmsg(name, &[9], PLAIN);
    scene.inventory();
    scene.close(name);
    put_to(scene, other, 1, To::Named(0));
}
