//! Datagrams and Unix sockets in whole worlds: which faults a mask brings, and who is woken.

use std::io::{IoSlice, IoSliceMut};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use machinarium::kernel::{
    Address, Domain, EpollEvent, EpollOp, Errno, Events, Fd, Kernel, RecvFlags, Result, SendFlags,
    SocketKind, ThreadOptions, UnixName,
};
use machinarium_sim::{Durations, Fault, Faults, Simulation};

const COUNT: u8 = 200;

/// The same until it is not interrupted.
fn patiently<T>(call: impl Fn() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::INTR | Errno::MFILE | Errno::NOBUFS | Errno::NOMEM) => {}
            answer => return answer,
        }
    }
}

fn bound(kernel: &dyn Kernel, at: &str) -> Fd {
    let fd = patiently(|| kernel.socket(Domain::Inet, SocketKind::Datagram)).unwrap();
    kernel.bind(fd, &Address::Ip(at.parse().unwrap())).unwrap();
    fd
}

/// Sleeps until the descriptor is readable, or for a second.
fn readable(kernel: &dyn Kernel, epoll: Fd) -> bool {
    let told =
        patiently(|| kernel.epoll_wait(epoll, &mut [EpollEvent::default(); 2], Some(Duration::from_secs(1))));
    told.unwrap() > 0
}

fn watch(kernel: &dyn Kernel, fd: Fd) -> Fd {
    let epoll = patiently(|| kernel.epoll_create1()).unwrap();
    let event = EpollEvent { events: Events::IN.with(Events::ET), data: 0 };
    patiently(|| kernel.epoll_ctl(epoll, EpollOp::Add(event), fd)).unwrap();
    epoll
}

fn sender(kernel: &dyn Kernel, to: &str) {
    let (fd, to) = (bound(kernel, "0.0.0.0:0"), Address::Ip(to.parse().unwrap()));
    for number in 0..COUNT {
        let buf = [number];
        patiently(|| kernel.sendmsg(fd, &[IoSlice::new(&buf)], SendFlags::default(), Some(&to))).unwrap();
    }
    kernel.close(fd).unwrap();
}

/// All numbers that come until nothing has come for a second.
fn receiver(kernel: &dyn Kernel, fd: Fd) -> Vec<u8> {
    let (epoll, mut seen) = (watch(kernel, fd), Vec::new());
    while readable(kernel, epoll) {
        loop {
            let mut buf = [0];
            match kernel.recvmsg(fd, &mut [IoSliceMut::new(&mut buf)], RecvFlags::default()) {
                Ok(_) => seen.push(buf[0]),
                Err(Errno::AGAIN) => break,
                Err(errno) => assert_eq!(errno, Errno::INTR),
            }
        }
    }
    kernel.close(fd).unwrap();
    kernel.close(epoll).unwrap();
    seen
}

