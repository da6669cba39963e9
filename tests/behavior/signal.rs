//! Signals as values: each reaches all who have asked for it, on whatever machine, and nobody else.
//!
//! On the real kernel a signal is the whole test binary's, so each test raises what no other one does.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::both;
use machinarium::signal::{Signal, Signals, raise};
use machinarium::sync::{Event, channel, select};
use machinarium::{WaitError, machine, run, select, sleep, spawn};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(5);

#[test]
fn a_signal_reaches_every_subscriber_on_every_machine() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let here = Signals::new([Signal::Usr1])?;
            let also = Signals::new([Signal::Usr1, Signal::Chld])?;
            let (ready, told) = channel::bounded(1);
            let other = machine::spawn("other", move || -> io::Result<Signal> {
                let signals = Signals::new([Signal::Usr1])?;
                ready.send(()).unwrap();
                Ok(signals.recv_timeout(LONG)?)
            })?;
            told.recv().unwrap();
            raise(Signal::Usr1)?;
            assert_eq!(here.recv_timeout(LONG)?, Signal::Usr1);
            assert_eq!(also.recv_timeout(LONG)?, Signal::Usr1);
            assert_eq!(other.join().unwrap()?, Signal::Usr1);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn equal_signals_are_one_until_received_and_a_storm_costs_a_set() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let never_reads = Signals::new([Signal::Winch])?;
            let signals = Signals::new([Signal::Winch])?;
            for _ in 0..50 {
                raise(Signal::Winch)?;
            }
            assert_eq!(signals.recv_timeout(LONG)?, Signal::Winch);
            sleep(SHORT)?;
            let late = std::iter::from_fn(|| signals.try_recv()).count();
            assert!(late <= 1, "{late} of equal signals");
            for _ in 0..3 {
                raise(Signal::Winch)?;
                // The machine has noted the one before the next is raised.
                sleep(SHORT)?;
            }
            assert_eq!(signals.recv_timeout(LONG)?, Signal::Winch);
            assert_eq!(signals.try_recv(), None);
            drop(never_reads);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_wait_that_gives_up_takes_nothing_and_a_lost_select_gives_back() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let signals = Signals::new([Signal::Hup])?;
            assert!(matches!(signals.recv_timeout(SHORT), Err(WaitError::Expired(_))));
            let set = Event::new();
            set.set();
            raise(Signal::Hup)?;
            let mut heard = false;
            for _ in 0..3 {
                select! {
                    signal(signals) -> signal => { assert_eq!(signal, Signal::Hup); heard = true; },
                    wait(set) => (),
                }?;
            }
            assert!(heard || signals.recv_timeout(LONG)? == Signal::Hup);
            raise(Signal::Hup)?;
            let mut chosen = signals.receiving();
            select(&mut [&mut chosen])?;
            drop(chosen); // without asking which signal it was
            assert_eq!(signals.recv_timeout(LONG)?, Signal::Hup);
            assert_eq!(signals.try_recv(), None);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_signal_that_comes_while_the_last_subscriber_goes_harms_nobody() {
    both(|| {
        let result: io::Result<()> = run(|| {
            for _ in 0..5 {
                let signals = Signals::new([Signal::Usr2])?;
                let sender = spawn(|| raise(Signal::Usr2));
                drop(signals);
                sender.join()??;
            }
            raise(Signal::Usr2)?; // nobody asks, and the default does not come back
            let again = Signals::new([Signal::Usr2])?;
            for _ in 0..2 {
                raise(Signal::Usr2)?;
                assert_eq!(again.recv_timeout(LONG)?, Signal::Usr2);
            }
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn nobody_can_ask_for_nothing_or_outside_of_a_machine() {
    assert!(Signals::new([Signal::Hup]).is_err());
    let result: io::Result<()> = run(|| {
        assert_eq!(Signals::new([]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        Ok(())
    });
    result.unwrap();
}

#[test]
fn each_signal_goes_to_one_of_those_that_wait_on_one_subscription() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let signals = Rc::new(Signals::new([Signal::Alrm, Signal::Quit])?);
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let signals = signals.clone();
                    spawn(move || signals.recv_timeout(LONG))
                })
                .collect();
            sleep(SHORT)?;
            raise(Signal::Alrm)?;
            raise(Signal::Quit)?;
            let mut heard = Vec::new();
            for waiter in waiters {
                heard.push(waiter.join()??);
            }
            heard.sort();
            assert_eq!(heard, [Signal::Quit, Signal::Alrm]);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_cancelled_wait_leaves_the_signal_to_the_next() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let signals = Rc::new(Signals::new([Signal::Cont])?);
            let hears = signals.clone();
            let waiter = spawn(move || hears.recv());
            sleep(SHORT)?;
            waiter.cancel("enough")?;
            assert!(matches!(waiter.join()?, Err(WaitError::Cancelled(_))));
            raise(Signal::Cont)?;
            assert_eq!(signals.recv_timeout(LONG)?, Signal::Cont);
            assert_eq!(signals.try_recv(), None);
            Ok(())
        });
        result.unwrap();
    });
}
