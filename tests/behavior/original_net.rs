//! What the tests of C machinarium show of streams, with TLS and without, where no other test here shows the same; the table in
//! `README.md` says which is which. The names in the comments are theirs.

use std::io::{self, Read};
use std::rc::Rc;
use std::time::Duration;

use crate::tcp::{loopback, pair};
use crate::tls::{client, in_machine, server, with_tls};
use crate::{both, on_some};
use machinarium::kernel::UnixName;
use machinarium::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use machinarium::sync::Event;
use machinarium::tls::TlsStream;
use machinarium::{cancelled, machine, scope, select, sleep, spawn, timeout};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(30);
const MEGABYTES: usize = 10 << 20;
const PART: usize = 10 << 10;

/// `client_server0` and `client_server1`: one write, read in parts of other sizes, and the end.
#[test]
fn one_write_is_read_in_parts_and_ends() {
    both(|| {
        in_machine(|| {
            let (client, server) = pair()?;
            let writer =
                spawn(move || server.write_all(b"hello world\0HELLO WORLDabc333\0").map(|()| server));
            for part in [&b"hello world\0"[..], b"HELLO WORLD", b"a", b"b", b"c", b"333\0"] {
                let mut got = vec![0; part.len()];
                client.read_exact(&mut got)?;
                assert_eq!(got, part);
            }
            drop(writer.join()??);
            assert_eq!((&client).read(&mut [0; 1])?, 0);
            let cut = client.read_exact(&mut [0; 1]).unwrap_err();
            assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
            Ok(())
        });
    });
}

/// A name for a socket that is nobody else's: abstract names are the host's, where other processes may run the same test.
fn name(what: &str) -> UnixName {
    let name = format!("machinarium-{}-{what}", std::process::id());
    UnixName::abstract_name(name.as_bytes()).unwrap()
}

/// What both ends of a stream do: one writes `text` and goes, the other reads it and the end.
fn say(text: &[u8], end: &impl Fn() -> io::Result<UnixStream>, accept: &UnixListener) -> io::Result<()> {
    scope(|scope| {
        let server = scope.spawn(|| accept.accept()?.0.write_all(text).map_err(io::Error::from));
        let mut stream = end()?;
        let mut got = Vec::new();
        stream.read_to_end(&mut got)?;
        assert_eq!(got, text);
        server.join().unwrap()
    })
}

/// `client_server_unix_socket` and `.._no_msg`: a server that says nothing has ended as well as another.
#[test]
fn a_unix_server_says_something_or_nothing_and_ends() {
    both(|| {
        in_machine(|| {
            let name = name("says");
            let listener = UnixListener::bind_addr(&name)?;
            for text in [&b"hello world\0"[..], b""] {
                say(text, &|| UnixStream::connect_addr(&name), &listener)?;
            }
            Ok(())
        });
    });
}

/// `tls_unix_socket` and `.._no_msg`: the same with TLS.
#[test]
fn a_unix_server_with_tls_says_something_or_nothing_and_ends() {
    both(|| {
        in_machine(|| {
            let name = name("says with TLS");
            let listener = UnixListener::bind_addr(&name)?;
            let (client, server) = (client().build()?, server().build()?);
            for text in [&b"hello world\0"[..], b""] {
                scope(|scope| {
                    let answering = scope.spawn(|| -> io::Result<()> {
                        let stream = server.accept(listener.accept()?.0)?;
                        stream.write_all(text)?;
                        stream.close()
                    });
                    let stream: TlsStream<UnixStream> =
                        client.connect(UnixStream::connect_addr(&name)?, "localhost")?;
                    let mut got = Vec::new();
                    (&stream).read_to_end(&mut got)?;
                    assert_eq!(got, text);
                    answering.join().unwrap()
                })?;
            }
            Ok(())
        });
    });
}

/// `connect_cancel1`: cancelled before its first run, so nothing is connected.
#[test]
fn a_connect_that_was_cancelled_before_it_began() {
    both(|| {
        in_machine(|| {
            let listener = TcpListener::bind(loopback())?;
            let address = listener.local_addr()?;
            let connecting = spawn(move || TcpStream::connect(address).map(drop));
            connecting.cancel("not wanted").unwrap();
            let error = connecting.join()?.unwrap_err();
            assert_eq!(cancelled(&error).expect("a cancellation").cause(), "not wanted");
            assert!(timeout(SHORT, || listener.accept()).is_err(), "nobody has come");
            Ok(())
        });
    });
}

/// The second half of `eventfd`: another machine's signal ends an accept, which has timed out before and would have gone on.
#[test]
fn a_signal_of_another_machine_ends_an_accept() {
    both(|| {
        in_machine(|| {
            let listener = TcpListener::bind(loopback())?;
            assert_eq!(timeout(SHORT, || listener.accept()).unwrap_err().kind(), io::ErrorKind::TimedOut);
            let stop = Event::new();
            let theirs = stop.clone();
            let mut accepting = spawn(move || listener.accept().map(drop));
            let other = machine::spawn("other", move || {
                sleep(SHORT).unwrap();
                theirs.set()
            })?;
            let ended = select! {
                wait(stop) => true,
                join(accepting) -> _result => false,
            };
            assert!(ended?);
            accepting.cancel("stopped").unwrap();
            assert_eq!(cancelled(&accepting.join()?.unwrap_err()).unwrap().cause(), "stopped");
            assert!(other.join()?);
            Ok(())
        });
    });
}

/// Writes in parts until all is sent, or all at once.
fn send(part: usize, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let block = vec![b'x'; part];
    (0..MEGABYTES / part).try_for_each(|_| write(&block))
}

