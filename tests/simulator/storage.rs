//! The library's files on disks that are slow, full, or fail, and when the power does.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use machinarium::file::{File, OpenOptions, remove_file, rename, sync_directory};
use machinarium::{Misuse, now, run, sleep, spawn, timeout};
use machinarium_sim::{Durations, Fault, Faults, Host, Outcome, Simulation, World};

fn passes(outcome: &Outcome) {
    assert!(outcome.passed(), "{}", outcome.report(""));
}

fn read_write() -> OpenOptions {
    File::options().read(true).write(true)
}

/// Runs `main` in a machine on a host on many seeds, with these faults, and lets `end` look at the host.
fn disk(
    faults: Faults,
    main: impl Fn() -> io::Result<()> + Copy + Send + Sync + 'static,
    end: impl Fn(&World, &Host) + Copy + 'static,
) {
    for seed in 1..30 {
        passes(&Simulation::new(seed).faults(faults).keep_events(40).run(move |world| {
            let host = world.host("host").run(move || run(main));
            world.join(&host);
            end(world, &host);
        }));
    }
}

#[test]
fn a_call_that_had_begun_goes_on_without_its_caller() {
    let main = || {
        let file = read_write().create(true).open("/tmp/file")?;
        // Most calls are slow.
        let late = loop {
            file.set_len(0)?;
            let start = now();
            let written = timeout(1.millis(), || file.write_all_at(b"written all the same", 0));
            assert!(now() - start < 5.millis(), "the caller does not wait for the disk");
            if let Err(late) = written {
                break late;
            }
        };
        assert_eq!((late.written, late.source.kind()), (0, io::ErrorKind::TimedOut));
        let theirs = file.clone();
        let writer = spawn(move || theirs.write_at(b"W", 0));
        sleep(1.millis())?;
        writer.cancel("on purpose")?;
        let _ = writer.join()?;
        // Nobody gets it, and it is made.
        while timeout(1.millis(), || File::create("/tmp/made")).is_ok() {
            remove_file("/tmp/made")?;
        }
        // The descriptor stays for the calls that are under way.
        drop(file);
        sleep(6.secs())?;
        let file = File::open("/tmp/file")?;
        let mut bytes = [0; 20];
        file.read_exact_at(&mut bytes, 0)?;
        // Two calls on two threads: either may have come first.
        assert_eq!(&bytes[1..], b"ritten all the same");
        assert!(bytes[0].eq_ignore_ascii_case(&b'w'));
        drop(file);
        sleep(20.secs())?; // the pool's threads end, so that the world looks for what is left open
        Ok(())
    };
    disk(Faults::none().rate(Fault::SlowDisk, 1), main, |_, host| {
        assert_eq!(host.read_file("/tmp/made"), Some(Vec::new()));
    });
}

#[test]
fn run_does_not_wait_for_a_call_that_nobody_waits_for() {
    for seed in 1..20 {
        passes(&Simulation::new(seed).faults(Faults::none().rate(Fault::SlowDisk, 1)).run(|world| {
            let host = world.host("host").run(|| {
                run(|| {
                    let file = read_write().create(true).open("/tmp/file")?;
                    let start = now();
                    assert!(timeout(Duration::from_micros(100), || file.sync_all()).is_err());
                    assert!(now() - start < 2.millis());
                    io::Result::Ok(())
                })
            });
            world.join(&host);
            // Of the process's end nobody knows but the disk.
            assert!(host.finished());
        }));
    }
}

#[test]
fn short_calls_and_interruptions_are_finished() {
    let main = || {
        let file = read_write().create(true).open("/tmp/file")?;
        let text: Vec<u8> = (0..10_000).map(|number| (number % 251) as u8).collect();
        file.write_all_at(&text, 0)?;
        let mut bytes = vec![0; text.len()];
        file.read_exact_at(&mut bytes, 0)?;
        assert!(bytes == text);
        file.sync_all()?;
        file.set_len(5_000)?;
        rename("/tmp/file", "/tmp/renamed")?;
        assert_eq!(file.len()?, 5_000);
        Ok(())
    };
    let faults = Faults::none().rate(Fault::ShortFile, 2).rate(Fault::Eintr, 2);
    disk(faults, main, |_, host| assert_eq!(host.read_file("/tmp/renamed").unwrap().len(), 5_000));
}

