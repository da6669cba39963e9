//! Writes that the system does not take: how many bytes a stream takes for it, when a writer waits, and when it goes on.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::tcp::{pair, with_pair};
use crate::tls::with_tls;
use crate::{both, on_some};
use machinarium::net::UnixStream;
use machinarium::{
    deadline, machine, now, run, scope, select, sleep, sleep_until, spawn, timeout, yield_now,
};

/// Further apart than what the system takes in one call, and so is the low one from nothing.
const HIGH: usize = 1_000_000;
const LOW: usize = 500_000;
const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(20);

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

/// Bytes whose order shows.
fn bytes(range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(|place| (place.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

/// The first has its marks, and the system takes no more of it: how many bytes were written, of which it has `HIGH`.
fn full_pair() -> io::Result<(UnixStream, UnixStream, usize)> {
    let (one, other) = UnixStream::pair()?;
    other.set_readahead(0);
    one.set_high_water(HIGH, LOW);
    let error = timeout(SHORT, || one.write_all(&bytes(0..2 << 20))).unwrap_err();
    assert_eq!(error.source.kind(), ErrorKind::TimedOut);
    assert_eq!(one.unsent(), HIGH, "it waits when there are so many, and takes no more");
    Ok((one, other, error.written))
}

#[test]
fn a_writer_waits_at_the_high_mark_and_goes_on_at_the_low_one() {
    on_some(10, 5, |_| {
        in_a_machine(|| {
            let (one, other, written) = full_pair()?;
            let one = std::rc::Rc::new(one);
            let mut all = Vec::new();
            let theirs = one.clone();
            let writer = spawn(move || (&*theirs).write(&bytes(written..written + 100)));
            let mut went_on = None;
            while one.unsent() > 0 {
                let mut some = [0; 8192];
                let count = timeout(LONG, || (&other).read(&mut some))?;
                all.extend_from_slice(&some[..count]);
                // The machine has its turn to send on.
                sleep(Duration::from_micros(100))?;
                if writer.is_finished() && went_on.is_none() {
                    went_on = Some(one.unsent());
                }
                assert!(went_on.is_some() || one.unsent() > LOW, "it waits, and there are {}", one.unsent());
            }
            let left = went_on.expect("it goes on");
            assert!(0 < left && left <= LOW + 100, "it went on when there were {left}");
            assert_eq!(writer.join()??, 100);
            // Now there is room again.
            let more = written + 100..written + 100 + HIGH;
            timeout(LONG, || one.write_all(&bytes(more.clone())))?;
            one.shutdown(Shutdown::Read)?;
            let ends = spawn(move || one.shutdown(Shutdown::Write));
            (&other).read_to_end(&mut all)?;
            assert!(all == bytes(0..more.end), "{} of {}", all.len(), more.end);
            ends.join()?
        });
    });
}

#[test]
fn a_slow_peer_holds_nobody_up() {
    on_some(10, 5, |_| {
        in_a_machine(|| {
            let (one, other) = UnixStream::pair()?;
            other.set_readahead(0);
            one.set_high_water(2 << 20, 0);
            // More than the system takes, and nobody reads.
            timeout(LONG, || one.write_all(&bytes(0..1 << 20)))?;
            assert!(one.unsent() > 0);
            let late = timeout(SHORT, || (&one).flush()).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            let reader = spawn(move || {
                let mut all = Vec::new();
                (&other).read_to_end(&mut all).map(|_| all)
            });
            (&one).flush()?;
            assert_eq!(one.unsent(), 0);
            drop(one);
            assert!(reader.join()?? == bytes(0..1 << 20));
            Ok(())
        });
    });
}

#[test]
fn all_arrives_in_its_order_with_small_writes_gathered_too() {
    both(|| {
        with_pair(|client, server| {
            const ALL: usize = 150_000;
            client.set_coalescing(1000);
            client.set_high_water(3000, 100);
            scope(|scope| {
                let writing = scope.spawn(|| -> io::Result<()> {
                    let (mut sent, mut size) = (0, 1);
                    while sent < ALL {
                        let length = size.min(ALL - sent);
                        client.write_all(&bytes(sent..sent + length))?;
                        assert!(client.unsent() <= 3000, "{}", client.unsent());
                        sent += length;
                        size = size * 7 % 5003;
                    }
                    client.shutdown(Shutdown::Write)
                });
                let mut all = Vec::new();
                (&server).read_to_end(&mut all)?;
                assert!(all == bytes(0..ALL), "{} of {ALL}", all.len());
                writing.join()?
            })
        });
    });
}

#[test]
fn a_stream_is_writable_below_its_high_mark() {
    on_some(10, 5, |_| {
        in_a_machine(|| {
            let (one, other, _) = full_pair()?;
            let writable = |patience| {
                select! {
                    writable(one) => true,
                    after(patience) => false,
                }
            };
            assert!(!writable(SHORT)?);
            let drains = spawn(move || io::copy(&mut &other, &mut io::sink()));
            assert!(writable(LONG)?);
            assert!(one.unsent() < HIGH);
            drop(one);
            drains.join()??;
            Ok(())
        });
    });
}

#[test]
fn what_is_left_moves_with_its_stream_and_so_do_the_marks() {
    on_some(10, 5, |_| {
        in_a_machine(|| {
            let (one, other, written) = full_pair()?;
            let detached = one.detach()?;
            let mover = machine::spawn("mover", move || -> io::Result<usize> {
                let stream = detached.attach()?;
                let unsent = stream.unsent();
                let late = timeout(SHORT, || (&stream).write(b"more")).unwrap_err();
                assert_eq!(late.kind(), ErrorKind::TimedOut);
                stream.shutdown(Shutdown::Write)?;
                Ok(unsent)
            })?;
            sleep(SHORT * 4)?;
            let mut all = Vec::new();
            (&other).read_to_end(&mut all)?;
            assert!(all == bytes(0..written), "{} of {written}", all.len());
            assert_eq!(mover.join()??, HIGH);
            Ok(())
        });
    });
}

#[test]
fn a_failure_is_told_to_the_next_writer() {
    on_some(10, 5, |_| {
        in_a_machine(|| {
            let (one, other, _) = full_pair()?;
            drop(other);
            assert_eq!(one.write_all(b"more").unwrap_err().source.kind(), ErrorKind::BrokenPipe);
            // Marks that make no sense are the nearest that do.
            let (one, other) = pair()?;
            one.set_high_water(1, 100);
            one.write_all(b"some")?;
            one.set_high_water(0, 100);
            one.write_all(b" more")?;
            drop(one);
            let mut all = String::new();
            (&other).read_to_string(&mut all)?;
            assert_eq!(all, "some more");
            Ok(())
        });
    });
}

/// The machine finds both in one turn: the writer's time is over, and there is room again, which is told once. The edge is the writer's,
/// who has the turn, and gives up without a look at it.
#[test]
fn what_is_left_by_who_gives_up_when_there_is_room_is_sent() {
    on_some(10, 5, |kernel| {
        with_pair(|one, other| {
            other.set_readahead(0);
            one.set_high_water(100_000, 50_000);
            let written = timeout(SHORT, || one.write_all(&vec![1; 16 << 20])).unwrap_err().written;
            let (other, at) = (other.detach()?, now() + SHORT);
            let drained = Arc::new(AtomicBool::new(false));
            let tell = drained.clone();
            let reader = machine::spawn("reader", move || -> io::Result<()> {
                let (other, mut some, mut left) = (other.attach()?, vec![0; 1 << 20], written);
                sleep_until(at)?;
                while left > 0 {
                    if left <= 100_000 && !tell.load(Ordering::Relaxed) {
                        // The system has nothing any more, and has said so.
                        sleep(SHORT)?;
                        tell.store(true, Ordering::Relaxed);
                    }
                    left -= timeout(LONG, || (&other).read(&mut some))?;
                }
                Ok(())
            })?;
            let writer = spawn(move || (deadline(at, || one.write_all(b"more")), one));
            yield_now();
            // The machine is kept from its loop.
            while !drained.load(Ordering::Relaxed) {
                kernel.sched_yield();
            }
            let (late, _one) = writer.join()?;
            assert_eq!(late.unwrap_err().source.kind(), ErrorKind::TimedOut);
            reader.join()?
        });
    });
}

#[test]
fn it_is_writable_when_a_write_would_fail() {
    on_some(10, 5, |_| {
        in_a_machine(|| {
            let (one, other, _) = full_pair()?;
            let early = timeout(SHORT, || one.writable().wait());
            assert!(early.is_err(), "there are as many as may be");
            drop(other);
            timeout(LONG, || one.writable().wait())?;
            assert_eq!(one.write_all(b"more").unwrap_err().source.kind(), ErrorKind::BrokenPipe);
            Ok(())
        });
    });
}

#[test]
fn a_mark_may_come_down_on_who_waits_for_it() {
    on_some(10, 5, |_| {
        in_a_machine(|| {
            let (one, other, written) = full_pair()?;
            one.set_high_water(HIGH, HIGH - 1);
            let one = std::rc::Rc::new(one);
            let theirs = one.clone();
            let writer = spawn(move || theirs.write_all(&bytes(written..written + 100)));
            sleep(SHORT)?;
            one.set_high_water(10, 5);
            let mut all = vec![0; written + 100];
            timeout(LONG, || other.read_exact(&mut all))?;
            assert!(all == bytes(0..written + 100));
            Ok(writer.join()??)
        });
    });
}

#[test]
fn tls_leaves_its_records_to_the_stream_below() {
    both(|| {
        with_tls(|client, server| {
            const ALL: usize = 400_000;
            client.get_ref().set_high_water(60_000, 20_000);
            scope(|scope| {
                let writing = scope.spawn(|| -> io::Result<usize> {
                    let mut most = 0;
                    for start in (0..ALL).step_by(10_000) {
                        client.write_all(&bytes(start..start + 10_000))?;
                        most = most.max(client.get_ref().unsent());
                    }
                    client.close_write()?;
                    Ok(most)
                });
                // Nobody reads for a while.
                server.get_ref().set_readahead(0);
                sleep(SHORT)?;
                let mut all = Vec::new();
                (&server).read_to_end(&mut all)?;
                assert!(all == bytes(0..ALL), "{} of {ALL}", all.len());
                let most = writing.join()??;
                assert!(most < 60_000 + 20_000, "{most}");
                Ok(())
            })
        });
    });
}
