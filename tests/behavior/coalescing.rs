//! Small writes that gather: when they leave, that they do in their order, and what becomes of them at an end.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use crate::tcp::pair;
use crate::{both, on_some};
use machinarium::net::{TcpStream, UnixStream};
use machinarium::{Builder, machine, run, scope, select, shield, sleep, spawn, yield_now};

const LIMIT: usize = 1000;
const LONG: Duration = Duration::from_secs(20);

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

/// The first gathers.
fn unix_pair() -> io::Result<(UnixStream, UnixStream)> {
    let (one, other) = UnixStream::pair()?;
    one.set_coalescing(LIMIT);
    Ok((one, other))
}

#[test]
fn they_leave_when_they_are_many_or_flushed() {
    both(|| {
        in_a_machine(|| {
            let (mut one, other) = unix_pair()?;
            for _ in 0..9 {
                one.write_all(&[1; 100])?;
            }
            assert_eq!(one.write_vectored(&[IoSlice::new(&[1; 50]), IoSlice::new(&[1; 49])])?, 99);
            assert_eq!(other.pending()?, 0, "999 are not too many");
            one.write_all(&[1; 2])?;
            assert_eq!(other.pending()?, 999);
            one.flush()?;
            assert_eq!(other.pending()?, 1001);
            one.flush()?;
            // What is long goes as it is, behind what is there.
            one.write_all(&[1; 3])?;
            assert_eq!(other.pending()?, 1001);
            one.write_all(&[1; LIMIT])?;
            assert_eq!(other.pending()?, 1004 + LIMIT);
            one.write_all(&[1; 3])?;
            one.set_coalescing(0);
            assert_eq!(one.write(&[1; 4])?, 4);
            assert_eq!(other.pending()?, 1011 + LIMIT);
            let mut bytes = vec![0; 1011 + LIMIT];
            other.read_exact(&mut bytes)?;
            assert!(bytes.iter().all(|byte| *byte == 1));
            Ok(())
        });
    });
}

#[test]
fn nobody_waits_for_what_was_put_off() {
    both(|| {
        in_a_machine(|| {
            let (client, server) = pair()?;
            client.set_coalescing(LIMIT);
            server.set_coalescing(LIMIT);
            let echo = spawn(move || io::copy(&mut &server, &mut &server));
            for number in 0..20_u8 {
                client.write_all(&[number])?;
                client.write_all(&[number; 2])?;
                let mut back = [0; 3];
                client.read_exact(&mut back)?;
                assert_eq!(back, [number; 3]);
            }
            client.shutdown(Shutdown::Write)?;
            assert_eq!(echo.join()??, 60);
            Ok(())
        });
    });
}

#[test]
fn a_machine_that_never_sleeps_sends_them_too() {
    both(|| {
        in_a_machine(|| {
            let (one, other) = unix_pair()?;
            one.write_all(b"word")?;
            let end = machinarium::now() + LONG;
            while other.pending()? < 4 {
                assert!(machinarium::now() < end, "nobody sends it");
                yield_now();
            }
            Ok(())
        });
    });
}

/// Bytes whose order shows.
fn byte(place: usize) -> u8 {
    (place.wrapping_mul(2_654_435_761) >> 11) as u8
}

#[test]
fn all_arrives_in_its_order_whatever_the_sizes() {
    on_some(50, 20, |_| {
        in_a_machine(|| {
            const ALL: usize = 60_000;
            let (client, server) = pair()?;
            client.set_coalescing(LIMIT);
            scope(|scope| {
                let writing = scope.spawn(|| -> io::Result<()> {
                    let (mut sent, mut size) = (0, 1);
                    while sent < ALL {
                        let length = size.min(ALL - sent);
                        let piece: Vec<u8> = (sent..sent + length).map(byte).collect();
                        client.write_all(&piece)?;
                        sent += length;
                        size = size * 7 % 2003;
                        if size % 11 == 0 {
                            (&client).flush()?;
                        } else if size % 13 == 0 {
                            yield_now();
                        }
                    }
                    client.shutdown(Shutdown::Write)
                });
                let mut bytes = Vec::new();
                (&server).read_to_end(&mut bytes)?;
                assert_eq!(bytes.len(), ALL);
                assert!(bytes.iter().enumerate().all(|(place, found)| *found == byte(place)));
                writing.join()?
            })
        });
    });
}

