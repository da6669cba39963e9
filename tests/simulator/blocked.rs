//! Tests whose failure is the point, each in a process of its own: this binary, started again.

use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};

use machinarium::kernel::{Kernel, ThreadOptions};
use machinarium_sim::{Cpu, Durations, Faults, Simulation};

use crate::raw;

/// Runs one ignored test of this binary alone.
fn child(name: &str, variables: &[(&str, &str)]) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--include-ignored", "--nocapture"])
        .envs(variables.iter().copied())
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap()
}

#[test]
#[ignore = "aborts: started by the test below"]
#[allow(clippy::disallowed_types)] // what must not be done is what is tried
fn holds_a_mutex_across_a_call() {
    machinarium_sim::with_kernel(&Simulation::new(0x77), |kernel| {
        let mutex = Arc::new(std::sync::Mutex::new(0));
        let other = mutex.clone();
        let held = mutex.lock().unwrap();
        let main = move |_: std::rc::Rc<dyn Kernel>| drop(other.lock());
        let options = ThreadOptions { name: "greedy".to_owned(), ..Default::default() };
        let thread = kernel.spawn(&options, Box::new(main)).unwrap();
        let _ = kernel.join(thread);
        drop(held);
    });
}

#[test]
fn a_blocked_os_thread_is_reported_and_does_not_hang() {
    let output = child("blocked::holds_a_mutex_across_a_call", &[]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for wanted in ["host/greedy has made no call", "std Mutex", "MACHINARIUM_SEED=0x77"] {
        assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
    }
}

/// Waits for what its own OS thread holds. Its name is looked for in the backtrace.
#[inline(never)]
#[allow(clippy::disallowed_types)] // what must not be done is what is tried
fn takes_a_mutex_that_another_holds(mutex: &std::sync::Mutex<u32>) -> u32 {
    *mutex.lock().unwrap()
}

#[test]
#[ignore = "aborts: started by the test below"]
#[allow(clippy::disallowed_types)] // what must not be done is what is tried
fn a_coroutine_holds_a_mutex_across_a_wait() {
    Simulation::new(0x78).record(true).run(|world| {
        let host = world.host("host").run(|| {
            machinarium::run(|| {
                let mutex = std::rc::Rc::new(std::sync::Mutex::new(0));
                let other = mutex.clone();
                machinarium::spawn_named("greedy", move || takes_a_mutex_that_another_holds(&other));
                let held = mutex.lock().unwrap();
                machinarium::sleep(1.secs())?;
                drop(held);
                std::io::Result::Ok(())
            })
        });
        world.sleep(world.random(1000).micros());
        world.join(&host);
    });
}

#[test]
fn a_blocked_coroutine_is_told_with_its_backtrace_and_its_record() {
    let output = child("blocked::a_coroutine_holds_a_mutex_across_a_wait", &[]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(6), "SIGABRT\n{text}");
    let wanted =
        ["host/main has made no call", "coroutine 2 'greedy' is at", "takes_a_mutex_that_another_holds"];
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
    }
    let path = text.split("MACHINARIUM_REPLAY=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let path = path.unwrap_or_else(|| panic!("no record in\n{text}"));
    let record = std::fs::read_to_string(path).unwrap();
    assert_eq!(machinarium_sim::Record::from_text(&record).unwrap().seed, 0x78);
    std::fs::remove_file(path).unwrap();
}

#[test]
#[ignore = "fails: started by the tests below"]
fn fails_with_some_seeds() {
    machinarium_sim::Check::new().cpu(Cpu::Loaded).run(|world| {
        let _server = world.host("server").run_on_kernel(|kernel| {
            let program = raw::Program::new(kernel);
            for _ in 0..200 {
                let before = program.now();
                program.kernel.sched_yield();
                assert!(program.now() - before < 100.millis(), "a long nap");
            }
            program.close(program.epoll);
        });
        world.sleep(1.secs());
    });
}

#[test]
fn a_failing_check_reports_confirms_and_shrinks() {
    let output = child("blocked::fails_with_some_seeds", &[("MACHINARIUM_SEEDS", "2000")]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for wanted in [
        "a long nap",
        "MACHINARIUM_SEED=0x",
        "cargo test blocked::fails_with_some_seeds",
        "confirmed: a fresh process does the same",
        " that matter",
        "thread main stalls for 128 ms",
        "it was decided by choice ",
    ] {
        assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
    }
    let path =
        text.split("MACHINARIUM_REPLAY=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let output = child("blocked::fails_with_some_seeds", &[("MACHINARIUM_REPLAY", path)]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("a long nap"),
        "the choices that matter do fail:\n{text}"
    );
    std::fs::remove_file(path).unwrap();
}

#[test]
#[ignore = "prints: started by the test below"]
fn prints_digests() {
    for seed in 1..30 {
        let outcome = Simulation::new(seed).faults(Faults::swarm()).cpu(Cpu::Starved).run(|world| {
            let server = world.host("server").run_on_kernel(|kernel| raw::echo_server(kernel, 1));
            let client =
                world.host("client").run_on_kernel(|kernel| raw::echo_client(kernel, raw::server(1), 50));
            world.eventually(60.secs(), || client.finished() && server.finished());
        });
        let library = crate::library::echo_digest(seed);
        println!("digest {:016x} {:016x}", outcome.digest, library.digest);
    }
}

#[test]
fn processes_agree() {
    static FIRST: OnceLock<Vec<u8>> = OnceLock::new();
    for _ in 0..3 {
        let output = child("blocked::prints_digests", &[]).stdout;
        let digests: Vec<u8> = String::from_utf8(output)
            .unwrap()
            .lines()
            .filter(|line| line.contains("digest"))
            .collect::<Vec<_>>()
            .join("\n")
            .into();
        assert!(digests.len() > 29 * 20);
        assert_eq!(FIRST.get_or_init(|| digests.clone()), &digests);
    }
}
