//! Bubbles: one machine in virtual time, and a way to wait until all others wait.

use std::cell::Cell;
use std::io;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use machinarium::net::{TcpListener, TcpStream};
use machinarium::sync::channel;
use machinarium_sim::{Check, Cpu, Durations, Faults, bubble, wait_idle};

fn micros_since(begin: machinarium::Instant) -> u128 {
    (machinarium::now().saturating_duration_since(begin)).as_micros()
}

#[test]
fn an_hour_passes_at_once_and_not_while_one_waits_for_the_others_to_wait() {
    bubble(|| {
        let begin = machinarium::now();
        let late = machinarium::spawn(|| machinarium::sleep(3600.secs()));
        wait_idle()?;
        assert!(!late.is_finished());
        assert!(micros_since(begin) < 1000, "{} us", micros_since(begin));
        late.join().unwrap()?;
        assert!(micros_since(begin) >= 3_600_000_000);
        io::Result::Ok(())
    });
}

/// A hundred hand-overs between two machines, and then an hour.
#[test]
fn it_is_idle_only_when_no_machine_has_anything_to_do() {
    Check::new().seeds(32).bubble(|| {
        let count = Arc::new(AtomicU32::new(0));
        let (there, from_here) = channel::bounded::<u32>(1);
        let (back, from_there) = channel::bounded::<u32>(1);
        let worker = machinarium::machine::spawn("worker", move || {
            while let Ok(number) = from_here.recv() {
                back.send(number).unwrap();
            }
            io::Result::Ok(())
        })?;
        let theirs = count.clone();
        let player = machinarium::spawn(move || {
            for number in 0..100 {
                there.send(number).unwrap();
                assert_eq!(from_there.recv().unwrap(), number);
                theirs.fetch_add(1, SeqCst);
            }
            machinarium::sleep(3600.secs())
        });
        wait_idle()?;
        assert_eq!(count.load(SeqCst), 100);
        player.join().unwrap()?;
        worker.join()??;
        io::Result::Ok(())
    });
}

#[test]
fn it_is_not_idle_while_bytes_are_on_their_way() {
    let faults = Faults::default();
    Check::new().seeds(32).faults(faults).cpu(Cpu::Ideal).bubble(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (sender, received) = channel::unbounded();
        let reader = machinarium::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            let mut buf = [0; 3];
            for _ in 0..10 {
                std::io::Read::read_exact(&mut stream, &mut buf)?;
                sender.send(buf).unwrap();
            }
            io::Result::Ok(())
        });
        let mut stream = TcpStream::connect(address)?;
        for round in 0..10u8 {
            std::io::Write::write_all(&mut stream, &[round; 3])?;
            wait_idle()?;
            assert_eq!(received.try_recv().expect("it has arrived"), [round; 3]);
        }
        reader.join().unwrap()
    });
}

#[test]
fn who_waits_for_others_that_never_wait_has_a_deadline() {
    Check::new().seeds(4).bubble(|| {
        let enough = Rc::new(Cell::new(false));
        let theirs = enough.clone();
        let busy = machinarium::spawn(move || {
            while !theirs.get() {
                machinarium::yield_now();
            }
        });
        let error = machinarium::timeout(100.micros(), wait_idle).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        enough.set(true);
        busy.join().unwrap();
        io::Result::Ok(())
    });
}

#[test]
fn a_bubble_in_which_all_wait_for_ever_tells_for_what() {
    let stuck = || {
        let (_sender, receiver) = channel::unbounded::<u32>();
        let _ = receiver.recv();
    };
    let panic = catch_unwind(|| Check::new().seeds(1).bubble(stuck)).unwrap_err();
    let report = panic.downcast_ref::<String>().unwrap();
    assert!(report.contains("the world is stuck"), "{report}");
    assert!(report.contains("recv"), "{report}");
}

#[test]
fn outside_of_worlds_nobody_knows() {
    let panic = catch_unwind(wait_idle).unwrap_err();
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    assert!(text.unwrap().contains("only a world knows when all wait"));
}
