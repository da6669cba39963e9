//! What a process says of itself: statistics, dumps of all machines, and the watchdog.

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::both;
use crate::child::{in_child, said};
use crate::tcp::loopback;
use machinarium::inspect::{self, Inspection, Statistics};
use machinarium::net::TcpListener;
use machinarium::sync::{Event, Mutex};
use machinarium::{cancelled, machine, run, sleep, spawn, spawn_named, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(20);

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

fn only() -> io::Result<Statistics> {
    Ok(inspect::statistics()?.remove(0))
}

#[test]
fn statistics_count_what_happened() {
    both(|| {
        assert!(inspect::statistics().is_err(), "nobody counts outside of a machine");
        in_a_machine(|| {
            assert_eq!(
                only()?.coroutines,
                1,
                "a machine that asks shows what is now, before its first turn too"
            );
            sleep(SHORT)?;
            let before = only()?;
            assert_eq!((before.machine, before.coroutines, before.descriptors), (0, 1, 0));
            let listener = TcpListener::bind(loopback())?;
            let sleepers: Vec<_> = (0..10).map(|_| spawn(|| sleep(LONG))).collect();
            sleep(SHORT)?;
            let during = only()?;
            assert_eq!((during.coroutines, during.stacks, during.descriptors), (11, 11, 1));
            assert!(during.switches >= before.switches + 11, "{during:?}");
            assert!(during.turns > before.turns && during.polls > before.polls, "{during:?}");
            drop(listener);
            for sleeper in sleepers {
                sleeper.cancel("enough")?;
                assert!(sleeper.join()?.is_err());
            }
            sleep(SHORT)?;
            let after = only()?;
            assert_eq!((after.coroutines, after.stacks, after.descriptors), (1, 1, 0));
            assert!(after.stacks_cached >= 10, "{after:?}");
            Ok(())
        });
    });
}

#[test]
fn letters_lateness_and_the_end_of_machines_are_seen() {
    both(|| {
        in_a_machine(|| {
            let other = machine::spawn("other", || drop(sleep(LONG)))?;
            for _ in 0..5 {
                other.remote().spawn(|| ())?.join()?;
            }
            sleep(SHORT)?;
            let all = inspect::statistics()?;
            let names: Vec<_> = all.iter().map(|one| (one.machine, &*one.name)).collect();
            assert_eq!(names, [(0, "machine-0"), (1, "other")]);
            assert!(all[1].letters >= 5 && all[0].letters >= 1, "{all:?}");
            other.stop("enough");
            other.join()?;
            assert_eq!(inspect::statistics()?.len(), 1);
            // Nobody comes to the loop, where timers fire, for as long as this runs.
            let sleeper = spawn(|| sleep(SHORT));
            yield_now();
            let end = machinarium::now() + SHORT * 4;
            while machinarium::now() < end {}
            sleeper.join()??;
            sleep(SHORT)?;
            assert!(only()?.lag_max >= SHORT * 3, "{:?}", only()?);
            Ok(())
        });
    });
}

#[test]
fn a_dump_tells_what_every_coroutine_waits_for() {
    both(|| {
        in_a_machine(|| {
            let (event, mutex) = (Event::new(), Arc::new(Mutex::new(())));
            let theirs = event.clone();
            let other = machine::spawn("other", move || drop(theirs.wait()))?;
            let held = mutex.lock()?;
            let wants = mutex.clone();
            let locker = spawn_named("locker", move || wants.lock().map(drop));
            let sleepers: Vec<_> = (0..3).map(|_| spawn_named("sleeper", || sleep(LONG))).collect();
            sleep(SHORT)?;
            let dump = inspect::dump()?;
            let [here, there] = &dump.machines[..] else { panic!("two machines: {dump}") };
            let told = |dump: &inspect::MachineDump| -> Vec<(String, &str, String)> {
                let coroutines = dump.coroutines.as_ref().expect("it answers");
                coroutines.iter().map(|one| (one.name.clone(), one.state, one.waits_for.clone())).collect()
            };
            let here = told(here);
            assert_eq!((&*here[0].0, here[0].1), ("main", "running"));
            assert_eq!(here[1], ("locker".to_owned(), "parked", "lock".to_owned()));
            assert_eq!(here[2..], vec![("sleeper".to_owned(), "parked", "sleep".to_owned()); 3]);
            assert_eq!(told(there), [("main".to_owned(), "parked", "event".to_owned())]);
            let text = dump.to_string();
            assert!(text.contains("machine 1 'other': 1 coroutines"), "{text}");
            let calls = dump.machines[0].coroutines.as_ref().unwrap()[2].backtrace.as_ref().unwrap();
            assert!(calls.contains("a_dump_tells_what_every_coroutine_waits_for"), "{calls}");
            // Those that stand in the same calls are told of together.
            assert_eq!(text.matches("'sleeper': parked, sleep").count(), 3, "{text}");
            assert_eq!(text.matches("machinarium::time::sleep\n").count(), 1, "{text}");
            drop(held);
            event.set();
            for sleeper in sleepers {
                sleeper.cancel("enough")?;
            }
            locker.join()??;
            Ok(other.join()?)
        });
    });
}

#[test]
fn who_is_held_does_not_answer_and_the_watchdog_tells() {
    both(hold);
}

/// A machine is held by a coroutine that does not wait.
fn hold() {
    in_a_machine(|| {
        let reports = Arc::new(AtomicUsize::new(0));
        let counted = reports.clone();
        let watchdog = inspect::watchdog(SHORT * 4, move |held| {
            assert_eq!(held.statistics.name, "holder");
            assert!(held.duration >= SHORT * 4);
            counted.fetch_add(1, Ordering::SeqCst);
        })?;
        assert!(inspect::watchdog(Duration::ZERO, |_| ()).is_err());
        let release = Arc::new(AtomicUsize::new(0));
        let seen = release.clone();
        let holder = machine::spawn("holder", move || {
            while seen.load(Ordering::SeqCst) == 0 {
                // Lets others run, in a world, and its own loop not.
                assert!(machinarium::now() > machinarium::Instant::from_nanos(0));
            }
        })?;
        sleep(SHORT * 20)?;
        let dump = Inspection::new().patience(SHORT).dump()?;
        let silent: Vec<_> = dump.machines.iter().filter(|machine| machine.coroutines.is_none()).collect();
        assert_eq!(silent.len(), 1, "{dump}");
        assert_eq!(silent[0].statistics.name, "holder");
        assert!(dump.to_string().contains("it did not answer"));
        release.store(1, Ordering::SeqCst);
        holder.join()?;
        drop(watchdog);
        assert_eq!(reports.load(Ordering::SeqCst), 1, "it tells once of each time");
        Ok(())
    });
}

#[test]
fn a_dump_ends_when_its_caller_is_cancelled() {
    both(|| {
        in_a_machine(|| {
            let asker = spawn(inspect::dump);
            asker.cancel("enough")?;
            match asker.join()? {
                // Nobody else had to be asked.
                Ok(dump) => assert_eq!(dump.machines.len(), 1),
                Err(error) => assert!(cancelled(&error).is_some()),
            }
            let dump = timeout(LONG, || Inspection::new().backtraces(0).dump())?;
            let coroutines = dump.machines[0].coroutines.as_ref().unwrap();
            assert!(coroutines.iter().all(|one| one.backtrace.is_none()));
            Ok(())
        });
    });
}

#[inline(never)]
fn never_waits() {
    loop {
        std::hint::black_box(0);
    }
}

#[test]
fn a_watchdog_can_end_the_process_and_show_who_held_it() {
    use std::os::unix::process::ExitStatusExt;
    let output = in_child("inspect::a_watchdog_can_end_the_process_and_show_who_held_it", || {
        in_a_machine(|| {
            let _watchdog = inspect::watchdog(SHORT * 4, |held| held.abort())?;
            let deaf = machine::spawn("deaf", || {
                let _ = spawn_named("busy body", never_waits).join();
            })?;
            drop(deaf.join());
            Ok(())
        });
    });
    let said = said(&output);
    assert_eq!(output.status.signal(), Some(6), "{said}");
    let expected = [
        "machine 'deaf' has not come to its loop for",
        "what runs there:",
        "coroutine 2 'busy body'",
        "never_waits",
    ];
    for words in expected {
        assert!(said.contains(words), "no '{words}' in: {said}");
    }
}

/// One that is ready waits until the one before it is done.
#[test]
fn runs_and_waits_in_the_queue_are_timed_where_that_is_asked_for() {
    both(|| {
        machinarium::Builder::new()
            .timing(true)
            .run(|| {
                let busy = || {
                    let end = machinarium::now() + SHORT;
                    while machinarium::now() < end {}
                };
                let all = [spawn(busy), spawn(busy), spawn(busy)];
                for one in all {
                    one.join()?;
                }
                sleep(SHORT)?;
                let seen = only()?;
                assert!(seen.runs.count() >= 4 && seen.runs.sum() >= SHORT * 3, "{seen:?}");
                // The second waits for the first, and the third for both.
                assert!(seen.readies.sum() >= SHORT * 3, "{seen:?}");
                assert!(seen.readies.quantile(1.0) >= SHORT * 2, "{seen:?}");
                assert!(seen.lags.count() >= 1 && seen.lags.quantile(0.0) <= seen.lags.quantile(1.0));
                io::Result::Ok(())
            })
            .unwrap();
        in_a_machine(|| {
            sleep(SHORT)?;
            let seen = only()?;
            assert_eq!((seen.runs.count(), seen.readies.quantile(0.5)), (0, Duration::ZERO));
            assert!(seen.lags.count() == 1, "{seen:?}");
            Ok(())
        });
    });
}

/// What Prometheus is told of each machine: every family once, with help and kind, each sample with a number.
#[test]
fn prometheus_is_told_of_all_machines() {
    both(|| {
        assert!(inspect::prometheus().is_err(), "nobody counts outside of a machine");
        in_a_machine(|| {
            let other = machine::spawn("a \"quoted\" name", || drop(sleep(LONG)))?;
            sleep(SHORT)?;
            let text = inspect::prometheus()?.to_string();
            assert!(text.contains("machinarium_coroutines{machine=\"0\",name=\"machine-0\"} 1\n"), "{text}");
            assert!(text.contains("{machine=\"1\",name=\"a \\\"quoted\\\" name\"}"), "{text}");
            let mut families = std::collections::BTreeSet::new();
            for line in text.lines() {
                if let Some(family) = line.strip_prefix("# TYPE ") {
                    assert!(families.insert(family), "{family} twice");
                } else if !line.starts_with("# HELP ") {
                    let (_, value) = line.rsplit_once(' ').unwrap();
                    assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
                }
            }
            let lags = "machinarium_timer_lag_seconds";
            assert!(families.contains(&*format!("{lags} histogram")), "{text}");
            let last = text
                .lines()
                .find(|line| line.starts_with(&format!("{lags}_bucket")) && line.contains("+Inf"));
            let count = text.lines().find(|line| line.starts_with(&format!("{lags}_count"))).unwrap();
            let number = |line: &str| line.rsplit_once(' ').unwrap().1.to_owned();
            assert_eq!(number(last.unwrap()), number(count), "the last bucket has all");
            other.stop("enough");
            other.join()?;
            Ok(())
        });
    });
}

/// Sends a line, and takes the answer up to the empty line.
fn ask(client: &mut machinarium::net::UnixStream, request: &str) -> io::Result<Vec<String>> {
    client.write_all(format!("{request}\n").as_bytes())?;
    let lines = client.lines().map_while(Result::ok);
    Ok(lines.take_while(|line| !line.is_empty()).collect())
}

#[test]
fn a_socket_tells_of_the_process() {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    both(|| {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("machinarium-inspect-{}-{number}", std::process::id()));
        in_a_machine(|| {
            let serving = inspect::serve(&path)?;
            let again = inspect::serve(&path).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
            let _sleeper = spawn_named("a \"sleeper\"", || sleep(LONG));
            sleep(SHORT)?;
            let mut client = machinarium::net::UnixStream::connect(&path)?;
            let told = ask(&mut client, "machines")?.concat();
            assert!(told.contains(r#"{"name":"machine-0","asleep":"#), "{told}");
            assert!(told.contains(r#""machine":0,"coroutines":2,"#) && !told.contains("list"), "{told}");
            let told = ask(&mut client, "coroutines")?.concat();
            let sleeper =
                r#"{"id":2,"name":"a \"sleeper\"","state":"parked","waits_for":"sleep","deadline_ns":"#;
            assert!(told.contains(sleeper), "{told}");
            assert!(ask(&mut client, "dump")?[0].starts_with("machine 0 'machine-0': 2 coroutines"));
            assert!(ask(&mut client, "prometheus")?[0].starts_with("# HELP machinarium_"));
            assert!(ask(&mut client, "what?")?[0].starts_with("error: \"what?\" is none of "));
            client.write_all(&[b'x'; 100])?;
            assert!(
                matches!(io::Read::read(&mut client, &mut [0; 1]), Ok(0) | Err(_)),
                "such a long line is none"
            );
            drop(serving);
            let gone = |error: &io::Error| {
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
            };
            while !machinarium::net::UnixStream::connect(&path).is_err_and(|error| gone(&error)) {
                sleep(SHORT)?;
            }
            Ok(())
        });
    });
}

/// Whom a coroutine holds does not answer, and the others do.
#[test]
fn a_socket_tells_of_a_machine_that_is_held() {
    let path = std::env::temp_dir().join(format!("machinarium-held-{}", std::process::id()));
    in_a_machine(|| {
        let _serving = inspect::serve(&path)?;
        // 1: the main coroutine holds its machine. 2: it has been seen.
        let (theirs, step) = (path.clone(), Arc::new(AtomicUsize::new(0)));
        let stepped = step.clone();
        let asks = machine::spawn("asks", move || {
            let mut client = machinarium::net::UnixStream::connect(theirs).unwrap();
            while stepped.load(Ordering::Relaxed) == 0 {
                yield_now();
            }
            let told = ask(&mut client, "coroutines").unwrap();
            stepped.store(2, Ordering::Relaxed);
            told.concat()
        })?;
        step.store(1, Ordering::Relaxed);
        while step.load(Ordering::Relaxed) == 1 {
            std::hint::spin_loop();
        }
        let told = asks.join()?;
        // The others as far as their threads get on beside this one; whoever answers has a list of its own.
        let lists: Vec<_> = told.split("\"name\":\"").filter(|part| part.contains("\"list\":")).collect();
        let of =
            |name: &str| lists.iter().find(|list| list.starts_with(name)).expect("each machine has a list");
        assert!(of("machine-0\"").contains("\"list\":null"), "{told}");
        assert!(of("inspect\"").contains("\"list\":[{\"id\":1,"), "{told}");
        Ok(())
    });
}
