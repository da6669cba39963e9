//! Marks: what code says about itself is heard in worlds, and nowhere else.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use machinarium::mark::{Mark, MarkKind};
use machinarium::{always, buggify, mark, reachable, sometimes};
use machinarium_sim::{Check, Durations, FailureKind, Marks, Outcome, Record, Simulation, Strategy, World};

fn run(seed: u64, main: impl Fn() + Send + Sync + 'static) -> Outcome {
    Simulation::new(seed).run(move |world| {
        let host = world.host("host").run(main);
        world.join(&host);
    })
}

fn nap(time: Duration) {
    let _ = machinarium::run(|| {
        machinarium::sleep(time)?;
        std::io::Result::Ok(())
    });
}

fn names(marks: &Marks) -> String {
    marks.never().iter().map(|mark| mark.name).collect::<Vec<_>>().join(", ")
}

#[test]
fn what_is_reached_is_told_apart_from_what_is_not() {
    let mut marks = Marks::default();
    for seed in 1..20 {
        let outcome = run(seed, || {
            always!(1 + 1 == 2);
            sometimes!(black_box(true), "a clock that runs");
            sometimes!(black_box(false), "a clock that stands");
            reachable!("the beginning");
            if black_box(false) {
                reachable!("the end of time");
            }
        });
        assert!(outcome.passed(), "{}", outcome.report(""));
        marks.add(&outcome.marks);
    }
    let never = names(&marks);
    assert!(never.contains("a clock that stands") && never.contains("the end of time"), "{never}");
    for reached in ["1 + 1 == 2", "a clock that runs", "the beginning"] {
        assert!(!never.contains(reached), "{never}");
    }
    let told = marks.to_string();
    assert!(told.contains("NEVER sometimes \"a clock that stands\" at tests/simulator/mark.rs:"), "{told}");
    assert!(told.contains(", 19 visits") && told.contains("19 of 19: reachable \"the beginning\""), "{told}");
}

#[test]
fn every_mark_of_the_program_is_known_also_where_nobody_came() {
    let known = |name| mark::all().iter().filter(|mark| mark.name == name).count();
    assert_eq!((known("nobody comes here"), known("a mark that is not there")), (1, 0));
    if black_box(false) {
        reachable!("nobody comes here");
    }
}

