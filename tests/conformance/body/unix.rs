//! Unix streams: names, connections, their ends, and what epoll hears of them.

use std::net::Shutdown;
use std::time::Duration;

use machinarium::kernel::{
    Domain, Errno, Events, OptionName, RecvFlags, SendFlags, SocketKind, SocketOption,
};

use crate::place::To;
use crate::scene::{Name, Scene};

const STREAM: SocketKind = SocketKind::Stream;
const DATAGRAM: SocketKind = SocketKind::Datagram;
const PLAIN: RecvFlags = RecvFlags { peek: false, oob: false };
const PEEK: RecvFlags = RecvFlags { peek: true, oob: false };
const EDGES: Events = Events::IN.with(Events::OUT).with(Events::RDHUP).with(Events::PRI).with(Events::ET);

fn put(scene: &mut Scene, name: Name, len: usize) {
    scene.send(name, len, SendFlags::default());
}

fn listener(scene: &mut Scene, at: To, backlog: u32) -> Name {
    let listener = scene.unix(STREAM);
    scene.bind(listener, at);
    scene.listen(listener, backlog);
    listener
}

/// A connection by a path: the client, the server, and the listener.
fn connection(scene: &mut Scene) -> (Name, Name, Name) {
    let listener = listener(scene, To::Path(0), 8);
    let client = scene.unix(STREAM);
    scene.connect(client, To::Path(0));
    let server = scene.accept4(listener);
    (client, server, listener)
}

pub(super) fn socketpair(scene: &mut Scene) {
    for kind in [STREAM, DATAGRAM] {
        let (one, two) = scene.socketpair(kind);
        scene.getsockname(one);
        scene.getpeername(one);
        for name in [OptionName::Type, OptionName::Domain, OptionName::PeerCredentials] {
            scene.getsockopt(two, name);
        }
        put(scene, one, 5);
        put(scene, one, 3);
        put(scene, two, 1);
        scene.recvmsg(two, &[2], PEEK);
        scene.recvmsg(two, &[2], PLAIN);
        scene.recvmsg(two, &[9], PLAIN);
        scene.recvmsg(two, &[9], PLAIN);
        scene.connect(one, To::Path(0));
        scene.listen(one, 1);
        scene.accept4(one);
        scene.shutdown(one, Shutdown::Write);
        scene.recvmsg(two, &[9], PLAIN);
        scene.inventory();
    }
}

pub(super) fn descriptors_of_pairs_run_out(scene: &mut Scene) {
    let first = scene.unix(STREAM);
    scene.limit_descriptors(2);
    scene.socketpair(STREAM);
    scene.close(first);
    let (one, two) = scene.socketpair(STREAM);
    scene.socketpair(STREAM);
    scene.unix(DATAGRAM);
    scene.close(one);
    put(scene, two, 1);
}

pub(super) fn ioctl_fionread(scene: &mut Scene) {
    let (one, two) = scene.socketpair(STREAM);
    put(scene, one, 5);
    put(scene, one, 3);
    scene.fionread(two);
    scene.read(two, 6);
    scene.fionread(two);
    scene.fionread(one);
    scene.close(one);
    scene.fionread(two);
    scene.read(two, 9);
    scene.fionread(two);
    let (one, two) = scene.socketpair(DATAGRAM);
    put(scene, one, 5);
    put(scene, one, 3);
    scene.fionread(two);
    scene.read(two, 1);
    scene.fionread(two);
    let path = listener(scene, To::Path(0), 1);
    scene.fionread(path);
    // TCP: up to an urgent byte.
    let (client, server, listener) = super::setup::connection(scene);
    scene.fionread(listener);
    put(scene, client, 4);
    scene.fionread(server);
    scene.send(client, 3, SendFlags { oob: true, more: false });
    put(scene, client, 2);
    scene.fionread(server);
    scene.read(server, 9);
    scene.fionread(server);
    scene.read(server, 9);
    scene.fionread(server);
    scene.shutdown(client, Shutdown::Write);
    scene.fionread(server);
    scene.read(server, 9);
    scene.fionread(server);
    let bare = scene.socket();
    scene.fionread(bare);
    let (event, epoll) = (scene.eventfd(1), scene.epoll());
    scene.fionread(epoll);
    scene.close(event);
    scene.fionread(event);
}

