//! Work over several machines: the least loaded gets it, processors are given, and what is to be done at a machine's end is done.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::{both, both_with_kernel};
use machinarium::kernel::UnixName;
use machinarium::machine::at_exit;
use machinarium::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use machinarium::sync::Event;
use machinarium::{
    Builder, Group, JoinError, ListenError, Misuse, Shutdown, cancelled, machine, run, scope, shield, sleep,
    spawn, timeout, yield_now,
};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(20);

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

#[test]
fn who_has_least_gets_the_next() {
    both(|| {
        assert!(Group::start("worker", 2).is_err(), "outside of a machine");
        in_a_machine(|| {
            let group = Group::start("worker", 3)?;
            let names: Vec<_> = group.machines().map(|remote| remote.name().to_owned()).collect();
            assert_eq!(names, ["machine-0", "worker-1", "worker-2"]);
            let release: [Event; 9] = std::array::from_fn(|_| Event::new());
            let waits = |place: usize| {
                let event = release[place].clone();
                group.spawn(move || {
                    event.wait().unwrap();
                    machine::current().unwrap().number()
                })
            };
            let mut all: Vec<_> = (0..9).map(waits).collect::<Result<_, _>>()?;
            assert_eq!(group.loads(), [3, 3, 3], "they are spread before any has run");
            // The second machine's end.
            let first = all.remove(1);
            let second = all.remove(3);
            release[1].set();
            release[4].set();
            assert_eq!((first.join()?, second.join()?), (1, 1));
            assert_eq!(group.loads(), [3, 1, 3]);
            assert_eq!(group.spawn(|| machine::current().unwrap().number())?.join()?, 1);
            release.iter().for_each(|event| _ = event.set());
            let numbers: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
            assert_eq!(numbers, [0, 2, 0, 2, 0, 1, 2]);
            group.end("enough")
        });
    });
}

/// It still opens its letters, but what it is given now is cancelled soon.
#[test]
fn a_machine_that_ends_gets_nothing_more() {
    both(|| {
        in_a_machine(|| {
            let group = Group::start("worker", 2)?;
            let (ends, release) = (Event::new(), Event::new());
            let (told, waits) = (ends.clone(), release.clone());
            let here = group.spawn(|| sleep(LONG).is_err())?;
            let last = group.spawn(move || {
                assert!(sleep(LONG).is_err());
                told.set();
                shield(|| waits.wait()).unwrap();
            })?;
            group.machines().nth(1).unwrap().stop("it alone");
            ends.wait()?;
            let numbers: Vec<_> = (0..4)
                .map(|_| {
                    group.spawn(|| machine::current().unwrap().number())?.join().map_err(io::Error::from)
                })
                .collect::<Result<_, _>>()?;
            assert_eq!(numbers, [0; 4]);
            release.set();
            last.join()?;
            assert!(!here.is_finished());
            group.end("enough")
        });
    });
}

#[test]
fn what_drains_may_still_give_work_to_its_own_machine() {
    both(|| {
        let done = Arc::new(AtomicBool::new(false));
        let seen = done.clone();
        let result: io::Result<()> = Builder::new().drain(LONG).run(|| {
            let group = Group::start("alone", 1)?;
            spawn(move || {
                sleep(SHORT).unwrap();
                assert_eq!(group.spawn(|| 40 + 2).unwrap().join().unwrap(), 42);
                done.store(true, Ordering::Relaxed);
            });
            Ok(())
        });
        result.unwrap();
        assert!(seen.load(Ordering::Relaxed), "main had returned, and this went on");
    });
}

#[test]
fn a_group_ends_by_cancelling_what_runs() {
    both(|| {
        in_a_machine(|| {
            let group = Group::start("worker", 2)?;
            let left: Vec<_> =
                (0..4).map(|_| group.spawn(|| sleep(LONG).is_err())).collect::<Result<_, _>>()?;
            sleep(SHORT)?;
            group.end("enough")?;
            for (place, one) in left.into_iter().enumerate() {
                // Those of this machine go on.
                if place % 2 == 1 {
                    assert!(matches!(one.join(), Ok(true) | Err(JoinError::Unwound)));
                } else {
                    assert!(!one.is_finished());
                }
            }
            // One that is dropped ends too, and nobody waits for it.
            let group = Group::start("worker", 2)?;
            let seen = group.machines().nth(1).unwrap().clone();
            drop(group);
            while seen.spawn(|| ()).is_ok() {
                sleep(SHORT)?;
            }
            Ok(())
        });
    });
}

