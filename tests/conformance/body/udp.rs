//! UDP: ports, peers, refusals, and what epoll hears of datagrams.

use std::net::Shutdown;

use machinarium::kernel::{Domain, Events, OptionName, RecvFlags, SendFlags, SocketKind, SocketOption};

use crate::place::To;
use crate::scene::{Name, Scene};

const PLAIN: RecvFlags = RecvFlags { peek: false, oob: false };
const PEEK: RecvFlags = RecvFlags { peek: true, oob: false };
const EDGES: Events = Events::IN.with(Events::OUT).with(Events::RDHUP).with(Events::PRI).with(Events::ET);

fn bound(scene: &mut Scene) -> Name {
    let name = scene.udp();
    scene.bind(name, To::Own);
    name
}

fn put(scene: &mut Scene, name: Name, len: usize) {
    scene.send(name, len, SendFlags::default());
}

fn put_to(scene: &mut Scene, name: Name, len: usize, to: To) {
    scene.send_to(name, &[len], Some(to), SendFlags::default());
}

/// Two bound sockets, the first connected to the second.
fn pair(scene: &mut Scene) -> (Name, Name) {
    let (one, two) = (bound(scene), bound(scene));
    scene.connect(one, To::Of(two));
    (one, two)
}

pub(super) fn recvmsg(scene: &mut Scene) {
    let (one, two) = pair(scene);
    scene.recvmsg(two, &[9], PLAIN);
    put(scene, one, 5);
    put_to(scene, one, 3, To::Of(two));
    scene.recvmsg(two, &[2, 2], PEEK);
    scene.recvmsg(two, &[2, 9], PLAIN);
    scene.recvmsg(two, &[0], PEEK);
    scene.recvmsg(two, &[], PLAIN);
    scene.recvmsg(two, &[9], PLAIN);
    // A stream has no sender to tell.
    let (client, server, _) = super::setup::connection(scene);
    put(scene, client, 4);
    scene.recvmsg(server, &[1, 1], PEEK);
    scene.recvmsg(server, &[1, 9], PLAIN);
    scene.close(client);
    scene.recvmsg(server, &[9], PLAIN);
    let event = scene.eventfd(1);
    scene.recvmsg(event, &[8], PLAIN);
    scene.close(event);
    scene.recvmsg(event, &[8], PLAIN);
}

pub(super) fn a_udp_socket_before_and_after_connecting(scene: &mut Scene) {
    let one = scene.udp();
    scene.getsockname(one);
    scene.getpeername(one);
    put(scene, one, 1);
    // Also a call that failed has taken a port.
    scene.getsockname(one);
    let two = bound(scene);
    scene.connect(one, To::Of(two));
    scene.getsockname(one);
    scene.getpeername(one);
    scene.bind(one, To::Own);
    put(scene, one, 4);
    scene.recvmsg(two, &[9], PLAIN);
    // It hears its peer, and nobody else.
    let three = bound(scene);
    put_to(scene, three, 2, To::Of(one));
    put_to(scene, two, 3, To::Of(one));
    scene.recvmsg(one, &[9], PLAIN);
    scene.recvmsg(one, &[9], PLAIN);
    scene.connect(one, To::Of(three));
    scene.getsockname(one);
    put_to(scene, three, 2, To::Of(one));
    scene.recvmsg(one, &[9], PLAIN);
    scene.connect(one, To::NoPort);
    scene.getpeername(one);
    scene.inventory();
}

