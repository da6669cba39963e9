//! Several coroutines on one stream, and coroutines whose budget ends at the worst place: each direction is taken in turns, in
//! order, for a whole call, and no turn is lost between looking and waiting.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::rc::Rc;
use std::time::Duration;

use crate::both;
use crate::tcp::{loopback, pair, with_pair};
use machinarium::net::{TcpListener, TcpStream};
use machinarium::{Builder, Tuning, now, run, scope, sleep, spawn, timeout, yield_now};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(5);

/// With each small budget, so that it ends at every operation of a body once; descriptors are looked at after each switch.
fn with_budgets(body: impl Fn() -> io::Result<()> + Copy) {
    for budget in 1..6 {
        Builder::new().tuning(Tuning { turns: 1, budget, ..Tuning::default() }).run(body).unwrap();
    }
}

#[test]
fn a_child_that_ends_while_its_joiner_yields_is_joined() {
    both(|| {
        with_budgets(|| {
            scope(|scope| {
                let child = scope.spawn(|| 7);
                assert_eq!(timeout(LONG, || child.join()).unwrap(), 7);
            });
            Ok(())
        });
    });
}

#[test]
fn a_turn_that_ends_while_the_next_yields_is_not_lost() {
    both(|| {
        with_budgets(|| {
            let (client, server) = pair()?;
            let client = Rc::new(client);
            let readers: Vec<_> = (0..4)
                .map(|_| {
                    let client = client.clone();
                    spawn(move || timeout(LONG, || client.read_exact(&mut [0; 3])))
                })
                .collect();
            for _ in 0..12 {
                server.write_all(b"x")?;
                yield_now();
            }
            readers.into_iter().try_for_each(|reader| reader.join().unwrap())
        });
    });
}

/// Between a call that would block and the wait for its edge nobody else may run.
#[test]
fn an_edge_that_comes_right_after_an_attempt_is_not_lost() {
    both(|| {
        with_budgets(|| {
            let (client, server) = pair()?;
            let client = Rc::new(client);
            for _ in 0..20 {
                let theirs = client.clone();
                let reader = spawn(move || timeout(LONG, || theirs.read_exact(&mut [0; 1])));
                yield_now();
                server.write_all(b"x")?;
                reader.join().unwrap()?;
            }
            Ok(())
        });
    });
}

#[test]
fn a_connect_hears_its_answer_wherever_a_budget_ends() {
    both(|| {
        with_budgets(|| {
            let listener = TcpListener::bind(loopback())?;
            let address = listener.local_addr()?;
            for _ in 0..5 {
                let client = timeout(LONG, || TcpStream::connect(address))?;
                assert_eq!(timeout(LONG, || listener.accept())?.1, client.local_addr()?);
            }
            drop(listener);
            for _ in 0..5 {
                let error = timeout(LONG, || TcpStream::connect(address)).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            }
            Ok(())
        });
    });
}

#[test]
fn a_reader_that_comes_again_goes_behind_those_who_wait() {
    both(|| {
        with_pair(|client, server| {
            let (client, order) = (Rc::new(client), Rc::new(RefCell::new(Vec::new())));
            let readers: Vec<_> = (0..3)
                .map(|name| {
                    let (client, order) = (client.clone(), order.clone());
                    spawn(move || -> io::Result<()> {
                        for _ in 0..5 {
                            client.read_exact(&mut [0; 1])?;
                            order.borrow_mut().push(name);
                        }
                        Ok(())
                    })
                })
                .collect();
            yield_now();
            server.write_all(&[7; 15])?;
            for reader in readers {
                reader.join().unwrap()?;
            }
            let order = order.take();
            assert!(order.chunks(3).all(|round| round == [0, 1, 2]), "{order:?}");
            Ok(())
        });
    });
}

#[test]
fn messages_of_two_writers_do_not_mix() {
    both(|| {
        with_budgets(|| {
            const SIZE: usize = 100_000;
            let (client, mut server) = pair()?;
            client.set_send_buffer_size(10_000)?;
            let client = Rc::new(client);
            let writers: Vec<_> = (1..4u8)
                .map(|name| {
                    let client = client.clone();
                    spawn(move || client.write_all(&vec![name; SIZE]))
                })
                .collect();
            for name in 1..4u8 {
                let mut message = vec![0; SIZE];
                Read::read_exact(&mut server, &mut message)?;
                assert!(message.iter().all(|byte| *byte == name), "a message has another's bytes in it");
            }
            writers.into_iter().for_each(|writer| writer.join().unwrap().unwrap());
            Ok(())
        });
    });
}