pub(super) fn unlink(scene: &mut Scene) {
    scene.unlink(0);
    let (client, server, listener) = connection(scene);
    scene.unlink(0);
    scene.unlink(0);
    // Who has the connection keeps it; nobody else finds the listener.
    put(scene, client, 3);
    scene.read(server, 9);
    let other = scene.unix(STREAM);
    scene.connect(other, To::Path(0));
    scene.getsockname(listener);
    // The path is free for another, and the first one's end does not touch it.
    let second = self::listener(scene, To::Path(0), 1);
    scene.close(listener);
    scene.connect(other, To::Path(0));
    scene.accept4(second);
    scene.bind(client, To::Path(1));
    scene.unlink(1);
    scene.bind(client, To::Path(1));
}

pub(super) fn names_of_sockets(scene: &mut Scene) {
    let first = scene.unix(STREAM);
    scene.getsockname(first);
    scene.listen(first, 1);
    scene.bind(first, To::Own);
    scene.bind(first, To::Own6);
    scene.bind(first, To::Named(0));
    scene.getsockname(first);
    for to in [To::Named(0), To::Named(1), To::Path(0), To::Unnamed] {
        scene.bind(first, to);
    }
    // Streams and datagrams do not share abstract names; a path is everybody's.
    let second = scene.unix(DATAGRAM);
    scene.bind(second, To::Named(0));
    let third = scene.unix(STREAM);
    scene.bind(third, To::Named(0));
    scene.bind(third, To::Path(1));
    let fourth = scene.unix(DATAGRAM);
    scene.bind(fourth, To::Path(1));
    scene.bind(third, To::Path(1));
    // An abstract name goes with its socket, a path does not.
    for name in [first, third] {
        scene.close(name);
    }
    let fifth = scene.unix(STREAM);
    scene.bind(fifth, To::Path(1));
    scene.bind(fifth, To::Named(0));
    // A chosen name.
    let sixth = scene.unix(STREAM);
    scene.bind(sixth, To::Unnamed);
    scene.getsockname(sixth);
    scene.listen(sixth, 1);
    let client = scene.unix(STREAM);
    scene.connect(client, To::Of(sixth));
    scene.getpeername(client);
    scene.accept4(sixth);
}

pub(super) fn a_unix_connection(scene: &mut Scene) {
    let listener = listener(scene, To::Named(7), 8);
    scene.accept4(listener);
    scene.getsockopt(listener, OptionName::AcceptConn);
    let client = scene.unix(STREAM);
    scene.getsockopt(client, OptionName::PeerCredentials);
    scene.bind(client, To::Path(0));
    scene.connect(client, To::Named(7));
    scene.getsockopt(client, OptionName::PeerCredentials);
    scene.connect(client, To::Named(7));
    scene.connect(client, To::Named(8));
    scene.getsockname(client);
    scene.getpeername(client);
    // It can be written to before it is accepted.
    put(scene, client, 5);
    scene.listen(client, 1);
    let server = scene.accept4(listener);
    scene.getsockname(server);
    scene.getpeername(server);
    scene.getsockopt(server, OptionName::AcceptConn);
    scene.getsockopt(server, OptionName::PeerCredentials);
    scene.recvmsg(server, &[2], PEEK);
    scene.recvmsg(server, &[9], PLAIN);
    put(scene, server, 4);
    scene.recvmsg(client, &[9], PLAIN);
    // Names stay when their sockets are gone.
    scene.close(client);
    scene.getpeername(server);
    scene.close(listener);
    scene.getsockname(server);
    let other = scene.unix(STREAM);
    scene.connect(other, To::Named(7));
    scene.bind(other, To::Named(7));
    scene.inventory();
}

