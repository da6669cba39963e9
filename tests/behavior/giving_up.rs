//! Every call on a socket that may wait, ended by a timeout, by a deadline around it, and by a cancellation: with an error that
//! says which, at once, without an effect, and with a stream that works as before.

use std::collections::BTreeSet;
use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::both;
use crate::tcp::{loopback, with_pair};
use machinarium::net::{TcpListener, TcpStream};
use machinarium::{Expired, JoinHandle, run, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(1);

type Call = fn(&mut TcpStream) -> io::Result<()>;

const READS: [(&str, Call); 9] = [
    ("read", |stream| Read::read(stream, &mut [0; 9]).map(drop)),
    ("read of a reference", |stream| (&*stream).read(&mut [0; 9]).map(drop)),
    ("read_vectored", |stream| {
        let (mut a, mut b) = ([0; 4], [0; 4]);
        stream.read_vectored(&mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)]).map(drop)
    }),
    ("read_exact", |stream| TcpStream::read_exact(stream, &mut [0; 9])),
    ("read_exact of std", |stream| Read::read_exact(stream, &mut [0; 9])),
    ("read_until", |stream| TcpStream::read_until(stream, b'\n', &mut Vec::new()).map(drop)),
    ("read_until of std", |stream| BufRead::read_until(stream, b'\n', &mut Vec::new()).map(drop)),
    ("peek", |stream| stream.peek(&mut [0; 9]).map(drop)),
    ("fill_buf", |stream| stream.fill_buf().map(drop)),
];

const WRITES: [(&str, Call); 5] = [
    ("write", |stream| Write::write(stream, b"never sent").map(drop)),
    ("write of a reference", |mut stream| (&mut stream).write(b"never sent").map(drop)),
    ("write_vectored", |stream| {
        stream.write_vectored(&[IoSlice::new(b"never"), IoSlice::new(b" sent")]).map(drop)
    }),
    ("write_all", |stream| TcpStream::write_all(stream, b"never sent").map_err(io::Error::from)),
    ("write_all of std", |stream| Write::write_all(stream, b"never sent")),
];

/// The scope of a `TimedOut` error: `None` for the stream's own timeout.
fn scope_of(error: &io::Error) -> Option<u64> {
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    error.get_ref().and_then(|inner| inner.downcast_ref::<Expired>()).expect("an expired deadline").scope()
}

fn assert_cancelled(error: &io::Error) {
    assert_eq!(machinarium::cancelled(error).expect("a cancellation").cause(), "not wanted");
    let never = [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
    assert!(!never.contains(&error.kind()), "std spins on {error:?}");
}

fn wait_then_cancel<T>(coroutine: JoinHandle<T>) -> T {
    yield_now();
    coroutine.cancel("not wanted").unwrap();
    coroutine.join().unwrap()
}

/// Ends `call` in every way. It must be one that waits.
fn give_up(mut stream: TcpStream, what: &str, call: Call) -> io::Result<TcpStream> {
    for direction in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        direction(&stream, Some(SHORT))?;
    }
    assert_eq!(scope_of(&call(&mut stream).expect_err(what)), None, "{what}");
    for direction in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        direction(&stream, None)?;
    }
    let error = timeout(SHORT, || call(&mut stream)).expect_err(what);
    assert!(scope_of(&error).is_some(), "{what}");
    // While it waits, and before it begins.
    for early in [false, true] {
        let coroutine = spawn(move || {
            while early && machinarium::sleep(Duration::ZERO).is_ok() {
                yield_now();
            }
            let result = call(&mut stream);
            (stream, result)
        });
        let (back, result) = wait_then_cancel(coroutine);
        assert_cancelled(&result.expect_err(what));
        stream = back;
    }
    Ok(stream)
}