/// What arrives at another host, and at the sender's own, under these faults.
fn arrivals(seed: u64, faults: Faults) -> [Vec<u8>; 2] {
    let seen = Arc::new(std::sync::OnceLock::new());
    let told = seen.clone();
    let outcome = Simulation::new(seed).faults(faults).run(move |world| {
        let remote = Arc::new(std::sync::OnceLock::new());
        let (far, own) = (remote.clone(), Arc::new(std::sync::OnceLock::new()));
        let near = own.clone();
        let server = world.host("server").run_on_kernel(move |kernel| {
            let fd = bound(&*kernel, "0.0.0.0:53");
            far.set(receiver(&*kernel, fd)).unwrap();
        });
        let client = world.host("client").run_on_kernel(move |kernel| {
            let _ =
                kernel.futex_wait(&std::sync::atomic::AtomicU32::new(0), 0, Some(Duration::from_millis(500)));
            let fd = bound(&*kernel, "127.0.0.1:53");
            sender(&*kernel, "198.18.0.1:53");
            sender(&*kernel, "127.0.0.1:53");
            near.set(receiver(&*kernel, fd)).unwrap();
        });
        world.join(&server);
        world.join(&client);
        let both = [&remote, &own].map(|cell| cell.get().expect("it has ended").clone());
        told.set(both).unwrap();
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    seen.get().expect("the script has ended").clone()
}

/// Each fault of links does to datagrams what its name says, and a mask without it never does. Loopback keeps them all.
#[test]
fn a_mask_brings_its_faults_to_datagrams_and_no_others() {
    let all: Vec<u8> = (0..COUNT).collect();
    for seed in 1..6 {
        let quiet = Faults::default().with(Fault::Eintr).with(Fault::Memory).with(Fault::Emfile);
        assert_eq!(arrivals(seed, quiet), [all.clone(), all.clone()]);
        let [lost, own] = arrivals(seed, Faults::default().rate(Fault::Loss, 4));
        assert!(lost.len() < all.len() && lost.is_sorted() && own == all, "{lost:?}");
        let [twice, own] = arrivals(seed, Faults::default().rate(Fault::Duplicate, 4));
        assert!(twice.len() > all.len() && twice.is_sorted() && own == all, "{twice:?}");
        let [mut late, own] = arrivals(seed, Faults::default().rate(Fault::Reorder, 4));
        assert!(!late.is_sorted() && own == all);
        late.sort_unstable();
        assert_eq!(late, all);
    }
}

/// A thread that sleeps for a Unix socket is woken by another thread's connect, bytes and end.
#[test]
fn threads_wake_each_other_by_unix_sockets() {
    for seed in 1..40 {
        let sum = Arc::new(AtomicU64::new(0));
        let total = sum.clone();
        let outcome = Simulation::new(seed).faults(Faults::swarm().without(Fault::Spawn)).run(move |world| {
            let total = total.clone();
            let host = world.host("host").run_on_kernel(move |kernel| serve_a_thread(kernel, &total));
            world.eventually(60.secs(), || host.finished());
        });
        assert!(outcome.passed(), "{}", outcome.report(""));
        assert_eq!(sum.load(SeqCst), (0..50).sum::<u64>());
    }
}

fn serve_a_thread(kernel: Rc<dyn Kernel>, total: &AtomicU64) {
    let at = Address::Unix(UnixName::path(b"/run/sum").unwrap());
    let listener = patiently(|| kernel.socket(Domain::Unix, SocketKind::Stream)).unwrap();
    kernel.bind(listener, &at).unwrap();
    kernel.listen(listener, 1).unwrap();
    let main = move |kernel: Rc<dyn Kernel>| {
        let fd = patiently(|| kernel.socket(Domain::Unix, SocketKind::Stream)).unwrap();
        kernel.connect(fd, &at).unwrap();
        for number in 0..50 {
            assert_eq!(patiently(|| kernel.send(fd, &[number], SendFlags::default())), Ok(1));
            kernel.sched_yield();
        }
        kernel.close(fd).unwrap();
    };
    let thread = kernel.spawn(&ThreadOptions::default(), Box::new(main)).unwrap();
    let waiting = watch(&*kernel, listener);
    let server = loop {
        match kernel.accept4(listener) {
            Ok((fd, _)) => break fd,
            Err(Errno::AGAIN) => assert!(readable(&*kernel, waiting), "nobody came"),
            Err(_) => {}
        }
    };
    let epoll = watch(&*kernel, server);
    let mut buf = [0; 8];
    loop {
        match kernel.recv(server, &mut buf, RecvFlags::default()) {
            Ok(0) => break,
            Ok(count) => _ = total.fetch_add(buf[..count].iter().map(|byte| u64::from(*byte)).sum(), SeqCst),
            Err(Errno::AGAIN) => assert!(readable(&*kernel, epoll), "nothing comes"),
            Err(errno) => assert_eq!(errno, Errno::INTR),
        }
    }
    kernel.join(thread).unwrap();
    kernel.unlink(c"/run/sum").unwrap();
    [server, epoll, listener, waiting].into_iter().for_each(|fd| kernel.close(fd).unwrap());
}
