//! TLS: bytes both ways, ends told apart, and every call given up at every point.

use std::cell::Cell;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use crate::both;
use crate::tcp::pair;
use crate::tls::{client, in_machine, server, tls_error, with_tls};
use machinarium::net::TcpStream;
use machinarium::tls::rustls::ProtocolVersion;
use machinarium::tls::{ClientConfig, During, Error, ServerConfig, TlsStream};
use machinarium::{
    Builder, Expired, Tuning, cancelled, machine_local, scope, sleep, spawn, timeout, yield_now,
};

const SHORT: Duration = Duration::from_millis(2);

fn pattern(size: usize) -> Vec<u8> {
    (0..=250).cycle().take(size).collect()
}

/// Sends `size` bytes both ways at once, in writes of `write` bytes, until both have said that there is no more.
fn both_ways(client: &TlsStream, server: &TlsStream, size: usize, write: usize) {
    let send = |stream: &TlsStream| {
        for part in pattern(size).chunks(write) {
            stream.write_all(part).unwrap();
        }
        stream.close_write().unwrap();
    };
    let receive = |mut stream: &TlsStream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert!(all == pattern(size), "{} bytes of {size}", all.len());
    };
    scope(|scope| {
        for stream in [client, server] {
            scope.spawn(move || send(stream));
            scope.spawn(move || receive(stream));
        }
    });
}

#[test]
fn ten_megabytes_both_ways_at_once() {
    crate::on_some(5, 5, |_| {
        with_tls(|client, server| {
            both_ways(&client, &server, 10 << 20, 10 << 20);
            Ok(())
        });
    });
}

#[test]
fn writes_of_every_size_both_ways_at_once() {
    both(|| {
        with_tls(|client, server| {
            both_ways(&client, &server, 200_000, 1009);
            Ok(())
        });
    });
}

#[test]
fn one_end_may_close_while_the_other_goes_on() {
    both(|| {
        for version in [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3] {
            in_machine(|| {
                let server = server().versions(&[version]).build()?;
                let (client, server) = crate::tls::tls_pair(&client().build()?, &server)?;
                client.write_all(b"question")?;
                client.close_write()?;
                client.close_write()?;
                let mut question = String::new();
                (&server).read_to_string(&mut question)?;
                assert_eq!((&server).read(&mut [0; 1])?, 0, "the end stays");
                server.write_all(&[question.as_bytes(), b", answered"].concat())?;
                server.close()?;
                let mut answer = String::new();
                (&client).read_to_string(&mut answer)?;
                assert_eq!(answer, "question, answered");
                let late = (&client).write(b"late").unwrap_err();
                assert_eq!(late.kind(), io::ErrorKind::BrokenPipe);
                Ok(())
            });
        }
    });
}

#[test]
fn a_connection_that_just_ends_is_no_end_of_the_data() {
    both(|| {
        with_tls(|client, server| {
            server.write_all(b"all?")?;
            drop(server);
            let mut got = [0; 4];
            client.read_exact(&mut got)?;
            assert_eq!(&got, b"all?");
            for _ in 0..2 {
                let error = (&client).read(&mut got).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                assert_eq!(Error::of(&error), Some(&Error::Truncated(During::Data)));
            }
            Ok(())
        });
    });
}

/// What the client sends goes through `between`, which is lent both sides; what the server sends goes as it is.
pub(crate) fn with_relay(
    client: ClientConfig,
    server: ServerConfig,
    between: impl FnOnce(&TcpStream, &TcpStream) -> io::Result<()> + 'static,
    back: impl FnOnce(&TcpStream, &TcpStream) -> io::Result<()> + 'static,
    body: impl FnOnce(TlsStream, TlsStream) -> io::Result<()>,
) {
    in_machine(|| {
        let (client_end, left) = pair()?;
        let (right, server_end) = pair()?;
        let (left, right) = (Rc::new(left), Rc::new(right));
        let sides = (left.clone(), right.clone());
        let relays = [spawn(move || between(&sides.0, &sides.1)), spawn(move || back(&right, &left))];
        let accepted = spawn(move || server.accept(server_end));
        let client = client.connect(client_end, "localhost")?;
        body(client, accepted.join()??)?;
        for relay in relays {
            let _ = relay.cancel("over");
            let _ = relay.join()?;
        }
        Ok(())
    });
}

