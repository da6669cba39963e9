//! The first of several: one has its effect, the others none, and none is starved.

use std::io;
use std::time::Duration;

use crate::both;
use machinarium::sync::channel::{self, TryRecvError, TrySendError};
use machinarium::sync::{Case, Event, select, select_deadline, try_select};
use machinarium::{
    JoinError, WaitError, machine, now, run, select, shield, sleep, spawn, timeout, yield_now,
};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(600);

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

#[test]
fn the_first_that_can_be_done_is() {
    both(|| {
        in_a_machine(|| {
            let (numbers, receiver) = channel::bounded(1);
            let (words, listener) = channel::bounded::<&str>(1);
            let event = Event::new();
            let mut sleeper = spawn(|| sleep(SHORT));
            let choose =
                |sleeper: &mut machinarium::JoinHandle<Result<(), WaitError>>| -> Result<String, WaitError> {
                    select! {
                        recv(receiver) -> number => format!("number {}", number.unwrap()),
                        recv(listener) -> word => format!("word {}", word.unwrap()),
                        wait(event) => "event".to_owned(),
                        join(sleeper) -> ended => format!("slept {}", ended.unwrap().is_ok()),
                        after(LONG) => "late".to_owned(),
                    }
                };
            numbers.send(7)?;
            assert_eq!(choose(&mut sleeper)?, "number 7");
            let talker = spawn(move || words.send("hello"));
            assert_eq!(choose(&mut sleeper)?, "word hello");
            talker.join()??;
            Ok(())
        });
    });
}

#[test]
fn joins_events_and_moments_end_a_select() {
    both(|| {
        in_a_machine(|| {
            let mut quick = spawn(|| 5);
            let event = Event::new();
            let ended = select! {
                join(quick) -> ended => ended.ok(),
                wait(event) => None,
            };
            assert_eq!(ended, Ok(Some(5)));
            let theirs = event.clone();
            let setter = spawn(move || {
                sleep(SHORT)?;
                theirs.set();
                Ok::<(), WaitError>(())
            });
            let mut never = spawn(|| sleep(LONG));
            let set = select! {
                join(never) -> _ended => false,
                wait(event) => true,
            };
            assert_eq!(set, Ok(true));
            setter.join()??;
            let start = now();
            let late = select! {
                join(never) -> _ended => false,
                after(SHORT) => true,
            };
            assert_eq!(late, Ok(true));
            assert!(now() - start >= SHORT);
            never.cancel("enough")?;
            Ok(())
        });
    });
}

#[test]
fn the_losers_have_had_no_effect() {
    both(|| {
        in_a_machine(|| {
            let (first, one) = channel::bounded(1);
            let (second, two) = channel::bounded(1);
            first.send(1)?;
            second.send(2)?;
            let (mut left, mut right) = (one.receiving(), two.receiving());
            let chosen = select(&mut [&mut left, &mut right])?;
            let (winner, loser) = if chosen == 0 { (left, right) } else { (right, left) };
            assert_eq!(winner.received(), Ok(chosen + 1));
            assert_eq!(loser.received(), Err(TryRecvError::Empty));
            assert_eq!(one.len() + two.len(), 1);

            let (full, _full) = channel::bounded(1);
            full.send(0)?;
            let mut sending = full.sending(3);
            let late = select_deadline(&mut [&mut sending], now() + SHORT).unwrap_err();
            assert!(matches!(late, WaitError::Expired(_)));
            assert_eq!(sending.sent(), Err(TrySendError::Full(3)));
            Ok(())
        });
    });
}

#[test]
fn no_case_is_starved() {
    both(|| {
        in_a_machine(|| {
            let ends: Vec<_> = (0..3).map(|_| channel::unbounded()).collect();
            for (sender, _) in &ends {
                (0..100).for_each(|number| sender.send(number).unwrap());
            }
            for _ in 0..60 {
                let mut cases: Vec<_> = ends.iter().map(|(_, receiver)| receiver.receiving()).collect();
                let mut cases: Vec<&mut dyn Case> = cases.iter_mut().map(|case| case as _).collect();
                select(&mut cases)?;
            }
            for (_, receiver) in &ends {
                assert!(receiver.len() < 95, "{} left", receiver.len());
            }
            Ok(())
        });
    });
}

