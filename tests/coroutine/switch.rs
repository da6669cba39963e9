//! What must survive a switch: registers, deep stacks, panics, many others in between.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use machinarium::coroutine::{self, Context, Header, StackOptions, Stacks};

use crate::strand::{Strand, Yielder};

pub fn pool() -> Rc<Stacks> {
    Rc::new(Stacks::new(StackOptions::default()).unwrap())
}

#[test]
fn runs_and_comes_back() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let inner = log.clone();
    let strand = Strand::new(&pool(), move |yielder| {
        inner.borrow_mut().push("in");
        yielder.pause();
        inner.borrow_mut().push("in again");
    });
    assert!(strand.resume());
    log.borrow_mut().push("out");
    assert!(!strand.resume());
    assert_eq!(*log.borrow(), ["in", "out", "in again"]);
}

/// Each member hands over to the next one without a way back in between.
#[test]
fn a_ring_passes_a_token() {
    const MEMBERS: usize = 64;
    const ROUNDS: usize = 1000;

    struct Ring {
        contexts: Vec<*mut Context>,
        root: *mut Context,
        running: Cell<usize>,
        steps: Cell<usize>,
        visits: Vec<Cell<usize>>,
    }
    unsafe extern "C" fn member(ring: *mut u8) -> ! {
        // SAFETY: the test keeps the ring until all is over.
        let ring = unsafe { &*ring.cast::<Ring>() };
        let me = ring.running.get();
        loop {
            ring.visits[me].set(ring.visits[me].get() + 1);
            ring.steps.set(ring.steps.get() + 1);
            if ring.steps.get() == MEMBERS * ROUNDS {
                // SAFETY: the root waits in its switch.
                unsafe { coroutine::leave(ring.root) };
            }
            let next = (me + 1) % MEMBERS;
            ring.running.set(next);
            // SAFETY: the next member is prepared or suspended here.
            unsafe { coroutine::switch(ring.contexts[me], ring.contexts[next]) };
            assert_eq!(ring.running.get(), me);
        }
    }

    let stacks = pool();
    let members: Vec<*mut Header> = (0..MEMBERS).map(|_| stacks.allocate().unwrap().into_raw()).collect();
    let mut root = Context::default();
    let ring = Ring {
        // SAFETY: of live stacks.
        contexts: members.iter().map(|header| unsafe { &raw mut (**header).context }).collect(),
        root: &raw mut root,
        running: Cell::new(0),
        steps: Cell::new(0),
        visits: (0..MEMBERS).map(|_| Cell::new(0)).collect(),
    };
    for (header, context) in members.iter().zip(&ring.contexts) {
        let argument = (&raw const ring).cast_mut().cast();
        // SAFETY: stacks that nothing uses.
        unsafe { coroutine::prepare(*context, header.cast(), member, argument) };
    }
    // SAFETY: prepared.
    unsafe { coroutine::switch(ring.root, ring.contexts[0]) };
    assert!(ring.visits.iter().all(|visits| visits.get() == ROUNDS));
}

/// Values live in every general register, and in those for floating point, across a switch to code that uses them all.
#[test]
fn registers_are_kept() {
    #[inline(never)]
    fn mix(yielder: &Yielder, seed: u64) -> (u64, f64) {
        let mut integers: [u64; 16] = std::array::from_fn(|i| black_box(seed.wrapping_mul(i as u64 + 3)));
        let mut floats: [f64; 16] = std::array::from_fn(|i| black_box(seed as f64 + i as f64));
        for _ in 0..10 {
            for i in 0..16 {
                integers[i] = integers[i].rotate_left(5) ^ integers[(i + 1) % 16];
                floats[i] += floats[(i + 7) % 16] * 0.5;
            }
            yielder.pause();
        }
        (integers.iter().fold(0, |a, b| a.wrapping_add(*b)), floats.iter().sum())
    }

    let stacks = pool();
    let alone: Vec<_> = (0..8).map(|seed| run_in_turn(&stacks, &[seed])[0]).collect();
    let together = run_in_turn(&stacks, &(0..8).collect::<Vec<_>>());
    assert_eq!(alone, together);

    fn run_in_turn(stacks: &Rc<Stacks>, seeds: &[u64]) -> Vec<(u64, f64)> {
        let results: Rc<Vec<Cell<(u64, f64)>>> = Rc::new(seeds.iter().map(|_| Cell::new((0, 0.0))).collect());
        let mut strands: Vec<Strand> = Vec::new();
        for (place, seed) in seeds.iter().copied().enumerate() {
            let results = results.clone();
            strands.push(Strand::new(stacks, move |yielder| results[place].set(mix(yielder, seed))));
        }
        while !strands.is_empty() {
            strands.retain(|strand| strand.resume());
        }
        results.iter().map(Cell::get).collect()
    }
}

