//! Strategies: each finds what it must find, repeats itself, and is replayed and shrunk like any other choice.
//!
//! The programs are five small bugs of threads that share words, each operation behind a point. `cargo test --release --test
//! simulator strategy::table -- --ignored --nocapture` prints how many seeds each strategy needs for each.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use machinarium::kernel::{Kernel, ThreadOptions};
use machinarium::shared::primitive::point;
use machinarium_sim::{Check, Cpu, Durations, Fault, Faults, Outcome, Record, Simulation, Strategy, World};

use crate::raw;

/// A word that threads share: each operation may be preceded by another thread's.
#[derive(Default)]
struct Word(AtomicU32);

impl Word {
    fn get(&self) -> u32 {
        point();
        self.0.load(SeqCst)
    }

    fn set(&self, value: u32) {
        point();
        self.0.store(value, SeqCst);
    }

    /// Whether it was `old` and is `new` now.
    fn change(&self, old: u32, new: u32) -> bool {
        point();
        self.0.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
    }
}

type Body = Box<dyn FnOnce(Rc<dyn Kernel>) + Send>;

/// A host of whose process each of these is a thread.
fn threads(world: &World, bodies: impl Fn() -> Vec<Body> + Send + Sync + 'static) {
    let host = world.host("host").run_on_kernel(move |kernel| {
        let spawn = |body: Body| kernel.spawn(&ThreadOptions::default(), body).unwrap();
        let threads: Vec<_> = bodies().into_iter().map(spawn).collect();
        for thread in threads {
            if let Err(panic) = kernel.join(thread) {
                std::panic::resume_unwind(panic);
            }
        }
    });
    world.join(&host);
}

/// Setters write one word and then the other; who looks in between, before any has written the other, sees what is not to be
/// seen. (`reorder` of SCTBench.) The more setters, the less likely.
fn reorder(world: &World, setters: usize) {
    threads(world, move || {
        let words: Arc<[Word; 2]> = Arc::default();
        let checked = words.clone();
        let setter = move |_| {
            let words = words.clone();
            let body = move |_: Rc<dyn Kernel>| {
                words[0].set(1);
                words[1].set(1);
            };
            Box::new(body) as Body
        };
        let checker: Body = Box::new(move |_| {
            let (first, second) = (checked[0].get(), checked[1].get());
            assert_eq!(first, second, "one is set and the other is not");
        });
        (0..setters).map(setter).chain([checker]).collect()
    });
}

fn reorder_3(world: &World) {
    reorder(world, 3);
}

fn reorder_20(world: &World) {
    reorder(world, 20);
}

/// A lock that asks, and then waits without asking again: an unlock in between wakes nobody. (The original's mutex had that.)
fn lost_wake_up(world: &World) {
    threads(world, || {
        let (lock, waiters): (Arc<Word>, Arc<Word>) = Default::default();
        let body = move |_| {
            let (lock, waiters) = (lock.clone(), waiters.clone());
            let body = move |kernel: Rc<dyn Kernel>| {
                while !lock.change(0, 1) {
                    let word = &waiters.0;
                    word.fetch_add(1, SeqCst);
                    point();
                    let _ = kernel.futex_wait(word, word.load(SeqCst), None);
                }
                lock.set(0);
                if waiters.get() > 0 {
                    kernel.futex_wake(&waiters.0, 1);
                }
            };
            Box::new(body) as Body
        };
        (0..2).map(body).collect()
    });
}

/// Two threads that have to take turns five times: whoever has few switches never gets there.
fn alternation(world: &World) {
    threads(world, || {
        let turns: Arc<AtomicU64> = Arc::default();
        let body = move |mine: u64| {
            let turns = turns.clone();
            let body = move |_: Rc<dyn Kernel>| {
                for _ in 0..10 {
                    point();
                    let turn = turns.load(SeqCst);
                    assert!(turn < 5, "five times, one after the other");
                    if turn % 2 == mine {
                        turns.store(turn + 1, SeqCst);
                    }
                }
            };
            Box::new(body) as Body
        };
        (0..2).map(body).collect()
    });
}

/// Three take from a heap of two: each asks first, and then takes.
fn check_then_take(world: &World) {
    threads(world, || {
        let heap = Arc::new(Word(AtomicU32::new(2)));
        let body = move |_| {
            let heap = heap.clone();
            let body = move |_: Rc<dyn Kernel>| {
                if heap.get() > 0 {
                    point();
                    let before = heap.0.fetch_sub(1, SeqCst);
                    assert!(before > 0 && before < 3, "nothing was left");
                }
            };
            Box::new(body) as Body
        };
        (0..3).map(body).collect()
    });
}

