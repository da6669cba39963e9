//! An overflow says which coroutine, where its stack is and what it was doing, and aborts; other faults are not ours.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use machinarium::coroutine::overflow::{AltStack, install};
use machinarium::coroutine::{StackOptions, Stacks};
use machinarium_sim::Simulation;

use crate::child::{in_child, said};
use crate::strand::Strand;
use crate::switch::pool;

/// The system's allocator; when told so, one whose lock is never free.
struct Allocator;

static HANG: AtomicBool = AtomicBool::new(false);

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: all is the system allocator's.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        while HANG.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[inline(never)]
#[allow(unconditional_recursion)]
fn recurse_without_end(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    recurse_without_end(depth + 1) + frame[3]
}

fn ignore(value: u64) {
    black_box(value);
}

/// Runs `closure` as coroutine 7, after another one.
fn run_as_seven(stacks: &Rc<Stacks>, name: &str, closure: impl FnOnce() + 'static) {
    install();
    let _alternate = AltStack::new();
    let other = Strand::new(stacks, |yielder| yielder.pause());
    let strand = Strand::new(stacks, |_| closure());
    // SAFETY: a live stack.
    unsafe {
        (*other.header()).id = 6;
        (*strand.header()).id = 7;
        (*strand.header()).set_name(name);
    }
    assert!(other.resume());
    strand.resume();
    unreachable!("the child has overflowed");
}

fn assert_aborted(output: &Output, words: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{said}");
    for word in words {
        assert!(said.contains(word), "no '{word}' in: {said}");
    }
}

const RECURSION: [&str; 5] = [
    "coroutine 7 'deep' overflowed its stack of 256 KiB [0x",
    "make stacks larger",
    "recurse_without_end",
    "handler",
    " 20: ",
];

#[test]
fn recursion_is_reported() {
    let output = in_child("overflow::recursion_is_reported", || {
        run_as_seven(&pool(), "deep", || ignore(recurse_without_end(0)));
    });
    assert_aborted(&output, &RECURSION);
    assert!(said(&output).lines().count() < 150, "an overflow's whole backtrace has thousands of lines");
}

#[test]
fn recursion_is_reported_with_guards_by_mprotect() {
    let output = in_child("overflow::recursion_is_reported_with_guards_by_mprotect", || {
        let stacks = Stacks::new(StackOptions { force_mprotect: true, ..StackOptions::default() }).unwrap();
        run_as_seven(&Rc::new(stacks), "deep", || ignore(recurse_without_end(0)));
    });
    assert_aborted(&output, &RECURSION);
}

/// On a thread that std did not make, nor gave an alternate stack.
#[test]
fn recursion_is_reported_on_a_foreign_thread() {
    extern "C" fn thread(_: *mut libc::c_void) -> *mut libc::c_void {
        run_as_seven(&pool(), "deep", || ignore(recurse_without_end(0)));
        unreachable!();
    }
    let output = in_child("overflow::recursion_is_reported_on_a_foreign_thread", || {
        let mut id = 0;
        // SAFETY: a thread that takes nothing.
        unsafe {
            libc::pthread_create(&mut id, std::ptr::null(), thread, std::ptr::null_mut());
            libc::pthread_join(id, std::ptr::null_mut());
        }
    });
    assert_aborted(&output, &RECURSION);
}

/// Simulated machines share an OS thread, and end in any order.
#[test]
fn recursion_is_reported_when_other_machines_of_the_thread_have_ended() {
    let test = "overflow::recursion_is_reported_when_other_machines_of_the_thread_have_ended";
    let output = in_child(test, || {
        let outcome = Simulation::new(1).run(|world| {
            let sleeper = |name: &str, secs| world.host(name).run(move || machinarium::run(|| sleep(secs)));
            let (_first, _second) = (sleeper("first", 1), sleeper("second", 2));
            let third = world.host("third").run(|| {
                machinarium::run(|| {
                    sleep(3)?;
                    ignore(recurse_without_end(0));
                    std::io::Result::Ok(())
                })
            });
            world.join(&third);
        });
        unreachable!("it has overflowed: {:?}", outcome.failure);
    });
    assert_aborted(&output, &["overflowed its stack", "recurse_without_end"]);
}

fn sleep(secs: u64) -> std::io::Result<()> {
    Ok(machinarium::sleep(Duration::from_secs(secs))?)
}

/// C code does not touch each page of a large frame: the first touch may be its far end. This one has no unwind
/// information either, so that the backtrace goes astray: that is no harm.
#[test]
fn a_large_frame_hits_the_guard() {
    let output = in_child("overflow::a_large_frame_hits_the_guard", || {
        run_as_seven(&pool(), "C", || {
            // SAFETY: faults.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                std::arch::asm!("sub rsp, 300 * 1024", "mov byte ptr [rsp], 1", "ud2");
            }
            // SAFETY: faults.
            #[cfg(target_arch = "aarch64")]
            unsafe {
                std::arch::asm!("sub sp, sp, 75, lsl 12", "strb wzr, [sp]", "brk 1");
            }
        });
    });
    // On aarch64 its caller is found all the same, by the frame pointer.
    let end = if cfg!(target_arch = "aarch64") { "::base" } else { "it met broken memory" };
    assert_aborted(&output, &["coroutine 7 'C' overflowed its stack of 256 KiB", end]);
}

