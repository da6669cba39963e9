//! The library's names in worlds whose script has the name server: what is asked once, how long answers hold, who may leave, and which
//! address a connect ends at.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use machinarium::kernel::ResolveError;
use machinarium::net::{ConnectError, LookupError, LookupFailure, TcpListener, TcpStream, UdpSocket, lookup};
use machinarium::{Builder, Expired, Tuning, cancelled, machine, now, run, sleep, spawn, timeout};
use machinarium_sim::{Check, Cpu, Durations, Fault, Faults, Outcome, Simulation, World};

#[path = "../apps/resolve/report.rs"]
mod report;

const PORT: u16 = 7000;
/// Longer than a lookup that nothing delays, and what the machine does about it.
const SOON: Duration = Duration::from_millis(20);

fn passes(outcome: &Outcome) {
    assert!(outcome.passed(), "{}", outcome.report(""));
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Runs `main` in a machine on a host, on many seeds, beside a script that begins at the same time.
fn world(
    script: impl Fn(&World) + Copy + 'static,
    main: impl Fn() -> io::Result<()> + Copy + Send + Sync + 'static,
) {
    for seed in 1..30 {
        passes(&Simulation::new(seed).keep_events(60).run(move |world| {
            let host = world.host("asker").run(move || run(main));
            script(world);
            world.join(&host);
        }));
    }
}

/// The last number of the first address of a name.
fn last_of(name: &str) -> Result<u8, LookupFailure> {
    match lookup(name, PORT) {
        Ok(found) => match found[0].ip() {
            IpAddr::V4(ip) => Ok(ip.octets()[3]),
            IpAddr::V6(ip) => Ok(ip.octets()[15]),
        },
        Err(error) => Err(error.failure().clone()),
    }
}

/// How long `f` takes, and what it answers.
fn timed<T>(f: impl FnOnce() -> T) -> (Duration, T) {
    let start = now();
    let value = f();
    (now() - start, value)
}

fn wait(seconds: u64) {
    sleep(seconds.secs()).unwrap();
}

#[test]
fn equal_questions_of_all_machines_are_asked_once() {
    let script = |world: &World| {
        world.dns().set("db", &[ip("198.18.9.1")]);
        world.dns().delay(2.secs());
    };
    world(script, || {
        let start = now();
        let ask = move || {
            assert_eq!(last_of("DB"), Ok(1));
            let took = now() - start;
            // A lookup that began later would end later.
            assert!(took >= 2.secs() && took < 2.secs() + SOON, "{took:?}");
        };
        let here = (0..3).map(|number| {
            spawn(move || {
                sleep(Duration::from_millis(600 * number)).unwrap();
                ask();
            })
        });
        let here: Vec<_> = here.collect();
        let there = (0..2).map(|number| {
            machine::spawn("other", move || {
                sleep(Duration::from_millis(500 * number)).unwrap();
                ask();
            })
        });
        let there: Vec<_> = there.collect::<Result<_, _>>()?;
        here.into_iter().for_each(|asker| asker.join().unwrap());
        there.into_iter().for_each(|machine| machine.join().unwrap());
        let (took, known) = timed(|| last_of("db"));
        assert_eq!(known, Ok(1));
        assert!(took < Duration::from_millis(1), "it is remembered: {took:?}");
        Ok(())
    });
}

#[test]
fn addresses_are_remembered_for_their_time() {
    let script = |world: &World| {
        world.dns().set("db", &[ip("198.18.9.1")]);
        world.sleep(10.secs());
        world.dns().set("db", &[ip("198.18.9.2")]);
    };
    world(script, || {
        assert_eq!(last_of("db"), Ok(1));
        wait(20);
        assert_eq!(last_of("db"), Ok(1));
        wait(9);
        assert_eq!(last_of("db"), Ok(1));
        wait(2);
        assert_eq!(last_of("db"), Ok(2));
        Ok(())
    });
}

#[test]
fn that_there_is_no_name_is_remembered_for_less_and_that_nobody_answers_is_not() {
    let script = |world: &World| {
        world.dns().set("four", &[ip("198.18.9.4")]);
        world.dns().fail("server is down", ResolveError::Again);
        world.sleep(1.secs());
        world.dns().set("new", &[ip("198.18.9.3")]);
        world.dns().set("server is down", &[ip("198.18.9.5")]);
    };
    world(script, || {
        let no_name = || Err(LookupFailure::NoSuchName);
        assert_eq!(last_of("new"), no_name());
        assert_eq!(last_of("server is down"), Err(LookupFailure::TryAgain));
        wait(4);
        assert_eq!(last_of("new"), no_name());
        assert_eq!(last_of("server is down"), Ok(5));
        wait(2);
        assert_eq!(last_of("new"), Ok(3));
        let six = machinarium::net::Lookup::of("four").family(machinarium::net::Family::Inet6);
        assert_eq!(six.addresses(1).unwrap_err().failure(), &LookupFailure::NoAddress);
        assert_eq!(last_of("four"), Ok(4), "the family is part of the question");
        Ok(())
    });
}

#[test]
fn an_asker_who_leaves_ends_nothing_for_others() {
    let script = |world: &World| {
        world.dns().set("db", &[ip("198.18.9.1")]);
        world.dns().set("alone", &[ip("198.18.9.2")]);
        world.dns().delay(3.secs());
    };
    world(script, || {
        let first = spawn(|| timed(|| timeout(1.secs(), || lookup("db", PORT))));
        let cancelled_one = spawn(|| lookup("db", PORT));
        let patient = spawn(|| timed(|| last_of("db")));
        sleep(500.millis()).unwrap();
        cancelled_one.cancel("on purpose").unwrap();
        let error = io::Error::from(cancelled_one.join().unwrap().unwrap_err());
        assert_eq!(cancelled(&error).unwrap().cause(), "on purpose");
        let (took, left) = first.join().unwrap();
        let error = io::Error::from(left.unwrap_err());
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.get_ref().unwrap().is::<Expired>() && took < 1.secs() + SOON, "{took:?}");
        let (took, found) = patient.join().unwrap();
        assert!(found == Ok(1) && took < 3.secs() + SOON, "the lookup went on: {took:?}");
        // With nobody left, it goes on too.
        assert!(timeout(1.secs(), || lookup("alone", PORT)).is_err());
        wait(3);
        let (took, found) = timed(|| last_of("alone"));
        assert!(found == Ok(2) && took < Duration::from_millis(1), "{took:?}");
        Ok(())
    });
}

