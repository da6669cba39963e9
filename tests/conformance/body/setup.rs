//! Sockets before bytes: their addresses, their roles, their options, their numbers.

use std::net::Shutdown;
use std::time::Duration;

use machinarium::kernel::{Domain, OptionName, SendFlags, SocketOption};

use crate::place::To;
use crate::scene::{Name, Scene};

/// A listener at the scene's address.
pub(super) fn listener(scene: &mut Scene, backlog: u32) -> Name {
    let listener = scene.socket();
    scene.bind(listener, To::Own);
    scene.listen(listener, backlog);
    listener
}

/// A connection: the client, the server, and the listener that made it.
pub(super) fn connection(scene: &mut Scene) -> (Name, Name, Name) {
    let listener = listener(scene, 8);
    let client = scene.socket();
    scene.connect(client, To::Of(listener));
    let server = scene.accept4(listener);
    (client, server, listener)
}

/// What is no socket, and what is nothing, answers every call of sockets the same way.
fn strangers(scene: &mut Scene, call: impl Fn(&mut Scene, Name)) {
    let event = scene.eventfd(0);
    let epoll = scene.epoll();
    let closed = scene.socket();
    scene.close(closed);
    for name in [event, epoll, closed] {
        call(scene, name);
    }
}

pub(super) fn socket(scene: &mut Scene) {
    let first = scene.socket();
    let second = scene.socket();
    scene.socket_of(Domain::Inet6);
    scene.getsockname(first);
    scene.error(second);
    // The lowest free number is the next.
    scene.close(first);
    scene.socket();
    scene.socket();
    scene.inventory();
}

pub(super) fn bind(scene: &mut Scene) {
    let socket = scene.socket();
    scene.bind(socket, To::Foreign);
    scene.bind(socket, To::Own6);
    scene.bind(socket, To::Own);
    scene.getsockname(socket);
    scene.bind(socket, To::Own);
    let any = scene.socket();
    scene.bind(any, To::Any);
    scene.getsockname(any);
    // The same address is taken, also if only one asks to share it; another address has the port free.
    let other = scene.socket();
    scene.bind(other, To::Of(socket));
    scene.setsockopt(other, SocketOption::ReuseAddr(true));
    scene.bind(other, To::Of(socket));
    scene.bind(other, To::Near(any));
    scene.bind(other, To::Beside(socket));
    scene.getsockname(other);
    // Two that share a port may not both listen.
    let [one, two] = [scene.socket(), scene.socket()];
    for name in [one, two] {
        scene.setsockopt(name, SocketOption::ReuseAddr(true));
    }
    scene.bind(one, To::Own);
    scene.bind(two, To::Of(one));
    scene.listen(one, 1);
    scene.listen(two, 1);
    let three = scene.socket();
    scene.setsockopt(three, SocketOption::ReuseAddr(true));
    scene.bind(three, To::Of(one));
    strangers(scene, |scene, name| scene.bind(name, To::Own));
}

pub(super) fn listen(scene: &mut Scene) {
    let bare = scene.socket();
    scene.listen(bare, 4);
    scene.getsockname(bare);
    scene.listen(bare, 0);
    scene.listen(bare, u32::MAX);
    let (client, server, _) = connection(scene);
    scene.listen(client, 1);
    scene.listen(server, 1);
    scene.send(bare, 1, SendFlags::default());
    scene.read(bare, 1);
    scene.connect(bare, To::Of(client));
    // Shutting down for reading ends listening; it can begin again, on the same port.
    scene.shutdown(bare, Shutdown::Read);
    scene.accept4(bare);
    scene.listen(bare, 1);
    scene.accept4(bare);
    strangers(scene, |scene, name| scene.listen(name, 1));
    scene.inventory();
}

