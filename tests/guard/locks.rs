//! std's locks and channels, between simulated threads: who waits sleeps, and the others run.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex, OnceLock, RwLock, mpsc};
use std::time::Duration;

use machinarium::kernel::{Kernel, Thread, ThreadOptions};
use machinarium_sim::{Cpu, Durations, FailureKind, Fault, Faults, Simulation, Strategy, with_kernel};

fn start(kernel: &Rc<dyn Kernel>, name: &str, main: impl FnOnce() + Send + 'static) -> Thread {
    let options = ThreadOptions { name: name.to_owned(), ..ThreadOptions::default() };
    kernel.spawn(&options, Box::new(|_| main())).unwrap()
}

type Main = Box<dyn FnOnce() + Send>;

/// Runs `body` on some seeds, with threads that it starts and that are joined. Threads stall and wake for no reason.
#[track_caller]
fn on_seeds(body: fn(&mut dyn FnMut(Main))) {
    for seed in 1..60 {
        let faults = Faults::default().with(Fault::SpuriousWake).with(Fault::Skew);
        let cpu = if seed % 2 == 0 { Cpu::Ideal } else { Cpu::Loaded };
        let simulation = Simulation::new(seed).faults(faults).cpu(cpu).strategy(Strategy::Portfolio);
        with_kernel(&simulation, move |kernel| {
            let mut threads = Vec::new();
            body(&mut |main| threads.push(start(&kernel, "other", main)));
            threads.into_iter().for_each(|thread| kernel.join(thread).unwrap());
        });
    }
}

#[test]
fn a_mutex_that_is_held_across_a_sleep() {
    on_seeds(|start| {
        let mutex = Arc::new(Mutex::new(0));
        for _ in 0..4 {
            let mutex = mutex.clone();
            start(Box::new(move || {
                for _ in 0..5 {
                    let mut value = mutex.lock().unwrap();
                    let seen = *value;
                    std::thread::sleep(3.millis());
                    *value = seen + 1;
                }
            }));
        }
        while *mutex.lock().unwrap() < 20 {
            std::thread::sleep(1.millis());
        }
    });
}

#[test]
fn readers_and_a_writer() {
    on_seeds(|start| {
        let lock = Arc::new(RwLock::new((0, 0)));
        for _ in 0..3 {
            let lock = lock.clone();
            start(Box::new(move || {
                for _ in 0..10 {
                    let both = lock.read().unwrap();
                    let first = both.0;
                    std::thread::sleep(1.millis());
                    assert_eq!((both.0, both.1), (first, first));
                }
            }));
        }
        for _ in 0..10 {
            let mut both = lock.write().unwrap();
            both.0 += 1;
            std::thread::sleep(1.millis());
            both.1 += 1;
        }
    });
}

#[test]
fn a_condition_and_its_deadline() {
    on_seeds(|start| {
        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        let other = pair.clone();
        let begin = std::time::Instant::now();
        start(Box::new(move || {
            std::thread::sleep(2.secs());
            *other.0.lock().unwrap() = true;
            other.1.notify_one();
        }));
        let (is_set, condition) = &*pair;
        let (guard, result) =
            condition.wait_timeout_while(is_set.lock().unwrap(), 1.secs(), |set| !*set).unwrap();
        assert!(result.timed_out() && !*guard);
        assert!(begin.elapsed() >= 1.secs() && begin.elapsed() < 2.secs());
        drop(condition.wait_while(guard, |set| !*set).unwrap());
        assert!(begin.elapsed() >= 2.secs() && begin.elapsed() < 3.secs());
    });
}

/// Each thread waits at its own channel and feeds the next: several are parked at once, and std must not take one for another.
#[test]
fn channels_in_a_ring() {
    on_seeds(|start| {
        let (first, mut receiver) = mpsc::sync_channel::<u32>(0);
        for _ in 0..5 {
            let (sender, next) = mpsc::sync_channel(0);
            let mine = std::mem::replace(&mut receiver, next);
            start(Box::new(move || mine.iter().for_each(|number| sender.send(number + 1).unwrap())));
        }
        for round in 0..20 {
            first.send(round).unwrap();
            assert_eq!(receiver.recv(), Ok(round + 5));
            assert_eq!(receiver.recv_timeout(1.millis()), Err(mpsc::RecvTimeoutError::Timeout));
        }
    });
}

