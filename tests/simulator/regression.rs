//! What a failure leaves: the seed of a run that took its process along, a record that runs first, a word about other processes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use machinarium_sim::{Check, Durations, Strategy, World};

use crate::raw;

/// What a check says when it fails.
fn complaint(check: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("the check should fail");
    *panic.downcast::<String>().expect("a check fails with a report")
}

/// A place for records that is empty.
fn shelf(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("machinarium-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn records(shelf: &PathBuf) -> Vec<PathBuf> {
    let tests = std::fs::read_dir(shelf).unwrap().map(|entry| entry.unwrap().path());
    tests.flat_map(|test| std::fs::read_dir(test).unwrap().map(|entry| entry.unwrap().path())).collect()
}

/// An echo of which the script expects more than it can have when a message is late by this much.
fn impatient(world: &World, faulty: bool) {
    let server = world.host("server").run_on_kernel(|kernel| raw::echo_server(kernel, 1));
    let client = world.host("client").run_on_kernel(|kernel| raw::echo_client(kernel, raw::server(1), 20));
    world.eventually(60.secs(), || client.finished() && server.finished());
    let late = world.random(50);
    assert!(!faulty || late < 40, "it was {late} late");
}

#[test]
fn a_failure_is_kept_and_runs_first() {
    let shelf = shelf("kept");
    let check = || Check::new().regressions(&shelf).seeds(200);
    let said = complaint(|| check().run(|world| impatient(world, true)));
    let [path] = records(&shelf)[..].to_vec().try_into().expect("one record");
    assert!(said.contains(&format!("{} runs first from now on", path.display())), "{said}");
    assert!(said.contains("confirmed: a fresh process does the same"), "{said}");
    // It is the record that fails now, without any seed.
    let said = complaint(|| check().seeds(0).run(|world| impatient(world, true)));
    assert!(said.contains(&format!("MACHINARIUM_REPLAY={}", path.display())), "{said}");
    let replayed = said.split("replayed ").nth(1).unwrap();
    let (fitted, of) = replayed.split_once(" of ").unwrap();
    assert_eq!(fitted, of.split(' ').next().unwrap(), "{said}");
    check().seeds(0).aligned(100).run(|world| impatient(world, false));
    std::fs::remove_dir_all(&shelf).unwrap();
}

#[test]
fn a_record_of_other_code_says_how_much_of_it_fits() {
    let shelf = shelf("other");
    let check = || Check::new().strategy(Strategy::Random).regressions(&shelf).aligned(90);
    complaint(|| check().seeds(200).run(|world| impatient(world, true)));
    // The same with other draws of the script in front: its old draw is one among few now.
    let changed = |world: &World| {
        assert!(world.random(2) < 2);
        impatient(world, false);
    };
    check().seeds(0).aligned(50).run(changed);
    let said = complaint(|| check().seeds(0).run(|world| world.sleep(1.secs())));
    assert!(said.contains("replayed 0 of") && said.contains("90 in a hundred must"), "{said}");
    std::fs::remove_dir_all(&shelf).unwrap();
}

static RUNS: AtomicU64 = AtomicU64::new(0);

#[test]
fn a_failure_that_needs_earlier_seeds_is_told_with_the_first_choice_that_differs() {
    let said = complaint(|| {
        Check::new().strategy(Strategy::Random).seeds(10).run(|world: &World| {
            world.random(7);
            let spoilt = RUNS.fetch_add(1, SeqCst) >= 5;
            world.random(if spoilt { 11 } else { 13 });
            assert!(!spoilt, "state of earlier seeds");
        });
    });
    assert!(said.contains("NOT confirmed"), "{said}");
    assert!(said.contains("machinarium_sim::guard!()"), "it may help, and this binary has none: {said}");
    assert!(
        said.contains("choice 2 is the first that differs\n  here: 'random' of Script/0, its draw 1"),
        "{said}"
    );
    assert!(said.contains(" of 11 at ") && said.contains(" of 13 at "), "{said}");
}

/// Set in the processes that are to end badly.
const DOOMED: &str = "MACHINARIUM_TEST_DOOMED";

#[test]
#[ignore = "the test below runs it in processes of its own"]
fn doomed() {
    let doomed = std::env::var_os(DOOMED).is_some();
    Check::new().seeds(10).run(move |world| {
        let host = world
            .host("host")
            .run(|| machinarium::run(|| Ok::<(), std::io::Error>(machinarium::sleep(1.secs())?)));
        world.join(&host);
        world.random(5);
        let seed = world.seed();
        if doomed && seed == 4 {
            std::process::abort();
        }
    });
}

fn run_doomed(doomed: bool) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["regression::doomed", "--exact", "--include-ignored"]).env_remove("MACHINARIUM_SEED");
    command.env_remove(DOOMED);
    if doomed {
        command.env(DOOMED, "1");
    }
    command.output().unwrap()
}

#[test]
fn a_seed_that_ends_its_process_is_known_to_the_next() {
    // Whatever an earlier run of this test has left.
    assert!(run_doomed(false).status.success());
    let first = run_doomed(true);
    assert_eq!(first.status.code(), None, "a signal ends it");
    let second = run_doomed(true);
    let said = String::from_utf8_lossy(&second.stdout);
    assert_eq!(second.status.code(), Some(101), "{said}");
    for wanted in [
        "seed 0x4 has ended an earlier process",
        "signal 6 ends the process",
        "MACHINARIUM_SEED=0x4 cargo test",
    ] {
        assert!(said.contains(wanted), "{wanted} is missing in\n{said}");
    }
    let path =
        said.split("MACHINARIUM_REPLAY=").nth(1).expect("its choices are saved").split(' ').next().unwrap();
    assert!(std::fs::read_to_string(path).unwrap().contains(" random"), "choices of the run are in {path}");
    // Repaired, it is forgotten.
    assert!(run_doomed(false).status.success());
    assert!(run_doomed(false).status.success());
    std::fs::remove_file(path).unwrap();
}
