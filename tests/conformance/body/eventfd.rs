//! Eventfds, and how they cross threads.

use std::sync::Arc;

use machinarium::kernel::{Events, ThreadOptions, Wake};

use crate::scene::Scene;

pub(super) fn eventfd(scene: &mut Scene) {
    let [empty, full] = [scene.eventfd(0), scene.eventfd(u32::MAX)];
    scene.read(empty, 8);
    scene.read(full, 7);
    scene.read(full, 100);
    scene.read(full, 8);
    for value in [3u64, 4] {
        scene.write(empty, &value.to_ne_bytes());
    }
    scene.read(empty, 8);
    scene.getsockname(empty);
    scene.inventory();
}

/// A wake is a write of 1; the last reference closes, unless it was released.
pub(super) fn share(scene: &mut Scene) {
    let [shared, kept] = [scene.eventfd(0), scene.eventfd(0)];
    let kernel = scene.kernel.clone();
    let wake = kernel.share(scene.fd(shared));
    scene.say(format!("its own number: {}", wake.fd() == scene.fd(shared)));
    scene.say(format!("its own process: {}", wake.process() == kernel.process()));
    let far: Arc<dyn Wake> = wake.clone();
    let options = ThreadOptions { name: "waker".to_owned(), ..ThreadOptions::default() };
    let thread = kernel.spawn(&options, Box::new(move |_| far.wake().expect("room"))).expect("a thread");
    scene.say(format!("joined: {}", kernel.join(thread).is_ok()));
    scene.say(format!("{:?}", wake.wake()));
    scene.read(shared, 8);
    let release = kernel.share(scene.fd(kept));
    scene.say(format!("released: {}", release.release() == scene.fd(kept)));
    scene.say(format!("after the release: {:?}", release.wake()));
    drop(release);
    drop(wake);
    scene.read(shared, 8);
    scene.read(kept, 8);
    // The number is free.
    scene.eventfd(0);
}

pub(super) fn a_write_to_a_readable_eventfd_is_an_edge(scene: &mut Scene) {
    let [epoll, event] = [scene.epoll(), scene.eventfd(0)];
    scene.add(epoll, event, Events::IN.with(Events::ET));
    for _ in 0..3 {
        scene.write(event, &1u64.to_ne_bytes());
        scene.wait(epoll);
        scene.wait(epoll);
    }
    // A read makes room, which is an edge for who asked for it.
    scene.modify(epoll, event, Events::OUT.with(Events::ET));
    scene.wait(epoll);
    scene.read(event, 8);
    scene.wait(epoll);
}

pub(super) fn a_full_eventfd_refuses(scene: &mut Scene) {
    let [epoll, event] = [scene.epoll(), scene.eventfd(0)];
    scene.add(epoll, event, Events::IN.with(Events::OUT));
    scene.write(event, &(u64::MAX - 1).to_ne_bytes());
    scene.wait(epoll);
    scene.write(event, &1u64.to_ne_bytes());
    scene.write(event, &0u64.to_ne_bytes());
    scene.read(event, 8);
    scene.wait(epoll);
}
