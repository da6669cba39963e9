//! Graceful shutdown: it begins once, ends what accepts, and lets what was accepted go on.
//!
//! On the real kernel a signal is the whole test binary's, so only one test asks for each.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::both;
use crate::tcp::loopback;
use machinarium::net::{TcpListener, TcpStream};
use machinarium::signal::{Signal, Signals, raise};
use machinarium::{
    Builder, Shutdown, WaitError, cancelled, machine, run, select, shield, sleep, spawn, timeout, yield_now,
};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(20);

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

#[test]
fn it_begins_once_and_all_who_wait_hear_of_it() {
    both(|| {
        in_a_machine(|| {
            let shutdown = Shutdown::new();
            assert!(!shutdown.begun());
            assert_eq!(shutdown.cause(), None);
            assert!(matches!(timeout(SHORT, || shutdown.wait()), Err(WaitError::Expired(_))));
            let here = spawn({
                let shutdown = shutdown.clone();
                move || shutdown.wait()
            });
            let beginners: Vec<_> = (0..3)
                .map(|number| {
                    let shutdown = shutdown.clone();
                    machine::spawn("beginner", move || {
                        let first = shutdown.begin(format!("number {number}"));
                        // Who hears that it has begun sees the cause, too.
                        shutdown.wait().unwrap();
                        (first, shutdown.cause().unwrap())
                    })
                })
                .collect::<io::Result<_>>()?;
            let begun = select! {
                wait(shutdown) => true,
                after(LONG) => false,
            }?;
            assert!(begun);
            here.join()??;
            let told: Vec<_> = beginners.into_iter().map(|beginner| beginner.join().unwrap()).collect();
            assert_eq!(told.iter().filter(|(first, _)| *first).count(), 1);
            assert!(told.iter().all(|(_, cause)| Some(cause) == shutdown.cause().as_ref()), "{told:?}");
            assert!(shutdown.begun() && !shutdown.begin("late"));
            Ok(())
        });
    });
}

#[test]
fn a_loop_that_accepts_ends_and_what_it_accepted_goes_on() {
    both(|| {
        in_a_machine(|| {
            let shutdown = Shutdown::new();
            let listener = TcpListener::bind(loopback())?;
            let address = listener.local_addr()?;
            let ends = shutdown.clone();
            let server = spawn(move || {
                ends.until_begun(|| -> io::Result<()> {
                    loop {
                        let (stream, _) = listener.accept()?;
                        spawn(move || io::copy(&mut &stream, &mut &stream));
                    }
                })
            });
            let client = TcpStream::connect(address)?;
            let says = |word: &[u8; 4]| -> io::Result<[u8; 4]> {
                let mut answer = [0; 4];
                client.write_all(word)?;
                client.read_exact(&mut answer)?;
                Ok(answer)
            };
            assert_eq!(says(b"ping")?, *b"ping");
            shutdown.begin("enough");
            let error = server.join()?.unwrap_err();
            assert_eq!(cancelled(&error).unwrap().cause(), "enough");
            assert_eq!(says(b"pong")?, *b"pong");
            assert!(TcpStream::connect(address).is_err(), "its listener is closed");
            Ok(())
        });
    });
}

#[test]
fn it_ends_the_waits_of_what_it_runs_but_for_those_in_a_shield() {
    both(|| {
        in_a_machine(|| {
            let shutdown = Shutdown::new();
            assert_eq!(shutdown.until_begun(|| 5), 5);
            let soon = shutdown.clone();
            let beginner = spawn(move || {
                sleep(SHORT).unwrap();
                soon.begin("enough")
            });
            let word = String::from("borrowed");
            let (shielded, bare, said) = shutdown.until_begun(|| {
                let shielded = shield(|| sleep(SHORT * 10));
                (shielded, sleep(LONG), word.len())
            });
            assert_eq!((shielded, said), (Ok(()), 8));
            assert!(matches!(bare, Err(WaitError::Cancelled(_))));
            assert!(beginner.join()?);
            // The caller itself was not cancelled, and what begins late ends at its first wait.
            sleep(SHORT)?;
            assert!(matches!(shutdown.until_begun(|| sleep(LONG)), Err(WaitError::Cancelled(_))));
            Ok(())
        });
    });
}

#[test]
fn deadlines_cancellations_and_panics_pass_through() {
    both(|| {
        in_a_machine(|| {
            let shutdown = Shutdown::new();
            let late = timeout(SHORT, || shutdown.until_begun(|| sleep(LONG)));
            assert!(matches!(late, Err(WaitError::Expired(_))), "{late:?}");
            let inside = shutdown.clone();
            let runs = spawn(move || inside.until_begun(|| sleep(LONG)));
            sleep(SHORT)?;
            runs.cancel("not you")?;
            let error = runs.join()?.unwrap_err();
            assert!(matches!(&error, WaitError::Cancelled(why) if why.cause() == "not you"), "{error}");
            let panic = catch_unwind(AssertUnwindSafe(|| shutdown.until_begun(|| panic!("on purpose"))));
            assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"on purpose"));
            assert!(!shutdown.begun());
            Ok(())
        });
    });
}

#[test]
fn what_it_runs_may_be_unwound_at_a_machines_end() {
    both(|| {
        let result: io::Result<()> = Builder::new().grace(SHORT).run(|| {
            spawn(|| Shutdown::new().until_begun(|| shield(|| sleep(1000 * LONG))));
            yield_now();
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn the_first_signal_begins_it_and_the_next_changes_nothing() {
    both(|| {
        let drains = Builder::new().drain(LONG);
        let result: io::Result<()> = drains.run(|| {
            let shutdown = Shutdown::new();
            let signals = [Signal::Term, Signal::Int];
            assert!(shutdown.on_signals([]).is_err());
            shutdown.on_signals(signals)?;
            let also_hears = Signals::new(signals)?;
            spawn(|| {
                sleep(SHORT).unwrap();
                raise(Signal::Term).unwrap();
            });
            assert!(shutdown.until_begun(|| sleep(LONG)).is_err());
            assert_eq!(shutdown.cause().as_deref(), Some("SIGTERM"));
            assert_eq!(also_hears.recv_timeout(LONG)?, Signal::Term);
            raise(Signal::Int)?;
            assert_eq!(also_hears.recv_timeout(LONG)?, Signal::Int);
            assert_eq!(shutdown.cause().as_deref(), Some("SIGTERM"));
            // The main closure returns, and what goes on is drained.
            spawn(|| sleep(SHORT * 4).expect("it is in the drain"));
            Ok(())
        });
        result.unwrap();
    });
}