#[test]
fn a_lookup_that_hangs_holds_nobody_but_those_who_wait_for_it() {
    for seed in 1..20 {
        let outcome = Simulation::new(seed).run(|world| {
            world.dns().delay(100_000.secs());
            let host = world.host("asker").run(|| {
                let few = Tuning { dns_lookups: 2, ..Tuning::default() };
                Builder::new().tuning(few).run(|| {
                    for name in ["a", "b", "c"] {
                        assert!(timeout(1.secs(), || lookup(name, PORT)).is_err());
                    }
                    // Two names hang, a third one waits for its turn: addresses and other blocking calls do not.
                    let (took, found) = timed(|| lookup("198.18.0.1", PORT));
                    assert!(found.is_ok() && took < Duration::from_millis(1));
                    assert_eq!(machinarium::blocking(|| 7)?, 7);
                    spawn(|| lookup("a", PORT));
                    io::Result::Ok(())
                })
            });
            world.eventually(10.secs(), || host.finished());
        });
        passes(&outcome);
    }
}

#[test]
fn more_names_than_may_be_asked_for_at_once_come_one_after_the_other() {
    let script = |world: &World| {
        for number in 0..6 {
            world.dns().set(&format!("name{number}"), &[SocketAddr::from(([198, 18, 9, number], 0)).ip()]);
        }
        world.dns().delay(1.secs());
    };
    for seed in 1..20 {
        passes(&Simulation::new(seed).run(move |world| {
            script(world);
            let host = world.host("asker").run(|| {
                let two = Tuning { dns_lookups: 2, dns_capacity: 4, ..Tuning::default() };
                Builder::new().tuning(two).run(|| {
                    let ask = |number| spawn(move || (timed(|| last_of(&format!("name{number}"))), number));
                    let askers: Vec<_> = (0..6u8).map(ask).collect();
                    for asker in askers {
                        let ((took, found), number) = asker.join()?;
                        let turn = 1 + u64::from(number) / 2;
                        assert!(
                            found == Ok(number) && took >= turn.secs() && took < turn.secs() + SOON,
                            "{took:?}"
                        );
                    }
                    let known = (0..6).map(|number| timed(|| last_of(&format!("name{number}"))).0 < SOON);
                    assert_eq!(
                        known.filter(|known| *known).count(),
                        0,
                        "the table holds four, and each asked first pushes out"
                    );
                    io::Result::Ok(())
                })
            });
            world.join(&host);
        }));
    }
}

