//! Bytes, and the ways in which they end.

use std::net::Shutdown;
use std::time::Duration;

use machinarium::kernel::{Domain, Errno, Events, OptionName, RecvFlags, SendFlags, SocketOption};

use super::setup::connection;
use crate::place::To;
use crate::scene::{Name, Scene};

const PLAIN: RecvFlags = RecvFlags { peek: false, oob: false };
const PEEK: RecvFlags = RecvFlags { peek: true, oob: false };
const URGENT: RecvFlags = RecvFlags { peek: false, oob: true };

fn put(scene: &mut Scene, name: Name, len: usize) {
    scene.send(name, len, SendFlags::default());
}

fn put_urgent(scene: &mut Scene, name: Name, len: usize) {
    scene.send(name, len, SendFlags { oob: true, more: false });
}

/// What answers no bytes, for the calls that read.
fn reads_of_nothing(scene: &mut Scene, read: impl Fn(&mut Scene, Name)) {
    let bare = scene.socket();
    read(scene, bare);
    scene.listen(bare, 1);
    read(scene, bare);
    let epoll = scene.epoll();
    read(scene, epoll);
    let event = scene.eventfd(0);
    read(scene, event);
    scene.close(event);
    read(scene, event);
}

pub(super) fn read(scene: &mut Scene) {
    let (client, server, _) = connection(scene);
    scene.read(server, 10);
    scene.read(server, 0);
    put(scene, client, 10);
    scene.read(server, 0);
    scene.read(server, 4);
    scene.read(server, 6);
    scene.read(server, 6);
    // Two segments are one stream.
    put(scene, client, 3);
    put(scene, client, 3);
    scene.read(server, 10);
    reads_of_nothing(scene, |scene, name| scene.read(name, 8));
}

pub(super) fn readv(scene: &mut Scene) {
    let (client, server, _) = connection(scene);
    scene.readv(server, &[4, 4]);
    put(scene, client, 10);
    scene.readv(server, &[]);
    scene.readv(server, &[0, 3, 0, 2]);
    scene.readv(server, &[2, 8]);
    let event = scene.eventfd(258);
    scene.readv(event, &[3, 4]);
    scene.readv(event, &[3, 5]);
    reads_of_nothing(scene, |scene, name| scene.readv(name, &[8]));
}

pub(super) fn recv(scene: &mut Scene) {
    let (client, server, _) = connection(scene);
    scene.recv(server, 4, PEEK);
    scene.recv(server, 0, PLAIN);
    put(scene, client, 6);
    scene.recv(server, 0, PLAIN);
    scene.recv(server, 4, PEEK);
    scene.recv(server, 9, PEEK);
    scene.recv(server, 9, URGENT);
    scene.recv(server, 9, PLAIN);
    scene.shutdown(client, Shutdown::Write);
    scene.recv(server, 9, PEEK);
    scene.recv(server, 9, PLAIN);
    scene.recv(server, 9, PLAIN);
    reads_of_nothing(scene, |scene, name| scene.recv(name, 8, PLAIN));
}

/// Streams are written with `send`; `write` is for eventfds.
pub(super) fn write(scene: &mut Scene) {
    let event = scene.eventfd(0);
    for value in [1u64, 0, u64::MAX, u64::MAX - 1] {
        scene.write(event, &value.to_ne_bytes());
    }
    scene.write(event, &[1, 2, 3]);
    scene.read(event, 8);
    let epoll = scene.epoll();
    scene.write(epoll, &[0; 8]);
    scene.close(event);
    scene.write(event, &[0; 8]);
    let (client, server, _) = connection(scene);
    scene.write(client, &[7, 8, 9]);
    scene.read(server, 8);
}

fn each_send(scene: &mut Scene, send: impl Fn(&mut Scene, Name)) {
    let (client, server, listener) = connection(scene);
    send(scene, client);
    scene.read(server, 200);
    // After one's own FIN, and on what has no connection.
    scene.shutdown(client, Shutdown::Write);
    send(scene, client);
    send(scene, listener);
    let bare = scene.socket();
    send(scene, bare);
    let event = scene.eventfd(0);
    send(scene, event);
    scene.close(bare);
    send(scene, bare);
    scene.inventory();
}

pub(super) fn send(scene: &mut Scene) {
    each_send(scene, |scene, name| {
        for len in [0, 1, 100] {
            scene.send(name, len, SendFlags::default());
        }
    });
}