#[test]
fn a_start_is_not_left_half_way() {
    both(|| {
        in_a_machine(|| {
            let starter = spawn(|| {
                let group = timeout(Duration::ZERO, || Group::start("worker", 3))?;
                // What came meanwhile is felt now.
                let error = sleep(LONG).unwrap_err().into();
                assert!(cancelled(&error).is_some(), "{error}");
                shield(|| group.end("enough"))
            });
            yield_now();
            starter.cancel("enough")?;
            starter.join()?
        });
    });
}

/// Where no coroutine could wait for a machine to start, the thread does; a destructor that a panic runs is refused.
#[test]
fn a_machine_is_started_by_a_hook_and_not_while_unwinding() {
    struct Starts;
    impl Drop for Starts {
        fn drop(&mut self) {
            let error = machine::spawn("late", || ()).map(drop).unwrap_err();
            assert_eq!(error.kind(), machine_error(Misuse::Unwinding).kind());
            assert_eq!(error.to_string(), machine_error(Misuse::Unwinding).to_string());
        }
    }
    both(|| {
        let started = Arc::new(AtomicBool::new(false));
        let seen = started.clone();
        in_a_machine(|| {
            at_exit(move || seen.store(machine::spawn("late", || ()).is_ok(), Ordering::SeqCst))?;
            let unwound = spawn(|| {
                let _starts = Starts;
                std::panic::resume_unwind(Box::new("on purpose"));
            });
            assert!(matches!(unwound.join(), Err(JoinError::Panicked(_))));
            Ok(())
        });
        assert!(started.load(Ordering::SeqCst));
    });
}

fn machine_error(misuse: Misuse) -> io::Error {
    misuse.into()
}

#[test]
fn machines_run_on_the_processors_that_they_are_given() {
    both_with_kernel(|kernel| {
        let before = kernel.sched_getaffinity();
        let processor = before.iter().last().unwrap();
        let bound = || -> Vec<usize> { machine::current::kernel().sched_getaffinity().iter().collect() };
        let seen: io::Result<_> = Builder::new().affinity([processor]).run(|| {
            let inherits = machine::spawn("other", bound)?.join()?;
            let first = before.iter().next().unwrap();
            let own = Builder::new().affinity([first]).spawn(bound)?.join()?;
            let nowhere = Builder::new().affinity([8_000]).spawn(bound);
            assert!(nowhere.is_err_and(|error| error.to_string().contains("[8000]")));
            assert_eq!(own, [first]);
            Ok([bound(), inherits])
        });
        assert_eq!(seen.unwrap(), [[processor], [processor]]);
        assert_eq!(kernel.sched_getaffinity(), before);
        let refused: io::Result<()> = Builder::new().affinity([8_000]).run(|| Ok(()));
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("[8000]"), "{error}");
    });
}

#[test]
fn hooks_run_at_a_machines_end_the_last_one_first() {
    struct Says(&'static str, Rc<RefCell<Vec<&'static str>>>);
    impl Drop for Says {
        fn drop(&mut self) {
            self.1.borrow_mut().push(self.0);
        }
    }
    both(|| {
        assert!(at_exit(|| ()).is_err(), "outside of a machine");
        let said = Rc::new(RefCell::new(Vec::new()));
        let result: io::Result<()> = run(|| {
            let says = |word| {
                let said = said.clone();
                at_exit(move || said.borrow_mut().push(word))
            };
            says("first")?;
            let late = said.clone();
            at_exit(move || {
                late.borrow_mut().push("second");
                let later = late.clone();
                at_exit(move || later.borrow_mut().push("asked for at the end")).unwrap();
            })?;
            says("third")?;
            let unwound = Says("the last coroutine", said.clone());
            spawn(move || {
                let _unwound = unwound;
                shield(|| sleep(LONG))
            });
            sleep(SHORT)?;
            Ok(())
        });
        result.unwrap();
        assert_eq!(
            *said.borrow(),
            ["the last coroutine", "third", "second", "asked for at the end", "first"]
        );
    });
}

#[test]
fn a_hook_that_panics_or_wants_to_wait_ends_no_other() {
    both(|| {
        let count = Arc::new(AtomicUsize::new(0));
        let refused = Arc::new(AtomicBool::new(false));
        let (theirs, tells) = (count.clone(), refused.clone());
        in_a_machine(|| {
            let other = machine::spawn("other", move || {
                at_exit(move || _ = theirs.fetch_add(1, Ordering::SeqCst)).unwrap();
                at_exit(move || tells.store(sleep(SHORT).is_err(), Ordering::SeqCst)).unwrap();
                at_exit(|| std::panic::resume_unwind(Box::new("on purpose"))).unwrap();
            })?;
            Ok(other.join()?)
        });
        assert_eq!((count.load(Ordering::SeqCst), refused.load(Ordering::SeqCst)), (1, true));
    });
}

