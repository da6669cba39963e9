//! Files: what outlives a process, what outlives the power, and what a disk does wrong.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use machinarium::kernel::{Access, Clock, Errno, Fd, Kernel, OpenFlags, Result};
use machinarium_sim::{Durations, FailureKind, Fault, Faults, Host, Outcome, Simulation, World, with_kernel};

const BOTH: OpenFlags = OpenFlags {
    access: Access::ReadWrite,
    create: true,
    exclusive: false,
    truncate: false,
    directory: false,
};
const DIRECTORY: OpenFlags = OpenFlags { access: Access::Read, create: false, directory: true, ..BOTH };

fn passes(outcome: &Outcome) {
    assert!(outcome.passed(), "{}", outcome.report(""));
}

fn write_all(kernel: &dyn Kernel, fd: Fd, mut bytes: &[u8], mut offset: u64) -> Result<()> {
    while !bytes.is_empty() {
        let count = kernel.pwrite(fd, bytes, offset)?;
        assert!(count > 0);
        (bytes, offset) = (&bytes[count..], offset + count as u64);
    }
    Ok(())
}

fn sync_directory(kernel: &dyn Kernel) {
    let directory = kernel.openat(c"/tmp", DIRECTORY).unwrap();
    kernel.fsync(directory).unwrap();
    kernel.close(directory).unwrap();
}

/// Sleeps until it is killed.
fn sleep(kernel: &dyn Kernel) {
    let _ = kernel.futex_wait(&Default::default(), 0, None);
}

/// Runs `main`, which then waits to be killed, and lets `end` look at its host.
fn after(
    seed: u64,
    main: fn(&dyn Kernel),
    end: impl Fn(&World, &Host) -> String + Send + Sync + 'static,
) -> String {
    let seen = Arc::new(std::sync::OnceLock::new());
    let place = seen.clone();
    let outcome = Simulation::new(seed).run(move |world| {
        let host = world.host("host").run_on_kernel(move |kernel| {
            main(&*kernel);
            sleep(&*kernel);
        });
        world.sleep(1.secs());
        place.set(end(world, &host)).expect("once");
    });
    passes(&outcome);
    seen.get().expect("the script has ended").clone()
}

