//! The table of cells: other threads read it while the owner makes it longer.
//!
//! `weaken` names for each model the line whose change makes it fail.

use loom::thread;
use loom_tests::cells::Cells;
use loom_tests::check_all;
use loom_tests::park::Ticket;
use loom_tests::primitive::Arc;

/// Slots of the first and the second chunk.
const OLD: u32 = 0;
const NEW: u32 = 64;

/// A waker claims in an old chunk while a new one is made.
#[test]
fn growth_leaves_the_old_cells() {
    check_all(|| {
        let cells = Arc::new(Cells::new());
        cells.ensure(OLD);
        let ticket = cells.get(OLD).open();
        let waker = thread::spawn({
            let cells = cells.clone();
            move || cells.get(OLD).claim(ticket).won()
        });
        cells.ensure(NEW);
        let closed = cells.get(OLD).close(ticket);
        assert_eq!(waker.join().unwrap(), !closed);
    });
}

/// A thread that looks for a cell without having been told of it finds none, or one that is made.
#[test]
fn a_new_cell_is_made_before_it_is_seen() {
    check_all(|| {
        let cells = Arc::new(Cells::new());
        let reader = thread::spawn({
            let cells = cells.clone();
            move || cells.find(OLD).is_some_and(|cell| cell.claim(Ticket::default()).won())
        });
        cells.ensure(OLD);
        assert!(!reader.join().unwrap());
    });
}

/// Two threads make the same chunk by mistake: there is one, and neither loses a wait that it began in it.
#[test]
fn two_owners_by_mistake() {
    check_all(|| {
        let cells = Arc::new(Cells::new());
        let other = thread::spawn({
            let cells = cells.clone();
            move || {
                cells.ensure(OLD);
                let ticket = cells.get(1).open();
                cells.get(1).close(ticket)
            }
        });
        cells.ensure(OLD);
        let ticket = cells.get(OLD).open();
        assert!(other.join().unwrap());
        assert!(cells.get(OLD).claim(ticket).won());
    });
}