/// Tells a client the number of the machine that serves it, and then echoes.
fn tells_and_echoes(stream: &TcpStream) {
    let number = machine::current().unwrap().number() as u8;
    let told = stream.write_all(&[number]);
    let _ = told.map_err(io::Error::from).and_then(|()| io::copy(&mut &*stream, &mut &*stream));
}

/// Connects, and says by which machine it is served.
fn client(address: SocketAddr) -> io::Result<(TcpStream, u8)> {
    let stream = TcpStream::connect(address)?;
    let mut number = [0];
    stream.read_exact(&mut number)?;
    Ok((stream, number[0]))
}

fn is_echoed(stream: &TcpStream) -> io::Result<()> {
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0; 1])
}

fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[test]
fn every_machine_of_a_group_listens() {
    both(|| {
        in_a_machine(|| {
            let group = Group::start("worker", 3)?;
            let listening = group.listen("127.0.0.1:0", |stream, peer| {
                assert!(peer.ip().is_loopback());
                tells_and_echoes(&stream);
            })?;
            let address = listening.local_addr().unwrap();
            let clients: Vec<_> = (0..16).map(|_| client(address)).collect::<Result<_, _>>()?;
            clients.iter().try_for_each(|(stream, _)| is_echoed(stream))?;
            let counts = [0, 1, 2].map(|number| clients.iter().filter(|client| client.1 == number).count());
            assert_eq!(counts.iter().sum::<usize>(), 16);
            assert!(counts.iter().filter(|count| **count > 0).count() > 1, "{counts:?}: nothing is spread");
            assert_eq!(group.loads(), counts);
            listening.end()?;
            assert!(is_refused(address));
            clients.iter().try_for_each(|(stream, _)| is_echoed(stream))?;
            drop(clients);
            group.end("enough")
        });
    });
}