/// What becomes of a file, by the seed, when the power fails.
fn after_power_failure(main: fn(&dyn Kernel)) -> BTreeSet<String> {
    let end = |_: &World, host: &Host| {
        host.power_off();
        match host.read_file("/tmp/file") {
            Some(bytes) => String::from_utf8(bytes).unwrap(),
            None => "no such file".to_owned(),
        }
    };
    (1..60).map(|seed| after(seed, main, end)).collect()
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

#[test]
fn a_killed_process_loses_nothing_that_it_wrote() {
    let main = |kernel: &dyn Kernel| {
        let Ok(moved) = kernel.openat(c"/tmp/moved", OpenFlags { create: false, ..BOTH }) else {
            let fd = kernel.openat(c"/tmp/file", BOTH).unwrap();
            write_all(kernel, fd, b"not synced", 0).unwrap();
            kernel.rename(c"/tmp/file", c"/tmp/moved").unwrap();
            return;
        };
        let mut bytes = [0; 20];
        assert_eq!(kernel.pread(moved, &mut bytes, 0), Ok(10));
        assert_eq!(&bytes[..10], b"not synced");
        kernel.openat(c"/tmp/seen", BOTH).unwrap();
    };
    for seed in 1..20 {
        let seen = after(seed, main, |world, host| {
            host.crash();
            host.restart();
            world.sleep(1.secs());
            format!("{:?} {:?}", host.read_file("/tmp/file"), host.read_file("/tmp/seen"))
        });
        assert_eq!(seen, "None Some([])");
    }
}

#[test]
fn what_was_synced_survives_the_power_with_its_name() {
    let survivors = after_power_failure(|kernel| {
        let fd = kernel.openat(c"/tmp/file", BOTH).unwrap();
        write_all(kernel, fd, b"synced", 0).unwrap();
        kernel.fdatasync(fd).unwrap();
        sync_directory(kernel);
    });
    assert_eq!(survivors, set(&["synced"]));
}

#[test]
fn a_name_that_was_not_synced_may_be_lost_with_all_its_bytes() {
    let survivors = after_power_failure(|kernel| {
        let fd = kernel.openat(c"/tmp/file", BOTH).unwrap();
        write_all(kernel, fd, b"synced", 0).unwrap();
        kernel.fsync(fd).unwrap();
    });
    assert_eq!(survivors, set(&["synced", "no such file"]));
}

/// The journal of names is written in order, so what is lost is its end.
#[test]
fn of_names_that_were_not_synced_the_last_are_lost() {
    let main = |kernel: &dyn Kernel| {
        for path in [c"/tmp/one", c"/tmp/two", c"/tmp/three"] {
            kernel.openat(path, BOTH).unwrap();
        }
        kernel.unlink(c"/tmp/one").unwrap();
    };
    let end = |_: &World, host: &Host| {
        host.power_off();
        ["one", "two", "three"]
            .map(|name| u8::from(host.read_file(&format!("/tmp/{name}")).is_some()))
            .map(|there| there.to_string())
            .concat()
    };
    let survivors: BTreeSet<String> = (1..60).map(|seed| after(seed, main, end)).collect();
    assert_eq!(survivors, set(&["000", "100", "110", "111", "011"]));
}

#[test]
fn what_was_not_synced_is_kept_or_lost_or_torn() {
    let survivors = after_power_failure(|kernel| {
        let fd = kernel.openat(c"/tmp/file", BOTH).unwrap();
        write_all(kernel, fd, "a".repeat(1_024).as_bytes(), 0).unwrap();
        kernel.fsync(fd).unwrap();
        sync_directory(kernel);
        write_all(kernel, fd, "b".repeat(1_024).as_bytes(), 0).unwrap();
    });
    let halves = |first: &str, second: &str| first.repeat(512) + &second.repeat(512);
    let all = ["a", "b"].map(|one| ["a", "b"].map(|two| halves(one, two))).concat();
    assert_eq!(survivors, all.into_iter().collect());
}

/// Replaces a file as one should, or without the sync in between, and is killed at some call; then the power fails.
fn replace(calls: u64, seed: u64, syncs: bool) -> (Option<Vec<u8>>, bool) {
    let seen = Arc::new(std::sync::OnceLock::new());
    let place = seen.clone();
    let outcome = Simulation::new(seed).run(move |world| {
        let host = world.host("host");
        host.write_file("/tmp/file", b"old");
        let host = host.run_on_kernel(move |kernel| {
            sleep_a_little(&*kernel);
            let fd = kernel.openat(c"/tmp/new", BOTH).unwrap();
            write_all(&*kernel, fd, b"new and longer", 0).unwrap();
            if syncs {
                kernel.fsync(fd).unwrap();
            }
            kernel.rename(c"/tmp/new", c"/tmp/file").unwrap();
            kernel.close(fd).unwrap();
            sync_directory(&*kernel);
        });
        host.crash_after(calls);
        world.sleep(1.secs());
        let done = host.finished();
        host.power_off();
        place.set((host.read_file("/tmp/file"), done)).expect("once");
    });
    passes(&outcome);
    seen.get().expect("the script has ended").clone()
}

fn sleep_a_little(kernel: &dyn Kernel) {
    let _ = kernel.futex_wait(&Default::default(), 0, Some(1.millis()));
}

#[test]
fn a_rename_is_all_or_nothing_at_every_call_if_the_file_was_synced_first() {
    let (mut outcomes, mut finished) = (BTreeSet::new(), 0);
    for (calls, seed) in (0..25).flat_map(|calls| (1..8).map(move |seed| (calls, seed))) {
        let (bytes, done) = replace(calls, seed, true);
        let bytes = bytes.expect("one of the two is always there");
        assert!(!done || bytes == b"new and longer", "what was finished is kept");
        finished += u64::from(done);
        outcomes.insert(bytes);
    }
    assert_eq!(outcomes, [b"old".to_vec(), b"new and longer".to_vec()].into());
    assert!(finished > 0, "it got to its end");
}

#[test]
fn a_rename_without_a_sync_may_leave_an_empty_file() {
    let outcomes: BTreeSet<_> = (1..60).map(|seed| replace(1_000, seed, false).0).collect();
    assert!(outcomes.contains(&Some(Vec::new())), "{outcomes:?}");
}

/// Each round writes a sector and syncs, until a sync fails. The next one says that all is well, and its sector is gone.
#[test]
fn a_sync_that_failed_is_not_made_good_by_the_next() {
    let outcome = Simulation::new(1).run(|world| {
        let rounds = Arc::new(AtomicU64::new(0));
        let counter = rounds.clone();
        let host = world.host("host").run_on_kernel(move |kernel| {
            let fd = kernel.openat(c"/tmp/file", BOTH).unwrap();
            sync_directory(&*kernel);
            let _ = kernel.futex_wait(&Default::default(), 0, Some(1.secs()));
            loop {
                let round = counter.fetch_add(1, SeqCst);
                while write_all(&*kernel, fd, &[1; 512], round * 512).is_err() {}
                if kernel.fsync(fd).is_err() {
                    break;
                }
            }
            let _ = kernel.futex_wait(&Default::default(), 0, Some(1.secs()));
            kernel.fsync(fd).expect("no faults any more");
            sleep(&*kernel);
        });
        world.sleep(500.millis());
        world.faults(Faults::none().rate(Fault::DiskError, 8));
        world.sleep(1.secs());
        world.faults(Faults::none());
        world.sleep(2.secs());
        let rounds = rounds.load(SeqCst) as usize;
        assert_eq!(host.read_file("/tmp/file"), Some(vec![1; rounds * 512]), "everybody reads it");
        host.power_off();
        let left = [vec![1; (rounds - 1) * 512], vec![0; 512]].concat();
        assert_eq!(host.read_file("/tmp/file"), Some(left));
    });
    passes(&outcome);
}

#[test]
fn a_full_disk_takes_what_fits() {
    let outcome = Simulation::new(1).run(|world| {
        let host = world.host("host");
        host.limit_disk(1_000);
        host.write_file("/etc/config", &[7; 100]);
        let host = host.run_on_kernel(|kernel| {
            let fd = kernel.openat(c"/tmp/file", BOTH).unwrap();
            assert_eq!(kernel.pwrite(fd, &[1; 600], 0), Ok(600));
            assert_eq!(kernel.pwrite(fd, &[2; 600], 600), Ok(300));
            assert_eq!(kernel.pwrite(fd, &[3; 600], 900), Err(Errno::NOSPC));
            assert_eq!(kernel.pwrite(fd, &[4; 900], 0), Ok(900), "what is there may be overwritten");
            kernel.unlink(c"/etc/config").unwrap();
            assert_eq!(kernel.pwrite(fd, &[5; 600], 900), Ok(100));
            kernel.ftruncate(fd, 10).unwrap();
            assert_eq!(kernel.pwrite(fd, &[6; 600], 10), Ok(600));
            // A file without a name takes room until its last descriptor is closed.
            let second = kernel.openat(c"/tmp/second", BOTH).unwrap();
            assert_eq!(kernel.pwrite(second, &[7; 600], 0), Ok(390));
            kernel.unlink(c"/tmp/second").unwrap();
            assert_eq!(kernel.pwrite(fd, &[8; 10], 610), Err(Errno::NOSPC));
            kernel.close(second).unwrap();
            assert_eq!(kernel.pwrite(fd, &[8; 10], 610), Ok(10));
            kernel.close(fd)
        });
        world.join(&host);
        assert!(host.finished());
        assert_eq!(host.read_file("/tmp/file").map(|bytes| bytes.len()), Some(620));
    });
    passes(&outcome);
}

/// What each fault makes of 300 calls: the errors, the shortest write and the longest time.
fn with_fault(fault: Fault) -> (BTreeSet<Errno>, usize, u64) {
    with_kernel(&Simulation::new(4).faults(Faults::none().rate(fault, 5)), |kernel| {
        let (mut errors, mut shortest, mut longest) = (BTreeSet::new(), usize::MAX, 0);
        let fd = loop {
            match kernel.openat(c"/tmp/file", BOTH) {
                Ok(fd) => break fd,
                Err(errno) => drop(errors.insert(errno)),
            }
        };
        let now = || kernel.clock_gettime(Clock::Monotonic);
        for round in 0..300 {
            let start = now();
            let answer = match round % 3 {
                0 => kernel.pwrite(fd, &[1; 100], round),
                1 => kernel.pread(fd, &mut [0; 100], 0),
                _ => kernel.fsync(fd).map(|()| 100),
            };
            longest = longest.max((now() - start).as_millis() as u64);
            match answer {
                Ok(count) => shortest = shortest.min(count),
                Err(errno) => drop(errors.insert(errno)),
            }
        }
        kernel.close(fd).unwrap();
        (errors, shortest, longest)
    })
}

#[test]
fn each_fault_shows_and_none_without() {
    assert_eq!(with_fault(Fault::DiskError), ([Errno::IO].into(), 100, 0));
    assert_eq!(with_fault(Fault::DiskFull), ([Errno::NOSPC].into(), 100, 0));
    let (errors, shortest, longest) = with_fault(Fault::ShortFile);
    assert!(errors.is_empty() && (1..20).contains(&shortest) && longest == 0, "{errors:?} {shortest}");
    let (errors, shortest, longest) = with_fault(Fault::SlowDisk);
    assert!(errors.is_empty() && shortest == 100, "{errors:?} {shortest}");
    assert!((1_000..3_000).contains(&longest), "{longest} ms");
    assert_eq!(with_fault(Fault::Skew), (BTreeSet::new(), 100, 0));
}

#[test]
fn another_thread_runs_while_one_waits_for_the_disk() {
    let turns = with_kernel(&Simulation::new(1), |kernel| {
        let turns = Arc::new(AtomicU64::new(0));
        let counter = turns.clone();
        let busy = move |kernel: std::rc::Rc<dyn Kernel>| {
            for _ in 0..100 {
                counter.fetch_add(1, SeqCst);
                kernel.sched_yield();
            }
        };
        let fd = kernel.openat(c"/tmp/file", BOTH).unwrap();
        let thread = kernel.spawn(&Default::default(), Box::new(busy)).unwrap();
        let before = turns.load(SeqCst);
        kernel.fsync(fd).unwrap();
        let during = turns.load(SeqCst) - before;
        kernel.join(thread).unwrap();
        kernel.close(fd).unwrap();
        during
    });
    assert!(turns > 50, "{turns} turns in the time of a sync");
}

#[test]
fn a_file_that_is_left_open_is_a_leak() {
    let outcome = Simulation::new(1).run(|world| {
        let host = world.host("host").run_on_kernel(|kernel| kernel.openat(c"/tmp/file", BOTH).map(|_| ()));
        world.join(&host);
    });
    let failure = outcome.failure.expect("a leak");
    assert_eq!(failure.kind, FailureKind::Leak);
    assert!(failure.message.contains("(file)"), "{failure}");
}

#[test]
fn the_time_of_a_change_is_that_of_the_hosts_clock() {
    let faults = Faults::none().with(Fault::Skew);
    with_kernel(&Simulation::new(9).faults(faults), |kernel| {
        let fd = kernel.openat(c"/tmp/file", BOTH).unwrap();
        sleep_a_little(&*kernel);
        let before = kernel.clock_gettime(Clock::Realtime);
        kernel.pwrite(fd, b"x", 0).unwrap();
        let after = kernel.clock_gettime(Clock::Realtime);
        let modified = kernel.fstat(fd).unwrap().modified;
        assert!(before <= modified && modified <= after, "{before} {modified} {after}");
        kernel.close(fd).unwrap();
    });
}

/// The same seed loses the same.
#[test]
fn a_power_failure_replays() {
    let digest = |seed| {
        let outcome = Simulation::new(seed).faults(Faults::swarm()).run(|world| {
            let host = world.host("host").may_fail().run_on_kernel(|kernel| {
                let fd = kernel.openat(c"/tmp/file", BOTH)?;
                for round in 0..50 {
                    write_all(&*kernel, fd, &[round as u8; 700], round * 300)?;
                }
                kernel.fsync(fd)
            });
            world.sleep(5.millis());
            host.power_off();
            host.restart();
            world.sleep(100.millis());
            let bytes = host.read_file("/tmp/file").map_or(0, |bytes| bytes.len());
            world.note(&format!("{bytes} bytes"));
        });
        (outcome.digest, outcome.stats.faults)
    };
    for seed in 1..20 {
        assert_eq!(digest(seed), digest(seed));
    }
}