pub(super) fn accept4(scene: &mut Scene) {
    let bare = scene.socket();
    scene.accept4(bare);
    let (client, server, listener) = connection(scene);
    scene.accept4(listener);
    scene.accept4(client);
    scene.accept4(server);
    scene.getsockname(server);
    scene.getpeername(server);
    // What it inherits of the listener.
    scene.setsockopt(listener, SocketOption::KeepAlive(true));
    scene.setsockopt(listener, SocketOption::UserTimeout(Duration::from_secs(7)));
    let second = scene.socket();
    scene.connect(second, To::Of(listener));
    let accepted = scene.accept4(listener);
    for name in [OptionName::KeepAlive, OptionName::UserTimeout, OptionName::NoDelay, OptionName::ReuseAddr] {
        scene.getsockopt(accepted, name);
    }
    // One that was reset while it waited is accepted all the same.
    let third = scene.socket();
    scene.connect(third, To::Of(listener));
    scene.send(third, 5, SendFlags::default());
    scene.setsockopt(third, SocketOption::Linger(Some(Duration::ZERO)));
    scene.close(third);
    let reset = scene.accept4(listener);
    scene.getpeername(reset);
    scene.read(reset, 10);
    scene.read(reset, 10);
    strangers(scene, |scene, name| _ = scene.accept4(name));
    scene.inventory();
}

pub(super) fn connect(scene: &mut Scene) {
    let listener = listener(scene, 8);
    let client = scene.socket();
    scene.connect(client, To::Own6);
    scene.connect(client, To::Of(listener));
    // Once it is there, the second call says so, and the third that it is no news.
    scene.connect(client, To::Of(listener));
    scene.connect(client, To::Of(listener));
    scene.getpeername(client);
    // From an address of one's own choice, to anywhere, which is oneself.
    let bound = scene.socket();
    scene.bind(bound, To::Own);
    scene.connect(bound, To::Of(listener));
    scene.getsockname(bound);
    let everywhere = scene.socket();
    scene.listen(everywhere, 2);
    let far = scene.socket();
    scene.connect(far, To::Of(everywhere));
    scene.getpeername(far);
    // Shut down on its way.
    let hasty = scene.socket();
    scene.connect(hasty, To::Of(listener));
    scene.shutdown(hasty, Shutdown::Both);
    scene.connect(hasty, To::Of(listener));
    strangers(scene, |scene, name| scene.connect(name, To::Own));
    scene.inventory();
}

pub(super) fn getsockname(scene: &mut Scene) {
    let (client, server, listener) = connection(scene);
    let bare = scene.socket();
    for name in [client, server, listener, bare] {
        scene.getsockname(name);
    }
    // After the end it still knows.
    scene.close(server);
    scene.shutdown(client, Shutdown::Both);
    scene.getsockname(client);
    strangers(scene, |scene, name| scene.getsockname(name));
}

pub(super) fn getpeername(scene: &mut Scene) {
    let (client, server, listener) = connection(scene);
    let bare = scene.socket();
    for name in [client, server, listener, bare] {
        scene.getpeername(name);
    }
    // Half closed it has a peer; reset it has none.
    scene.shutdown(client, Shutdown::Write);
    scene.getpeername(client);
    scene.getpeername(server);
    scene.setsockopt(server, SocketOption::Linger(Some(Duration::ZERO)));
    scene.close(server);
    scene.getpeername(client);
    strangers(scene, |scene, name| scene.getpeername(name));
}

const NAMES: [OptionName; 12] = [
    OptionName::ReuseAddr,
    OptionName::ReusePort,
    OptionName::NoDelay,
    OptionName::KeepAlive,
    OptionName::KeepIdle,
    OptionName::KeepInterval,
    OptionName::KeepCount,
    OptionName::UserTimeout,
    OptionName::Linger,
    OptionName::SendBuffer,
    OptionName::ReceiveBuffer,
    OptionName::V6Only,
];

pub(super) fn getsockopt(scene: &mut Scene) {
    let fresh = scene.socket();
    for name in NAMES {
        scene.getsockopt(fresh, name);
    }
    let fresh = scene.socket_of(Domain::Inet6);
    scene.getsockopt(fresh, OptionName::V6Only);
    let listener = listener(scene, 1);
    scene.getsockopt(listener, OptionName::ReuseAddr);
    scene.error(listener);
    strangers(scene, |scene, name| scene.getsockopt(name, OptionName::KeepAlive));
}