/// A host that says its number to whoever connects.
fn greeter(world: &World, name: &str, number: u8, address: &'static str) -> machinarium_sim::Host {
    world.host(name).run(move || {
        run(|| -> io::Result<()> {
            let listener = TcpListener::bind(address)?;
            loop {
                let (stream, _) = listener.accept()?;
                let _ = stream.write_all(&[number]);
            }
        })
    })
}

fn greeting(stream: &TcpStream) -> io::Result<u8> {
    let mut number = [0];
    stream.read_exact(&mut number)?;
    Ok(number[0])
}

/// Runs `main` in a machine on a host "client", of which the script gets to know.
fn client(
    faults: Faults,
    script: impl Fn(&World, &machinarium_sim::Host) + Copy + 'static,
    main: impl Fn() -> io::Result<()> + Copy + Send + Sync + 'static,
) {
    for seed in 1..30 {
        passes(&Simulation::new(seed).faults(faults).keep_events(60).run(move |world| {
            let host = world.host("client").run(move || {
                run(|| {
                    sleep(1.secs())?;
                    main()
                })
            });
            script(world, &host);
            world.join(&host);
        }));
    }
}

#[test]
fn a_name_that_listens_on_one_family_is_reached() {
    let script = |world: &World, _: &machinarium_sim::Host| drop(greeter(world, "server", 4, "0.0.0.0:7000"));
    client(Faults::default(), script, || {
        // The name has an IPv6 address too, and it comes first.
        assert!(lookup("server", PORT)?[0].is_ipv6());
        let (took, stream) = timed(|| TcpStream::connect("server:7000"));
        assert_eq!(greeting(&stream?)?, 4);
        assert!(took < 100.millis(), "a refusal is heard at once: {took:?}");
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        assert_eq!(socket.send_to(b"to its IPv4 address", ("server", 9))?, 19);
        socket.connect("server:9")
    });
}

#[test]
fn an_address_that_does_not_answer_costs_one_delay() {
    let script = |world: &World, client: &machinarium_sim::Host| {
        let (hole, server) = (world.host("hole").run(|| ()), greeter(world, "server", 7, "0.0.0.0:7000"));
        world.partition(client, &hole);
        world.dns().set("name", &[hole.address6(), hole.address(), server.address6(), server.address()]);
    };
    client(Faults::default(), script, || {
        let start = now();
        // Twice silence, 250 ms each; a refusal; the server.
        let stream = TcpStream::connect(("name", PORT))?;
        let took = now() - start;
        assert_eq!(greeting(&stream)?, 7);
        assert!(took >= 500.millis() && took < 600.millis(), "{took:?}");
        assert!(stream.peer_addr()?.is_ipv4());
        Ok(())
    });
}

#[test]
fn all_addresses_are_tried_by_turns_and_all_are_told() {
    let script = |world: &World, _: &machinarium_sim::Host| {
        let (one, two) = (world.host("one").run(|| ()), world.host("two").run(|| ()));
        world.dns().set("name", &[one.address6(), two.address6(), one.address(), two.address()]);
    };
    client(Faults::default(), script, || {
        let error = TcpStream::connect("name:7000").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = error.to_string();
        let inner = error.downcast::<ConnectError>().expect("several failed");
        let [one6, two6, one, two] = *lookup("name", PORT)? else { panic!("four addresses") };
        let tried: Vec<_> = inner.attempts().iter().map(|(address, _)| *address).collect();
        assert_eq!(tried, [one6, one, two6, two]);
        assert!(tried.iter().all(|address| text.contains(&address.to_string())), "{text}");
        Ok(())
    });
}