/// Two registers the switch saves by hand (rbx and rbp, x19 and x29): each side calls it with values of its own in them.
#[test]
fn registers_that_are_no_clobbers_are_kept() {
    extern "C" fn pause(yielder: &Yielder) {
        yielder.pause();
    }
    extern "C" fn resume(strand: &Strand) {
        assert!(strand.resume());
    }
    /// Calls `function(argument)` with these values in the two registers, and gives what is in them afterwards.
    fn call_with<T>(function: extern "C" fn(&T), argument: &T, first: u64, second: u64) -> (u64, u64) {
        let (mut first, mut second) = (first, second);
        // SAFETY: both registers are put back; the stack is aligned for the call, since two words are pushed.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::asm!(
                "push rbx", "push rbp", "mov rbx, r12", "mov rbp, r13", "call rax", "mov r12, rbx", "mov r13, rbp",
                "pop rbp", "pop rbx",
                in("rax") function, in("rdi") argument, inout("r12") first, inout("r13") second, clobber_abi("C"),
            );
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            std::arch::asm!(
                "stp x19, x29, [sp, #-16]!", "mov x19, x20", "mov x29, x21", "blr x8", "mov x20, x19", "mov x21, x29",
                "ldp x19, x29, [sp], #16",
                in("x8") function, in("x0") argument, inout("x20") first, inout("x21") second, clobber_abi("C"),
            );
        }
        (first, second)
    }
    let strand = Strand::new(&pool(), |yielder| {
        for round in 0..100 {
            assert_eq!(call_with(pause, yielder, round, !round), (round, !round));
        }
        yielder.pause();
    });
    for round in 0..100 {
        let (first, second) = (round + 1000, !round << 20);
        assert_eq!(call_with(resume, &strand, first, second), (first, second));
    }
    assert!(strand.resume());
    assert!(!strand.resume());
}

#[test]
fn deep_recursion_uses_the_whole_stack() {
    #[inline(never)]
    fn descend(yielder: &Yielder, low: usize, depth: usize) -> usize {
        let frame = black_box([depth as u8; 512]);
        // 32 KiB are left for the frames of a debug build.
        if (&raw const frame as usize) < low + (32 << 10) {
            yielder.pause();
            return depth;
        }
        let deepest = descend(yielder, low, depth + 1);
        assert!(frame.iter().all(|byte| *byte == depth as u8), "the frame at depth {depth}");
        deepest
    }
    let stacks = pool();
    let strands: Vec<Strand> = (0..4)
        .map(|_| {
            let low = Rc::new(Cell::new(0));
            let bound = low.clone();
            let strand = Strand::new(&stacks, move |yielder| {
                assert!(descend(yielder, bound.get(), 0) > 100);
            });
            // SAFETY: a live stack's header.
            low.set(unsafe { (*strand.header()).low });
            strand
        })
        .collect();
    assert!(strands.iter().all(Strand::resume));
    assert!(strands.iter().all(|strand| !strand.resume()));
}

#[test]
fn a_panic_is_caught_inside() {
    let caught = Rc::new(Cell::new(0));
    let count = caught.clone();
    let strand = Strand::new(&pool(), move |yielder| {
        for round in 0..3 {
            let panic = catch_unwind(AssertUnwindSafe(|| {
                yielder.pause();
                std::panic::resume_unwind(Box::new(round));
            }));
            assert_eq!(*panic.unwrap_err().downcast::<i32>().unwrap(), round);
            count.set(count.get() + 1);
        }
    });
    while strand.resume() {}
    assert_eq!(caught.get(), 3);
}

/// A destructor on a suspended stack runs when the unwinding that began there passes it.
#[test]
fn an_unwinding_passes_frames_that_were_suspended() {
    struct Count(Rc<Cell<u32>>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    #[inline(never)]
    fn descend(yielder: &Yielder, dropped: &Rc<Cell<u32>>, depth: u32) {
        let _count = Count(dropped.clone());
        if depth > 0 {
            return descend(yielder, dropped, depth - 1);
        }
        yielder.pause();
        std::panic::resume_unwind(Box::new(()));
    }
    let dropped = Rc::new(Cell::new(0));
    let inner = dropped.clone();
    let strand = Strand::new(&pool(), move |yielder| {
        assert!(catch_unwind(AssertUnwindSafe(|| descend(yielder, &inner, 20))).is_err());
    });
    assert!(strand.resume());
    assert_eq!(dropped.get(), 0);
    assert!(!strand.resume());
    assert_eq!(dropped.get(), 21);
}

#[test]
fn names_are_cut_at_a_character() {
    let stack = pool().allocate();
    // The pool is gone, its stack is live, so its memory stays.
    let stack = stack.unwrap();
    // SAFETY: a live stack.
    let header = unsafe { &mut *stack.header() };
    assert_eq!(header.name(), "");
    header.set_name("short");
    assert_eq!(header.name(), "short");
    header.set_name(&"é".repeat(60));
    assert_eq!(header.name(), "é".repeat(33));
}
