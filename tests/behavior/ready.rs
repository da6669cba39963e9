//! Readiness as a case of a select: what is there is found, wherever it lies, and what comes wakes.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use crate::both;
use crate::tcp::pair;
use machinarium::kernel::UnixName;
use machinarium::net::{UdpSocket, UnixDatagram, UnixStream};
use machinarium::{run, select, sleep, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

fn in_machine(body: impl FnOnce() -> io::Result<()>) {
    run(|| timeout(LONG, body)).unwrap();
}

#[test]
fn what_comes_on_one_of_many_wakes_for_that_one() {
    both(|| {
        in_machine(|| {
            let pairs = (0..4).map(|_| pair()).collect::<io::Result<Vec<_>>>()?;
            for readahead in [16 << 10, 0] {
                pairs.iter().for_each(|(ours, _)| ours.set_readahead(readahead));
                for (place, (ours, theirs)) in pairs.iter().enumerate() {
                    let mut cases: Vec<_> = pairs.iter().map(|(ours, _)| ours.readable()).collect();
                    let mut cases: Vec<&mut dyn machinarium::sync::Case> =
                        cases.iter_mut().map(|case| case as _).collect();
                    let nothing = timeout(SHORT, || machinarium::sync::select(&mut cases));
                    assert!(nothing.is_err(), "nothing has come");
                    machinarium::scope(|scope| {
                        scope.spawn(|| {
                            sleep(SHORT)?;
                            theirs.write_all(b"ab").map_err(io::Error::from)
                        });
                        assert_eq!(machinarium::sync::select(&mut cases)?, place);
                        io::Result::Ok(())
                    })?;
                    ours.read_exact(&mut [0; 1])?;
                    // The rest was read with it, or is in the system.
                    assert_eq!(machinarium::sync::select(&mut cases)?, place);
                    ours.read_exact(&mut [0; 1])?;
                }
            }
            Ok(())
        });
    });
}

#[test]
fn ends_and_errors_are_readable_and_still_there() {
    both(|| {
        in_machine(|| {
            for readahead in [16 << 10, 0] {
                let (ours, theirs) = pair()?;
                ours.set_readahead(readahead);
                theirs.set_linger(Some(Duration::ZERO))?;
                let closer = spawn(move || drop(theirs));
                select! { readable(ours) => (), }?;
                closer.join()?;
                let error = ours.read_exact(&mut [0; 1]).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                let (ours, theirs) = UnixStream::pair()?;
                ours.set_readahead(readahead);
                theirs.shutdown(Shutdown::Write)?;
                select! { readable(ours) => (), }?;
                assert_eq!(ours.peek(&mut [0; 1])?, 0);
            }
            Ok(())
        });
    });
}

/// A look has taken it from the system, which says it once.
#[test]
fn an_error_that_was_found_moves_with_its_stream() {
    both(|| {
        in_machine(|| {
            let (ours, theirs) = pair()?;
            ours.set_readahead(0);
            theirs.set_linger(Some(Duration::ZERO))?;
            let closer = spawn(move || drop(theirs));
            ours.readable().wait()?;
            closer.join()?;
            let ours = ours.detach()?.attach()?;
            ours.readable().wait()?;
            let error = ours.read_exact(&mut [0; 1]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            Ok(())
        });
    });
}

#[test]
fn a_datagram_and_a_refusal_are_readable() {
    both(|| {
        in_machine(|| {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let (ours, theirs) = (UdpSocket::bind(any)?, UdpSocket::bind(any)?);
            let nothing = timeout(SHORT, || select! { readable(ours) => (), });
            assert!(nothing.is_err());
            theirs.send_to(b"", ours.local_addr()?)?;
            select! { readable(ours) => (), }?;
            assert_eq!(ours.recv(&mut [0; 8])?, 0);
            let gone = theirs.local_addr()?;
            drop(theirs);
            ours.connect(gone)?;
            ours.send(b"anybody?")?;
            select! { readable(ours) => (), }?;
            let error = ours.recv(&mut [0; 8]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            Ok(())
        });
    });
}

#[test]
fn a_full_stream_is_writable_when_its_peer_has_read() {
    both(|| {
        in_machine(|| {
            let (ours, theirs) = UnixStream::pair()?;
            select! { writable(ours) => (), }?;
            theirs.set_readahead(0);
            let full = timeout(SHORT, || ours.write_all(&vec![0; 8 << 20])).unwrap_err();
            let nothing = timeout(SHORT, || select! { writable(ours) => (), });
            assert!(nothing.is_err());
            let reader = spawn(move || theirs.read_exact(&mut vec![0; full.written]).map(|()| theirs));
            select! { writable(ours) => (), }?;
            timeout(LONG, || ours.write_all(b"more"))?;
            reader.join()??.read_exact(&mut [0; 4])?;
            Ok(())
        });
    });
}

/// Also with a stranger for a peer, whose room is no other's.
#[test]
fn a_socket_of_datagrams_is_writable_when_its_peer_has_room() {
    both(|| {
        in_machine(|| {
            let name = format!("machinarium-{}-room", std::process::id());
            let name = UnixName::abstract_name(name.as_bytes())?;
            let (one, other) = UnixDatagram::pair()?;
            let (bound, stranger) = (UnixDatagram::bind_addr(&name)?, UnixDatagram::unbound()?);
            stranger.connect_addr(&name)?;
            for (ours, theirs) in [(one, other), (stranger, bound)] {
                ours.writable().wait()?;
                let mut sent = 0;
                while timeout(SHORT, || ours.send(&[0; 100])).is_ok() {
                    sent += 1;
                }
                let nothing = timeout(SHORT, || select! { writable(ours) => (), });
                assert!(nothing.is_err(), "its peer is full");
                let reader = spawn(move || {
                    (0..sent).try_for_each(|_| theirs.recv(&mut [0; 100]).map(drop)).map(|()| theirs)
                });
                select! { writable(ours) => (), }?;
                assert_eq!(timeout(LONG, || ours.send(b"more"))?, 4);
                drop(reader.join()??);
            }
            let nobody = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            select! { writable(nobody) => (), }.map_err(io::Error::from)
        });
    });
}

/// While another reads nothing is the watcher's; what it leaves is.
#[test]
fn what_a_reader_leaves_wakes_those_who_watch() {
    both(|| {
        in_machine(|| {
            let (ours, theirs) = pair()?;
            machinarium::scope(|scope| {
                let reader = scope.spawn(|| ours.read_exact(&mut [0; 2]));
                yield_now();
                let watcher = scope.spawn(|| select! { readable(ours) => (), });
                theirs.write_all(b"a")?;
                sleep(SHORT)?;
                assert!(!watcher.is_finished(), "that is the reader's");
                theirs.write_all(b"b left")?;
                watcher.join()??;
                reader.join()??;
                ours.read_exact(&mut [0; 5])
            })
        });
    });
}