#[test]
fn a_connect_that_gives_up_leaves_no_attempt_behind() {
    let script = |world: &World, client: &machinarium_sim::Host| {
        let hole = world.host("hole").run(|| ());
        world.partition(client, &hole);
        world.dns().set("name", &[hole.address6(), hole.address()]);
    };
    client(Faults::default(), script, || {
        let (took, late) = timed(|| TcpStream::connect_timeout("name:7000", 2.secs()));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(took >= 2.secs() && took < 2.secs() + SOON, "{took:?}");
        let connecting = spawn(|| TcpStream::connect("name:7000"));
        sleep(1.secs())?;
        connecting.cancel("on purpose")?;
        assert_eq!(cancelled(&connecting.join()?.unwrap_err()).unwrap().cause(), "on purpose");
        // The pool's thread ends, and then the world looks, at this process's end, that nothing is left open.
        sleep(12.secs())?;
        Ok(())
    });
}

#[test]
fn whichever_address_wins_the_stream_is_whole() {
    let broken =
        [Fault::Loss, Fault::Reset, Fault::NoName, Fault::NameAgain, Fault::Ports, Fault::Unreachable];
    let faults = broken.into_iter().fold(Faults::swarm(), Faults::without);
    let faults =
        faults.without(Fault::Emfile).without(Fault::Memory).without(Fault::SlowName).without(Fault::Spawn);
    let script = |world: &World, _: &machinarium_sim::Host| {
        // The system's listener is for both families.
        let both =
            [("left", 1), ("right", 2)].map(|(name, number)| greeter(world, name, number, "[::]:7000"));
        let [left, right] = &both;
        world.dns().set("name", &[left.address(), right.address6(), left.address6(), right.address()]);
    };
    client(faults, script, || {
        for _ in 0..20 {
            let stream = timeout(30.secs(), || TcpStream::connect("name:7000"))?;
            assert!([1, 2].contains(&greeting(&stream)?));
        }
        Ok(())
    });
}

#[test]
fn faults_of_the_name_server_are_told_as_what_they_are() {
    let host = |_: &World, _: &machinarium_sim::Host| ();
    let faults = Faults::none().rate(Fault::NoName, 3).rate(Fault::NameAgain, 3).rate(Fault::SlowName, 5);
    client(faults, host, || {
        let mut failures = [0; 3];
        for _ in 0..30 {
            let error: Option<LookupError> = lookup("client", PORT).err();
            failures[match error.as_ref().map(LookupError::failure) {
                None => 0,
                Some(LookupFailure::NoSuchName) => 1,
                Some(LookupFailure::TryAgain) => 2,
                Some(other) => panic!("{other:?}"),
            }] += 1;
            wait(31);
        }
        assert!(failures.iter().all(|count| *count > 0), "{failures:?}");
        Ok(())
    });
}

#[test]
fn without_a_thread_all_who_wait_are_told_and_the_next_tries_again() {
    let script = |world: &World, _: &machinarium_sim::Host| world.dns().delay(1.secs());
    client(Faults::none().rate(Fault::Spawn, 2), script, || {
        let (mut found, mut refused) = (0, 0);
        for _ in 0..20 {
            let askers: Vec<_> = (0..3).map(|_| spawn(|| lookup("client", PORT))).collect();
            for asker in askers {
                match asker.join()? {
                    Ok(_) => found += 1,
                    Err(error) => {
                        assert!(matches!(error.failure(), LookupFailure::Thread(_)), "{error}");
                        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::Other);
                        refused += 1;
                    }
                }
            }
            if let Err(error) = machinarium::blocking(|| ()) {
                assert_eq!(io::Error::from(error).kind(), io::ErrorKind::Other, "never WouldBlock");
            }
            // The answer is forgotten, and the pool's thread has ended.
            wait(31);
        }
        assert!(found > 0 && refused > 0, "{found} {refused}");
        Ok(())
    });
}

