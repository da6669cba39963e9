//! The relay of two streams: all bytes, both ends, both ways, however full the buffers are; and an error that says what was lost.

use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::time::Duration;

use crate::tcp::pair;
use crate::tls::{client, server, tls_pair};
use crate::{both, on_some};
use machinarium::net::{Duplex, Relay, RelayError, Relayed, Side, Step, TcpStream, UnixStream, relay};
use machinarium::tls::{self, TlsStream};
use machinarium::{cancelled, run, scope, sleep, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

/// A stream whose writing half can be ended.
pub(crate) trait Ends: Duplex {
    fn send(&self, bytes: &[u8]) -> io::Result<()>;
    fn end(&self) -> io::Result<()>;
    fn receive_all(&self) -> io::Result<Vec<u8>>;
}

macro_rules! ends {
    ($stream:ty, $end:expr) => {
        impl Ends for $stream {
            fn send(&self, bytes: &[u8]) -> io::Result<()> {
                Ok(self.write_all(bytes)?)
            }

            fn end(&self) -> io::Result<()> {
                $end(self)
            }

            fn receive_all(&self) -> io::Result<Vec<u8>> {
                let (mut all, mut stream) = (Vec::new(), self);
                stream.read_to_end(&mut all).map(|_| all)
            }
        }
    };
}

ends!(TcpStream, |stream: &TcpStream| stream.shutdown(Shutdown::Write));
ends!(UnixStream, |stream: &UnixStream| stream.shutdown(Shutdown::Write));
ends!(TlsStream, TlsStream::close_write);
ends!(TlsStream<UnixStream>, TlsStream::close_write);

pub(crate) fn in_machine(body: impl FnOnce() -> io::Result<()>) {
    run(|| timeout(LONG, body)).unwrap();
}

pub(crate) fn tls() -> io::Result<(TlsStream, TlsStream)> {
    tls_pair(&client().build()?, &server().build()?)
}

pub(crate) fn text(size: usize, step: u8) -> Vec<u8> {
    (0..size).map(|place| (place / 3) as u8 ^ step).collect()
}

/// Sends so much each way at once, by way of a relay with small buffers.
pub(crate) fn carry<A: Ends, B: Ends>(
    (ours, a): (A, A),
    (b, theirs): (B, B),
    size: usize,
    high_water: usize,
) -> io::Result<()> {
    let (there, back) = (text(size, 1), text(size + 5, 2));
    let moved = scope(|scope| {
        let relayed = scope.spawn(|| Relay::new().high_water(high_water).run(&a, &b));
        scope.spawn(|| ours.send(&there).and_then(|()| ours.end()).unwrap());
        scope.spawn(|| theirs.send(&back).and_then(|()| theirs.end()).unwrap());
        // Nobody reads until all buffers may be full.
        sleep(SHORT)?;
        let got = scope.spawn(|| theirs.receive_all());
        assert!(ours.receive_all()? == back);
        assert!(got.join()?? == there);
        relayed.join()?.map_err(io::Error::from)
    })?;
    let Relayed { a_to_b, b_to_a } = moved;
    assert_eq!((a_to_b.read, a_to_b.written, a_to_b.ended), (size as u64, size as u64, true));
    assert_eq!((b_to_a.read, b_to_a.written, b_to_a.ended), (size as u64 + 5, size as u64 + 5, true));
    Ok(())
}

#[test]
fn all_goes_both_ways_at_once_between_full_buffers() {
    on_some(20, 5, |_| {
        in_machine(|| {
            carry(pair()?, pair()?, 1 << 20, 64 << 10)?;
            carry(pair()?, UnixStream::pair()?, 300_000, 5_000)?;
            carry(UnixStream::pair()?, pair()?, 3_000, 1)
        });
    });
}

#[test]
fn streams_with_tls_are_relayed_like_others() {
    on_some(20, 5, |_| {
        in_machine(|| {
            carry(tls()?, pair()?, 200_000, 10_000)?;
            carry(UnixStream::pair()?, tls()?, 200_000, 64 << 10)?;
            carry(tls()?, tls()?, 100_000, 300)
        });
    });
}

#[test]
fn an_end_one_way_leaves_the_other_open() {
    both(|| {
        in_machine(|| {
            let ((ours, a), (b, theirs)) = (pair()?, UnixStream::pair()?);
            let relayed = spawn(move || relay(&a, &b));
            ours.write_all(b"question")?;
            ours.shutdown(Shutdown::Write)?;
            assert_eq!(theirs.receive_all()?, b"question");
            for part in 0..5u8 {
                sleep(Duration::from_millis(1))?;
                theirs.write_all(&[part])?;
                let mut got = [9];
                ours.read_exact(&mut got)?;
                assert_eq!(got, [part]);
            }
            assert!(!relayed.is_finished());
            drop(theirs);
            assert!(ours.receive_all()?.is_empty());
            let moved = relayed.join()??;
            assert_eq!((moved.a_to_b.written, moved.b_to_a.written), (8, 5));
            Ok(())
        });
    });
}

#[test]
fn a_side_that_never_reads_holds_up_nothing_but_itself() {
    both(|| {
        in_machine(|| {
            let ((ours, a), (b, theirs)) = (UnixStream::pair()?, UnixStream::pair()?);
            let relayed =
                spawn(move || Relay::new().high_water(1000).idle(Duration::from_millis(400)).run(&a, &b));
            // More than all buffers on the way hold.
            let stuck = timeout(Duration::from_millis(5), || ours.write_all(&vec![0; 8 << 20])).unwrap_err();
            assert_eq!(stuck.source.kind(), ErrorKind::TimedOut);
            for _ in 0..10 {
                theirs.write_all(b"still here")?;
                ours.read_exact(&mut [0; 10])?;
                sleep(SHORT / 4)?;
            }
            let RelayError { step, moved, source } = relayed.join()?.unwrap_err();
            assert_eq!((step, source.kind()), (Step::Idle, ErrorKind::TimedOut));
            assert_eq!(moved.b_to_a.written, 100);
            let held = moved.a_to_b.read - moved.a_to_b.written;
            assert!((1..=1000).contains(&held), "{moved:?}");
            assert!(moved.a_to_b.read <= stuck.written as u64);
            // What it counts as written is what there is to read.
            assert_eq!(theirs.receive_all()?.len() as u64, moved.a_to_b.written);
            Ok(())
        });
    });
}

#[test]
fn a_reset_is_an_error_that_names_its_side() {
    both(|| {
        in_machine(|| {
            for side in [Side::A, Side::B] {
                let ((ours, a), (b, theirs)) = (pair()?, pair()?);
                let relayed = spawn(move || relay(&a, &b));
                ours.write_all(b"there")?;
                theirs.write_all(b"back")?;
                theirs.read_exact(&mut [0; 5])?;
                ours.read_exact(&mut [0; 4])?;
                let (resets, stays) = if side == Side::A { (ours, theirs) } else { (theirs, ours) };
                resets.set_linger(Some(Duration::ZERO))?;
                drop(resets);
                let RelayError { step, moved, source } = relayed.join()?.unwrap_err();
                assert_eq!((step, source.kind()), (Step::Read(side), ErrorKind::ConnectionReset));
                assert_eq!((moved.a_to_b.written, moved.b_to_a.written), (5, 4));
                assert!(!moved.a_to_b.ended && !moved.b_to_a.ended);
                drop(stays);
            }
            Ok(())
        });
    });
}

#[test]
fn writing_to_who_has_gone_is_an_error_that_names_its_side() {
    both(|| {
        in_machine(|| {
            let ((ours, a), (b, theirs)) = (UnixStream::pair()?, UnixStream::pair()?);
            drop(theirs);
            ours.write_all(b"anybody?")?;
            let RelayError { step, moved, source } = relay(&a, &b).unwrap_err();
            assert_eq!((step, source.kind()), (Step::Write(Side::B), ErrorKind::BrokenPipe));
            assert_eq!((moved.a_to_b.read, moved.a_to_b.written), (8, 0));
            Ok(())
        });
    });
}

#[test]
fn it_gives_up_by_deadlines_and_cancellation_and_the_streams_go_on() {
    both(|| {
        in_machine(|| {
            let ((ours, a), (b, theirs)) = (pair()?, pair()?);
            ours.write_all(b"before")?;
            let late = timeout(SHORT, || relay(&a, &b)).unwrap_err();
            assert_eq!((late.step, late.source.kind()), (Step::Call, ErrorKind::TimedOut));
            assert_eq!(late.moved.a_to_b.written, 6);
            let relayed = spawn(move || (relay(&a, &b), a, b));
            yield_now();
            relayed.cancel("enough")?;
            let (result, a, b) = relayed.join()?;
            let error = result.unwrap_err();
            assert_eq!(error.step, Step::Call);
            assert_eq!(cancelled(&error.source).unwrap().cause(), "enough");
            ours.write_all(b", after")?;
            ours.shutdown(Shutdown::Write)?;
            theirs.shutdown(Shutdown::Write)?;
            assert_eq!(relay(&a, &b)?.a_to_b.written, 7);
            assert_eq!(theirs.receive_all()?, b"before, after");
            let itself = relay(&a, &a).unwrap_err();
            assert_eq!((itself.step, itself.source.kind()), (Step::Call, ErrorKind::InvalidInput));
            Ok(())
        });
    });
}

#[test]
fn a_truncated_tls_stream_is_an_error_and_no_end() {
    both(|| {
        in_machine(|| {
            let ((ours, a), (b, theirs)) = (tls()?, pair()?);
            let relayed = spawn(move || (relay(&a, &b), b));
            ours.write_all(b"all but the end")?;
            ours.get_ref().shutdown(Shutdown::Write)?;
            let (result, b) = relayed.join()?;
            let error = result.unwrap_err();
            assert_eq!(error.step, Step::Read(Side::A));
            let truncated = tls::Error::of(&error.source).cloned();
            assert_eq!(truncated, Some(tls::Error::Truncated(tls::During::Data)));
            let mut got = [0; 15];
            theirs.read_exact(&mut got)?;
            assert_eq!(&got, b"all but the end");
            let nothing = timeout(SHORT, || theirs.peek(&mut got)).unwrap_err();
            assert_eq!(nothing.kind(), ErrorKind::TimedOut, "the end was not passed on");
            drop(b);
            Ok(())
        });
    });
}

#[test]
fn what_was_read_before_is_passed_on_first() {
    both(|| {
        in_machine(|| {
            let ((ours, a), (b, theirs)) = (pair()?, UnixStream::pair()?);
            ours.write_all(b"line\nmore")?;
            let mut line = Vec::new();
            a.read_until(b'\n', &mut line)?;
            ours.write_all(b", and more")?;
            ours.shutdown(Shutdown::Write)?;
            theirs.shutdown(Shutdown::Write)?;
            relay(&a, &b)?;
            drop(b);
            assert_eq!(theirs.receive_all()?, b"more, and more");
            Ok(())
        });
    });
}
