//! Time: what is reachable with which processors, and what clocks show.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use machinarium::kernel::{Clock, EpollEvent, Errno, Kernel, RecvFlags, ThreadOptions};
use machinarium_sim::{Cpu, Durations, Fault, Faults, Simulation};

use crate::raw::{self, Program};

/// A sender sends every 10 ms; a receiver waits at most 20 ms for each message. Whether the receiver's timer was ever
/// over although the data was there when it looked.
fn timer_over_although_data_was_there(seed: u64, cpu: Cpu) -> bool {
    let seen = Arc::new(AtomicBool::new(false));
    let place = seen.clone();
    let outcome = Simulation::new(seed).cpu(cpu).run(move |world| {
        let receiver = world.host("receiver").run_on_kernel(move |kernel| {
            let program = Program::new(kernel);
            let listener = program.listen();
            let fd = program.accept(listener).unwrap();
            loop {
                let start = program.now();
                program.wait(Some(20.millis()));
                let over = program.now() - start >= 20.millis();
                match program.kernel.recv(fd, &mut [0; 64], RecvFlags::default()) {
                    Ok(0) => break,
                    Ok(_) if over => place.store(true, SeqCst),
                    _ => {}
                }
            }
            [fd, listener, program.epoll].into_iter().for_each(|fd| program.close(fd));
        });
        let sender = world.host("sender").run_on_kernel(|kernel| {
            let program = Program::new(kernel);
            let fd = raw::connect_patiently(&program, raw::server(1)).unwrap();
            let pause = program.kernel.epoll_create1().unwrap();
            for _ in 0..100 {
                program.send_all(fd, b"tick").unwrap();
                let _ = program.kernel.epoll_wait(pause, &mut [EpollEvent::default()], Some(10.millis()));
            }
            [fd, pause, program.epoll].into_iter().for_each(|fd| program.close(fd));
        });
        world.sleep(20.secs());
        world.eventually(600.secs(), || receiver.finished() && sender.finished());
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    seen.load(SeqCst)
}

#[test]
fn a_timer_fires_although_the_data_is_there_only_under_load() {
    assert!((1..100).any(|seed| timer_over_although_data_was_there(seed, Cpu::Loaded)));
    assert!(!(1..20).any(|seed| timer_over_although_data_was_there(seed, Cpu::Ideal)));
}

/// Two threads of different hosts sleep until the same instant. Who runs first?
fn first_of_two(seed: u64) -> u64 {
    let first = Arc::new(AtomicU64::new(0));
    let place = first.clone();
    let outcome = Simulation::new(seed).run(move |world| {
        let hosts: Vec<_> = [1, 2]
            .into_iter()
            .map(|name| {
                let place = place.clone();
                world.host(&format!("host{name}")).run_on_kernel(move |kernel| {
                    let epoll = kernel.epoll_create1().unwrap();
                    let now = kernel.clock_gettime(Clock::Monotonic).as_nanos();
                    let rest = Duration::from_nanos(2_000_000_000 - now);
                    assert_eq!(kernel.epoll_wait(epoll, &mut [EpollEvent::default()], Some(rest)), Ok(0));
                    let _ = place.compare_exchange(0, name, SeqCst, SeqCst);
                    kernel.close(epoll)
                })
            })
            .collect();
        world.eventually(10.secs(), || hosts.iter().all(machinarium_sim::Host::finished));
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    first.load(SeqCst)
}

#[test]
fn what_happens_at_the_same_instant_comes_in_either_order() {
    let firsts: Vec<u64> = (1..30).map(first_of_two).collect();
    assert!(firsts.contains(&1) && firsts.contains(&2), "{firsts:?}");
}

/// A host's pause ends at the very instant at which the script wakes up. Whether the host's thread has run before the script
/// looks: nothing costs time there, so nothing but the order of the two decides.
fn the_host_is_first(seed: u64) -> bool {
    let first = Arc::new(AtomicBool::new(false));
    let place = first.clone();
    let outcome = Simulation::new(seed).run(move |world| {
        let turns = Arc::new(AtomicU64::new(0));
        let counter = turns.clone();
        let host = world.host("host").run_on_kernel(move |kernel: Rc<dyn Kernel>| -> () {
            loop {
                counter.fetch_add(1, SeqCst);
                kernel.sched_yield();
            }
        });
        world.sleep(1.millis());
        host.pause(1.millis());
        let before = turns.load(SeqCst);
        world.sleep(1.millis());
        place.store(turns.load(SeqCst) > before, SeqCst);
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    first.load(SeqCst)
}

#[test]
fn the_order_of_one_instant_is_drawn() {
    let host_first = (1..60).filter(|&seed| the_host_is_first(seed)).count();
    assert!((10..50).contains(&host_first), "the host was first with {host_first} of 59 seeds");
}

#[test]
fn a_sleep_is_never_short_on_its_own_clock() {
    for seed in 1..50 {
        let faults = Faults::none().with(Fault::Skew);
        machinarium_sim::with_kernel(&Simulation::new(seed).faults(faults), |kernel| {
            let program = Program::new(kernel);
            let start = program.now();
            assert_eq!(program.wait(Some(1234567.micros())), 0);
            assert!(program.now() - start >= 1234567.micros());
            assert!(program.now() - start < 1240.millis());
            program.close(program.epoll);
        });
    }
}

#[test]
fn clocks_of_hosts_differ_when_they_may() {
    let walls = |faults| {
        machinarium_sim::with_kernel(&Simulation::new(7).faults(faults), |kernel| {
            kernel.clock_gettime(Clock::Realtime).as_nanos()
        })
    };
    assert_ne!(walls(Faults::none().with(Fault::Skew)), walls(Faults::none()));
}

#[test]
fn a_loop_around_the_clock_lets_others_run() {
    machinarium_sim::with_kernel(&Simulation::new(1), |kernel| {
        let start = kernel.clock_gettime(Clock::Monotonic);
        while kernel.clock_gettime(Clock::Monotonic) - start < 10.millis() {}
        let flag = Arc::new(AtomicBool::new(false));
        let other = flag.clone();
        let main = move |_: Rc<dyn Kernel>| other.store(true, SeqCst);
        let thread = kernel.spawn(&ThreadOptions::default(), Box::new(main)).unwrap();
        while !flag.load(SeqCst) {
            let now = kernel.clock_gettime(Clock::Monotonic);
            assert!(now - start < 1.secs(), "a glance at the clock never gives way");
        }
        kernel.join(thread).unwrap();
    });
}

#[test]
fn a_paused_host_runs_on_afterwards() {
    let outcome = Simulation::new(3).run(|world| {
        let server = world.host("server").run_on_kernel(|kernel| raw::echo_server(kernel, 1));
        let client =
            world.host("client").run_on_kernel(|kernel| raw::echo_client(kernel, raw::server(1), 2000));
        world.sleep(5.millis());
        server.pause(3.secs());
        world.sleep(2900.millis());
        assert!(!client.finished());
        world.eventually(10.secs(), || client.finished() && server.finished());
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
}

#[test]
fn epoll_wait_without_a_timeout_does_not_sleep() {
    machinarium_sim::with_kernel(&Simulation::new(1), |kernel| {
        let program = Program::new(kernel);
        let start = program.now();
        assert_eq!(program.wait(Some(Duration::ZERO)), 0);
        assert!(program.now() - start < 100.micros());
        assert_eq!(program.kernel.epoll_wait(program.epoll, &mut [], None), Err(Errno::INVAL));
        program.close(program.epoll);
    });
}