pub(crate) fn pass_on(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    io::copy(&mut &*from, &mut &*to).map(drop)
}

machine_local! {
    /// The relay is to pass on no more than the beginning of a record.
    static CUT: Cell<bool> = Cell::new(false);
}

#[test]
fn a_connection_that_ends_in_a_record_says_so() {
    both(|| {
        with_relay(
            client().build().unwrap(),
            server().build().unwrap(),
            |mut left, right| {
                // The handshake's part passes whole, and of the record that comes then, the first bytes.
                let mut bytes = [0; 4096];
                loop {
                    let count = left.read(&mut bytes)?;
                    if CUT.with(Cell::get) {
                        right.write_all(&bytes[..count.min(7)])?;
                        return right.shutdown(Shutdown::Write);
                    }
                    right.write_all(&bytes[..count])?;
                }
            },
            pass_on,
            |client, server| {
                CUT.with(|cut| cut.set(true));
                client.write_all(&[7; 1000])?;
                assert_eq!(tls_error((&server).read(&mut [0; 9])), Error::Truncated(During::Record));
                Ok(())
            },
        );
    });
}

#[test]
fn an_end_during_the_handshake_says_so() {
    both(|| {
        in_machine(|| {
            for sent in [&b""[..], &[22, 3, 1, 0, 100, 1]] {
                let (peer, server_end) = pair()?;
                peer.write_all(sent)?;
                peer.shutdown(Shutdown::Write)?;
                let error = tls_error(server().build()?.accept(server_end));
                assert_eq!(error, Error::Truncated(During::Handshake));
            }
            Ok(())
        });
    });
}