pub(super) fn sendmsg(scene: &mut Scene) {
    each_send(scene, |scene, name| {
        for lens in [&[][..], &[0, 0], &[1, 0, 2], &[50, 50, 50]] {
            scene.sendmsg(name, lens);
        }
    });
}

pub(super) fn shutdown(scene: &mut Scene) {
    let (client, server, listener) = connection(scene);
    let bare = scene.socket();
    scene.shutdown(bare, Shutdown::Both);
    scene.error(bare);
    // Reading only: what comes is read all the same, and then the end.
    scene.shutdown(server, Shutdown::Read);
    scene.read(server, 4);
    put(scene, client, 4);
    scene.read(server, 9);
    scene.read(server, 9);
    put(scene, server, 2);
    scene.read(client, 9);
    // Twice is as once.
    scene.shutdown(client, Shutdown::Write);
    scene.shutdown(client, Shutdown::Write);
    scene.shutdown(server, Shutdown::Both);
    scene.shutdown(server, Shutdown::Both);
    scene.shutdown(client, Shutdown::Read);
    scene.shutdown(listener, Shutdown::Write);
    scene.shutdown(listener, Shutdown::Both);
    let event = scene.eventfd(0);
    scene.shutdown(event, Shutdown::Both);
    scene.close(event);
    scene.shutdown(event, Shutdown::Both);
    scene.inventory();
}

/// Both directions by edges.
const EDGES: Events = Events::IN.with(Events::OUT).with(Events::RDHUP).with(Events::PRI).with(Events::ET);

pub(super) fn data_with_fin(scene: &mut Scene) {
    let (client, server, _) = connection(scene);
    let epoll = scene.epoll();
    scene.add(epoll, server, EDGES);
    scene.wait(epoll);
    put(scene, client, 10);
    scene.shutdown(client, Shutdown::Write);
    // One edge tells both; there is no second one for the FIN.
    scene.wait(epoll);
    scene.read(server, 4);
    scene.wait(epoll);
    scene.read(server, 10);
    scene.read(server, 10);
    scene.wait(epoll);
}

pub(super) fn an_urgent_byte(scene: &mut Scene) {
    let (client, server, _) = connection(scene);
    let epoll = scene.epoll();
    scene.add(epoll, server, EDGES);
    scene.wait(epoll);
    put(scene, client, 3);
    put_urgent(scene, client, 2);
    put(scene, client, 3);
    scene.wait(epoll);
    // Reading stops before it, and then skips it.
    scene.recv(server, 1, URGENT);
    scene.recv(server, 1, URGENT);
    scene.read(server, 100);
    scene.read(server, 100);
    scene.read(server, 100);
    scene.recv(server, 1, URGENT);
    scene.wait(epoll);
    // Unread, the next one takes its place, and it becomes an ordinary byte.
    put_urgent(scene, client, 1);
    put_urgent(scene, client, 1);
    scene.wait(epoll);
    scene.recv(server, 9, PEEK);
    scene.recv(server, 9, URGENT);
    scene.read(server, 9);
    // Next in line when another comes, it is gone.
    put_urgent(scene, client, 4);
    scene.read(server, 9);
    put_urgent(scene, client, 4);
    scene.read(server, 9);
    scene.read(server, 9);
    scene.shutdown(client, Shutdown::Write);
    scene.read(server, 9);
    scene.wait(epoll);
}

pub(super) fn eof_behind_a_short_read(scene: &mut Scene) {
    let (client, server, _) = connection(scene);
    let epoll = scene.epoll();
    scene.add(epoll, server, EDGES);
    put(scene, client, 5);
    scene.wait(epoll);
    scene.read(server, 100);
    scene.close(client);
    scene.wait(epoll);
    scene.read(server, 100);
    // And with the FIN there before the short read: no edge comes any more.
    let (client, server, _) = connection(scene);
    scene.add(epoll, server, EDGES);
    put(scene, client, 5);
    scene.close(client);
    scene.wait(epoll);
    scene.read(server, 100);
    scene.wait(epoll);
    scene.read(server, 100);
}

pub(super) fn unread_bytes_make_close_a_reset(scene: &mut Scene) {
    let (client, server, _) = connection(scene);
    let epoll = scene.epoll();
    scene.add(epoll, client, EDGES);
    put(scene, client, 5);
    put(scene, server, 5);
    scene.read(server, 4);
    scene.close(server);
    scene.wait(epoll);
    // What was sent before the reset is lost with it.
    scene.read(client, 10);
    scene.read(client, 10);
    put(scene, client, 1);
    put(scene, client, 1);
    scene.inventory();
}