pub(super) fn ports_of_datagrams(scene: &mut Scene) {
    let (one, any) = (bound(scene), scene.udp());
    scene.bind(any, To::Any);
    scene.getsockname(any);
    let other = scene.udp();
    scene.bind(other, To::Foreign);
    scene.bind(other, To::Own6);
    scene.bind(other, To::Of(one));
    scene.getsockname(other);
    scene.bind(other, To::Near(any));
    scene.bind(other, To::Beside(one));
    scene.getsockname(other);
    scene.bind(other, To::Own);
    // Both must want to share.
    for option in [SocketOption::ReuseAddr(true), SocketOption::ReusePort(true)] {
        let [first, second, third] = [scene.udp(), scene.udp(), scene.udp()];
        scene.setsockopt(first, option);
        scene.bind(first, To::Own);
        scene.bind(second, To::Of(first));
        scene.setsockopt(second, option);
        scene.bind(second, To::Of(first));
        scene.bind(third, To::Any);
        scene.close(first);
    }
    // A port of TCP is none of UDP.
    let listener = super::setup::listener(scene, 1);
    let same = scene.udp();
    scene.bind(same, To::Of(listener));
    scene.close(one);
    let again = scene.udp();
    scene.bind(again, To::Left(one));
    // `To::Any` as a destination is oneself.
    let own = scene.udp();
    scene.bind(own, To::Any);
    put_to(scene, own, 3, To::Of(own));
    scene.recvmsg(own, &[9], PLAIN);
}

pub(super) fn a_refused_datagram(scene: &mut Scene) {
    let one = scene.udp();
    let epoll = scene.epoll();
    // Not connected, it never hears.
    put_to(scene, one, 3, To::Nobody);
    scene.error(one);
    scene.connect(one, To::Nobody);
    scene.add(epoll, one, EDGES);
    scene.wait(epoll);
    for round in 0..5 {
        put(scene, one, 3);
        scene.wait(epoll);
        match round {
            0 => scene.read(one, 9),
            1 => scene.recvmsg(one, &[9], PEEK),
            2 => put(scene, one, 3),
            3 => scene.error(one),
            _ => scene.connect(one, To::Nobody),
        }
        scene.error(one);
        scene.read(one, 9);
    }
    // The error comes before what is there to be read.
    let two = bound(scene);
    let three = bound(scene);
    scene.connect(three, To::Of(two));
    put_to(scene, two, 5, To::Of(three));
    scene.close(two);
    put(scene, three, 1);
    scene.recvmsg(three, &[9], PLAIN);
    scene.recvmsg(three, &[9], PLAIN);
    scene.recvmsg(three, &[9], PLAIN);
}

pub(super) fn a_datagram_is_cut_off_or_too_long(scene: &mut Scene) {
    let (one, two) = pair(scene);
    for len in [0, 1, 65_507, 65_508, 65_536, 70_000] {
        put(scene, one, len);
        scene.fionread(two);
        scene.recvmsg(two, &[100, 70_000], PLAIN);
    }
    put(scene, one, 10);
    put(scene, one, 20);
    scene.fionread(two);
    scene.read(two, 0);
    scene.recv(two, 0, PLAIN);
    scene.read(two, 5);
    scene.read(two, 5);
    scene.fionread(two);
    // An empty datagram is one.
    scene.write(one, &[]);
    scene.recvmsg(two, &[5], PLAIN);
    scene.readv(two, &[1, 2]);
}

pub(super) fn datagrams_of_both_families(scene: &mut Scene) {
    let (six, four) = (scene.open(Domain::Inet6, SocketKind::Datagram), bound(scene));
    scene.getsockname(six);
    scene.getsockopt(six, OptionName::V6Only);
    scene.bind(six, To::Any6);
    scene.getsockname(six);
    // From a socket of both families to IPv4, by either address.
    put_to(scene, six, 3, To::Mapped(four));
    scene.recvmsg(four, &[9], PLAIN);
    put_to(scene, six, 3, To::Of(four));
    scene.recvmsg(four, &[9], PLAIN);
    put_to(scene, four, 4, To::Near(six));
    scene.recvmsg(six, &[9], PLAIN);
    put_to(scene, four, 4, To::Of(six));
    scene.setsockopt(six, SocketOption::V6Only(true));
    // The port is taken for both.
    let same = scene.udp();
    scene.bind(same, To::Near(six));
    scene.connect(six, To::Mapped(four));
    scene.getsockname(six);
    scene.getpeername(six);
    put_to(scene, four, 4, To::Near(six));
    scene.recvmsg(six, &[9], PLAIN);
    // Of one family only.
    let only = scene.open(Domain::Inet6, SocketKind::Datagram);
    scene.setsockopt(only, SocketOption::V6Only(true));
    scene.bind(only, To::Own);
    scene.bind(only, To::Any6);
    put_to(scene, only, 1, To::Mapped(four));
    put_to(scene, only, 1, To::Of(four));
    scene.connect(only, To::Mapped(four));
    scene.connect(only, To::Of(four));
    let beside = scene.udp();
    scene.bind(beside, To::Near(only));
    put_to(scene, four, 4, To::Near(only));
    scene.read(only, 9);
    scene.read(beside, 9);
    // And IPv6 itself.
    let [one, two] = [(); 2].map(|()| scene.open(Domain::Inet6, SocketKind::Datagram));
    scene.bind(one, To::Own6);
    scene.connect(two, To::Of(one));
    scene.getsockname(two);
    put(scene, two, 65_507);
    scene.recvmsg(one, &[70_000], PLAIN);
    put(scene, two, 65_527);
    put(scene, two, 65_528);
    scene.recvmsg(one, &[70_000], PLAIN);
    scene.close(one);
    put(scene, two, 1);
    scene.error(two);
    scene.inventory();
}