/// The neighbour's guard, hit by a pointer from here: who overflowed is not known, and not said.
#[test]
fn a_stray_pointer_into_a_guard_is_not_called_an_overflow() {
    let output = in_child("overflow::a_stray_pointer_into_a_guard_is_not_called_an_overflow", || {
        let stacks = pool();
        let victim = stacks.allocate().unwrap();
        // SAFETY: a live stack.
        let guard = unsafe {
            (*victim.header()).id = 3;
            (*victim.header()).low - 16
        };
        run_as_seven(&stacks, "stray", move || {
            // SAFETY: faults.
            unsafe { (black_box(guard) as *mut u8).write_volatile(1) };
        });
    });
    assert_aborted(&output, &["the guard below the stack of coroutine 3", "by a stray pointer"]);
    assert!(!said(&output).contains("overflowed"));
}

/// The overflow happened with the allocator's lock taken: what is certain is printed, and then it ends all the same.
#[test]
fn a_backtrace_that_hangs_is_given_up() {
    let output = in_child("overflow::a_backtrace_that_hangs_is_given_up", || {
        run_as_seven(&pool(), "deep", || {
            HANG.store(true, Ordering::Relaxed);
            black_box(recurse_without_end(0));
        });
    });
    assert_aborted(
        &output,
        &["coroutine 7 'deep' overflowed its stack", "no more of the backtrace: it took too long"],
    );
}

#[test]
fn other_faults_are_left_to_std() {
    let output = in_child("overflow::other_faults_are_left_to_std", || {
        run_as_seven(&pool(), "null", || {
            // SAFETY: faults.
            unsafe { black_box(std::ptr::without_provenance_mut::<u8>(8)).write_volatile(1) };
        });
    });
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{}", said(&output));
    assert!(!said(&output).contains("coroutine 7"));
}

/// Installs this handler, then ours, and faults at address 8.
fn fault_after(handler: usize, flags: libc::c_int) {
    // SAFETY: the handlers have the types that the flags ask for; then faults.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (action.sa_sigaction, action.sa_flags) = (handler, flags);
        libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut());
        install();
        black_box(std::ptr::without_provenance_mut::<u8>(8)).write_volatile(1);
    }
}

#[test]
fn other_faults_go_to_the_handler_before() {
    extern "C" fn handler(_: libc::c_int) {
        // SAFETY: async-signal-safe.
        unsafe { libc::_exit(41) };
    }
    let output = in_child("overflow::other_faults_go_to_the_handler_before", || {
        fault_after(handler as *const () as usize, 0);
    });
    assert_eq!(output.status.code(), Some(41), "{}", said(&output));
}

#[test]
fn other_faults_go_to_the_handler_before_with_their_address() {
    extern "C" fn handler(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel's siginfo; `_exit` is async-signal-safe.
        unsafe { libc::_exit((*info).si_addr() as libc::c_int) };
    }
    let output = in_child("overflow::other_faults_go_to_the_handler_before_with_their_address", || {
        fault_after(handler as *const () as usize, libc::SA_SIGINFO);
    });
    assert_eq!(output.status.code(), Some(8), "{}", said(&output));
}

/// std's own report of a thread's overflow still works with our handler before it.
#[test]
#[allow(clippy::disallowed_methods)] // a thread of the OS is what overflows
fn a_thread_of_std_overflows_as_ever() {
    let output = in_child("overflow::a_thread_of_std_overflows_as_ever", || {
        install();
        std::thread::spawn(|| black_box(recurse_without_end(0))).join().unwrap();
    });
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
    assert!(said(&output).contains("has overflowed its stack"), "{}", said(&output));
    assert!(!said(&output).contains("coroutine"));
}

#[test]
#[allow(clippy::disallowed_methods)] // a thread of the OS has an alternate stack
fn the_alternate_stack_is_put_back() {
    fn current() -> (usize, usize) {
        // SAFETY: only asks.
        unsafe {
            let mut stack: libc::stack_t = std::mem::zeroed();
            assert_eq!(libc::sigaltstack(std::ptr::null(), &mut stack), 0);
            (stack.ss_sp as usize, stack.ss_size)
        }
    }
    std::thread::spawn(|| {
        let before = current();
        let alternate = AltStack::new();
        assert!(current().1 >= 64 << 10);
        drop(alternate);
        assert_eq!(current(), before);
    })
    .join()
    .unwrap();
}
