//! std's clocks and sleeps are the host's.

use std::time::{Duration, Instant, SystemTime};

use machinarium::kernel::Clock;
use machinarium_sim::{Durations, Fault, Faults, Simulation};

/// 2026-01-01, when every world begins.
const BEGIN: Duration = Duration::from_secs(1_767_225_600);

#[test]
fn std_clocks_are_virtual() {
    let real = Instant::now();
    let outcome = Simulation::new(1).run(|world| {
        let host = world.host("sleeper").run(|| {
            let (begin, wall) = (Instant::now(), SystemTime::now());
            std::thread::sleep(3600.secs());
            let (slept, by_wall) = (begin.elapsed(), wall.elapsed().unwrap());
            assert!(slept >= 3600.secs() && slept < 3601.secs(), "{slept:?}");
            assert!(by_wall >= 3600.secs() && by_wall < 3601.secs(), "{by_wall:?}");
            assert!(wall.duration_since(SystemTime::UNIX_EPOCH).unwrap() - BEGIN < 1.secs());
        });
        world.eventually(4000.secs(), || host.finished());
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    assert!(outcome.stats.time >= 3600.secs());
    assert!(real.elapsed() < 60.secs(), "an hour of its time is none of ours");
}

#[test]
fn std_and_the_kernel_show_the_same_time() {
    machinarium_sim::with_kernel(&Simulation::new(1), |kernel| {
        let since_1970 = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let before = kernel.clock_gettime(Clock::Realtime);
        let std = since_1970();
        let after = kernel.clock_gettime(Clock::Realtime);
        assert!(before.as_nanos() as u128 <= std.as_nanos() && std.as_nanos() <= after.as_nanos() as u128);
    });
}

#[test]
fn the_script_sees_the_time_of_its_world() {
    let outcome = Simulation::new(1).run(|world| {
        let begin = Instant::now();
        world.sleep(10.secs());
        assert!(begin.elapsed() >= 10.secs() && begin.elapsed() < 11.secs());
        let before = world.now();
        std::thread::sleep(5.secs());
        assert!(world.now() - before >= 5.secs() && world.now() - before < 6.secs());
        std::thread::yield_now();
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
}

#[test]
fn two_runs_read_the_same_clocks() {
    let read = |seed| {
        let read = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let kept = read.clone();
        let (sender, receiver) = std::sync::mpsc::channel();
        let outcome = Simulation::new(seed).faults(Faults::default().with(Fault::Skew)).run(move |world| {
            let host = world.host("reader").run(move || {
                for _ in 0..10 {
                    sender.send(SystemTime::now()).unwrap();
                    std::thread::sleep(7.millis());
                }
            });
            world.eventually(10.secs(), || host.finished());
            kept.borrow_mut().extend(receiver.try_iter());
        });
        assert!(outcome.passed(), "{}", outcome.report(""));
        (outcome.digest, read.take())
    };
    assert_eq!(read(3).1.len(), 10);
    assert_eq!(read(3), read(3));
    assert_ne!(read(3), read(4), "a host has a skew of its own");
}

#[test]
fn a_loop_around_the_clock_lets_others_run() {
    machinarium_sim::check(|world| {
        let begun = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = begun.clone();
        let impatient = world.host("impatient").run(move || {
            let begin = Instant::now();
            while !seen.load(std::sync::atomic::Ordering::SeqCst) {
                assert!(begin.elapsed() < 1.secs(), "nobody else runs");
            }
        });
        let other = world.host("other").run(move || begun.store(true, std::sync::atomic::Ordering::SeqCst));
        world.eventually(2.secs(), || impatient.finished() && other.finished());
    });
}

#[test]
fn other_threads_are_not_touched() {
    let begin = (Instant::now(), SystemTime::now());
    let outcome = Simulation::new(1).run(|world| world.sleep(3600.secs()));
    assert!(outcome.passed());
    assert!(begin.0.elapsed() < 600.secs() && begin.1.elapsed().unwrap() < 600.secs());
    let begin = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    assert!(begin.elapsed() >= Duration::from_millis(20));
    assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
}
