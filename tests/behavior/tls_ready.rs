//! Readiness of TLS: plaintext, an end, an error; and neither part of a record nor what TLS says for itself.

use std::io::{self, Read, Write};
use std::time::Duration;

use crate::both;
use crate::tcp::pair;
use crate::tls::{client, in_machine, server, tls_error, tls_pair, with_tls};
use crate::tls_bytes::{pass_on, with_relay};
use machinarium::net::TcpStream;
use machinarium::sync::{Case, channel, select, try_select};
use machinarium::tls::{During, Error, TlsStream};
use machinarium::{Builder, Tuning, WaitError, machine, scope, select, sleep, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(2);

/// A read that need not wait: its deadline has passed, which would be noticed by who has used up his budget too.
fn read_at_once(mut stream: &TlsStream, buf: &mut [u8]) -> io::Result<usize> {
    yield_now();
    timeout(Duration::ZERO, || stream.read(buf))
}

#[test]
fn plaintext_on_one_of_many_streams_wakes_for_that_one() {
    both(|| {
        in_machine(|| {
            let (client, server) = (client().build()?, server().build()?);
            let pairs = (0..3).map(|_| tls_pair(&client, &server)).collect::<io::Result<Vec<_>>>()?;
            for readahead in [16 << 10, 0] {
                pairs.iter().for_each(|(ours, _)| ours.get_ref().set_readahead(readahead));
                for (place, (ours, theirs)) in pairs.iter().enumerate() {
                    let mut cases: Vec<_> = pairs.iter().map(|(ours, _)| ours.readable()).collect();
                    let mut cases: Vec<&mut dyn Case> = cases.iter_mut().map(|case| case as _).collect();
                    assert!(timeout(SHORT, || select(&mut cases)).is_err(), "tickets alone have come");
                    scope(|scope| {
                        scope.spawn(|| {
                            sleep(SHORT)?;
                            theirs.write_all(b"ab").map_err(io::Error::from)
                        });
                        assert_eq!(select(&mut cases)?, place);
                        io::Result::Ok(())
                    })?;
                    assert_eq!(read_at_once(ours, &mut [0; 1])?, 1);
                    // The rest is decrypted already.
                    assert_eq!(select(&mut cases)?, place);
                    assert_eq!(read_at_once(ours, &mut [0; 9])?, 1);
                }
            }
            Ok(())
        });
    });
}

/// What has come is used, so that what follows need not be waited for behind it.
#[test]
fn a_ticket_alone_is_nothing_to_read() {
    both(|| {
        with_tls(|client, server| {
            sleep(SHORT)?;
            assert!(client.get_ref().pending()? > 0, "the server's tickets");
            assert!(timeout(SHORT, || client.readable().wait()).is_err());
            assert_eq!(client.get_ref().pending()?, 0, "a look has used them");
            assert_eq!(try_select(&mut [&mut client.readable()])?, None);
            server.write_all(b"x")?;
            client.readable().wait()?;
            assert_eq!(read_at_once(&client, &mut [0; 9])?, 1);
            Ok(())
        });
    });
}

/// Passes bytes on in small parts, each in a segment of its own.
fn in_parts(mut from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    to.set_nodelay(true)?;
    let mut bytes = [0; 4096];
    loop {
        let count = from.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        for part in bytes[..count].chunks(23) {
            to.write_all(part)?;
            sleep(Duration::from_micros(10))?;
        }
    }
}

#[test]
fn part_of_a_record_is_nothing_to_read() {
    crate::on_some(10, 10, |_| {
        with_relay(
            client().build().unwrap(),
            server().build().unwrap(),
            pass_on,
            in_parts,
            |client, server| {
                let text = [7; 300];
                for _ in 0..4 {
                    server.write_all(&text)?;
                    client.readable().wait()?;
                    let mut got = [0; 300];
                    // A record is there whole, or not at all.
                    assert_eq!(read_at_once(&client, &mut got)?, 300);
                    assert_eq!(got, text);
                    assert!(timeout(Duration::from_micros(100), || client.readable().wait()).is_err());
                }
                Ok(())
            },
        );
    });
}

#[test]
fn ends_and_errors_are_readable_and_still_there() {
    both(|| {
        in_machine(|| {
            let (client, server) = (client().build()?, server().build()?);
            for readahead in [16 << 10, 0] {
                let ready = || -> io::Result<_> {
                    let (ours, theirs) = tls_pair(&client, &server)?;
                    ours.get_ref().set_readahead(readahead);
                    Ok((ours, theirs))
                };
                let (ours, theirs) = ready()?;
                theirs.close_write()?;
                ours.readable().wait()?;
                assert_eq!(read_at_once(&ours, &mut [0; 1])?, 0, "it has said goodbye");
                assert_eq!(try_select(&mut [&mut ours.readable()])?, Some(0), "and that stays so");

                let (ours, theirs) = ready()?;
                theirs.write_all(b"last")?;
                drop(theirs);
                ours.readable().wait()?;
                assert_eq!(read_at_once(&ours, &mut [0; 9])?, 4, "what came before the end");
                ours.readable().wait()?;
                let error = tls_error(read_at_once(&ours, &mut [0; 1]));
                assert_eq!(error, Error::Truncated(During::Data));

                let (ours, theirs) = ready()?;
                theirs.get_ref().write_all(&[23, 3, 3, 0, 40].repeat(20))?;
                ours.readable().wait()?;
                let error = tls_error(read_at_once(&ours, &mut [0; 1]));
                assert!(matches!(error, Error::Misbehaved(_)), "{error}");

                let (ours, theirs) = ready()?;
                // The tickets are read first: a reset throws away what nobody has read.
                assert!(timeout(SHORT, || ours.readable().wait()).is_err());
                theirs.get_ref().set_linger(Some(Duration::ZERO))?;
                let closer = spawn(move || drop(theirs));
                ours.readable().wait()?;
                closer.join()?;
                let error = read_at_once(&ours, &mut [0; 1]).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            }
            Ok(())
        });
    });
}

/// While one writes what the peer does not read, another waits for what the peer writes.
#[test]
fn a_writer_in_its_call_does_not_hold_up_who_watches() {
    crate::on_some(20, 10, |_| {
        with_tls(|client, server| {
            let size = 4 << 20;
            scope(|scope| {
                let writes = scope.spawn(|| client.write_all(&vec![1; size]));
                yield_now();
                for _ in 0..5 {
                    server.write_all(b"ping")?;
                    client.readable().wait()?;
                    let mut got = [0; 4];
                    client.read_exact(&mut got)?;
                    assert_eq!(&got, b"ping");
                }
                assert!(!writes.is_finished());
                assert!(timeout(SHORT, || client.writable().wait()).is_err(), "someone is in a write");
                server.read_exact(&mut vec![0; size])?;
                writes.join()??;
                client.writable().wait()?;
                Ok(())
            })
        });
    });
}

#[test]
fn a_full_stream_is_writable_when_its_peer_has_read() {
    crate::on_some(20, 10, |_| {
        with_tls(|client, server| {
            client.writable().wait()?;
            server.get_ref().set_readahead(0);
            let full =
                timeout(Duration::from_millis(50), || client.write_all(&vec![0; 8 << 20])).unwrap_err();
            assert!(timeout(SHORT, || client.writable().wait()).is_err());
            scope(|scope| {
                let reads = scope.spawn(|| server.read_exact(&mut vec![0; full.written]));
                client.writable().wait()?;
                reads.join()??;
                client.write_all(b"more")?;
                server.read_exact(&mut [0; 4])
            })
        });
    });
}

/// A case that loses, a deadline and a cancellation, at whatever moment, have taken nothing.
#[test]
fn who_loses_or_gives_up_has_taken_nothing() {
    both(|| {
        with_tls(|client, server| {
            let (sender, receiver) = channel::bounded(1);
            for micros in [0, 10, 20, 40, 80, 160] {
                let patience = Duration::from_micros(micros);
                scope(|scope| {
                    let watches = scope.spawn(|| {
                        timeout(patience, || {
                            select! { readable(client) => (), recv(receiver) -> _token => (), }
                        })
                    });
                    let cancelled = scope.spawn(|| client.readable().wait());
                    let sends = scope.spawn(|| sender.try_send(()));
                    let writes = scope.spawn(|| server.write_all(b"text"));
                    let waited = watches.join()?;
                    assert!(matches!(waited, Ok(()) | Err(WaitError::Expired(_))), "{waited:?}");
                    writes.join()??;
                    let _ = sends.join()?;
                    scope.cancel("enough");
                    let waited = cancelled.join()?;
                    assert!(matches!(waited, Ok(()) | Err(WaitError::Cancelled(_))), "{waited:?}");
                    io::Result::Ok(())
                })?;
                let _ = receiver.try_recv();
                let mut got = [0; 4];
                client.read_exact(&mut got)?;
                assert_eq!(&got, b"text");
            }
            Ok(())
        });
    });
}

/// What a reader leaves is for who watches; while it reads nothing is.
#[test]
fn what_a_reader_leaves_wakes_those_who_watch() {
    both(|| {
        with_tls(|client, server| {
            scope(|scope| {
                let reads = scope.spawn(|| client.read_exact(&mut [0; 2]));
                yield_now();
                let watches = scope.spawn(|| client.readable().wait());
                server.write_all(b"a")?;
                sleep(SHORT)?;
                assert!(!watches.is_finished(), "that is the reader's");
                server.write_all(b"b left")?;
                reads.join()??;
                watches.join()??;
                client.read_exact(&mut [0; 5])
            })
        });
    });
}

/// What a look has found goes along to another machine.
#[test]
fn what_was_found_moves_with_its_stream() {
    both(|| {
        with_tls(|client, server| {
            server.write_all(b"found")?;
            client.readable().wait()?;
            let detached = client.detach()?;
            let there = machine::spawn("there", move || {
                let client = detached.attach().map_err(io::Error::from)?;
                client.readable().wait()?;
                let mut got = [0; 9];
                let count = read_at_once(&client, &mut got)?;
                io::Result::Ok(got[..count].to_vec())
            })?;
            assert_eq!(there.join()??, b"found");
            Ok(())
        });
    });
}

/// A look that may make one call alone comes back for the rest.
#[test]
fn a_short_look_finds_as_much() {
    both(|| {
        let tuning = Tuning { look: 1, readahead: 0, ..Tuning::default() };
        let result: io::Result<()> = Builder::new().tuning(tuning).run(|| {
            let (client, server) = tls_pair(&client().build()?, &server().build()?)?;
            for _ in 0..3 {
                server.write_all(&[0; 2000])?;
            }
            let mut left = 6000;
            while left > 0 {
                timeout(Duration::from_secs(60), || client.readable().wait())?;
                left -= read_at_once(&client, &mut [0; 700])?;
            }
            assert!(timeout(SHORT, || client.readable().wait()).is_err());
            Ok(())
        });
        result.unwrap();
    });
}

/// The peer speaks TLS for itself alone: no plaintext, however much comes.
#[test]
fn a_stream_below_that_is_readable_says_nothing() {
    both(|| {
        in_machine(|| {
            let (ours, theirs) = pair()?;
            let config = server().build()?;
            let accepted = spawn(move || config.accept(theirs));
            let client = client().build()?.connect(ours, "localhost")?;
            let server = accepted.join()??;
            (&server).flush()?;
            client.get_ref().readable().wait()?;
            assert!(timeout(SHORT, || client.readable().wait()).is_err());
            Ok(())
        });
    });
}
