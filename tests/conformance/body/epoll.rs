//! Readiness: who is told what, and when again.

use std::time::Duration;

use machinarium::kernel::{Clock, Events, SendFlags};

use super::setup::{connection, listener};
use crate::place::To;
use crate::scene::{Name, Scene};

const BOTH: Events = Events::IN.with(Events::OUT);
const EDGES: Events = BOTH.with(Events::RDHUP).with(Events::PRI).with(Events::ET);

fn put(scene: &mut Scene, name: Name, len: usize) {
    scene.send(name, len, SendFlags::default());
}

fn raise(scene: &mut Scene, event: Name) {
    scene.write(event, &1u64.to_ne_bytes());
}

pub(super) fn epoll_create1(scene: &mut Scene) {
    let epoll = scene.epoll();
    scene.wait(epoll);
    scene.read(epoll, 8);
    scene.error(epoll);
    scene.close(epoll);
    scene.wait(epoll);
}

pub(super) fn epoll_ctl(scene: &mut Scene) {
    let [epoll, event, closed] = [scene.epoll(), scene.eventfd(0), scene.eventfd(0)];
    scene.close(closed);
    scene.modify(epoll, event, BOTH);
    scene.delete(epoll, event);
    scene.add(epoll, event, BOTH);
    scene.add(epoll, event, BOTH);
    scene.modify(epoll, event, Events::IN);
    scene.wait(epoll);
    // An event that comes by itself is told though nobody asked; nothing else is.
    let socket = scene.socket();
    scene.add(epoll, socket, Events::NONE);
    scene.wait(epoll);
    for name in [epoll, closed] {
        scene.add(epoll, name, Events::IN);
        scene.add(name, event, Events::IN);
        scene.modify(name, event, Events::IN);
        scene.delete(epoll, name);
    }
    scene.add(event, socket, Events::IN);
    scene.delete(epoll, event);
    scene.delete(epoll, event);
    scene.wait(epoll);
}

pub(super) fn epoll_wait(scene: &mut Scene) {
    let [epoll, event] = [scene.epoll(), scene.eventfd(1)];
    scene.add(epoll, event, Events::IN);
    scene.wait_for(epoll, 0, Duration::ZERO);
    scene.wait_for(event, 1, Duration::ZERO);
    scene.wait_for(epoll, 1, Duration::from_secs(100));
    scene.read(event, 8);
    // Nothing comes: it sleeps as long as it was told, and not less.
    let began = scene.kernel.clock_gettime(Clock::Monotonic);
    scene.wait_for(epoll, 1, Duration::from_micros(1_500));
    let slept = scene.kernel.clock_gettime(Clock::Monotonic) - began;
    scene.say(format!("slept long enough: {}", slept >= Duration::from_micros(1_500)));
    scene.close(epoll);
    scene.wait_for(epoll, 1, Duration::from_secs(100));
}

pub(super) fn each_segment_is_an_edge(scene: &mut Scene) {
    let (client, server, _) = connection(scene);
    let epoll = scene.epoll();
    scene.add(epoll, server, EDGES);
    scene.wait(epoll);
    scene.wait(epoll);
    for _ in 0..3 {
        put(scene, client, 2);
        scene.wait(epoll);
        scene.wait(epoll);
    }
    // Registered again, what is there is an edge.
    scene.modify(epoll, server, EDGES);
    scene.wait(epoll);
    scene.delete(epoll, server);
    scene.add(epoll, server, EDGES);
    scene.wait(epoll);
    scene.wait(epoll);
}

pub(super) fn a_partial_read_is_no_edge(scene: &mut Scene) {
    let (client, server, _) = connection(scene);
    let epoll = scene.epoll();
    scene.add(epoll, server, EDGES);
    put(scene, client, 10);
    scene.wait(epoll);
    scene.read(server, 3);
    scene.wait(epoll);
    scene.read(server, 100);
    scene.read(server, 100);
    scene.wait(epoll);
    put(scene, client, 1);
    scene.wait(epoll);
}

/// A writer that was refused hears of room; one that was not hears nothing of what is read.
pub(super) fn room_is_an_edge(scene: &mut Scene) {
    let (client, server, _) = connection(scene);
    let epoll = scene.epoll();
    scene.add(epoll, client, EDGES);
    scene.wait(epoll);
    put(scene, client, 1_000);
    scene.read(server, 1_000);
    scene.wait(epoll);
    scene.modify(epoll, client, EDGES.without(Events::OUT));
    scene.wait(epoll);
}

