//! Durations that one thread counts and others read.
//!
//! `weaken` names for each model the line whose change makes it fail.

use loom::thread;
use loom_tests::check_all;
use loom_tests::histogram::Histogram;
use loom_tests::primitive::Arc;

/// One thread counts two of a kind while another looks twice: nothing is lost, and no number that is seen goes back.
#[test]
fn a_reader_meets_whoever_counts() {
    check_all(|| {
        let histogram = Arc::new(Histogram::default());
        let theirs = histogram.clone();
        let counting = thread::spawn(move || {
            theirs.add(100);
            theirs.add(28);
        });
        let first = histogram.get();
        let second = histogram.get();
        assert!(first.0[0] <= second.0[0] && second.0[0] <= 2);
        assert!(first.1 <= second.1 && [0, 100, 128].contains(&second.1));
        counting.join().unwrap();
        assert_eq!((histogram.get().0[0], histogram.get().1), (2, 128));
    });
}