/// What is done between two selects uses up numbers of the machine, here as many as there are cases.
#[test]
fn no_case_is_starved_whatever_is_done_between() {
    both(|| {
        in_a_machine(|| {
            for count in 2..5 {
                let ends: Vec<_> = (0..count).map(|_| channel::unbounded()).collect();
                for (sender, _) in &ends {
                    (0..200).for_each(|number| sender.send(number).unwrap());
                }
                for _ in 0..100 {
                    let mut cases: Vec<_> = ends.iter().map(|(_, receiver)| receiver.receiving()).collect();
                    let mut cases: Vec<&mut dyn Case> = cases.iter_mut().map(|case| case as _).collect();
                    timeout(LONG, || select(&mut cases))?;
                    (2..count).for_each(|_| drop(spawn(|| ())));
                }
                for (_, receiver) in &ends {
                    let taken = 200 - receiver.len();
                    assert!(taken * count * 2 > 100, "{taken} of 100 by one of {count}");
                }
            }
            Ok(())
        });
    });
}

#[test]
fn what_can_be_had_at_once_is_and_else_the_default() {
    both(|| {
        in_a_machine(|| {
            let (words, spoken) = channel::bounded(1);
            let mut never = spawn(|| sleep(LONG));
            let mut ask = || {
                select! {
                    recv(spoken) -> word => word.unwrap(),
                    join(never) -> _ended => "ended",
                    after(LONG) => "late",
                    default => "nothing",
                }
            };
            let start = now();
            assert_eq!(ask()?, "nothing");
            words.send("hello")?;
            assert_eq!(ask()?, "hello");
            assert_eq!(ask()?, "nothing");
            assert!(now() - start < LONG);
            never.cancel("enough")?;
            never.join()?.unwrap_err();
            let due = select! { after(Duration::ZERO) => true, default => false };
            assert_eq!(due, Ok(true));
            Ok(())
        });
    });
}

#[test]
fn who_does_not_wait_loses_nothing() {
    both(|| {
        in_a_machine(|| {
            let (full, receiver) = channel::bounded(1);
            full.send(0)?;
            let mut sending = full.sending(3);
            assert_eq!(try_select(&mut [&mut sending])?, None);
            assert_eq!(sending.sent(), Err(TrySendError::Full(3)));
            // Whoever has looked stands in no line: what comes is the next one's.
            let (other, empty) = channel::bounded(0);
            let mut receiving = empty.receiving();
            assert_eq!(try_select(&mut [&mut receiving])?, None);
            assert!(other.try_send(1).is_err(), "nobody waits there");
            assert_eq!(receiving.received(), Err(TryRecvError::Empty));
            assert_eq!(receiver.recv()?, 0);
            assert_eq!(try_select(&mut [])?, None);
            Ok(())
        });
    });
}

/// It yields like every call, so what it looks for can come.
#[test]
fn who_only_looks_lets_others_run_and_hears_of_its_end() {
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = channel::bounded(1);
            let theirs = receiver.clone();
            let look = |receiver: &channel::Receiver<u8>| loop {
                let found = select! { recv(receiver) -> item => item.ok(), default => None };
                match found {
                    Ok(None) => {}
                    other => return other,
                }
            };
            let sends = spawn(move || sender.send(5).map(|()| sender));
            assert_eq!(look(&receiver)?, Some(5));
            let sender = sends.join()??;
            assert!(matches!(timeout(SHORT, || look(&receiver)), Err(WaitError::Expired(_))));
            let looks = spawn(move || look(&theirs));
            yield_now();
            looks.cancel("enough")?;
            assert!(matches!(looks.join()?, Err(WaitError::Cancelled(_))));
            sender.send(6)?;
            assert_eq!(receiver.try_recv(), Ok(6), "who was cancelled has taken nothing");
            Ok(())
        });
    });
}

#[test]
fn a_case_may_end_the_loop_or_the_function_around_it() {
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = channel::unbounded();
            (0..10).for_each(|number| sender.send(number).unwrap());
            let mut odd = Vec::new();
            loop {
                select! {
                    recv(receiver) -> number => match number.unwrap() {
                        7 => break,
                        even if even % 2 == 0 => continue,
                        number => odd.push(number),
                    },
                    default => break,
                }?;
            }
            assert_eq!(odd, [1, 3, 5]);
            let rest = || -> Result<usize, WaitError> {
                let mut count = 0;
                loop {
                    select! { recv(receiver) -> _number => count += 1, default => return Ok(count) }?;
                }
            };
            assert_eq!(rest(), Ok(2));
            let number = select! { recv(receiver) -> number => number, after(SHORT) => return Ok(()), }?;
            panic!("{number:?}, although it is empty");
        });
    });
}