/// Marks are plain values, which anybody may make and tell of.
#[test]
fn a_mark_of_no_table_is_not_counted_and_does_no_harm() {
    static BEFORE: Mark = Mark { kind: MarkKind::Sometimes, line: 1, file: "x", name: "by hand" };
    let after: &'static Mark =
        Box::leak(Box::new(Mark { kind: MarkKind::Always, line: 2, file: "x", name: "on the heap" }));
    let outcome = run(1, move || {
        let watcher = mark::watcher().expect("a world listens");
        for by_hand in [&BEFORE, after] {
            assert_eq!(mark::number(by_hand), None);
            watcher.reached(by_hand, true, format_args!("told"));
            assert!(!watcher.goes_wrong(by_hand));
        }
        reachable!("beside those by hand");
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    assert!(!outcome.marks.to_string().contains("\"by hand\""), "{}", outcome.marks);
    mark::all().iter().enumerate().for_each(|(place, mark)| assert_eq!(mark::number(mark), Some(place)));
}

#[test]
fn what_always_holds_fails_the_run_where_it_does_not_also_if_panics_are_caught() {
    let outcome = run(1, || {
        let _ = catch_unwind(|| {
            let (sent, received) = (1, 2);
            always!(received <= sent, "{received} of {sent}");
            panic!("this is caught, and comes too late");
        });
        nap(1.secs());
        unreachable!("the world has ended");
    });
    let report = outcome.report("");
    assert_eq!(outcome.failure.expect("it fails").kind, FailureKind::Broken, "{report}");
    assert!(report.contains("always, at tests/simulator/mark.rs:"), "{report}");
    assert!(report.contains(": 2 of 1"), "{report}");
}

#[test]
fn outside_of_worlds_nothing_is_heard_and_nothing_goes_wrong() {
    assert!(run(1, || ()).passed(), "somebody watches in this program");
    always!(false, "nobody hears this");
    sometimes!(false, "nor this");
    assert!((0..1000).all(|_| !buggify!()));
}

/// How many of a hundred visits in a run of `seed` go wrong.
fn wrongs(simulation: &Simulation, calm: bool) -> (usize, Outcome) {
    let count = Arc::new(AtomicUsize::new(0));
    let place = count.clone();
    let outcome = simulation.run(move |world| {
        let host = world.host("host").run(move || {
            nap(1.millis());
            place.store((0..100).filter(|_| buggify!("a rare way")).count(), SeqCst);
        });
        match calm {
            true => world.eventually(1.secs(), || host.finished()),
            false => world.join(&host),
        }
    });
    (count.load(SeqCst), outcome)
}

#[test]
fn rare_ways_are_drawn_and_repeated() {
    let runs: Vec<(usize, Outcome)> =
        (0..100).map(|seed| wrongs(&Simulation::new(seed).record(true), false)).collect();
    let on = runs.iter().filter(|(wrongs, _)| *wrongs > 0).count();
    assert!((10..45).contains(&on), "{on} of 100 runs have it on");
    for (wrongs, _) in runs.iter().filter(|(wrongs, _)| *wrongs > 0) {
        assert!((10..45).contains(wrongs), "{wrongs} of 100 visits");
    }
    let (count, outcome) = runs.iter().find(|(wrongs, _)| *wrongs > 0).unwrap();
    let record = outcome.record.clone().unwrap();
    let (again, repeated) = wrongs(&Simulation::new(0).replay(record), false);
    assert_eq!((again, repeated.digest), (*count, outcome.digest));
    let (boring, _) = wrongs(&Simulation::new(0).replay(Record::default()), false);
    assert_eq!(boring, 0);
    assert!(
        (0..100).all(|seed| wrongs(&Simulation::new(seed), true).0 == 0),
        "nothing is rare while the world is calm"
    );
}

/// Rare, and then rare again.
fn twice_rare(world: &World, bad: u64) {
    let half = world.random(20) == 7;
    sometimes!(half, "half of the way");
    assert!(world.random(12) != bad || !half, "the bug");
}

#[test]
fn runs_go_on_from_where_something_was_reached_for_the_first_time() {
    let plain = |bad: &u64| {
        let bad = *bad;
        (1..=64).all(|seed| Simulation::new(seed).run(move |world| twice_rare(world, bad)).passed())
    };
    let hidden: Vec<u64> = (1..12).filter(plain).collect();
    let check = |bad: u64| Check::new().strategy(Strategy::Random).run(move |world| twice_rare(world, bad));
    let (bad, panic) = hidden
        .iter()
        .find_map(|bad| catch_unwind(|| check(*bad)).err().map(|panic| (*bad, panic)))
        .expect("a future fails where 64 seeds do not");
    let report = panic.downcast_ref::<String>().unwrap();
    assert!(report.contains("went on from the first sometimes \"half of the way\""), "{report}");
    assert!(report.contains("2 choices -> 2 that matter"), "{report}");
    // The record is a run of its own, and fails alike.
    let path = report.split("MACHINARIUM_REPLAY=").nth(1).unwrap().split_whitespace().next().unwrap();
    let record = Record::from_text(&std::fs::read_to_string(path).unwrap()).unwrap();
    let outcome = Simulation::new(1).replay(record).run(move |world| twice_rare(world, bad));
    assert!(outcome.report("").contains("the bug"), "{}", outcome.report(""));
}

#[test]
fn a_check_can_insist_on_reaching_everything() {
    let check = AssertUnwindSafe(Check::new().must_reach().seeds(3));
    let panic =
        catch_unwind(|| check.run(|world| sometimes!(world.random(2) == 2, "two of two"))).unwrap_err();
    let report = panic.downcast_ref::<String>().unwrap();
    assert!(
        report.contains("no run of mark::a_check_can_insist_on_reaching_everything has reached all of"),
        "{report}"
    );
    assert!(report.contains("NEVER sometimes \"two of two\""), "{report}");
}