#[test]
fn a_full_disk_says_how_much_was_written() {
    passes(&Simulation::new(1).run(|world| {
        let host = world.host("host");
        host.limit_disk(900);
        let host = host.run(|| {
            run(|| {
                let file = read_write().create(true).open("/tmp/file")?;
                let error = file.write_all_at(&[7; 1_000], 0).unwrap_err();
                assert_eq!((error.written, error.source.kind()), (900, io::ErrorKind::StorageFull));
                assert_eq!(file.write_at(&[8; 1_000], 100)?, 800, "what fits");
                io::Result::Ok(())
            })
        });
        world.join(&host);
        assert!(host.finished());
        assert_eq!(host.read_file("/tmp/file"), Some([vec![7; 100], vec![8; 800]].concat()));
    }));
}

#[test]
fn a_disk_that_fails_is_told_and_the_count_is_right() {
    let main = || {
        sleep(1.secs())?;
        let mut failed = 0;
        for round in 0..40 {
            // Opening may fail too.
            let Ok(file) = read_write().create(true).truncate(true).open(format!("/tmp/{round}")) else {
                failed += 1;
                continue;
            };
            let (text, mut written) = ([7; 3_000], 0);
            while written < text.len() {
                match file.write_all_at(&text[written..], written as u64) {
                    Ok(()) => break,
                    Err(error) => {
                        assert_eq!(error.source.raw_os_error(), Some(5), "{error}");
                        (failed, written) = (failed + 1, written + error.written);
                    }
                }
            }
            let mut bytes = [0; 3_000];
            while file.read_exact_at(&mut bytes, 0).is_err() {
                failed += 1;
            }
            assert!(bytes == text);
        }
        assert!(failed > 0, "nothing has failed");
        Ok(())
    };
    disk(Faults::none().rate(Fault::DiskError, 5).rate(Fault::ShortFile, 2), main, |_, _| ());
}

/// Processes may share memory here, as threads of one test; a descriptor is its own process's all the same.
#[test]
#[allow(clippy::disallowed_types, reason = "shared by simulated processes, and locked across no call")]
fn a_file_of_another_process_is_refused() {
    passes(&Simulation::new(1).run(|world| {
        let shared = std::sync::Arc::new(std::sync::Mutex::new(None::<File>));
        let theirs = shared.clone();
        let owner = world.host("owner").run(move || {
            run(|| {
                let file = read_write().create(true).open("/tmp/file")?;
                *theirs.lock().unwrap() = Some(file.clone());
                sleep(1.secs())?;
                file.write_all_at(b"still open", 0).map_err(io::Error::from)
            })
        });
        world.sleep(100.millis());
        let stranger = world.host("stranger").run(move || {
            let file = shared.lock().unwrap().clone().unwrap();
            run(move || {
                // Under its number this process has something else.
                let error = file.write_at(b"x", 0).unwrap_err();
                let misuse = error.get_ref().and_then(|inner| inner.downcast_ref::<Misuse>());
                assert_eq!(misuse, Some(&Misuse::OtherProcess));
                io::Result::Ok(())
            })
        });
        world.join(&stranger);
        world.join(&owner);
        assert_eq!(owner.read_file("/tmp/file").unwrap(), b"still open");
        assert!(owner.finished() && stranger.finished());
    }));
}

/// Replaces a file again and again, as `rename` says how; the power fails at some moment.
#[test]
fn a_file_replaced_with_care_is_the_old_or_the_new_one() {
    fn replace(number: u8) -> io::Result<()> {
        let file = File::create("/tmp/new")?;
        file.write_all_at(&[number; 2_000], 0)?;
        file.sync_all()?;
        rename("/tmp/new", "/tmp/file")?;
        sync_directory("/tmp")
    }
    let mut seen = BTreeSet::new();
    for seed in 1..60 {
        let kept = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let place = kept.clone();
        passes(&Simulation::new(seed).run(move |world| {
            let done = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
            let count = done.clone();
            let host = world.host("host").run(move || {
                let count = count.clone();
                run(move || {
                    for number in 1..200 {
                        replace(number)?;
                        count.store(u64::from(number), std::sync::atomic::Ordering::SeqCst);
                    }
                    sleep(1_000.secs()).map_err(io::Error::from)
                })
            });
            world.sleep(Duration::from_micros(world.random(20_000)));
            host.power_off();
            let done = done.load(std::sync::atomic::Ordering::SeqCst);
            let Some(bytes) = host.read_file("/tmp/file") else { return assert_eq!(done, 0) };
            assert!(bytes.len() == 2_000 && bytes.iter().all(|byte| *byte == bytes[0]), "torn");
            assert!(u64::from(bytes[0]) >= done, "{} of {done}", bytes[0]);
            place.store(u64::from(bytes[0]), std::sync::atomic::Ordering::SeqCst);
        }));
        seen.insert(kept.load(std::sync::atomic::Ordering::SeqCst));
    }
    assert!(seen.len() > 5, "the power fails at different moments: {seen:?}");
}