pub(super) fn setsockopt(scene: &mut Scene) {
    let seconds = Duration::from_secs;
    let socket = scene.socket();
    let options = [
        SocketOption::ReuseAddr(true),
        SocketOption::ReusePort(true),
        SocketOption::NoDelay(false),
        SocketOption::KeepAlive(true),
        SocketOption::KeepIdle(seconds(1)),
        SocketOption::KeepIdle(seconds(32_767)),
        SocketOption::KeepIdle(seconds(32_768)),
        SocketOption::KeepIdle(seconds(0)),
        SocketOption::KeepInterval(seconds(32_767)),
        SocketOption::KeepInterval(seconds(0)),
        SocketOption::KeepCount(127),
        SocketOption::KeepCount(128),
        SocketOption::KeepCount(0),
        SocketOption::UserTimeout(Duration::from_millis(1)),
        SocketOption::UserTimeout(Duration::ZERO),
        SocketOption::Linger(Some(seconds(3))),
        SocketOption::Linger(None),
        SocketOption::SendBuffer(0),
        SocketOption::SendBuffer(10_000),
        SocketOption::ReceiveBuffer(0),
        SocketOption::ReceiveBuffer(10_000),
        SocketOption::V6Only(true),
    ];
    for option in options {
        scene.setsockopt(socket, option);
    }
    for name in NAMES {
        scene.getsockopt(socket, name);
    }
    let strict = scene.socket_of(Domain::Inet6);
    scene.setsockopt(strict, SocketOption::V6Only(true));
    scene.getsockopt(strict, OptionName::V6Only);
    strangers(scene, |scene, name| scene.setsockopt(name, SocketOption::KeepAlive(true)));
}

pub(super) fn close(scene: &mut Scene) {
    strangers(scene, |scene, name| scene.close(name));
    let (client, server, listener) = connection(scene);
    scene.send(client, 4, SendFlags::default());
    scene.close(client);
    scene.read(server, 10);
    scene.read(server, 10);
    scene.close(server);
    scene.close(server);
    let late = scene.socket();
    scene.close(listener);
    scene.connect(late, To::Nobody);
    scene.error(late);
    scene.inventory();
}

/// Every call that makes a descriptor says EMFILE, and nothing is lost by it.
pub(super) fn descriptors_run_out(scene: &mut Scene) {
    let listener = listener(scene, 8);
    let client = scene.socket();
    scene.limit_descriptors(3);
    scene.connect(client, To::Of(listener));
    let last = scene.eventfd(0);
    scene.socket();
    scene.eventfd(0);
    scene.epoll();
    scene.accept4(listener);
    scene.accept4(listener);
    // With one more number the connection that waited is there.
    scene.close(last);
    let server = scene.accept4(listener);
    scene.accept4(listener);
    scene.send(client, 3, SendFlags::default());
    scene.read(server, 10);
}

pub(super) fn a_refused_connection_can_be_tried_again(scene: &mut Scene) {
    let socket = scene.socket();
    scene.connect(socket, To::Nobody);
    // The error is told once, by whoever asks first.
    scene.connect(socket, To::Nobody);
    scene.error(socket);
    scene.connect(socket, To::Nobody);
    scene.error(socket);
    scene.error(socket);
    scene.read(socket, 1);
    scene.send(socket, 1, SendFlags::default());
    let listener = listener(scene, 1);
    scene.connect(socket, To::Of(listener));
    scene.connect(socket, To::Of(listener));
    scene.connect(socket, To::Of(listener));
    scene.getpeername(socket);
    scene.inventory();
}