#[test]
fn two_writers_do_not_mix() {
    both(|| {
        in_a_machine(|| {
            let (client, server) = pair()?;
            client.set_coalescing(LIMIT);
            let client = Rc::new(client);
            let writers: Vec<_> = [300_usize, 1700]
                .map(|length| {
                    let client = client.clone();
                    spawn(move || -> io::Result<()> {
                        for _ in 0..20 {
                            client.write_all(&vec![(length / 100) as u8; length])?;
                            yield_now();
                        }
                        Ok(())
                    })
                })
                .into();
            let mut bytes = vec![0; 20 * 2000];
            server.read_exact(&mut bytes)?;
            let mut rest = &bytes[..];
            while let Some(first) = rest.first() {
                let (message, more) = rest.split_at(usize::from(*first) * 100);
                assert!(message.iter().all(|byte| byte == first), "a message has another in it");
                rest = more;
            }
            for writer in writers {
                writer.join()??;
            }
            Ok(())
        });
    });
}

#[test]
fn ends_take_along_what_is_gathered() {
    both(|| {
        in_a_machine(|| {
            // Dropped, shut down, detached and attached elsewhere.
            let (one, other) = unix_pair()?;
            one.write_all(b"dropped")?;
            drop(one);
            let mut said = String::new();
            (&other).read_to_string(&mut said)?;
            assert_eq!(said, "dropped");
            let (one, other) = unix_pair()?;
            one.write_all(b"moved")?;
            let detached = one.detach()?;
            assert_eq!(other.pending()?, 0);
            let mover = machine::spawn("mover", move || -> io::Result<()> {
                let stream = detached.attach()?;
                stream.write_all(b" here")?;
                stream.shutdown(Shutdown::Write)
            })?;
            let mut said = String::new();
            (&other).read_to_string(&mut said)?;
            assert_eq!(said, "moved here");
            mover.join()?
        });
    });
}

struct SaysGoodbye(TcpStream);

impl Drop for SaysGoodbye {
    fn drop(&mut self) {
        let _ = self.0.write_all(b"bye");
    }
}

/// The loop does not turn any more when coroutines are unwound, and nothing that was put off until it does may keep the machine.
#[test]
fn what_a_destructor_writes_at_a_machines_end_is_sent_and_keeps_nothing() {
    both(|| {
        in_a_machine(|| {
            let (one, mut other) = pair()?;
            one.set_coalescing(LIMIT);
            let ended = Builder::new().grace(Duration::ZERO).spawn({
                let one = one.detach()?;
                move || {
                    let one = SaysGoodbye(one.attach().unwrap());
                    spawn(move || {
                        let _one = one;
                        shield(|| sleep(1000 * LONG))
                    });
                    yield_now();
                }
            })?;
            ended.join()?;
            let mut all = String::new();
            other.read_to_string(&mut all)?;
            assert_eq!(all, "bye");
            Ok(())
        });
    });
}

#[test]
fn a_failure_is_told_to_the_next_writer() {
    both(|| {
        in_a_machine(|| {
            let (one, other) = unix_pair()?;
            drop(other);
            assert_eq!((&one).write(b"lost")?, 4);
            sleep(Duration::from_millis(5))?;
            assert_eq!((&one).flush().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            assert_eq!((&one).write(&[0; LIMIT]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            Ok(())
        });
    });
}

/// What could not be sent is not sent to the next who gets the number.
#[test]
fn what_a_closed_stream_had_goes_to_no_other() {
    both(|| {
        in_a_machine(|| {
            let (one, other) = unix_pair()?;
            drop(other);
            one.write_all(b"lost")?;
            drop(one);
            let (next, its_peer) = UnixStream::pair()?;
            sleep(Duration::from_millis(5))?;
            assert_eq!((next.pending()?, its_peer.pending()?), (0, 0));
            Ok(())
        });
    });
}

#[test]
fn a_stream_is_writable_again_when_they_have_left() {
    both(|| {
        in_a_machine(|| {
            let (one, other) = unix_pair()?;
            // What is read gives a new edge.
            other.set_readahead(0);
            // Until the edges of a new socket have come.
            sleep(Duration::from_millis(5))?;
            one.write_all(b"word")?;
            let begun = machinarium::now();
            select! {
                writable(one) => (),
                after(LONG) => (),
            }?;
            assert!(machinarium::now() - begun < LONG, "nobody tells those who watch");
            Ok(())
        });
    });
}

#[test]
fn pending_counts_what_the_machine_has_and_what_the_system_has() {
    both(|| {
        in_a_machine(|| {
            let (one, other): (TcpStream, TcpStream) = pair()?;
            assert_eq!(one.pending()?, 0);
            other.write_all(&[7; 500])?;
            one.peek(&mut [0; 1])?;
            one.set_readahead(0);
            other.write_all(&[7; 500])?;
            let end = machinarium::now() + LONG;
            while one.pending()? < 1000 {
                assert!(machinarium::now() < end, "{} of 1000", one.pending()?);
                sleep(Duration::from_millis(1))?;
            }
            one.read_exact(&mut [0; 999])?;
            assert_eq!(one.pending()?, 1);
            Ok(())
        });
    });
}
