//! What `Builder` sets: each setting changes what it says and nothing else.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::both;
use crate::child::{assert_success, in_child};
use machinarium::coroutine::{StackOptions, Stacks};
use machinarium::{Builder, Guards, machine, sleep, spawn, try_spawn, yield_now};

const LONG: Duration = Duration::from_secs(600);

/// A machine that looks for work before it sleeps misses none, whether it comes while it looks or while it sleeps.
#[test]
fn a_machine_that_spins_misses_nothing() {
    both(|| {
        let result: io::Result<()> = Builder::new().spin(Duration::from_micros(30)).run(|| {
            let worker = machine::spawn("worker", || sleep(LONG))?;
            for round in 0..100u64 {
                let pause = Duration::from_micros(round % 5 * 15);
                let join = worker.remote().spawn(move || sleep(pause).map(|()| round))?;
                assert_eq!(join.join().unwrap(), Ok(round));
                sleep(pause)?;
            }
            worker.stop("done");
            let _ = worker.join();
            Ok(())
        });
        result.unwrap();
    });
}

/// Who took which turn: three rounds of five coroutines.
fn turns(builder: Builder) -> Vec<u32> {
    let order = Rc::new(RefCell::new(Vec::new()));
    let seen = order.clone();
    let sum: io::Result<u32> = builder.run(move || {
        let handles: Vec<_> = (0..5u32)
            .map(|n| {
                let order = order.clone();
                spawn(move || {
                    for _ in 0..3 {
                        order.borrow_mut().push(n);
                        yield_now();
                    }
                    n
                })
            })
            .collect();
        Ok(handles.into_iter().map(|handle| handle.join().unwrap()).sum())
    });
    assert_eq!(sum.unwrap(), 10, "whatever the order");
    seen.take()
}

#[test]
fn a_shuffle_explores_orders_and_a_seed_is_one_order() {
    both(|| {
        let plain = turns(Builder::new());
        assert!(plain.iter().copied().eq((0..15).map(|n| n % 5)));
        let orders: BTreeSet<_> = (0..20).map(|seed| turns(Builder::new().shuffle(seed))).collect();
        assert!(orders.len() >= 15, "only {} orders by 20 seeds", orders.len());
        assert_eq!(turns(Builder::new().shuffle(7)), turns(Builder::new().shuffle(7)));
        for mut order in orders {
            order.sort_unstable();
            assert!(order.into_iter().eq((0..15).map(|n| n / 3)), "each has its three turns");
        }
    });
}

/// With a budget of one, an operation that need not wait lets others run all the same.
#[test]
fn a_budget_of_one_lets_others_run_at_each_operation() {
    fn runs(budget: u32) -> usize {
        let order = Rc::new(RefCell::new(Vec::new()));
        let seen = order.clone();
        let result: io::Result<()> = Builder::new().budget(budget).run(move || {
            let handles: Vec<_> = (0..2)
                .map(|n| {
                    let order = order.clone();
                    spawn(move || {
                        let done: Vec<_> = (0..10).map(|_| spawn(|| ())).collect();
                        yield_now();
                        for one in done {
                            one.join().unwrap();
                            order.borrow_mut().push(n);
                        }
                    })
                })
                .collect();
            handles.into_iter().for_each(|handle| handle.join().unwrap());
            Ok(())
        });
        result.unwrap();
        let order = seen.take();
        order.chunk_by(|one, other| one == other).count()
    }
    both(|| {
        assert_eq!(runs(1000), 2, "one after the other");
        assert!(runs(1) >= 19, "by turns, not {} runs", runs(1));
    });
}

#[test]
fn the_error_of_the_stack_limit_is_gone_when_a_stack_is_free() {
    both(|| {
        let result: io::Result<()> = Builder::new().stack_limit(2).run(|| {
            let held = spawn(|| drop(sleep(LONG)));
            let error = io::Error::from(try_spawn("", || ()).unwrap_err());
            assert!(error.to_string().contains("all 2 stacks are in use: raise the limit"), "{error}");
            held.cancel("its stack is wanted").unwrap();
            held.join().unwrap();
            assert_eq!(try_spawn("", || 5).unwrap().join().unwrap(), 5);
            Ok(())
        });
        result.unwrap();
    });
}

/// Locked memory can have no guards but by mprotect, and others have used all of those up.
fn without_guards(test: &str, body: impl FnOnce()) {
    let output = in_child(test, || {
        let hog = Stacks::new(StackOptions { force_mprotect: true, ..StackOptions::default() }).unwrap();
        let mut hogged = 0;
        while hog.allocate().is_ok() {
            hogged += 1;
            if hogged > 60_000 {
                return println!("skipped: vm.max_map_count is large here");
            }
        }
        // SAFETY: only pages mapped from now on are locked, when they are touched.
        #[allow(unsafe_code)]
        let locked = unsafe { libc::mlockall(libc::MCL_FUTURE | libc::MCL_ONFAULT) };
        if locked != 0 {
            return println!("skipped: memory may not be locked here");
        }
        body();
    });
    assert_success(&output);
}

#[test]
fn a_spawn_without_a_guard_fails_and_says_what_to_raise() {
    without_guards("configuration::a_spawn_without_a_guard_fails_and_says_what_to_raise", || {
        let result: io::Result<()> = Builder::new().stack_size(64 << 10).run(|| Ok(()));
        let error = result.unwrap_err();
        assert!(error.to_string().contains("raise the sysctl vm.max_map_count"), "{error}");
    });
}

#[test]
fn best_effort_goes_without_a_guard() {
    without_guards("configuration::best_effort_goes_without_a_guard", || {
        let builder = Builder::new().stack_size(64 << 10).guards(Guards::BestEffort);
        let result: io::Result<u32> =
            builder.run(|| Ok((0..10).map(|n| spawn(move || n).join().unwrap()).sum()));
        assert_eq!(result.unwrap(), 45);
    });
}
