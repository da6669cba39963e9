//! Names: who is found by which, how long it takes in virtual time, and what goes wrong.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use machinarium::kernel::{Errno, Kernel, Query, ResolveError, ThreadOptions};
use machinarium_sim::{Durations, Fault, Faults, Outcome, Simulation, World, with_kernel};

use crate::raw::Program;

type Answer = Result<Vec<SocketAddr>, ResolveError>;

fn look_up(kernel: &dyn Kernel, node: &str) -> Answer {
    let node = CString::new(node).unwrap();
    kernel.getaddrinfo(&Query { node: Some(&node), service: Some(c"80"), ..Query::default() })
}

fn found(addresses: &[&str]) -> Answer {
    Ok(addresses.iter().map(|text| text.parse().unwrap()).collect())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn passes(outcome: &Outcome) {
    assert!(outcome.passed(), "{}", outcome.report(""));
}

/// Runs `main` on a host, with a script around it.
fn world(
    simulation: Simulation,
    script: impl Fn(&World) + 'static,
    main: impl Fn(&Program) + Send + Sync + 'static,
) -> Outcome {
    simulation.run(move |world| {
        script(world);
        let host = world.host("asker").run_on_kernel(move |kernel| {
            let program = Program::new(kernel);
            main(&program);
            program.close(program.epoll);
        });
        world.join(&host);
        assert!(host.finished());
    })
}

#[test]
fn hosts_are_found_by_their_names_and_others_are_not() {
    let script = |world: &World| drop((world.host("server"), world.host("Twin"), world.host("twin")));
    passes(&world(Simulation::new(1), script, |program| {
        let kernel = &*program.kernel;
        assert_eq!(look_up(kernel, "server"), found(&["[2001:2::1]:80", "198.18.0.1:80"]));
        assert_eq!(look_up(kernel, "SERVER."), found(&["[2001:2::1]:80", "198.18.0.1:80"]));
        assert_eq!(
            look_up(kernel, "twin"),
            found(&["[2001:2::2]:80", "[2001:2::3]:80", "198.18.0.2:80", "198.18.0.3:80"])
        );
        assert_eq!(look_up(kernel, "asker"), found(&["[2001:2::4]:80", "198.18.0.4:80"]));
        assert_eq!(look_up(kernel, "servers"), Err(ResolveError::NoName));
        assert_eq!(look_up(kernel, "localhost"), found(&["[::1]:80", "127.0.0.1:80"]));
    }));
}

#[test]
fn the_script_has_the_last_word() {
    let script = |world: &World| {
        drop(world.host("server"));
        let dns = world.dns();
        dns.set("db.Example", &[ip("2001:db8::1"), ip("198.18.0.9")]);
        dns.set("server", &[ip("198.18.0.8")]);
        dns.fail("broken", ResolveError::Fail);
        dns.remove("asker");
        dns.set("later", &[ip("198.18.0.7")]);
        drop(world.host("later"));
    };
    passes(&world(Simulation::new(1), script, |program| {
        let kernel = &*program.kernel;
        assert_eq!(look_up(kernel, "db.example"), found(&["[2001:db8::1]:80", "198.18.0.9:80"]));
        assert_eq!(look_up(kernel, "server"), found(&["198.18.0.8:80"]));
        assert_eq!(look_up(kernel, "later"), found(&["198.18.0.7:80"]));
        assert_eq!(look_up(kernel, "broken"), Err(ResolveError::Fail));
        // The host was added later, and is not there all the same.
        assert_eq!(look_up(kernel, "asker"), Err(ResolveError::NoName));
        let configured = Query { node: Some(c"db.example"), address_config: true, ..Query::default() };
        assert_eq!(kernel.getaddrinfo(&configured), found(&["[2001:db8::1]:0", "198.18.0.9:0"]));
    }));
}

/// The thread that asks sleeps in virtual time, another one of its process does not, and the answer is that of the end.
#[test]
fn a_slow_name_server_costs_virtual_time_and_one_thread() {
    let outcome = Simulation::new(1).run(|world| {
        world.dns().delay(7.secs());
        let server = world.host("server");
        let asker = world.host("asker").run_on_kernel(|kernel| {
            let program = Program::new(kernel);
            let (ticks, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let (counter, stop) = (ticks.clone(), done.clone());
            let busy = move |kernel: Rc<dyn Kernel>| {
                let program = Program::new(kernel);
                while stop.load(SeqCst) == 0 {
                    program.wait(Some(1.secs()));
                    counter.fetch_add(1, SeqCst);
                }
                program.close(program.epoll);
            };
            let busy = program.kernel.spawn(&ThreadOptions::default(), Box::new(busy)).unwrap();
            let start = program.now();
            assert_eq!(look_up(&*program.kernel, "server"), found(&["198.18.7.7:80"]));
            let took = program.now() - start;
            assert!(took >= 7.secs() && took < 7100.millis(), "{took:?}");
            assert!(ticks.load(SeqCst) >= 6, "the other thread had to wait");
            // What needs no name server does not wait for it.
            let start = program.now();
            for node in ["198.18.0.1", "localhost", "::1"] {
                assert!(look_up(&*program.kernel, node).is_ok());
            }
            assert!(program.now() - start < 1.millis());
            done.store(1, SeqCst);
            program.kernel.join(busy).unwrap();
            program.close(program.epoll);
        });
        world.sleep(3.secs());
        world.dns().set("server", &[ip("198.18.7.7")]);
        world.join(&asker);
        assert!(asker.finished() && server.address() == ip("198.18.0.1"));
    });
    passes(&outcome);
}

/// What one fault makes of 200 lookups of a name with three addresses: the answers, and the longest time.
fn with_fault(fault: Fault) -> (BTreeSet<String>, u64) {
    let longest = Arc::new(AtomicU64::new(0));
    let place = longest.clone();
    let answers = with_kernel(&Simulation::new(5).faults(Faults::none().rate(fault, 4)), move |kernel| {
        let program = Program::new(kernel);
        let mut answers = BTreeSet::new();
        for _ in 0..200 {
            let start = program.now();
            answers.insert(format!("{:?}", look_up(&*program.kernel, "host")));
            place.fetch_max((program.now() - start).as_micros() as u64, SeqCst);
            // An address is not looked up.
            assert_eq!(look_up(&*program.kernel, "127.1"), found(&["127.0.0.1:80"]));
        }
        program.close(program.epoll);
        answers
    });
    (answers, longest.load(SeqCst))
}

#[test]
fn each_fault_shows_and_none_without() {
    let good = "Ok([[2001:2::1]:80, 198.18.0.1:80])";
    let set = |answers: &[&str]| answers.iter().map(|text| text.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(with_fault(Fault::NoName).0, set(&[good, "Err(EAI_NONAME)"]));
    assert_eq!(with_fault(Fault::NameAgain).0, set(&[good, "Err(EAI_AGAIN)"]));
    let (answers, longest) = with_fault(Fault::SlowName);
    assert_eq!(answers, set(&[good]));
    assert!((10_000_000..31_000_000).contains(&longest), "{longest} us");
    let (answers, longest) = with_fault(Fault::Skew);
    assert_eq!(answers, set(&[good]));
    assert!(longest < 1_000, "{longest} us");
}

#[test]
fn addresses_come_in_any_order_by_a_fault() {
    let orders = |faults| {
        let orders = Arc::new(AtomicU64::new(0));
        let seen = orders.clone();
        let script = |world: &World| {
            world.dns().set("three", &["198.18.1.1", "198.18.1.2", "198.18.1.3"].map(ip));
        };
        passes(&world(Simulation::new(2).faults(faults), script, move |program| {
            let answers: BTreeSet<Vec<SocketAddr>> =
                (0..200).map(|_| look_up(&*program.kernel, "three").unwrap()).collect();
            assert!(answers.iter().all(|order| order.iter().collect::<BTreeSet<_>>().len() == 3));
            seen.store(answers.len() as u64, SeqCst);
        }));
        orders.load(SeqCst)
    };
    assert_eq!(orders(Faults::none()), 1);
    assert_eq!(orders(Faults::none().rate(Fault::NameOrder, 2)), 6);
}

#[test]
fn a_lookup_of_a_killed_process_ends_with_it() {
    let outcome = Simulation::new(1).run(|world| {
        world.dns().delay(60.secs());
        let asker = world.host("asker").run_on_kernel(|kernel| -> Result<(), Errno> {
            let _ = look_up(&*kernel, "nobody");
            panic!("it was killed long before");
        });
        world.sleep(1.secs());
        asker.crash();
        world.sleep(120.secs());
        assert!(!asker.running() && !asker.finished());
    });
    passes(&outcome);
}