#[test]
fn whoever_is_unparked_goes_on_and_nobody_else() {
    on_seeds(|start| {
        let (sender, receiver) = mpsc::channel();
        let unparked = Arc::new([const { AtomicBool::new(false) }; 3]);
        let ended = Arc::new(AtomicU32::new(0));
        for place in 0..3 {
            let (sender, unparked, ended) = (sender.clone(), unparked.clone(), ended.clone());
            start(Box::new(move || {
                sender.send((place, std::thread::current())).unwrap();
                while !unparked[place].load(SeqCst) {
                    std::thread::park();
                }
                ended.fetch_add(1, SeqCst);
            }));
        }
        let mut threads: Vec<_> = (0..3).map(|_| receiver.recv().unwrap()).collect();
        threads.sort_by_key(|(place, _)| *place);
        for (place, thread) in threads.into_iter().rev() {
            std::thread::sleep(1.secs());
            assert_eq!(ended.load(SeqCst) as usize, 2 - place);
            unparked[place].store(true, SeqCst);
            thread.unpark();
        }
    });
}

#[test]
fn a_barrier_and_a_cell() {
    on_seeds(|start| {
        let shared = Arc::new((Barrier::new(3), OnceLock::new(), AtomicU32::new(0)));
        for _ in 0..2 {
            let shared = shared.clone();
            start(Box::new(move || {
                shared.0.wait();
                shared.1.get_or_init(|| {
                    std::thread::sleep(10.millis());
                    shared.2.fetch_add(1, SeqCst)
                });
            }));
        }
        shared.0.wait();
        assert_eq!(shared.1.get_or_init(|| shared.2.fetch_add(1, SeqCst)), &0);
        assert_eq!(shared.2.load(SeqCst), 1);
    });
}

#[test]
fn the_script_and_a_host_share_a_mutex() {
    machinarium_sim::check(|world| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let (sender, receiver) = mpsc::channel();
        let host = world.host("writer").run({
            let log = log.clone();
            move || {
                let mut log = log.lock().unwrap();
                sender.send(()).unwrap();
                std::thread::sleep(1.secs());
                log.push(1);
            }
        });
        receiver.recv().unwrap();
        assert_eq!(*log.lock().unwrap(), [1]);
        assert!(world.now() >= 1.secs());
        world.eventually(1.secs(), || host.finished());
    });
}

/// Holds one lock, and waits for the other.
#[inline(never)]
fn takes_both(first: &Mutex<()>, second: &Mutex<()>) {
    let _first = first.lock().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let _second = second.lock().unwrap();
}

#[test]
fn a_deadlock_is_reported_with_who_waits() {
    let run = |seed| {
        Simulation::new(seed).keep_events(20).run(|world| {
            let locks = Arc::new((Mutex::new(()), Mutex::new(())));
            let other = locks.clone();
            let left = world.host("left").run(move || takes_both(&locks.0, &locks.1));
            let right = world.host("right").run(move || {
                machinarium::run(|| {
                    let locks = other.clone();
                    let taker = machinarium::spawn_named("taker", move || takes_both(&locks.1, &locks.0));
                    taker.join().unwrap();
                    std::io::Result::Ok(())
                })
            });
            world.join(&left);
            world.join(&right);
        })
    };
    let outcome = run(1);
    let failure = outcome.failure.clone().expect("it cannot go on");
    assert_eq!(failure.kind, FailureKind::Stuck);
    let report = outcome.report("");
    for wanted in
        ["left/main: futex_wait, for ever", "right/main: futex_wait, for ever", "'taker'", "takes_both"]
    {
        assert!(report.contains(wanted), "{wanted} is missing in\n{report}");
    }
    assert_eq!(run(1).digest, outcome.digest);
}

/// A lock of the whole program: worlds on other OS threads, and these themselves, take it as well.
#[test]
fn a_lock_of_the_whole_program_is_waited_for() {
    static LOCK: Mutex<u32> = Mutex::new(0);
    static STOP: AtomicBool = AtomicBool::new(false);
    let outsider = std::thread::spawn(|| {
        while !STOP.load(SeqCst) {
            let mut value = LOCK.lock().unwrap();
            std::thread::sleep(Duration::from_micros(200));
            *value += 1;
        }
    });
    let digest = |seed| {
        let outcome = Simulation::new(seed).run(|world| {
            let host = world.host("insider").run(|| (0..20).for_each(|_| *LOCK.lock().unwrap() += 1));
            world.eventually(5.secs(), || host.finished());
        });
        assert!(outcome.passed(), "{}", outcome.report(""));
    };
    (1..10).for_each(digest);
    STOP.store(true, SeqCst);
    outsider.join().unwrap();
    assert!(*LOCK.lock().unwrap() >= 180);
}

/// And when a simulated thread lets go of what an outsider waits for, that one is woken.
#[test]
fn an_outsider_is_woken() {
    let (sender, receiver) = mpsc::channel();
    let outsider = std::thread::spawn(move || receiver.iter().sum::<u32>());
    std::thread::sleep(Duration::from_millis(20));
    with_kernel(&Simulation::new(1), move |_| (1..=4).for_each(|number| sender.send(number).unwrap()));
    assert_eq!(outsider.join().unwrap(), 10);
}
