//! M14. A loop is told of two connections at once, and what the first one says is that the other is to be closed. The wrong loop goes on
//! with the other's event.

use machinarium::kernel::{EpollEvent, EpollOp, Errno, Events, Fd, Kernel, SendFlags, SocketKind};
use machinarium_sim::World;

use crate::place::{Dice, bare, events, pause, receive, thread};
use crate::table::Twin;

pub(crate) fn script(world: &World, twin: Twin) {
    bare(world, move |kernel, dice| {
        for _ in 0..4 {
            round(&*kernel, &dice, twin);
        }
    });
}

/// Two connections, of which the first that speaks closes the other.
fn round(kernel: &dyn Kernel, dice: &Dice, twin: Twin) {
    let pairs = [0, 1].map(|_| kernel.socketpair(SocketKind::Stream).unwrap());
    let ours = pairs.map(|(ours, _)| ours);
    let epoll = kernel.epoll_create1().unwrap();
    for (index, fd) in ours.into_iter().enumerate() {
        let event = EpollEvent { events: Events::IN, data: index as u64 };
        kernel.epoll_ctl(epoll, EpollOp::Add(event), fd).unwrap();
    }
    let theirs = pairs.map(|(_, theirs)| theirs);
    let dice = dice.another();
    let peer = thread(kernel, move |kernel| speak(&*kernel, theirs, &dice));
    let mut open = [true; 2];
    while open[0] && open[1] {
        for event in events(kernel, epoll) {
            let index = event.data as usize;
            if open[index] || twin.is_wrong() {
                handle(kernel, ours, index, &mut open);
            }
        }
    }
    kernel.join(peer).unwrap();
    let left = (0..2).filter(|&index| open[index]).map(|index| ours[index]);
    left.chain(theirs).chain([epoll]).for_each(|fd| kernel.close(fd).unwrap());
}

fn handle(kernel: &dyn Kernel, ours: [Fd; 2], index: usize, open: &mut [bool; 2]) {
    if receive(kernel, ours[index]).is_some() {
        open[1 - index] = false;
        kernel.close(ours[1 - index]).unwrap();
    }
}

/// Both speak, at nearly the same time. Whose connection is closed hears of it.
fn speak(kernel: &dyn Kernel, theirs: [Fd; 2], dice: &Dice) {
    for fd in theirs {
        pause(kernel, dice.micros(3));
        match kernel.send(fd, b"close the other", SendFlags::default()) {
            Ok(_) | Err(Errno::PIPE) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