/// On a thread that is no machine.
#[test]
fn a_thread_that_is_no_machine_need_not_wait_either() {
    both(|| {
        let (sender, receiver) = channel::bounded(1);
        let look = || select! { recv(receiver) -> item => item.ok(), default => None };
        assert_eq!(look(), Ok(None));
        sender.send(1).unwrap();
        assert_eq!(look(), Ok(Some(1)));
    });
}

#[test]
fn an_enclosing_deadline_and_a_cancellation_end_a_select() {
    both(|| {
        in_a_machine(|| {
            let (_sender, receiver) = channel::bounded::<u8>(0);
            let other = receiver.clone();
            let wait = |receiver: &channel::Receiver<u8>| {
                select! {
                    recv(receiver) -> _item => (),
                    after(LONG) => (),
                }
            };
            assert!(matches!(timeout(SHORT, || wait(&receiver)), Err(WaitError::Expired(_))));
            let waits = spawn(move || wait(&other));
            yield_now();
            waits.cancel("enough")?;
            assert!(matches!(waits.join()?, Err(WaitError::Cancelled(_))));
            Ok(())
        });
    });
}

/// Ends of what runs on other machines, and of children, are cases; what has not ended can be joined later.
#[test]
fn joins_of_machines_their_coroutines_and_of_children_are_cases() {
    both(|| {
        in_a_machine(|| {
            let mut worker = machine::spawn("worker", || sleep(LONG).is_err())?;
            let remote = worker.remote();
            machinarium::scope(|scope| {
                let mut child = scope.spawn(|| sleep(LONG).is_err());
                let mut far = remote.spawn(|| sleep(LONG).is_err())?;
                let mut near = remote.spawn(|| 7)?;
                let ended = select! {
                    join(worker) -> _ended => 0,
                    join(child) -> _ended => 1,
                    join(far) -> _ended => 2,
                    join(near) -> ended => ended?,
                }?;
                assert_eq!(ended, 7);
                let misuse = near.joining().joined().unwrap_err();
                assert!(matches!(misuse, JoinError::Unwound), "nothing is left: {misuse}");
                assert!(matches!(far.joining().joined(), Err(JoinError::Wait(_))), "it was not chosen");
                assert!(matches!(child.joining().joined(), Err(JoinError::Wait(_))), "nor was that");

                scope.cancel("enough");
                let ended = select! {
                    join(far) -> _ended => false,
                    join(child) -> ended => ended?,
                }?;
                assert!(ended);
                assert!(matches!(child.join(), Err(JoinError::Wait(_))), "nothing is left");

                worker.stop("enough");
                let mut ends = 0;
                let mut main = None;
                while main.is_none() {
                    select! {
                        join(far) -> ended => ends += usize::from(ended.is_ok()),
                        join(worker) -> ended => main = Some(ended?),
                    }?;
                    assert!(ends < 100);
                }
                assert_eq!(main, Some(true));
                io::Result::Ok(())
            })
        });
    });
}

/// A join loses against a deadline, and is still to be had.
#[test]
fn a_join_that_lost_is_joined_later() {
    both(|| {
        in_a_machine(|| {
            let worker = machine::spawn("worker", || sleep(LONG).is_err())?;
            for micros in [0, 5, 10, 20, 40, 80] {
                let patience = Duration::from_micros(micros);
                let mut far = worker.remote().spawn(move || micros)?;
                let chosen = select! { join(far) -> ended => Some(ended?), after(patience) => None, }?;
                match chosen {
                    Some(value) => assert_eq!(value, micros),
                    None => assert_eq!(far.join()?, micros),
                }
                machinarium::scope(|scope| {
                    let mut child = scope.spawn(|| sleep(patience).map(|()| micros));
                    let chosen = timeout(patience, || select! { join(child) -> ended => ended, });
                    let value = match chosen {
                        Ok(ended) => ended??,
                        Err(WaitError::Expired(_)) => child.join()??,
                        Err(other) => return Err(other.into()),
                    };
                    assert_eq!(value, micros);
                    io::Result::Ok(())
                })?;
            }
            worker.stop("enough");
            assert!(worker.join()?);
            Ok(())
        });
    });
}

#[test]
fn panics_are_joined_by_a_select_and_reported_once() {
    both(|| {
        in_a_machine(|| {
            let mut worker = machine::spawn("worker", || panic!("there"))?;
            let ended: Result<(), JoinError> = select! { join(worker) -> ended => ended, }?;
            assert_eq!(ended.unwrap_err().message(), Some("there"));
            // A scope panics by a child's panic that nobody joins.
            machinarium::scope(|scope| {
                let mut child = scope.spawn(|| panic!("here"));
                let ended: Result<(), JoinError> = select! { join(child) -> ended => ended, }?;
                assert_eq!(ended.unwrap_err().message(), Some("here"));
                io::Result::Ok(())
            })
        });
    });
}