/// Two locks, taken in either order.
fn embrace(world: &World) {
    threads(world, || {
        let locks: Arc<[Word; 2]> = Arc::default();
        let body = move |mine: usize| {
            let locks = locks.clone();
            let body = move |kernel: Rc<dyn Kernel>| {
                let take = |lock: &Word| {
                    while !lock.change(0, 1) {
                        let _ = kernel.futex_wait(&lock.0, 1, None);
                    }
                };
                let give = |lock: &Word| {
                    lock.set(0);
                    kernel.futex_wake(&lock.0, 1);
                };
                take(&locks[mine]);
                take(&locks[1 - mine]);
                give(&locks[1 - mine]);
                give(&locks[mine]);
            };
            Box::new(body) as Body
        };
        (0..2).map(body).collect()
    });
}

struct Program {
    name: &'static str,
    script: fn(&World),
}

const PROGRAMS: [Program; 6] = [
    Program { name: "reorder_3", script: reorder_3 },
    Program { name: "reorder_20", script: reorder_20 },
    Program { name: "lost wake-up", script: lost_wake_up },
    Program { name: "alternation", script: alternation },
    Program { name: "check, then take", script: check_then_take },
    Program { name: "embrace", script: embrace },
];

/// Random has points only with the fault, which the others do not need and ignore.
fn simulation(seed: u64, strategy: &str) -> Simulation {
    Simulation::new(seed).strategy(strategy.parse().unwrap()).faults(preempted())
}

fn preempted() -> Faults {
    Faults::none().with(Fault::Latency).rate(Fault::Preempt, 20)
}

/// How many seeds from `first` on it takes until one fails, with its outcome.
fn hunt(script: fn(&World), strategy: &str, first: u64, most: u64) -> Option<(u64, Outcome)> {
    let rehearsal = Arc::new(Simulation::new(1).rehearse(script));
    (0..most).find_map(|number| {
        let outcome = simulation(first + number, strategy).rehearsed(rehearsal.clone()).run(script);
        (!outcome.passed()).then_some((number + 1, outcome))
    })
}

#[test]
fn each_strategy_finds_what_it_must_find() {
    let must = [
        ("reorder_3", "random pct2 pct3 pos walk selective robin3 portfolio"),
        ("reorder_20", "walk selective portfolio"),
        ("lost wake-up", "random pct3 pos walk selective portfolio"),
        ("alternation", "random pos walk selective portfolio"),
        ("check, then take", "random pct2 pct3 pos walk selective robin1 portfolio"),
        ("embrace", "random pct2 pct3 pos walk selective robin1 portfolio"),
    ];
    for (name, strategies) in must {
        let program = PROGRAMS.iter().find(|program| program.name == name).unwrap();
        for strategy in strategies.split(' ') {
            let found = hunt(program.script, strategy, 1, 20_000);
            assert!(found.is_some(), "{strategy} does not find {name}");
        }
    }
}

/// Machines, sockets and files; with faults, and processors that stall.
fn echo(simulation: &Simulation) -> Outcome {
    simulation.run(|world| {
        let server = world.host("server").run_on_kernel(|kernel| raw::echo_server(kernel, 1));
        let client =
            world.host("client").run_on_kernel(|kernel| raw::echo_client(kernel, raw::server(1), 50));
        world.eventually(60.secs(), || client.finished() && server.finished());
    })
}

const ALL: &str = "random pct3 pos walk selective robin2 all all2 portfolio";

#[test]
fn a_seed_and_a_strategy_are_a_run() {
    for strategy in ALL.split(' ') {
        let run =
            |seed| echo(&simulation(seed, strategy).faults(Faults::swarm()).cpu(Cpu::Loaded).keep_events(20));
        let runs: Vec<Outcome> = (1..10).map(run).collect();
        runs.iter().for_each(|run| assert!(run.passed(), "{}", run.report("")));
        let digests = |runs: &[Outcome]| runs.iter().map(|run| run.digest).collect::<Vec<_>>();
        assert_eq!(digests(&runs), digests(&(1..10).map(run).collect::<Vec<_>>()), "{strategy}");
        let mut distinct = digests(&runs);
        distinct.sort_unstable();
        distinct.dedup();
        // All that is left to vary there is who goes on, and two hosts that talk are hardly ever ready at once.
        let exhaustive = strategy.starts_with("all");
        assert!(exhaustive || distinct.len() == 9, "{strategy}: {} of 9", distinct.len());
    }
}

