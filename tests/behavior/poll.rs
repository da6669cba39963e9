//! What futures poll of streams and sockets: nothing parks, both directions wait at once, and edges are told.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::tcp::{loopback, pair};
use crate::{both, on_some};
use machinarium::net::{Duplex, TcpListener, TcpStream, UdpSocket, UnixStream};
use machinarium::{Builder, block_on, future, machine, run, scope, sleep, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

fn in_machine(body: impl FnOnce() -> io::Result<()>) {
    run(|| timeout(LONG, body)).unwrap();
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count as u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

async fn read(stream: &impl Duplex, buf: &mut [u8]) -> io::Result<usize> {
    poll_fn(|context| stream.poll_read(context, buf)).await
}

async fn write_all(stream: &impl Duplex, mut buf: &[u8]) -> io::Result<()> {
    while !buf.is_empty() {
        let count = poll_fn(|context| stream.poll_write(context, buf)).await?;
        buf = &buf[count..];
    }
    poll_fn(|context| stream.poll_flush(context)).await
}

async fn close(stream: &impl Duplex) -> io::Result<()> {
    poll_fn(|context| stream.poll_close(context)).await
}

async fn read_to_end(stream: &impl Duplex) -> io::Result<Vec<u8>> {
    let (mut all, mut buf) = (Vec::new(), [0; 5000]);
    loop {
        match read(stream, &mut buf).await? {
            0 => return Ok(all),
            count => all.extend_from_slice(&buf[..count]),
        }
    }
}

/// Both, polled by one task.
async fn both_of<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(|context| {
        if of_a.is_none()
            && let Poll::Ready(output) = a.as_mut().poll(context)
        {
            of_a = Some(output);
        }
        if of_b.is_none()
            && let Poll::Ready(output) = b.as_mut().poll(context)
        {
            of_b = Some(output);
        }
        if of_a.is_some() && of_b.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (of_a.unwrap(), of_b.unwrap())
}

/// One task writes more than the system takes while it reads as much; so does the other side. Neither could go on if it waited for one
/// direction alone.
fn exchange(ours: &impl Duplex, theirs: &impl Duplex, count: usize) -> io::Result<()> {
    let expected = &bytes(count);
    scope(|scope| {
        let other = scope.spawn(|| block_on(talk(theirs, expected)));
        block_on(talk(ours, expected))??;
        other.join()??
    })
}

async fn talk(stream: &impl Duplex, expected: &[u8]) -> io::Result<()> {
    let (sent, came) = both_of(speak(stream, expected), read_to_end(stream)).await;
    sent?;
    assert!(came? == expected);
    Ok(())
}

async fn speak(stream: &impl Duplex, bytes: &[u8]) -> io::Result<()> {
    write_all(stream, bytes).await?;
    close(stream).await
}

#[test]
fn one_task_awaits_both_directions() {
    on_some(10, 5, |_| {
        in_machine(|| {
            for readahead in [16 << 10, 0] {
                let (ours, theirs) = pair()?;
                ours.set_readahead(readahead);
                exchange(&ours, &theirs, 3 << 20)?;
                let (ours, theirs) = UnixStream::pair()?;
                ours.set_readahead(readahead);
                exchange(&ours, &theirs, 1 << 20)?;
            }
            Ok(())
        });
    });
}

#[test]
fn one_task_awaits_both_directions_of_tls() {
    on_some(10, 5, |_| {
        in_machine(|| {
            let (ours, theirs) =
                crate::tls::tls_pair(&crate::tls::client().build()?, &crate::tls::server().build()?)?;
            exchange(&ours, &theirs, 1 << 20)
        });
    });
}

#[test]
fn pieces_are_written_in_their_order() {
    both(|| {
        in_machine(|| {
            let (client, server) =
                crate::tls::tls_pair(&crate::tls::client().build()?, &crate::tls::server().build()?)?;
            let (ours, theirs) = pair()?;
            let pieces = [IoSlice::new(b""), IoSlice::new(b"ab"), IoSlice::new(b"cde")];
            block_on(async {
                assert_eq!(poll_fn(|context| client.poll_write_vectored(context, &pieces)).await?, 5);
                // The system may take a part.
                let count = poll_fn(|context| ours.poll_write_vectored(context, &pieces)).await?;
                write_all(&ours, &b"abcde"[count..]).await?;
                assert_eq!(poll_fn(|context| ours.poll_write_vectored(context, &pieces[..1])).await?, 0);
                io::Result::Ok(())
            })??;
            let mut word = [0; 5];
            server.read_exact(&mut word)?;
            assert_eq!(&word, b"abcde");
            theirs.read_exact(&mut word)?;
            assert_eq!(&word, b"abcde");
            Ok(())
        });
    });
}

/// What an earlier call has read and left comes first, and what is polled leaves nothing behind for the next.
#[test]
fn polls_and_calls_read_one_after_the_other() {
    both(|| {
        in_machine(|| {
            let (ours, theirs) = pair()?;
            theirs.write_all(b"one\ntwo three")?;
            let mut line = Vec::new();
            ours.read_until(b'\n', &mut line)?;
            let mut word = [0; 4];
            let mut got = 0;
            while got < 4 {
                got += block_on(read(&ours, &mut word[got..]))??;
            }
            assert_eq!(&word, b"two ");
            let mut rest = [0; 5];
            ours.read_exact(&mut rest)?;
            assert_eq!((&line[..], &rest), (&b"one\n"[..], b"three"));
            Ok(())
        });
    });
}

/// A call has its turn for as long as it waits; a poll comes after it.
#[test]
fn a_poll_waits_for_the_turn_of_a_call() {
    both(|| {
        in_machine(|| {
            let (ours, theirs) = pair()?;
            let ours = Rc::new(ours);
            let reader = ours.clone();
            let call = spawn(move || {
                let mut word = [0; 2];
                reader.read_exact(&mut word).map(|()| word)
            });
            yield_now();
            let polling = spawn(move || {
                let mut word = [0; 1];
                block_on(read(&*ours, &mut word)).unwrap().map(|_| word)
            });
            yield_now();
            theirs.write_all(b"a")?;
            sleep(SHORT)?;
            assert!(!polling.is_finished() && !call.is_finished());
            theirs.write_all(b"bc")?;
            assert_eq!((&call.join()??, &polling.join()??), (b"ab", b"c"));
            Ok(())
        });
    });
}

/// One task waits for more than there is budget for. What is not ready costs nothing, or what comes after it would never be asked.
#[test]
fn who_waits_for_many_hears_of_the_last() {
    for budget in [1, 128] {
        both(move || {
            let result: io::Result<()> = Builder::new().budget(budget).run(|| {
                let ((quiet, _peer), (ours, theirs)) = (UnixStream::pair()?, UnixStream::pair()?);
                let mut slept = future::sleep(LONG);
                theirs.write_all(b"x")?;
                let found = poll_fn(|context| {
                    for _ in 0..300 {
                        assert!(quiet.poll_read(context, &mut [0; 1]).is_pending());
                        assert!(quiet.readable().poll(context).is_pending());
                        assert!(Pin::new(&mut slept).poll(context).is_pending());
                    }
                    ours.poll_read(context, &mut [0; 1])
                });
                assert_eq!(timeout(SHORT * 100, || block_on(found))??, 1);
                Ok(())
            });
            result.unwrap();
        });
    }
}

/// A task flushes whenever it is polled, mostly nothing. That is ready, and must leave it the budget for the rest.
#[test]
fn a_flush_of_nothing_costs_nothing() {
    both(|| {
        let result: io::Result<()> = Builder::new().budget(1).run(|| {
            let (ours, theirs) =
                crate::tls::tls_pair(&crate::tls::client().build()?, &crate::tls::server().build()?)?;
            let writer = spawn(move || {
                sleep(SHORT)?;
                theirs.write_all(b"x").map_err(io::Error::from)
            });
            let reads = poll_fn(|context| {
                assert!(ours.poll_flush(context)?.is_ready());
                ours.poll_read(context, &mut [0; 1])
            });
            assert_eq!(timeout(SHORT * 1000, || block_on(reads))??, 1);
            writer.join()?
        });
        result.unwrap();
    });
}

/// It must come back at once: who polls may have other things to do.
#[test]
fn a_poll_parks_nobody() {
    both(|| {
        in_machine(|| {
            let (ours, _theirs) = pair()?;
            let ran = Rc::new(Cell::new(false));
            let theirs = ran.clone();
            spawn(move || theirs.set(true));
            let mut pending = false;
            block_on(poll_fn(|context| {
                // More than there is budget for.
                for _ in 0..300 {
                    pending |= ours.poll_read(context, &mut [0; 1]).is_pending();
                    let _ = ours.poll_flush(context);
                    let _ = ours.readable().poll(context);
                    assert!(!ran.get(), "another coroutine has run during a poll");
                }
                Poll::Ready(())
            }))?;
            assert!(pending);
            Ok(())
        });
    });
}

/// There is always something to read, so no read is pending for want of it.
#[test]
fn a_stream_that_is_always_ready_starves_nobody() {
    on_some(10, 5, |_| {
        in_machine(|| {
            let (ours, theirs) = UnixStream::pair()?;
            theirs.write_all(&[0; 60_000])?;
            let ran = Rc::new(Cell::new(false));
            let flag = ran.clone();
            spawn(move || flag.set(true));
            let reads = block_on(async {
                let mut reads = 0;
                while !ran.get() {
                    assert_eq!(read(&ours, &mut [0; 1]).await?, 1);
                    reads += 1;
                }
                io::Result::Ok(reads)
            })??;
            assert!(reads < 1000, "{reads} reads before another ran");
            Ok(())
        });
    });
}

#[test]
fn an_end_and_an_error_come_to_who_polls() {
    both(|| {
        in_machine(|| {
            let (ours, theirs) = pair()?;
            let closer = spawn(move || {
                sleep(SHORT)?;
                theirs.set_linger(Some(Duration::ZERO))?;
                drop(theirs);
                io::Result::Ok(())
            });
            let error = block_on(read(&ours, &mut [0; 1]))?.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            closer.join()??;
            // Nobody is left to hear of the end.
            block_on(close(&ours))??;
            let (ours, theirs) = UnixStream::pair()?;
            drop(theirs);
            assert_eq!(block_on(read(&ours, &mut [0; 1]))??, 0);
            let error = block_on(write_all(&ours, b"x"))?.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            Ok(())
        });
    });
}

#[test]
fn readiness_is_polled() {
    both(|| {
        in_machine(|| {
            let listener = TcpListener::bind(loopback())?;
            let address = listener.local_addr()?;
            let client = spawn(move || {
                sleep(SHORT)?;
                TcpStream::connect(address)
            });
            block_on(poll_fn(|context| listener.readable().poll(context)))??;
            let (server, _) = listener.accept()?;
            let client = client.join()??;

            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let (ours, theirs) = (UdpSocket::bind(any)?, UdpSocket::bind(any)?);
            let to = ours.local_addr()?;
            let sender = spawn(move || {
                sleep(SHORT)?;
                theirs.send_to(b"hello", to)
            });
            block_on(poll_fn(|context| ours.readable().poll(context)))??;
            assert_eq!(ours.recv(&mut [0; 8])?, 5);
            sender.join()??;

            // Full, until the peer has read.
            let mut full = 0;
            while let Poll::Ready(count) =
                client.poll_write(&mut Context::from_waker(std::task::Waker::noop()), &[0; 1 << 16])
            {
                full += count?;
                // With the budget over, it is pending too.
                yield_now();
            }
            let reader = spawn(move || {
                sleep(SHORT)?;
                let mut server = server;
                io::copy(&mut Read::take(&mut server, full as u64), &mut io::sink())
            });
            block_on(poll_fn(|context| client.writable().poll(context)))??;
            reader.join()??;
            Ok(())
        });
    });
}

/// The task that waits for a stream is told when the stream's machine reads; one that has given up is not in the way.
#[test]
fn who_gives_up_is_not_in_the_way() {
    both(|| {
        in_machine(|| {
            let (ours, theirs) = pair()?;
            for round in 0..3u8 {
                assert!(timeout(SHORT, || block_on(read(&ours, &mut [0; 1]))).is_err());
                theirs.write_all(&[round])?;
                let mut byte = [9];
                block_on(read(&ours, &mut byte))??;
                assert_eq!(byte, [round]);
            }
            // With a moment beside it, in one task.
            let (_, slept) = block_on(both_of(
                async {
                    let mut byte = [0];
                    poll_fn(|context| {
                        let _ = ours.poll_read(context, &mut byte);
                        Poll::Ready(())
                    })
                    .await;
                },
                future::sleep(SHORT),
            ))?;
            slept?;
            Ok(())
        });
    });
}

#[test]
fn polls_elsewhere_are_errors() {
    both(|| {
        in_machine(|| {
            let (ours, _theirs) = pair()?;
            let detached = ours.detach()?;
            let other = machine::spawn("other", move || {
                let stream = detached.attach()?;
                let mut context = Context::from_waker(std::task::Waker::noop());
                assert!(stream.poll_read(&mut context, &mut [0; 1]).is_pending());
                io::Result::Ok(())
            })?;
            other.join()??;
            Ok(())
        });
        // A stream that has outlived its machine.
        let left: Rc<Cell<Option<TcpStream>>> = Rc::default();
        let theirs = left.clone();
        in_machine(move || {
            theirs.set(Some(pair()?.0));
            Ok(())
        });
        let stream = left.take().unwrap();
        let mut context = Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(Err(error)) = stream.poll_read(&mut context, &mut [0; 1]) else { panic!("no error") };
        assert_eq!(error.get_ref().unwrap().downcast_ref(), Some(&machinarium::Misuse::OtherMachine));
        assert!(stream.readable().poll(&mut context).is_ready());
    });
}