pub(super) fn shutting_down_datagrams(scene: &mut Scene) {
    let (one, two) = pair(scene);
    let bare = scene.udp();
    let epoll = scene.epoll();
    for name in [one, two, bare] {
        scene.add(epoll, name, EDGES);
    }
    scene.wait(epoll);
    scene.shutdown(bare, Shutdown::Write);
    put_to(scene, bare, 1, To::Of(two));
    scene.shutdown(one, Shutdown::Read);
    scene.recvmsg(one, &[9], PLAIN);
    put_to(scene, two, 3, To::Of(one));
    scene.recvmsg(one, &[9], PLAIN);
    scene.recvmsg(one, &[9], PLAIN);
    put(scene, one, 2);
    scene.shutdown(one, Shutdown::Write);
    put(scene, one, 2);
    put_to(scene, one, 2, To::Of(two));
    scene.recvmsg(two, &[9], PLAIN);
    scene.connect(one, To::Of(bare));
    put(scene, one, 1);
    scene.inventory();
}

/// Each datagram is an edge for its reader, and for its writer too, whose buffer has room again.
pub(super) fn readiness_of_datagrams(scene: &mut Scene) {
    let (one, two) = pair(scene);
    let epoll = scene.epoll();
    scene.wait(epoll);
    scene.add(epoll, one, EDGES);
    scene.add(epoll, two, EDGES);
    scene.wait(epoll);
    scene.wait(epoll);
    for _ in 0..3 {
        put(scene, one, 3);
        scene.wait(epoll);
    }
    scene.read(two, 9);
    scene.wait(epoll);
    put_to(scene, two, 1, To::Of(two));
    scene.wait(epoll);
    put_to(scene, two, 1, To::NoPort);
    scene.wait(epoll);
    let only = scene.epoll();
    scene.add(only, two, Events::IN.with(Events::ET));
    scene.wait(only);
    put_to(scene, two, 1, To::Of(one));
    scene.wait(only);
    scene.close(two);
    put(scene, one, 1);
    scene.wait(epoll);
    scene.wait(only);
}

pub(super) fn options_of_datagrams(scene: &mut Scene) {
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
        OptionName::KeepIdle,
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
        SocketOption::KeepAlive(true),
        SocketOption::Linger(None),
        SocketOption::NoDelay(true),
        SocketOption::KeepCount(1_000),
        SocketOption::V6Only(true),
        SocketOption::SendBuffer(1),
        SocketOption::ReceiveBuffer(10_000),
        SocketOption::Type(SocketKind::Stream),
        SocketOption::Domain(Domain::Inet),
        SocketOption::AcceptConn(true),
        SocketOption::PeerCredentials(None),
        SocketOption::Error(None),
    ];
    for domain in [Domain::Inet, Domain::Inet6] {
        for kind in [SocketKind::Datagram, SocketKind::Stream] {
            let name = scene.open(domain, kind);
            let watch = scene.epoll();
            scene.add(watch, name, EDGES);
            // Buffers of streams grow by themselves.
            let told = |name: &OptionName| {
                kind == SocketKind::Datagram
                    || !matches!(name, OptionName::SendBuffer | OptionName::ReceiveBuffer)
            };
            names.iter().filter(|name| told(name)).for_each(|option| scene.getsockopt(name, *option));
            for option in options {
                scene.wait(watch);
                scene.setsockopt(name, option);
            }
            names.iter().filter(|name| told(name)).for_each(|option| scene.getsockopt(name, *option));
        }
    }
    // Everybody at once: only who has asked for it may.
    let name = scene.udp();
    put_to(scene, name, 1, To::LocalBroadcast);
    scene.connect(name, To::LocalBroadcast);
}