/// The program `resolve`, in a world.
#[test]
fn a_report_names_addresses_times_and_reasons() {
    let script = |world: &World, _: &machinarium_sim::Host| {
        world.dns().set("db", &[ip("2001:db8::1"), ip("198.18.9.1")]);
        world.dns().fail("down", ResolveError::Again);
        world.dns().set("four", &[ip("198.18.9.4")]);
        world.dns().delay(150.millis());
    };
    client(Faults::none(), script, || {
        let names = ["db", "down", "nobody", "127.1", "::1"].map(str::to_owned);
        let options = report::Options { family: machinarium::net::Family::Any, timeout: 5.secs() };
        let reports = report::look_up_all(&names, options)?;
        let text: String = reports.iter().map(|report| report.to_string()).collect();
        let lines: Vec<&str> = text.lines().collect();
        let [db, _, _, down, no_server, nobody, no_name, _, loopback, _, six] = lines[..] else {
            panic!("{text}")
        };
        assert!(
            db.starts_with("db  ") && db.contains("asked 150.") && db.contains(" ms, remembered 0."),
            "{text}"
        );
        assert_eq!(lines[1..3], ["    2001:db8::1", "    198.18.9.1"]);
        assert!(
            down.starts_with("down") && !down.contains("remembered") && nobody.contains("remembered"),
            "{text}"
        );
        assert_eq!([no_server, no_name], ["  ? no name server answers now", "  ? no such name"]);
        assert_eq!([loopback, six], ["    127.0.0.1", "    ::1"]);
        let six = report::Options { family: machinarium::net::Family::Inet6, timeout: 100.millis() };
        let late = report::look_up_all(&["four".to_owned()], six)?.remove(0);
        assert!(late.to_string().ends_with("  ? deadline passed\n") && late.asked >= 100.millis(), "{late}");
        sleep(1.secs())?;
        let none = report::look_up_all(&["four".to_owned()], six)?.remove(0);
        assert!(none.to_string().ends_with("  ? no address of this family\n"), "{none}");
        Ok(())
    });
}

/// Machines ask for few names, leave, are refused threads, and lose the processor between any two steps: each asker hears the
/// truth, or why not, and none is forgotten.
#[test]
fn no_asker_is_forgotten_whatever_goes_wrong() {
    fn ask(task: u64) {
        for round in 0..8 {
            let number = (task + round) % 3;
            // Some leave before they have asked.
            let wait = Duration::from_millis((task * 7 + round * 13) % 40 / 3);
            let found = timeout(wait, || lookup(&format!("name{number}"), PORT));
            match found {
                Ok(found) => assert_eq!(found[0].ip(), IpAddr::from([198, 18, 9, number as u8])),
                Err(error) => match error.failure() {
                    LookupFailure::Wait(_) | LookupFailure::TryAgain | LookupFailure::NoSuchName => {}
                    LookupFailure::Thread(_) => {}
                    other => panic!("{other:?}"),
                },
            }
            sleep(Duration::from_millis(task % 3 * 20)).unwrap();
        }
        // Without a deadline: it ends, or the world is stuck.
        let _ = lookup(&format!("name{}", task % 3), PORT);
    }
    fn script(world: &World) {
        for number in 0..3 {
            world.dns().set(&format!("name{number}"), &[IpAddr::from([198, 18, 9, number])]);
        }
        world.dns().delay(Duration::from_millis(world.random(30)));
        let host = world.host("asker").run(|| {
            let short = Tuning {
                dns_ttl: 15.millis(),
                dns_negative_ttl: 5.millis(),
                pool_keep: 10.millis(),
                ..Tuning::default()
            };
            Builder::new().tuning(short).run(|| {
                let spawn_machine = |number: u64| loop {
                    // There may be no thread for it, for once.
                    let tasks = move || {
                        let tasks: Vec<_> =
                            (0..3).map(|task| spawn(move || ask(3 * number + task))).collect();
                        tasks.into_iter().for_each(|task| task.join().unwrap());
                    };
                    if let Ok(machine) = machine::spawn("asker", tasks) {
                        break machine;
                    }
                };
                let machines: Vec<_> = (0..3).map(spawn_machine).collect();
                machines.into_iter().for_each(|machine| machine.join().unwrap());
                io::Result::Ok(())
            })
        });
        // Not `eventually`, which turns the faults off.
        world.join(&host);
        assert!(host.finished());
    }
    let swarm = Faults::swarm().without(Fault::Emfile).without(Fault::Enfile).without(Fault::Memory);
    Check::new().seeds(200).faults(swarm).cpu(Cpu::Loaded).run(script);
    let threads = Faults::none().with(Fault::Limits).with(Fault::Preempt).rate(Fault::Spawn, 2);
    Check::new().seeds(200).faults(threads).run(script);
    for seed in 1..10 {
        let digest = || Simulation::new(seed).faults(swarm).cpu(Cpu::Loaded).run(script).digest;
        assert_eq!(digest(), digest(), "seed {seed} repeats itself");
    }
}