pub(super) fn a_socket_connects_to_itself(scene: &mut Scene) {
    let socket = scene.socket();
    scene.bind(socket, To::Own);
    scene.connect(socket, To::Of(socket));
    scene.connect(socket, To::Of(socket));
    scene.getpeername(socket);
    scene.send(socket, 6, SendFlags::default());
    scene.read(socket, 4);
    scene.shutdown(socket, Shutdown::Write);
    scene.read(socket, 4);
    scene.read(socket, 4);
    scene.inventory();
}

pub(super) fn connections_wait_for_accept_and_die_with_their_listener(scene: &mut Scene) {
    let listener = listener(scene, 8);
    let clients = [scene.socket(), scene.socket(), scene.socket()];
    for client in clients {
        scene.connect(client, To::Of(listener));
        // Before anybody accepts, it can be written to.
        scene.send(client, 3, SendFlags::default());
    }
    let first = scene.accept4(listener);
    scene.read(first, 10);
    scene.close(listener);
    for client in clients {
        scene.error(client);
        scene.read(client, 1);
        scene.read(client, 1);
    }
    scene.inventory();
}

pub(super) fn a_port_in_time_wait(scene: &mut Scene) {
    for reused in [false, true] {
        let listener = scene.socket();
        scene.setsockopt(listener, SocketOption::ReuseAddr(reused));
        scene.bind(listener, To::Own);
        scene.listen(listener, 4);
        let client = scene.socket();
        scene.connect(client, To::Of(listener));
        let server = scene.accept4(listener);
        // The side that closes first keeps the port for a minute.
        scene.close(server);
        scene.close(client);
        scene.close(listener);
        let again = scene.socket();
        scene.bind(again, To::Left(listener));
        scene.setsockopt(again, SocketOption::ReuseAddr(true));
        scene.bind(again, To::Left(listener));
        scene.listen(again, 4);
        // The other side's is free at once.
        let other = scene.socket();
        scene.bind(other, To::Left(client));
    }
    scene.inventory();
}

pub(super) fn reuse_port_is_asked_of_all(scene: &mut Scene) {
    let [one, two, three] = [scene.socket(), scene.socket(), scene.socket()];
    for name in [one, two] {
        scene.setsockopt(name, SocketOption::ReusePort(true));
    }
    scene.bind(one, To::Own);
    scene.bind(two, To::Of(one));
    scene.bind(three, To::Of(one));
    scene.listen(one, 4);
    scene.listen(two, 4);
    scene.close(one);
    let client = scene.socket();
    scene.connect(client, To::Of(two));
    let server = scene.accept4(two);
    scene.getpeername(server);
    scene.inventory();
}

pub(super) fn ipv6(scene: &mut Scene) {
    let listener = scene.socket_of(Domain::Inet6);
    scene.bind(listener, To::Own6);
    scene.listen(listener, 4);
    scene.getsockname(listener);
    let client = scene.socket_of(Domain::Inet6);
    scene.getsockname(client);
    scene.connect(client, To::Of(listener));
    let server = scene.accept4(listener);
    scene.getpeername(client);
    scene.getsockname(server);
    scene.send(server, 5, SendFlags::default());
    scene.read(client, 9);
    let four = scene.socket();
    scene.connect(four, To::Of(listener));
    scene.inventory();
}

/// An IPv6 listener hears IPv4, unless it was told not to.
pub(super) fn both_families(scene: &mut Scene) {
    let four = listener(scene, 4);
    let six = scene.socket_of(Domain::Inet6);
    scene.connect(six, To::Mapped(four));
    scene.connect(six, To::Mapped(four));
    scene.getpeername(six);
    scene.getsockname(six);
    let strict = scene.socket_of(Domain::Inet6);
    scene.setsockopt(strict, SocketOption::V6Only(true));
    scene.connect(strict, To::Mapped(four));
    scene.bind(strict, To::Mapped(four));
    let wide = scene.socket_of(Domain::Inet6);
    scene.listen(wide, 4);
    scene.getsockname(wide);
    let client = scene.socket();
    scene.connect(client, To::Beside(wide));
    let server = scene.accept4(wide);
    scene.getsockname(server);
    scene.getpeername(client);
    scene.inventory();
}