/// Reads all in parts of that size, which fill up only if nothing is lost.
fn receive(part: usize, mut read: impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<()> {
    let mut block = vec![0; part];
    for _ in 0..MEGABYTES / part {
        read(&mut block)?;
        assert!(block.iter().all(|byte| *byte == b'x'));
        block.fill(0);
    }
    Ok(())
}

/// How large the parts are, and whether the sender waits for the other's end: `read_10mb0`, `read_10mb1`, `read_10mb2`.
const WAYS: [(usize, bool); 3] = [(PART, true), (PART, false), (MEGABYTES, false)];

#[test]
fn ten_megabytes_in_parts_and_in_one() {
    on_some(4, 3, |_| {
        in_machine(|| {
            for (part, waits) in WAYS {
                let (client, server) = pair()?;
                let sender = spawn(move || {
                    send(part, |block| server.write_all(block).map_err(io::Error::from))?;
                    if waits { (&server).read(&mut [0; 1]) } else { Ok(0) }
                });
                receive(part, |block| client.read_exact(block))?;
                if !waits {
                    assert_eq!((&client).read(&mut [0; 1])?, 0);
                }
                drop(client);
                assert_eq!(sender.join()??, 0, "it sees the end");
            }
            Ok(())
        });
    });
}

/// `tls_read_10mb0` and its twins.
#[test]
fn ten_megabytes_with_tls_in_parts_and_in_one() {
    on_some(2, 1, |_| {
        for (part, waits) in WAYS {
            with_tls(|client, server| {
                let sender = spawn(move || {
                    send(part, |block| server.write_all(block).map_err(io::Error::from))?;
                    let end = if waits { (&server).read(&mut [0; 1])? } else { 0 };
                    server.close().map(|()| end)
                });
                receive(part, |block| client.read_exact(block))?;
                if !waits {
                    assert_eq!((&client).read(&mut [0; 1])?, 0);
                }
                client.close()?;
                assert_eq!(sender.join()??, 0, "it sees the end");
                Ok(())
            });
        }
    });
}

/// `read_var` and `tls_read_var`: records of every size of a range around those of buffers and of TLS records, each acknowledged
/// before the next. C's range is wider; the sizes at its ends are the same.
fn acknowledged(
    mut write: impl FnMut(&[u8]) -> io::Result<()> + 'static,
    mut acknowledgement: impl FnMut(&mut [u8]) -> io::Result<()> + 'static,
    mut read: impl FnMut(&mut [u8]) -> io::Result<()>,
    mut acknowledge: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let sizes = || (90 << 10..100 << 10).step_by(997).chain((16 << 10) - 3..(16 << 10) + 3);
    let writer = spawn(move || {
        sizes().try_for_each(|size| {
            write(&vec![b'x'; size])?;
            let mut answer = [0; 4];
            acknowledgement(&mut answer)?;
            assert_eq!(u32::from_le_bytes(answer) as usize, size);
            io::Result::Ok(())
        })
    });
    for size in sizes() {
        let mut record = vec![0; size];
        read(&mut record)?;
        assert!(record.iter().all(|byte| *byte == b'x'));
        acknowledge(&(size as u32).to_le_bytes())?;
    }
    writer.join()?
}

#[test]
fn records_of_many_sizes_are_acknowledged() {
    on_some(20, 10, |_| {
        in_machine(|| {
            let (client, server) = pair()?;
            [&client, &server].into_iter().try_for_each(|stream| stream.set_nodelay(true))?;
            let server = Rc::new(server);
            let writing = server.clone();
            acknowledged(
                move |record| writing.write_all(record).map_err(io::Error::from),
                move |answer| server.read_exact(answer),
                |record| client.read_exact(record),
                |answer| client.write_all(answer).map_err(io::Error::from),
            )
        });
    });
}

#[test]
fn records_of_many_sizes_are_acknowledged_with_tls() {
    on_some(10, 5, |_| {
        with_tls(|client, server| {
            let server = Rc::new(server);
            let writing = server.clone();
            acknowledged(
                move |record| writing.write_all(record).map_err(io::Error::from),
                move |answer| server.read_exact(answer),
                |record| client.read_exact(record),
                |answer| client.write_all(answer).map_err(io::Error::from),
            )
        });
    });
}

/// `tls_read_multithread`: pairs of machines, all at once, with one configuration.
#[test]
fn pairs_of_machines_talk_tls_at_once() {
    on_some(10, 5, |_| {
        in_machine(|| {
            let (client, server) = (client().build()?, server().build()?);
            let block = vec![b'x'; 300_000];
            let pairs = (0..3).map(|_| {
                let listener = TcpListener::bind(loopback())?;
                let address = listener.local_addr()?;
                let (client, server, sent) = (client.clone(), server.clone(), block.clone());
                let other = machine::spawn("client", move || -> io::Result<usize> {
                    let stream = client.connect(TcpStream::connect(address)?, "localhost")?;
                    let mut got = Vec::new();
                    (&stream).read_to_end(&mut got)?;
                    assert!(got.iter().all(|byte| *byte == b'x'));
                    stream.close().map(|()| got.len())
                })?;
                let here = spawn(move || -> io::Result<()> {
                    let stream = server.accept(timeout(LONG, || listener.accept())?.0)?;
                    stream.write_all(&sent)?;
                    stream.close()
                });
                io::Result::Ok((other, here))
            });
            for (other, here) in pairs.collect::<io::Result<Vec<_>>>()? {
                here.join()??;
                assert_eq!(other.join()??, block.len());
            }
            Ok(())
        });
    });
}
