//! The tiny lock: one thread at a time is inside, and sees what the one before has done there.
//!
//! `weaken` names for each model the line whose change makes it fail.

use loom::thread;
use loom_tests::check_all;
use loom_tests::lock::Lock;
use loom_tests::primitive::Arc;

/// Two threads come again and again: what each does inside is whole, and none of it is lost.
#[test]
fn two_are_not_inside_at_once() {
    check_all(|| {
        let lock = Arc::new(Lock::new((0, 0)));
        let add = |lock: &Lock<(u32, u32)>| {
            lock.with(|(left, right)| {
                assert_eq!(left, right, "another was half-way");
                *left += 1;
                *right += 1;
            });
        };
        let theirs = lock.clone();
        let other = thread::spawn(move || (0..2).for_each(|_| add(&theirs)));
        (0..2).for_each(|_| add(&lock));
        other.join().unwrap();
        assert_eq!(lock.with(|sums| *sums), (4, 4));
    });
}
