//! Numbers that one thread keeps and others read.
//!
//! `weaken` names for each model the line whose change makes it fail.

use loom::thread;
use loom_tests::check_all;
use loom_tests::gauges::Gauges;
use loom_tests::primitive::Arc;

/// One thread shows two numbers twice while another looks twice: what it sees of each was shown at some time, and never goes back.
/// Of the two numbers, one may be newer than the other: that is what the head of the file says.
#[test]
fn a_reader_meets_the_keeper() {
    check_all(|| {
        let gauges = Arc::new(Gauges::<2>::default());
        let theirs = gauges.clone();
        let keeper = thread::spawn(move || {
            theirs.set([1, 10]);
            theirs.set([2, 20]);
        });
        let (first, second) = (gauges.get(), gauges.get());
        for ([before, after], shown) in
            [([first[0], second[0]], [0, 1, 2]), ([first[1], second[1]], [0, 10, 20])]
        {
            assert!(shown.contains(&before) && shown.contains(&after) && before <= after);
        }
        keeper.join().unwrap();
        assert_eq!(gauges.get(), [2, 20]);
    });
}