pub(super) fn a_full_backlog(scene: &mut Scene) {
    for backlog in [0, 1, 3] {
        let listener = listener(scene, To::Named(backlog as u8), backlog);
        let epoll = scene.epoll();
        scene.add(epoll, listener, EDGES);
        scene.wait(epoll);
        let clients: Vec<Name> = (0..6).map(|_| scene.unix(STREAM)).collect();
        for client in &clients {
            scene.connect(*client, To::Named(backlog as u8));
            scene.wait(epoll);
        }
        scene.accept4(listener);
        scene.wait(epoll);
        scene.connect(clients[5], To::Named(backlog as u8));
        scene.listen(listener, 8);
        for client in &clients {
            scene.connect(*client, To::Named(backlog as u8));
        }
        // A client that has gone is accepted all the same.
        scene.close(clients[1]);
        for _ in 0..3 {
            let server = scene.accept4(listener);
            scene.read(server, 1);
        }
    }
}

pub(super) fn a_stale_path(scene: &mut Scene) {
    let first = listener(scene, To::Path(0), 1);
    scene.close(first);
    let client = scene.unix(STREAM);
    scene.connect(client, To::Path(0));
    scene.connect(client, To::Path(1));
    scene.connect(client, To::Named(1));
    let second = scene.unix(STREAM);
    scene.bind(second, To::Path(0));
    scene.unlink(0);
    scene.bind(second, To::Path(0));
    scene.connect(client, To::Path(0));
    scene.listen(second, 1);
    scene.connect(client, To::Path(0));
    // Of the other kind.
    let datagram = scene.unix(DATAGRAM);
    scene.connect(datagram, To::Path(0));
    scene.send_to(datagram, &[1], Some(To::Path(0)), SendFlags::default());
    scene.bind(datagram, To::Path(2));
    let other = scene.unix(STREAM);
    scene.connect(other, To::Path(2));
    scene.inventory();
}

pub(super) fn closing_a_unix_stream(scene: &mut Scene) {
    let (client, server, _) = connection(scene);
    let epoll = scene.epoll();
    scene.add(epoll, server, EDGES);
    scene.wait(epoll);
    put(scene, client, 5);
    scene.close(client);
    scene.wait(epoll);
    put(scene, server, 3);
    put(scene, server, 0);
    scene.error(server);
    scene.read(server, 3);
    scene.read(server, 3);
    scene.read(server, 3);
    scene.wait(epoll);
    scene.getpeername(server);
    scene.connect(server, To::Path(0));
    scene.shutdown(server, Shutdown::Both);
    scene.wait(epoll);
    scene.inventory();
}

pub(super) fn unread_bytes_reset_a_unix_stream(scene: &mut Scene) {
    for first in 0..4 {
        let (client, server) = scene.socketpair(STREAM);
        let epoll = scene.epoll();
        scene.add(epoll, client, EDGES);
        put(scene, client, 5);
        put(scene, server, 4);
        scene.read(server, 3);
        scene.wait(epoll);
        scene.close(server);
        scene.wait(epoll);
        match first {
            0 => scene.read(client, 3),
            1 => put(scene, client, 3),
            2 => scene.error(client),
            _ => scene.shutdown(client, Shutdown::Read),
        }
        // What is there is read, then the error is told, once, then the end.
        for _ in 0..3 {
            scene.read(client, 3);
        }
        put(scene, client, 1);
        scene.wait(epoll);
        scene.error(client);
    }
}

