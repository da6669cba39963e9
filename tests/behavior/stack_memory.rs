//! Memory of stacks: whoever waits for long keeps what he stands on, and gives back what he had touched deeper.

use std::io;
use std::time::Duration;

use crate::child::{assert_success, in_child};
use crate::tls::{client, server, tls_pair};
use crate::{both, on_some};
use machinarium::sync::{Event, WaitGroup};
use machinarium::{Builder, Tuning, on_big_stack, sleep, spawn, yield_now};

const PATIENCE: Duration = Duration::from_millis(2);

fn tuned(batch: usize) -> Builder {
    Builder::new().tuning(Tuning { stack_trim: PATIENCE, stack_trim_batch: batch, ..Tuning::default() })
}

/// Goes down so many frames of a kilobyte, and does `last` there; what each frame holds must be there when it comes back.
#[inline(never)]
fn dive(depth: u32, last: &dyn Fn()) -> u32 {
    let frame = std::hint::black_box([depth; 256]);
    let below = if depth == 0 {
        last();
        0
    } else {
        dive(depth - 1, last)
    };
    assert!(std::hint::black_box(&frame).iter().all(|word| *word == depth), "frame {depth}");
    below + 1
}

#[test]
fn what_a_coroutine_stands_on_survives_long_waits_at_any_depth() {
    both(|| {
        for batch in [1, 1000] {
            let result: io::Result<()> = tuned(batch).run(|| {
                let go = Event::new();
                let waiters: Vec<_> = (0..10u32)
                    .map(|number| {
                        let go = go.clone();
                        spawn(move || {
                            assert_eq!(dive(80, &|| ()), 81);
                            // Waits in the middle of a dive, again and again, and is deep in between.
                            let wait = || {
                                for _ in 0..2 {
                                    let _ = go.wait_timeout(PATIENCE * 5);
                                    assert_eq!(dive(40, &|| ()), 41);
                                }
                                go.wait().unwrap();
                            };
                            assert_eq!(dive(number * 4, &wait), number * 4 + 1);
                            // On a stack of another kind, which is its own affair.
                            on_big_stack(|| dive(200, &|| sleep(PATIENCE * 4).unwrap()))
                        })
                    })
                    .collect();
                sleep(PATIENCE * 20)?;
                go.set();
                for waiter in waiters {
                    assert_eq!(waiter.join()?, 201);
                }
                Ok(())
            });
            result.unwrap();
        }
    });
}

/// A machine that has given back all that there is sleeps for as long as nobody wakes it.
#[test]
fn a_machine_whose_coroutines_wait_sleeps() {
    on_some(20, 0, |_| {
        let result: io::Result<()> = tuned(1).run(|| {
            let waiters: Vec<_> = (0..20).map(|_| spawn(|| sleep(Duration::from_secs(3600)))).collect();
            sleep(PATIENCE * 100)?;
            let polls = || Ok::<_, io::Error>(machinarium::inspect::statistics()?[0].polls);
            let before = polls()?;
            sleep(PATIENCE * 100)?;
            // Passes over twenty, one at a time, after the sleep before; and then nothing.
            let looked = polls()? - before;
            assert!(looked < 100, "{looked} polls");
            let before = polls()?;
            sleep(PATIENCE * 1000)?;
            let looked = polls()? - before;
            assert!(looked < 100, "{looked} polls");
            drop(waiters);
            Ok(())
        });
        result.unwrap();
    });
}

/// KiB of this process that are resident.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
}

/// How many KiB more than `before` are resident, as soon as that is `enough`, and after a while in any case.
fn grown(before: usize, enough: usize) -> io::Result<usize> {
    for _ in 0..500 {
        sleep(PATIENCE * 20)?;
        if resident() <= before + enough {
            break;
        }
    }
    Ok(resident().saturating_sub(before))
}

fn untrimmed() -> Builder {
    Builder::new().tuning(Tuning { stack_trim: Duration::MAX, ..Tuning::default() })
}

#[test]
fn pages_below_a_long_wait_go_back() {
    let output = in_child("stack_memory::pages_below_a_long_wait_go_back", || {
        const COUNT: usize = 200;
        let kept = deep_waiters(untrimmed(), COUNT, usize::MAX).unwrap();
        assert!(kept > 80 * COUNT, "{kept} KiB were touched");
        let left = deep_waiters(tuned(64), COUNT, 20 * COUNT).unwrap();
        assert!(left <= 20 * COUNT, "{left} KiB are left of {kept}");
    });
    assert_success(&output);
}

/// How many KiB so many coroutines keep that were deep and wait.
fn deep_waiters(builder: Builder, count: usize, enough: usize) -> io::Result<usize> {
    builder.run(|| {
        let (go, before) = (Event::new(), resident());
        let waiters: Vec<_> = (0..count)
            .map(|_| {
                let go = go.clone();
                spawn(move || {
                    dive(100, &|| ());
                    go.wait().unwrap();
                    dive(100, &|| ())
                })
            })
            .collect();
        yield_now();
        let kept = grown(before, enough.min(usize::MAX - before))?;
        go.set();
        for waiter in waiters {
            assert_eq!(waiter.join()?, 101);
        }
        Ok(kept)
    })
}

/// A handshake goes deep; the connection that waits afterwards has none of that.
#[test]
fn an_idle_connection_with_tls_keeps_no_stack_of_its_handshake() {
    let output =
        in_child("stack_memory::an_idle_connection_with_tls_keeps_no_stack_of_its_handshake", || {
            const COUNT: usize = 100;
            let kept = tls_waiters(untrimmed(), COUNT, usize::MAX).unwrap();
            let left = tls_waiters(tuned(64), COUNT, kept - 20 * COUNT).unwrap();
            println!("{kept} KiB, and then {left} KiB");
            assert!(left <= kept - 20 * COUNT, "{left} KiB are left of {kept}");
        });
    assert_success(&output);
}

/// How many KiB so many pairs of ends keep, of which one waits.
fn tls_waiters(builder: Builder, count: usize, enough: usize) -> io::Result<usize> {
    builder.run(|| {
        let (client, server) = (client().build()?, server().build()?);
        tls_pair(&client, &server)?;
        let (shaken, before) = (WaitGroup::new(), resident());
        for _ in 0..count {
            let (client, server, part) = (client.clone(), server.clone(), shaken.clone());
            spawn(move || {
                let (_ours, theirs) = tls_pair(&client, &server).unwrap();
                drop(part);
                let _ = theirs.read_exact(&mut [0; 1]);
            });
        }
        shaken.wait()?;
        grown(before, enough.min(usize::MAX - before))
    })
}