pub(super) fn linger_zero_resets(scene: &mut Scene) {
    let (client, server, _) = connection(scene);
    let epoll = scene.epoll();
    scene.add(epoll, server, EDGES);
    scene.setsockopt(client, SocketOption::Linger(Some(Duration::ZERO)));
    put(scene, client, 5);
    scene.close(client);
    scene.wait(epoll);
    scene.read(server, 3);
    scene.read(server, 10);
    scene.read(server, 10);
    scene.error(server);
    put(scene, server, 1);
    scene.inventory();
}

/// How much fits, and from how much room on the writer hears of it, is nobody's promise. That it ends, and that the writer
/// hears when all was read, is.
pub(super) fn a_full_pipe_pushes_back(scene: &mut Scene) {
    let (client, server, _) = connection(scene);
    scene.setsockopt(client, SocketOption::SendBuffer(1 << 16));
    scene.setsockopt(server, SocketOption::ReceiveBuffer(1 << 18));
    let epoll = scene.epoll();
    scene.add(epoll, client, EDGES);
    scene.wait(epoll);
    let filled = fill(scene, client);
    scene.say(format!("more than a page: {}", filled > 4_096));
    scene.wait(epoll);
    drain(scene, server);
    scene.wait(epoll);
    scene.wait(epoll);
    fill(scene, client);
    scene.inventory();
}

/// Writes until nothing more fits, also after what is under way has arrived.
fn fill(scene: &mut Scene, writer: Name) -> usize {
    let (kernel, fd, buf) = (scene.kernel.clone(), scene.fd(writer), vec![7; 1_000]);
    let (mut total, mut refusals) = (0, 0);
    while refusals < 5 {
        match kernel.send(fd, &buf, SendFlags::default()) {
            Ok(count) => (total, refusals) = (total + count, 0),
            Err(errno) => {
                assert_eq!(errno, Errno::AGAIN);
                refusals += 1;
                // An acknowledgement may be delayed by 40 ms.
                scene.sleep(Duration::from_millis(20));
            }
        }
    }
    total
}

/// Reads all that comes.
fn drain(scene: &mut Scene, reader: Name) {
    let (kernel, fd, mut buf) = (scene.kernel.clone(), scene.fd(reader), vec![0; 1_000]);
    let mut refusals = 0;
    while refusals < 5 {
        match kernel.recv(fd, &mut buf, PLAIN) {
            Ok(_) => refusals = 0,
            Err(errno) => {
                assert_eq!(errno, Errno::AGAIN);
                refusals += 1;
                // As above.
                scene.sleep(Duration::from_millis(20));
            }
        }
    }
    scene.sleep(Duration::from_millis(10));
}

pub(super) fn half_closed_and_still_talking(scene: &mut Scene) {
    let (client, server, _) = connection(scene);
    put(scene, client, 2);
    scene.shutdown(client, Shutdown::Write);
    scene.read(server, 9);
    scene.read(server, 9);
    for _ in 0..3 {
        put(scene, server, 4);
        scene.read(client, 9);
    }
    scene.close(server);
    scene.read(client, 9);
    scene.inventory();
}

pub(super) fn an_error_is_told_once(scene: &mut Scene) {
    for first in 0..4 {
        let (client, server, listener) = connection(scene);
        scene.setsockopt(server, SocketOption::Linger(Some(Duration::ZERO)));
        scene.close(server);
        match first {
            0 => scene.read(client, 4),
            1 => put(scene, client, 4),
            2 => scene.error(client),
            _ => scene.connect(client, To::Of(listener)),
        }
        scene.error(client);
        scene.read(client, 4);
        put(scene, client, 4);
        scene.getsockopt(client, OptionName::Error);
    }
    scene.inventory();
}

pub(super) fn a_peer_that_is_gone(scene: &mut Scene) {
    let (client, server, _) = connection(scene);
    let epoll = scene.epoll();
    scene.add(epoll, client, EDGES);
    scene.close(server);
    scene.wait(epoll);
    // The first write goes out, and brings a reset; the end was seen before, so it is a broken pipe.
    put(scene, client, 3);
    scene.wait(epoll);
    put(scene, client, 3);
    scene.read(client, 3);
    put(scene, client, 3);
    scene.socket_of(Domain::Inet);
    scene.inventory();
}
