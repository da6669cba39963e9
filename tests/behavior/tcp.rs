//! TCP streams and listeners.

use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use crate::both;
use machinarium::net::{TcpListener, TcpStream};
use machinarium::{machine, run, scope, sleep, spawn, timeout, yield_now};

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Both ends of a connection.
pub(crate) fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(loopback())?;
    let address = listener.local_addr()?;
    let accepted = spawn(move || listener.accept());
    let client = TcpStream::connect(address)?;
    let (server, peer) = accepted.join()??;
    assert_eq!(peer, client.local_addr()?);
    Ok((client, server))
}

/// Runs `body` with both ends of a connection: `client`, then `server`.
pub(crate) fn with_pair(body: impl FnOnce(TcpStream, TcpStream) -> io::Result<()>) {
    let result: io::Result<()> = run(|| {
        let (client, server) = pair()?;
        body(client, server)
    });
    result.unwrap();
}

#[test]
fn echo() {
    both(|| {
        with_pair(|mut client, server| {
            spawn(move || io::copy(&mut &server, &mut &server));
            for round in 0..200u32 {
                client.write_all(&round.to_le_bytes())?;
                let mut answer = [0; 4];
                client.read_exact(&mut answer)?;
                assert_eq!(u32::from_le_bytes(answer), round);
            }
            client.shutdown(Shutdown::Write)?;
            assert_eq!(Read::read(&mut client, &mut [0; 1])?, 0);
            Ok(())
        });
    });
}

#[test]
fn ten_megabytes_both_ways_at_once() {
    both(|| {
        with_pair(|client, server| {
            const SIZE: usize = 10 << 20;
            let send = |stream: &TcpStream| {
                let block: Vec<u8> = (0..=255).cycle().take(SIZE).collect();
                stream.write_all(&block).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            };
            let receive = |mut stream: &TcpStream| {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                assert_eq!(all.len(), SIZE);
                assert!(all.iter().zip((0..=255u8).cycle()).all(|(got, sent)| *got == sent));
            };
            scope(|scope| {
                for stream in [&client, &server] {
                    scope.spawn(move || send(stream));
                    scope.spawn(move || receive(stream));
                }
            });
            Ok(())
        });
    });
}

#[test]
fn a_refused_connection_is_an_error() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let address = TcpListener::bind(loopback())?.local_addr()?;
            let error = TcpStream::connect(address).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_used_port_is_an_error() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let first = TcpListener::bind(loopback())?;
            let error = TcpListener::bind(first.local_addr()?).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            assert_eq!(error.to_string(), "Address already in use (os error 98)");
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_port_that_was_bound_alone_can_be_shared_later() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let first = TcpListener::bind(loopback())?;
            let address = first.local_addr()?;
            let share = || TcpListener::builder().reuse_port(true).bind(address);
            assert!(!first.reuse_port()?);
            assert_eq!(share().unwrap_err().kind(), io::ErrorKind::AddrInUse);
            let waiting = TcpStream::connect(address)?;
            first.set_reuse_port(true)?;
            assert!(first.reuse_port()?);
            let _second = share()?;
            // Who waited on the first still does.
            assert_eq!(first.accept()?.1, waiting.local_addr()?);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_read_timeout_takes_nothing() {
    both(|| {
        with_pair(|client, server| {
            client.set_read_timeout(Some(Duration::from_millis(2)))?;
            server.write_all(b"half")?;
            let mut whole = [0; 8];
            assert_eq!(client.read_exact(&mut whole).unwrap_err().kind(), io::ErrorKind::TimedOut);
            server.write_all(b"rest")?;
            client.set_read_timeout(None)?;
            client.read_exact(&mut whole)?;
            assert_eq!(&whole, b"halfrest");
            Ok(())
        });
    });
}

#[test]
fn a_timeout_scope_ends_accept_and_the_listener_goes_on() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let listener = TcpListener::bind(loopback())?;
            let error = timeout(Duration::from_millis(2), || listener.accept()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            let _client = TcpStream::connect(listener.local_addr()?)?;
            listener.accept()?;
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn cancel_ends_a_read_and_leaves_the_data() {
    both(|| {
        with_pair(|client, server| {
            let client = Rc::new(client);
            let theirs = client.clone();
            let reader = spawn(move || (&*theirs).read(&mut [0; 4]));
            yield_now();
            reader.cancel("no longer wanted").unwrap();
            let error = reader.join().unwrap().unwrap_err();
            assert_eq!(machinarium::cancelled(&error).unwrap().cause(), "no longer wanted");
            server.write_all(b"data")?;
            let mut got = [0; 4];
            client.read_exact(&mut got)?;
            assert_eq!(&got, b"data");
            Ok(())
        });
    });
}

#[test]
fn two_readers_take_turns_in_order() {
    both(|| {
        with_pair(|client, server| {
            let client = Rc::new(client);
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    let client = client.clone();
                    spawn(move || {
                        let mut byte = [0];
                        (&*client).read(&mut byte).map(|_| byte[0])
                    })
                })
                .collect();
            for byte in 0..3 {
                yield_now();
                server.write_all(&[byte])?;
                sleep(Duration::from_millis(1))?;
            }
            let got: Vec<u8> = readers.into_iter().map(|reader| reader.join().unwrap().unwrap()).collect();
            assert_eq!(got, [0, 1, 2]);
            Ok(())
        });
    });
}

#[test]
fn lines_by_bufread() {
    both(|| {
        with_pair(|client, server| {
            server.write_all(b"one\ntwo\nthree")?;
            drop(server);
            let lines: Vec<String> = client.lines().collect::<io::Result<_>>()?;
            assert_eq!(lines, ["one", "two", "three"]);
            Ok(())
        });
    });
}

