//! How a connection ends, and what both sides see of it: half-closed, closed with bytes on their way, reset while somebody
//! reads or writes, shut down under a coroutine that waits; and the urgent byte, which is no end.

use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use crate::tcp::{loopback, pair, with_pair};
use crate::{both, both_with_kernel};
use machinarium::kernel::{Domain, Errno, Fd, Kernel, SendFlags, SocketKind};
use machinarium::net::TcpListener;
use machinarium::{run, scope, sleep, spawn, timeout, yield_now};

const SOON: Duration = Duration::from_millis(1);

#[test]
fn half_a_connection_goes_on_when_the_other_is_closed() {
    both(|| {
        with_pair(|mut client, mut server| {
            client.write_all(b"question")?;
            client.shutdown(Shutdown::Write)?;
            assert_eq!(client.write_all(b"more").unwrap_err().source.kind(), ErrorKind::BrokenPipe);
            let mut question = String::new();
            server.read_to_string(&mut question)?;
            assert_eq!(question, "question");
            let answering = spawn(move || (0..100u8).try_for_each(|part| server.write_all(&[part; 1000])));
            let mut answer = Vec::new();
            client.read_to_end(&mut answer)?;
            assert_eq!(answer.len(), 100_000);
            answering.join().unwrap()?;
            Ok(())
        });
    });
}

#[test]
fn the_end_is_seen_again_and_again() {
    both(|| {
        with_pair(|client, server| {
            drop(server);
            sleep(SOON)?;
            for _ in 0..3 {
                assert_eq!((&client).read(&mut [0; 1])?, 0);
                assert_eq!(client.peek(&mut [0; 1])?, 0);
                assert_eq!(client.read_exact(&mut [0; 1]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
            }
            Ok(())
        });
    });
}

#[test]
fn a_record_cut_by_the_end_stays_readable() {
    both(|| {
        with_pair(|mut client, server| {
            server.write_all(b"half")?;
            drop(server);
            assert_eq!(client.read_exact(&mut [0; 8]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
            let mut rest = String::new();
            client.read_to_string(&mut rest)?;
            assert_eq!(rest, "half");
            Ok(())
        });
    });
}

/// The end comes with the last bytes, in the same edge; a short read must not take that edge for used up.
#[test]
fn an_end_behind_a_short_read_is_seen() {
    both(|| {
        with_pair(|client, server| {
            for readahead in [0, 16 << 10] {
                client.set_readahead(readahead);
                server.write_all(b"x")?;
                assert_eq!((&client).read(&mut [0; 100])?, 1);
            }
            client.set_readahead(0);
            server.write_all(b"last")?;
            server.shutdown(Shutdown::Write)?;
            sleep(SOON)?;
            let mut count = 0;
            while count < 4 {
                count += (&client).read(&mut [0; 100])?;
            }
            assert_eq!((&client).read(&mut [0; 100])?, 0);
            Ok(())
        });
    });
}

#[test]
fn a_reset_ends_a_read_that_waits() {
    both(|| {
        with_pair(|client, server| {
            let reader = spawn(move || (&client).read(&mut [0; 1]));
            yield_now();
            server.set_linger(Some(Duration::ZERO))?;
            drop(server);
            assert_eq!(reader.join().unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
            Ok(())
        });
    });
}

#[test]
fn a_reset_ends_a_write_that_waits() {
    both(|| {
        with_pair(|client, server| {
            let writer = spawn(move || {
                let error = client.write_all(&vec![0; 32 << 20]).unwrap_err();
                // The error was told once; from now on there is nowhere to write to.
                (error, client.write_all(b"more").unwrap_err(), (&client).read(&mut [0; 1]))
            });
            sleep(SOON)?;
            server.set_linger(Some(Duration::ZERO))?;
            drop(server);
            let (first, second, read) = writer.join().unwrap();
            assert!(first.written < 32 << 20);
            assert_eq!((second.written, second.source.kind()), (0, ErrorKind::BrokenPipe));
            // One of both directions is told of the reset; the machine may have read it before the writer ran.
            let told = [first.source.kind(), read.err().map_or(ErrorKind::BrokenPipe, |error| error.kind())];
            assert!(
                told.contains(&ErrorKind::ConnectionReset) && told.contains(&ErrorKind::BrokenPipe),
                "{told:?}"
            );
            Ok(())
        });
    });
}

/// What nobody has read when a stream is closed makes the close a reset.
#[test]
fn unread_bytes_make_a_close_a_reset() {
    both(|| {
        with_pair(|client, server| {
            server.set_readahead(0);
            client.write_all(b"nobody reads this")?;
            sleep(Duration::from_millis(5))?;
            drop(server);
            assert_eq!((&client).read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
            Ok(())
        });
    });
}

#[test]
fn a_shutdown_ends_a_read_and_a_write_that_wait() {
    both(|| {
        with_pair(|client, _server| {
            scope(|scope| {
                let reader = scope.spawn(|| (&client).read(&mut [0; 1]));
                let writer = scope.spawn(|| client.write_all(&vec![0; 32 << 20]));
                sleep(SOON)?;
                assert!(!reader.is_finished() && !writer.is_finished());
                client.shutdown(Shutdown::Both)?;
                assert_eq!(reader.join().unwrap()?, 0);
                assert_eq!(writer.join().unwrap().unwrap_err().source.kind(), ErrorKind::BrokenPipe);
                Ok(())
            })
        });
    });
}

/// A stream that several hold is closed by the last of them, also by one whose call has just failed.
#[test]
fn the_last_who_holds_a_stream_closes_it() {
    both(|| {
        with_pair(|client, server| {
            let client = Rc::new(client);
            let theirs = client.clone();
            let reader = spawn(move || (&*theirs).read(&mut [0; 1]));
            yield_now();
            drop(client);
            sleep(SOON)?;
            server.write_all(b"is anybody there?")?;
            assert_eq!(reader.join().unwrap()?, 1);
            let mut end = Vec::new();
            // Unread bytes, or none: either way it is closed.
            let closed = (&server).read_to_end(&mut end);
            assert!(closed.is_ok_and(|count| count == 0) || end.is_empty());
            Ok(())
        });
    });
}

/// A number given up is given again at once; nothing of the old connection may reach the new one.
#[test]
fn a_descriptor_number_that_is_used_again_is_a_new_stream() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let mut old = pair()?;
            for round in 0..20u8 {
                let late = spawn(move || -> io::Result<()> {
                    let (client, server) = old;
                    // Events for numbers that are closed in the same turn.
                    server.write_all(&[0xff; 5])?;
                    drop(client);
                    drop(server);
                    Ok(())
                });
                late.join().unwrap()?;
                let (client, server) = pair()?;
                server.write_all(&[round])?;
                let mut got = [0xff];
                client.read_exact(&mut got)?;
                assert_eq!(got, [round]);
                old = (client, server);
            }
            Ok(())
        });
        result.unwrap();
    });
}

/// A peer on the bare kernel, for what streams do not offer. It never sleeps in the kernel: this thread is a machine.
struct Bare<'a> {
    kernel: &'a dyn Kernel,
    fd: Fd,
}