#[test]
fn records_of_two_readers_do_not_mix() {
    both(|| {
        with_pair(|client, server| {
            let client = Rc::new(client);
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    let client = client.clone();
                    spawn(move || {
                        let mut record = [0; 4];
                        client.read_exact(&mut record).map(|()| record)
                    })
                })
                .collect();
            for byte in [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3] {
                server.write_all(&[byte])?;
                sleep(Duration::from_micros(100))?;
            }
            let records: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap().unwrap()).collect();
            assert_eq!(records, [[1; 4], [2; 4], [3; 4]]);
            Ok(())
        });
    });
}

#[test]
fn a_waiting_reader_that_gives_up_leaves_the_order_of_the_others() {
    both(|| {
        with_pair(|client, server| {
            let client = Rc::new(client);
            let reader = |client: &Rc<TcpStream>| {
                let client = client.clone();
                spawn(move || {
                    let mut byte = [0];
                    (&*client).read(&mut byte).map(|_| byte[0])
                })
            };
            let [first, second, third] = [(); 3].map(|()| reader(&client));
            yield_now();
            second.cancel("changed its mind").unwrap();
            server.write_all(&[1, 2])?;
            assert_eq!(first.join().unwrap()?, 1);
            assert!(machinarium::cancelled(&second.join().unwrap().unwrap_err()).is_some());
            assert_eq!(third.join().unwrap()?, 2);
            Ok(())
        });
    });
}

/// A peer that sends a byte now and then must not hold a reader beyond its timeout.
#[test]
fn a_timeout_is_for_the_whole_call() {
    both(|| {
        with_pair(|client, server| {
            client.set_read_timeout(Some(Duration::from_millis(20)))?;
            let dripping = spawn(move || -> io::Result<()> {
                for _ in 0..100 {
                    server.write_all(b"x")?;
                    sleep(Duration::from_millis(1))?;
                }
                Ok(())
            });
            let error = client.read_exact(&mut [0; 100]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            dripping.cancel("enough").unwrap();
            Ok(())
        });
    });
}

#[test]
fn a_write_timeout_is_for_the_whole_call() {
    both(|| {
        with_pair(|client, server| {
            client.set_write_timeout(Some(Duration::from_millis(20)))?;
            let sipping = spawn(move || -> io::Result<()> {
                let mut sip = vec![0; 256 << 10];
                loop {
                    server.read_exact(&mut sip)?;
                    sleep(Duration::from_millis(1))?;
                }
            });
            let error = client.write_all(&vec![0; 64 << 20]).unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::TimedOut);
            assert!(error.written > 0 && error.written < 64 << 20);
            sipping.cancel("enough").unwrap();
            Ok(())
        });
    });
}

#[test]
fn a_budget_ends_a_loop_of_reads_that_never_wait() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let (mut client, server) = pair()?;
            server.write_all(&[0; 2000])?;
            let turns = Rc::new(Cell::new(0));
            let count = turns.clone();
            spawn(move || {
                while count.get() >= 0 {
                    count.set(count.get() + 1);
                    yield_now();
                }
            });
            for _ in 0..2000 {
                Read::read_exact(&mut client, &mut [0; 1])?;
            }
            assert!(turns.replace(-1) > 5, "the reader held the machine");
            Ok(())
        });
        result.unwrap();
    });
}

/// As many as will not wait any more, at no more cost for each.
#[test]
fn a_crowd_that_gives_up_waiting_takes_a_moment() {
    const CROWD: usize = 30_000;
    let result: io::Result<()> = Builder::new().guards(machinarium::Guards::BestEffort).run(|| {
        let listener = Rc::new(TcpListener::bind(loopback())?);
        let crowd: Vec<_> = (0..CROWD)
            .map(|_| {
                let listener = listener.clone();
                spawn(move || listener.accept().is_err())
            })
            .collect();
        sleep(Duration::from_millis(1))?;
        let start = now();
        // The first has the turn, and keeps it.
        crowd[1..].iter().for_each(|one| one.cancel("enough").unwrap());
        assert!(crowd.into_iter().skip(1).all(|one| one.join().unwrap()));
        let took = now() - start;
        assert!(took < Duration::from_secs(2), "{took:?}");
        Ok(())
    });
    result.unwrap();
}