#[test]
fn a_record_is_replayed_without_the_strategy() {
    for strategy in ALL.split(' ') {
        let (_, found) = hunt(check_then_take, strategy, 1, 2000).unwrap_or_else(|| panic!("{strategy}"));
        let rehearsal = Arc::new(Simulation::new(1).rehearse(check_then_take));
        let again = simulation(found.seed, strategy).rehearsed(rehearsal).record(true).run(check_then_take);
        assert_eq!(again.digest, found.digest, "recording changes nothing");
        let record = Record::from_text(&again.record.unwrap().to_text()).unwrap();
        let replayed = Simulation::new(0).faults(preempted()).replay(record).run(check_then_take);
        assert_eq!(replayed.digest, found.digest, "{strategy}");
        assert_eq!(replayed.alignment.missed, 0, "{strategy}");
    }
}

#[test]
fn what_a_strategy_has_found_is_told_and_shrunk() {
    let check = Check::new().strategy(Strategy::Pct { depth: 3 }).seeds(1000);
    let panic = std::panic::catch_unwind(|| check.run(lost_wake_up)).unwrap_err();
    let report = panic.downcast_ref::<String>().unwrap();
    assert!(report.contains("found by strategy pct3"), "{report}");
    assert!(report.contains("that matter"), "{report}");
    let left = report.split(" choices -> ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    // That there are turns at all, that the lock is asked for while it is held, and that it is given back then.
    assert!(left.parse::<usize>().unwrap() <= 5, "{report}");
}

#[test]
fn every_order_of_a_tiny_program_is_tried_and_then_no_more() {
    let correct = |world: &World| {
        threads(world, || {
            let word: Arc<Word> = Arc::default();
            let body = move |_| {
                let word = word.clone();
                Box::new(move |_: Rc<dyn Kernel>| assert!(word.change(0, 1) || word.get() == 1)) as Body
            };
            (0..2).map(body).collect()
        });
    };
    for (strategy, most) in [("all", 100_000), ("all2", 10_000)] {
        let (mut seed, mut needed) = (0, 1);
        while seed < needed {
            seed += 1;
            let outcome = simulation(seed, strategy).run(correct);
            assert!(outcome.passed(), "{}", outcome.report(""));
            needed = needed.max(outcome.needed.unwrap());
            assert!(needed < most, "{strategy} needs {needed}");
        }
        assert!(seed > 10, "{strategy}: {seed} seeds are not all");
    }
}

#[test]
fn a_thread_that_waits_for_others_without_sleeping_does_not_keep_them_from_running() {
    for strategy in ALL.split(' ') {
        for seed in 1..50 {
            let outcome = simulation(seed, strategy).limit_calls(100_000).run(|world| {
                threads(world, || {
                    let word: Arc<Word> = Arc::default();
                    let theirs = word.clone();
                    let spin: Body = Box::new(move |_| while word.get() == 0 {});
                    vec![spin, Box::new(move |_| theirs.set(1))]
                });
            });
            assert!(outcome.passed(), "{strategy}: {}", outcome.report(""));
        }
    }
}

#[test]
#[ignore = "a table for people"]
fn table() {
    let strategies = "random pct2 pct3 pct5 pos walk selective robin2 portfolio all2";
    println!("| program |{}", strategies.split(' ').map(|name| format!(" {name} |")).collect::<String>());
    println!("|---|{}", "---|".repeat(strategies.split(' ').count()));
    for Program { name, script } in PROGRAMS {
        print!("| {name} |");
        for strategy in strategies.split(' ') {
            let masters = if strategy == "all2" { 1 } else { 20 };
            let find = |master: u64| hunt(script, strategy, 1 + master * 1_000_000, 10_000);
            let mut seeds: Vec<u64> = (0..masters).filter_map(find).map(|(seeds, _)| seeds).collect();
            seeds.sort_unstable();
            match seeds.get(seeds.len() / 2) {
                Some(median) => print!(" {} of {masters}, {median} |", seeds.len()),
                None => print!(" 0 of {masters} |"),
            }
        }
        println!();
    }
}