impl<'a> Bare<'a> {
    fn connect(kernel: &'a dyn Kernel, address: SocketAddr) -> io::Result<Bare<'a>> {
        let fd = kernel.socket(Domain::Inet, SocketKind::Stream)?;
        match kernel.connect(fd, &address.into()) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        while kernel.getpeername(fd).is_err() {
            sleep(SOON)?;
        }
        Ok(Bare { kernel, fd })
    }

    fn send(&self, mut bytes: &[u8], oob: bool) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.kernel.send(self.fd, bytes, SendFlags { oob, more: false }) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                // A buffer may be as small as a byte.
                Err(Errno::AGAIN) => sleep(SOON)?,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// The urgent byte is skipped; it cuts reads in two, and its edge must not be taken for used up by the first of them.
#[test]
fn an_urgent_byte_loses_no_other() {
    both_with_kernel(|kernel| {
        let result: io::Result<()> = run(|| {
            for (readahead, pause) in [(0, false), (0, true), (16 << 10, false), (16 << 10, true)] {
                let listener = TcpListener::bind(loopback())?;
                let bare = Bare::connect(kernel, listener.local_addr()?)?;
                let (stream, _) = listener.accept()?;
                stream.set_readahead(readahead);
                // Nothing comes after them that would be an edge of its own.
                let reader = spawn(move || {
                    let mut all = [0; 11];
                    timeout(Duration::from_secs(5), || stream.read_exact(&mut all)).map(|()| all)
                });
                if pause {
                    sleep(SOON)?;
                }
                bare.send(b"before", false)?;
                bare.send(b"!", true)?;
                bare.send(b"after", false)?;
                if pause {
                    sleep(SOON)?;
                }
                assert_eq!(&reader.join().unwrap()?, b"beforeafter");
                kernel.close(bare.fd)?;
            }
            Ok(())
        });
        result.unwrap();
    });
}
