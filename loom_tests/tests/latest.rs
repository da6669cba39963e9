//! A value replaced while others use it: each reader gets a whole one, and the last one stays.

use loom::thread;
use loom_tests::check_all;
use loom_tests::latest::Latest;
use loom_tests::primitive::Arc;

/// One thread reloads twice while another reads twice: what it reads is whole, and never goes back.
#[test]
fn readers_meet_a_reload() {
    check_all(|| {
        let latest = Arc::new(Latest::new(Arc::new((0, 0))));
        let theirs = latest.clone();
        let thread = thread::spawn(move || {
            for round in 1..=2 {
                let old = theirs.replace(Arc::new((round, round)));
                assert_eq!(*old, (round - 1, round - 1));
            }
        });
        let (first, second) = (latest.get(), latest.get());
        assert!(first.0 == first.1 && second.0 == second.1 && first.0 <= second.0);
        thread.join().unwrap();
        assert_eq!(*latest.get(), (2, 2));
    });
}
