//! Sanitizers and valgrind on coroutines: each bug that is planted here is told, on the stack where it is, and the correct twin is not.
//!
//! `.ci/nightly` builds this binary for one of them at a time and says which in `MACHINARIUM_TOOL`: `address`, `thread` or `valgrind`.
//! What is another's is skipped. Planted bugs end the process, so they run in a child.

#![allow(unsafe_code)] // what is planted
#![allow(unreachable_pub)] // a test binary has no public names

#[path = "coroutine/child.rs"]
#[allow(dead_code, reason = "what is in it is for other binaries too")]
mod child;

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use child::{in_child, said};
use machinarium::sync::channel::bounded;
use machinarium::{machine, on_big_stack, spawn, yield_now};

/// Whether this is the tool that watches.
fn watched_by(tool: &str) -> bool {
    let watched = std::env::var("MACHINARIUM_TOOL").is_ok_and(|named| named == tool);
    if !watched {
        println!("skipped: for {tool}");
    }
    watched
}

#[track_caller]
fn assert_told(output: &Output, words: &[&str]) {
    let said = said(output);
    assert!(!output.status.success(), "nobody noticed: {said}");
    for word in words {
        assert!(said.contains(word), "no '{word}' in: {said}");
    }
}

fn run(main: impl FnOnce() -> io::Result<()>) {
    machinarium::run(main).unwrap();
}

#[inline(never)]
fn read_behind_the_end(array: &[u8; 16]) -> u8 {
    // SAFETY: none: it is planted.
    unsafe { array.as_ptr().wrapping_add(black_box(16)).read_volatile() }
}

#[test]
fn a_frame_of_a_coroutine_is_overrun() {
    if !watched_by("address") {
        return;
    }
    let output = in_child("a_frame_of_a_coroutine_is_overrun", || {
        run(|| {
            let other = spawn(yield_now);
            let coroutine = spawn(|| {
                let array = black_box([7u8; 16]);
                yield_now();
                black_box(read_behind_the_end(&array));
            });
            coroutine.join()?;
            other.join().map_err(io::Error::from)
        });
    });
    assert_told(&output, &["stack-buffer-overflow", "in sanitize::read_behind_the_end", "::base"]);
}

#[inline(never)]
fn read_a_dead_frame(address: usize) -> u8 {
    // SAFETY: none: it is planted.
    unsafe { std::ptr::with_exposed_provenance::<u8>(address).read_volatile() }
}

#[test]
fn a_stack_is_used_after_its_coroutine() {
    if !watched_by("address") {
        return;
    }
    let output = in_child("a_stack_is_used_after_its_coroutine", || {
        run(|| {
            let coroutine = spawn(|| {
                let array = black_box([7u8; 16]);
                black_box(&array);
                // Not the array's address: where uses after a return are looked for, that is of a place of the sanitizer's own.
                stack_pointer()
            });
            black_box(read_a_dead_frame(coroutine.join()?));
            Ok(())
        });
    });
    assert_told(&output, &["use-after-poison", "in sanitize::read_a_dead_frame", "::base"]);
}

/// Where the caller's frame ends.
#[inline(always)]
fn stack_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reads a register.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("mov {}, rsp", out(reg) pointer);
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("mov {}, sp", out(reg) pointer);
    }
    pointer
}

/// Written by two threads.
struct Place(UnsafeCell<u64>);

// SAFETY: none for the planted race; in its twin, a channel orders the two.
unsafe impl Sync for Place {}

impl Place {
    const fn new() -> Place {
        Place(UnsafeCell::new(0))
    }

    #[inline(never)]
    fn write(&self) {
        // SAFETY: as for `Sync`.
        unsafe { *self.0.get() += 1 };
    }
}

#[test]
fn coroutines_of_two_machines_race() {
    if !watched_by("thread") {
        return;
    }
    let output = in_child("coroutines_of_two_machines_race", || {
        static PLACE: Place = Place::new();
        static THERE: AtomicU32 = AtomicU32::new(0);
        run(|| {
            let write = || {
                let both = || {
                    // Relaxed: they meet, and nothing is ordered by it.
                    THERE.fetch_add(1, Relaxed);
                    while THERE.load(Relaxed) < 2 {
                        std::hint::spin_loop();
                    }
                    PLACE.write();
                };
                spawn(both).join().unwrap();
            };
            let other = machine::spawn("other", write)?;
            write();
            other.join().map_err(io::Error::from)
        });
    });
    assert_told(&output, &["data race", "sanitize::Place>::write"]);
}

/// Everything that moves between stacks, and nothing wrong with it.
#[test]
fn what_is_right_is_not_told() {
    static PLACE: Place = Place::new();
    let output = in_child("what_is_right_is_not_told", || {
        run(|| {
            let (go, goes) = bounded::<()>(1);
            let other = machine::spawn("other", move || {
                goes.recv().unwrap();
                PLACE.write();
            })?;
            PLACE.write();
            go.send(()).unwrap();
            other.join()?;
            for round in 0..20 {
                let coroutines: Vec<_> = (0..50).map(|number| spawn(move || wander(round, number))).collect();
                for coroutine in coroutines {
                    coroutine.join()?;
                }
            }
            Ok(())
        });
    });
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    for word in ["Sanitizer", "ASan", "client switching stacks"] {
        assert!(!said.contains(word), "{said}");
    }
}

/// Deep frames, a big stack, panics over both, and switches in all of them.
fn wander(round: u64, number: u64) {
    fn descend(depth: u64) -> u64 {
        let frame = black_box([depth; 64]);
        if depth == 0 {
            yield_now();
            return 0;
        }
        descend(depth - 1) + frame[63]
    }
    assert_eq!(descend(number), number * (number + 1) / 2);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        on_big_stack(|| {
            descend(100 + round);
            std::panic::resume_unwind(Box::new(number));
        })
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&number));
    yield_now();
}
