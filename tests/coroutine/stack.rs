//! Pools: what is reused and in which order, what costs memory, where guards are, and how each limit is told.

use std::rc::Rc;

use machinarium::coroutine::{Guards, Header, Spares, Stack, StackError, StackOptions, Stacks};

use crate::child::{assert_success, in_child};
use crate::strand::Strand;

const PAGE: usize = 4096;

fn pool(change: impl FnOnce(&mut StackOptions)) -> Stacks {
    let mut options = StackOptions::default();
    change(&mut options);
    Stacks::new(options).unwrap()
}

fn release(stacks: &Stacks, stack: Stack) {
    // SAFETY: these tests run nothing on their stacks.
    unsafe { stacks.release(stack) }
}

fn bounds(stack: &Stack) -> (usize, usize) {
    // SAFETY: a live stack.
    unsafe { ((*stack.header()).low, (*stack.header()).high) }
}

/// Whether the kernel, asked to read there, faults. (It reads an empty set of signals to block.)
fn faults(address: usize) -> bool {
    let place = address / 8 * 8;
    // SAFETY: a read of 8 bytes by the kernel, which checks them.
    let answer = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, place, 0, 8) };
    answer == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

fn resident_pages(low: usize, high: usize) -> usize {
    let mut pages = vec![0u8; (high - low) / PAGE];
    // SAFETY: one byte for each page.
    let answer = unsafe { libc::mincore(low as *mut _, high - low, pages.as_mut_ptr()) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    pages.iter().filter(|page| **page & 1 != 0).count()
}

fn is_mapped(address: usize) -> bool {
    let mut page = 0u8;
    // SAFETY: one page, one byte.
    unsafe { libc::mincore((address / PAGE * PAGE) as *mut _, PAGE, &raw mut page) == 0 }
}

fn lines_of_maps() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

#[test]
fn a_slab_goes_to_the_next_pool_that_wants_one_like_it() {
    let spares = Rc::new(Spares::default());
    let pool = |size| {
        let control = size_of::<Header>() + 64;
        let options = StackOptions { size, control, ..StackOptions::default() };
        Stacks::with_spares(options, Some(spares.clone())).unwrap()
    };
    let use_one = |stacks: &Stacks| {
        let stack = stacks.allocate().unwrap();
        let (low, high) = bounds(&stack);
        assert!(faults(low - 8) && !faults(low));
        assert_eq!(stack.index(), 0);
        // SAFETY: the last byte of the control block of a live stack, and the lowest one of the stack, on which nothing runs.
        unsafe {
            let last = stack.header().cast::<u8>().add(size_of::<Header>() + 63);
            assert_eq!(last.read(), 0, "a control block begins as zeroes");
            last.write(1);
            (low as *mut u8).write(1);
        }
        release(stacks, stack);
        high
    };
    let (first, other) = (use_one(&pool(256 << 10)), use_one(&pool(128 << 10)));
    let (here, second) = (pool(256 << 10), pool(256 << 10));
    assert_eq!(use_one(&here), first);
    assert_ne!(use_one(&second), first, "that one is in use");
    assert_eq!(use_one(&pool(128 << 10)), other);
    let _live = here.allocate().unwrap();
    drop(here);
    assert_ne!(use_one(&pool(256 << 10)), first, "a stack there is still live");
}

#[test]
fn headers_are_filled_in() {
    let stacks = pool(|_| ());
    for number in 0..100 {
        let stack = stacks.allocate().unwrap();
        let (low, high) = bounds(&stack);
        assert_eq!(stack.index(), number);
        assert_eq!(high - low, 256 << 10);
        assert!((low..high).contains(&(stack.top() as usize)));
        assert!((stack.top() as usize).is_multiple_of(64));
        // SAFETY: a live stack.
        unsafe { assert_eq!(((*stack.header()).id, (*stack.header()).name()), (0, "")) };
    }
    assert_eq!(stacks.live(), 100);
}

#[test]
fn the_last_one_released_is_the_first_one_reused() {
    let stacks = pool(|_| ());
    let all: Vec<Stack> = (0..40).map(|_| stacks.allocate().unwrap()).collect();
    let released: Vec<*mut Header> = all.iter().map(Stack::header).collect();
    all.into_iter().for_each(|stack| release(&stacks, stack));
    assert_eq!((stacks.live(), stacks.cached()), (0, 40));
    for header in released.into_iter().rev() {
        assert_eq!(stacks.allocate().unwrap().header(), header);
    }
}

#[test]
fn a_raw_stack_is_the_same_stack() {
    let stacks = pool(|_| ());
    let stack = stacks.allocate().unwrap();
    let header = stack.header();
    // SAFETY: from `into_raw`, once.
    let again = unsafe { Stack::from_raw(stack.into_raw()) };
    assert_eq!(again.header(), header);
    release(&stacks, again);
    assert_eq!(stacks.live(), 0);
}

/// Neighbours use different lines of the cache, and all stay within the top page with room for frames below.
#[test]
fn tops_are_coloured() {
    let stacks = pool(|options| options.control = 320);
    let mut places = Vec::new();
    for _ in 0..100 {
        let stack = stacks.allocate().unwrap();
        let (_, high) = bounds(&stack);
        let below_end = high - stack.top() as usize;
        assert!((320..=PAGE - 2048).contains(&below_end), "{below_end}");
        places.push(below_end);
    }
    assert!(places.windows(2).all(|pair| pair[0] != pair[1]));
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), (4096 - 2048 - 320) / 64);
}

