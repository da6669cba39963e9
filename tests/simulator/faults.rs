//! Crashes, partitions, and failures of calls.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use machinarium::kernel::{Call, Errno, Kernel, errno};
use machinarium_sim::{Durations, Fault, Faults, Host, Simulation, with_kernel};

use crate::raw::{self, Program};

/// Adds to its counter when it is dropped.
struct Guard(Arc<AtomicU64>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_crash_runs_no_destructor_and_its_peer_sees_the_end() {
    let dropped = Arc::new(AtomicU64::new(0));
    let (counter, during) = (dropped.clone(), dropped.clone());
    let outcome = Simulation::new(1).run(move |world| {
        let server = world.host("server").run_on_kernel(move |kernel| {
            let _guard = Guard(counter.clone());
            raw::echo_server(kernel, 1)
        });
        let client = world.host("client").run_on_kernel(|kernel| {
            let program = Program::new(kernel);
            let fd = raw::connect_patiently(&program, raw::server(1)).unwrap();
            program.send_all(fd, b"hello").unwrap();
            while program.recv(fd, 5).is_ok_and(|bytes| !bytes.is_empty()) {}
            [fd, program.epoll].into_iter().for_each(|fd| program.close(fd));
        });
        world.sleep(1.secs());
        assert!(server.running() && !client.finished());
        server.crash();
        assert!(!server.running() && !server.finished());
        world.eventually(10.secs(), || client.finished());
        assert_eq!(during.load(SeqCst), 0, "nothing is dropped while the world runs");
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    assert_eq!(outcome.stats.faults.of(Fault::Crash), 1);
    assert_eq!(dropped.load(SeqCst), 1, "and everything is at the end");
    assert!(outcome.leaked.is_empty());
}

/// Whatever ends a process that runs, no thread of it runs any further; what a restart leaves running is the new one alone.
#[test]
fn nothing_of_a_killed_process_runs_on() {
    for ending in [Host::crash, Host::power_off, Host::restart] {
        let outcome = Simulation::new(1).run(move |world| {
            let turns: Arc<[AtomicU64; 2]> = Arc::default();
            let (counters, processes) = (turns.clone(), AtomicU64::new(0));
            let host = world.host("host").run_on_kernel(move |kernel: Rc<dyn Kernel>| -> () {
                let process = processes.fetch_add(1, SeqCst) as usize;
                loop {
                    counters[process].fetch_add(1, SeqCst);
                    kernel.sched_yield();
                }
            });
            world.sleep(1.millis());
            ending(&host);
            let (first, before) = (turns[0].load(SeqCst), turns[1].load(SeqCst));
            world.sleep(1.millis());
            assert!(first > 0 && turns[0].load(SeqCst) == first, "the first process runs on");
            assert_eq!(host.running(), turns[1].load(SeqCst) > before, "the second process");
            assert_eq!(host.netstat().lines().count(), 1);
        });
        assert!(outcome.passed(), "{}", outcome.report(""));
        let crashes = outcome.stats.faults.of(Fault::Crash);
        assert_eq!(crashes, 1, "each kills a process that ran");
    }
}

#[test]
fn a_restarted_host_serves_again() {
    for seed in 1..30 {
        let outcome = Simulation::new(seed).run(|world| {
            let server = world.host("server").run_on_kernel(|kernel| raw::echo_server(kernel, 2));
            let client = world
                .host("client")
                .may_fail()
                .run_on_kernel(|kernel| raw::echo_client(kernel, raw::server(1), 100));
            world.sleep(Duration::from_micros(world.random(20_000)));
            server.restart();
            world.sleep(1.secs());
            client.restart();
            world.eventually(60.secs(), || client.finished());
        });
        assert!(outcome.passed(), "{}", outcome.report(""));
    }
}

#[test]
fn a_partition_stops_everything_until_it_is_healed() {
    let outcome = Simulation::new(5).run(|world| {
        let server = world.host("server").run_on_kernel(|kernel| raw::echo_server(kernel, 1));
        let client =
            world.host("client").run_on_kernel(|kernel| raw::echo_client(kernel, raw::server(1), 1000));
        world.sleep(100.millis());
        world.partition(&server, &client);
        world.sleep(5.secs());
        assert!(!client.finished());
        world.heal();
        world.sleep(60.secs());
        assert!(client.finished() && server.finished());
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
}

#[test]
fn a_host_without_power_says_nothing() {
    let outcome = Simulation::new(5).run(|world| {
        let server = world.host("server").run_on_kernel(|kernel| raw::echo_server(kernel, 1));
        let client = world.host("client").run_on_kernel(|kernel| {
            let program = Program::new(kernel);
            let fd = raw::connect_patiently(&program, raw::server(1)).unwrap();
            while program.send_all(fd, b"are you there?").is_ok() {
                program.wait(Some(100.millis()));
            }
            [fd, program.epoll].into_iter().for_each(|fd| program.close(fd));
        });
        world.sleep(1.secs());
        server.power_off();
        world.sleep(10.secs());
        assert!(client.running(), "silence is no end");
        server.restart();
        world.eventually(600.secs(), || client.finished());
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
}

#[test]
fn calls_fail_with_what_the_table_allows() {
    let simulation = Simulation::new(1).faults(Faults::none().rate(Fault::Emfile, 3).rate(Fault::Memory, 3));
    let seen = with_kernel(&simulation, |kernel| {
        let answers: Vec<_> = (0..200).map(|_| kernel.eventfd(0)).collect();
        answers.iter().flatten().for_each(|fd| kernel.close(*fd).unwrap_or(()));
        answers.into_iter().filter_map(Result::err).collect::<Vec<Errno>>()
    });
    assert!(seen.contains(&Errno::MFILE) && seen.contains(&Errno::NOMEM), "{seen:?}");
    assert!(seen.iter().all(|errno| errno::of(Call::Eventfd).contains(errno)));
}

#[test]
fn a_beginner_sees_no_failing_call() {
    let outcome = Simulation::new(1).run(|world| {
        let server = world.host("server").run_on_kernel(|kernel| raw::echo_server(kernel, 1));
        let client =
            world.host("client").run_on_kernel(|kernel| raw::echo_client(kernel, raw::server(1), 100));
        world.sleep(60.secs());
        assert!(client.finished() && server.finished());
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    assert!(
        outcome.stats.faults.iter().all(|(kind, _)| kind == Fault::EpollOrder),
        "{}",
        outcome.stats.faults
    );
}