pub(super) fn shutting_down_a_unix_stream(scene: &mut Scene) {
    for how in [Shutdown::Read, Shutdown::Write, Shutdown::Both] {
        let (one, two) = scene.socketpair(STREAM);
        let epoll = scene.epoll();
        put(scene, one, 3);
        put(scene, two, 3);
        scene.add(epoll, one, EDGES);
        scene.add(epoll, two, EDGES);
        scene.wait(epoll);
        scene.shutdown(one, how);
        for name in [one, two] {
            put(scene, name, 1);
            scene.read(name, 9);
            scene.read(name, 9);
        }
        scene.shutdown(two, Shutdown::Write);
        scene.read(one, 9);
        scene.inventory();
    }
    let bare = scene.unix(STREAM);
    scene.shutdown(bare, Shutdown::Write);
    scene.read(bare, 1);
    put(scene, bare, 1);
    // What was shut before stays shut.
    let listener = listener(scene, To::Named(0), 1);
    scene.connect(bare, To::Named(0));
    put(scene, bare, 1);
    scene.shutdown(listener, Shutdown::Read);
    let late = scene.unix(STREAM);
    scene.connect(late, To::Named(0));
    let server = scene.accept4(listener);
    scene.accept4(listener);
    put(scene, server, 2);
    scene.read(bare, 2);
    scene.inventory();
}

/// Each send is an edge for the reader, and each one read whole is an edge for the writer.
pub(super) fn readiness_of_a_unix_stream(scene: &mut Scene) {
    let epoll = scene.epoll();
    let client = scene.unix(STREAM);
    scene.add(epoll, client, EDGES);
    scene.wait(epoll);
    let listener = listener(scene, To::Path(0), 8);
    scene.add(epoll, listener, EDGES);
    scene.wait(epoll);
    scene.connect(client, To::Path(0));
    scene.wait(epoll);
    let server = scene.accept4(listener);
    scene.wait(epoll);
    scene.add(epoll, server, EDGES);
    scene.wait(epoll);
    for _ in 0..2 {
        put(scene, client, 4);
        scene.wait(epoll);
    }
    scene.read(server, 2);
    scene.wait(epoll);
    scene.read(server, 2);
    scene.wait(epoll);
    scene.recv(server, 9, PEEK);
    scene.wait(epoll);
    scene.read(server, 9);
    scene.wait(epoll);
    put(scene, client, 4);
    scene.close(server);
    scene.wait(epoll);
    let second = scene.unix(STREAM);
    scene.connect(second, To::Path(0));
    scene.wait(epoll);
    scene.close(second);
    scene.wait(epoll);
}

/// How much fits is nobody's promise. That it ends, and that the writer hears when all was read, is.
pub(super) fn a_full_unix_stream_pushes_back(scene: &mut Scene) {
    for len in [1_000, 100_000] {
        let (one, two) = scene.socketpair(STREAM);
        scene.setsockopt(one, SocketOption::SendBuffer(1 << 15));
        let epoll = scene.epoll();
        scene.add(epoll, one, EDGES);
        scene.wait(epoll);
        let (kernel, fd) = (scene.kernel.clone(), scene.fd(one));
        let mut sent = 0;
        let end = loop {
            match kernel.send(fd, &vec![7; len], SendFlags::default()) {
                Ok(count) => sent += count,
                Err(errno) => break errno,
            }
        };
        scene.say(format!("{end:?} after more than a page: {}", sent > 4_096));
        assert_eq!(end, Errno::AGAIN);
        scene.wait(epoll);
        let (fd, mut buf, mut received) = (scene.fd(two), vec![0; 3_000], 0);
        while let Ok(count @ 1..) = kernel.recv(fd, &mut buf, PLAIN) {
            received += count;
        }
        scene.say(format!("all of it is read: {}", received == sent));
        scene.sleep(Duration::from_millis(1));
        scene.wait(epoll);
        scene.wait(epoll);
        put(scene, one, 5);
    }
}

