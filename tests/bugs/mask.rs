//! M13. An echo asks to be told of room only while it has something to write. The wrong one, when it asks no more, also asks no more to be
//! told of bytes: a slip of an operator.

use std::net::Shutdown;
use std::time::Duration;

use machinarium::kernel::{EpollEvent, EpollOp, Events, Fd, Kernel, SocketKind, SocketOption};
use machinarium_sim::World;

use crate::place::{Dice, bare, events, pause, receive, send, thread};
use crate::table::Twin;

pub(crate) fn script(world: &World, twin: Twin) {
    let length = 1 << (6 + world.random(11));
    bare(world, move |kernel, dice| program(&*kernel, &dice, length, twin));
}

fn program(kernel: &dyn Kernel, dice: &Dice, length: usize, twin: Twin) {
    let (ours, theirs) = kernel.socketpair(SocketKind::Stream).unwrap();
    kernel.setsockopt(ours, SocketOption::SendBuffer(4_608)).unwrap();
    let dice = dice.another();
    let peer = thread(kernel, move |kernel| talk(&*kernel, theirs, length, &dice));
    echo(kernel, ours, twin);
    kernel.join(peer).unwrap();
    [ours, theirs].into_iter().for_each(|fd| kernel.close(fd).unwrap());
}

/// Until the peer says no more.
fn echo(kernel: &dyn Kernel, fd: Fd, twin: Twin) {
    let epoll = kernel.epoll_create1().unwrap();
    let (mut interest, mut pending) = (Events::IN, Vec::new());
    let event = |events| EpollEvent { events, data: 0 };
    kernel.epoll_ctl(epoll, EpollOp::Add(event(interest)), fd).unwrap();
    let mut ended = false;
    while !ended || !pending.is_empty() {
        let ready = events(kernel, epoll)[0].events;
        if ready.intersects(Events::IN) && !ended {
            match receive(kernel, fd) {
                Some(bytes) if bytes.is_empty() => ended = true,
                bytes => pending.extend(bytes.unwrap_or_default()),
            }
        }
        let sent = if pending.is_empty() { 0 } else { send(kernel, fd, &pending).unwrap_or(0) };
        pending.drain(..sent);
        let wanted = match pending.is_empty() {
            false => interest.with(Events::OUT),
            true if twin.is_wrong() && interest.intersects(Events::OUT) => {
                Events::from_bits(interest.bits() & !(interest.bits() | Events::OUT.bits()))
            }
            true => interest.without(Events::OUT),
        };
        // The end of the stream is told for as long as it is asked for.
        let wanted = if ended { wanted.without(Events::IN) } else { wanted };
        if wanted != interest {
            interest = wanted;
            kernel.epoll_ctl(epoll, EpollOp::Modify(event(interest)), fd).unwrap();
        }
    }
    kernel.close(epoll).unwrap();
}

/// Sends all, reads it back slowly, in turns.
fn talk(kernel: &dyn Kernel, fd: Fd, length: usize, dice: &Dice) {
    let epoll = kernel.epoll_create1().unwrap();
    let event = |events| EpollEvent { events, data: 0 };
    kernel.epoll_ctl(epoll, EpollOp::Add(event(Events::IN.with(Events::OUT))), fd).unwrap();
    let (mut unsent, mut unread) = (length, length);
    while unread > 0 {
        events(kernel, epoll);
        if unsent > 0 {
            unsent -= send(kernel, fd, &vec![7; unsent.min(3_000)]).unwrap_or(0);
            let left = if unsent > 0 { Events::OUT } else { Events::NONE };
            kernel.epoll_ctl(epoll, EpollOp::Modify(event(Events::IN.with(left))), fd).unwrap();
        }
        if dice.below(3) == 0 {
            unread -= receive(kernel, fd).map_or(0, |bytes| bytes.len());
        }
        pause(kernel, Duration::from_micros(1 + dice.below(5)));
    }
    kernel.close(epoll).unwrap();
    kernel.shutdown(fd, Shutdown::Write).unwrap();
}