/// A control block of several pages leaves no room for colours, and still fits.
#[test]
fn a_large_control_block_fits() {
    let stacks = pool(|options| (options.control, options.size) = (3 * PAGE + 8, 6 * PAGE));
    let stack = stacks.allocate().unwrap();
    let (_, high) = bounds(&stack);
    assert_eq!(high - stack.top() as usize, 3 * PAGE + 64);
}

#[test]
fn an_idle_coroutine_costs_one_page() {
    let stacks = Rc::new(pool(|options| options.control = 320));
    let strands: Vec<Strand> = (0..64).map(|_| Strand::new(&stacks, |yielder| yielder.pause())).collect();
    for strand in &strands {
        assert!(strand.resume());
        // SAFETY: a live stack.
        let (low, high) = unsafe { ((*strand.header()).low, (*strand.header()).high) };
        assert_eq!(resident_pages(low, high), 1);
    }
    assert!(strands.iter().all(|strand| !strand.resume()));
}

#[test]
fn trimming_keeps_what_is_in_use() {
    let stacks = pool(|_| ());
    let stack = stacks.allocate().unwrap();
    let (low, high) = bounds(&stack);
    for page in (low..stack.top() as usize - PAGE).step_by(PAGE) {
        // SAFETY: a stack that nothing uses.
        unsafe { (page as *mut u8).write(7) };
    }
    assert_eq!(resident_pages(low, high), 64);
    let used = high - 10 * PAGE;
    // SAFETY: a live stack on which nothing runs.
    unsafe { stacks.trim(&*stack.header(), used) };
    // The red zone below `used` needs the eleventh page.
    assert_eq!(resident_pages(low, high), 11);
    // SAFETY: a stack that nothing uses.
    assert_eq!(unsafe { (used as *const u8).read() }, 7);
    // SAFETY: as before.
    unsafe { stacks.trim(&*stack.header(), low) };
    assert_eq!(resident_pages(low, high), 11);
    assert!(faults(low - 8), "the guard survives");
}