pub(super) fn levels_take_turns(scene: &mut Scene) {
    let epoll = scene.epoll();
    let events = [scene.eventfd(1), scene.eventfd(1), scene.eventfd(1)];
    for event in events {
        scene.add(epoll, event, Events::IN);
    }
    for _ in 0..4 {
        scene.wait_for(epoll, 1, Duration::ZERO);
    }
    scene.wait_for(epoll, 2, Duration::ZERO);
    scene.wait_for(epoll, 2, Duration::ZERO);
    scene.read(events[1], 8);
    for _ in 0..3 {
        scene.wait_for(epoll, 1, Duration::ZERO);
    }
    scene.wait(epoll);
}

pub(super) fn one_shot(scene: &mut Scene) {
    let [epoll, event] = [scene.epoll(), scene.eventfd(1)];
    let once = Events::IN.with(Events::ONESHOT);
    scene.add(epoll, event, once);
    scene.wait(epoll);
    scene.wait(epoll);
    raise(scene, event);
    scene.wait(epoll);
    scene.add(epoll, event, once);
    scene.modify(epoll, event, once);
    scene.wait(epoll);
    scene.wait(epoll);
    // What comes by itself is disarmed too.
    let socket = scene.socket();
    scene.add(epoll, socket, once);
    scene.wait(epoll);
    scene.wait(epoll);
}

pub(super) fn exclusive(scene: &mut Scene) {
    let [one, two, event] = [scene.epoll(), scene.epoll(), scene.eventfd(0)];
    let mask = Events::IN.with(Events::EXCLUSIVE);
    scene.add(one, event, mask);
    scene.add(two, event, mask.with(Events::ET));
    scene.modify(one, event, mask);
    scene.modify(one, event, Events::IN);
    scene.add(one, two, mask);
    let listener = listener(scene, 4);
    scene.add(one, listener, mask.with(Events::ONESHOT));
    scene.add(one, listener, mask.with(Events::RDHUP));
    scene.add(one, listener, mask);
    // Nobody sleeps in either, so both hear of it.
    raise(scene, event);
    scene.wait(one);
    scene.wait(two);
    scene.wait(one);
    scene.wait(two);
}

pub(super) fn instances_nest(scene: &mut Scene) {
    let [outer, inner, event] = [scene.epoll(), scene.epoll(), scene.eventfd(0)];
    scene.add(inner, event, Events::IN);
    scene.add(outer, inner, Events::IN);
    scene.add(inner, outer, Events::IN);
    scene.add(outer, outer, Events::IN);
    scene.wait(outer);
    raise(scene, event);
    scene.wait(outer);
    scene.wait(inner);
    scene.wait(outer);
    scene.read(event, 8);
    scene.wait(outer);
    scene.modify(outer, inner, Events::IN.with(Events::ET));
    raise(scene, event);
    scene.wait(outer);
    scene.wait(outer);
    raise(scene, event);
    scene.wait(outer);
    scene.close(inner);
    scene.wait(outer);
}

/// A number that is used again is nobody's registration.
pub(super) fn closing_forgets(scene: &mut Scene) {
    let [epoll, event] = [scene.epoll(), scene.eventfd(1)];
    scene.add(epoll, event, Events::IN);
    scene.close(event);
    scene.wait(epoll);
    let again = scene.eventfd(1);
    scene.wait(epoll);
    scene.modify(epoll, again, Events::IN);
    scene.add(epoll, again, Events::IN);
    scene.wait(epoll);
    let (client, server, _) = connection(scene);
    scene.add(epoll, server, EDGES);
    put(scene, client, 1);
    scene.close(server);
    scene.wait(epoll);
}

pub(super) fn a_socket_before_and_after_connecting(scene: &mut Scene) {
    let [epoll, socket] = [scene.epoll(), scene.socket()];
    scene.add(epoll, socket, EDGES);
    scene.wait(epoll);
    let listener = listener(scene, 4);
    scene.add(epoll, listener, EDGES);
    scene.wait(epoll);
    scene.connect(socket, To::Of(listener));
    scene.wait(epoll);
    scene.error(socket);
    // A second connection is an edge though the first was not accepted.
    let second = scene.socket();
    scene.connect(second, To::Of(listener));
    scene.wait(epoll);
    scene.accept4(listener);
    scene.wait(epoll);
    let refused = scene.socket();
    scene.add(epoll, refused, EDGES);
    scene.wait(epoll);
    scene.connect(refused, To::Nobody);
    scene.wait(epoll);
    scene.error(refused);
    scene.wait(epoll);
}