/// A cancellation before the wait, in it, and at the moment at which something else ends it.
#[test]
fn who_is_shielded_hears_of_its_cancellation() {
    both(|| {
        in_a_machine(|| {
            for micros in [None, Some(0), Some(10), Some(20), Some(40)] {
                let (sender, receiver) = channel::bounded(1);
                let theirs = receiver.clone();
                let task = spawn(move || {
                    yield_now();
                    shield(|| {
                        select! {
                            recv(theirs) -> item => item.ok(),
                            cancelled() -> why => {
                                assert_eq!(why.cause(), "enough");
                                None
                            },
                        }
                    })
                });
                if let Some(micros) = micros {
                    let sends = spawn(move || {
                        sleep(Duration::from_micros(20))?;
                        sender.send(1).map_err(io::Error::from)
                    });
                    sleep(Duration::from_micros(micros))?;
                    task.cancel("enough")?;
                    let received = task.join()?.unwrap();
                    sends.join()?.unwrap();
                    assert_eq!(received.or(receiver.try_recv().ok()), Some(1), "received, or left");
                } else {
                    task.cancel("enough")?;
                    assert_eq!(task.join()?, Ok(None));
                }
            }
            let late = shield(|| select! { cancelled() -> _why => false, after(SHORT) => true, });
            assert_eq!(late, Ok(true));
            let outside = spawn(|| select! { cancelled() -> _why => (), });
            yield_now();
            outside.cancel("enough")?;
            assert!(matches!(outside.join()?, Err(WaitError::Cancelled(_))), "as every wait");
            Ok(())
        });
    });
}

/// Who waits for either end of a channel without a buffer is found at either, by one who waits for nothing else.
#[test]
fn who_waits_at_both_ends_is_found_at_either() {
    both(|| {
        in_a_machine(|| {
            let shared = channel::bounded::<u32>(0);
            let here = channel::local::bounded::<u32>(0);
            // Which case a select tries first changes from one to the next.
            for round in 0..8 {
                let (sender, receiver) = shared.clone();
                let waits = spawn(move || {
                    select! {
                        recv(receiver) -> item => item.ok(),
                        send(sender, 1) -> result => result.map(|()| 1).ok(),
                    }
                });
                yield_now();
                if round % 2 == 0 {
                    assert_eq!(shared.0.send_timeout(2, SHORT), Ok(()), "in round {round}");
                } else {
                    assert_eq!(shared.1.recv_timeout(SHORT), Ok(1), "in round {round}");
                }
                assert_eq!(waits.join()?, Ok(Some(2 - round % 2)));

                let (sender, receiver) = here.clone();
                let waits = spawn(move || {
                    select! {
                        recv(receiver) -> item => item.ok(),
                        send(sender, 1) -> result => result.map(|()| 1).ok(),
                    }
                });
                yield_now();
                if round % 2 == 0 {
                    assert_eq!(here.0.send_timeout(2, SHORT), Ok(()), "in round {round}");
                } else {
                    assert_eq!(here.1.recv_timeout(SHORT), Ok(1), "in round {round}");
                }
                assert_eq!(waits.join()?, Ok(Some(2 - round % 2)));
            }
            Ok(())
        });
    });
}

/// Two machines, each with a select that sends on one channel without a buffer or receives on another, and the other way round:
/// all meet, and what one has sent the other has received.
#[test]
fn select_meets_select_on_channels_without_a_buffer() {
    both(|| {
        in_a_machine(|| {
            const ROUNDS: u32 = 30;
            let (to_them, from_us) = channel::bounded::<u32>(0);
            let (to_us, from_them) = channel::bounded::<u32>(0);
            let turns = |out: &channel::Sender<u32>, inwards: &channel::Receiver<u32>| {
                let (mut sent, mut received) = (Vec::new(), Vec::new());
                for round in 0..ROUNDS {
                    select! {
                        send(out, round) -> result => {
                            result.unwrap();
                            sent.push(round);
                        },
                        recv(inwards) -> item => received.push(item.unwrap()),
                    }
                    .unwrap();
                }
                (sent, received)
            };
            let there = machine::spawn("there", move || turns(&to_us, &from_us))?;
            let (sent, received) = turns(&to_them, &from_them);
            let (their_sent, their_received) = there.join()?;
            assert_eq!((sent, received), (their_received, their_sent));
            Ok(())
        });
    });
}