#[test]
fn beyond_the_cache_pages_go_back_and_guards_stay() {
    let stacks = pool(|options| options.cache = 2);
    let all: Vec<Stack> = (0..5).map(|_| stacks.allocate().unwrap()).collect();
    let places: Vec<(usize, usize)> = all.iter().map(bounds).collect();
    all.into_iter().for_each(|stack| release(&stacks, stack));
    assert_eq!(stacks.cached(), 2);
    let resident: Vec<usize> = places.iter().map(|(low, high)| resident_pages(*low, *high)).collect();
    assert_eq!(resident, [1, 1, 0, 0, 0]);
    assert!(places.iter().all(|(low, _)| faults(low - 8)));
    // First the warm ones, then the cold ones, each as new.
    let indices: Vec<u32> = (0..6).map(|_| stacks.allocate().unwrap().index()).collect();
    assert_eq!(indices, [1, 0, 4, 3, 2, 5]);
}

/// What was used deep and released goes back at the next sweep, and is not looked at again until it was used.
#[test]
fn a_sweep_gives_back_what_lies_deep_in_unused_stacks() {
    let stacks = pool(|options| options.keep = 2 * PAGE);
    let all: Vec<Stack> = (0..3).map(|_| stacks.allocate().unwrap()).collect();
    let places: Vec<(usize, usize)> = all.iter().map(bounds).collect();
    let dirty = |stack: &Stack| {
        for page in (bounds(stack).0..stack.top() as usize - PAGE).step_by(PAGE) {
            // SAFETY: a stack that nothing uses.
            unsafe { (page as *mut u8).write(7) };
        }
    };
    all.iter().for_each(dirty);
    all.into_iter().for_each(|stack| release(&stacks, stack));
    let resident = || places.iter().map(|(low, high)| resident_pages(*low, *high)).collect::<Vec<_>>();
    assert_eq!((stacks.unswept(), resident()), (3, vec![64, 64, 64]));
    stacks.sweep();
    assert_eq!((stacks.unswept(), resident()), (0, vec![2, 2, 2]));
    let again = stacks.allocate().unwrap();
    dirty(&again);
    release(&stacks, again);
    assert_eq!(stacks.unswept(), 1);
    stacks.sweep();
    assert_eq!(resident(), [2, 2, 2]);
    assert!(places.iter().all(|(low, _)| faults(low - 8)), "guards survive");
}

#[test]
fn every_stack_has_a_guard_of_full_length() {
    for force_mprotect in [false, true] {
        let stacks = pool(|options| options.force_mprotect = force_mprotect);
        for _ in 0..50 {
            let stack = stacks.allocate().unwrap();
            let (low, _) = bounds(&stack);
            assert!(!faults(low));
            for page in 1..=16 {
                assert!(faults(low - page * PAGE) && faults(low - page * PAGE + PAGE - 8), "page {page}");
            }
        }
        assert_eq!(stacks.unguarded(), 0);
    }
}

#[test]
fn the_limit_is_an_error() {
    let stacks = pool(|options| options.limit = 3);
    let mut all: Vec<Stack> = (0..3).map(|_| stacks.allocate().unwrap()).collect();
    let error = stacks.allocate().unwrap_err();
    assert!(matches!(error, StackError::Limit { limit: 3 }), "{error:?}");
    assert!(error.to_string().contains("all 3 stacks are in use"));
    release(&stacks, all.pop().unwrap());
    assert_eq!(stacks.allocate().unwrap().index(), 2);
}

#[test]
fn impossible_options_are_an_error() {
    let impossible: [fn(&mut StackOptions); 7] = [
        |options| options.size = 10_000,
        |options| options.size = PAGE,
        |options| options.size = 1 << 50,
        |options| options.guard = 0,
        |options| options.guard = 100,
        |options| options.control = 64,
        |options| options.slab = 0,
    ];
    for change in impossible {
        let mut options = StackOptions::default();
        change(&mut options);
        assert!(matches!(Stacks::new(options), Err(StackError::Options(_))), "{options:?}");
    }
}

/// 2^38 bytes each are soon more than the address space has.
#[test]
fn no_address_space_is_an_error() {
    let stacks = pool(|options| (options.size, options.slab) = (1 << 38, 1024));
    let error = loop {
        match stacks.allocate() {
            Ok(_) => (),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StackError::Map(_)), "{error:?}");
}