#[test]
fn a_strangers_port_is_shared_by_request_only() {
    both(|| {
        in_a_machine(|| {
            let stranger = TcpListener::builder().reuse_port(true).bind("127.0.0.1:0")?;
            let address = stranger.local_addr()?;
            let group = Group::start("worker", 2)?;
            let error = group.listen(address, |_, _| ()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            let inner = error.get_ref().unwrap().downcast_ref::<ListenError>().unwrap();
            assert_eq!(inner.machine(), "machine-0");
            assert!(std::error::Error::source(inner).is_some() && error.to_string().contains("machine-0"));
            let sharing = TcpListener::builder().reuse_port(true);
            let listening = group.listen_with(sharing, address, |stream, _| tells_and_echoes(&stream))?;
            drop(stranger);
            is_echoed(&client(address)?.0)?;
            listening.end()?;
            group.end("enough")
        });
    });
}

#[test]
fn what_one_accepts_goes_to_who_has_least() {
    both(|| {
        in_a_machine(|| {
            let group = Group::start("worker", 3)?;
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            let listening =
                group.hand_over(move || listener.accept(), |stream, _| tells_and_echoes(&stream))?;
            assert_eq!(listening.local_addr(), None);
            let mut clients: Vec<_> = (0..6).map(|_| client(address)).collect::<Result<_, _>>()?;
            let served: Vec<u8> = clients.iter().map(|client| client.1).collect();
            assert_eq!(served, [0, 1, 2, 0, 1, 2]);
            clients.retain(|client| client.1 != 1);
            while group.loads() != [2, 0, 2] {
                sleep(SHORT)?;
            }
            for _ in 0..2 {
                clients.push(client(address)?);
                assert_eq!(clients.last().unwrap().1, 1);
            }
            clients.iter().try_for_each(|(stream, _)| is_echoed(stream))?;
            // One that has ended, and would have least to do, gets none.
            let ended = group.machines().nth(2).unwrap();
            ended.stop("on purpose");
            while group.loads()[2] > 0 || ended.spawn(|| ()).is_ok() {
                sleep(SHORT)?;
            }
            let others = [client(address)?, client(address)?, client(address)?];
            assert!(others.iter().all(|client| client.1 != 2));
            drop((clients, others));
            listening.end()?;
            assert!(is_refused(address));
            group.end("enough")
        });
    });
}

#[test]
fn unix_streams_are_handed_over_too() {
    both(|| {
        in_a_machine(|| {
            let group = Group::start("worker", 2)?;
            let listener = UnixListener::bind_addr(&UnixName::UNNAMED)?;
            let name = listener.local_addr()?;
            let listening = group.hand_over(
                move || listener.accept(),
                |stream, _| drop(stream.write_all(&[machine::current().unwrap().number() as u8])),
            )?;
            let mut numbers = [0; 2];
            for number in &mut numbers {
                let stream = UnixStream::connect_addr(&name)?;
                stream.read_exact(std::slice::from_mut(number))?;
            }
            assert_eq!(numbers, [0, 1]);
            listening.end()?;
            group.end("enough")
        });
    });
}

#[test]
fn a_shutdown_ends_listening_and_who_was_let_in_is_served() {
    both(|| {
        in_a_machine(|| {
            let (group, shutdown) = (Group::start("worker", 2)?, Shutdown::new());
            let listening = group.listen("127.0.0.1:0", |stream, _| tells_and_echoes(&stream))?;
            let address = listening.local_addr().unwrap();
            let (let_in, _) = client(address)?;
            let ends = shutdown.clone();
            spawn(move || {
                sleep(SHORT).unwrap();
                ends.begin("enough")
            });
            listening.until(&shutdown)?;
            assert!(shutdown.begun() && is_refused(address));
            is_echoed(&let_in)?;
            // A deadline and a cancellation end it as well.
            let never = Shutdown::new();
            let listening = group.listen(address, |_, _| ())?;
            let error = timeout(SHORT, || listening.until(&never)).unwrap_err();
            assert!(error.kind() == io::ErrorKind::TimedOut && is_refused(address));
            let listening = group.listen(address, |_, _| ())?;
            let waits = spawn(move || listening.until(&never));
            yield_now();
            waits.cancel("enough")?;
            let error = waits.join()?.unwrap_err();
            assert!(cancelled(&error).is_some() && is_refused(address));
            drop(let_in);
            group.end("enough")
        });
    });
}

#[test]
fn listening_ends_with_its_group_and_when_it_is_dropped() {
    both(|| {
        in_a_machine(|| {
            for (count, drops) in [(2, false), (2, true), (1, false)] {
                let group = Group::start("worker", count)?;
                let listening = group.listen("127.0.0.1:0", |_, _| ())?;
                let address = listening.local_addr().unwrap();
                if drops {
                    drop(listening);
                    while !is_refused(address) {
                        sleep(SHORT)?;
                    }
                    group.end("enough")?;
                } else {
                    group.end("enough")?;
                    assert!(is_refused(address));
                    listening.until(&Shutdown::new())?;
                }
            }
            Ok(())
        });
    });
}

#[test]
fn a_listener_that_fails_for_good_ends_listening() {
    both(|| {
        in_a_machine(|| {
            let group = Group::start("worker", 2)?;
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            let count = Cell::new(0);
            let accept = move || {
                count.set(count.get() + 1);
                if count.get() == 1 { listener.accept() } else { Err(io::ErrorKind::BrokenPipe.into()) }
            };
            let listening = group.hand_over(accept, |stream, _| tells_and_echoes(&stream))?;
            let (served, _) = client(address)?;
            let error = listening.until(&Shutdown::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            assert!(error.get_ref().unwrap().is::<ListenError>() && is_refused(address));
            is_echoed(&served)?;
            drop(served);
            group.end("enough")
        });
    });
}

#[test]
fn a_listen_that_is_given_up_leaves_no_listener() {
    both(|| {
        in_a_machine(|| {
            let group = Group::start("worker", 3)?;
            let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            match timeout(Duration::ZERO, || group.listen(address, |_, _| ())) {
                // The others answered before it had to wait.
                Ok(listening) => listening.end()?,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
            }
            let starter = scope(|scope| {
                let starter = scope.spawn(|| group.listen(address, |_, _| ())?.end());
                yield_now();
                scope.cancel("enough");
                shield(|| starter.join())
            })?;
            assert!(starter.is_ok() || cancelled(&starter.unwrap_err()).is_some());
            assert!(is_refused(address), "nobody listens any more");
            // Some have begun to listen when one cannot.
            let last = group.machines().last().expect("there are three").clone();
            last.stop("too early");
            while last.spawn(|| ()).is_ok() {
                sleep(SHORT)?;
            }
            let error = group.listen(address, |_, _| ()).unwrap_err();
            assert_eq!(error.get_ref().and_then(|error| error.downcast_ref()), Some(&Misuse::MachineEnded));
            drop(TcpListener::bind(address)?);
            group.end("enough")
        });
    });
}