#[test]
fn a_read_that_gives_up_takes_nothing() {
    both(|| {
        with_pair(|mut client, server| {
            for (what, call) in READS {
                client = give_up(client, what, call)?;
            }
            // Part of a record stays for the next reader.
            server.write_all(b"half")?;
            for (what, call) in &READS[3..7] {
                client = give_up(client, what, *call)?;
            }
            server.write_all(b" and half\n")?;
            let mut line = Vec::new();
            client.read_until(b'\n', &mut line)?;
            assert_eq!(line, b"half and half\n");
            Ok(())
        });
    });
}

/// Writes until nothing more goes, also after all that was on its way has arrived; returns how much that was.
fn fill(stream: &TcpStream) -> io::Result<usize> {
    let (mut all, block) = (0, vec![0; 32 << 20]);
    stream.set_write_timeout(Some(Duration::from_millis(20)))?;
    loop {
        let full = stream.write_all(&block).unwrap_err();
        assert_eq!(full.source.kind(), io::ErrorKind::TimedOut);
        all += full.written;
        if full.written == 0 {
            return Ok(all);
        }
    }
}

#[test]
fn a_write_that_gives_up_sends_nothing() {
    both(|| {
        with_pair(|mut client, mut server| {
            let full = fill(&client)?;
            for (what, call) in WRITES {
                client = give_up(client, what, call)?;
                client.flush()?;
            }
            let reader = spawn(move || {
                let mut all = Vec::new();
                server.read_to_end(&mut all).map(|_| all)
            });
            client.write_all(b"end")?;
            drop(client);
            let all = reader.join().unwrap()?;
            assert_eq!(all.len(), full + 3, "what was not reported was not sent");
            assert!(all.ends_with(b"\0end"));
            Ok(())
        });
    });
}

#[test]
fn an_accept_that_gives_up_leaves_the_listener() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let listener = TcpListener::bind(loopback())?;
            let address = listener.local_addr()?;
            let error = timeout(SHORT, || listener.accept()).unwrap_err();
            assert!(scope_of(&error).is_some());
            let waiting = spawn(move || {
                let result = listener.accept();
                (listener, result)
            });
            let (listener, result) = wait_then_cancel(waiting);
            assert_cancelled(&result.unwrap_err());
            let client = TcpStream::connect(address)?;
            assert_eq!(listener.accept()?.1, client.local_addr()?);
            Ok(())
        });
        result.unwrap();
    });
}

/// Fills the queue of a listener, so that the next who connects gets no answer.
fn full_listener() -> io::Result<(TcpListener, SocketAddr, Vec<TcpStream>)> {
    let listener = TcpListener::builder().backlog(1).bind(loopback())?;
    let address = listener.local_addr()?;
    let mut queued = Vec::new();
    while queued.len() < 10 {
        match TcpStream::connect_timeout(address, Duration::from_millis(20)) {
            Ok(stream) => queued.push(stream),
            Err(error) if error.kind() == io::ErrorKind::TimedOut && queued.len() > 1 => break,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
        }
    }
    Ok((listener, address, queued))
}

#[test]
fn a_connect_that_gives_up_leaves_nothing() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let (listener, address, queued) = full_listener()?;
            let error = timeout(SHORT, || TcpStream::connect(address)).unwrap_err();
            assert!(scope_of(&error).is_some());
            let error = wait_then_cancel(spawn(move || TcpStream::connect(address))).unwrap_err();
            assert_cancelled(&error);
            // Among those who wait there may be some who gave up when they were already heard.
            let mut waiting =
                queued.iter().map(TcpStream::local_addr).collect::<io::Result<BTreeSet<_>>>()?;
            while !waiting.is_empty() {
                waiting.remove(&listener.accept()?.1);
            }
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_timeout_of_zero_is_refused_and_others_are_kept() {
    both(|| {
        with_pair(|client, _server| {
            assert_eq!(
                client.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
            assert_eq!(
                client.set_write_timeout(Some(Duration::ZERO)).unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
            client.set_read_timeout(Some(SHORT))?;
            client.set_write_timeout(Some(SHORT * 2))?;
            assert_eq!((client.read_timeout()?, client.write_timeout()?), (Some(SHORT), Some(SHORT * 2)));
            Ok(())
        });
    });
}
