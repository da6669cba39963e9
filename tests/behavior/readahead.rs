//! What a machine reads before anyone asks: how much, with which memory, and that no byte of it is lost on a move.

use std::io::{self, BufRead, ErrorKind, Read};
use std::net::Shutdown;
use std::time::Duration;

use crate::both;
use crate::tcp::{pair, with_pair};
use machinarium::net::TcpStream;
use machinarium::{Builder, Tuning, machine, run, scope, sleep, timeout};

/// What a stream holds for a reader that does not come, unless told otherwise.
const AHEAD: usize = 16 << 10;
/// The block that it is in.
const BLOCK: usize = 17 << 10;

/// Long after anything has arrived.
const QUIET: Duration = Duration::from_millis(5);

/// Waits until the machine has read `count` bytes ahead, and no more come.
fn await_buffered(stream: &TcpStream, count: usize) -> io::Result<()> {
    timeout(Duration::from_secs(5), || {
        while stream.buffered() < count {
            sleep(Duration::from_micros(100))?;
        }
        sleep(QUIET)
    })?;
    assert_eq!(stream.buffered(), count);
    Ok(())
}

#[test]
fn bytes_are_read_before_anyone_asks_unless_it_is_off() {
    both(|| {
        with_pair(|client, server| {
            server.write_all(b"hello")?;
            await_buffered(&client, 5)?;
            client.read_exact(&mut [0; 5])?;
            client.set_readahead(0);
            server.write_all(b"again")?;
            sleep(QUIET)?;
            assert_eq!(client.buffered(), 0);
            client.read_exact(&mut [0; 5])
        });
    });
}

#[test]
fn it_stops_at_its_limit_and_nothing_is_lost() {
    both(|| {
        for limit in [100, AHEAD, 5 * AHEAD] {
            with_pair(|client, server| {
                client.set_readahead(limit);
                let sent: Vec<u8> = (0..=250).cycle().take(20 * BLOCK).collect();
                let mut got = vec![0; sent.len()];
                scope(|scope| {
                    scope.spawn(|| server.write_all(&sent).unwrap());
                    await_buffered(&client, limit)?;
                    client.read_exact(&mut got)
                })?;
                assert!(got == sent, "bytes were lost or changed places");
                Ok(())
            });
        }
    });
}

/// A machine whose streams may hold so many bytes together.
fn with_limit(bytes: usize, body: impl FnOnce() -> io::Result<()>) {
    let tuning = Tuning { readahead_limit: bytes, ..Tuning::default() };
    Builder::new().tuning(tuning).run(body).unwrap();
}

#[test]
fn a_drained_stream_gives_its_buffer_back() {
    both(|| {
        // One buffer for all: each of them gets it only if those before have none.
        with_limit(BLOCK, || {
            let pairs = (0..20).map(|_| pair()).collect::<io::Result<Vec<_>>>()?;
            for (client, server) in &pairs {
                server.write_all(b"hello")?;
                await_buffered(client, 5)?;
                client.read_exact(&mut [0; 5])?;
            }
            Ok(())
        });
    });
}

#[test]
fn reading_ahead_pauses_while_the_pool_is_empty() {
    both(|| {
        with_limit(BLOCK, || {
            let (first, second) = (pair()?, pair()?);
            first.1.write_all(&[1; AHEAD])?;
            await_buffered(&first.0, AHEAD)?;
            second.1.write_all(b"hello")?;
            sleep(QUIET)?;
            assert_eq!(second.0.buffered(), 0);
            // A reader needs no readahead.
            second.0.read_exact(&mut [0; 5])?;
            first.0.read_exact(&mut [0; AHEAD])?;
            second.1.write_all(b"hello")?;
            await_buffered(&second.0, 5)
        });
    });
}

#[test]
fn a_few_bytes_hold_little_memory() {
    both(|| {
        // A hundred streams with a byte each have less than a buffer for each.
        with_limit(2 * BLOCK, || {
            let pairs = (0..100).map(|_| pair()).collect::<io::Result<Vec<_>>>()?;
            for (client, server) in &pairs {
                server.write_all(b"x")?;
                timeout(Duration::from_secs(5), || {
                    while client.buffered() == 0 {
                        sleep(Duration::from_micros(100))?;
                    }
                    io::Result::Ok(())
                })?;
            }
            for (client, server) in &pairs {
                server.write_all(b"yz")?;
                let mut record = [0; 3];
                client.read_exact(&mut record)?;
                assert_eq!(&record, b"xyz");
            }
            Ok(())
        });
    });
}

#[test]
fn a_stream_moves_with_all_that_was_read_and_in_order() {
    both(|| {
        with_pair(|mut client, server| {
            // Some in the stream's own buffer, some that the machine read, some still on the way.
            server.write_all(b"0123")?;
            client.fill_buf()?;
            client.consume(1);
            server.write_all(b"456")?;
            sleep(QUIET)?;
            client.set_read_timeout(Some(Duration::from_secs(7)))?;
            let detached = client.detach()?;
            server.write_all(b"789")?;
            server.shutdown(Shutdown::Write)?;
            let worker = machine::spawn("worker", move || -> io::Result<(String, Option<Duration>)> {
                let mut text = String::new();
                let mut stream = detached.attach()?;
                stream.read_to_string(&mut text)?;
                Ok((text, stream.read_timeout()?))
            })?;
            let (text, timeout) = worker.join().unwrap()?;
            assert_eq!((text.as_str(), timeout), ("123456789", Some(Duration::from_secs(7))));
            Ok(())
        });
    });
}

#[test]
fn an_end_and_a_reset_that_were_seen_move_too() {
    both(|| {
        for reset in [false, true] {
            with_pair(|client, server| {
                server.write_all(b"last")?;
                await_buffered(&client, 4)?;
                server.set_linger(reset.then_some(Duration::ZERO))?;
                drop(server);
                sleep(QUIET)?;
                let stream = client.detach()?.attach()?;
                stream.read_exact(&mut [0; 4])?;
                match (&stream).read(&mut [0; 1]) {
                    Ok(count) => assert!(count == 0 && !reset),
                    Err(error) => assert!(error.kind() == ErrorKind::ConnectionReset && reset, "{error}"),
                }
                Ok(())
            });
        }
    });
}

#[test]
fn a_detached_stream_that_is_dropped_is_closed() {
    both(|| {
        with_pair(|client, server| {
            drop(client.detach()?);
            assert_eq!((&server).read(&mut [0; 1])?, 0);
            Ok(())
        });
    });
}

#[test]
fn an_attach_that_fails_gives_the_stream_back() {
    both(|| {
        let detached = run(|| {
            let (client, server) = pair()?;
            server.write_all(b"hello")?;
            await_buffered(&client, 5)?;
            client.detach()
        });
        let error = detached.unwrap().attach().unwrap_err();
        assert!(error.to_string().starts_with("attach: this thread is no machine"), "{error}");
        let text = run(|| {
            let mut text = String::new();
            error.stream.attach()?.read_to_string(&mut text)?;
            io::Result::Ok(text)
        });
        assert_eq!(text.unwrap(), "hello");
    });
}