pub(super) fn strange_calls_on_datagrams(scene: &mut Scene) {
    let (one, two) = pair(scene);
    scene.listen(one, 1);
    scene.accept4(one);
    scene.send(one, 3, SendFlags { oob: true, more: false });
    scene.recv(one, 3, RecvFlags { oob: true, peek: false });
    for to in [To::NoPort, To::Own6, To::Path(0), To::Named(1), To::Unnamed] {
        put_to(scene, two, 1, to);
        scene.connect(two, to);
        let bare = scene.udp();
        scene.bind(bare, to);
        let six = scene.open(Domain::Inet6, SocketKind::Datagram);
        put_to(scene, six, 1, to);
        scene.bind(six, to);
        scene.connect(six, to);
    }
    let stream = scene.socket();
    put_to(scene, stream, 1, To::Of(one));
    scene.bind(stream, To::Path(0));
    scene.connect(stream, To::Unnamed);
    scene.connect(stream, To::Path(0));
    // Of a stream the address does not count.
    let (client, server, _) = super::setup::connection(scene);
    put_to(scene, client, 3, To::Unnamed);
    scene.read(server, 9);
    scene.fionread(server);
    scene.inventory();
}

/// MSG_MORE holds a datagram back until its end comes.
pub(super) fn a_corked_datagram(scene: &mut Scene) {
    let (one, two) = pair(scene);
    let three = bound(scene);
    let more = SendFlags { oob: false, more: true };
    scene.send(one, 3, more);
    scene.recvmsg(two, &[9], PLAIN);
    // Whatever address comes with the rest.
    scene.send_to(one, &[2], Some(To::Of(three)), more);
    put(scene, one, 1);
    scene.recvmsg(two, &[9], PLAIN);
    scene.recvmsg(three, &[9], PLAIN);
    scene.send(one, 65_507, more);
    scene.send(one, 1, more);
    put(scene, one, 0);
    scene.recvmsg(two, &[70_000], PLAIN);
    scene.send(one, 3, more);
    scene.close(one);
    scene.recvmsg(two, &[9], PLAIN);
}

/// Of several sockets at a port.
pub(super) fn the_one_who_hears(scene: &mut Scene) {
    let sender = bound(scene);
    let shared = |scene: &mut Scene, to: To| {
        let name = scene.udp();
        scene.setsockopt(name, SocketOption::ReuseAddr(true));
        scene.bind(name, to);
        name
    };
    let first = shared(scene, To::Own);
    let second = shared(scene, To::Of(first));
    put_to(scene, sender, 1, To::Of(first));
    scene.read(first, 9);
    scene.read(second, 9);
    // Who is connected to the sender is before all others.
    scene.connect(first, To::Of(sender));
    put_to(scene, sender, 2, To::Of(first));
    scene.read(first, 9);
    scene.read(second, 9);
    let stranger = bound(scene);
    put_to(scene, stranger, 3, To::Of(first));
    scene.read(first, 9);
    scene.read(second, 9);
    // A very address is before any address.
    let third = shared(scene, To::Any);
    let fourth = shared(scene, To::Near(third));
    put_to(scene, sender, 4, To::Near(third));
    put_to(scene, sender, 5, To::Beside(third));
    scene.read(third, 9);
    scene.read(fourth, 9);
    scene.close(fourth);
    put_to(scene, sender, 6, To::Near(third));
    scene.read(third, 9);
    scene.inventory();
}
