//! Memory that threads give back: each block is one's at a time, none is lost, and none is kept by a store that is closed.
//!
//! `weaken` names for each model the line whose change makes it fail.

use loom::thread;
use loom_tests::check_all;
use loom_tests::primitive::Arc;
use loom_tests::store::{Counts, Limits, Store};

fn open(watermark: usize) -> Arc<Store> {
    let store = Arc::new(Store::default());
    store.open(Limits { least: 8, greatest: 8, watermark });
    store
}

/// The counts add up, and nothing is in use.
fn at_rest(store: &Store) -> Counts {
    let counts = store.counts();
    assert_eq!((counts.taken, counts.used_bytes), (counts.returned, 0));
    assert_eq!((counts.allocated, counts.cached_bytes), (counts.freed + counts.cached, 8 * counts.cached));
    counts
}

/// Another thread gives back the last buffer of a machine that ends: one of them frees it.
#[test]
fn giving_back_meets_the_end() {
    check_all(|| {
        let store = open(100);
        let block = store.take(8);
        let theirs = store.clone();
        let thread = thread::spawn(move || theirs.give(block));
        store.close();
        thread.join().unwrap();
        let Counts { freed, cached, .. } = at_rest(&store);
        assert_eq!((freed, cached), (1, 0));
    });
}

/// Two threads give back to a store with room for one.
#[test]
fn the_watermark_holds_for_all_together() {
    check_all(|| {
        let store = open(8);
        let (one, other) = (store.take(8), store.take(8));
        let theirs = store.clone();
        let thread = thread::spawn(move || theirs.give(other));
        store.give(one);
        thread.join().unwrap();
        let Counts { freed, cached, .. } = at_rest(&store);
        assert_eq!((freed, cached), (1, 1));
    });
}

/// A machine takes while another thread gives back: it gets that block, whole, or a new one.
#[test]
fn giving_back_meets_taking() {
    check_all(|| {
        let store = open(100);
        let mut block = store.take(8);
        let theirs = store.clone();
        let thread = thread::spawn(move || {
            block.fill(7);
            theirs.give(block);
        });
        let taken = store.take(8);
        assert!(taken.iter().all(|byte| *byte == taken[0]));
        let reused = taken[0] == 7;
        store.give(taken);
        thread.join().unwrap();
        let Counts { allocated, cached, .. } = at_rest(&store);
        assert_eq!((allocated, cached), if reused { (1, 1) } else { (2, 2) });
    });
}