#[test]
fn a_small_program_maps_little() {
    let stacks = pool(|_| ());
    let stack = stacks.allocate().unwrap();
    let end = bounds(&stack).0 + 16 * (320 << 10);
    drop(stack);
    let mut all: Vec<usize> = (0..15).map(|_| bounds(&stacks.allocate().unwrap()).0).collect();
    assert!(all.iter().all(|low| *low < end), "sixteen slots in the first mapping");
    all.push(bounds(&stacks.allocate().unwrap()).0);
}

#[test]
fn a_pool_is_unmapped_unless_a_stack_is_live() {
    let name = "stack::a_pool_is_unmapped_unless_a_stack_is_live";
    assert_success(&in_child(name, || {
        let (unused, in_use) = (pool(|_| ()), pool(|_| ()));
        let (first, second) = (unused.allocate().unwrap(), in_use.allocate().unwrap());
        let (first_low, second_low) = (bounds(&first).0, bounds(&second).0);
        release(&unused, first);
        drop(unused);
        drop(in_use);
        assert!(!is_mapped(first_low));
        assert!(is_mapped(second_low) && !faults(second_low));
    }));
}

/// Past the end of mprotect's guards (near 32,000), in few mappings.
#[test]
fn a_hundred_thousand_stacks() {
    let output = in_child("stack::a_hundred_thousand_stacks", || {
        let stacks = pool(|options| options.size = 64 << 10);
        let before = lines_of_maps();
        let mut last = None;
        for _ in 0..100_000 {
            match stacks.allocate() {
                Ok(stack) => last = Some(stack),
                Err(StackError::Guard { made, .. }) if made > 20_000 => {
                    return println!("skipped: this kernel has no MADV_GUARD_INSTALL");
                }
                Err(error) => panic!("{error}"),
            }
        }
        let (low, _) = bounds(&last.unwrap());
        assert!(faults(low - 8));
        assert_eq!(stacks.live(), 100_000);
        let lines = lines_of_maps() - before;
        assert!(lines < 200, "{lines} mappings");
    });
    assert_success(&output);
}

/// The guards by mprotect end before all mappings are used: an error, or stacks without guards, and the process lives on.
#[test]
#[allow(clippy::disallowed_methods)] // a thread of the OS needs mappings
fn guards_by_mprotect_end_with_an_error() {
    let output = in_child("stack::guards_by_mprotect_end_with_an_error", || {
        let stacks = pool(|options| options.force_mprotect = true);
        let error = loop {
            match stacks.allocate() {
                Ok(_) if stacks.live() > 60_000 => {
                    return println!("skipped: vm.max_map_count is large here");
                }
                Ok(_) => (),
                Err(error) => break error,
            }
        };
        let StackError::Guard { made, max_map_count, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*made, stacks.live());
        assert!((max_map_count / 3..max_map_count / 2).contains(made), "{made} of {max_map_count}");
        assert!(error.to_string().contains("sysctl vm.max_map_count"), "{error}");
        std::thread::spawn(|| ()).join().unwrap();

        let others = pool(|options| (options.force_mprotect, options.guards) = (true, Guards::BestEffort));
        let unguarded: Vec<usize> = (0..100).map(|_| bounds(&others.allocate().unwrap()).0).collect();
        assert_eq!(others.unguarded(), 100);
        assert!(unguarded.iter().all(|low| !faults(low - 8)));
    });
    assert_success(&output);
}

/// What a pool gives back, another one may have.
#[test]
fn guards_by_mprotect_are_given_back() {
    assert_success(&in_child("stack::guards_by_mprotect_are_given_back", || {
        for _ in 0..4 {
            let stacks = pool(|options| options.force_mprotect = true);
            let all: Vec<Stack> = (0..10_000).map(|_| stacks.allocate().unwrap()).collect();
            all.into_iter().for_each(|stack| release(&stacks, stack));
        }
    }));
}