#[test]
fn reads_that_want_more_than_there_is_take_nothing() {
    both(|| {
        with_tls(|mut client, server| {
            let give_up = |result: io::Result<()>| {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                assert!(error.get_ref().unwrap().is::<Expired>());
            };
            server.write_all(b"half")?;
            give_up(timeout(SHORT, || client.read_exact(&mut [0; 8])));
            give_up(timeout(SHORT, || client.read_until(b'\n', &mut Vec::new()).map(drop)));
            client.get_ref().set_read_timeout(Some(SHORT))?;
            give_up(client.read_exact(&mut [0; 8]));
            client.get_ref().set_read_timeout(None)?;
            server.write_all(b" and half\nrest")?;
            assert_eq!(client.peek(&mut [0; 3])?, 3);
            let mut line = Vec::new();
            client.read_until(b'\n', &mut line)?;
            assert_eq!(line, b"half and half\n");
            assert_eq!(client.fill_buf()?, b"rest");
            client.consume(4);
            assert_eq!(client.buffered(), 0);
            server.close_write()?;
            assert_eq!(client.read_exact(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(client.fill_buf()?, b"");
            Ok(())
        });
    });
}

#[test]
fn small_pieces_are_one_record() {
    both(|| {
        with_tls(|mut client, server| {
            let pieces =
                [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two "), IoSlice::new(b"three")];
            assert_eq!((&server).write_vectored(&pieces)?, 13);
            let mut got = [0; 64];
            let count = client.read(&mut got)?;
            assert_eq!(&got[..count], b"one two three", "a record is not read in parts");
            let large = pattern(20_000);
            let count = (&server).write_vectored(&[IoSlice::new(&large), IoSlice::new(b"x")])?;
            let mut got = vec![0; count];
            client.read_exact(&mut got)?;
            assert!(got == large[..count]);
            Ok(())
        });
    });
}

type Call = fn(&TlsStream) -> io::Result<()>;

/// A call that waits is cancelled while it waits and before it begins: the cause comes back, and the stream works as before.
#[test]
fn a_cancelled_read_takes_nothing() {
    const CALLS: [Call; 4] = [
        |mut stream| stream.read(&mut [0; 9]).map(drop),
        |stream| stream.read_exact(&mut [0; 9]),
        |stream| stream.read_until(b'\n', &mut Vec::new()).map(drop),
        |stream| stream.peek(&mut [0; 9]).map(drop),
    ];
    both(|| {
        with_tls(|client, server| {
            let client = Rc::new(client);
            for call in CALLS {
                let theirs = client.clone();
                let reader = spawn(move || call(&theirs));
                yield_now();
                reader.cancel("not wanted").unwrap();
                let error = reader.join()?.unwrap_err();
                assert_eq!(cancelled(&error).unwrap().cause(), "not wanted");
            }
            server.write_all(b"data")?;
            let mut got = [0; 4];
            client.read_exact(&mut got)?;
            assert_eq!(&got, b"data");
            Ok(())
        });
    });
}

/// The handshake is given up after any number of milliseconds: by a deadline around it, or by cancellation. Whichever end that
/// is, it says why, and the other sees the end of the connection.
#[test]
fn a_handshake_is_given_up_at_any_moment() {
    both(|| {
        in_machine(|| {
            let (client, server) = (client().build()?, server().build()?);
            for micros in (0..3000).step_by(150) {
                let (client_end, server_end) = pair()?;
                let (client, server) = (client.clone(), server.clone());
                let cancel = micros % 300 == 0;
                let accepted = spawn(move || server.accept(server_end));
                let connected = spawn(move || {
                    let limit = if cancel { Duration::MAX } else { Duration::from_micros(micros) };
                    timeout(limit, || client.connect(client_end, "localhost"))
                });
                sleep(Duration::from_micros(micros))?;
                if cancel {
                    connected.cancel("not wanted").unwrap();
                }
                match connected.join()? {
                    Ok(stream) => {
                        let server = accepted.join()??;
                        stream.write_all(b"x")?;
                        server.read_exact(&mut [0; 1])?;
                    }
                    Err(error) => {
                        assert_eq!(cancelled(&error).is_some(), cancel, "{error:?}");
                        let Ok(server) = accepted.join()? else { continue };
                        assert!((&server).read(&mut [0; 1]).is_err(), "no end without close_notify");
                    }
                }
            }
            Ok(())
        });
    });
}

/// A peer that connects and says nothing.
#[test]
fn a_handshake_with_silence_ends_by_the_streams_timeout() {
    both(|| {
        in_machine(|| {
            let (_silent, server_end) = pair()?;
            server_end.set_read_timeout(Some(SHORT))?;
            let error = server().build()?.accept(server_end).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            Ok(())
        });
    });
}

/// Writes until nothing more goes; returns how much was taken.
fn fill(stream: &TlsStream) -> io::Result<usize> {
    let block = pattern(251 << 10);
    stream.get_ref().set_write_timeout(Some(Duration::from_millis(20)))?;
    let mut all = 0;
    loop {
        let result = stream.write_all(&block[all % 251..]);
        match result {
            Ok(()) => all += block.len() - all % 251,
            Err(full) => {
                assert_eq!(full.source.kind(), io::ErrorKind::TimedOut);
                all += full.written;
                if full.written == 0 {
                    stream.get_ref().set_write_timeout(None)?;
                    return Ok(all);
                }
            }
        }
    }
}

/// A writer that gave up after it had encrypted has written: the rest of the record goes out with the next call, whichever
/// that is: here a read, which waits for an answer that comes only when the peer has it all.
#[test]
fn what_a_writer_has_left_is_sent_by_a_reader() {
    both(|| {
        with_tls(|client, server| {
            let all = fill(&client)?;
            scope(|scope| {
                let reader = scope.spawn(|| client.read_exact(&mut [0; 6]));
                sleep(SHORT).unwrap();
                let mut got = vec![0; all];
                server.read_exact(&mut got).unwrap();
                assert!(got == pattern(all));
                server.write_all(b"answer").unwrap();
                reader.join().unwrap().unwrap();
            });
            Ok(())
        });
    });
}

/// The same when the reader waits already, for data, and the writer leaves it the rest.
#[test]
fn a_writer_that_gives_up_leaves_the_rest_to_the_reader_that_waits() {
    both(|| {
        with_tls(|client, server| {
            scope(|scope| {
                let reader = scope.spawn(|| client.read_exact(&mut [0; 6]));
                sleep(SHORT).unwrap();
                let all = fill(&client).unwrap();
                let mut got = vec![0; all];
                server.read_exact(&mut got).unwrap();
                assert!(got == pattern(all));
                server.write_all(b"answer").unwrap();
                reader.join().unwrap().unwrap();
            });
            Ok(())
        });
    });
}

/// A writer is cancelled between two of its records, after it has encrypted and before it has sent: all that it has reported
/// arrives although nobody is in a call any more.
#[test]
fn what_a_writer_has_encrypted_arrives_without_another_call() {
    crate::on_some(10, 10, |_| {
        for (budget, patience) in (1..6).flat_map(|budget| (0..8).map(move |patience| (budget, patience))) {
            let tuning = Tuning { turns: 1, budget, ..Tuning::default() };
            let result: io::Result<()> = Builder::new().tuning(tuning).run(|| {
                let (client, server) = crate::tls::tls_pair(&client().build()?, &server().build()?)?;
                let client = Rc::new(client);
                let theirs = client.clone();
                let writer = spawn(move || theirs.write_all(&pattern(80_000)));
                for _ in 0..patience {
                    yield_now();
                }
                let _ = writer.cancel("enough");
                let written = writer.join()?.map_or_else(|error| error.written, |()| 80_000);
                let mut got = vec![0; written];
                timeout(Duration::from_secs(5), || server.read_exact(&mut got))?;
                assert!(got == pattern(80_000)[..written]);
                drop(client);
                Ok(())
            });
            result.unwrap();
        }
    });
}

/// Both ends write and nobody reads until both are full: reading goes on all the same.
#[test]
fn full_both_ways() {
    both(|| {
        with_tls(|client, server| {
            let sent = [fill(&client)?, fill(&server)?];
            for (stream, count) in [(&client, sent[1]), (&server, sent[0])] {
                let mut got = vec![0; count];
                stream.read_exact(&mut got)?;
                assert!(got == pattern(count));
            }
            Ok(())
        });
    });
}

#[test]
fn the_end_is_said_within_a_bounded_time_also_by_who_is_cancelled() {
    both(|| {
        with_tls(|client, server| {
            // The tickets come before the byte: a socket that is closed with bytes unread resets its connection.
            server.write_all(b"x")?;
            client.read_exact(&mut [0; 1])?;
            let client = spawn(move || {
                let error = client.read_exact(&mut [0; 1]).unwrap_err();
                assert!(cancelled(&error).is_some());
                client.close()
            });
            yield_now();
            client.cancel("enough").unwrap();
            client.join()??;
            assert_eq!((&server).read(&mut [0; 1])?, 0, "the end was said");
            Ok(())
        });
        with_tls(|client, _server| {
            fill(&client)?;
            let before = machinarium::now();
            assert_eq!(client.close().unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert!(machinarium::now() - before < Duration::from_secs(20));
            Ok(())
        });
    });
}

/// Who has heard the peer's last word owes it none: that the connection is gone by then is no error.
#[test]
fn the_second_to_say_the_end_may_say_it_to_nobody() {
    both(|| {
        with_tls(|client, server| {
            server.write_all(b"x")?;
            client.read_exact(&mut [0; 1])?;
            client.close()?;
            assert_eq!((&server).read(&mut [0; 1])?, 0);
            server.close()
        });
    });
}

/// A peer that does not read to the end resets the connection, as programs do that have heard enough.
#[test]
fn the_end_may_be_said_to_who_has_gone_with_bytes_unread() {
    both(|| {
        with_tls(|client, server| {
            client.get_ref().set_readahead(0);
            server.write_all(b"nobody reads this")?;
            client.close_write()?;
            assert_eq!((&server).read(&mut [0; 1])?, 0);
            drop(client);
            sleep(5 * SHORT)?;
            server.close()
        });
    });
}

#[test]
fn several_readers_and_writers_take_turns() {
    both(|| {
        with_tls(|client, server| {
            scope(|scope| {
                for letter in *b"abc" {
                    let client = &client;
                    scope.spawn(move || client.write_all(&[letter; 40_000]).unwrap());
                }
                let readers: Vec<_> = (0..3)
                    .map(|_| {
                        scope.spawn(|| {
                            let mut message = vec![0; 40_000];
                            server.read_exact(&mut message).unwrap();
                            message
                        })
                    })
                    .collect();
                let mut letters = Vec::new();
                for reader in readers {
                    let message = reader.join().unwrap();
                    assert!(message.iter().all(|byte| *byte == message[0]), "messages are not mixed");
                    letters.push(message[0]);
                }
                letters.sort_unstable();
                assert_eq!(letters, b"abc");
            });
            Ok(())
        });
    });
}