pub(super) fn options_of_unix_sockets(scene: &mut Scene) {
    let names = [
        OptionName::Type,
        OptionName::Domain,
        OptionName::AcceptConn,
        OptionName::PeerCredentials,
        OptionName::Broadcast,
        OptionName::ReuseAddr,
        OptionName::ReusePort,
        OptionName::KeepAlive,
        OptionName::Linger,
        OptionName::NoDelay,
        OptionName::UserTimeout,
        OptionName::V6Only,
        OptionName::SendBuffer,
        OptionName::ReceiveBuffer,
        OptionName::Error,
    ];
    let options = [
        SocketOption::Broadcast(true),
        SocketOption::ReuseAddr(true),
        SocketOption::ReusePort(true),
        SocketOption::ReusePort(false),
        SocketOption::KeepAlive(true),
        SocketOption::Linger(Some(Duration::from_secs(3))),
        SocketOption::NoDelay(true),
        SocketOption::KeepCount(1_000),
        SocketOption::V6Only(true),
        SocketOption::SendBuffer(1),
        SocketOption::ReceiveBuffer(10_000),
        SocketOption::Type(STREAM),
        SocketOption::Domain(Domain::Inet),
        SocketOption::AcceptConn(true),
        SocketOption::PeerCredentials(None),
        SocketOption::Error(None),
    ];
    for kind in [STREAM, DATAGRAM] {
        let (one, two) = scene.socketpair(kind);
        let watch = scene.epoll();
        scene.add(watch, one, EDGES);
        names.iter().for_each(|option| scene.getsockopt(one, *option));
        for option in options {
            scene.wait(watch);
            scene.setsockopt(one, option);
        }
        names.iter().for_each(|option| scene.getsockopt(one, *option));
        scene.getsockopt(two, OptionName::SendBuffer);
    }
    // An accepted socket has none of its listener's.
    let listener = listener(scene, To::Named(0), 1);
    scene.setsockopt(listener, SocketOption::SendBuffer(9_000));
    scene.setsockopt(listener, SocketOption::KeepAlive(true));
    let client = scene.unix(STREAM);
    scene.connect(client, To::Named(0));
    let server = scene.accept4(listener);
    names.iter().for_each(|option| scene.getsockopt(server, *option));
}

pub(super) fn strange_calls_on_unix_streams(scene: &mut Scene) {
    let bare = scene.unix(STREAM);
    scene.getpeername(bare);
    scene.read(bare, 0);
    scene.read(bare, 1);
    scene.recv(bare, 0, PLAIN);
    scene.accept4(bare);
    put(scene, bare, 1);
    put(scene, bare, 0);
    scene.send_to(bare, &[1], Some(To::Path(0)), SendFlags::default());
    for to in [To::Own, To::Own6, To::Unnamed, To::Path(3), To::Named(3)] {
        scene.connect(bare, to);
    }
    let listener = listener(scene, To::Path(0), 1);
    put(scene, listener, 1);
    scene.read(listener, 1);
    scene.connect(listener, To::Path(0));
    scene.getpeername(listener);
    let (one, two) = scene.socketpair(STREAM);
    scene.send_to(one, &[1], Some(To::Path(0)), SendFlags::default());
    scene.recv(two, 0, PLAIN);
    put(scene, one, 3);
    scene.recv(two, 0, PLAIN);
    scene.recvmsg(two, &[0, 2], PLAIN);
    put(scene, one, 0);
    scene.write(one, &[]);
    scene.readv(two, &[0, 9]);
    scene.recvmsg(two, &[], PLAIN);
    let epoll = scene.epoll();
    scene.connect(epoll, To::Path(0));
    scene.connect(one, To::Own);
    scene.inventory();
}

/// Who was not accepted is reset, and what it was sent before is lost.
pub(super) fn a_listener_that_closes(scene: &mut Scene) {
    let listener = listener(scene, To::Path(0), 8);
    let clients: Vec<Name> = (0..3).map(|_| scene.unix(STREAM)).collect();
    let epoll = scene.epoll();
    for client in &clients {
        scene.connect(*client, To::Path(0));
        scene.add(epoll, *client, EDGES);
    }
    let server = scene.accept4(listener);
    put(scene, clients[1], 4);
    scene.close(clients[2]);
    scene.wait(epoll);
    scene.close(listener);
    scene.wait(epoll);
    for client in &clients {
        scene.read(*client, 1);
        put(scene, *client, 1);
        scene.read(*client, 1);
    }
    scene.read(server, 9);
    scene.inventory();
}