#[test]
fn data_and_the_end_in_one_go_are_both_seen() {
    both(|| {
        with_pair(|mut client, server| {
            sleep(Duration::from_millis(1))?;
            server.write_all(b"last words")?;
            drop(server);
            sleep(Duration::from_millis(2))?;
            let mut text = String::new();
            client.read_to_string(&mut text)?;
            assert_eq!(text, "last words");
            Ok(())
        });
    });
}

#[test]
fn a_reset_is_seen_by_a_reader_that_comes_later() {
    both(|| {
        with_pair(|client, server| {
            server.set_linger(Some(Duration::ZERO))?;
            drop(server);
            sleep(Duration::from_millis(2))?;
            let error = (&client).read(&mut [0; 1]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            Ok(())
        });
    });
}

#[test]
fn a_stream_moves_to_another_machine_with_what_was_read_ahead() {
    both(|| {
        with_pair(|client, server| {
            client.write_all(b"before the move, ")?;
            sleep(Duration::from_millis(2))?;
            let detached = server.detach()?;
            let worker = machine::spawn("worker", move || -> io::Result<String> {
                let mut stream = detached.attach()?;
                let mut text = String::new();
                stream.read_to_string(&mut text)?;
                stream.write_all(b"got it")?;
                Ok(text)
            })?;
            client.write_all(b"and after")?;
            client.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            (&client).read_to_string(&mut answer)?;
            assert_eq!(worker.join().unwrap()?, "before the move, and after");
            assert_eq!(answer, "got it");
            Ok(())
        });
    });
}

#[test]
fn options_are_those_that_were_set() {
    both(|| {
        with_pair(|client, _server| {
            for on in [true, false] {
                client.set_nodelay(on)?;
                client.set_keepalive(on)?;
                assert_eq!((client.nodelay()?, client.keepalive()?), (on, on));
            }
            client.set_keepalive_idle(Duration::from_secs(30))?;
            client.set_keepalive_interval(Duration::from_secs(7))?;
            client.set_keepalive_count(3)?;
            assert_eq!(client.keepalive_idle()?, Duration::from_secs(30));
            assert_eq!(client.keepalive_interval()?, Duration::from_secs(7));
            assert_eq!(client.keepalive_count()?, 3);
            client.set_user_timeout(Duration::from_millis(1500))?;
            assert_eq!(client.user_timeout()?, Duration::from_millis(1500));
            for linger in [Some(Duration::from_secs(2)), Some(Duration::ZERO), None] {
                client.set_linger(linger)?;
                assert_eq!(client.linger()?, linger);
            }
            client.set_send_buffer_size(30_000)?;
            client.set_receive_buffer_size(20_000)?;
            assert_eq!((client.send_buffer_size()?, client.receive_buffer_size()?), (60_000, 40_000));
            Ok(())
        });
    });
}

#[test]
fn options_out_of_range_are_refused() {
    both(|| {
        with_pair(|client, _server| {
            let refused = [
                client.set_keepalive_idle(Duration::ZERO),
                client.set_keepalive_interval(Duration::from_secs(100_000)),
                client.set_keepalive_count(200),
            ];
            for result in refused {
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
            }
            assert!(client.take_error()?.is_none());
            Ok(())
        });
    });
}

#[test]
fn an_accepted_stream_has_the_options_of_its_listener() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let builder = TcpListener::builder().receive_buffer_size(20_000).reuse_address(false).backlog(7);
            let listener = builder.bind(loopback())?;
            let _client = TcpStream::connect(listener.local_addr()?)?;
            let (stream, peer) = listener.accept()?;
            assert_eq!(stream.receive_buffer_size()?, 40_000);
            assert_eq!((stream.peer_addr()?, stream.local_addr()?), (peer, listener.local_addr()?));
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn vectored_calls_keep_the_order() {
    both(|| {
        with_pair(|mut client, mut server| {
            let parts: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; usize::from(n)]).collect();
            let whole = parts.concat();
            let writer = spawn(move || -> io::Result<()> {
                let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
                let mut rest = &mut slices[..];
                while !rest.is_empty() {
                    let count = server.write_vectored(rest)?;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Ok(())
            });
            let mut got = Vec::new();
            // A part from what was read and left, a part from what was read ahead, the rest from the system.
            client.fill_buf()?;
            loop {
                let (mut a, mut b, mut c) = ([0; 7], [0; 0], [0; 500]);
                let bufs = &mut [&mut a[..], &mut b[..], &mut c[..]].map(IoSliceMut::new);
                let count = client.read_vectored(bufs)?;
                if count == 0 {
                    break;
                }
                got.extend([&a[..], &c[..]].concat().into_iter().take(count));
            }
            writer.join().unwrap()?;
            assert_eq!(got, whole);
            Ok(())
        });
    });
}

#[test]
fn peek_takes_nothing() {
    both(|| {
        with_pair(|client, server| {
            server.write_all(b"ab")?;
            let (mut some, mut all) = ([0; 1], [0; 2]);
            for _ in 0..3 {
                assert_eq!(client.peek(&mut some)?, 1);
                assert_eq!(&some, b"a");
            }
            client.read_exact(&mut all)?;
            assert_eq!(&all, b"ab");
            Ok(())
        });
    });
}

#[test]
fn a_slow_reader_stops_the_writer_and_not_the_machine() {
    both(|| {
        with_pair(|client, server| {
            let writer = spawn(move || client.write_all(&vec![7; 32 << 20]).map_err(|error| error.written));
            sleep(Duration::from_millis(5))?;
            assert!(!writer.is_finished(), "32 MiB do not fit the system's buffers");
            drop(server);
            let written = writer.join().unwrap().unwrap_err();
            assert!(written < 32 << 20);
            Ok(())
        });
    });
}
